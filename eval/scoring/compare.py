"""`pano compare A B …`.

One table of several evaluations, with intervals, and what may not be compared refused.

    compare([Path("runs/a"), Path("runs/b")]) → Comparison, which panoforge.eval.reports.comparison
    writes as text, JSON, CSV, LaTeX or Markdown

Takes results.json files, the folders they are in, or runs, whose latest evaluation is meant. Every
method of every run is a line, the first is the reference. Two results are comparable if they
measured the same (`protocol_id`), on the same data (the manifest's digest), on the same instances;
otherwise the message says which part differs. Differences are taken instance by instance, intervals
and tests panorama by panorama (`panoforge.eval.scoring.metrics.stats`), p-values are corrected for
the number of lines (Holm).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from panoforge.core.errors import DataError, StorageError, UsageError
from panoforge.core.numbers import counted
from panoforge.eval.folders import results_file
from panoforge.eval.scoring.metrics.stats import Interval, Paired, bootstrap_mean, holm, paired_test
from panoforge.eval.scoring.recorded import Recorded, read_recorded

SHOWN_DIFFERENCES = 8
_ABSENT = "(not there)"

Instance = tuple[str, int]
Scores = dict[Instance, float]


@dataclass(frozen=True)
class Run:
    """One results.json.

    `name` is what the table calls it; the others map method → instance → IoU, plain and cos
    φ-weighted, and J&F. `ap` is each method's average precision.
    """

    name: str
    content: Recorded
    scores: Mapping[str, Scores]
    scores_cos: Mapping[str, Scores]
    j_and_f: Mapping[str, Scores]
    ap: Mapping[str, float | None]


@dataclass(frozen=True)
class Line:
    """One method of one run.

    `versus` is None in the first line; `p_value` there too, elsewhere corrected for all lines.
    """

    run: str
    method: str
    miou: Interval
    miou_cos: Interval
    j_and_f: Interval
    ap: float | None
    versus: Paired | None
    p_value: float | None


@dataclass(frozen=True)
class Comparison:
    """What may be said side by side.

    `notes` warn of lines that are no measurement of a trained model.
    """

    protocol_id: str
    panoramas: int
    instances: int
    lines: tuple[Line, ...]
    notes: tuple[str, ...]


def compare(paths: Sequence[Path], *, seed: int = 0) -> Comparison:
    """Compare the runs at `paths`.

    Args:
        paths: what `panoforge.eval.folders.results_file` takes; the first is the reference.
        seed: of the draws of intervals and tests.

    Raises:
        StorageError: one is not there.
        DataError: one is no result, or they are not comparable; the message says what differs.
        UsageError: no path is given.
    """
    if not paths:
        raise UsageError("expected at least one run to compare, e.g. pano compare runs/a runs/b")
    runs = [_read(path, name) for path, name in zip(paths, run_names(paths), strict=True)]
    for other in runs[1:]:
        check_comparable(runs[0], other)
    entries = [(run, method) for run in runs for method in run.scores]
    for run, method in entries:
        _check_instances(entries[0], (run, method))
    instances = sorted(entries[0][0].scores[entries[0][1]])
    keys = [key for key, _ in instances]
    columns = [_column(run.scores[method], instances) for run, method in entries]
    weighted = [_column(run.scores_cos[method], instances) for run, method in entries]
    both = [_column(run.j_and_f[method], instances) for run, method in entries]
    tests = [paired_test(columns[0], column, keys, seed=seed) for column in columns[1:]]
    versus: list[Paired | None] = [None, *tests]
    p_values: list[float | None] = [None, *holm([test.p_value for test in tests])]
    lines = tuple(
        Line(
            run.name,
            method,
            bootstrap_mean(columns[k], keys, seed=seed),
            bootstrap_mean(weighted[k], keys, seed=seed),
            bootstrap_mean(both[k], keys, seed=seed),
            run.ap[method],
            versus[k],
            p_values[k],
        )
        for k, (run, method) in enumerate(entries)
    )
    return Comparison(
        runs[0].content.protocol_id,
        len(set(keys)),
        len(instances),
        lines,
        _notes(runs, len(set(keys))),
    )


def _column(scores: Scores, instances: Sequence[Instance]) -> list[float]:
    return [scores[instance] for instance in instances]


def check_comparable(first: Run, other: Run) -> None:
    """Raise DataError, naming what differs, unless both measured the same on the same data."""
    a, b = first.content, other.content
    if a.protocol_id != b.protocol_id:
        parts = differences(a.protocol, b.protocol)
        shown = "; ".join(
            f"{name}: {x} in {first.name}, {y} in {other.name}"
            for name, x, y in parts[:SHOWN_DIFFERENCES]
        )
        raise DataError(
            f"{first.name} and {other.name} were measured differently, so their scores cannot stand"
            f" in one table ({a.protocol_id} and {b.protocol_id}). What differs:"
            f" {shown or 'the protocol ids alone'}. Evaluate one of them again with the other's"
            " settings."
        )
    if a.dataset.manifest_sha256 != b.dataset.manifest_sha256:
        raise DataError(
            f"{first.name} and {other.name} were measured on different data: {_dataset(a)} and"
            f" {_dataset(b)}. Scores on different panoramas say nothing about methods: evaluate"
            " both on one dataset."
        )


def _check_instances(first: tuple[Run, str], other: tuple[Run, str]) -> None:
    """Raise DataError unless both methods were scored on the same instances."""
    a, b = (set(run.scores[method]) for run, method in (first, other))
    if a != b:
        missing, more = len(a - b), len(b - a)
        example = "{} id {}".format(*min(a ^ b))
        raise DataError(
            f"{other[0].name} ({other[1]}) lacks {missing} of the {counted(len(a), 'instance')} of"
            f" {first[0].name} ({first[1]}) and has {counted(more, 'other')}, e.g. {example}: a"
            " difference would be one of instances too. Evaluate both with the same split and"
            " max_panoramas."
        )


def _read(path: Path, name: str) -> Run:
    file = results_file(path)
    if not file.exists():
        raise StorageError(
            f"{file} is not there: expected the folder of a finished evaluation"
            " (RUN/eval/NAME), or a run that has one (pano eval writes results.json last)"
        )
    content = read_recorded(file)
    rows = [row for row in content.rows if row.role == "model"]
    ap = {score.method: score.ap for score in content.scores if score.role == "model"}
    if not rows:
        raise DataError(
            f"{file} holds no scored instances, so there is nothing to compare: were all of them"
            " smaller than instances.min_pixels? Lower it and evaluate again"
        )
    scores: dict[str, Scores] = {}
    scores_cos: dict[str, Scores] = {}
    j_and_f: dict[str, Scores] = {}
    for row in rows:
        instance = row.key, row.id
        scores.setdefault(row.method, {})[instance] = row.iou
        scores_cos.setdefault(row.method, {})[instance] = row.iou_cos
        j_and_f.setdefault(row.method, {})[instance] = (row.iou + row.boundary_f) / 2
    return Run(name, content, scores, scores_cos, j_and_f, {m: ap.get(m) for m in scores})


def run_names(paths: Sequence[Path]) -> list[str]:
    """The runs' folder names, or whole paths where two would be the same."""
    short = [(path if path.suffix != ".json" else path.parent).resolve().name for path in paths]
    return short if len(set(short)) == len(short) else [str(path) for path in paths]


def differences(a: Any, b: Any, name: str = "") -> list[tuple[str, Any, Any]]:
    """(dotted name, value in a, value in b) of every leaf that differs."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        keys = [*a, *(key for key in b if key not in a)]
        return [
            found
            for key in keys
            for found in differences(
                a.get(key, _ABSENT), b.get(key, _ABSENT), f"{name}.{key}".lstrip(".")
            )
        ]
    return [] if a == b else [(name, a, b)]


def _dataset(content: Recorded) -> str:
    data = content.dataset
    return f"{data.name} (manifest {data.manifest_sha256[:10]})"


def _notes(runs: Sequence[Run], panoramas: int) -> tuple[str, ...]:
    said = {
        "random": "its weights are random numbers, so its scores say nothing about a model",
        "none": "no model was run: it measures the path around one",
    }
    notes = [
        f"{run.name}: {said[kind]}" for run in runs if (kind := run.content.weights.kind) in said
    ]
    if panoramas < 6:
        notes.append(
            f"{counted(panoramas, 'panorama')} are few: no p-value can be below"
            f" {2 / 2**panoramas:.2g}, and"
            " intervals are too narrow"
        )
    return tuple(notes)
