"""Chaos: real scenes of about a second on a real Ray, and everything that can go wrong with them does."""

import pytest
from chaos_runs import LIMITS

from cluster.config import RayConfig
from cluster.policy import Fault
from cluster.runner import render

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


def test_each_way_to_fail_ends_as_the_policy_says(chaos):
    """One run with every kind of worker: those that fail once are made at the second attempt, poison ones are given up."""
    chaos.plan({
        0: ["ok"], 1: ["segfault", "ok"], 2: ["exit 0", "ok"], 3: ["raise", "raise", "ok"], 4: ["hang", "ok"], 5: ["flood", "ok"],
        6: ["balloon", "ok"], 7: ["children"], 8: ["half file", "ok"], 9: ["hang against sigterm", "ok"], 10: ["lie", "ok"],
        11: ["crash on the way out"], 12: ["reject"], 13: ["segfault"], 14: ["refuse"],
    })
    limits = LIMITS.model_copy(update={"no_progress_s": 8.0, "memory_gb": 0.5, "log_mb": 1.0})
    summary = render(chaos.job(15, limits=limits, ray=RayConfig(cpus_per_scene=0.5)))
    chaos.assert_exact(15, failed={13, 14}, rejected={12})
    assert (summary.count("done"), summary.count("rejected"), summary.count("failed"), summary.count("open")) == (12, 1, 2, 0)
    faults = {}
    for record in chaos.ledger.records():
        if record.outcome == "fault":
            faults.setdefault(record.index, []).append(record.fault)
            assert record.reason and record.node and record.log
    assert faults == {
        1: [Fault.CRASH], 2: [Fault.NO_RESULT], 3: [Fault.NO_RESULT] * 2, 4: [Fault.STALLED], 5: [Fault.FLOOD], 6: [Fault.OOM],
        8: [Fault.NO_RESULT], 9: [Fault.STALLED], 10: [Fault.BAD_OUTPUT], 13: [Fault.CRASH] * 3, 14: [Fault.REFUSED],
    }
    profiles = {record.index: record.profile for record in chaos.ledger.records() if record.outcome == "done"}
    assert (profiles[0], profiles[1], profiles[3], profiles[6]) == ("normal", "normal", "degraded", "roomy")
    again = render(chaos.job(15, limits=limits))
    assert again.made_now == 0 and again.count("failed") == 2 and chaos.starts(13) == 3
