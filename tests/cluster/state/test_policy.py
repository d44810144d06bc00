"""The fault policy: each end of a worker means one thing, and each history of faults leads to one
next step.
"""

import pytest

from panoforge.cluster.process.process import ProcessOutcome
from panoforge.cluster.state.policy import (
    MAX_FREE,
    RULES,
    AttemptFault,
    Profile,
    classify,
    degrade,
    memory_factor,
    next_step,
    nodes_to_set_aside,
)
from panoforge.datagen.config.render import RenderConfig
from panoforge.datagen.messages import Rejection, SceneResult

N, R, D = Profile.NORMAL, Profile.ROOMY, Profile.DEGRADED


def end(code=None, signal=None, limit=None, tail="") -> ProcessOutcome:
    return ProcessOutcome(code, signal, f"over {limit}" if limit else None, 1.0, tail, limit=limit)


@pytest.mark.parametrize(
    ("outcome", "fault"),
    [
        (end(0), AttemptFault.NO_RESULT),
        (end(1), AttemptFault.NO_RESULT),
        (end(signal="SIGSEGV"), AttemptFault.CRASH),
        (end(signal="SIGABRT"), AttemptFault.CRASH),
        (end(signal="SIGKILL"), AttemptFault.KILLED),
        (end(signal="SIGTERM"), AttemptFault.KILLED),
        (end(limit="time"), AttemptFault.TIMEOUT),
        (end(limit="silence"), AttemptFault.STALLED),
        (end(limit="memory"), AttemptFault.OOM),
        (end(limit="log"), AttemptFault.FLOOD),
        (end(1, tail="Error: System is out of GPU memory"), AttemptFault.OOM),
        (end(signal="SIGABRT", tail="std::bad_alloc"), AttemptFault.OOM),
        (end(1, tail="CUDA error: Illegal address in CUDA queue"), AttemptFault.DEVICE),
        (end(1, tail="OSError: No space left on device"), AttemptFault.DISK),
        (
            end(1, tail="MemoryError\n" + "fine\n" * 12),
            AttemptFault.NO_RESULT,
        ),  # long ago in the log: not how it ended
    ],
)
def test_no_result_is_a_fault_and_the_end_says_which(outcome, fault):
    verdict = classify(outcome, None)
    assert (verdict.outcome, verdict.fault) == ("fault", fault)
    assert "worker left no result" in verdict.reason


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        ("KeyError: 'wall'", AttemptFault.ERROR),
        ("ConfigError: /missing.blend: it does not exist", AttemptFault.REFUSED),
        ("MemoryError: ", AttemptFault.OOM),
        (None, AttemptFault.ERROR),
        ("StorageError: /run/staged: the disk is full: free some space", AttemptFault.DISK),
        ("StorageError: /run: no permission", AttemptFault.ERROR),
    ],
)
def test_a_reported_error_is_judged_by_its_words(error, fault):
    assert classify(end(1), SceneResult(key="s", outcome="failed", error=error)).fault is fault


@pytest.mark.parametrize(
    "how", [end(0), end(1), end(signal="SIGSEGV")], ids=["exit 0", "exit 1", "crash on the way out"]
)
@pytest.mark.parametrize("outcome", ["done", "rejected"])
def test_a_whole_result_counts_however_the_worker_exits(how, outcome):
    assert classify(how, SceneResult(key="s", outcome=outcome)).outcome == outcome


def test_the_generators_own_last_line_is_in_the_reason():
    refused = [
        Rejection(seed=1, pose=None, reason="generator", detail="a\nValueError: first seed\n"),
        Rejection(
            seed=2, pose=None, reason="generator", detail="Trace\nValueError: the second\n\n"
        ),
    ]
    result = SceneResult(key="s", outcome="rejected", rejections=tuple(refused))
    assert classify(end(0), result).reason == (
        "no pose of any seed was accepted; its last words: generator: ValueError: the second"
    )
    assert classify(end(0), SceneResult(key="s", outcome="rejected")).reason == (
        "no pose of any seed was accepted"
    )
    crash = classify(end(signal="SIGSEGV", tail="went well\nBVH: 3 bad triangles\n"), None)
    assert crash.reason.endswith("(killed by SIGSEGV); its last words: BVH: 3 bad triangles")


def profiles_of(fault: AttemptFault) -> list[Profile]:
    """The attempts that a scene gets which fails the same way each time."""
    faults: list[tuple[AttemptFault, str]] = []
    profiles = []
    while (step := next_step(faults)).profile:
        profiles.append(step.profile)
        faults.append((fault, "so it was"))
        assert len(profiles) < 50
    assert "so it was" in step.reason
    return profiles


def test_the_same_again_once_then_coarser_then_quarantine():
    assert (
        profiles_of(AttemptFault.CRASH)
        == profiles_of(AttemptFault.TIMEOUT)
        == profiles_of(AttemptFault.ERROR)
        == [N, N, D]
    )
    assert profiles_of(AttemptFault.OOM) == [N, R, D]
    assert profiles_of(AttemptFault.REFUSED) == [N]


@pytest.mark.parametrize("fault", [AttemptFault.LOST, AttemptFault.DISK])
def test_what_is_nobodys_fault_costs_no_attempt_but_ends(fault):
    assert profiles_of(fault) == [N] * (MAX_FREE + 1)
    crash = (AttemptFault.CRASH, "crash")
    assert next_step([crash, (fault, "x"), (fault, "x")]).profile is N
    assert next_step([crash, (fault, "x"), crash]).profile is D
    waits = [next_step([(fault, "x")] * n).wait_s for n in range(1, MAX_FREE + 1)]
    assert waits == sorted(waits) and waits[0] == 0 and waits[-1] <= 60


def test_every_fault_has_a_rule_and_every_history_ends():
    assert set(RULES) == set(AttemptFault)
    for fault in AttemptFault:
        assert 1 <= len(profiles_of(fault)) <= MAX_FREE + 1


def test_the_degraded_profile_is_coarser_with_more_memory_and_the_same_size():
    render = RenderConfig(
        subdivision_cap=2, displacement="true", secondary_materials="full", seed=7
    )
    coarse = degrade(render)
    assert (coarse.subdivision_cap, coarse.displacement, coarse.secondary_materials) == (
        1,
        "bump",
        "flat",
    )
    assert (coarse.width, coarse.samples, coarse.seed) == (render.width, render.samples, 7)
    assert degrade(RenderConfig(subdivision_cap=0)).subdivision_cap == 0
    assert [memory_factor(profile) for profile in (N, R, D)] == [1, 2, 2]


def test_a_node_is_set_aside_only_when_another_one_is_well():
    assert nodes_to_set_aside({"a": 9, "b": 0}, {"b"}) == {"a"}
    assert nodes_to_set_aside({"a": 9}, set()) == set()
    assert nodes_to_set_aside({"a": 9}, {"a"}) == set()
    assert nodes_to_set_aside({"a": 2, "b": 0}, {"b"}) == set()
