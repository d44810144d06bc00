"""Masks on the sphere: how much they cover and share, and where they lie.

Shares are of solid angle, so that a cap at a pole weighs what it is and not what it looks like.
"""

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from panoforge.core.geometry.sphere import (
    direction_to_lonlat,
    pixel_to_direction,
    row_area_sr,
)
from panoforge.core.sample.label_maps import Box, instance_stats
from panoforge.core.types import Floats, Labels, Mask, Rgb

COLOUR_BINS = 4  # of each channel


def areas_sr(masks: Sequence[Mask]) -> Floats:
    """The solid angle of each bool H×W mask, (N,), in steradians."""
    if not len(masks):
        return np.zeros(0)
    height, width = masks[0].shape
    return np.array([np.count_nonzero(mask, axis=1) for mask in masks]) @ row_area_sr(width, height)


def shared_sr(some: Sequence[Mask], others: Sequence[Mask]) -> Floats:
    """What each of A masks has in common with each of B, (A, B), in steradians.

    As a product of sparse matrices: the time is that of the pixels in masks, not of A·B frames.
    """
    if not len(some) or not len(others):
        return np.zeros((len(some), len(others)))
    height, width = some[0].shape
    weight = np.repeat(row_area_sr(width, height), width)
    both = _sparse(some, weight) @ _sparse(others, None).T
    return np.asarray(both.toarray())


def _sparse(masks: Sequence[Mask], weight: Floats | None) -> sparse.csr_matrix:
    at = [np.flatnonzero(mask) for mask in masks]
    columns = np.concatenate(at)
    values = np.ones(columns.size) if weight is None else weight[columns]
    ends = np.cumsum([0, *(one.size for one in at)])
    return sparse.csr_matrix((values, columns, ends), shape=(len(masks), masks[0].size))


def ious(some: Sequence[Mask], others: Sequence[Mask]) -> Floats:
    """IoU by solid angle of each of A masks with each of B, (A, B); 0 where both are empty."""
    both = shared_sr(some, others)
    either = areas_sr(some)[:, None] + areas_sr(others)[None] - both
    return np.divide(both, either, out=np.zeros_like(both), where=either > 0)


def shifted(mask: Mask, columns: int, rows: int) -> Mask:
    """A mask moved right and down: columns wrap, what passes a pole is gone."""
    moved = np.roll(mask, columns, axis=1)
    if rows:
        moved = np.roll(moved, rows, axis=0)
        moved[slice(0, rows) if rows > 0 else slice(rows, None)] = False
    return moved


def box_of(mask: Mask) -> Box:
    """The smallest box on the cylinder of a mask that is not empty."""
    return instance_stats(mask.astype(np.uint16)).box(0)


def middle_deg(mask: Mask) -> tuple[float, float]:
    """Longitude and latitude of a mask's middle by solid angle, in degrees."""
    height, width = mask.shape
    at = np.flatnonzero(mask)
    at = at[:: max(1, at.size // 20_000)]
    weight = row_area_sr(width, height)[at // width]
    total = (pixel_to_direction(at % width, at // width, width, height) * weight[:, None]).sum(0)
    lon, lat = direction_to_lonlat(total / max(float(np.linalg.norm(total)), 1e-12))
    return float(np.degrees(lon)), float(np.degrees(lat))


def on_seam(mask: Mask, share: float = 1 / 16) -> bool:
    """Whether a mask reaches into the first or the last `share` of the columns."""
    edge = max(1, round(mask.shape[1] * share))
    return bool(mask[:, :edge].any() or mask[:, -edge:].any())


def ids_in(labels: Labels) -> list[int]:
    """The ids of a label map, ascending, without 0."""
    counts = np.bincount(labels.ravel(), minlength=1)
    return [int(k) for k in np.flatnonzero(counts) if k]


def stacked(masks: Sequence[Mask]) -> Labels:
    """One map of masks that may overlap: id k + 1 is the k-th, the smaller one on top."""
    labels = np.zeros(masks[0].shape, np.uint16)
    for k in np.argsort(-areas_sr(masks), kind="stable"):
        labels[masks[k]] = k + 1
    return labels


def colours_of(rgb: Rgb, mask: Mask) -> Floats:
    """The histogram of a mask's colours, (64,), summing to 1; zeros where it is empty."""
    pixels = rgb[mask]
    if not len(pixels):
        return np.zeros(COLOUR_BINS**3)
    bins = (pixels >> 6).astype(np.int64) @ np.array([16, 4, 1])
    found = np.bincount(bins, minlength=COLOUR_BINS**3)
    return found / found.sum()


def alike(some: Floats, others: Floats) -> float:
    """What two histograms have in common, in [0, 1] (Swain and Ballard 1991)."""
    return float(np.minimum(some, others).sum())
