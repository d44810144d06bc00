"""Real runs of `pano train` that are killed, hung, launched by torchrun: nothing is patched,
processes get signals.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
import yaml
from train_small import SMALL, small_config

from panoforge.train import checkpoints
from panoforge.train.launch import RankError, launch
from panoforge.train.log import read_metrics
from panoforge.train.run import run_training

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
TIMING = ("seconds", "clips_per_s", "peak_memory_mb")
STEPS = 8


def config_file(folder: Path, dataset: Path, run: Path, **changes: object) -> Path:
    content = {
        **SMALL,
        "model": {"size": "micro", "image_size": 128},
        "steps": STEPS,
        "clips_per_step": 2,
        "checkpoint_every": 1,
        "ema_decay": 0.9,
        **changes,
        "run": str(run),
        "dataset": str(dataset),
    }
    path = folder / f"{run.name}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def pano_train(config: Path, *launcher: str) -> list[str]:
    return [*(launcher or (sys.executable,)), "-m", "panoforge", "train", str(config)]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}


def numbers(run: Path) -> list[dict]:
    return [
        {k: v for k, v in row.items() if k not in TIMING}
        for row in read_metrics(run / "metrics.jsonl")
    ]


def test_killed_at_random_steps_it_ends_bit_equal(caps_dataset: Path, tmp_path: Path):
    """SIGKILL to a real `pano train`, three times at random moments, saves included; then it runs
    to its end.
    """
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    subprocess.run(
        pano_train(config_file(tmp_path, caps_dataset, straight)),
        check=True,
        env=environment(),
        timeout=300,
    )
    config = config_file(tmp_path, caps_dataset, killed)
    rng = np.random.default_rng(time.time_ns())
    for goal in (1, 3, 5):  # steps done; each of them has a checkpoint, or is about to
        pause = float(rng.uniform(0, 0.4))
        with subprocess.Popen(
            pano_train(config),
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as run:
            while len(read_metrics(killed / "metrics.jsonl")) < goal:
                assert run.poll() is None, "it ended by itself"
                time.sleep(0.02)
            time.sleep(pause)
            run.send_signal(signal.SIGKILL)
        assert run.returncode == -signal.SIGKILL
    subprocess.run(pano_train(config), check=True, env=environment(), timeout=300)
    assert numbers(killed) == numbers(straight)
    ours, theirs = (
        checkpoints.load_latest(folder / "checkpoints", print) for folder in (killed, straight)
    )
    assert ours.step == theirs.step == STEPS
    for mine, other in ((ours.model, theirs.model), (ours.ema, theirs.ema)):
        assert mine.keys() == other.keys() and all(torch.equal(mine[k], other[k]) for k in other)
    for key, slot in theirs.optimizer["state"].items():
        assert all(torch.equal(ours.optimizer["state"][key][k], v) for k, v in slot.items()), key
    assert (killed / "checkpoints/model.pt").read_bytes() == (
        straight / "checkpoints/model.pt"
    ).read_bytes()


MEETING = """
import os, sys, time
import torch
from panoforge.train.distributed import LostRank, World
world = World.detect()
with world.joined(torch.device("cpu"), 6.0):
    assert world.sum([1.0, world.rank], torch.device("cpu")) == [3.0, 3.0]
    assert world.gather_texts("x" * world.rank, torch.device("cpu")) == ["", "x", "xx"]
    if world.rank == 1:
        if sys.argv[1] == "hang inside":
            torch.distributed.all_reduce = lambda tensor: time.sleep(60)
        else:
            time.sleep(60) if sys.argv[1] == "hang" else os._exit(9)
    try:
        world.sum([1.0], torch.device("cpu"))
    except LostRank as error:
        print(error, flush=True)
        os._exit(3)
"""


@pytest.mark.parametrize("how", ["hang", "exit", "hang inside"])
def test_who_does_not_come_to_a_meeting_is_named_by_the_others(how: str):
    """Three ranks under no launcher of ours: the second stops coming. Both others say its name and
    end, soon.
    """
    from panoforge.train.launch import free_port

    common = {
        **environment(),
        "WORLD_SIZE": "3",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
    }
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", MEETING, how],
            env={**common, "RANK": str(r), "LOCAL_RANK": str(r)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for r in range(3)
    ]
    try:
        for rank in (0, 2):
            said, _ = ranks[rank].communicate(timeout=240)
            assert ranks[rank].returncode == 3
            assert (
                "rank 1 of 3 did not get through meeting 4 of this run: hanging, killed or out of"
                " memory" in said
            )
            assert f"(rank {rank} waited" in said
    finally:
        for process in ranks:
            process.kill()
            process.communicate()


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (signal.SIGKILL, r"rank 1 was killed by signal 9"),
        (signal.SIGSTOP, r"rank 1 of 2 did not get through meeting \d+"),
    ],
)
def test_a_dead_or_hung_rank_ends_all_within_a_minute(
    caps_dataset: Path, tmp_path: Path, sent: int, said: str
):
    """In mid-training; a stopped process is alive and answers nothing, as one that is stuck in a
    driver.
    """
    me, moment = psutil.Process(), []
    before = {p.pid for p in me.children()}

    def strike() -> None:
        while not read_metrics(tmp_path / "metrics.jsonl"):
            time.sleep(0.1)
        ranks = [
            p
            for p in me.children()
            if p.pid not in before and "spawn_main" in " ".join(p.cmdline())
        ]
        os.kill(max(p.pid for p in ranks), sent)
        moment.append(time.monotonic())

    striker = threading.Thread(target=strike, daemon=True)
    striker.start()
    config = small_config(
        model={"size": "micro"}, steps=5000, devices=2, checkpoint_every=9999, rank_timeout_s=20
    )
    with pytest.raises(RankError, match=said + r".*Run the same command again"):
        launch(config, caps_dataset, tmp_path)
    assert time.monotonic() - moment[0] < 60
    striker.join()
    assert not [
        p for p in me.children() if p.pid not in before and "spawn_main" in " ".join(p.cmdline())
    ]


def test_four_processes_keep_the_loss_curve(caps_dataset: Path, tmp_path: Path):
    """The same global batch on 1, 2 and 4 processes: losses to 1e-4 of each other over all steps
    (float sums in another order, which Adam's first steps magnify; measured 1e-6 to 1e-5), the same
    objects, learning rates and sample order.
    """
    curves = {}
    for devices in (1, 2, 4):
        config = small_config(
            model={"size": "micro"},
            steps=6,
            clips_per_step=4,
            devices=devices,
            checkpoint_every=100,
        )
        run_training(config, caps_dataset, tmp_path / str(devices))
        curves[devices] = read_metrics(tmp_path / str(devices) / "metrics.jsonl")
    for devices in (2, 4):
        for a, b in zip(curves[1], curves[devices], strict=True):
            assert b["loss"] == pytest.approx(a["loss"], rel=1e-4)
            assert (a["objects"], a["lr"], a["epoch"]) == (b["objects"], b["lr"], b["epoch"])


def test_torchrun_is_a_launcher_too(caps_dataset: Path, tmp_path: Path):
    """`torchrun --nproc-per-node=2 -m panoforge train CONFIG`: the weights of one process, and a
    hung rank is named.
    """
    one, two = tmp_path / "one", tmp_path / "two"
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    subprocess.run(
        pano_train(config_file(tmp_path, caps_dataset, one)),
        check=True,
        env=environment(),
        timeout=300,
    )
    subprocess.run(
        pano_train(config_file(tmp_path, caps_dataset, two), *torchrun),
        check=True,
        env=environment(),
        timeout=300,
    )
    a, b = (checkpoints.load_latest(folder / "checkpoints", print) for folder in (one, two))
    assert a.step == b.step == STEPS
    assert (
        max((a.model[k].double() - b.model[k].double()).abs().max().item() for k in a.model) < 1e-6
    )
    assert [row["objects"] for row in numbers(one)] == [row["objects"] for row in numbers(two)]

    hung = config_file(tmp_path, caps_dataset, tmp_path / "hung", steps=5000, rank_timeout_s=15)
    with subprocess.Popen(
        pano_train(hung, *torchrun),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as run:
        while not read_metrics(tmp_path / "hung/metrics.jsonl"):
            assert run.poll() is None
            time.sleep(0.1)
        ranks = {
            p.environ().get("RANK"): p for p in psutil.Process(run.pid).children(recursive=True)
        }
        ranks["1"].send_signal(signal.SIGSTOP)
        begin = time.monotonic()
        said, _ = run.communicate(timeout=120)
    assert (
        run.returncode != 0 and time.monotonic() - begin < 90
    )  # torchrun gives a stopped process 30 s to end by itself
    assert "rank 1 of 2 did not get through meeting" in said
    assert not ranks["1"].is_running()
