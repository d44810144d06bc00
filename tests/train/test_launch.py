"""Several ranks: the same run as one process, and an end with a name when one dies. Real processes,
so these are slow.
"""

import os
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch
from train_small import small_config

from panoforge.train import checkpoints
from panoforge.train.distributed import World, flatten_gradients, unflatten_gradients
from panoforge.train.launch import RankError, launch
from panoforge.train.log import read_metrics
from panoforge.train.run import run_training


def test_gradients_survive_the_flat_buffer():
    parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((2, 3), (4,), (1, 1, 2))]
    parameters[0].grad, parameters[2].grad = torch.arange(6.0).view(2, 3), torch.ones(1, 1, 2)
    flat = flatten_gradients(parameters)
    unflatten_gradients(flat + flat, parameters)  # what two ranks with the same gradients get
    assert torch.equal(parameters[0].grad, 2 * torch.arange(6.0).view(2, 3))
    assert parameters[1].grad is None  # nobody had one, so AdamW must pass it over
    assert torch.equal(parameters[2].grad, torch.full((1, 1, 2), 2.0))


def test_a_lone_process_is_a_world_of_one(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert World.detect() == World(0, 1, 0)
    monkeypatch.setenv("RANK", "5")
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert World.detect() == World(5, 8, 1) and not World.detect().is_main
    assert World().sum([1, 2.5], torch.device("cpu")) == [1, 2.5]


@pytest.mark.slow
def test_two_processes_train_what_one_does(caps_dataset: Path, tmp_path: Path):
    """Same order, same losses, same weights: to the bit on CPU, as two gradients have one sum."""
    config = small_config(steps=2, clips_per_step=2)
    run_training(config, caps_dataset, tmp_path / "one")
    launch(config.model_copy(update={"devices": 2}), caps_dataset, tmp_path / "two")
    one, two = (
        checkpoints.load_latest(tmp_path / n / "checkpoints", print) for n in ("one", "two")
    )
    assert one.step == two.step == 2
    for a, b in zip(
        read_metrics(tmp_path / "one/metrics.jsonl"),
        read_metrics(tmp_path / "two/metrics.jsonl"),
        strict=True,
    ):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-6) and a["objects"] == b["objects"]
    worst = max((one.model[n] - two.model[n]).abs().max().item() for n in one.model)
    assert worst == 0.0


@pytest.mark.slow
def test_a_killed_rank_ends_the_run_with_its_name(caps_dataset: Path, tmp_path: Path):
    """SIGKILL to rank 1 in mid-training: RankError names it, and no process is left."""
    me = psutil.Process()
    before = {p.pid for p in me.children()}
    killed: list[int] = []

    def kill_one() -> None:
        while not (tmp_path / "metrics.jsonl").exists() or not read_metrics(
            tmp_path / "metrics.jsonl"
        ):
            time.sleep(0.1)
        ranks = [
            p
            for p in me.children()
            if p.pid not in before and "spawn_main" in " ".join(p.cmdline())
        ]
        victim = max(ranks, key=lambda p: p.pid)
        killed.append(victim.pid)
        os.kill(victim.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_one, daemon=True)
    killer.start()
    config = small_config(
        steps=200, clips_per_step=2, devices=2, checkpoint_every=1000, rank_timeout_s=30
    )
    with pytest.raises(
        RankError, match=r"rank 1 was killed by signal 9 without a word.*Run the same command again"
    ):
        launch(config, caps_dataset, tmp_path)
    killer.join()
    assert killed and not [
        p for p in me.children() if p.pid not in before and "spawn_main" in " ".join(p.cmdline())
    ]


def test_a_ranks_user_error_comes_out_as_it_is(caps_dataset: Path, tmp_path: Path):
    with pytest.raises(RankError, match=r"rank [01] of 2: .*has no split 'nope'"):
        launch(small_config(devices=2, split="nope"), caps_dataset, tmp_path)
