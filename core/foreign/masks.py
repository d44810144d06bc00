"""Masks as annotation files write them: COCO run lengths and polygons.

Run lengths are decoded here rather than by pycocotools, which leaves the rest of a mask whose
counts stop early as whatever the memory held. Polygons are filled by pycocotools, as COCO's own
evaluation fills them: a 10×10 square has 100 pixels, not the 121 of cv2.fillPoly.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from panoforge.core.errors import DataError
from panoforge.core.types import Floats, Mask, RunLengths

MAX_OUTLINE_PX = 1 << 22  # of one object: pycocotools takes some 60 bytes for each pixel of it


class MadeMasks(Mapping[int, Mask]):
    """Masks by key, each made anew when it is asked for: of many only one lies in the memory."""

    def __init__(self, keys: Collection[int], make: Callable[[int], Mask]) -> None:
        self._keys, self._make = keys, make

    def __getitem__(self, key: int) -> Mask:
        return self._make(key)

    def __iter__(self) -> Iterator[int]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def run_counts(rle: Any, height: int, width: int, where: str) -> RunLengths:
    """The run lengths of a COCO RLE (compressed string or plain list) of an H×W mask.

    Zeros first, down the columns.

    Raises:
        DataError: it is no RLE, of another size, or does not fill the mask exactly.
    """
    if not isinstance(rle, dict) or "counts" not in rle or "size" not in rle:
        raise DataError(
            f"{where}: expected a COCO RLE with size and counts, found {str(rle)[:60]!r}"
        )
    if rle["size"] != [height, width]:
        raise DataError(
            f"{where}: its mask is {str(rle['size'])[:40]}, its image [{height}, {width}]:"
            " write the annotations from pictures of this size"
        )
    counts = rle["counts"]
    try:
        runs = _uncompress(counts) if isinstance(counts, str) else _plain(counts)
    except (ValueError, TypeError, OverflowError):
        runs = np.array([-1])
    if (
        not runs.size
        or runs.min() < 0
        or runs.max() > height * width
        or runs.sum() != height * width
    ):
        raise DataError(
            f"{where}: its RLE does not fill a mask of {width}×{height}: the annotation is damaged,"
            " write it again or take it out"
        )
    return runs


def _plain(counts: Any) -> RunLengths:
    runs = np.array(counts)
    if runs.ndim != 1 or runs.dtype.kind != "i":
        raise ValueError("not plain counts")
    return runs.astype(np.int64)


def _uncompress(text: str) -> RunLengths:
    """COCO's compressed counts (pycocotools' rleFrString).

    Groups of 5 bits, low first; bit 5 says that more follow, bit 4 of the last is the sign. From
    the fourth number on each is the difference to the one two before.
    """
    symbols = np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int64) - 48
    if not symbols.size or symbols.min() < 0 or symbols.max() > 63 or symbols[-1] & 32:
        raise ValueError("not compressed counts")
    last = np.flatnonzero(symbols & 32 == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    place = np.arange(symbols.size) - np.repeat(first, last - first + 1)
    if place.max() > 7:
        raise ValueError("a run of more than 2^35")
    values = np.add.reduceat((symbols & 31) << (5 * place), first)
    values -= np.where(symbols[last] & 16, np.int64(1) << (5 * (last - first + 1)), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def fill_runs(runs: RunLengths, height: int, width: int) -> Mask:
    """The H×W mask of `run_counts`."""
    return np.repeat(np.arange(runs.size) % 2 == 1, runs).reshape(width, height).T


def run_area(runs: RunLengths) -> int:
    """Pixels of the mask of `run_counts`."""
    return int(runs[1::2].sum())


def fill_polygons(polygons: Any, height: int, width: int, where: str) -> Mask:
    """The union of polygons as an H×W mask, filled as COCO fills them.

    Args:
        polygons: A list of polygons, each [x0, y0, x1, y1, …] or [[x0, y0], …], in pixels: (0, 0)
            is the outer corner of the first pixel.
        where: What is read, for the message.

    Raises:
        DataError: these are no polygons of three or more points near the image.
    """
    outlines = [_outline(polygon) for polygon in polygons] if isinstance(polygons, list) else []
    reach = 2 * (height + width)
    if not outlines or not all(p is not None and np.abs(p).max() <= reach for p in outlines):
        raise DataError(
            f"{where}: expected polygons of three or more points near its {width}×{height} image,"
            f" or an RLE, found {str(polygons)[:60]!r}"
        )
    points = [p for p in outlines if p is not None]
    if sum(_length_px(p) for p in points) > MAX_OUTLINE_PX:
        raise DataError(
            f"{where}: its outline is over {MAX_OUTLINE_PX} px long: it is damaged,"
            " draw it again or take it out"
        )
    rles = coco_mask.frPyObjects([p.ravel().tolist() for p in points], height, width)
    return coco_mask.decode(coco_mask.merge(rles)).astype(bool)


def _outline(polygon: Any) -> Floats | None:
    """A polygon's points (N, 2); None where it is none. NaN and infinity are none."""
    try:
        points = np.asarray(polygon, np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    if points.ndim == 1 and points.size % 2 == 0:
        points = points.reshape(-1, 2)
    whole = points.ndim == 2 and points.shape[1] == 2 and len(points) >= 3
    return points if whole and np.isfinite(points).all() else None


def _length_px(points: Floats) -> float:
    return float(np.abs(np.diff(points, axis=0, append=points[:1])).max(axis=1).sum())


def polygon_is_empty(segmentation: Any) -> bool:
    """Whether a `segmentation` says nothing: missing, null or an empty list."""
    return segmentation is None or (isinstance(segmentation, Sequence) and not len(segmentation))
