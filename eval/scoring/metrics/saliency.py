"""Scores of saliency maps, as the PAV-SOD papers report them: MAE, S-measure, E-measure, F_β.

A prediction is a float H×W map, the truth a binary mask. `mae` takes the map as it is, in [0, 1];
the others stretch it to [0, 1] first, as the evaluator of ruohaoguo/pavsodr (`test/evaluator.py`)
does. Curves over its 255 thresholds come from one sort of the map. At a threshold everything
follows from how many pixels of each kind are above it: a 4K map takes one pass instead of 255.

The evaluator is followed but where it has no answer. The standard deviation of an object of one
pixel is NaN there and 0 here. Where an object's centroid rounds to the first row or column, it
multiplies an empty block's NaN by 0; here such a block counts 0. E-measure with an empty or a full
truth is ¼ there for any prediction; mode `official` keeps that, mode `paper` has the definition of
Fan et al. (IJCAI 2018): the share of pixels that agree.
"""

from typing import Literal

import numpy as np

from panoforge.core.types import Bools, Floats

BETA2 = 0.3
THRESHOLDS = np.linspace(0, 1 - 1e-10, 255)
TINY = 1e-20


def mae(predicted: Floats, true: Bools) -> float:
    """Mean absolute error."""
    return float(np.abs(predicted - true).mean(dtype=np.float64))


def f_curve(predicted: Floats, true: Bools) -> Floats:
    """F_β with β² = 0.3 at each of THRESHOLDS, (255,).

    Its maximum and mean are maxF and meanF of one image; of a data set they are those of the mean
    curve.
    """
    hits, false = _above(predicted, true)
    precision, recall = hits / (hits + false + TINY), hits / (np.count_nonzero(true) + TINY)
    down = BETA2 * precision + recall
    return np.divide(
        (1 + BETA2) * precision * recall, down, out=np.zeros_like(down), where=down > 0
    )


def e_curve(
    predicted: Floats, true: Bools, mode: Literal["official", "paper"] = "official"
) -> Floats:
    """E-measure at each of THRESHOLDS, (255,).

    The mean over pixels of ((1 + alignment)/2)², alignment being 2ab/(a² + b²) of both maps less
    their means.
    """
    hits, false = _above(predicted, true)
    n, n_true = true.size, np.count_nonzero(true)
    if mode == "paper" and n_true in (0, n):
        return (hits if n_true else n - false) / max(n - 1, 1)
    mean, true_mean = (hits + false) / n, n_true / n

    def enhanced(above: float, inside: float) -> Floats:
        a, b = above - mean, inside - true_mean
        return (2 * a * b / (a * a + b * b + TINY) + 1) ** 2 / 4

    missed, rest = n_true - hits, n - n_true - false
    total = (
        hits * enhanced(1, 1)
        + false * enhanced(1, 0)
        + missed * enhanced(0, 1)
        + rest * enhanced(0, 0)
    )
    return total / max(n - 1, TINY)


def s_measure(predicted: Floats, true: Bools) -> float:
    """Structure measure (Fan et al., ICCV 2017) with α = 0.5.

    Half object, half region; at least 0.
    """
    stretched, share = _stretch(predicted), float(true.mean())
    if share in (0.0, 1.0):
        return float(stretched.mean() if share else 1 - stretched.mean())
    object_ = share * _object(stretched[true]) + (1 - share) * _object(1 - stretched[~true])
    return max(0.0, 0.5 * object_ + 0.5 * _region(stretched, true))


def _stretch(predicted: Floats) -> Floats:
    low, high = float(predicted.min()), float(predicted.max())
    return (predicted.astype(np.float64) - low) / (high - low + TINY)


def _above(predicted: Floats, true: Bools) -> tuple[Floats, Floats]:
    """How many true and how many other pixels are at or above each threshold, (255,) each."""
    stretched = _stretch(predicted)
    counts = (
        part.size - np.searchsorted(np.sort(part), THRESHOLDS, side="left")
        for part in (stretched[true], stretched[~true])
    )
    hits, false = (count.astype(np.float64) for count in counts)
    return hits, false


def _object(values: Floats) -> float:
    mean = values.mean()
    spread = values.std(ddof=1) if values.size > 1 else 0.0
    return float(2 * mean / (mean * mean + 1 + spread + TINY))


def _region(predicted: Floats, true: Bools) -> float:
    """SSIM of the four blocks around the truth's centroid, each weighing its area."""
    height, width = true.shape
    v, u = (int(np.rint(index.mean())) for index in np.nonzero(true))
    total = 0.0
    for rows in (slice(0, v), slice(v, height)):
        for columns in (slice(0, u), slice(u, width)):
            block = true[rows, columns]
            if block.size:
                total += block.size / true.size * _ssim(predicted[rows, columns], block)
    return total


def _ssim(predicted: Floats, true: Bools) -> float:
    x, y = float(predicted.mean()), float(true.mean())
    dx, dy, down = predicted - x, true - y, true.size - 1 + TINY
    above = 4 * x * y * float((dx * dy).sum()) / down
    below = (x * x + y * y) * float((dx * dx).sum() + (dy * dy).sum()) / down
    if above:
        return above / (below + TINY)
    return 0.0 if below else 1.0
