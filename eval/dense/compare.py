"""`pano compare` of dense evaluations: one table, with intervals by panorama, and paired tests.

    print(render_maps(compare_maps([Path("runs/a"), Path("runs/b")]), "latex"))

Every run has a line for each headline score (`panoforge.eval.dense.scores.HEADLINES`). Differences
to the first run are taken panorama by panorama. Their intervals resample panoramas; p-values are of
swapping the two runs in each panorama (all ways up to 13 panoramas, else drawn), corrected for the
number of lines (Holm). Results of other protocols, data or panoramas are refused.
"""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import ConfigDict, Field, ValidationError

from panoforge.core.errors import DataError, StorageError
from panoforge.core.foreign.files import read_bytes
from panoforge.core.models import FrozenModel
from panoforge.core.numbers import counted
from panoforge.core.types import Floats
from panoforge.eval.dense.protocol import DENSE_FORMAT, DENSE_SCHEMA_VERSION
from panoforge.eval.dense.scores import HEADLINES, RESAMPLES, Headline, draws, matrix_of
from panoforge.eval.folders import results_file
from panoforge.eval.reports.comparison import TableFormat
from panoforge.eval.reports.comparison_page import comparison_page
from panoforge.eval.reports.text_table import columns, latex_table
from panoforge.eval.scoring.compare import differences, run_names
from panoforge.eval.scoring.metrics.semantics import class_ious
from panoforge.eval.scoring.metrics.stats import EXACT_PANORAMAS, Interval, holm
from panoforge.eval.scoring.recorded import MAX_RESULTS_BYTES

MOST_CELLS = 1 << 16  # of a confusion matrix: 255 classes
_SHOWN = 8
HEADS = ("run", "score", "value", "difference", "p")


class _MapsPart(FrozenModel):
    """A part of results.json. Keys that a comparison has no use for are left alone."""

    model_config = ConfigDict(extra="ignore", strict=True)


class _MapsRow(_MapsPart):
    """The scores of one panorama: a confusion matrix by its entries, or scores by name."""

    key: str
    task: str
    variant: str
    size: Annotated[int, Field(ge=2, le=MOST_CELLS)] | None = None
    confusion: tuple[tuple[int, Annotated[float, Field(ge=0)]], ...] = ()
    scores: dict[str, float | None] = {}


class _MapsData(_MapsPart):
    name: str
    manifest_sha256: str


class _MapsWeights(_MapsPart):
    kind: str


class _MapsResults(_MapsPart):
    format: str
    schema_version: int
    protocol_id: str
    protocol: dict[str, Any]
    dataset: _MapsData
    weights: _MapsWeights
    rows: tuple[_MapsRow, ...]


@dataclass(frozen=True)
class MapsLine:
    """One score of one run, in its own unit.

    `difference` and `p_value` are None in the first run's lines.
    """

    run: str
    headline: Headline
    value: Interval
    difference: Interval | None
    p_value: float | None


@dataclass(frozen=True)
class MapsComparison:
    """What may be said side by side; `notes` warn of what is no measurement of a model."""

    protocol_id: str
    panoramas: int
    lines: tuple[MapsLine, ...]
    notes: tuple[str, ...]


def is_dense(path: Path) -> bool:
    """Whether `path` stands for the results of a dense evaluation."""
    file = results_file(path)
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        return DENSE_FORMAT.encode() in stream.read(256)


def compare_maps(paths: Sequence[Path], *, seed: int = 0) -> MapsComparison:
    """Compare dense evaluations.

    Args:
        paths: What `panoforge.eval.folders.results_file` takes; the first is the reference.
        seed: Of the draws of intervals and tests.

    Raises:
        StorageError: One is not there.
        DataError: One is no dense result, or they are not comparable; the message says why.
    """
    names = run_names(paths)
    runs = [_read(path) for path in paths]
    for name, run in zip(names[1:], runs[1:], strict=True):
        _check_comparable(names[0], runs[0], name, run)
    lines: list[MapsLine] = []
    tests: list[float] = []
    for headline in HEADLINES:
        tables = [_table(run, headline) for run in runs]
        if not tables[0]:
            continue
        keys = sorted(tables[0])
        for name, table in zip(names, tables, strict=True):
            if sorted(table) != keys:
                raise DataError(
                    f"{name} has {headline.title} of {counted(len(table), 'panorama')},"
                    f" {names[0]} of {len(keys)}: evaluate both with the same split,"
                    " max_panoramas and dense.tasks"
                )
        sums = [np.stack([table[key] for key in keys]) for table in tables]
        score = _score_of(headline)
        for name, own in zip(names, sums, strict=True):
            first = own is sums[0]
            difference = None if first else _difference(sums[0], own, score, seed)
            p_value = None if first else _swap_p(sums[0], own, score, seed)
            tests += [] if p_value is None else [p_value]
            lines.append(MapsLine(name, headline, _interval(own, score, seed), difference, p_value))
    if not lines:
        raise DataError(
            f"{names[0]} holds no scores of a model, so there is nothing to compare: evaluate one"
            " with dense.predictor=model or folder"
        )
    adjusted = iter(holm(tests))
    lines = [
        line
        if line.p_value is None
        else MapsLine(line.run, line.headline, line.value, line.difference, next(adjusted))
        for line in lines
    ]
    panoramas = len({row.key for row in runs[0].rows})
    return MapsComparison(runs[0].protocol_id, panoramas, tuple(lines), _notes(names, runs))


def render_maps(found: MapsComparison, form: TableFormat = "text") -> str:
    """A comparison in one of the formats of `pano compare`."""
    rows: list[Sequence[str]] = [HEADS, *map(_cells, found.lines)]
    what = (
        f"{counted(found.panoramas, 'panorama')}, protocol {found.protocol_id}; 95 % intervals by"
        " panorama, p by swapping runs in panoramas, corrected (Holm)"
    )
    if form == "json":
        return json.dumps(
            {
                "format": "panoforge-dense-comparison",
                "schema_version": 1,
                "protocol_id": found.protocol_id,
                "panoramas": found.panoramas,
                "lines": [_record(line) for line in found.lines],
                "notes": list(found.notes),
            },
            ensure_ascii=False,
        )
    if form == "csv":
        out = io.StringIO()
        records = [_record(line) for line in found.lines]
        writer = csv.DictWriter(out, list(records[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
        return out.getvalue().rstrip("\n")
    if form == "latex":
        return latex_table(HEADS, rows[1:], "llrrr", [what, *found.notes])
    if form == "html":
        return comparison_page(HEADS, rows[1:], what, found.notes)
    if form == "md":
        table = [HEADS, ["---"] * len(HEADS), *rows[1:]]
        lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in r)} |" for r in table]
        return "\n".join([*lines, "", what, *(f"\n{note}" for note in found.notes)])
    return "\n".join([*columns(rows), what, *found.notes])


def _record(line: MapsLine) -> dict[str, Any]:
    difference = line.difference or Interval(float("nan"), None, None)
    return {
        "run": line.run,
        "task": line.headline.task,
        "score": line.headline.name,
        "value": line.value.value,
        "value_low": line.value.low,
        "value_high": line.value.high,
        "difference": line.difference and difference.value,
        "difference_low": difference.low,
        "difference_high": difference.high,
        "p": line.p_value,
    }


def _cells(line: MapsLine) -> list[str]:
    unit = line.headline.unit
    return [
        line.run,
        f"{line.headline.task} {line.headline.title}" + (f" [{unit}]" if unit else ""),
        _text(line.value, unit),
        _text(line.difference, unit, signed=True) if line.difference else "(reference)",
        "" if line.p_value is None else f"{line.p_value:.3g}",
    ]


def _text(interval: Interval, unit: str, *, signed: bool = False) -> str:
    factor, digits = (100, 1) if unit == "%" else (1, 2 if unit == "°" else 3)
    form = f"{'+' if signed else ''}.{digits}f"
    value = format(factor * interval.value, form)
    if interval.low is None or interval.high is None:
        return value
    low, high = format(factor * interval.low, form), format(factor * interval.high, form)
    return f"{value} [{low}, {high}]"


_SumsScore = Callable[[Floats], Floats]


def _score_of(headline: Headline) -> _SumsScore:
    """From sums (..., M) to the score (...): mIoU of matrices, else a mean of (value, 1) pairs."""
    if headline.task == "semantic":
        return lambda sums: np.nanmean(class_ious(matrix_of(sums)), axis=-1)
    return lambda sums: sums[..., 0] / sums[..., 1]


def _table(run: _MapsResults, headline: Headline) -> dict[str, Floats]:
    """What each panorama adds to the sums of a score."""
    found = {}
    for row in run.rows:
        if (row.task, row.variant) != (headline.task, headline.variant):
            continue
        if row.task == "semantic":
            sums = np.zeros(row.size or 0)
            for cell, number in row.confusion:
                if not 0 <= cell < len(sums):
                    raise DataError(f"{row.key}: a confusion matrix names cell {cell}")
                sums[cell] = number
            found[row.key] = sums
        else:
            value = row.scores.get(headline.name)
            if value is not None:
                found[row.key] = np.array([value, 1.0])
    sizes = {len(sums) for sums in found.values()}
    if len(sizes) > 1:
        raise DataError("confusion matrices of several sizes stand in one result")
    return found


def _interval(sums: Floats, score: _SumsScore, seed: int) -> Interval:
    value = float(score(sums.sum(axis=0)))
    if len(sums) < 2:
        return Interval(value, None, None)
    low, high = np.nanquantile(score(draws(len(sums), seed, RESAMPLES) @ sums), [0.025, 0.975])
    return Interval(value, float(low), float(high))


def _difference(first: Floats, second: Floats, score: _SumsScore, seed: int) -> Interval:
    value = float(score(second.sum(axis=0)) - score(first.sum(axis=0)))
    if len(first) < 2:
        return Interval(value, None, None)
    counts = draws(len(first), seed, RESAMPLES)
    low, high = np.nanquantile(score(counts @ second) - score(counts @ first), [0.025, 0.975])
    return Interval(value, float(low), float(high))


def _swap_p(first: Floats, second: Floats, score: _SumsScore, seed: int) -> float:
    """Share of swaps of the two runs in panoramas with a difference at least as large."""
    n = len(first)
    observed = abs(float(score(second.sum(axis=0)) - score(first.sum(axis=0)))) - 1e-12
    if n <= EXACT_PANORAMAS:
        swapped = ((np.arange(2**n)[:, None] >> np.arange(n)) & 1).astype(np.float64)
    else:
        swapped = np.random.default_rng([seed, 1]).integers(0, 2, (RESAMPLES, n)).astype(np.float64)
    a = swapped @ second + (1 - swapped) @ first
    b = swapped @ first + (1 - swapped) @ second
    reached = int(np.count_nonzero(np.abs(score(b) - score(a)) >= observed))
    return reached / len(swapped) if n <= EXACT_PANORAMAS else (reached + 1) / (len(swapped) + 1)


def _read(path: Path) -> _MapsResults:
    file = results_file(path)
    if not file.exists():
        raise StorageError(
            f"{file} is not there: expected the folder of a finished evaluation"
            " (RUN/eval/NAME), or a run that has one (pano eval writes results.json last)"
        )
    try:
        found = _MapsResults.model_validate_json(read_bytes(file, MAX_RESULTS_BYTES))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "document"
        raise DataError(
            f"{file} is not what pano eval writes of maps ({where}: {first['msg']}): evaluate"
            " again, and compare results of one task"
        ) from None
    if (found.format, found.schema_version) != (DENSE_FORMAT, DENSE_SCHEMA_VERSION):
        raise DataError(
            f"{file} is {found.format} version {found.schema_version}, expected"
            f" {DENSE_FORMAT} version {DENSE_SCHEMA_VERSION}: compare results of one task"
        )
    return found


def _check_comparable(first: str, a: _MapsResults, other: str, b: _MapsResults) -> None:
    if a.protocol_id != b.protocol_id:
        parts = differences(a.protocol, b.protocol)
        shown = "; ".join(f"{k}: {x} in {first}, {y} in {other}" for k, x, y in parts[:_SHOWN])
        raise DataError(
            f"{first} and {other} were measured differently ({a.protocol_id} and {b.protocol_id})."
            f" What differs: {shown or 'the protocol ids alone'}. Evaluate one of them again with"
            " the other's settings."
        )
    if a.dataset.manifest_sha256 != b.dataset.manifest_sha256:
        raise DataError(
            f"{first} and {other} were measured on different data: {a.dataset.name} and"
            f" {b.dataset.name} ({a.dataset.manifest_sha256[:10]},"
            f" {b.dataset.manifest_sha256[:10]}). Evaluate both on one dataset."
        )


def _notes(names: Sequence[str], runs: Sequence[_MapsResults]) -> tuple[str, ...]:
    said: Mapping[str, str] = {
        "none": "no model was run: it is the truth",
        "mean": "no model was run: it is the mean predictor",
    }
    notes = [
        f"{name}: {said[run.weights.kind]}"
        for name, run in zip(names, runs, strict=True)
        if run.weights.kind in said
    ]
    panoramas = len({row.key for row in runs[0].rows})
    if panoramas < 6:
        notes.append(
            f"{counted(panoramas, 'panorama')} are few: no p-value can be below"
            f" {2 / 2**panoramas:.2g}, and intervals are too narrow"
        )
    return tuple(notes)
