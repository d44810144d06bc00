"""Label maps: per-instance statistics, wrap-aware boxes and COCO RLE.

All from runs of equal labels.

Takes an H×W uint16 label map (0 = nothing). Gives, per id: pixels, solid angle, the smallest box on
the cylinder (it may cross the seam), seam and pole flags, and COCO RLE. Everything is computed in
one vectorised pass over the runs, ~1 % as many as pixels. A loop per id over full frames is
hundreds of times slower at 4K.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from panoforge.core.geometry.sphere import row_area_sr
from panoforge.core.numbers import counted
from panoforge.core.types import Labels


@dataclass(frozen=True)
class Box:
    """Columns [u0, u0+width) taken modulo W, rows [v0, v0+height).

    u0 is in [0, W); u0 + width > W crosses the seam.
    """

    u0: int
    v0: int
    width: int
    height: int


@dataclass(frozen=True)
class InstanceStats:
    """Parallel arrays over the ids present, ascending. Shapes (N,)."""

    ids: NDArray[np.int64]
    pixels: NDArray[np.int64]
    area_sr: NDArray[np.float64]
    u0: NDArray[np.int64]
    v0: NDArray[np.int64]
    width: NDArray[np.int64]
    height: NDArray[np.int64]
    seam: NDArray[np.bool_]  # touches both the first and the last column
    pole: NDArray[np.bool_]  # touches the first or the last row

    def box(self, index: int) -> Box:
        """The box of the instance at `index`, which may wrap."""
        return Box(
            int(self.u0[index]),
            int(self.v0[index]),
            int(self.width[index]),
            int(self.height[index]),
        )


@dataclass(frozen=True)
class Runs:
    """Maximal runs of one non-zero id within a row, in raster order.

    Row, first column, length, id, each (R,).
    """

    row: NDArray[np.int64]
    start: NDArray[np.int64]
    length: NDArray[np.int64]
    id: NDArray[np.int64]


def check_labels(labels: NDArray) -> None:
    """Raise ValueError unless `labels` is a non-empty H×W uint16 array."""
    if labels.ndim != 2 or labels.dtype != np.uint16 or not labels.size:
        raise ValueError(
            f"a label map is a non-empty H×W uint16 array, got {labels.dtype} {labels.shape}"
        )


def label_runs(labels: Labels) -> Runs:
    """The runs of a label map, background left out."""
    check_labels(labels)
    width = labels.shape[1]
    flat = np.ascontiguousarray(labels).ravel()
    begins = np.empty(flat.size, bool)
    np.not_equal(flat[1:], flat[:-1], out=begins[1:])
    begins[::width] = True
    at = np.flatnonzero(begins)
    ids = flat[at].astype(np.int64)
    length = np.diff(at, append=flat.size)
    if not ids.all():
        keep = np.flatnonzero(ids)
        at, ids, length = at[keep], ids[keep], length[keep]
    row = at // width
    return Runs(row, at - row * width, length, ids)


def instance_stats(labels: Labels) -> InstanceStats:
    """Statistics of every id in the map.

    Steradians are exact pixel solid angles (`panoforge.core.geometry.sphere.row_area_sr`).
    """
    height, width = labels.shape
    runs = label_runs(labels)
    if not runs.id.size:
        none = np.zeros(0, np.int64)
        return InstanceStats(
            none, none, np.zeros(0), none, none, none, none, np.zeros(0, bool), np.zeros(0, bool)
        )
    order = _by_id_and_start(runs)
    id_, start, length, row = runs.id[order], runs.start[order], runs.length[order], runs.row[order]
    first = np.flatnonzero(np.diff(id_, prepend=-1))
    u0, box_width, seam = _cylinder_extent(id_, start, start + length, first, width)
    v0, v1 = np.minimum.reduceat(row, first), np.maximum.reduceat(row, first) + 1
    return InstanceStats(
        ids=id_[first],
        pixels=np.add.reduceat(length, first),
        area_sr=np.add.reduceat(length * row_area_sr(width, height)[row], first),
        u0=u0,
        v0=v0,
        width=box_width,
        height=v1 - v0,
        seam=seam,
        pole=(v0 == 0) | (v1 == height),
    )


def _by_id_and_start(runs: Runs) -> NDArray[np.int64]:
    """The runs ordered by id, then start.

    NumPy sorts 16-bit keys by radix, several times faster than longer ones.
    """
    start = runs.start.astype(np.uint16) if runs.start.max() < 65536 else runs.start
    by_start = np.argsort(start, kind="stable")
    return by_start[np.argsort(runs.id.astype(np.uint16)[by_start], kind="stable")]


def _cylinder_extent(
    id_: NDArray[np.int64],
    start: NDArray[np.int64],
    end: NDArray[np.int64],
    first: NDArray[np.int64],
    width: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Per id, the shortest column interval on a circle that holds all its runs.

    The circle has `width` columns; the interval is what is left beside the widest gap. Runs come
    sorted by (id, start). On a tie the gap at the seam wins, then the leftmost.
    """
    offset = id_ * (4 * width)  # lifts ids apart, so that one running maximum serves all of them
    reach = np.maximum.accumulate(end + offset) - offset
    last = np.append(first[1:], id_.size) - 1
    inner_gap = np.zeros_like(start)
    inner_gap[1:] = start[1:] - reach[:-1]
    inner_gap[first] = 0
    widest = np.maximum.reduceat(inner_gap, first)
    seam_gap = start[first] + width - reach[last]
    owner = np.repeat(np.arange(first.size), last - first + 1)
    is_widest = np.flatnonzero(inner_gap == widest[owner])
    after_gap = start[is_widest[np.searchsorted(owner[is_widest], np.arange(first.size))]]
    across = widest > seam_gap
    gap = np.where(across, widest, seam_gap)
    u0 = np.where(across, after_gap, start[first])
    return u0, width - gap, (start[first] == 0) & (reach[last] == width)


def dense_ids(labels: NDArray[np.integer]) -> tuple[Labels, NDArray[np.int64]]:
    """Renumber any non-negative id map so that ids are dense from 1.

    They keep the order of the old ones. Returns the H×W uint16 map and `old` of shape (N,): new id
    k came from `old[k-1]`. More than 65,535 ids is a ValueError.
    """
    present = np.unique(labels)
    present = present[present > 0].astype(np.int64)
    if present.size > 65535:
        raise ValueError(
            f"{counted(present.size, 'instance')} in one panorama: uint16 label maps hold at most"
            " 65,535"
        )
    table = np.zeros(int(labels.max(initial=0)) + 1, np.uint16)
    table[present] = np.arange(1, present.size + 1)
    return table[labels], present


def encode_rles(labels: Labels) -> dict[int, dict[str, object]]:
    """COCO compressed RLE of every id: {id: {"size": [H, W], "counts": str}}.

    As pycocotools' encode gives it per mask, from one pass over the transposed map.
    """
    height, width = labels.shape
    runs = label_runs(cv2.transpose(labels))  # COCO counts down columns
    at = runs.row * height + runs.start
    order = np.argsort(runs.id, kind="stable")
    id_, begin, length = runs.id[order], at[order], runs.length[order]
    rles: dict[int, dict[str, object]] = {}
    first = np.flatnonzero(np.diff(id_, prepend=-1))
    for low, high in zip(first, [*first[1:], id_.size], strict=False):  # no instance, no bounds
        edges = np.stack([begin[low:high], begin[low:high] + length[low:high]], axis=1).ravel()
        counts = np.diff(edges, prepend=0, append=height * width)
        rle = coco_mask.frPyObjects(
            {"size": [height, width], "counts": _merge_empty(counts).tolist()}, height, width
        )
        rles[int(id_[low])] = {"size": [height, width], "counts": rle["counts"].decode("ascii")}
    return rles


def _merge_empty(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Drop zero-length gaps, where a run goes on in the next column, joining the runs beside them.

    A leading zero (the mask starts at the first pixel) and a missing last gap are COCO's own
    notation.
    """
    gaps, runs = counts[0::2], counts[1::2]
    inner = np.append(gaps[1:-1] > 0, True)  # whether a run is the last of its joined group
    ends = np.flatnonzero(inner)
    joined = np.add.reduceat(runs, np.concatenate([[0], ends[:-1] + 1]))
    kept = np.concatenate([gaps[:1], gaps[1:-1][gaps[1:-1] > 0], gaps[-1:]])
    out = np.empty(kept.size + joined.size, np.int64)
    out[0::2], out[1::2] = kept, joined
    return out[:-1] if out[-1] == 0 else out


def decode_rle(rle: dict[str, object]) -> NDArray[np.uint8]:
    """H×W uint8 mask (0 or 1) of a COCO compressed RLE."""
    counts = rle["counts"]
    return coco_mask.decode(
        {
            "size": rle["size"],
            "counts": counts.encode("ascii") if isinstance(counts, str) else counts,
        }
    )
