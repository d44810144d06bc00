"""Instance maps in the forms in which people keep them, as dense uint16 id maps.

PNGs of these kinds are read: grey of 8 or 16 bits; palette (indices count, never the colours); RGB
of 8 or 16 bits (every colour is an instance). An alpha channel of 0 and full is one more: what is
transparent is nothing. Our own `.mask.png` is a palette. Masks that overlap are stacked with the
smaller one on top, so that nothing is hidden whole by what it stands on.

Ids are 64-bit while they are compared, eight times what a map of 8 bits takes: that is done in
bands of rows.
"""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray
from PIL import Image

from panoforge.core.errors import DataError
from panoforge.core.foreign.files import read_bytes
from panoforge.core.foreign.left_out import LeftOut
from panoforge.core.foreign.pictures import MAX_PIXELS
from panoforge.core.image_header import PNG_SIGNATURE, image_size
from panoforge.core.numbers import counted
from panoforge.core.types import IdMap, Labels, Mask

MAX_IDS = 65_535
_MAX_STORED_BYTES = 1 << 29  # colours of 8 bits at 16K
_BAND_PIXELS = 1 << 22
_TABLE_IDS = 1 << 24  # up to here ids are looked up in a table, beyond they are sorted
_INDEXED = ("P", "L", "1")
_COLOUR_TYPE = 25  # the byte of a PNG that says what its pixels are
_PALETTE, _GREY, _RGB, _GREY_ALPHA, _RGBA = 3, 0, 2, 4, 6


def read_labels(path: Path) -> NDArray[np.integer]:
    """A palette or grey PNG as the H×W integers it stores (uint8, or uint16 of 16 bits).

    Raises:
        DataError: it is no such PNG, damaged, or over the caps.
    """
    data = _png(path)
    if data[_COLOUR_TYPE] not in (_PALETTE, _GREY):
        raise DataError(
            f"{path}: expected a palette or grey PNG whose pixels are object ids, found one of"
            " colours"
        )
    return _stored(data, path)


def read_idmap(
    path: Path, background: Sequence[int] = (0,)
) -> tuple[Labels, Int64[np.ndarray, " ids"]]:
    """A PNG of any kind as an id map, dense from 1.

    Args:
        background: Old ids that are nothing. A colour's id is R·2¹⁶ + G·2⁸ + B (of 16 bits
            R·2³² + G·2¹⁶ + B).

    Returns:
        The map, and the old id of each new one: new id k came from `old[k - 1]`.

    Raises:
        DataError: it is no PNG of ids, damaged, over the caps, or holds over 65,535 ids.
    """
    stored = _stored(_png(path), path)

    def band(rows: slice) -> IdMap:
        part = stored[rows]
        ids, seen = (part.astype(np.int64), None) if part.ndim == 2 else _colour_ids(part, path)
        ids[np.isin(ids, background)] = -1
        if seen is not None:
            ids[~seen] = -1
        return ids

    return _dense(band, stored.shape[:2], path)


def _png(path: Path) -> bytes:
    data = read_bytes(path)
    if data[:8] != PNG_SIGNATURE:
        raise DataError(
            f"{path} is no PNG: id maps are PNGs, which keep every id as it is: save it as one"
        )
    try:
        width, height = image_size(data)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    if not 0 < width * height <= MAX_PIXELS:
        raise DataError(
            f"{path} claims {width}×{height} pixels: outside the cap of {MAX_PIXELS},"
            " make it smaller without mixing ids (nearest neighbour)"
        )
    return data


def _stored(data: bytes, path: Path) -> NDArray[np.integer]:
    """The integers of a PNG: H×W, or H×W×3 or 4 in the order BGRA.

    Pillow reads what is indexed, OpenCV colours, of which Pillow drops the lower eight of sixteen
    bits.
    """
    kind, bytes_per = data[_COLOUR_TYPE], data[_COLOUR_TYPE - 1] // 8
    colours = kind in (_RGB, _RGBA, _GREY_ALPHA)
    width, height = image_size(data)
    if colours and width * height * (3 if kind == _RGB else 4) * bytes_per > _MAX_STORED_BYTES:
        raise DataError(
            f"{path} keeps ids as colours of {8 * bytes_per} bits at {width}×{height} pixels, which"
            f" takes over {_MAX_STORED_BYTES >> 20} MiB: save them as grey of 16 bits"
        )
    try:
        if colours:
            found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
            if found is None:
                raise ValueError("its pixels are damaged")
            return found
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            found = np.array(image)
            return found.astype(np.uint8 if image.mode in _INDEXED else np.uint16, copy=False)
    except (OSError, ValueError, SyntaxError, EOFError, cv2.error) as error:
        raise DataError(f"{path} is not a whole PNG ({error}): download it again") from None


def _colour_ids(colours: NDArray[np.integer], path: Path) -> tuple[IdMap, NDArray[np.bool_] | None]:
    """One integer per colour (BGR or BGRA), and where alpha says that something is there."""
    bits = 8 * colours.dtype.itemsize
    blue, green, red = (colours[..., k].astype(np.int64) for k in range(3))
    ids = red << 2 * bits | green << bits | blue
    if colours.shape[2] == 3:
        return ids, None
    alpha, full = colours[..., 3], (1 << bits) - 1
    if not np.isin(alpha, (0, full)).all():
        raise DataError(
            f"{path} has an alpha channel of other values than 0 and {full}: where ids lie in"
            " alpha is not known, save them as grey or RGB"
        )
    return ids, alpha == full


def _bands(height: int, width: int) -> Iterator[slice]:
    rows = max(1, _BAND_PIXELS // width)
    return (slice(top, min(height, top + rows)) for top in range(0, height, rows))


def _dense(
    band: Callable[[slice], IdMap], shape: tuple[int, ...], path: Path
) -> tuple[Labels, Int64[np.ndarray, " ids"]]:
    """Ids renumbered from 1 in ascending order; below 0 is nothing. `band` gives those of rows."""
    there, others = np.zeros(0, bool), np.zeros(0, np.int64)
    for rows in _bands(*shape):
        ids = band(rows)
        largest = int(ids.max(initial=-1))
        if largest < _TABLE_IDS:
            there = np.pad(there, (0, max(0, largest + 2 - there.size)))
            there[ids + 1] = True
        else:
            others = np.union1d(others, ids[ids >= 0])
        known = int(there[1:].sum()) + others.size
        if known > 2 * MAX_IDS:
            break
    old = np.union1d(np.flatnonzero(there[1:]), others)
    if old.size > MAX_IDS:
        raise DataError(
            f"{path} holds {'over ' if known > 2 * MAX_IDS else ''}{counted(old.size, 'id')}: an"
            " id map has at"
            f" most {MAX_IDS}, is it a photograph? Put the map of its ids there"
        )
    labels = np.zeros(shape, np.uint16)
    table = np.zeros(there.size, np.uint16)
    small = old[old + 1 < there.size]
    table[small + 1] = np.arange(1, small.size + 1)
    for rows in _bands(*shape):
        ids = band(rows)
        if int(ids.max(initial=-1)) + 1 < table.size:
            labels[rows] = table[ids + 1]
        else:
            found = np.searchsorted(old, ids) + 1
            labels[rows] = np.where(ids < 0, 0, found)
    return labels, old


def stack_masks(
    masks: Mapping[int, Mask], height: int, width: int, where: str | Path
) -> tuple[Labels, list[int], LeftOut]:
    """One map of masks that may overlap, smaller ones on top.

    Args:
        masks: bool H×W masks by key, each of which is asked for twice (`MadeMasks`).
        height, width: The size of the map, in pixels.
        where: What is read, for messages.

    Returns:
        The map, with dense ids; the key of each id; the masks that have no pixel in it, because
        they are empty or smaller ones hide them whole.

    Raises:
        DataError: a mask is of another size, or there are over 65,535.
    """
    if len(masks) > MAX_IDS:
        raise DataError(
            f"{where} has {counted(len(masks), 'instance')} in one image: more than 65,535 is no"
            " instance map: leave out the smallest, or split the picture"
        )
    areas = {}
    for key, mask in masks.items():
        if mask.shape != (height, width):
            h, w = mask.shape
            raise DataError(
                f"{where}: the mask of {key} is {w}×{h}, its image {width}×{height}:"
                " make it of the image's size"
            )
        areas[key] = int(mask.sum())
    order = sorted(areas, key=lambda key: (-areas[key], key))
    labels = np.zeros((height, width), np.uint16)
    for k, key in enumerate(order):
        labels[masks[key]] = k + 1
    dense, old = _dense(lambda rows: labels[rows].astype(np.int64) - 1, labels.shape, Path(where))
    shown = {order[k] for k in old.tolist()}
    lost = LeftOut.of(
        (
            "object hidden whole by smaller ones" if areas[key] else "object without a pixel",
            f"{where}, {key}",
        )
        for key in masks
        if key not in shown
    )
    return dense, [order[k] for k in old.tolist()], lost
