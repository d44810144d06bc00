"""Scores of class maps: mean IoU and accuracies from one confusion matrix.

A confusion matrix is float64 (C, C + 1). Entry [t, p] is how much of true class t was called p;
the last column is what was called nothing. Pixels whose truth is void count nowhere. Matrices of
several panoramas are added and scored once: mIoU is of all pixels together, not a mean over
panoramas. Classes that neither truth nor prediction has anywhere are left out of means, as
torchmetrics and mmsegmentation leave them out.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from panoforge.core.types import Bools, Floats


def confusion(
    truth: NDArray[np.uint8],
    predicted: NDArray[np.uint8],
    classes: int,
    *,
    row_weight: Floats | None = None,
    where: Bools | None = None,
) -> Floats:
    """The confusion matrix (C, C + 1) of two class maps uint8 H×W.

    Args:
        truth: True classes; what is not below `classes` is void.
        predicted: Predicted classes; what is not below `classes` is no answer.
        classes: How many classes there are, C.
        row_weight: What a pixel of each row weighs, (H,), e.g. its solid angle; without it, 1.
        where: The pixels that count, bool H×W; without it all.
    """
    counts = truth < classes
    if where is not None:
        counts &= where
    called = np.minimum(predicted, classes).astype(np.int64)
    cells = truth.astype(np.int64) * (classes + 1) + called
    weights = None
    if row_weight is not None:
        weights = np.broadcast_to(row_weight[:, None], truth.shape)[counts]
    found = np.bincount(cells[counts], weights, minlength=classes * (classes + 1))
    return found.astype(np.float64).reshape(classes, classes + 1)


def class_ious(matrix: Floats) -> Floats:
    """The IoU of each class, (..., C) of matrices (..., C, C + 1); NaN for classes nobody has."""
    hit = np.diagonal(matrix, axis1=-2, axis2=-1)
    either = matrix.sum(-1) + matrix[..., :-1].sum(-2) - hit
    with np.errstate(invalid="ignore"):
        return np.where(either > 0, hit / np.where(either > 0, either, 1), np.nan)


def semantic_scores(matrix: Floats) -> Mapping[str, float]:
    """`miou`, `pixel_accuracy` and `class_accuracy` (the mean over true classes) of a matrix.

    NaN where nothing was scored.
    """
    hit, true = np.diagonal(matrix), matrix.sum(1)
    there = true > 0
    if not there.any():
        return dict.fromkeys(("miou", "pixel_accuracy", "class_accuracy"), float("nan"))
    return {
        "miou": float(np.nanmean(class_ious(matrix))),
        "pixel_accuracy": float(hit.sum() / true.sum()),
        "class_accuracy": float(np.mean(hit[there] / true[there])),
    }
