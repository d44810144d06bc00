"""Watched processes: real children that end well, badly, by signal, hang, go silent, flood, or leave children."""

import subprocess
import sys
import time

import psutil
import pytest

from cluster.process import run_watched


@pytest.fixture
def watch(tmp_path):
    def watch(code: str, timeout_s: float = 20, no_progress_s: float = 20):
        command = [sys.executable, "-u", "-c", code]
        return run_watched(command, tmp_path / "logs" / "scene.log", timeout_s=timeout_s, no_progress_s=no_progress_s)
    return watch


def test_a_good_end(watch):
    outcome = watch("print('all well')")
    assert (outcome.exit_code, outcome.signal, outcome.gave_up) == (0, None, None)
    assert outcome.log_tail == "all well"


def test_an_exit_code_and_the_log_tail(watch):
    outcome = watch("import sys; print('x' * 9000); print('the reason', file=sys.stderr); sys.exit(3)")
    assert outcome.describe() == "exit code 3"
    assert outcome.log_tail.endswith("the reason") and len(outcome.log_tail) <= 4000


def test_a_native_crash(watch):
    outcome = watch("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert outcome.describe() == "killed by SIGSEGV" and outcome.exit_code is None


def test_a_hang_is_ended(watch):
    begin = time.monotonic()
    outcome = watch("import time\nwhile True: print('busy'); time.sleep(0.05)", timeout_s=1.5)
    assert outcome.describe() == "ran longer than 2 s"
    assert time.monotonic() - begin < 8


def test_silence_is_ended_even_against_sigterm(watch):
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('hm'); time.sleep(60)"
    outcome = watch(code, no_progress_s=1)
    assert outcome.describe() == "wrote nothing for 1 s"


def test_a_flood_does_not_block(watch):
    outcome = watch("for _ in range(200_000): print('flood ' * 10)")
    assert outcome.exit_code == 0


def test_children_of_the_worker_die_with_it(watch):
    outcome = watch("import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)']).pid)")
    child = int(outcome.log_tail)
    for _ in range(50):
        if not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.1)
    pytest.fail(f"process {child} outlived its worker")


def test_the_worker_dies_with_its_parent(tmp_path):
    """A Ray worker that is killed must not leave Blender behind."""
    worker_code = "import os, time; print(os.getpid()); time.sleep(300)"
    code = ("import sys; from pathlib import Path; from cluster.process import run_watched; "
            f"run_watched([sys.executable, '-u', '-c', {worker_code!r}], Path({str(tmp_path / 'l')!r}), "
            "timeout_s=99, no_progress_s=99)")
    parent = subprocess.Popen([sys.executable, "-c", code])
    log = tmp_path / "l"
    for _ in range(100):
        if log.exists() and log.read_text().strip():
            break
        time.sleep(0.1)
    worker = int(log.read_text())
    parent.kill()
    parent.wait()
    for _ in range(50):
        if not psutil.pid_exists(worker):
            return
        time.sleep(0.1)
    pytest.fail(f"worker {worker} outlived its parent")
