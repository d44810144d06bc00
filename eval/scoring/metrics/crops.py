"""The part of a panorama that a mask is in.

What boundary scores are computed on, instead of on 8 million pixels.

Takes a mask in any of the forms that evaluation has (an array, bits, an instance of a label map);
gives a `Crop`. With `wrap` the columns are a circle and the crop is the smallest arc around the
mask. Without, they are a line, as in planar toolkits: a mask on both sides of the seam has a crop
of the full width.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from panoforge.core.sample.label_maps import instance_stats
from panoforge.core.types import Bools
from panoforge.eval.masks import packed_extent, span


@dataclass(frozen=True)
class Crop:
    """A mask's part that is not empty.

    `mask` bool h×w is rows [v0, v0+h) and columns [u0, u0+w), modulo W, of an otherwise empty mask.
    Empty: h = w = 0.
    """

    v0: int
    u0: int
    mask: Bools


EMPTY = Crop(0, 0, np.zeros((0, 0), bool))


def crop_mask(mask: Bools, *, wrap: bool) -> Crop:
    """The crop of a bool H×W mask."""
    rows = span(mask.any(axis=1))
    if rows is None:
        return EMPTY
    u0, columns = _arc(mask[rows].any(axis=0), wrap)
    return Crop(rows.start, u0, _columns(mask[rows], u0, columns))


def crop_bits(
    bits: NDArray[np.uint8],
    width: int,
    *,
    wrap: bool,
    extent: tuple[slice | None, slice] | None = None,
) -> Crop:
    """The crop of a mask of `width` columns given 8 pixels to a byte.

    uint8 H×⌈W/8⌉ (a `Masks.packed[k]`), and where it is known its `packed_extent`.
    """
    rows, bytes_ = extent or packed_extent(bits)
    if rows is None:
        return EMPTY
    mask = np.unpackbits(bits[rows, bytes_], axis=1).view(bool)
    occupied = np.zeros(8 * bits.shape[1], bool)
    occupied[8 * bytes_.start : 8 * bytes_.stop] = mask.any(axis=0)
    u0, columns = _arc(occupied[:width], wrap)
    if u0 + columns <= width:
        first = u0 - 8 * bytes_.start
        return Crop(rows.start, u0, mask[:, first : first + columns])
    return Crop(
        rows.start,
        u0,
        _columns(np.unpackbits(bits[rows], axis=1, count=width).view(bool), u0, columns),
    )


def crop_instances(labels: NDArray[np.uint16], ids: Sequence[int], *, wrap: bool) -> Iterator[Crop]:
    """The crop of each of `ids` in a uint16 H×W label map, one after the other.

    An id that is not there is empty.
    """
    stats, width = instance_stats(labels), labels.shape[1]
    at = {id_: index for index, id_ in enumerate(stats.ids.tolist())}
    for id_ in ids:
        if id_ not in at:
            yield EMPTY
            continue
        box = stats.box(at[id_])
        u0, columns = (box.u0, box.width) if wrap or box.u0 + box.width <= width else (0, width)
        yield Crop(box.v0, u0, _columns(labels[box.v0 : box.v0 + box.height], u0, columns) == id_)


def _arc(occupied: Bools, wrap: bool) -> tuple[int, int]:
    """The smallest interval, or arc, around the True ones: first column and number.

    There is one.
    """
    at = np.flatnonzero(occupied)
    if not wrap:
        return int(at[0]), int(at[-1] - at[0]) + 1
    gaps = np.diff(at, append=at[0] + occupied.size) - 1
    widest = int(gaps.argmax())
    return (
        (int(at[(widest + 1) % at.size]), occupied.size - int(gaps[widest]))
        if gaps[widest]
        else (0, occupied.size)
    )


def _columns(rows: NDArray, u0: int, columns: int) -> NDArray:
    """Columns [u0, u0 + columns) of an array, modulo its width."""
    over = u0 + columns - rows.shape[1]
    return (
        rows[:, u0 : u0 + columns]
        if over <= 0
        else np.concatenate([rows[:, u0:], rows[:, :over]], axis=1)
    )
