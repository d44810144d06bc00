"""Watched processes: real children that end well, badly, by signal, hang, go silent, flood, or
leave children.
"""

import subprocess
import sys
import time

import psutil
import pytest

from panoforge.cluster.process.process import Limits, run_watched


@pytest.fixture
def watch(tmp_path):
    def watch(code: str, timeout_s: float = 20, no_progress_s: float = 20, **limits):
        command = [sys.executable, "-u", "-c", code]
        log = tmp_path / "logs" / "scene.log"
        return run_watched(command, log, {}, Limits(timeout_s, no_progress_s, **limits))

    return watch


def test_a_good_end(watch):
    outcome = watch("print('all well')")
    assert (outcome.exit_code, outcome.signal, outcome.gave_up) == (0, None, None)
    assert outcome.log_tail == "all well"


def test_an_exit_code_and_the_log_tail(watch):
    outcome = watch(
        "import sys; print('x' * 9000); print('the reason', file=sys.stderr); sys.exit(3)"
    )
    assert outcome.describe() == "exit code 3"
    assert outcome.log_tail.endswith("the reason") and len(outcome.log_tail) <= 4000


def test_a_native_crash(watch):
    outcome = watch("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert outcome.describe() == "killed by SIGSEGV" and outcome.exit_code is None


def test_a_hang_is_ended(watch):
    begin = time.monotonic()
    outcome = watch("import time\nwhile True: print('busy'); time.sleep(0.05)", timeout_s=1.5)
    assert outcome.describe() == "ran longer than 2 s"
    assert time.monotonic() - begin < 60  # not for ever; how soon depends on the machine


def test_silence_is_ended_even_against_sigterm(watch):
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('hm');"
        " time.sleep(60)"
    )
    outcome = watch(code, no_progress_s=1)
    assert outcome.describe() == "wrote nothing for 1 s"


def test_a_flood_does_not_block(watch):
    outcome = watch("for _ in range(200_000): print('flood ' * 10)")
    assert outcome.exit_code == 0


def test_a_flood_over_the_cap_is_ended_and_its_log_cut(watch, tmp_path):
    outcome = watch("while True: print('flood ' * 1000)", log_bytes=1_000_000)
    assert (outcome.limit, outcome.describe()) == ("log", "wrote more than 1 MB of output")
    assert (tmp_path / "logs" / "scene.log").stat().st_size < 1_000_100


def test_a_balloon_is_ended(watch):
    outcome = watch(
        "import time\nkept = []\nwhile True: kept.append(b'x' * 10_000_000); time.sleep(0.02)",
        memory_bytes=150e6,
    )
    assert (
        outcome.limit == "memory"
        and "the limit is 0.15 GB" in outcome.describe()
        and 150e6 < outcome.peak_bytes < 2e9
    )


def test_memory_of_children_counts(watch):
    child = "x = b'x' * 200_000_000; import time; time.sleep(60)"
    outcome = watch(
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])",
        memory_bytes=150e6,
    )
    assert outcome.limit == "memory"


def test_the_tail_is_of_this_attempt_only(watch):
    assert watch("print('first')").log_tail == "first"
    assert watch("pass").log_tail == ""


@pytest.mark.parametrize(
    "session", [False, True], ids=["in the session", "in a session of its own"]
)
def test_children_of_the_worker_die_with_it(watch, session):
    outcome = watch(
        "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'import time;"
        f" time.sleep(300)'], start_new_session={session}).pid)"
    )
    child = int(outcome.log_tail)
    for _ in range(50):
        if not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.1)
    pytest.fail(f"process {child} outlived its worker")


def test_the_worker_dies_with_its_parent(tmp_path):
    """A Ray worker that is killed must not leave Blender behind."""
    worker_code = "import os, time; print(os.getpid()); time.sleep(300)"
    code = (
        "import sys; from pathlib import Path; from panoforge.cluster.process.process import"
        f" Limits, run_watched; log = Path({str(tmp_path / 'l')!r}); command ="
        f" [sys.executable, '-u', '-c', {worker_code!r}]; run_watched(command, log, {{}},"
        " Limits(99, 99))"
    )
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
