"""Scores of depth: AbsRel, RMSE, log RMSE, δ < 1.25ⁿ, and the same after an alignment.

Depth is the distance along the ray in metres. A pixel counts where the truth is known: finite,
above 0, at most `max_depth_m`. Predictions are clamped to [`MIN_DEPTH_M`, `max_depth_m`] first, as
papers on indoor depth do. δ < 1.25ⁿ is the share of pixels whose ratio, the larger over the
smaller, is below 1.25ⁿ.

An alignment is fitted once a panorama, over all pixels that count, each weighing 1:

- `metric`: none, the prediction as it is.
- `scale`: the prediction times the median of truth over prediction.
- `scale and shift`: a·prediction + b of least squared error, a ≥ 0. Where the prediction is
  constant, or nearer where the truth is farther, that is the mean of the truth.

`silog` (Eigen et al., 2014, with λ = 1) is the standard deviation of ln(prediction/truth): the
scale cancels.

Scores are functions of sums, so that those of a part, of a panorama or of all pixels come from the
same numbers (`depth_scores`).
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np

from panoforge.core.types import Bools, Depth, Floats

MIN_DEPTH_M = 0.01
Alignment = Literal["metric", "scale", "scale and shift"]
ALIGNMENTS: tuple[Alignment, ...] = ("metric", "scale", "scale and shift")
DELTA = 1.25
# What is summed over pixels: their weight, |Δ|/t, Δ², ln², ln, and δ1 to δ3.
SUMS = 8


def counted_depth(truth: Depth, max_depth_m: float) -> Bools:
    """Where the true depth H×W counts, bool H×W."""
    with np.errstate(invalid="ignore"):
        return np.isfinite(truth) & (truth > 0) & (truth <= max_depth_m)


def aligned(
    truth: Depth, predicted: Depth, counts: Bools, how: Alignment, max_depth_m: float
) -> Floats:
    """The prediction H×W after an alignment, clamped.

    `counts` are the pixels that it is fitted on.
    """
    found = np.clip(predicted.astype(np.float64), MIN_DEPTH_M, max_depth_m)
    if how == "metric" or not counts.any():
        return found
    t, p = truth[counts].astype(np.float64), found[counts]
    if how == "scale":
        found = found * np.median(t / p)
    else:
        spread = np.mean((p - p.mean()) ** 2)
        a = max(np.mean((p - p.mean()) * (t - t.mean())) / spread, 0.0) if spread > 1e-12 else 0.0
        found = a * found + (t.mean() - a * p.mean())
    return np.clip(found, MIN_DEPTH_M, max_depth_m)


def depth_errors(truth: Depth, predicted: Floats) -> Floats:
    """What is summed, (`SUMS`, N), of N true and aligned predicted depths; the first row is 1."""
    t, p = truth.astype(np.float64), predicted.astype(np.float64)
    log, ratio = np.log(p / t), np.maximum(p / t, t / p)
    deltas = [(ratio < DELTA**n).astype(np.float64) for n in (1, 2, 3)]
    return np.stack([np.ones_like(t), np.abs(p - t) / t, (p - t) ** 2, log**2, log, *deltas])


def depth_scores(sums: Floats) -> Mapping[str, Floats]:
    """The scores of sums (..., `SUMS`), shape (...); NaN where nothing was summed.

    `abs_rel`, `rmse_m`, `log_rmse`, `silog`, `delta_1`, `delta_2`, `delta_3`.
    """
    weight = sums[..., 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = sums / np.where(weight > 0, weight, np.nan)[..., None]
    variance = np.maximum(mean[..., 3] - mean[..., 4] ** 2, 0)
    return {
        "abs_rel": mean[..., 1],
        "rmse_m": np.sqrt(mean[..., 2]),
        "log_rmse": np.sqrt(mean[..., 3]),
        "silog": np.sqrt(variance),
        "delta_1": mean[..., 5],
        "delta_2": mean[..., 6],
        "delta_3": mean[..., 7],
    }
