"""The fault policy: each end of a worker means one thing, and each history of faults leads to one
next step.
"""

import pytest

from panoforge.cluster.process.process import ProcessOutcome
from panoforge.cluster.state.policy import (
    MAX_FREE,
    RULES,
    Fault,
    Profile,
    classify,
    degrade,
    memory_factor,
    next_step,
    nodes_to_set_aside,
)
from panoforge.datagen.config import RenderConfig
from panoforge.datagen.messages import Rejection, SceneResult

N, R, D = Profile.NORMAL, Profile.ROOMY, Profile.DEGRADED


def end(code=None, signal=None, limit=None, tail="") -> ProcessOutcome:
    return ProcessOutcome(code, signal, f"over {limit}" if limit else None, 1.0, tail, limit=limit)


@pytest.mark.parametrize(
    ("outcome", "fault"),
    [
        (end(0), Fault.NO_RESULT),
        (end(1), Fault.NO_RESULT),
        (end(signal="SIGSEGV"), Fault.CRASH),
        (end(signal="SIGABRT"), Fault.CRASH),
        (end(signal="SIGKILL"), Fault.KILLED),
        (end(signal="SIGTERM"), Fault.KILLED),
        (end(limit="time"), Fault.TIMEOUT),
        (end(limit="silence"), Fault.STALLED),
        (end(limit="memory"), Fault.OOM),
        (end(limit="log"), Fault.FLOOD),
        (end(1, tail="Error: System is out of GPU memory"), Fault.OOM),
        (end(signal="SIGABRT", tail="std::bad_alloc"), Fault.OOM),
        (end(1, tail="CUDA error: Illegal address in CUDA queue"), Fault.DEVICE),
        (end(1, tail="OSError: No space left on device"), Fault.DISK),
        (
            end(1, tail="MemoryError\n" + "fine\n" * 12),
            Fault.NO_RESULT,
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
        ("KeyError: 'wall'", Fault.ERROR),
        ("ConfigError: /missing.blend: it does not exist", Fault.REFUSED),
        ("MemoryError: ", Fault.OOM),
        (None, Fault.ERROR),
        ("StorageError: /run/staged: the disk is full: free some space", Fault.DISK),
        ("StorageError: /run: no permission", Fault.ERROR),
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


def profiles_of(fault: Fault) -> list[Profile]:
    """The attempts that a scene gets which fails the same way each time."""
    faults: list[tuple[Fault, str]] = []
    profiles = []
    while (step := next_step(faults)).profile:
        profiles.append(step.profile)
        faults.append((fault, "so it was"))
        assert len(profiles) < 50
    assert "so it was" in step.reason
    return profiles


def test_the_same_again_once_then_coarser_then_quarantine():
    assert (
        profiles_of(Fault.CRASH)
        == profiles_of(Fault.TIMEOUT)
        == profiles_of(Fault.ERROR)
        == [N, N, D]
    )
    assert profiles_of(Fault.OOM) == [N, R, D]
    assert profiles_of(Fault.REFUSED) == [N]


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.DISK])
def test_what_is_nobodys_fault_costs_no_attempt_but_ends(fault):
    assert profiles_of(fault) == [N] * (MAX_FREE + 1)
    crash = (Fault.CRASH, "crash")
    assert next_step([crash, (fault, "x"), (fault, "x")]).profile is N
    assert next_step([crash, (fault, "x"), crash]).profile is D
    waits = [next_step([(fault, "x")] * n).wait_s for n in range(1, MAX_FREE + 1)]
    assert waits == sorted(waits) and waits[0] == 0 and waits[-1] <= 60


def test_every_fault_has_a_rule_and_every_history_ends():
    assert set(RULES) == set(Fault)
    for fault in Fault:
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
