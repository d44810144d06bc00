"""Boundary F of DAVIS (Perazzi et al., CVPR 2016): how much of two outlines lies near the other.

A mask's boundary is one pixel wide: pixels that differ from their right, lower or lower right
neighbour (`seg2bmap`). A boundary pixel is matched if the other boundary comes within r = ⌈0.008 ·
image diagonal⌉ pixels. Precision and recall are the matched shares of both outlines, F their
harmonic mean.

The toolkit dilates full frames with a disk of radius r: 4,300 operations on each of 8 million
pixels at 4K. Here the boundary is taken inside the mask's crop. Pixels on both outlines are matched
at once, and the rest ask a k-d tree of the other outline. The integers are the same, and so is F,
to the last bit in mode `official`. In mode `seam-aware` columns are a circle, for the neighbours
and for the distance; `official` sees an edge of the image there, and an outline that ends at it.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from panoforge.core.types import Bools, Ints
from panoforge.eval.masks import Masks
from panoforge.eval.scoring.metrics.crops import Crop, crop_bits, crop_instances, crop_mask
from panoforge.eval.scoring.metrics.region import jaccard

Mode = Literal["official", "seam-aware"]
TOLERANCE = 0.008  # of the image diagonal; a tolerance of 1 or more is a number of pixels


@dataclass(frozen=True)
class Matched:
    """Boundary pixels of the prediction and of the truth.

    The row of each, and whether the other boundary is near it.
    """

    predicted_row: Ints
    predicted_hit: Bools
    true_row: Ints
    true_hit: Bools


def boundary_f(
    predicted: Bools, true: Bools, mode: Mode = "seam-aware", *, tolerance: float = TOLERANCE
) -> float:
    """F of two bool H×W masks."""
    wrap = mode == "seam-aware"
    a, b = (crop_mask(mask, wrap=wrap) for mask in (predicted, true))
    height, width = true.shape
    return f_measure(match_boundaries(a, b, height, width, mode, tolerance=tolerance))


def boundary_f_scores(
    masks: Masks,
    labels: NDArray[np.uint16],
    ids: Sequence[int],
    mode: Mode = "seam-aware",
    *,
    tolerance: float = TOLERANCE,
) -> NDArray[np.float64]:
    """F of mask k of `masks` against instance `ids[k]` of the uint16 H×W label map, (N,)."""
    return np.array(
        [
            f_measure(matched)
            for matched in match_instances(masks, labels, ids, mode, tolerance=tolerance)
        ],
        np.float64,
    )


def match_instances(
    masks: Masks,
    labels: NDArray[np.uint16],
    ids: Sequence[int],
    mode: Mode = "seam-aware",
    *,
    tolerance: float = TOLERANCE,
) -> Iterator[Matched]:
    """The matched boundaries of mask k and instance `ids[k]`, one after the other.

    `f_measure` makes F of them, and F_sphere.
    """
    (height, width), wrap = labels.shape, mode == "seam-aware"
    for k, true in enumerate(crop_instances(labels, ids, wrap=wrap)):
        predicted = crop_bits(masks.packed[k], width, wrap=wrap, extent=masks.extent(k))
        yield match_boundaries(predicted, true, height, width, mode, tolerance=tolerance)


def tolerance_px(tolerance: float, height: int, width: int) -> float:
    """The radius r in pixels."""
    return tolerance if tolerance >= 1 else math.ceil(tolerance * math.hypot(height, width))


def match_boundaries(
    predicted: Crop,
    true: Crop,
    height: int,
    width: int,
    mode: Mode = "seam-aware",
    *,
    tolerance: float = TOLERANCE,
) -> Matched:
    """Match the boundaries of two masks of an H×W panorama.

    They are cropped with `wrap` where the mode is `seam-aware`.
    """
    wrap = mode == "seam-aware"
    p, t = (boundary_pixels(crop, height, width, wrap=wrap) for crop in (predicted, true))
    radius = tolerance_px(tolerance, height, width)
    return Matched(
        p // width, _near(p, t, width, radius, wrap), t // width, _near(t, p, width, radius, wrap)
    )


def boundary_pixels(crop: Crop, height: int, width: int, *, wrap: bool) -> Ints:
    """The boundary of a mask as flat pixel indices v·W + u, (P,), each once.

    The boundary is half a pixel up and left of the true outline, so it begins one row and one
    column before the mask.
    """
    if not crop.mask.size:
        return np.zeros(0, np.int64)
    rows, columns = crop.mask.shape
    circle = wrap and columns == width
    around = np.zeros((rows + 2, columns + 2), bool)
    around[1:-1, 1:-1] = crop.mask
    if circle:
        around[1:-1, -1] = crop.mask[:, 0]
    here, right, down = around[:-1, :-1], around[:-1, 1:], around[1:, :-1]
    found = here ^ right
    bottom, at_edge = crop.v0 + rows == height, not wrap and crop.u0 + columns == width
    last_row = found[-1].copy()
    found |= here ^ down
    last_column = (here ^ down)[:, -1] if at_edge else None
    found |= here ^ around[1:, 1:]
    if bottom:  # nothing is below the last row: not even a boundary
        found[-1] = last_row
    if last_column is not None:
        found[:, -1] = last_column
        found[-1, -1] &= not bottom
    if crop.v0 == 0:
        found[0] = False
    if circle or (not wrap and crop.u0 == 0):
        found[:, 0] = False
    v, u = np.divmod(np.flatnonzero(found), columns + 1)
    return (v + crop.v0 - 1) * width + (u + crop.u0 - 1) % width


def _near(points: Ints, others: Ints, width: int, radius: float, wrap: bool) -> Bools:
    """Whether each pixel of `points` is within `radius` pixels of one of `others`."""
    if not points.size or not others.size:
        return np.zeros(points.size, bool)
    hit = np.isin(points, others)
    rest = np.flatnonzero(~hit)
    if rest.size:
        tree = cKDTree(
            _places(others, width),
            boxsize=[0, width] if wrap else None,
            balanced_tree=False,
            compact_nodes=False,
        )
        # Squared distances are integers: r and the next possible distance are 1/(2r) apart.
        bound = radius + 1 / (4 * radius + 4)
        hit[rest] = np.isfinite(
            tree.query(_places(points[rest], width), distance_upper_bound=bound)[0]
        )
    return hit


def _places(points: Ints, width: int) -> NDArray[np.float64]:
    return np.stack(np.divmod(points, width), axis=-1).astype(np.float64)


def f_measure(matched: Matched, row_weight: NDArray[np.float64] | None = None) -> float:
    """2PR/(P+R), every boundary pixel weighing 1 or its row's `row_weight` (H,).

    One outline empty: F = 0; both: F = 1.
    """
    n_predicted, n_true = matched.predicted_row.size, matched.true_row.size
    if not n_predicted or not n_true:
        return float(n_predicted == n_true)
    precision = _share(matched.predicted_row, matched.predicted_hit, row_weight)
    recall = _share(matched.true_row, matched.true_hit, row_weight)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _share(row: Ints, hit: Bools, row_weight: NDArray[np.float64] | None) -> float:
    if row_weight is None:
        return float(np.count_nonzero(hit) / float(hit.size))
    weight = row_weight[row]
    return float(weight[hit].sum() / weight.sum())


def j_and_f(predicted: Bools, true: Bools, mode: Mode = "seam-aware") -> float:
    """J&F of two bool H×W masks: the mean of region similarity and boundary F."""
    return (jaccard(predicted, true) + boundary_f(predicted, true, mode)) / 2
