"""The batch scripts on a real Slurm: warned, cancelled, requeued. Nothing is lost or done twice."""

import re
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from chaos_runs import Chaos
from repository import ROOT
from same_runs import assert_same_run
from slurm_cluster import ALIVE, Slurm, needs_slurm, slurm
from train_small import SMALL

from panoforge.cluster.state.ledger import Ledger
from panoforge.core.storage.staged import list_staged
from panoforge.train.config import TrainConfig
from panoforge.train.log import read_metrics
from panoforge.train.run import run_training

pytestmark = [needs_slurm, pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1800)]
SCRIPTS = ROOT / "configs" / "cluster"
STEPS = 24
TRAINING = {**SMALL, "steps": STEPS, "checkpoint_every": 999, "checkpoint_every_s": 0}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    with slurm(tmp_path_factory.mktemp("slurm"), 2) as made:
        yield made


def until(cluster: Slurm, job: str, true: Callable[[], bool], seconds: float = 600) -> None:
    """Wait; where it takes too long, or the job ends before, fail with its log."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, cluster.log(job)
        assert cluster.state(job) in ALIVE, cluster.log(job)
        time.sleep(0.5)


def test_a_render_that_is_warned_stopped_and_cancelled_loses_nothing(
    cluster: Slurm, tmp_path: Path
):
    """Sixteen scenes on two nodes of two cores, four at a time.

    Its time runs out while four wait at gate a, and Slurm warns it: they are finished, and the job
    goes on from its queue. It is told to stop while four wait at gate b: they are finished too.
    Submitted again it is cancelled while four wait at gate c, and these alone are done again by the
    last submission.
    """
    chaos, gates = Chaos(tmp_path / "chaos"), "abc"
    waits = {index: [f"gate {gates[index // 4]}"] for index in range(12)}
    chaos.plan(waits | {index: ["ok"] for index in range(12, 16)})
    run, config = tmp_path / "run", tmp_path / "job.yaml"
    fields = {"scenes": 16, "cameras_per_scene": 1, "width": 64, "height": 32}
    fields |= {"run": str(run), "worker": "chaos_worker"}
    fields |= {"limits": {"min_free_gb": 0}, "ray": {"in_flight_per_slot": 1}}
    config.write_text(yaml.safe_dump(fields))
    variables = {"CONFIG": str(config), "CHAOS": str(chaos.folder)}
    script = SCRIPTS / "slurm.sbatch"

    def four_wait(gate: int) -> bool:
        return all(chaos.starts(4 * gate + index) for index in range(4))

    job = cluster.submit(script, variables, "--nodes=2")
    until(cluster, job, lambda: four_wait(0))
    cluster.end_in_minutes(job, 14)  # the script asks to be warned 15 before
    until(cluster, job, lambda: "stopping after the scenes" in cluster.log(job))
    cluster.end_in_minutes(job, 600)
    chaos.open("gate a")
    until(cluster, job, lambda: "goes back into the queue" in cluster.log(job))
    until(cluster, job, lambda: four_wait(1))
    assert "Restarts=1" in cluster.say("scontrol", "show", "job", job)
    cluster.say("scancel", "--signal=TERM", "--batch", job)
    until(cluster, job, lambda: cluster.log(job).count("stopping after the scenes") == 2)
    chaos.open("gate b")
    cluster.wait(job, "FAILED")  # as one that is not finished
    assert len(list_staged(run / "staged")) == 8

    second = cluster.submit(script, variables, "--nodes=2")
    until(cluster, second, lambda: four_wait(2))
    cluster.say("scancel", second)
    cluster.wait(second, "CANCELLED")
    chaos.open("gate c")
    third = cluster.submit(script, variables, "--nodes=2")
    cluster.wait(third, "COMPLETED")
    assert len(list_staged(run / "staged")) == 16
    starts = [chaos.starts(index) for index in range(16)]
    assert starts[:8] + starts[12:] == [1] * 12 and max(starts) <= 2, starts
    done = [r.node for r in Ledger(str(run / "ledger")).records() if r.outcome == "done"]
    assert {node.partition("/")[0] for node in done} == {"node1", "node2"}, done


@pytest.fixture(scope="module")
def alone(caps_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The training of one process, undisturbed."""
    run = tmp_path_factory.mktemp("alone")
    run_training(TrainConfig.model_validate(TRAINING), caps_dataset, run)
    return run


def config_file(folder: Path, dataset: Path, **changes: object) -> Path:
    path = folder / "train.yaml"
    fields = {**TRAINING, "run": str(folder / "run"), "dataset": str(dataset), **changes}
    path.write_text(yaml.safe_dump(fields))
    return path


def test_a_training_that_is_warned_and_requeued_is_the_same_run(
    cluster: Slurm, caps_dataset: Path, alone: Path, tmp_path: Path
):
    """Two nodes, a rank on each. Its time runs out; Slurm's warning saves and requeues, and what
    goes on from there ends as one undisturbed process does. The ranks stand still meanwhile: Slurm
    looks at its jobs' times twice a minute.
    """
    run, config = tmp_path / "run", config_file(tmp_path, caps_dataset)
    script = SCRIPTS / "slurm_train.sbatch"
    job = cluster.submit(script, {"CONFIG": str(config)}, "--nodes=2")
    until(cluster, job, lambda: bool(read_metrics(run / "metrics.jsonl")))
    with cluster.held("RayTrainWorker"):
        cluster.end_in_minutes(job, 4)  # the script's warning is 300 s before
        until(cluster, job, lambda: "stopping after this step" in cluster.log(job))
        cluster.end_in_minutes(job, 600)
    until(cluster, job, lambda: "goes back into the queue" in cluster.log(job))
    done = len(read_metrics(run / "metrics.jsonl"))
    assert 0 < done < STEPS and f"stopped as asked after step {done} of {STEPS}" in cluster.log(job)
    cluster.wait(job, "COMPLETED")
    assert f"going on from step {done} of {STEPS}" in cluster.log(job)
    assert_same_run(run, alone)


def test_a_training_that_is_requeued_and_cancelled_goes_on_from_what_was_saved(
    cluster: Slurm, caps_dataset: Path, alone: Path, tmp_path: Path
):
    """`scontrol requeue` and `scancel` in mid-training, which end all processes of the job."""
    run, config = tmp_path / "run", config_file(tmp_path, caps_dataset, checkpoint_every=1)
    script, variables = SCRIPTS / "slurm_train.sbatch", {"CONFIG": str(config)}

    def steps() -> int:
        return len(read_metrics(run / "metrics.jsonl"))

    job = cluster.submit(script, variables, "--nodes=2")
    until(cluster, job, lambda: steps() > 2)
    with cluster.held("RayTrainWorker"):  # on a fast machine they would be through by then
        cluster.say("scontrol", "requeue", job)
    until(cluster, job, lambda: "going on from step" in cluster.log(job))
    assert "Restarts=1" in cluster.say("scontrol", "show", "job", job)
    (first,) = re.findall(rf"going on from step (\d+) of {STEPS}", cluster.log(job))
    until(cluster, job, lambda: steps() > int(first) + 2)
    with cluster.held("RayTrainWorker"):
        cluster.say("scancel", job)
    cluster.wait(job, "CANCELLED")
    again = cluster.submit(script, variables, "--nodes=2")
    cluster.wait(again, "COMPLETED")
    (second,) = re.findall(rf"going on from step (\d+) of {STEPS}", cluster.log(again))
    assert 2 <= int(first) < int(second) < STEPS
    assert_same_run(run, alone)


def test_the_lines_for_plain_torchrun_train_what_one_process_does(
    cluster: Slurm, caps_dataset: Path, alone: Path, tmp_path: Path
):
    """Those of docs/howto/slurm.md, with one rank on each of two nodes."""
    (lines,) = re.findall(
        r"^    HEAD=.*?\n\n", (ROOT / "docs/howto/slurm.md").read_text(), re.DOTALL | re.MULTILINE
    )
    config = config_file(tmp_path, caps_dataset)
    lines = lines.replace("my-config.yaml", str(config)).replace("per-node=8", "per-node=1")
    script = tmp_path / "torchrun.sbatch"
    words = 'set -euo pipefail\nexport OMP_NUM_THREADS=1 PATH="$VENV/bin:$PATH"\n'
    script.write_text(f"#!/usr/bin/env bash\n{words}{textwrap.dedent(lines)}")
    job = cluster.submit(script, {}, "--nodes=2", "--ntasks-per-node=1", "--exclusive")
    cluster.wait(job, "COMPLETED")
    assert [row["ranks"] for row in read_metrics(tmp_path / "run/metrics.jsonl")] == [2] * STEPS
    assert_same_run(tmp_path / "run", alone)
