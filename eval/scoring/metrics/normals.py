"""Scores of normals: mean, median and RMS angle to the truth, and shares under 5° to 30°.

Normals are directions of any length, truth and prediction in one frame: the scores know none. Dense
evaluations give those of the upright camera (x right, y forward, z up). A pixel counts where the
truth has one (is not the zero vector). A prediction without one there is 180° off.

Scores are functions of sums. The median of several panoramas together comes from a histogram of
`BIN_DEG`, linear within a bin: it is right to half a bin. The medians of single panoramas are
exact (`median_angle_deg`).
"""

from collections.abc import Mapping

import numpy as np

from panoforge.core.types import Bools, Floats, Normals

SHARES_DEG = (5.0, 11.25, 22.5, 30.0)
BIN_DEG = 0.1
BINS = round(180 / BIN_DEG)
# What is summed over pixels: their weight, the angle, its square, the shares, and the histogram.
SUMS = 3 + len(SHARES_DEG) + BINS


def counted_normals(truth: Normals) -> Bools:
    """Where the true normals H×W×3 count, bool H×W."""
    return (truth != 0).any(axis=-1)


def angles_deg(truth: Normals, predicted: Normals) -> Floats:
    """Angles in degrees (N,) of N×3 directions, accurate for small ones; 180 without a prediction.

    All truths must count.
    """
    t, p = truth.astype(np.float64), predicted.astype(np.float64)
    cross, dot = np.linalg.norm(np.cross(t, p), axis=-1), np.sum(t * p, axis=-1)
    return np.where((p != 0).any(axis=-1), np.degrees(np.arctan2(cross, dot)), 180.0)


def normal_sums(angles: Floats, weight: Floats) -> Floats:
    """What is summed, (`SUMS`,), of angles in degrees (N,) that weigh `weight` (N,)."""
    bins = np.minimum((angles / BIN_DEG).astype(np.int64), BINS - 1)
    return np.concatenate(
        [
            [weight.sum(), weight @ angles, weight @ angles**2],
            [weight[angles < share].sum() for share in SHARES_DEG],
            np.bincount(bins, weight, minlength=BINS),
        ]
    )


def median_angle_deg(angles: Floats, weight: Floats) -> float:
    """The angle that half of the weight is at or below; NaN of none."""
    if not angles.size or not weight.sum() > 0:
        return float("nan")
    order = np.argsort(angles, kind="stable")
    reached = np.cumsum(weight[order])
    half = reached[-1] / 2
    first = int(np.searchsorted(reached, half * (1 - 1e-12)))
    found = float(angles[order[first]])
    if reached[first] > half * (1 + 1e-12) or first + 1 == len(order):
        return found
    return (found + float(angles[order[first + 1]])) / 2  # half lies between two pixels


def normal_scores(sums: Floats) -> Mapping[str, Floats]:
    """The scores of sums (..., `SUMS`), shape (...); NaN where nothing was summed.

    `mean_deg`, `median_deg`, `rms_deg`, `under_5`, `under_11_25`, `under_22_5`, `under_30`.
    """
    weight = sums[..., 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = sums[..., 1 : 3 + len(SHARES_DEG)] / np.where(weight > 0, weight, np.nan)[..., None]
    names = [f"under_{share:g}".replace(".", "_") for share in SHARES_DEG]
    return {
        "mean_deg": mean[..., 0],
        "median_deg": _median_of_histogram(sums[..., 3 + len(SHARES_DEG) :], weight),
        "rms_deg": np.sqrt(mean[..., 1]),
        **{name: mean[..., 2 + k] for k, name in enumerate(names)},
    }


def _median_of_histogram(histogram: Floats, weight: Floats) -> Floats:
    """Medians (...) of histograms (..., BINS)."""
    reached = np.cumsum(histogram, axis=-1)
    half = reached[..., -1:] / 2
    first = np.argmax(reached >= half, axis=-1)[..., None]
    own = np.take_along_axis(histogram, first, -1)
    before = np.take_along_axis(reached, first, -1) - own
    with np.errstate(invalid="ignore", divide="ignore"):
        inside = np.where(own > 0, (half - before) / np.where(own > 0, own, 1), 0)
    return np.where(weight > 0, ((first + inside) * BIN_DEG)[..., 0], np.nan)
