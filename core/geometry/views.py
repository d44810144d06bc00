"""Perspective views of a panorama, sampled.

The sampling half of `panoforge.core.geometry.sphere`: vectorised OpenCV with maps shared across
yaw.

Takes a panorama (H×W or H×W×C; uint8, uint16 or float32) and a `View`, gives the size×size view:
bilinear for colour, nearest for labels. A view's source map depends on pitch, fov and size only;
yaw is a shift along the row. So the panorama is laid out once as a `WrappedPanorama`: twice around,
with two rows of what lies across each pole above and below. A view reads a window of it that starts
at the yaw's column. No map is built or touched per yaw, no modulo is taken, and the seam and the
poles are interpolated like any other place. A yaw that is not a whole number of columns adds its
fraction to the float map (slower, still exact). Maps are cached by (pitch, fov, size, W, H) and
read-only.

Labels are never interpolated: one id per view pixel, that of the panorama pixel its centre falls
into.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from panoforge.core.errors import DataError
from panoforge.core.geometry.pixels import whole_columns
from panoforge.core.geometry.sphere import (
    View,
    direction_to_pixel,
    row_cos_lat,
    view_pixel_to_direction,
)
from panoforge.core.types import Floats

_POLE_ROWS = 2  # bilinear reaches one row over a pole; one more keeps rounding harmless
_SPARE_COLUMNS = 8
_PREFILTER = 0.6
_MAX_REMAP_SIDE = 32767  # cv2.remap's fixed-point maps hold int16 coordinates

MAX_PANORAMA_WIDTH = (_MAX_REMAP_SIDE - _SPARE_COLUMNS) // 4 * 2  # even; two turns must fit


@dataclass(frozen=True)
class WrappedPanorama:
    """A panorama laid out for sampling.

    `data` is (H + 4)×(2W + 8)[×C], periodic in columns, continued over the poles.
    """

    data: NDArray
    width: int
    height: int


@dataclass(frozen=True)
class _ViewMap:
    """Where a view at yaw 0 looks, relative to column `first_column` of the wrapped panorama.

    Source indices, float32, and the same in OpenCV's fixed-point form for bilinear and for nearest
    sampling. From float maps too OpenCV rounds to 1/32 pixel, so nothing is lost by it.
    """

    first_column: int
    span: int
    columns: NDArray[np.float32]
    rows: NDArray[np.float32]
    bilinear: tuple[NDArray, NDArray]
    nearest: NDArray


def check_panorama_size(width: int, height: int, name: str) -> None:
    """DataError unless a picture of that size is a whole panorama whose views can be sampled."""
    if width != 2 * height or width % 2:
        raise DataError(
            f"{name}: {width}×{height} is no equirectangular panorama: it must be twice as wide as"
            " high (the whole sphere, 360° by 180°)"
        )
    if width > MAX_PANORAMA_WIDTH:
        raise DataError(
            f"{name}: {width}×{height} is over the cap of {MAX_PANORAMA_WIDTH} pixels across, what"
            " OpenCV can sample from two turns of: shrink it first"
        )


def prefilter_rows(image: NDArray) -> NDArray:
    """Average rows towards the poles along the circle over 0.6/cos φ pixels, where that is above 1.

    That is at |φ| > 53°. The projection stretches rows by 1/cos φ: a view that takes single pixels
    from stretched rows aliases and keeps all their noise. At 0.6 the error against supersampled
    truth is least; wider blurs more than it cures (bench/view_sampling.py). Takes colour (uint8
    or float32, H×W[×C]), never labels. Costs a few frames' sampling, once per panorama. Two box
    filters of odd widths per row give the fractional width.
    """
    height, width = image.shape[:2]
    stretch = np.minimum(_PREFILTER / row_cos_lat(height), width // 2)
    odd = np.where(
        stretch <= 1, 0, np.maximum(1, 2 * np.floor((stretch - 1) / 2).astype(int) + 1)
    )  # 0: leave the row alone
    out = image.copy()
    changes = np.flatnonzero(np.diff(odd, prepend=-1, append=-1))
    for start, stop in pairwise(changes.tolist()):
        rows, narrow = slice(start, stop), int(odd[start])
        if not narrow:
            continue
        reach = narrow // 2 + 1
        band = np.concatenate([image[rows, -reach:], image[rows], image[rows, :reach]], axis=1)
        sums = [
            cv2.boxFilter(band, cv2.CV_32F, (size, 1), normalize=False)[:, reach:-reach]
            for size in (narrow, narrow + 2)
        ]
        more = (
            ((stretch[rows] - narrow) / 2).astype(np.float32).reshape(-1, *[1] * (image.ndim - 1))
        )
        mean = (sums[0] + more * (sums[1] - sums[0])) / (narrow + 2 * more)
        out[rows] = np.rint(mean) if image.dtype == np.uint8 else mean
    return out


def wrap_panorama(image: NDArray, *, prefilter: bool = False) -> WrappedPanorama:
    """Lay out an H×W[×C] panorama for sampling: one copy of twice its size.

    W must be even (the antipode of a column is a column) and at most 16,378 (OpenCV's limit on
    sources is 32,767). `prefilter` (colour only) averages the stretched rows towards the poles
    first, see `prefilter_rows`.
    """
    if prefilter:
        image = prefilter_rows(image)
    height, width = image.shape[:2]
    if width % 2 or width > MAX_PANORAMA_WIDTH:
        raise ValueError(
            f"a panorama to be sampled needs an even width of at most {MAX_PANORAMA_WIDTH}, got"
            f" {width}×{height}"
        )
    data = np.empty(
        (height + 2 * _POLE_ROWS, 2 * width + _SPARE_COLUMNS, *image.shape[2:]), image.dtype
    )
    data[_POLE_ROWS:-_POLE_ROWS, :width] = image
    for row in range(_POLE_ROWS):
        data[_POLE_ROWS - 1 - row, :width] = np.roll(
            image[min(row, height - 1)], width // 2, axis=0
        )
        data[height + _POLE_ROWS + row, :width] = np.roll(
            image[max(height - 1 - row, 0)], width // 2, axis=0
        )
    data[:, width : 2 * width] = data[:, :width]
    spare = np.arange(_SPARE_COLUMNS) % width
    data[:, 2 * width :] = data[:, spare]
    return WrappedPanorama(data, width, height)


@lru_cache(maxsize=64)
def _view_map(pitch_deg: float, fov_deg: float, size_px: int, width: int, height: int) -> _ViewMap:
    index = np.arange(size_px)
    directions = view_pixel_to_direction(
        index[None, :], index[:, None], View(0.0, pitch_deg, fov_deg, size_px)
    )
    u, v = direction_to_pixel(directions, width, height)
    first_column = int(np.floor(u.min()))
    columns = (u - first_column).astype(np.float32)
    rows = (v + _POLE_ROWS).astype(np.float32)
    bilinear = cv2.convertMaps(columns, rows, cv2.CV_16SC2)
    nearest, _ = cv2.convertMaps(columns, rows, cv2.CV_16SC2, nninterpolation=True)
    for array in (columns, rows, *bilinear, nearest):
        array.flags.writeable = False
    span = int(np.ceil(u.max())) - first_column + 2
    return _ViewMap(first_column, span, columns, rows, (bilinear[0], bilinear[1]), nearest)


def sample_view(panorama: WrappedPanorama, view: View, *, labels: bool = False) -> NDArray:
    """The view of a wrapped panorama: size×size[×C], the panorama's dtype.

    `labels=True` takes the nearest pixel.
    """
    width, height = panorama.width, panorama.height
    where = _view_map(view.pitch_deg, view.fov_deg, view.size_px, width, height)
    whole, fraction = whole_columns(view.yaw_deg, width)
    start = (where.first_column + whole) % width
    window = panorama.data[:, start : start + where.span + 1]
    if fraction:
        start = (where.first_column + whole - 1) % width
        window = panorama.data[:, start : start + where.span + 3]
        interpolation = cv2.INTER_NEAREST if labels else cv2.INTER_LINEAR
        return cv2.remap(
            window, where.columns + np.float32(1 + fraction), where.rows, interpolation
        )
    if labels:
        return cv2.remap(window, where.nearest, None, cv2.INTER_NEAREST)
    return cv2.remap(window, *where.bilinear, cv2.INTER_LINEAR)


def sample_directions(
    panorama: WrappedPanorama, directions: Floats, *, labels: bool = False
) -> NDArray:
    """The panorama seen in any directions, for pictures that are no square views.

    Directions are h×w×3 (of any length), the result is h×w[×C]. Bilinear, or nearest for labels;
    slower than `sample_view`, which keeps its maps.
    """
    u, v = direction_to_pixel(directions, panorama.width, panorama.height)
    columns, rows = (
        np.mod(u, panorama.width).astype(np.float32),
        (v + _POLE_ROWS).astype(np.float32),
    )
    return cv2.remap(
        panorama.data, columns, rows, cv2.INTER_NEAREST if labels else cv2.INTER_LINEAR
    )
