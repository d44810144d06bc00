"""What our frame costs MTPano: a training step against a plain PyTorch loop of the same model.

    python -m bench.dense_step [--quick] [--record]
    python -m bench.dense_step --inference [--large]     seconds and memory at 512×1024, by parts

The same model, weights, batch, loss and optimizer. The peer is what a script would do: zero
gradients, forward, loss, backward, clip, step. Ours is `Trainer.step`. Losses of two steps are
asserted equal before anything is timed. The loader's part is measured beside it: CPU seconds that
it takes to build a panorama, and its utilisation, that is those seconds over a step's. Below 1, one
loader thread keeps up.

`--inference` gives a table: the small model of configs/train/mtpano_tiny.yaml, or with `--large`
the paper's size, at 512×1024, with all parts, without each and without any. Memory is the growth of
the resident set during a forward pass, each in a process of its own.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.common import (
    Outcome,
    Peer,
    arguments,
    finish,
    interleave,
    machine,
    median,
    use_one_thread,
    version,
)
from bench.dense_worlds import stage_rooms

REPEATS = 5
TINY = {"patch_px": 8, "width": 96, "depth": 4, "heads": 4}
LARGE = {"patch_px": 16, "width": 1024, "depth": 24, "heads": 16}
PARTS: dict[str, dict[str, Any]] = {
    "all parts": {},
    "without bridge": {"bridge": False},
    "without mixers": {"mixers": False},
    "without auxiliary": {"auxiliary": []},
    "without any": {"streams": False},
}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--inference", action="store_true")
    parser.add_argument("--large", action="store_true", help="with --inference: ViT-L and 256")
    parser.add_argument("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    use_one_thread()
    if args.part:
        print(json.dumps(inference(args.part, args.large)))
    elif args.inference:
        print("\n".join(inference_table(args.large)))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            finish(step_outcome(Path(scratch), args), args)


def step_outcome(scratch: Path, args: argparse.Namespace) -> Outcome:
    """Seconds of a step of ours and of the plain loop, and of the loader."""
    import torch

    from panoforge.core.shards.read import Dataset
    from panoforge.core.shards.write import PackOptions, pack
    from panoforge.train.config import TrainConfig
    from panoforge.train.losses.dense.dense_loss import DenseLoss
    from panoforge.train.tasks.choose import open_task
    from panoforge.train.trainer import Trainer

    torch.set_num_threads(1)
    height = 32 if args.toy else 64 if args.quick else 128
    config = TrainConfig.model_validate(
        {
            "dense": {
                "model": {
                    "height_px": height,
                    "channels": 64,
                    "classes": "panoforge",
                    "backbone": TINY,
                }
            },
            "optim": {"lr": 1e-4, "encoder_lr": 1e-4, "grad_clip": 10.0},
            "clips_per_step": 2,
            "clips_per_forward": 2,
            "steps": 10_000,
        }
    )
    stage_rooms(scratch / "staged", 4, 0, width=2 * height)
    pack(scratch / "staged", scratch / "dataset", PackOptions())
    data = Dataset.open(scratch / "dataset", "train")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    task, weights = open_task(config, data, None)
    trainer = Trainer(config, task, weights, scratch, device)
    forwards: list[Any] = [((0, 1), task.source.batch((0, 1)))]

    plain, _ = open_task(config, data, None)
    model: Any = plain.model.to(device)
    optimizer, loss = plain.optimizer(), DenseLoss(config.dense.loss)  # type: ignore[union-attr]
    batch: Any = forwards[0][1]

    def peer() -> float:
        own = batch.to(device)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=trainer.bfloat16):
            said = model(own.rgb)
        value = loss(said, own, 2.0)["loss"]
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.optim.grad_clip)
        optimizer.step()
        return float(value.detach())

    def ours() -> float:
        return float(trainer.step(forwards)["loss"])

    for _ in range(2):  # the rate of a schedule hardly moves in two of 10,000 steps
        a, b = peer(), ours()
        assert abs(a - b) <= 1e-5 * abs(a), f"loss {a} there, {b} here"
    repeats = 1 if args.toy else REPEATS
    seconds = interleave({"peer": peer, "ours": ours}, repeats)
    begin = time.process_time()
    for position in range(8):
        task.source.batch((position,))
    load_s = (time.process_time() - begin) / 8
    per_step = median(seconds["ours"])
    return Outcome(
        "dense_step",
        ours=per_step / 2,
        unit="s/panorama",
        n=2 * repeats,
        peers=(Peer(f"{version('torch')}, a plain loop", median(seconds["peer"]) / 2, target=1.0),),
        facts={
            "device": str(device),
            "height_px": height,
            "loader_s_per_panorama": round(load_s, 4),
            "loader_utilisation": round(2 * load_s / per_step, 3),
        },
    )


def inference_table(large: bool) -> list[str]:
    """A row for each set of parts, measured in a process of its own."""
    lines = ["| parts | parameters | s | MB |", "|---|---|---|---|"]
    for part in PARTS:
        command = [sys.executable, "-m", "bench.dense_step", "--part", part]
        environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
        done = subprocess.run(
            command + (["--large"] if large else []),
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        found = json.loads(done.stdout.splitlines()[-1])
        lines.append(
            f"| {part} | {found['parameters'] / 1e6:.1f} M | {found['s']:.2f} | {found['mb']:.0f} |"
        )
        print(lines[-1], file=sys.stderr, flush=True)
    return [*lines, machine()]


def inference(part: str, large: bool) -> dict[str, float]:
    """CPU seconds and megabytes of one panorama of 512×1024 (a GPU's where there is one)."""
    import torch

    from bench.common import now_s
    from panoforge.train.model.mtpano.build import build_mtpano
    from panoforge.train.settings.mtpano import MtpanoSettings

    torch.set_num_threads(1)
    settings = MtpanoSettings.model_validate(
        {
            "height_px": 512,
            "channels": 256 if large else 64,
            "backbone": LARGE if large else TINY,
            **PARTS[part],
        }
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = build_mtpano(settings, 150)[0].to(device).eval()
    rgb = torch.rand(1, 3, 512, 1024, device=device)
    with torch.inference_mode():
        model(rgb)
        gc.collect()
        megabytes = _peak(device)
        model(rgb)
        used = megabytes()
        begin = now_s()
        model(rgb)
        seconds = now_s() - begin
    return {
        "parameters": float(sum(p.numel() for p in model.parameters())),
        "s": seconds,
        "mb": used,
    }


def _peak(device: Any) -> Any:
    """Starts to watch memory; what it gives says how many megabytes were needed since."""
    import torch

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        return lambda: (torch.cuda.max_memory_allocated(device) - before) / 2**20
    from bench.train_step import status_mb

    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    resident = status_mb("VmRSS")
    return lambda: status_mb("VmHWM") - resident


if __name__ == "__main__":
    main()
