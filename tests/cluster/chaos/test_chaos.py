"""Chaos: real scenes of about a second on a real Ray, and everything that can go wrong with them
does.
"""

import platform
import shutil
import subprocess
import sys

import pytest
from chaos_runs import LIMITS, done, orphans, wait_for

from panoforge.cluster.config.packing import PackingConfig
from panoforge.cluster.config.ray import RayConfig
from panoforge.cluster.render.runner import render
from panoforge.cluster.state.policy import AttemptFault
from panoforge.core.shards.layout import read_manifest
from panoforge.core.shards.write import PackOptions, pack

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]


@pytest.mark.real
def test_each_way_to_fail_ends_as_the_policy_says(chaos):
    """One run with every kind of worker: those that fail once are made at the second attempt,
    poison ones are given up.
    """
    chaos.plan(
        {
            0: ["ok"],
            1: ["segfault", "ok"],
            2: ["exit 0", "ok"],
            3: ["raise", "raise", "ok"],
            4: ["hang", "ok"],
            5: ["flood", "ok"],
            6: ["balloon", "ok"],
            7: ["children"],
            8: ["half file", "ok"],
            9: ["hang against sigterm", "ok"],
            10: ["lie", "ok"],
            11: ["crash on the way out"],
            12: ["reject"],
            13: ["segfault"],
            14: ["refuse"],
            15: ["black frame", "ok"],
        }
    )
    limits = LIMITS.model_copy(update={"no_progress_s": 20.0, "memory_gb": 0.5, "log_mb": 1.0})
    summary = render(chaos.job(16, limits=limits, ray=RayConfig(cpus_per_scene=0.5)))
    chaos.assert_exact(16, failed={13, 14}, rejected={12})
    assert (
        summary.count("done"),
        summary.count("rejected"),
        summary.count("failed"),
        summary.count("open"),
    ) == (13, 1, 2, 0)
    faults = {}
    for record in chaos.ledger.records():
        if record.outcome == "fault":
            faults.setdefault(record.index, []).append(record.fault)
            assert record.reason and record.node and record.log
    assert faults == {
        1: [AttemptFault.CRASH],
        2: [AttemptFault.NO_RESULT],
        3: [AttemptFault.NO_RESULT] * 2,
        4: [AttemptFault.STALLED],
        5: [AttemptFault.FLOOD],
        6: [AttemptFault.OOM],
        8: [AttemptFault.NO_RESULT],
        9: [AttemptFault.STALLED],
        10: [AttemptFault.BAD_OUTPUT],
        13: [AttemptFault.CRASH] * 3,
        14: [AttemptFault.REFUSED],
        15: [AttemptFault.BAD_OUTPUT],
    }
    profiles = {
        record.index: record.profile
        for record in chaos.ledger.records()
        if record.outcome == "done"
    }
    assert (profiles[0], profiles[1], profiles[3], profiles[6]) == (
        "normal",
        "normal",
        "degraded",
        "roomy",
    )
    again = render(chaos.job(16, limits=limits))
    assert again.made_now == 0 and again.count("failed") == 2 and chaos.starts(13) == 3


@pytest.mark.slow
def test_drivers_come_and_go(chaos, tmp_path):
    """SIGTERM drains; a second driver is refused; SIGKILL loses only what was running; the last one
    ends the job.
    """
    chaos.plan({2: ["gate a"], 3: ["gate a"], 10: ["gate b"], 11: ["gate b"]})
    file = tmp_path / "job.yaml"
    file.write_text(chaos.job(12).model_dump_json())
    command = [sys.executable, "-m", "panoforge", "render", str(file)]

    first = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    wait_for(lambda: len(done(chaos)) >= 1)
    second = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert second.returncode == 1
    message = (
        f"is being rendered already: a driver on {platform.node()} (process {first.pid}), at"
        " work for"
    )
    assert message in " ".join(second.stderr.split())
    first.terminate()
    chaos.open("gate a")
    said = first.communicate(timeout=240)[1]
    assert first.returncode == 1 and "stopping after the scenes that are running" in said, said
    assert orphans(chaos.folder) == []
    drained = done(chaos)
    assert 1 <= len(drained) < 12

    third = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    wait_for(lambda: len(done(chaos)) >= len(drained) + 2)
    third.kill()
    third.wait()
    wait_for(lambda: orphans(chaos.folder) == [])
    before = done(chaos)
    assert drained < before < set(range(12))

    chaos.open("gate b")
    summary = render(chaos.job(12))
    chaos.assert_exact(12)
    assert summary.made_now == 12 - len(before)
    assert all(chaos.starts(index) == 1 for index in before)


@pytest.mark.slow
def test_the_same_shards_with_one_two_and_four_workers_and_with_chaos(tmp_path, chaos):
    """Packed at the end, and while rendering."""
    plans = {
        1: {},
        2: {3: ["segfault", "ok"]},
        4: {0: ["half file", "ok"], 5: ["crash on the way out"], 1: ["sleep 1"]},
    }
    digests = []
    for workers, plan in plans.items():
        chaos.plan(plan)
        shutil.rmtree(chaos.folder / "calls", ignore_errors=True)
        run = tmp_path / f"run-{workers}"
        packing = PackingConfig(while_rendering=workers == 4, every_scenes=1, shard_bytes=20_000)
        job = chaos.job(6, run=run, ray=RayConfig(cpus_per_scene=2 / workers), packing=packing)
        assert render(job).count("done") == 6
        if not packing.while_rendering:
            pack(run / "staged", run / "dataset", PackOptions(shard_bytes=20_000))
        manifest = read_manifest(run / "dataset")
        digests.append([(shard.name, shard.sha256) for shard in manifest.shards])
        assert len(manifest.shards) > 1
    assert digests[0] == digests[1] == digests[2]
