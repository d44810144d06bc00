"""Training on Ray Train: real ranks on one private Ray, killed and started again."""

import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from same_runs import assert_same_run, last_state
from train_small import SMALL

from panoforge.cluster.config.jobs import TrainJobConfig
from panoforge.cluster.config.ray import RayConfig
from panoforge.cluster.ray.session import ray_session
from panoforge.cluster.ray.training import _answer, _relay_here, train_on_ray
from panoforge.cluster.ray.watch import ClusterError
from panoforge.core.errors import UserError
from panoforge.train.log import read_metrics
from panoforge.train.run import run_training

pytestmark = [pytest.mark.real, pytest.mark.ray, pytest.mark.timeout(900)]
STEPS = 6


@pytest.fixture(scope="module", autouse=True)
def two_cores() -> Iterator[None]:
    """One Ray for all tests here: it takes longer to start than they do."""
    with ray_session(RayConfig(), cpus=2):
        yield


@pytest.fixture(scope="module")
def alone(caps_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process, undisturbed."""
    run = tmp_path_factory.mktemp("alone")
    run_training(job(caps_dataset, run).train, caps_dataset, run)
    assert last_state(run).step == STEPS
    return run


def job(dataset: Path, run: Path, **changes: object) -> TrainJobConfig:
    """A small job of two ranks, with a checkpoint after each step."""
    fields = {**SMALL, "model": {"size": "micro", "image_size": 128}, "devices": 2}
    fields |= {"steps": STEPS, "checkpoint_every": 1, "run": str(run), "dataset": str(dataset)}
    return TrainJobConfig.model_validate({**fields, **changes})


def workers() -> list[psutil.Process]:
    """The processes of ranks on this Ray."""
    return [
        process
        for process in psutil.Process().children(recursive=True)
        if "RayTrainWorker" in " ".join(process.cmdline())
    ]


def kill_one(run: Path, after_steps: int) -> threading.Thread:
    """Kill a rank once so many steps are done."""

    def wait_and_kill() -> None:
        while len(read_metrics(run / "metrics.jsonl")) < after_steps:
            time.sleep(0.02)
        workers()[-1].send_signal(signal.SIGKILL)

    thread = threading.Thread(target=wait_and_kill, daemon=True)
    thread.start()
    return thread


def error_of(train: Callable[[], object]) -> UserError:
    with pytest.raises(UserError) as caught:
        train()
    return caught.value


def test_two_ranks_train_what_one_does(caps_dataset: Path, alone: Path, tmp_path: Path, capfd):
    """Same order, same losses, same weights and moments, to the bit: on CPU, two gradients have one
    sum. And rank 0's lines come to the driver.
    """
    exported = train_on_ray(job(caps_dataset, tmp_path))
    assert exported.samefile(tmp_path / "checkpoints/model.pt")
    assert f"train: {STEPS}/{STEPS}" in capfd.readouterr().err
    assert_same_run(tmp_path, alone)
    assert [row["ranks"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [2] * STEPS


def test_a_stop_that_is_asked_for_waits_until_the_state_is_kept(
    caps_dataset: Path, tmp_path: Path, capfd
):
    """Ray Train ends all ranks with the first that leaves, and rank 0 has yet to write."""

    def ask_to_stop() -> None:
        while not read_metrics(tmp_path / "metrics.jsonl"):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    asking = threading.Thread(target=ask_to_stop, daemon=True)
    asking.start()
    endless = job(caps_dataset, tmp_path, steps=500, checkpoint_every=999, checkpoint_every_s=0)
    said = str(error_of(lambda: train_on_ray(endless)))
    asking.join()
    done = len(read_metrics(tmp_path / "metrics.jsonl"))
    assert said.startswith(f"stopped as asked after step {done} of 500, saved to ")
    assert last_state(tmp_path).step == done
    lines = capfd.readouterr().err.splitlines()
    assert lines.count("train: 0/500 in 0 s") == 1, lines


@pytest.mark.slow
def test_a_killed_rank_costs_no_step_that_was_saved(
    caps_dataset: Path, alone: Path, tmp_path: Path, capfd
):
    """Ray Train starts both again; they go on from the checkpoint and end as the same run."""
    killer = kill_one(tmp_path, after_steps=2)
    train_on_ray(job(caps_dataset, tmp_path))
    killer.join()
    (step,) = re.findall(rf"going on from step (\d) of {STEPS}", capfd.readouterr().err)
    assert 1 <= int(step) < STEPS  # the second step may have been on its way to the disk
    assert_same_run(tmp_path, alone)


@pytest.mark.slow
def test_a_rank_that_is_lost_too_often_ends_the_run_by_name(caps_dataset: Path, tmp_path: Path):
    kill_one(tmp_path, after_steps=1)
    said = str(error_of(lambda: train_on_ray(job(caps_dataset, tmp_path, max_restarts=0))))
    who = rf"rank [01] \(node {re.escape(socket.gethostname())}\): "
    assert re.match(f"ranks were lost 1 times, the last time so: {who}", said), said
    assert "\n" not in said
    assert "the same command goes on from the last checkpoint" in said


@pytest.mark.slow
def test_a_users_mistake_is_not_tried_again(caps_dataset: Path, tmp_path: Path):
    error = error_of(lambda: train_on_ray(job(caps_dataset, tmp_path, split="nope")))
    assert f"of 2 (node {socket.gethostname()}): " in str(error) and "'nope'" in str(error)


def test_a_node_that_its_cluster_gave_up_is_no_defect_of_ours():
    """The relay ends with the driver's node alone."""
    import ray

    relay = _relay_here()
    assert _answer(relay.collect.remote()) == []
    ray.kill(relay)  # returns before the actor has ended: what is on its way is still answered

    def ask_until_refused() -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            _answer(relay.collect.remote())

    said = str(error_of(ask_until_refused))
    assert said.startswith("this node was lost to its Ray cluster (ActorDied") and "\n" not in said


def test_more_gpus_than_there_are_is_said_at_once(caps_dataset: Path, tmp_path: Path):
    error = error_of(lambda: train_on_ray(job(caps_dataset, tmp_path, device="cuda")))
    assert isinstance(error, ClusterError)
    assert "nodes × devices asks for 2 GPUs, and this machine has 0" in str(error)


def test_more_ranks_than_forward_passes_is_a_mistake_of_the_config(tmp_path: Path):
    with pytest.raises(ValueError, match=r"nodes × devices \(2 × 2\) must be from min_ranks"):
        job(tmp_path, tmp_path, nodes=2)
