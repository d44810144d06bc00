"""The fault policy: what every end of a scene means, and what happens next.

All of it is here, and all of it is pure.

A scene's attempt ends properly (`done` or `rejected`: settled for good) or in an `AttemptFault`.
`classify` gives the `Verdict`, by how the worker process ended, what it left and the end of its
log. `next_step` says what follows from the faults of a scene so far: run it again, in which
`Profile`, or quarantine it with the reason. The seed is the same in every profile. No scene is
ever swapped for an easier one: that would bend the distribution of the dataset.

    profile     image      memory limit
    normal      as asked   as asked
    roomy       as asked   doubled
    degraded    coarser    doubled       stamped with its own config digest: the dataset says so

What is nobody's fault (a lost node, a full disk) costs no attempt, but cannot go on for ever
either: `MAX_FREE`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from panoforge.cluster.process.process import ProcessOutcome
from panoforge.core.numbers import counted
from panoforge.datagen.config.render import RenderConfig
from panoforge.datagen.messages import SceneResult


class Profile(StrEnum):
    """How an attempt is made."""

    NORMAL = "normal"
    ROOMY = "roomy"
    DEGRADED = "degraded"


class AttemptFault(StrEnum):
    """Why an attempt gave no answer.

    The values appear in the ledger, in `pano status` and in `pano retry --reason`.
    """

    CRASH = "crash"  # a native crash: SIGSEGV, SIGABRT, SIGBUS, SIGILL, SIGFPE, …
    KILLED = "killed"  # SIGKILL, SIGTERM, … that we did not send: an operator, a cgroup
    OOM = "oom"  # over our limit, over Ray's, or its own words about memory
    TIMEOUT = "timeout"  # over the wall-clock limit
    STALLED = "stalled"  # no output for too long
    FLOOD = "flood"  # a log over its cap
    NO_RESULT = "no-result"  # it ended by itself and left no result, whatever its exit code
    BAD_OUTPUT = (  # the result names panoramas that are not there, or not with these digests
        "bad-output"
    )
    DEVICE = "device"  # the GPU or Cycles' device failed
    ERROR = "error"  # the worker caught an exception and reported it
    REFUSED = "refused"  # the worker says the input is wrong: the same again is wrong again
    DISK = "disk"  # no room, or no permission, where results go
    LOST = "lost"  # the node or Ray's worker on it went away: preempted, died, unreachable


@dataclass(frozen=True)
class Rule:
    """What follows when a scene fails in one way each time.

    `profiles` are those of its attempts; empty: this fault costs no attempt.
    """

    meaning: str
    profiles: tuple[Profile, ...]
    blames_node: bool = (
        False  # many of these in a row speak against the node rather than the scenes
    )


_TWICE_THEN_COARSER = (Profile.NORMAL, Profile.NORMAL, Profile.DEGRADED)
RULES: dict[AttemptFault, Rule] = {
    AttemptFault.CRASH: Rule("the worker crashed", _TWICE_THEN_COARSER, blames_node=True),
    AttemptFault.KILLED: Rule("somebody killed the worker", _TWICE_THEN_COARSER, blames_node=True),
    AttemptFault.OOM: Rule("out of memory", (Profile.NORMAL, Profile.ROOMY, Profile.DEGRADED)),
    AttemptFault.TIMEOUT: Rule("over the time limit", _TWICE_THEN_COARSER),
    AttemptFault.STALLED: Rule("no heartbeat", _TWICE_THEN_COARSER, blames_node=True),
    AttemptFault.FLOOD: Rule("flooded its log", _TWICE_THEN_COARSER),
    AttemptFault.NO_RESULT: Rule("ended without a result", _TWICE_THEN_COARSER, blames_node=True),
    AttemptFault.BAD_OUTPUT: Rule(
        "its output is not what it says", _TWICE_THEN_COARSER, blames_node=True
    ),
    AttemptFault.DEVICE: Rule("the render device failed", _TWICE_THEN_COARSER, blames_node=True),
    AttemptFault.ERROR: Rule("the worker reported an error", _TWICE_THEN_COARSER),
    AttemptFault.REFUSED: Rule("the input is wrong", (Profile.NORMAL,)),
    AttemptFault.DISK: Rule("the run folder cannot be written", ()),
    AttemptFault.LOST: Rule("the node went away", ()),
}
MAX_FREE = (
    8  # attempts that cost nothing: a scene that takes its node down each time must end somewhere
)
MAX_BACKOFF_S = 60.0
NODE_FAULTS_IN_A_ROW = 5
DEGRADED_MEMORY = 2.0

# In a reason, before the worker's own words: they differ from scene to scene of one kind.
LAST_WORDS = "; its last words: "
_WORDS_LENGTH = 300

_CRASH_SIGNALS = {"SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE", "SIGTRAP", "SIGSYS"}
# Words in the last lines of a log, or in the worker's own error, that tell what an exit code does
# not. First match wins.
_WORDS: tuple[tuple[AttemptFault, re.Pattern[str]], ...] = (
    (
        AttemptFault.DISK,
        re.compile(
            r"No space left on device|Disk quota exceeded|the disk is full|the disk quota is"
            r" used up",
            re.I,
        ),
    ),
    (
        AttemptFault.OOM,
        re.compile(
            r"MemoryError|std::bad_alloc|out of memory|out of (GPU|device|host) memory|Cannot"
            r" allocate memory|CUDA_ERROR_OUT_OF_MEMORY"
            r"|Malloc returns null|Calloc returns null",
            re.I,
        ),
    ),
    (
        AttemptFault.DEVICE,
        re.compile(
            r"CUDA error|CUDA_ERROR_|OPTIX_ERROR|Failed to (create|initialize)"
            r" (CUDA|OptiX|HIP|oneAPI)|Illegal address in|HIP error"
            r"|Xid \d+|no (GPU|CUDA) device",
            re.I,
        ),
    ),
)
_REFUSALS = (
    "ConfigError",
    "UsageError",
    "DataError",
    "UserError",
    "TooManyThings",
    "ValidationError",
)  # cannot go otherwise


@dataclass(frozen=True)
class Verdict:
    """How an attempt ended: `outcome` is done, rejected or fault; `reason` one line for people."""

    outcome: str
    fault: AttemptFault | None = None
    reason: str = ""


def classify(end: ProcessOutcome, result: SceneResult | None) -> Verdict:
    """Judge an attempt by what it left before how it exited.

    A whole result counts even if Blender crashed on its way out. No result is a fault even after
    exit code 0. Whether the panoramas named are really there is for `check_output`.
    """
    if result is not None and result.outcome == "done":
        return Verdict("done")
    if result is not None and result.outcome == "rejected":
        words = [f"{one.reason}: {_last_line(one.detail)}" for one in result.rejections]
        return Verdict("rejected", None, with_words("no pose of any seed was accepted", words))
    if result is not None:
        error = result.error or "the worker reported a failure without words"
        fault = _by_words(error) or (
            AttemptFault.REFUSED if error.partition(":")[0] in _REFUSALS else AttemptFault.ERROR
        )
        return Verdict("fault", fault, error)
    reason = with_words(f"worker left no result ({end.describe()})", [_last_line(end.log_tail)])
    gave_up = _GAVE_UP.get(end.limit) if end.limit else None
    said = _by_words(_last_lines(end.log_tail))
    return Verdict("fault", gave_up or said or _by_signal(end.signal), reason)


def with_words(what: str, words: Sequence[str]) -> str:
    """What happened, with the last of the words that the worker or its generator had for it."""
    last = next((text for text in reversed(words) if text.strip(": ")), "")
    return f"{what}{LAST_WORDS}{last[:_WORDS_LENGTH]}" if last else what


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


_GAVE_UP = {
    "time": AttemptFault.TIMEOUT,
    "silence": AttemptFault.STALLED,
    "memory": AttemptFault.OOM,
    "log": AttemptFault.FLOOD,
}


def _by_signal(signal: str | None) -> AttemptFault:
    if signal is None:
        return AttemptFault.NO_RESULT
    return AttemptFault.CRASH if signal in _CRASH_SIGNALS else AttemptFault.KILLED


def _by_words(text: str) -> AttemptFault | None:
    return next((fault for fault, words in _WORDS if words.search(text)), None)


def _last_lines(text: str, lines: int = 12) -> str:
    return "\n".join(text.splitlines()[-lines:])


@dataclass(frozen=True)
class Step:
    """What happens next with a scene.

    An attempt in `profile` after `wait_s`, or (profile None) quarantine for `reason`.
    """

    profile: Profile | None
    wait_s: float = 0.0
    reason: str = ""


def next_step(faults: Sequence[tuple[AttemptFault, str]]) -> Step:
    """What to do with a scene whose attempts so far ended in `faults`.

    Faults come with their reasons, oldest first. Attempts that cost nothing are not counted; the
    last fault's rule says which profile comes next.
    """
    paid = [fault for fault, _ in faults if RULES[fault].profiles]
    free = len(faults) - len(paid)
    if not faults:
        return Step(Profile.NORMAL)
    last, reason = faults[-1]
    if free > MAX_FREE:
        return Step(
            None,
            reason=(
                f"given up after {counted(free, 'attempt')} that ended through no fault of its"
                " own, the last:"
                f" {reason}"
            ),
        )
    if not RULES[last].profiles:
        wait = min(MAX_BACKOFF_S, 2.0 ** (_tail_length(faults, last) - 1) - 1)
        profile = _profile_after(paid)
        return Step(profile, wait_s=wait) if profile else Step(None, reason=reason)
    profile = _profile_after(paid)
    return (
        Step(profile)
        if profile
        else Step(None, reason=f"{RULES[last].meaning} in {_times(len(paid))}: {reason}")
    )


def _profile_after(paid: Sequence[AttemptFault]) -> Profile | None:
    if not paid:
        return Profile.NORMAL
    profiles = RULES[paid[-1]].profiles
    return profiles[len(paid)] if len(paid) < len(profiles) else None


def _tail_length(faults: Sequence[tuple[AttemptFault, str]], kind: AttemptFault) -> int:
    length = 0
    for fault, _ in reversed(faults):
        if fault is not kind:
            break
        length += 1
    return length


def _times(count: int) -> str:
    return counted(count, "attempt")


def degrade(render: RenderConfig) -> RenderConfig:
    """The coarser image of a degraded attempt.

    One level of subdivision less (a quarter of the faces), no true displacement, plain secondary
    materials. Size, samples and seed stay.
    """
    displacement = "bump" if render.displacement == "true" else render.displacement
    return render.model_copy(
        update={
            "subdivision_cap": max(0, render.subdivision_cap - 1),
            "displacement": displacement,
            "secondary_materials": "flat",
        }
    )


def memory_factor(profile: Profile) -> float:
    """By what the memory limits of an attempt are multiplied."""
    return 1.0 if profile is Profile.NORMAL else DEGRADED_MEMORY


def nodes_to_set_aside(streaks: dict[str, int], healthy: set[str]) -> set[str]:
    """Nodes that get no more scenes.

    `streaks` counts a node's faults in a row that speak against nodes, `healthy` are nodes with a
    good scene to their name. Without a healthy node the scenes are to blame, and no node is set
    aside.
    """
    suspects = {node for node, streak in streaks.items() if streak >= NODE_FAULTS_IN_A_ROW}
    return suspects if healthy - suspects else set()
