"""What a ledger adds up to.

Counts, reasons, panoramas, core-hours, rates, nodes and the slowest scenes.

Works on the ledger's columns, never on one object per record, so that a page about 183,440 scenes
costs well under a second.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from panoforge.cluster.state.ledger import Ledger
from panoforge.cluster.state.policy import LAST_WORDS
from panoforge.cluster.state.scene_states import (
    COLUMNS,
    SceneState,
    SceneStates,
    of_job,
    read_scene_states,
)

_MORE = (
    "scene",
    "node",
    "started_unix_s",
    "seconds",
    "cpus",
    "gpus",
    "peak_memory_mb",
    "staged_bytes",
    "profile",
)


# When a rate is known, see `recent_rate`. A long window, so that one slow scene does not matter.
_WINDOW, _FEWEST, _ROUNDS = 500, 5, 2.0


@dataclass(frozen=True)
class NodeTally:
    """One node's part."""

    node: str
    done: int
    faults: int
    core_hours: float


@dataclass(frozen=True)
class Tally:
    """A run in numbers.

    Seconds are wall clock of attempts; core and GPU hours count the resources that they held,
    failed attempts included.
    """

    total: int
    states: Mapping[str, int]
    panoramas: int = 0
    staged_bytes: int = 0
    attempts: int = 0
    degraded: int = 0
    faults: Mapping[str, int] = field(default_factory=dict)  # by kind, of all attempts
    reasons: Mapping[str, int] = field(
        default_factory=dict
    )  # why scenes were rejected or quarantined
    core_hours: float = 0.0
    wasted_core_hours: float = 0.0  # of attempts that ended in a fault
    gpu_hours: float = 0.0
    first_unix_s: float | None = None
    last_unix_s: float | None = None
    seconds_median: float | None = None
    seconds_p95: float | None = None
    peak_memory_mb: float | None = None
    hourly: tuple[
        tuple[float, int], ...
    ] = ()  # (unix seconds of the hour's begin, scenes done in it)
    recent_scenes_per_hour: float | None = None  # settled ones
    nodes: tuple[NodeTally, ...] = ()
    slowest: tuple[tuple[str, float], ...] = ()

    @property
    def settled(self) -> int:
        """Scenes that are not open any more."""
        return self.total - self.states.get("open", 0)


def tally(ledger: Ledger, total: int, staged: set[str] | None = None) -> tuple[Tally, SceneStates]:
    """Add a ledger up; also gives the scene states that it found."""
    table = of_job(ledger.table((*COLUMNS, *_MORE)), total)
    scene_states = read_scene_states(table, total, staged)
    states = {state.name.lower(): scene_states.count(state) for state in SceneState}
    if not table.num_rows:
        return Tally(total, states), scene_states
    outcome = table["outcome"].to_numpy(zero_copy_only=False)
    real = np.isin(outcome, ("done", "rejected", "fault"))
    fault = outcome == "fault"
    by_index = np.frombuffer(bytes(scene_states.codes), np.uint8)[table["index"].to_numpy()]
    done = _first_of_each(table, (outcome == "done") & (by_index == SceneState.DONE))
    seconds, cpus, gpus = (
        np.nan_to_num(table[name].to_numpy()).astype(float) for name in ("seconds", "cpus", "gpus")
    )
    settled = np.concatenate(
        [done, _first_of_each(table, (outcome == "rejected") & (by_index == SceneState.REJECTED))]
    )
    ended = table["started_unix_s"].to_numpy() + seconds
    of_done = table.select(["panoramas", "staged_bytes", "profile"]).take(pa.array(done))
    hours = np.unique((ended[done] // 3600).astype(int), return_counts=True)
    slowest = _slowest(done, seconds)
    peak = pc.max(table["peak_memory_mb"]).as_py()
    return Tally(
        total,
        states,
        panoramas=int(pc.sum(pc.list_value_length(of_done["panoramas"])).as_py() or 0),
        staged_bytes=int(pc.sum(of_done["staged_bytes"]).as_py() or 0),
        attempts=int(real.sum()),
        degraded=int(pc.sum(pc.equal(of_done["profile"], "degraded")).as_py() or 0),
        faults=dict(Counter(table["fault"].filter(pa.array(fault)).to_pylist()).most_common()),
        reasons=_reasons(table, outcome, by_index),
        core_hours=float((seconds * cpus)[real].sum() / 3600),
        wasted_core_hours=float((seconds * cpus)[fault].sum() / 3600),
        gpu_hours=float((seconds * gpus)[real].sum() / 3600),
        first_unix_s=float(table["started_unix_s"].to_numpy()[real].min()) if real.any() else None,
        last_unix_s=float(ended[real].max()) if real.any() else None,
        seconds_median=float(np.median(seconds[done])) if len(done) else None,
        seconds_p95=float(np.percentile(seconds[done], 95)) if len(done) else None,
        peak_memory_mb=peak,
        hourly=tuple((float(hour) * 3600, int(count)) for hour, count in zip(*hours, strict=True)),
        recent_scenes_per_hour=recent_rate(ended[settled] - seconds[settled], ended[settled]),
        nodes=_nodes(table, outcome, seconds * cpus),
        slowest=tuple(
            (table["scene"][row].as_py(), float(seconds[row])) for row in slowest.tolist()
        ),
    ), scene_states


def _first_of_each(table: pa.Table, mask: np.ndarray) -> np.ndarray:
    """Rows of `mask`, one per scene: the same scene done twice counts once."""
    rows = np.flatnonzero(mask)
    index = table["index"].to_numpy()[rows]
    first = np.full(int(index.max(initial=-1)) + 1, -1)
    first[index[::-1]] = rows[::-1]  # of several assignments to one scene numpy keeps the last
    return first[first >= 0]


def _slowest(done: np.ndarray, seconds: np.ndarray, top: int = 10) -> np.ndarray:
    """The rows of the slowest scenes, without sorting the others."""
    if len(done) > top:
        done = done[seconds[done] >= np.partition(seconds[done], -top)[-top]]
    return done[np.argsort(-seconds[done], kind="stable")[:top]]


def _reasons(table: pa.Table, outcome: np.ndarray, by_index: np.ndarray) -> dict[str, int]:
    """How many scenes were rejected or failed, by kind, each kind with the last one's own words."""
    mask = ((outcome == "rejected") & (by_index == SceneState.REJECTED)) | (
        (outcome == "quarantined") & (by_index == SceneState.QUARANTINED)
    )
    rows = _first_of_each(table, mask)
    reasons = table["reason"].take(pa.array(rows)).to_pylist()
    counts: Counter[str] = Counter()
    words: dict[str, str] = {}
    for row, reason in zip(rows, reasons, strict=True):
        what, mark, last = reason.partition(LAST_WORDS)
        kind = f"{'failed' if outcome[row] == 'quarantined' else 'rejected'}: {what}"
        counts[kind] += 1
        words[kind] = mark + last
    return {kind + words[kind]: number for kind, number in counts.most_common(50)}


def recent_rate(began: np.ndarray, ended: np.ndarray) -> float | None:
    """Scenes per hour of the time in which scenes ran, over the last `_WINDOW` of them.

    What was settled at once says little: it may be the first round of as many workers. So there is
    no rate before `_FEWEST` scenes and two rounds, that is, twice the median scene's time.

    Args:
        began: When each settled scene began; seconds on one clock.
        ended: When it ended.

    Returns:
        The rate; None where it is not known yet.
    """
    if len(ended) < _FEWEST:
        return None
    last = np.argsort(ended, kind="stable")[-_WINDOW:]
    last = last[np.argsort(began[last], kind="stable")]
    latest = np.maximum.accumulate(ended[last])
    pauses = np.maximum(0.0, began[last][1:] - latest[:-1]).sum()  # nobody was at work
    busy = latest[-1] - began[last[0]] - pauses
    rounds = busy / max(1e-9, np.median(ended[last] - began[last]))
    return float(len(last) / busy * 3600) if busy > 0 and rounds >= _ROUNDS else None


def _nodes(table: pa.Table, outcome: np.ndarray, core_seconds: np.ndarray) -> tuple[NodeTally, ...]:
    coded = table["node"].combine_chunks().dictionary_encode()
    names, which = coded.dictionary.to_pylist(), coded.indices.to_numpy()
    done = np.bincount(which, weights=outcome == "done", minlength=len(names))
    faults = np.bincount(which, weights=outcome == "fault", minlength=len(names))
    hours = np.bincount(which, weights=core_seconds, minlength=len(names)) / 3600
    rows = (
        NodeTally(name, int(done[i]), int(faults[i]), float(hours[i]))
        for i, name in enumerate(names)
        if name != "?"
    )
    return tuple(sorted(rows, key=lambda node: (-node.done, node.node)))


def sum_json_columns(ledger: Ledger, total: int) -> tuple[dict[str, float], dict[str, int]]:
    """(seconds by phase, rejected poses by reason), summed over all attempts.

    Slower than `tally`: it parses every row.
    """
    table = of_job(ledger.table(("index", "timings_s", "rejected_poses")), total)
    phases: Counter[str] = Counter()
    poses: Counter[str] = Counter()
    for timings, rejected in zip(
        table["timings_s"].to_pylist(), table["rejected_poses"].to_pylist(), strict=True
    ):
        phases.update(_numbers(timings) if timings != "{}" else ())
        poses.update(_numbers(rejected) if rejected != "{}" else ())
    return {name: round(seconds, 3) for name, seconds in phases.items()}, dict(poses.most_common())


def _numbers(text: str | None) -> dict[str, Any]:
    """A mapping to numbers, as JSON; empty where a segment that others wrote holds something else.

    They are figures for people: a run that is done does not fail by them.
    """
    try:
        found = json.loads(text or "{}").items()
        return {name: n for name, n in found if isinstance(n, int | float) and math.isfinite(n)}
    except (ValueError, AttributeError, RecursionError, OverflowError):
        return {}
