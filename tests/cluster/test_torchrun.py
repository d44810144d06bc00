"""Plain torchrun on two machines (namespaces) with addresses of their own, as
docs/howto/torchrun.md shows it.
"""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from machines import machines, needs_machines
from repository import ROOT
from train_small import SMALL

from panoforge.train import checkpoints
from panoforge.train.config import TrainConfig
from panoforge.train.log import read_metrics
from panoforge.train.run import run_training

pytestmark = [needs_machines, pytest.mark.slow, pytest.mark.timeout(900)]
OPTIONS = [
    "--nnodes=2",
    "--nproc-per-node=1",
    "--rdzv-backend=c10d",
    "--rdzv-endpoint=m1:29400",
    "--rdzv-id=run1",
    "--max-restarts=3",
]


def test_two_machines_train_what_one_process_does(caps_dataset: Path, tmp_path: Path):
    """The same command on both; they meet by the first one's name."""
    run_training(TrainConfig.model_validate(SMALL), caps_dataset, tmp_path / "one")
    run, config = tmp_path / "run", tmp_path / "train.yaml"
    config.write_text(yaml.safe_dump({**SMALL, "run": str(run), "dataset": str(caps_dataset)}))
    torchrun = [sys.executable, "-m", "torch.distributed.run", *OPTIONS]
    variables = {"PYTHONPATH": str(ROOT), "TMPDIR": "/tmp", "OMP_NUM_THREADS": "1"}
    with machines(tmp_path, "m1", "m2") as both:
        processes = [
            machine.start(
                [*torchrun, "-m", "panoforge", "train", str(config)],
                variables,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            for machine in both
        ]
        said = [process.communicate(timeout=600)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(said)
    assert [row["ranks"] for row in read_metrics(run / "metrics.jsonl")] == [2] * SMALL["steps"]
    one, two = (
        checkpoints.load_latest(folder / "checkpoints", print) for folder in (tmp_path / "one", run)
    )
    assert one is not None and two is not None
    assert all(torch.equal(one.model[name], two.model[name]) for name in one.model)
