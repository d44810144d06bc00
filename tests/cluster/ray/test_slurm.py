"""The batch scripts on a real Slurm: warned, cancelled, requeued. Nothing is lost or done twice."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from chaos_runs import Chaos
from repository import ROOT
from slurm_cluster import Slurm, needs_slurm, slurm
from train_small import SMALL

from panoforge.cluster.state.ledger import Ledger
from panoforge.core.storage.staged import list_staged
from panoforge.train.config import TrainConfig
from panoforge.train.log import read_metrics
from panoforge.train.run import run_training

pytestmark = [needs_slurm, pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1800)]
SCRIPTS = ROOT / "configs" / "cluster"
APART = ("seconds", "clips_per_s", "peak_memory_mb", "ranks")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    with slurm(tmp_path_factory.mktemp("slurm"), 2) as made:
        yield made


def until(cluster: Slurm, job: str, true: Callable[[], bool], seconds: float = 600) -> None:
    """Wait; where it takes too long, or the job ends before, fail with its log."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, cluster.log(job)
        assert cluster.state(job) in ("PENDING", "RUNNING", "COMPLETING"), cluster.log(job)
        time.sleep(0.5)


def test_a_render_that_is_warned_stopped_and_cancelled_loses_nothing(
    cluster: Slurm, tmp_path: Path
):
    """Sixteen scenes on two nodes of two cores, four at a time.

    Slurm's warning comes while four wait at gate a: they are finished, and the job goes on from its
    queue. It is told to stop while four wait at gate b: they are finished too. Submitted again it
    is cancelled while four wait at gate c, and these alone are done again by the last submission.
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
    cluster.say("scancel", "--signal=USR1", "--batch", job)
    until(cluster, job, lambda: "stopping after the scenes" in cluster.log(job))
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
    assert len({record.node for record in Ledger(str(run / "ledger")).records()}) == 2


def test_a_training_that_is_warned_and_requeued_is_the_same_run(
    cluster: Slurm, caps_dataset: Path, tmp_path: Path
):
    """Two nodes, a rank on each. Slurm's warning saves and requeues; what goes on from there ends
    with the numbers of one undisturbed process.
    """
    fields = {**SMALL, "model": {"size": "micro", "image_size": 128}, "steps": 30}
    fields |= {"checkpoint_every": 999, "checkpoint_every_s": 0}
    run_training(TrainConfig.model_validate(fields), caps_dataset, tmp_path / "one")
    run, config = tmp_path / "run", tmp_path / "train.yaml"
    config.write_text(yaml.safe_dump({**fields, "run": str(run), "dataset": str(caps_dataset)}))
    script = SCRIPTS / "slurm_train.sbatch"
    job = cluster.submit(script, {"CONFIG": str(config)}, "--nodes=2")
    until(cluster, job, lambda: bool(read_metrics(run / "metrics.jsonl")))
    cluster.say("scancel", "--signal=USR1", "--batch", job)
    until(cluster, job, lambda: "goes back into the queue" in cluster.log(job))
    done = len(read_metrics(run / "metrics.jsonl"))
    assert 0 < done < 30 and f"stopped as asked after step {done} of 30" in cluster.log(job)
    cluster.wait(job, "COMPLETED")
    assert f"going on from step {done} of 30" in cluster.log(job)
    rows = [
        [{k: v for k, v in row.items() if k not in APART} for row in read_metrics(folder)]
        for folder in (tmp_path / "one/metrics.jsonl", run / "metrics.jsonl")
    ]
    assert rows[0] == rows[1]
