"""Scores of masks on a panorama: intersection over union per instance, plain and weighted by the area a pixel covers.

Everything is computed from counts per row (`RowCounts`): a pixel's weight depends on its row only (cos φ), so one pass
over the pixels serves every weighting, and counts are exact integers. Two empty masks agree: IoU 1. Rows near the poles
hold as many pixels as the equator and almost no area, so the plain and the cos φ-weighted score differ where it matters.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.merge import Masks
from pano.sphere import row_cos_lat

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class RowCounts:
    """Pixels per mask and row: of the prediction, of the truth, of both. Each int64 N×H."""

    predicted: Counts
    true: Counts
    both: Counts

    @property
    def height(self) -> int:
        return self.true.shape[1]


def row_counts(masks: Masks, labels: NDArray[np.uint16], ids: Sequence[int]) -> RowCounts:
    """Count mask k of `masks` against instance `ids[k]` of the label map."""
    n, height = len(masks), labels.shape[0]
    predicted, true, both = (np.zeros((n, height), np.int64) for _ in range(3))
    for k, id_ in enumerate(ids):
        rows = np.flatnonzero(masks.packed[k].any(axis=1))
        truth = labels == id_
        true[k] = np.count_nonzero(truth, axis=1)
        if rows.size:
            band = slice(int(rows[0]), int(rows[-1]) + 1)
            mask = np.unpackbits(masks.packed[k, band], axis=1, count=labels.shape[1]).view(bool)
            predicted[k, band] = np.count_nonzero(mask, axis=1)
            both[k, band] = np.count_nonzero(mask & truth[band], axis=1)
    return RowCounts(predicted, true, both)


def iou(counts: RowCounts, *, cos_weighted: bool = False) -> NDArray[np.float64]:
    """IoU of every mask, (N,): Σ w·|both| / Σ w·|either| over rows with w = 1 or cos φ. 1 where both masks are empty."""
    weight = row_cos_lat(counts.height) if cos_weighted else np.ones(counts.height)
    both = counts.both @ weight
    either = (counts.predicted + counts.true - counts.both) @ weight
    return np.where(either > 0, both / np.where(either > 0, either, 1), 1.0)


def miou(ious: Sequence[float]) -> float | None:
    """Mean over instances. None, not a number, when there are none."""
    return float(np.mean(ious)) if len(ious) else None


def miou_by_image(ious: Sequence[float], keys: Sequence[str]) -> float | None:
    """Mean over panoramas of the mean over their instances: every panorama counts the same. None when there are none."""
    of_key: dict[str, list[float]] = {}
    for value, key in zip(ious, keys, strict=True):
        of_key.setdefault(key, []).append(value)
    return miou([float(np.mean(values)) for values in of_key.values()])
