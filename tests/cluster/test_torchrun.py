"""Plain torchrun on two machines (namespaces) with addresses of their own, as
docs/howto/torchrun.md shows it: with a folder that both see, and with nothing in common but a
bucket.
"""

import contextlib
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from machines import Machine, machines, needs_machines
from repository import ROOT
from same_runs import assert_same_run, assert_same_state, last_state, numbers
from train_small import SMALL

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


VARIABLES = {
    "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
    "TMPDIR": "/tmp",
    "OMP_NUM_THREADS": "1",
}
STEPS = SMALL["steps"]


def torchrun(both: Sequence[Machine], config: Path, **variables: str) -> str:
    """The same command on both, to its end; what they said."""
    command = [sys.executable, "-m", "torch.distributed.run", *OPTIONS]
    processes = [
        machine.start(
            [*command, "-m", "panoforge", "train", str(config)],
            VARIABLES | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for machine in both
    ]
    said = [process.communicate(timeout=600)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(said)
    return "\n".join(said)


def test_two_machines_train_what_one_process_does(caps_dataset: Path, tmp_path: Path):
    """The same command on both; they meet by the first one's name."""
    run_training(TrainConfig.model_validate(SMALL), caps_dataset, tmp_path / "one")
    run, config = tmp_path / "run", tmp_path / "train.yaml"
    config.write_text(yaml.safe_dump({**SMALL, "run": str(run), "dataset": str(caps_dataset)}))
    with machines(tmp_path, "m1", "m2") as both:
        torchrun(both, config)
    assert [row["ranks"] for row in read_metrics(run / "metrics.jsonl")] == [2] * STEPS
    assert_same_run(run, tmp_path / "one")


SERVE = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address=sys.argv[1], port=5000, verbose=False)
server.start()
server._thread.join()
"""
UPLOAD = """
import sys, fsspec
bucket = fsspec.filesystem("s3")
bucket.mkdir("panoforge")
bucket.put(sys.argv[1], "panoforge/data", recursive=True)
"""


def test_two_machines_share_nothing_but_a_bucket(caps_dataset: Path, tmp_path: Path):
    """A real S3 server on the first one's address has the dataset and the checkpoints. Each machine
    has a run folder of its own, and loses it after two steps: both go on from the bucket.
    """
    run, config = tmp_path / "run", tmp_path / "train.yaml"
    fields = {**SMALL, "checkpoint_every": 1, "optim": {"lr": 1e-4, "final_lr_ratio": 1.0}}
    run_training(TrainConfig.model_validate(fields), caps_dataset, tmp_path / "one")
    fields |= {"run": str(run), "dataset": "s3://panoforge/data"}
    fields |= {"checkpoints_to": "s3://panoforge/checkpoints"}
    run.mkdir()
    with machines(tmp_path, "m1", "m2") as both:
        variables = {
            "AWS_ENDPOINT_URL": f"http://{both[0].address}:5000",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }
        both[0].start([sys.executable, "-c", SERVE, both[0].address], VARIABLES)
        end = time.monotonic() + 120
        while True:
            with contextlib.suppress(AssertionError):
                upload = [sys.executable, "-c", UPLOAD, str(caps_dataset)]
                both[1].say(upload, VARIABLES | variables)
                break
            assert time.monotonic() < end, "no S3 server"
        for steps in (2, STEPS):
            config.write_text(yaml.safe_dump({**fields, "steps": steps}))
            for machine in both:
                machine.say(["mount", "--types", "tmpfs", "tmpfs", str(run)])
            said = torchrun(both, config, **variables)
            both[0].say(["cp", "-r", f"{run}/.", str(tmp_path / f"first-{steps}")])
            for machine in both:
                machine.say(["umount", str(run)])
    assert not list(run.iterdir())
    assert f"going on from step 2 of {STEPS}" in said
    first, last = tmp_path / "first-2", tmp_path / f"first-{STEPS}"
    assert numbers(first) + numbers(last) == numbers(tmp_path / "one")
    assert_same_state(last_state(last), last_state(tmp_path / "one"))
    assert {row["ranks"] for row in read_metrics(last / "metrics.jsonl")} == {2}
