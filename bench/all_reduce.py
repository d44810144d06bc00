"""Gradients over ranks: ours, by DistributedDataParallel, against one flat all-reduce afterwards.

Each rank has SAM2 and a clip, does the same step in both ways in turn, and counts its own CPU
seconds. Encoder frozen (SAP's recipe) and trained; draws of mask, box and click prompts, which
leave different parameters unused, for which DDP searches. A static graph is no choice, as prompts
change from step to step. Gradients, and which parameters have none, are asserted equal before
anything is timed. One rank has a group of its own for the flat way and no DDP, as `pano train` has
none; 4 ranks on fewer cores show how it grows. What CPUs cannot show is DDP's point: that sums go
over the wire while the backward pass still computes.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from typing import Any

from bench.common import Outcome, Peer, arguments, finish, median, use_one_thread, version
from bench.train_step import one_clip
from panoforge.train.config import TrainConfig

REPEATS = 5
DRAWS = (0, 1, 2, 3)  # mask, box and click prompts


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--ranks", type=int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--rank-of", choices=("frozen", "trained"), help="be one rank, and end")
    args = parser.parse_args()
    use_one_thread()
    if args.rank_of:
        print(json.dumps(one_rank(args.rank_of == "frozen", args.quick)), flush=True)
        return
    found = {
        (encoder, ranks): run_ranks(encoder, ranks, args)
        for encoder in ("frozen", "trained")
        for ranks in args.ranks
    }
    for (encoder, ranks), times in found.items():
        print(f"encoder {encoder}, {ranks} ranks: {times}")
    peers = [
        Peer(
            f"flat all-reduce, ours DDP (torch {version('torch').split()[1]}), encoder {encoder},"
            f" {ranks} ranks",
            times["flat"],
            target=1,
            ours=times["ddp"],
        )
        for (encoder, ranks), times in found.items()
    ]
    ours = next(iter(found.values()))["ddp"]
    steps = REPEATS * len(DRAWS)
    finish(Outcome("all_reduce", ours, "CPU s/step and rank", steps, tuple(peers)), args)


def run_ranks(encoder: str, ranks: int, args: argparse.Namespace) -> dict[str, float]:
    """CPU seconds of a step in both ways, the mean over ranks of the median over steps."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [sys.executable, "-m", "bench.all_reduce", f"--rank-of={encoder}"]
    common = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        subprocess.Popen(
            command + (["--quick"] if args.quick else []),
            env={**os.environ, **common, "RANK": str(rank), "GLOO_SOCKET_IFNAME": "lo"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(ranks)
    ]
    said = [process.communicate()[0] for process in processes]
    assert all(process.returncode == 0 for process in processes), said
    figures = [json.loads(text.splitlines()[-1]) for text in said]
    return {side: sum(figure[side] for figure in figures) / ranks for side in ("flat", "ddp")}


def one_rank(frozen: bool, quick: bool) -> dict[str, float]:
    """Both ways in turn, with the others; median CPU seconds of a step."""
    import torch
    import torch.distributed as dist

    from panoforge.train.data.plan import prompt_rng
    from panoforge.train.distributed import World

    torch.set_num_threads(1)
    config = TrainConfig.model_validate(
        {
            "model": {
                "size": "micro" if quick else "tiny",
                "image_size": 128 if quick else 256,
                "drop_path": 0.0,
                "frozen": ["image_encoder"] if frozen else [],
            },
            "clip": {"frames": 3 if quick else 4, "min_area_sr": 0.01},
            "clips_per_step": 1,
        }
    )
    world, batch = World.detect(), one_clip(config)
    # A lone rank has a group too: what the flat way costs by itself is what is asked.
    dist.init_process_group("gloo", rank=world.rank, world_size=world.num_ranks)
    sides = {"flat": Flat(config, batch, world), "ddp": Ddp(config, batch, world)}

    def step(side: "Side", draw: int) -> None:
        side.model.rng = prompt_rng(config.seed, draw)
        torch.manual_seed(100 * draw + world.rank)
        side.optimizer.zero_grad(set_to_none=True)
        side.gradients()

    for draw in DRAWS:
        for side in sides.values():
            step(side, draw)
        assert_close(*(side.model for side in sides.values()))
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(REPEATS):
        for name, side in sides.items():
            begin = time.process_time()
            for draw in DRAWS:
                step(side, draw)
                side.optimizer.step()
            seconds[name].append((time.process_time() - begin) / len(DRAWS))
    dist.destroy_process_group()
    return {name: median(times) for name, times in seconds.items()}


class Side:
    """One way: a model, an optimizer, and `gradients`, the sum of all ranks' of one clip each."""

    def __init__(self, config: TrainConfig, batch: Any, world: Any) -> None:
        from panoforge.train.losses.build import build_loss
        from panoforge.train.model.build import build_model
        from panoforge.train.optim import build_optimizer

        self.model = build_model(config.model, config.prompt, seed=config.seed)[0]
        self.loss, self.batch, self.world = build_loss(config.loss), batch, world
        self.optimizer = build_optimizer(self.model, config.optim)

    def losses(self, batch: Any) -> Any:
        encoded = self.model.encode(batch.flat_img_batch)
        return self.loss(self.model(batch, encoded), batch.masks, batch.masks.shape[1])

    def gradients(self) -> None:
        raise NotImplementedError


class Flat(Side):
    """One buffer after the backward pass, and with it one number per parameter: 1 where some is."""

    def gradients(self) -> None:
        import torch
        import torch.distributed as dist

        self.losses(self.batch)["loss"].backward()
        trained = [p for p in self.model.parameters() if p.requires_grad]
        pieces = [p.new_zeros(p.numel()) if p.grad is None else p.grad.reshape(-1) for p in trained]
        present = trained[0].new_tensor([float(p.grad is not None) for p in trained])
        flat = torch.cat([*pieces, present])
        dist.all_reduce(flat)
        *summed, counts = flat.split([p.numel() for p in trained] + [len(trained)])
        for parameter, gradient, ranks in zip(trained, summed, counts.tolist(), strict=True):
            parameter.grad = gradient.view_as(parameter).clone() if ranks else None


class Ddp(Side):
    """What `pano train` does."""

    def __init__(self, config: TrainConfig, batch: Any, world: Any) -> None:
        from panoforge.train.gradients import Gradients

        super().__init__(config, batch, world)
        self.summing = Gradients(self.model, world)
        self.summing.share()

    def gradients(self) -> None:
        self.summing.add(lambda: self.losses(self.batch), last=True)


def assert_close(one: Any, other: Any) -> None:
    """The same gradients, and none where there is none."""
    import torch

    for (name, a), (_, b) in zip(one.named_parameters(), other.named_parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None), name
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-5, msg=name)


if __name__ == "__main__":
    main()
