"""Real runs of `pano train` that are killed, hung, launched by torchrun: nothing is patched,
processes get signals.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml
from same_runs import assert_same_run, last_state
from train_small import SMALL, small_dense

from bench.dense_worlds import stage_rooms
from panoforge.cluster.ray.node import free_ports
from panoforge.core.shards.write import PackOptions, pack
from panoforge.train.config import SAM2_ONLY
from panoforge.train.log import read_metrics

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone")
STEPS = 8
RUN_S = 900  # for a run of seconds, on a machine that has other work


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


def test_killed_at_random_steps_it_ends_bit_equal(caps_dataset: Path, tmp_path: Path):
    """SIGKILL to a real `pano train`, three times at random moments, saves included; then it runs
    to its end.
    """
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    subprocess.run(
        pano_train(config_file(tmp_path, caps_dataset, straight)),
        check=True,
        env=environment(),
        timeout=RUN_S,
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
    subprocess.run(pano_train(config), check=True, env=environment(), timeout=RUN_S)
    assert_same_run(killed, straight)
    assert last_state(killed).step == STEPS
    assert (killed / "checkpoints/model.pt").read_bytes() == (
        straight / "checkpoints/model.pt"
    ).read_bytes()


COLLECTIVE = """
import os, sys, time
import torch
from panoforge.train.distributed import LostRank, World
world = World.detect()
with world.joined(torch.device("cpu"), 6.0, 60.0):
    assert world.sum([1.0, world.rank], torch.device("cpu")) == [3.0, 3.0]
    assert world.gather_texts("x" * world.rank, torch.device("cpu")) == ["", "x", "xx"]
    time.sleep(8 * world.rank)  # longer than 6 s: a cold start
    assert world.sum([1.0], torch.device("cpu")) == [3.0]
    world.has_started()
    if world.rank == (0 if sys.argv[1] == "main exits" else 1):
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
def test_who_does_not_come_to_a_collective_is_named_by_the_others(how: str):
    """Three ranks, the last of which come late to the first collectives and are waited for.
    Then the second stops coming. Both others say its name and end, soon.
    """
    for rank, said in three_ranks(how, (0, 2)):
        assert (
            f"rank 1 (node {socket.gethostname()}) of 3 did not get through collective 5 of"
            " this run: hanging, killed or out of memory" in said
        )
        assert f"(rank {rank} waited" in said


def test_the_rank_that_keeps_the_store_is_named_with_its_node():
    """Nobody can be asked any more: what was asked at the start is said."""
    for _, said in three_ranks("main exits", (1, 2)):
        assert (
            f"rank 0 (node {socket.gethostname()}) of 3 (or one whose loss it reported before it"
            " ended) did not get through collective" in said
        ) or f"rank 0 (node {socket.gethostname()}) of 3 did not get through" in said


def three_ranks(how: str, others: tuple[int, ...]) -> list[tuple[int, str]]:
    """What those say that are left when one rank goes."""
    common = {
        **environment(),
        "WORLD_SIZE": "3",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_ports(1)[0]),
    }
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", COLLECTIVE, how],
            env={**common, "RANK": str(r), "LOCAL_RANK": str(r)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for r in range(3)
    ]
    said = []
    try:
        for rank in others:
            words, _ = ranks[rank].communicate(timeout=240)
            assert ranks[rank].returncode == 3
            said.append((rank, words))
    finally:
        for process in ranks:
            process.kill()
            process.communicate()
    return said


@pytest.mark.parametrize("changes", [{}, {"backprop_frames": 2}], ids=["whole", "in windows"])
def test_any_number_of_ranks_keeps_the_loss_curve(
    caps_dataset: Path, tmp_path: Path, changes: dict
):
    """The same global batch on 1, 2, 3 (of unlike shares) and 4 ranks: losses to 1e-4 of each other
    (float sums in another order, which Adam's first steps magnify; measured 1e-6 to 1e-5), the same
    objects, learning rates and sample order.
    """
    curves = {}
    for ranks in (1, 2, 3, 4):
        run = tmp_path / str(ranks)
        config = config_file(
            tmp_path, caps_dataset, run, steps=6, clips_per_step=4, checkpoint_every=100, **changes
        )
        launcher = (*TORCHRUN, f"--nproc-per-node={ranks}")
        subprocess.run(pano_train(config, *launcher), check=True, env=environment(), timeout=RUN_S)
        curves[ranks] = read_metrics(run / "metrics.jsonl")
    for ranks in (2, 3, 4):
        for a, b in zip(curves[1], curves[ranks], strict=True):
            assert b["loss"] == pytest.approx(a["loss"], rel=1e-4)
            assert (a["objects"], a["lr"], a["epoch"]) == (b["objects"], b["lr"], b["epoch"])


def test_three_ranks_go_on_to_the_bit(caps_dataset: Path, tmp_path: Path):
    """Of three gradients the order of additions shows. It is the same after a restart, where ranks
    have unlike numbers of passes.
    """
    fixed = {"optim": {"lr": 1e-4, "final_lr_ratio": 1.0}, "clips_per_step": 4}
    for name, legs in (("straight", (6,)), ("in_two", (3, 6))):
        for steps in legs:
            config = config_file(tmp_path, caps_dataset, tmp_path / name, steps=steps, **fixed)
            command = pano_train(config, *TORCHRUN, "--nproc-per-node=3")
            subprocess.run(command, check=True, env=environment(), timeout=RUN_S)
    assert_same_run(tmp_path / "in_two", tmp_path / "straight")
    assert last_state(tmp_path / "in_two").step == 6


@pytest.mark.parametrize("recompute", [False, True])
def test_torchrun_is_a_launcher_too(caps_dataset: Path, tmp_path: Path, recompute: bool):
    """`torchrun --nproc-per-node=2 -m panoforge train CONFIG`: the weights of one process."""
    one, two = tmp_path / "one", tmp_path / "two"
    torchrun = (*TORCHRUN, "--nproc-per-node=2")
    for run, launcher in ((one, ()), (two, torchrun)):
        config = config_file(tmp_path, caps_dataset, run, recompute=recompute)
        subprocess.run(pano_train(config, *launcher), check=True, env=environment(), timeout=RUN_S)
    assert_same_run(two, one)
    assert last_state(two).step == STEPS
    assert [row["ranks"] for row in read_metrics(two / "metrics.jsonl")] == [2] * STEPS


def test_dense_tasks_have_ranks_as_well(tmp_path: Path):
    """Two ranks have the weights of one: small heads alone at first, then everything."""
    stage_rooms(tmp_path / "staged", 4, 0, width=64)
    pack(tmp_path / "staged", tmp_path / "dataset", PackOptions())
    one, two = tmp_path / "one", tmp_path / "two"
    asked = small_dense(heads_first={"steps": 2, "lr": 0.01}, augment={"tilt_deg": 5})
    dense = asked.dense.model_dump(mode="json", exclude_defaults=True)
    for run, launcher in ((one, ()), (two, (*TORCHRUN, "--nproc-per-node=2"))):
        content = {key: SMALL[key] for key in SMALL if key not in SAM2_ONLY}
        content |= {"dense": dense, "steps": 4, "ema_decay": 0.9}
        path = tmp_path / f"{run.name}.yaml"
        path.write_text(
            yaml.safe_dump({**content, "run": str(run), "dataset": str(tmp_path / "dataset")})
        )
        subprocess.run(pano_train(path, *launcher), check=True, env=environment(), timeout=RUN_S)
    assert_same_run(two, one)
    assert [row["ranks"] for row in read_metrics(two / "metrics.jsonl")] == [2] * 4


def test_torchrun_starts_a_killed_rank_again(caps_dataset: Path, tmp_path: Path):
    """`--max-restarts`: both ranks go on from the last checkpoint, and nothing shows of it."""
    straight, run = tmp_path / "straight", tmp_path / "run"
    whole = pano_train(config_file(tmp_path, caps_dataset, straight, steps=30))
    subprocess.run(whole, check=True, env=environment(), timeout=RUN_S)
    config = config_file(tmp_path, caps_dataset, run, steps=30)
    with torchrun_of_two(config, "--max-restarts=1") as process:
        ranks = ranks_of(process, run)
        while len(read_metrics(run / "metrics.jsonl")) < 3:
            time.sleep(0.02)
        ranks["1"].send_signal(signal.SIGKILL)
        said, _ = process.communicate(timeout=RUN_S)
    assert process.returncode == 0, said
    (step,) = re.findall(r"going on from step (\d+) of 30", said)
    assert 1 <= int(step) < 30
    assert_same_run(run, straight)


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGSTOP])
def test_a_dead_or_hung_rank_is_named_under_torchrun(caps_dataset: Path, tmp_path: Path, sent: int):
    """In mid-training; a stopped process is alive and answers nothing, as one that is stuck in a
    driver.
    """
    config = config_file(tmp_path, caps_dataset, tmp_path / "run", steps=5000, rank_timeout_s=15)
    with torchrun_of_two(config) as run:
        ranks = ranks_of(run, tmp_path / "run")
        ranks["1"].send_signal(sent)
        begin = time.monotonic()
        said, _ = run.communicate(timeout=120)
    # torchrun gives a stopped process 30 s to end by itself
    assert run.returncode != 0 and time.monotonic() - begin < 90
    assert f"rank 1 (node {socket.gethostname()}) of 2 did not get through collective" in said
    assert not ranks["1"].is_running()


@pytest.mark.parametrize("launcher", ["pano", "torchrun"])
def test_a_stop_that_is_asked_for_loses_nothing(caps_dataset: Path, tmp_path: Path, launcher: str):
    """SIGTERM, as Slurm and Kubernetes send it: the step that runs is finished and saved, nobody
    starts the ranks again, and what goes on from there is the run that was never stopped.
    """
    straight, run = tmp_path / "straight", tmp_path / "run"
    torchrun = (*TORCHRUN, "--nproc-per-node=2", "--max-restarts=3")
    words = torchrun if launcher == "torchrun" else ()
    changes = {"steps": 12, "checkpoint_every": 999, "checkpoint_every_s": 0}
    whole = pano_train(config_file(tmp_path, caps_dataset, straight, **changes))
    subprocess.run(whole, check=True, env=environment(), timeout=RUN_S)
    command = pano_train(config_file(tmp_path, caps_dataset, run, **changes), *words)
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        while not read_metrics(run / "metrics.jsonl"):
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=120)
    done = len(read_metrics(run / "metrics.jsonl"))
    assert process.returncode == 1 and 0 < done < 12, said
    assert f"stopped as asked after step {done} of 12" in said
    assert "going on from step" not in said and last_state(run).step == done
    subprocess.run(command, check=True, env=environment(), timeout=RUN_S)
    assert_same_run(run, straight)


def torchrun_of_two(config: Path, *options: str) -> subprocess.Popen[str]:
    command = pano_train(config, *TORCHRUN, "--nproc-per-node=2", *options)
    return subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def ranks_of(run: subprocess.Popen[str], folder: Path) -> dict[str | None, psutil.Process]:
    """The processes of the ranks, once the first step is done."""
    while not read_metrics(folder / "metrics.jsonl"):
        assert run.poll() is None
        time.sleep(0.1)
    return {p.environ().get("RANK"): p for p in psutil.Process(run.pid).children(recursive=True)}
