"""Average precision of scored masks, as COCO defines it, from IoU alone.

Takes, per panorama, the scores of the predictions (D,) and their IoU with the instances (D, G).
How that IoU was made (planar, cos φ-weighted, on the sphere) is all one. Gives AP at each IoU
threshold.
Matching is COCO's: within a panorama predictions choose in order of their score, each the free
instance it overlaps most; precision is made monotone and read off at 101 recalls. Equal to
pycocotools with `area` all, no crowds and at most 100 predictions a panorama.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from panoforge.core.types import Floats

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
MAX_PREDICTIONS = 100


def average_precision(
    images: Sequence[tuple[Floats, Floats]],
    thresholds: Floats = IOU_THRESHOLDS,
    max_predictions: int = MAX_PREDICTIONS,
) -> Floats:
    """AP at each IoU threshold, (T,), of panoramas given as (scores (D,), iou (D, G)).

    Their mean is COCO's AP, the first is AP50. NaN where there are no instances at all.
    """
    scores, hits, instances = [], [], 0
    for score, iou in images:
        if iou.shape[0] != len(score):
            raise ValueError(
                f"one row of IoU per prediction: got {len(score)} scores and IoU of shape"
                f" {iou.shape}"
            )
        order = np.argsort(-np.asarray(score, np.float64), kind="stable")[:max_predictions]
        scores.append(np.asarray(score, np.float64)[order])
        hits.append(np.stack([_match(iou[order], threshold) for threshold in thresholds]))
        instances += iou.shape[1]
    if not instances:
        return np.full(len(thresholds), np.nan)
    order = np.argsort(-np.concatenate(scores), kind="stable")
    return np.array([_area(hit[order], instances) for hit in np.concatenate(hits, axis=1)])


def _match(iou: Floats, threshold: float) -> NDArray[np.bool_]:
    """Which predictions, best first, find an instance at that IoU."""
    free, hit = np.ones(iou.shape[1], bool), np.zeros(len(iou), bool)
    if not iou.shape[1]:
        return hit
    for k, row in enumerate(iou):
        open_ = np.where(free, row, -1.0)
        best = len(row) - 1 - int(open_[::-1].argmax())  # of equals COCO takes the last
        if open_[best] >= min(threshold, 1 - 1e-10):
            free[best], hit[k] = False, True
    return hit


def _area(hit: NDArray[np.bool_], instances: int) -> float:
    """Area under the interpolated precision-recall curve."""
    found = np.cumsum(hit)
    precision = found / np.arange(1, len(hit) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(found / instances, RECALLS, side="left")
    return float(
        np.where(at < len(hit), np.append(envelope, 0.0)[np.minimum(at, len(hit))], 0.0).mean()
    )
