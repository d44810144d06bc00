"""Region similarity J: intersection over union per instance.

Plain, and weighted by the area that a pixel covers.

Everything is computed from counts per row (`RowCounts`), which are exact integers. A pixel's weight
depends on its row only (cos φ), so one pass over the pixels serves every weighting. Two
empty masks agree: IoU 1. Rows near the poles hold as many pixels as the equator and almost no area,
so the plain and the cos φ-weighted score differ where it matters.

Bits stay bits: a predicted mask is counted 16 pixels at a time, and compared with the truth inside
its own extent only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from panoforge.core.geometry.sphere import row_cos_lat
from panoforge.core.sample.label_maps import label_runs
from panoforge.core.types import Ints
from panoforge.eval.masks import Masks

_BYTE_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(
    axis=1, dtype=np.uint8
)
_WORD_BITS = (_BYTE_BITS[:, None] + _BYTE_BITS[None, :]).ravel()


@dataclass(frozen=True)
class RowCounts:
    """Pixels per mask and row: of the prediction, of the truth, of both. Each int64 N×H."""

    predicted: Ints
    true: Ints
    both: Ints

    @property
    def height(self) -> int:
        """Rows of the panorama."""
        return self.true.shape[1]


def row_counts(masks: Masks, labels: NDArray[np.uint16], ids: Sequence[int]) -> RowCounts:
    """Count mask k of `masks` against instance `ids[k]` of the uint16 H×W label map."""
    true = _instance_rows(labels, ids)
    predicted, both = np.zeros_like(true), np.zeros_like(true)
    for k, id_ in enumerate(ids):
        rows, bytes_ = masks.extent(k)
        if rows is None:
            continue
        bits = masks.packed[k, rows, bytes_]
        predicted[k, rows] = _count_bits(bits)
        common = np.flatnonzero(true[k, rows])
        if common.size:
            inside = slice(int(common[0]), int(common[-1]) + 1)
            band = slice(rows.start + inside.start, rows.start + inside.stop)
            truth = labels[band, 8 * bytes_.start : 8 * bytes_.stop] == id_
            both[k, band] = _count_bits(np.packbits(truth, axis=1) & bits[inside])
    return RowCounts(predicted, true, both)


def best_overlaps(
    masks: Masks, labels: NDArray[np.uint16], ids: Sequence[int]
) -> tuple[Ints, NDArray[np.float64]]:
    """Which of the instances `ids` each mask overlaps most, by IoU, and how much.

    Ids (N,), 0 where it meets none, and IoU (N,). Instances of a label map are disjoint, so no mask
    has an IoU above ½ with any other: all that average precision needs.
    """
    area = np.bincount(labels.ravel(), minlength=65536)
    wanted = np.zeros(65536, bool)
    wanted[list(ids)] = True
    wanted[0] = False
    best, overlap = np.zeros(len(masks), np.int64), np.zeros(len(masks))
    for k in range(len(masks)):
        rows, bytes_ = masks.extent(k)
        if rows is None:
            continue
        mask = np.unpackbits(masks.packed[k, rows, bytes_], axis=1).view(bool)
        there = labels[rows, 8 * bytes_.start : 8 * bytes_.stop]
        both = np.bincount(there[mask[:, : there.shape[1]]], minlength=65536) * wanted
        met = np.flatnonzero(both)
        if met.size:
            values = both[met] / (np.count_nonzero(mask) + area[met] - both[met])
            best[k], overlap[k] = met[values.argmax()], values.max()
    return best, overlap


def _instance_rows(labels: NDArray[np.uint16], ids: Sequence[int]) -> Ints:
    """Pixels of each id in each row, int64 N×H."""
    runs, height = label_runs(labels), labels.shape[0]
    index = np.full(int(max(labels.max(), max(ids, default=0))) + 1, -1)
    wanted, position = np.unique(np.asarray(ids, np.int64), return_inverse=True)
    index[wanted] = np.arange(wanted.size)
    which = index[runs.id]
    kept = which >= 0
    found = np.bincount(
        which[kept] * height + runs.row[kept], runs.length[kept], wanted.size * height
    )
    return found.astype(np.int64).reshape(-1, height)[position].reshape(len(ids), height)


def _count_bits(bits: NDArray[np.uint8]) -> Ints:
    """Set bits per row of uint8 R×B."""
    if bits.shape[1] % 2:
        bits = np.pad(bits, ((0, 0), (0, 1)))
    return _WORD_BITS[np.ascontiguousarray(bits).view(np.uint16)].sum(axis=1, dtype=np.int64)


def iou(
    counts: RowCounts, *, cos_weighted: bool = False, row_weight: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """IoU of every mask, (N,).

    Σ w·|both| / Σ w·|either| over rows with w = 1, cos φ, or `row_weight` (H,). 1 where both masks
    are empty.
    """
    weight = row_cos_lat(counts.height) if cos_weighted else np.ones(counts.height)
    if row_weight is not None:
        weight = row_weight
    both = counts.both @ weight
    either = (counts.predicted + counts.true - counts.both) @ weight
    return np.where(either > 0, both / np.where(either > 0, either, 1), 1.0)


def jaccard(predicted: NDArray[np.bool_], true: NDArray[np.bool_]) -> float:
    """J of two bool masks of one shape, as DAVIS has it.

    |both| / |either|, 1 where both are empty.
    """
    either = np.count_nonzero(predicted | true)
    return float(np.count_nonzero(predicted & true) / either) if either else 1.0


def miou(ious: Sequence[float]) -> float | None:
    """Mean over instances. None, not a number, when there are none."""
    return float(np.mean(ious)) if len(ious) else None


def miou_by_image(ious: Sequence[float], keys: Sequence[str]) -> float | None:
    """Mean over panoramas of the mean over their instances: every panorama counts the same.

    None when there are none.
    """
    of_key: dict[str, list[float]] = {}
    for value, key in zip(ious, keys, strict=True):
        of_key.setdefault(key, []).append(value)
    return miou([float(np.mean(values)) for values in of_key.values()])
