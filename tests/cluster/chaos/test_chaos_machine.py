"""Chaos of the machine under a run: a disk that is full for a while, clocks that jump, a stop while
Ray starts.
"""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from chaos_runs import done, orphans, wait_for
from disks import fill, small_disk

from panoforge.cluster.config.ray import RayConfig
from panoforge.cluster.render.runner import render
from panoforge.cluster.status.status import read_status

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]


def test_a_full_disk_costs_no_attempt(chaos, tmp_path, capfd):
    """Ledger, staging and logs are all on it. When there is room again the run goes on, with
    nothing lost and nobody blamed.
    """
    with small_disk(tmp_path / "disk", 4) as disk:
        _run_on(disk, chaos, capfd)


def _run_on(disk: Path, chaos, capfd) -> None:
    chaos.run = disk / "run"
    chaos.plan({index: ["sleep 1"] for index in range(12)})
    finished: list = []
    runner = threading.Thread(target=lambda: finished.append(render(chaos.job(12))))
    runner.start()
    wait_for(lambda: len(done(chaos)) >= 2)
    fill(disk / "ballast")
    full = len(done(chaos))
    time.sleep(6)
    assert len(done(chaos)) <= full + 2  # what ran just then may have found a last place
    (disk / "ballast").unlink()
    runner.join(300)
    said = capfd.readouterr().err
    assert "the ledger cannot be written" in said and "the disk is full" in said
    (summary,) = finished
    assert (summary.count("done"), summary.count("failed")) == (12, 0)
    chaos.assert_exact(12)
    assert all(record.profile == "normal" for record in chaos.ledger.records())


ANOTHER_CLOCK = """
import os, random, time
_real = time.time
def _elsewhere():
    try:
        with open(os.environ["CLOCK"]) as file:
            return _real() + 3600 * float(random.choice(file.read().split()))
    except OSError:
        return _real()
time.time = _elsewhere
"""


class Clock:
    """The wall clock of every Python process that is started while there is one: hours from the
    real one, at each look one of those that `turn_to` gave last. Ray waits by the wall clock for
    its dashboard when it starts, so a clock should stand still until it is up.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / "hours"
        (folder / "clock").mkdir()
        (folder / "clock" / "sitecustomize.py").write_text(ANOTHER_CLOCK)

    def turn_to(self, *hours: float) -> None:
        temporary = self.file.with_suffix(".new")
        temporary.write_text(" ".join(map(str, hours)))
        temporary.replace(self.file)

    def seen(self) -> set[int]:
        """How many hours a new process is off, at 99 looks."""
        code = (
            f"import time; print(*{{round((time.time() - {time.time()}) / 3600) for _ in"
            " range(99)})"
        )
        said = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        return set(map(int, said.split()))


@pytest.fixture
def clock(tmp_path, monkeypatch):
    clock = Clock(tmp_path)
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(tmp_path / "clock"), os.environ["PYTHONPATH"]])
    )
    monkeypatch.setenv("CLOCK", str(clock.file))
    return clock


def test_clocks_that_jump_at_every_look(chaos, tmp_path, clock):
    """Days off, never the same. Nothing depends on it: no limit strikes too soon or too late."""
    chaos.plan(
        {
            0: ["ok"],
            1: ["segfault", "ok"],
            2: ["hang", "ok"],
            3: ["reject"],
            **{i: ["gate a"] for i in range(4, 10)},
        }
    )
    job = chaos.job(10, ray=RayConfig(cpus_per_scene=0.5))
    file = tmp_path / "job.yaml"
    file.write_text(
        job.model_copy(
            update={"limits": job.limits.model_copy(update={"no_progress_s": 20.0})}
        ).model_dump_json()
    )
    driver = subprocess.Popen(
        [sys.executable, "-m", "panoforge", "render", str(file)], stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: done(chaos))
    clock.turn_to(-278, 0, 1, 278)
    assert clock.seen() == {-278, 0, 1, 278} and driver.poll() is None
    chaos.open("gate a")
    said = driver.communicate(timeout=300)[1]
    assert driver.returncode == 0, said
    chaos.assert_exact(10, rejected={3})
    faults = {
        record.index: str(record.fault)
        for record in chaos.ledger.records()
        if record.outcome == "fault"
    }
    assert faults == {1: "crash", 2: "stalled"}
    assert read_status(chaos.run).state == "finished"


def test_clocks_that_leap_by_hours_while_drivers_come_and_go(chaos, tmp_path, clock):
    """Forth and back, on drivers, nodes and workers alike. No limit strikes, and a second driver is
    still refused. A dead one's run is taken over at once, and no attempt fails.
    """
    chaos.plan(
        {
            **{i: ["gate a"] for i in range(2, 6)},
            **{i: ["gate b"] for i in range(6, 12)},
            13: ["gate c"],
        }
    )
    file = tmp_path / "job.yaml"
    file.write_text(chaos.job(14).model_dump_json())
    command = [sys.executable, "-m", "panoforge", "render", str(file)]
    first = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    wait_for(lambda: done(chaos))
    for hours in (5, -7, 26):
        clock.turn_to(hours)
        assert clock.seen() == {hours}
    second = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert second.returncode == 1 and f"(process {first.pid}), at work for" in " ".join(
        second.stderr.split()
    )
    clock.turn_to(-30)
    chaos.open("gate a")
    wait_for(lambda: len(done(chaos)) >= 6)
    assert first.poll() is None
    first.kill()
    first.wait()
    assert orphans(chaos.folder) == []
    before = done(chaos)
    chaos.open("gate b")
    third = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len(done(chaos)) > len(before))
    for hours in (13, -1):
        clock.turn_to(hours)
        assert clock.seen() == {hours}
    chaos.open("gate c")
    said = third.communicate(timeout=240)[1]
    assert third.returncode == 0, said
    chaos.assert_exact(14)
    assert all(chaos.starts(index) == 1 for index in before)
    assert [record for record in chaos.ledger.records() if record.outcome != "done"] == []


def test_sigterm_while_ray_starts_is_a_drain_with_a_message(chaos, tmp_path):
    file = tmp_path / "job.yaml"
    file.write_text(chaos.job(4).model_dump_json())
    driver = subprocess.Popen(
        [sys.executable, "-m", "panoforge", "render", str(file)], stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: (chaos.run / "ledger" / "lease").exists())  # taken just before Ray is started
    time.sleep(0.5)
    driver.terminate()
    said = driver.communicate(timeout=240)[1]
    assert (
        driver.returncode == 1
        and "stopping after the scenes that are running" in said
        and "Traceback" not in said
    )
    assert (
        done(chaos) == set()
        and orphans(chaos.folder) == []
        and read_status(chaos.run).state == "stopped"
    )
    assert render(chaos.job(4)).count("done") == 4
    chaos.assert_exact(4)
