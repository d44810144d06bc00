"""The spare worker process: it does what a fresh one does, and nobody is left with it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from repository import ROOT

from panoforge.cluster.process.process import Limits, ProcessOutcome, run_watched, start_child
from panoforge.cluster.process.spare import Spares

WORKER = """
import os, sys, tempfile
from a_dependency import VALUE
if __name__ == "__main__":
    print(__name__, sys.argv[1:], os.environ["TMPDIR"], tempfile.gettempdir(), VALUE, sys.stdin.read() == "", flush=True)
    print("to stderr", file=sys.stderr, flush=True)
    sys.exit(3)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    (tmp_path / "a_worker.py").write_text(WORKER)
    (tmp_path / "a_dependency.py").write_text("VALUE = 7\n")
    (tmp_path / "a_broken_worker.py").write_text("raise ValueError('not on this machine')\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    return tmp_path


def run(
    spares: Spares, folder: Path, worker: str = "a_worker", name: str = "log"
) -> tuple[ProcessOutcome, bool]:
    """(how it ended, whether the spare did it)"""
    environment = {"OMP_NUM_THREADS": "1", "TMPDIR": str(folder)}
    found: list = []

    def start():
        found.append(spares.take(worker, ["job.json"], environment, folder / name))
        return found[0] or start_child(
            [sys.executable, "-m", worker, "job.json"], folder / name, environment
        )

    return run_watched(start, folder / name, Limits(20, 20)), found[0] is not None


def test_a_spare_does_what_a_fresh_worker_does(folder):
    spares = Spares()
    fresh, by_spare = run(spares, folder)
    assert not by_spare and fresh.exit_code == 3
    assert fresh.log_tail == f"__main__ ['job.json'] {folder} {folder} 7 True\nto stderr"
    spares.prepare("a_worker", {"OMP_NUM_THREADS": "1", "TMPDIR": "/elsewhere"})
    spares.prepare("a_worker", {"OMP_NUM_THREADS": "1"})
    assert len(spares._waiting) == 1
    again, by_spare = run(spares, folder)
    assert by_spare and (again.exit_code, again.log_tail) == (fresh.exit_code, fresh.log_tail)
    assert run(spares, folder)[1] is False  # it served once


def test_what_is_wrong_with_a_worker_is_in_its_scenes_log(folder):
    spares = Spares()
    spares.prepare("a_broken_worker", {"OMP_NUM_THREADS": "1"})
    outcome, by_spare = run(spares, folder, "a_broken_worker")
    assert (
        by_spare
        and outcome.exit_code == 1
        and outcome.log_tail.endswith("ValueError: not on this machine")
    )


def test_a_spare_that_does_not_fit_or_died_is_replaced_and_gone(folder):
    spares = Spares()
    spares.prepare("a_worker", {"OMP_NUM_THREADS": "8"})
    other = spares._waiting[0].child.process
    assert run(spares, folder)[1] is False and other.returncode is not None
    spares.prepare("a_worker", {"OMP_NUM_THREADS": "1"})
    spares._waiting[0].child.process.kill()
    spares._waiting[0].child.process.wait()
    outcome, by_spare = run(spares, folder)
    assert not by_spare and outcome.exit_code == 3
    spares.prepare("a_worker", {})
    left = spares._waiting[0].child.process
    spares.discard()
    assert left.returncode is not None and not psutil.pid_exists(left.pid)


def test_a_spare_that_nobody_wants_ends_by_itself(folder):
    code = "from cluster import spare; spare.IDLE_S = 0.5; spare.main('a_worker')"
    idle = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert idle.wait(20) == 0 and idle.stdout.read() == b""
    begin = time.monotonic()
    abandoned = subprocess.Popen(
        [sys.executable, "-m", "panoforge.cluster.process.spare", "a_worker"], stdin=subprocess.PIPE
    )
    abandoned.stdin.close()
    assert abandoned.wait(20) == 0 and time.monotonic() - begin < 30
