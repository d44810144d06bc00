"""Training on several nodes of Ray, each a machine of its own (namespaces): gloo between them, and
one that is cut off in the middle, and what only one of them has wrong.
"""

import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import synthetic
import yaml
from machines import Machine, machines, needs_machines
from repository import ROOT
from train_small import SMALL

from panoforge.train.log import read_metrics

pytestmark = [needs_machines, pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1800)]
TOKEN = "a" * 64
ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": TOKEN,
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "PYTHONPATH": str(ROOT),
    "TMPDIR": "/tmp",
    "OMP_NUM_THREADS": "1",
}
STEPS = 400
PORT = 6379


def start_ray(machine: Machine, head: Machine, cores: int, folder: Path) -> None:
    """A node of Ray with so many cores, and its words in a file."""
    flags = ["--block", f"--num-cpus={cores}"]
    if machine is head:
        flags += ["--head", f"--port={PORT}", f"--node-ip-address={head.address}"]
        flags += ["--include-dashboard=false"]
    else:
        flags += [f"--address={head.address}:{PORT}", f"--node-ip-address={machine.address}"]
    log = folder / f"{machine.name}.log"
    command = [sys.executable, "-m", "panoforge.cluster.ray.node", *flags]
    # On a busy machine Ray may give up: it is started again, as Kubernetes and Slurm do.
    again = ["bash", "-c", 'until "$@"; do sleep 1; done', "again", *command]
    with log.open("w") as output:
        machine.start(again, ENVIRONMENT, stdout=output, stderr=subprocess.STDOUT)
    end = time.monotonic() + 600
    while "Ray runtime started" not in log.read_text():
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.2)


def train(head: Machine, folder: Path, dataset: Path, **changes: object) -> subprocess.Popen[str]:
    """`pano train` on the head, which has no core for a rank."""
    fields = {**SMALL, "model": {"size": "micro", "image_size": 128}, "steps": STEPS}
    fields |= {"clips_per_step": 3, "checkpoint_every": 1, "rank_timeout_s": 30, "devices": 1}
    fields |= {"run": str(folder / "run"), "dataset": str(dataset), "nodes": 3}
    fields |= {"ray": {"address": f"{head.address}:{PORT}"}}
    config = folder / "train.yaml"
    config.write_text(yaml.safe_dump({**fields, **changes}))
    command = [sys.executable, "-m", "panoforge", "train", str(config)]
    return head.start(command, ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def steps_done(run: Path) -> int:
    return len(read_metrics(run / "metrics.jsonl"))


def ranks_of_last(run: Path) -> int:
    return read_metrics(run / "metrics.jsonl")[-1]["ranks"]


@contextlib.contextmanager
def covered(machine: Machine, path: Path, *what: str) -> Iterator[None]:
    """On that machine alone `path` is something else in a `with` block."""
    machine.say(["mount", *what, str(path)])
    try:
        yield
    finally:
        machine.say(["umount", "--lazy", str(path)])


def until_steps(process: subprocess.Popen[str], run: Path, steps: int) -> None:
    """Wait until so many steps are logged; fail with what was said where the run ends before."""
    while steps_done(run) < steps:
        if process.poll() is not None:
            raise AssertionError(process.communicate()[0])
        time.sleep(0.2)


def test_a_node_that_is_cut_off_is_survived(caps_dataset: Path, tmp_path: Path):
    """Three nodes with a rank each, and a head. One is cut off: the run goes on with two, and with
    three again when it is back. Asked to stop it stops, saved.
    """
    run = tmp_path / "run"
    with machines(tmp_path, "head", "n1", "n2", "n3") as (head, *nodes):
        start_ray(head, head, 0, tmp_path)
        for node in nodes:
            start_ray(node, head, 1, tmp_path)
        process = train(head, tmp_path, caps_dataset, min_ranks=1, resize_every_s=10)
        until_steps(process, run, 2)
        head.say(["pgrep", "--full", "ray::Relay"])  # with the driver: no other loss is its own
        nodes[2].cut_off()
        cut = steps_done(run)
        until_steps(process, run, cut + 3)
        assert ranks_of_last(run) == 2
        nodes[2].mend()
        while ranks_of_last(run) != 3:
            until_steps(process, run, steps_done(run) + 1)
        head.terminate(process)
        said, _ = process.communicate(timeout=300)
        assert "stopped as asked after step" in said, said
    assert "going on from step" in said


def test_a_node_that_is_cut_off_ends_a_fixed_run_by_its_name(caps_dataset: Path, tmp_path: Path):
    run = tmp_path / "run"
    with machines(tmp_path, "head", "n1", "n2") as (head, *nodes):
        start_ray(head, head, 0, tmp_path)
        for node in nodes:
            start_ray(node, head, 1, tmp_path)
        process = train(head, tmp_path, caps_dataset, nodes=2, clips_per_step=2, max_restarts=0)
        until_steps(process, run, 2)
        nodes[1].cut_off()
        said, _ = process.communicate(timeout=600)
    (error,) = (line for line in said.splitlines() if line.startswith("error: "))
    assert process.returncode == 1, said
    assert "ranks were lost 1 times, the last time so: rank " in error, said
    assert "(node n2)" in error or nodes[1].address in error, said


def test_what_one_node_lacks_is_said_by_its_name(caps_dataset: Path, tmp_path: Path):
    """No room for a third rank; then on n2 alone no dataset, another one, other code; at last a
    full disk of checkpoints on both. Each ends the run in a line with the node. Nothing is lost.
    """
    run, other = tmp_path / "run", synthetic.dataset(tmp_path / "other", rle=False)
    code = ROOT / "train" / "optim.py"
    edited = tmp_path / "optim.py"
    edited.write_text(code.read_text() + "\n# edited\n")
    changes = {"nodes": 2, "clips_per_step": 2, "steps": 3, "start_timeout_s": 60}

    def last_line(**more: object) -> str:
        said, _ = train(head, tmp_path, caps_dataset, **changes | more).communicate(timeout=600)
        return said.strip().splitlines()[-1]

    with machines(tmp_path, "head", "n1", "n2") as (head, *nodes):
        start_ray(head, head, 0, tmp_path)
        for node in nodes:
            start_ray(node, head, 1, tmp_path)
        said = last_line(nodes=3, clips_per_step=3)
        assert "could not start 3 ranks of 1 CPU each" in said and "has 2 CPU" in said, said
        for what, expected in (
            (("--types", "tmpfs", "tmpfs"), f"(node n2): {caps_dataset}"),
            (("--bind", str(other)), "other data than rank 0 (node n"),
        ):
            with covered(nodes[1], caps_dataset, *what):
                said = last_line()
            assert expected in said and "node n2" in said, said
        with covered(nodes[1], code, "--bind", str(edited)):
            said = last_line()
        assert "other code than rank 0 (node n" in said and "node n2" in said, said
        assert not steps_done(run)
        shutil.rmtree(run)
        (run / "checkpoints").mkdir(parents=True)
        small = ("--types", "tmpfs", "--options", "size=1m", "tmpfs")
        with contextlib.ExitStack() as disks:
            for node in nodes:
                disks.enter_context(covered(node, run / "checkpoints", *small))
            said = last_line()
        assert "(node n" in said and "the disk is full" in said, said
        said = last_line()
    assert steps_done(run) == 3, said
