"""Ctrl-C: what runs is finished, what has not begun is not begun, and nothing is lost."""

import os
import signal
import subprocess
import sys

import pytest
from chaos_runs import done, orphans, wait_for

from panoforge.cluster.config.ray import RayConfig
from panoforge.cluster.render.runner import render
from panoforge.cluster.status.status import read_status
from panoforge.core.storage.lease import read_heartbeat

pytestmark = [pytest.mark.real, pytest.mark.ray, pytest.mark.timeout(900)]


def test_ctrl_c_finishes_what_runs_and_begins_nothing(chaos, tmp_path):
    """At least four scenes are with Ray, and it has room for two. The run's folder has a name that
    neither a metric nor this terminal can show.
    """
    chaos.run = chaos.folder / "Zürich 客 😀"
    chaos.plan({index: ["gate a"] for index in range(8)})
    file = tmp_path / "job.yaml"
    ray = RayConfig(cpus_per_scene=1.0, in_flight_per_slot=4)
    file.write_text(chaos.job(8, ray=ray).model_dump_json())
    driver = subprocess.Popen(
        [sys.executable, "-m", "panoforge", "render", str(file)],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: read_heartbeat_of(chaos).get("in_flight", 0) >= 4 and started(chaos))
    driver.send_signal(signal.SIGINT)
    wait_for(lambda: read_heartbeat_of(chaos)["in_flight"] == len(started(chaos)), 60)
    running = started(chaos)
    assert 0 < len(running) < 4 and driver.poll() is None
    chaos.open("gate a")
    said = driver.communicate(timeout=240)[1]
    assert "no metrics" not in said
    assert driver.returncode == 1 and "stopping after the scenes that are running" in said, said
    assert started(chaos) == running == done(chaos)
    assert {record.outcome for record in chaos.ledger.records()} == {"done"}
    assert orphans(chaos.folder) == [] and read_status(chaos.run).state == "stopped"
    assert render(chaos.job(8)).count("done") == 8
    chaos.assert_exact(8)
    assert all(chaos.starts(index) == 1 for index in range(8))


def started(chaos) -> set[int]:
    return {index for index in range(8) if chaos.starts(index)}


def read_heartbeat_of(chaos) -> dict:
    return read_heartbeat(chaos.ledger.store)[0] or {}
