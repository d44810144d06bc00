"""From rows to scores: means over panoramas, pooled over pixels, and their intervals.

mIoU is of one confusion matrix of all pixels. Depth and normals are scored by panorama, then
averaged over panoramas; `pooled` scores all pixels together. Intervals resample panoramas.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from panoforge.core.types import Floats
from panoforge.eval.dense.rows import DenseRow
from panoforge.eval.scoring.metrics.depth import depth_scores
from panoforge.eval.scoring.metrics.normals import normal_scores
from panoforge.eval.scoring.metrics.places import PLACES, WHOLE
from panoforge.eval.scoring.metrics.semantics import class_ious, semantic_scores
from panoforge.eval.scoring.metrics.stats import Interval
from panoforge.train.settings.mtpano import DenseTask

RESAMPLES = 2000
_BATCH_NUMBERS = 1 << 24  # of resampled sums at once: 128 MB


@dataclass(frozen=True)
class Headline:
    """A score that tables begin with: `better` is −1 where less is better."""

    task: DenseTask
    variant: str
    name: str
    title: str
    unit: str
    better: int


HEADLINES = (
    Headline("semantic", "", "miou", "mIoU", "%", 1),
    Headline("depth", "metric", "abs_rel", "AbsRel", "", -1),
    Headline("depth", "metric", "rmse_m", "RMSE", "m", -1),
    Headline("depth", "metric", "delta_1", "δ < 1.25", "%", 1),
    Headline("normal", "", "mean_deg", "mean angle", "°", -1),
    Headline("normal", "", "under_11_25", "under 11.25°", "%", 1),
)


def values_by_panorama(row: DenseRow) -> Mapping[str, float]:
    """The scores of one panorama's row alone."""
    if row.task == "semantic":
        return semantic_scores(matrix_of(row.sums))
    if row.task == "depth":
        return {name: float(value) for name, value in depth_scores(row.sums).items()}
    found = {name: float(value) for name, value in normal_scores(row.sums).items()}
    return {**found, "median_deg": row.median_deg}


def pooled_values(task: DenseTask, sums: Floats) -> Mapping[str, float]:
    """The scores of summed rows."""
    if task == "semantic":
        return semantic_scores(matrix_of(sums))
    scores = depth_scores(sums) if task == "depth" else normal_scores(sums)
    return {name: float(value) for name, value in scores.items()}


def classes_of(size: int) -> int:
    """How many classes C a confusion matrix of C·(C + 1) numbers has."""
    return (math.isqrt(1 + 4 * size) - 1) // 2


def matrix_of(sums: Floats) -> Floats:
    """A confusion matrix (..., C, C + 1) of its numbers (..., C·(C + 1))."""
    classes = classes_of(sums.shape[-1])
    return sums.reshape(*sums.shape[:-1], classes, classes + 1)


def dense_scores(rows: Sequence[DenseRow], *, seed: int = 0) -> list[dict[str, Any]]:
    """One entry per role, task, variant, place and weighting that has pixels.

    - `panoramas`: how many have pixels there;
    - `mean`: scores by panorama, averaged over them (mIoU: of the pooled matrix);
    - `pooled`: scores of all pixels together;
    - `interval`: of 95 %, by score, in the whole panorama.
    """
    groups: dict[tuple[str, ...], list[DenseRow]] = {}
    for row in rows:
        groups.setdefault((row.role, row.task, row.variant, row.place, row.weighting), []).append(
            row
        )
    order = {name: k for k, name in enumerate(PLACES)}
    entries = []
    for (role, task, variant, place, weighting), group in sorted(
        groups.items(), key=lambda item: order[item[0][3]]
    ):
        seen = [row for row in group if row.sums.any()]
        if not seen:
            continue
        alone = [values_by_panorama(row) for row in seen]
        pooled = pooled_values(seen[0].task, np.sum([row.sums for row in seen], axis=0))
        mean = {name: _mean([one[name] for one in alone]) for name in pooled}
        if task == "semantic":
            mean = {**mean, **pooled, "miou_by_image": mean["miou"]}
        entry: dict[str, Any] = {
            "role": role,
            "task": task,
            "variant": variant,
            "place": place,
            "weighting": weighting,
            "panoramas": len(seen),
            "mean": mean,
            "pooled": pooled,
        }
        if place == WHOLE:
            entry["interval"] = {
                name: [interval.low, interval.high]
                for name, interval in intervals(seen, seed=seed).items()
            }
        entries.append(entry)
    return entries


def intervals(
    rows: Sequence[DenseRow], *, seed: int = 0, resamples: int = RESAMPLES
) -> Mapping[str, Interval]:
    """The scores of one row per panorama, with 95 % bootstrap intervals over panoramas."""
    names, weight = score_names(rows[0].task), draws(len(rows), seed, resamples)
    values = {name: statistic(rows, name, np.ones((1, len(rows))))[0] for name in names}
    if len(rows) < 2:
        return {name: Interval(float(values[name]), None, None) for name in names}
    found = {}
    for name in names:
        low, high = np.nanquantile(statistic(rows, name, weight), [0.025, 0.975])
        found[name] = Interval(float(values[name]), float(low), float(high))
    return found


def score_names(task: DenseTask) -> tuple[str, ...]:
    """The scores that have intervals."""
    return {
        "semantic": ("miou",),
        "depth": ("abs_rel", "rmse_m", "log_rmse", "silog", "delta_1", "delta_2", "delta_3"),
        "normal": (
            "mean_deg",
            "median_deg",
            "rms_deg",
            "under_5",
            "under_11_25",
            "under_22_5",
            "under_30",
        ),
    }[task]


def draws(panoramas: int, seed: int, resamples: int) -> Floats:
    """How often each of n panoramas is drawn, (resamples, n)."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, panoramas, (resamples, panoramas))
    counts = np.zeros((resamples, panoramas))
    np.add.at(counts, (np.arange(resamples)[:, None], drawn), 1)
    return counts


def statistic(rows: Sequence[DenseRow], name: str, counts: Floats) -> Floats:
    """A score of panoramas that count so often, (R,) of counts (R, n).

    mIoU is of the summed matrices, others are weighted means over panoramas.
    """
    if rows[0].task != "semantic":
        values = np.array([values_by_panorama(row)[name] for row in rows])
        known = np.isfinite(values)
        with np.errstate(invalid="ignore", divide="ignore"):
            return (counts[:, known] @ values[known]) / counts[:, known].sum(axis=1)
    sums = np.stack([row.sums for row in rows])
    step = max(1, _BATCH_NUMBERS // sums.shape[1])
    parts = []
    for begin in range(0, len(counts), step):
        matrices = matrix_of(counts[begin : begin + step] @ sums)
        parts.append(np.nanmean(class_ious(matrices), axis=-1))
    return np.concatenate(parts)


def _mean(values: Sequence[float]) -> float | None:
    known = [value for value in values if math.isfinite(value)]
    return float(np.mean(known)) if known else None
