"""What a lost rank costs: seconds from a kill to the first step beyond it, on Ray Train.

    python -m bench.lost_rank [--quick] [--record]

Two nodes of Ray on this machine, with one rank each, a small SAM2 on CPUs and a checkpoint after
each step.

- restart: the process of rank 1 is killed; both ranks are started again.
- down: node 2 is killed; the run goes on with one rank (elastic, 2 → 1).
- up: node 2 is back; the run goes on with two (1 → 2). Counted from when the node is up.

The final weights are asserted to be those of one undisturbed process, within 1e-5 of the largest
weight: two ranks sum gradients in another order than one. A user's run loses as much and, beyond
that, the steps since its last checkpoint (`checkpoint_every_s`).
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from bench.common import RESULTS, arguments, machine
from bench.loader import make_dataset

TOLERANCE = 1e-5
TARGET_S = 60.0


def main() -> None:
    args = arguments(__doc__).parse_args()
    os.environ.update(OMP_NUM_THREADS="1", RAY_worker_niceness="0")
    from panoforge.cluster.config.jobs import TrainJobConfig
    from panoforge.cluster.config.ray import RayConfig
    from panoforge.cluster.ray.session import ray_session
    from panoforge.cluster.ray.training import train_on_ray
    from panoforge.train.run import run_training

    with tempfile.TemporaryDirectory(prefix="panoforge-lost-") as scratch:
        folder = Path(scratch)
        make_dataset(folder / "data", 8, 256)
        content = {
            "dataset": str(folder / "data" / "ours"),
            "split": "train",
            "model": {"size": "micro", "image_size": 128},
            "clip": {"frames": 3, "max_objects": 2, "min_area_sr": 0.001},
            "prompt": {"corrections": 1},
            "clips_per_step": 2,
            "checkpoint_every": 1,
            "torch_threads": 1,
            "loader_threads": 1,
            "device": "cpu",
            "rank_timeout_s": 30,
            "nodes": 2,
            "min_ranks": 1,
            "resize_every_s": 5,
            "steps": 150 if args.quick else 300,
        }
        undisturbed = TrainJobConfig.model_validate({**content, "run": str(folder / "one")})
        run_training(undisturbed.train, folder / "data" / "ours", folder / "one")
        with ray_session(RayConfig(listen="all"), cpus=1):  # one on loopback takes no other node
            found = strike(folder / "two", content, train_on_ray)
        difference = largest_difference(folder / "one", folder / "two")
    ok = difference <= TOLERANCE and max(found.values()) <= TARGET_S
    record = {name: round(value, 1) for name, value in found.items()}
    if args.record:
        shown = ", ".join(f"{name} {value} s" for name, value in record.items())
        with RESULTS.open("a") as file:
            file.write(
                f"| {datetime.now(UTC):%Y-%m-%d} | lost_rank | {shown}, weights"
                f" {difference:.1e} | | | | | {TARGET_S:g} s | {'yes' if ok else '**no**'} |"
                f" {machine()} |\n"
            )
    facts = {"seconds": record, "difference": difference, "target_s": TARGET_S}
    print(json.dumps({"bench": "lost_rank", "ok": ok, **facts, "machine": machine()}))


def strike(run: Path, content: dict[str, Any], train: Callable[[Any], Path]) -> dict[str, float]:
    """Train on two nodes, strike three times; seconds that each cost."""
    from panoforge.cluster.config.jobs import TrainJobConfig

    node, found = second_node(), {}
    config = TrainJobConfig.model_validate({**content, "run": str(run)})
    with ThreadPoolExecutor(1) as threads:
        training = threads.submit(train, config)
        try:
            wait_for(training, run, 2, ranks=2)
            rank_of_two().kill()
            found["restart"] = seconds_to_next_step(training, run)
            wait_for(training, run, steps(run) + 2, ranks=2)
            kill_all(node)
            found["down"] = seconds_to_next_step(training, run)
            node = second_node()
            begin = time.monotonic()
            wait_for(training, run, steps(run) + 1, ranks=2)
            found["up"] = time.monotonic() - begin
            print(found, flush=True)
            training.result()
        finally:
            kill_all(node)
    return found


def steps(run: Path) -> int:
    return len(rows(run))


def rows(run: Path) -> list[dict[str, Any]]:
    from panoforge.train.log import read_metrics

    return read_metrics(run / "metrics.jsonl")


def wait_for(training: "Future[Path]", run: Path, count: int, ranks: int) -> None:
    """Until so many steps are done, the last of them with so many ranks (0: any)."""
    while steps(run) < count or ranks not in (0, rows(run)[-1]["ranks"]):
        time.sleep(0.02)
        assert not training.done(), f"the run ended first: {training.result()}"


def seconds_to_next_step(training: "Future[Path]", run: Path) -> float:
    begin = time.monotonic()
    wait_for(training, run, steps(run) + 1, ranks=0)
    return time.monotonic() - begin


def rank_of_two() -> psutil.Process:
    """The process of a rank."""
    return next(
        process
        for process in psutil.Process().children(recursive=True)
        if "RayTrainWorker" in " ".join(process.cmdline())
    )


def second_node() -> "subprocess.Popen[bytes]":
    """One more node of the open Ray, with one core; up when this returns."""
    import ray

    before = len([node for node in ray.nodes() if node["Alive"]])
    flags = {
        "address": ray.get_runtime_context().gcs_address,
        "num-cpus": 1,
        "object-store-memory": 80 << 20,
    }
    node = subprocess.Popen(
        [sys.executable, "-m", "panoforge.cluster.ray.node", "--block"]
        + [f"--{name}={value}" for name, value in flags.items()],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while len([node for node in ray.nodes() if node["Alive"]]) <= before:
        assert node.poll() is None, "the second node of Ray did not come up"
        time.sleep(0.1)
    return node


def kill_all(process: "subprocess.Popen[bytes]") -> None:
    """A node as it dies when its power goes: all of it at once."""
    try:
        dying = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return
    for child in dying:
        with contextlib.suppress(psutil.NoSuchProcess):  # it went with its parent
            child.kill()
    process.kill()
    process.wait()


def largest_difference(one: Path, two: Path) -> float:
    """Between the weights of two runs, relative to the largest weight."""
    import torch

    first, second = (
        torch.load(run / "checkpoints/model.pt", weights_only=True)["model"] for run in (one, two)
    )
    worst = max(float((first[name] - second[name]).abs().max()) for name in first)
    return worst / max(float(tensor.abs().max()) for tensor in first.values())


if __name__ == "__main__":
    main()
