"""One optimisation step of ours against the official trainer's: seconds per clip, and memory that a
step adds.

The same clips, weights, prompts and precision. The peer is what sam2's `training` package does in a
step with freeze_image_encoder=True: `SAM2Train` forward, `MultiStepMultiMasksAndIous`, backward,
clipping, AdamW. Ours is `Trainer.step` in settings: all objects of a clip together, the same with
`recompute` (activation checkpointing) or `compile`, and one object at a time. But for the last,
loss and gradients are asserted equal to the peer's before anything is timed.

Memory is measured in a process of its own for each side. On a GPU it is the allocator's peak. On a
CPU it is the growth of the resident set during a step, its high-water mark being reset before it.
The C library is told to give every block of a page or more back at once (MALLOC_MMAP_THRESHOLD_).
Otherwise what is measured is how its free lists happen to lie.

    python -m bench.train_step --windows --image-size 128

measures no peer: a step of ours on windows of 8 frames (SAM2's) and of 24 (SAP's), `recompute` off
and on. Each figure is of a process of its own.
"""

import argparse
import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.common import (
    Outcome,
    Peer,
    arguments,
    finish,
    interleave,
    median,
    use_one_thread,
    version,
)
from panoforge.train.config import TrainConfig

REPEATS = 5
WINDOWS = (8, 24)  # frames: SAM2's clips, SAP's
SIDES = ("peer", "ours", "recompute", "one_object")
ALL_SIDES = (*SIDES, "compiled")
GIVE_BACK = {
    "MALLOC_MMAP_THRESHOLD_": "4096",
    "MALLOC_TRIM_THRESHOLD_": "0",
    "MALLOC_MMAP_MAX_": "1000000",
}
PROMPT_STEPS = {
    True: (0, 2),
    False: (0, 1, 2, 3),
}  # quick or not: draws of mask, box and click prompts


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--size", default="tiny", choices=("tiny", "small", "base_plus", "large"))
    parser.add_argument("--sides", nargs="*", choices=ALL_SIDES, default=SIDES)
    parser.add_argument("--image-size", type=int, help="default: 256 on a CPU, 1024 on a GPU")
    parser.add_argument("--frames", type=int, help="default: 4 on a CPU, 8 on a GPU")
    parser.add_argument(
        "--memory-of",
        choices=ALL_SIDES,
        help="print the megabytes that a step of this side adds, and end",
    )
    parser.add_argument(
        "--seconds-of",
        choices=SIDES,
        help="print the CPU seconds of a step of this side, and end",
    )
    parser.add_argument("--windows", action="store_true", help="8 frames against 24, ours alone")
    args = parser.parse_args()
    use_one_thread()
    if args.windows:
        print("\n".join(windows(args)))
        return
    if args.toy:
        os.environ["TORCHDYNAMO_DISABLE"] = "1"  # compiling takes minutes
    import torch

    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    image_size = args.image_size or (1024 if device.type == "cuda" else 128 if args.quick else 256)
    frames = args.frames or (4 if device.type == "cpu" else 8)
    size, image_size, frames = ("micro", 128, 2) if args.toy else (args.size, image_size, frames)
    config = TrainConfig.model_validate(
        {
            "model": {"size": size, "image_size": image_size, "drop_path": 0.0},
            "clip": {"frames": frames, "min_area_sr": 0.01},
            "clips_per_step": 1,
            "steps": 100,
        }
    )
    draws = (0,) if args.toy else PROMPT_STEPS[args.quick]
    if args.memory_of:
        draws = draws if args.toy else PROMPT_STEPS[True]
        step = build_work(config, device, draws, (args.memory_of,))[args.memory_of]
        print(step_memory_mb(step, device))
        return
    if args.seconds_of:
        step = build_work(config, device, PROMPT_STEPS[True], (args.seconds_of,))[args.seconds_of]
        step.run()
        begin = time.process_time()
        step.run()
        print((time.process_time() - begin) / len(step.steps))
        return
    measured = [side for side in args.sides if not args.toy or side in ("peer", "ours")]
    peak = {side: figure_of("memory", side, args) for side in measured}
    work = build_work(config, device, draws, args.sides)
    for side in set(args.sides) & {"ours", "recompute", "compiled"}:
        assert_equal(work["peer"], work[side])
    repeats = 1 if args.toy else REPEATS
    seconds = interleave({name: step.run for name, step in work.items()}, repeats)
    per_clip = {name: median(times) / len(draws) for name, times in seconds.items()}
    sam2 = f"{version('sam2')} SAM2Train"
    words = {
        "ours": "",
        "recompute": ", ours with recompute",
        "one_object": ", ours one object at a time",
        "compiled": ", ours compiled",
    }
    settings = [(side, words[side]) for side in args.sides if side != "peer"]
    megabytes = f"MB at {image_size} px × {frames}"
    finish(
        Outcome(
            "train_step",
            ours=per_clip["ours"],
            unit="s/clip",
            n=len(draws) * repeats,
            peers=(
                *(
                    Peer(sam2 + words, per_clip["peer"], target=1.3, ours=per_clip[side])
                    for side, words in settings
                ),
                *(
                    Peer(
                        f"{sam2}, memory{words}",
                        peak["peer"],
                        target=1 / 0.6,
                        ours=peak[side],
                        unit=megabytes,
                    )
                    for side, words in settings
                    if side in peak
                ),
            ),
            facts={
                "device": str(device),
                "model": size,
                "image_size": image_size,
                "frames": frames,
                "memory_mb": {name: round(value, 1) for name, value in peak.items()},
                "memory_target": 0.6,
                "memory_ratio": {
                    name: round(value / peak["peer"], 3) for name, value in peak.items()
                },
            },
        ),
        args,
    )


def windows(args: argparse.Namespace) -> list[str]:
    """Megabytes and CPU seconds of a step by frames of a clip, `recompute` off and on."""
    lines = ["| frames | recompute | MB that a step adds | CPU s |", "|---|---|---|---|"]
    for frames in WINDOWS:
        for side, word in (("ours", "off"), ("recompute", "on")):
            of_frames = argparse.Namespace(**{**vars(args), "frames": frames})
            memory, seconds = (figure_of(what, side, of_frames) for what in ("memory", "seconds"))
            lines.append(f"| {frames} | {word} | {memory:.0f} | {seconds:.1f} |")
            print(lines[-1], file=sys.stderr)
    return lines


def figure_of(what: str, side: str, args: argparse.Namespace) -> float:
    """`--memory-of` or `--seconds-of` of a fresh process with the same arguments."""
    sizes = [
        f"--{name.replace('_', '-')}={value}"
        for name in ("size", "image_size", "frames")
        if (value := getattr(args, name))
    ]
    command = [
        sys.executable,
        "-m",
        "bench.train_step",
        *sizes,
        *(["--quick"] if args.quick else []),
        *(["--toy"] if args.toy else []),
        f"--{what}-of={side}",
    ]
    gives_back = what == "memory" and not args.toy
    environment = {**os.environ, **(GIVE_BACK if gives_back else {})}
    done = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True)
    return float(done.stdout.split()[-1])


class Step:
    """`run()` does one optimisation step for each prompt draw; `gradients(draw)` gives loss and
    gradients of one.
    """

    def __init__(
        self, model: Any, optimizer: Any, backward: Callable[[int], float], steps: tuple[int, ...]
    ) -> None:
        self.model, self.optimizer, self.backward, self.steps = model, optimizer, backward, steps
        self.trained = [p for p in model.parameters() if p.requires_grad]

    def run(self) -> None:
        import torch

        for draw in self.steps:
            self.optimizer.zero_grad(set_to_none=True)
            self.backward(draw)
            torch.nn.utils.clip_grad_norm_(self.trained, 0.1)
            self.optimizer.step()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    def gradients(self, draw: int) -> tuple[float, dict]:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.backward(draw)
        return loss, {
            name: p.grad.clone() for name, p in self.model.named_parameters() if p.grad is not None
        }


def build_work(
    config: TrainConfig, device: Any, steps: tuple[int, ...], sides: tuple[str, ...]
) -> dict[str, Step]:
    """The peer's step and ours in three settings, those of `sides`, on one clip of a synthetic
    panorama that all see.
    """
    import torch
    from hydra.utils import instantiate
    from training.loss_fns import MultiStepMultiMasksAndIous

    from panoforge.train.data.object_groups import object_groups
    from panoforge.train.data.plan import prompt_rng
    from panoforge.train.losses.build import build_loss
    from panoforge.train.model.build import build_model, model_config
    from panoforge.train.model.scan_sam2 import compile_parts, recompute_activations
    from panoforge.train.optim import build_optimizer
    from panoforge.train.torch_settings import use_bfloat16

    batch = one_clip(config).to(device)
    autocast = {
        "device_type": device.type,
        "dtype": torch.bfloat16,
        "enabled": use_bfloat16("auto", device),
    }
    loss = build_loss(config.loss)

    def seed(model: Any, draw: int) -> None:
        model.rng = prompt_rng(config.seed, draw)
        torch.manual_seed(draw)

    def peer() -> Step:
        node = model_config(config.model, config.prompt)
        node._target_, node.freeze_image_encoder = "training.model.sam2.SAM2Train", True
        torch.manual_seed(config.seed)
        model = instantiate(node).to(device).train()
        their_loss = MultiStepMultiMasksAndIous(
            {"loss_mask": 20, "loss_dice": 1, "loss_iou": 1, "loss_class": 1},
            supervise_all_iou=True,
            iou_use_l1_loss=True,
            pred_obj_scores=True,
            focal_gamma_obj_score=0.0,
            focal_alpha_obj_score=-1.0,
        )

        def backward(draw: int) -> float:
            seed(model, draw)
            with torch.autocast(**autocast):
                total = their_loss(model(batch), batch.masks)["core_loss"]
            total.backward()
            return float(total.detach())

        return Step(model, build_optimizer(model, config.optim), backward, steps)

    def ours(objects_per_forward: int, recompute: bool = False, compiled: bool = False) -> Step:
        model = build_model(config.model, config.prompt, seed=config.seed)[0].to(device)
        if recompute:
            recompute_activations(model)
        if compiled:
            compile_parts(model)

        def backward(draw: int) -> float:
            with torch.autocast(**autocast):
                encoded = model.encode(batch.flat_img_batch)
            total = 0.0
            for group in object_groups(batch, objects_per_forward):
                seed(model, draw)
                with torch.autocast(**autocast):
                    outs = model(group, encoded)
                value = loss(outs, group.masks, batch.masks.shape[1])["loss"]
                value.backward()
                total += float(value.detach())
            return total

        return Step(model, build_optimizer(model, config.optim), backward, steps)

    make = {
        "peer": peer,
        "ours": lambda: ours(0),
        "recompute": lambda: ours(0, recompute=True),
        "one_object": lambda: ours(1),
        "compiled": lambda: ours(0, compiled=True),
    }
    return {side: make[side]() for side in sides}


def one_clip(config: TrainConfig) -> Any:
    """A slow pan over three coloured caps of a panorama made here, all of them in view in every
    frame.
    """
    import numpy as np
    import torch
    from training.utils.data_utils import Frame, Object, VideoDatapoint

    from panoforge.core.geometry.sphere import (
        View,
        angle_between,
        lonlat_to_direction,
        pixel_to_direction,
    )
    from panoforge.core.geometry.views import sample_view, wrap_panorama
    from panoforge.core.sample.label_maps import dense_ids
    from panoforge.train.data.clips import collate, normalise

    width = 1024
    directions = pixel_to_direction(
        np.arange(width)[None, :], np.arange(width // 2)[:, None], width, width // 2
    )
    labels, rgb = (
        np.zeros((width // 2, width), np.uint16),
        np.full((width // 2, width, 3), 128, np.uint8),
    )
    for k, (lon, lat) in enumerate([(-0.3, 0.0), (0.1, 0.25), (0.3, -0.2)]):
        inside = angle_between(directions, lonlat_to_direction(lon, lat)) < 0.18
        labels[inside], rgb[inside] = k + 1, (80 * k + 60, 200 - 60 * k, 90)
    size = config.model.image_size
    turn_deg = min(4.0, 28.0 / max(1, config.clip.frames - 1))  # so that all stay in view
    views = [View(turn_deg * t, 0.0, config.clip.fov_deg, size) for t in range(config.clip.frames)]
    images, ids = wrap_panorama(rgb), wrap_panorama(dense_ids(labels)[0])
    frames = []
    for t, view in enumerate(views):
        found = sample_view(ids, view, labels=True)
        objects = [Object(i, t, torch.from_numpy(found == i)) for i in (1, 2, 3)]
        frames.append(Frame(torch.from_numpy(normalise(sample_view(images, view))), objects))
    batch = collate([VideoDatapoint(frames, 0, (size, size))])
    assert batch.masks.flatten(2).any(dim=2).all(), (
        "every object must be in view: upstream's box of an empty mask is wrong"
    )
    return batch


def assert_equal(peer: Step, ours: Step) -> None:
    """Same loss and same gradients, before a step is timed. In bf16 only as close as its eight bits
    allow.
    """
    import torch

    tolerance = 2e-2 if torch.cuda.is_available() else 1e-5
    for draw in peer.steps:
        (a, theirs), (b, mine) = peer.gradients(draw), ours.gradients(draw)
        assert abs(a - b) <= tolerance * abs(a), f"draw {draw}: loss {a} there, {b} here"
        assert theirs.keys() == mine.keys()
        scale = max(float(g.abs().max()) for g in theirs.values())
        worst = max(float((theirs[name] - mine[name]).abs().max()) for name in theirs)
        assert worst <= tolerance * scale, f"draw {draw}: gradients differ by {worst} of {scale}"


def step_memory_mb(step: Step, device: Any) -> float:
    """Megabytes that a step needs above weights and optimizer, which the first step makes."""
    import torch

    step.run()
    step.optimizer.zero_grad(set_to_none=True)
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        allocated = torch.cuda.memory_allocated(device)
        step.run()
        return (torch.cuda.max_memory_allocated(device) - allocated) / 2**20
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    before = status_mb("VmRSS")
    step.run()
    return status_mb("VmHWM") - before


def status_mb(key: str) -> float:
    line = next(
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key)
    )
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
