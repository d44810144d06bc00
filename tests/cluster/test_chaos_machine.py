"""Chaos of the machine under a run: a disk that is full for a while, clocks that jump, a stop while Ray starts."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from chaos_runs import done, orphans, wait_for

from cluster.config import RayConfig
from cluster.runner import render
from cluster.status import read_status

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True, text=True,
                             check=False)
    if mounted.returncode:
        pytest.skip(f"needs the right to mount a small disk: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(path: Path) -> None:
    with open(path, "wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue


def test_a_full_disk_costs_no_attempt(chaos, small_disk, capfd):
    """Ledger, staging and logs are all on it. When there is room again the run goes on, with nothing lost and nobody blamed."""
    chaos.run = small_disk / "run"
    chaos.plan({index: ["sleep 1"] for index in range(12)})
    finished: list = []
    runner = threading.Thread(target=lambda: finished.append(render(chaos.job(12))))
    runner.start()
    wait_for(lambda: len(done(chaos)) >= 2, 240)
    fill(small_disk / "ballast")
    full = len(done(chaos))
    time.sleep(6)
    assert len(done(chaos)) <= full + 2  # what ran just then may have found a last place
    (small_disk / "ballast").unlink()
    runner.join(300)
    said = capfd.readouterr().err
    assert "the ledger cannot be written" in said and "the disk is full" in said
    summary, = finished
    assert (summary.count("done"), summary.count("failed")) == (12, 0)
    chaos.assert_exact(12)
    assert all(record.profile == "normal" for record in chaos.ledger.records())


JUMPING_CLOCK = '''
import random, time
_real = time.time
time.time = lambda: _real() + random.choice((-1e6, 0.0, 3600.0, 1e6))
'''
LEAPING_CLOCK = '''
import os, time
_real = time.time
def _leaping():
    try:
        with open(os.environ["CLOCK"]) as file:
            return _real() + float(file.read() or 0)
    except OSError:
        return _real()
time.time = _leaping
'''
HOURS = (5, -7, 0, 26, -1, 13, -30)


@pytest.fixture
def with_clock(tmp_path, monkeypatch):
    """Give every Python process that is started from here on a wall clock of its own."""
    def put_in(code: str) -> None:
        (tmp_path / "clock").mkdir()
        (tmp_path / "clock" / "sitecustomize.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "clock"), os.environ["PYTHONPATH"]]))
        monkeypatch.setenv("CLOCK", str(tmp_path / "offset_s"))
    return put_in


def clocks_of_a_child(offset_s: float, file: Path) -> set[int]:
    """How far a new process believes to be from now, in hours, at 99 looks."""
    file.write_text(str(offset_s))
    code = f"import time; print(*{{round((time.time() - {time.time()}) / 3600) for _ in range(99)}})"
    return set(map(int, subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()))


def test_clocks_that_jump_at_every_look(chaos, tmp_path, with_clock):
    """The wall clock of every process of the run, Ray's too, is days off, never the same. Nothing depends on it."""
    with_clock(JUMPING_CLOCK)
    assert clocks_of_a_child(0, tmp_path / "offset_s") == {-278, 0, 1, 278}
    chaos.plan({1: ["segfault", "ok"], 2: ["hang", "ok"], 3: ["reject"]})
    job = chaos.job(8, ray=RayConfig(cpus_per_scene=0.5))
    file = tmp_path / "job.yaml"
    file.write_text(job.model_copy(update={"limits": job.limits.model_copy(update={"no_progress_s": 20.0})}).model_dump_json())
    run = subprocess.run([sys.executable, "-m", "pano.cli", "render", str(file)], capture_output=True, text=True, timeout=300,
                         check=False)
    assert run.returncode == 0, run.stderr
    chaos.assert_exact(8, rejected={3})
    faults = {record.index: str(record.fault) for record in chaos.ledger.records() if record.outcome == "fault"}
    assert faults == {1: "crash", 2: "stalled"}
    assert read_status(chaos.run).state == "finished"


def test_clocks_that_leap_by_hours_while_drivers_come_and_go(chaos, tmp_path, with_clock):
    """Forth and back, on drivers, nodes and workers alike: no limit strikes, a second driver is still refused, a dead one's
    run is taken over at once, and every scene is made in one attempt but those that were killed with their driver."""
    with_clock(LEAPING_CLOCK)
    assert clocks_of_a_child(5 * 3600, tmp_path / "offset_s") == {5}
    chaos.plan({index: ["sleep 1"] for index in range(14)})
    file = tmp_path / "job.yaml"
    file.write_text(chaos.job(14).model_dump_json())
    command = [sys.executable, "-m", "pano.cli", "render", str(file)]
    stop, leaps = threading.Event(), []

    def leap() -> None:
        while not stop.wait(0.7):
            temporary = tmp_path / "offset_s.new"
            temporary.write_text(str(3600 * HOURS[len(leaps) % len(HOURS)]))
            temporary.replace(tmp_path / "offset_s")
            leaps.append(len(done(chaos)))

    clock = threading.Thread(target=leap)
    clock.start()
    try:
        first = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        wait_for(lambda: len(done(chaos)) >= 3, 150)
        second = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
        assert second.returncode == 1 and f"(process {first.pid}), at work for" in " ".join(second.stderr.split())
        first.kill()
        first.wait()
        assert orphans(chaos.folder) == []
        before = done(chaos)
        third = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    finally:
        stop.set()
        clock.join()
    assert third.returncode == 0, third.stderr
    assert len(set(leaps) & set(range(1, 14))) >= 3  # it leapt while there was something to do
    chaos.assert_exact(14)
    assert all(chaos.starts(index) == 1 for index in before)
    assert [record for record in chaos.ledger.records() if record.outcome != "done"] == []


def test_sigterm_while_ray_starts_is_a_drain_with_a_message(chaos, tmp_path):
    file = tmp_path / "job.yaml"
    file.write_text(chaos.job(4).model_dump_json())
    driver = subprocess.Popen([sys.executable, "-m", "pano.cli", "render", str(file)], stderr=subprocess.PIPE, text=True)
    wait_for(lambda: (chaos.run / "ledger" / "lease").exists())  # taken just before Ray is started
    time.sleep(0.5)
    driver.terminate()
    said = driver.communicate(timeout=120)[1]
    assert driver.returncode == 1 and "stopping after the scenes that are running" in said and "Traceback" not in said
    assert done(chaos) == set() and orphans(chaos.folder) == [] and read_status(chaos.run).state == "stopped"
    assert render(chaos.job(4)).count("done") == 4
    chaos.assert_exact(4)
