"""The bounding field of view (BFoV) of a mask, for a second, closer look.

It is the smallest upright rectangle of view that holds the mask.

`fit_bfov(mask)` takes a bool H×W panorama mask and gives the view's centre and the tangents of its
half angles, or None where no flat view holds the mask. Objects are bounded so in 360VOTS (Xu et
al., 2025): it is a box that knows no seam and no pole.

A rectangle of tangents around a centre is a box in the plane that touches the sphere there. So the
fit projects the mask's pixels into the plane at their mean direction. It takes the box that holds
all but `trim` of their solid angle at either side, moves the centre to its middle, and repeats.
Every real mask has a few stray pixels, and trimming keeps them from blowing the view up. What is
left outside stays as the scan left it (`panoforge.eval.segmentation.zoom`).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from panoforge.core.geometry.pixels import column_lon, row_lat
from panoforge.core.geometry.sphere import (
    camera_axes,
    direction_to_lonlat,
    lonlat_to_direction,
    pixel_to_direction,
    row_area_sr,
)
from panoforge.core.types import Floats, Ints, Mask, Matrix

ROUNDS = 3
WIDEST_DEG = 85.0  # half angle beyond which a flat view is all stretch


@dataclass(frozen=True)
class Bfov:
    """An upright field of view.

    The centre is in degrees (pitch up); `tan_x` and `tan_y` are the tangents of half its width and
    height.
    """

    yaw_deg: float
    pitch_deg: float
    tan_x: float
    tan_y: float

    @property
    def fov_deg(self) -> tuple[float, float]:
        """Full horizontal and vertical angle."""
        return (
            2 * float(np.degrees(np.arctan(self.tan_x))),
            2 * float(np.degrees(np.arctan(self.tan_y))),
        )

    def axes(self) -> Matrix:
        """3×3, columns right, down, forward in the panorama frame."""
        return camera_axes(np.radians(self.yaw_deg), np.radians(self.pitch_deg))

    def directions(self, x: ArrayLike, y: ArrayLike) -> Floats:
        """Places in [−1, 1] across it → directions, not normalised."""
        right, down = np.broadcast_arrays(np.asarray(x) * self.tan_x, np.asarray(y) * self.tan_y)
        return np.stack([right, down, np.ones_like(right)], axis=-1) @ self.axes().T

    def places(self, direction: Floats) -> tuple[Floats, Floats]:
        """Directions → places (x, y), beyond [−1, 1] outside of it; NaN behind."""
        right, down, forward = np.moveaxis(direction @ self.axes(), -1, 0)
        depth = np.where(forward > 1e-9, forward, np.nan)
        return right / depth / self.tan_x, down / depth / self.tan_y


def fit_bfov(mask: Mask, *, trim: float = 0.005, max_pixels: int | None = None) -> Bfov | None:
    """The BFoV of a panorama's mask.

    Args:
        mask: bool H×W.
        trim: The share of its solid angle that may lie beyond each side.
        max_pixels: Look at so many of its pixels, or up to twice as many; all without.

    Returns:
        The BFoV; None if the mask is empty, or so wide around that parts of it are behind or
        beside every camera.
    """
    height, width = mask.shape
    v, u = np.nonzero(mask)
    if not v.size:
        return None
    if max_pixels is not None:
        some = slice(None, None, max(1, v.size // max_pixels))
        v, u = v[some], u[some]
    return fit_directions(
        pixel_to_direction(u, v, width, height),
        row_area_sr(width, height)[v],
        half_pixel=np.pi / height / 2,
        trim=trim,
    )


def fit_directions(
    directions: Floats, weight: Floats, *, half_pixel: float, trim: float = 0.005
) -> Bfov | None:
    """The same for K unit directions (K, 3).

    Each stands for `weight` (K,) steradians and `half_pixel` radians around it.
    """
    centre = weight @ directions
    if np.linalg.norm(centre) < 1e-3 * weight.sum():
        return None
    for moves_left in reversed(range(ROUNDS + 1)):
        yaw, pitch = (float(x) for x in direction_to_lonlat(centre))
        axes = camera_axes(yaw, pitch)
        right, down, forward = (directions @ axes).T
        ahead = forward > np.cos(np.radians(WIDEST_DEG))
        if weight[~ahead].sum() > trim * weight.sum():
            return None
        x = _span(right[ahead] / forward[ahead], weight[ahead], trim)
        y = _span(down[ahead] / forward[ahead], weight[ahead], trim)
        if moves_left:
            centre = axes @ np.array([sum(x) / 2, sum(y) / 2, 1.0])
    # The last box is taken as it lies around its centre: near a pole another centre is another up.
    reach = [max(abs(low), abs(high)) for low, high in (x, y)]
    tan_x, tan_y = (tangent + half_pixel * (1 + tangent**2) for tangent in reach)
    return Bfov(float(np.degrees(yaw)), float(np.degrees(pitch)), tan_x, tan_y)


def enclosing_bfov(mask: Mask, margin: float, max_fov_deg: float) -> Bfov:
    """The BFoV around every pixel of a panorama's mask, widened (PanoSAM2 §3.3).

    Its centre is the mean direction, every pixel counted by its solid angle. Its angles are the
    largest to either side in the frame that looks there, so parts may lie beside the camera: what
    is wider than `max_fov_deg` is cut.

    Args:
        mask: bool H×W, not empty.
        margin: The angles are so many times as wide as the mask.
    """
    height, width = mask.shape
    rows, columns = np.nonzero(mask)
    directions = pixel_to_direction(columns, rows, width, height)
    mean = (directions * row_area_sr(width, height)[rows, None]).sum(axis=0)
    lon, lat = (float(x) for x in direction_to_lonlat(mean))
    right, down, forward = (directions @ camera_axes(lon, lat)).T
    across = np.abs(np.arctan2(right, forward)).max() + np.pi / width
    along = np.abs(np.arctan2(down, np.hypot(right, forward))).max() + np.pi / (2 * height)
    limit = np.radians(max_fov_deg)
    tan_x, tan_y = (float(np.tan(min(2 * half * margin, limit) / 2)) for half in (across, along))
    return Bfov(float(np.degrees(lon)), float(np.degrees(lat)), tan_x, tan_y)


def pixels_within(bfov: Bfov, width: int, height: int) -> tuple[Ints, Ints]:
    """Rows and columns of a panorama that may lie in a field of view: all that do, and some more.

    Those of the cap around it. Columns wrap; where a pole is in the cap, all of them.
    """
    yaw, pitch = np.radians(bfov.yaw_deg), np.radians(bfov.pitch_deg)
    reach = float(np.arctan(np.hypot(bfov.tan_x, bfov.tan_y))) + np.pi / height
    first = max(int((np.pi / 2 - pitch - reach) / np.pi * height), 0)
    last = min(int((np.pi / 2 - pitch + reach) / np.pi * height) + 2, height)
    rows = np.arange(first, last)
    if abs(pitch) + reach >= np.pi / 2 - 1e-6:
        return rows, np.arange(width)
    half = float(np.arcsin(min(np.sin(reach) / np.cos(pitch), 1.0)))
    begin = int((yaw - half + np.pi) / (2 * np.pi) * width) - 1
    count = min(int(half / np.pi * width) + 4, width)
    return rows, (np.arange(count) + begin) % width


def places_within(bfov: Bfov, width: int, height: int) -> tuple[Ints, Ints, Floats, Floats]:
    """`pixels_within`, and where those pixels' centres lie in the field of view.

    Rows (R,), columns (C,), places x and y (R, C): beyond [−1, 1] outside of it, NaN behind.
    """
    rows, columns = pixels_within(bfov, width, height)
    lon = column_lon(columns, width) - np.radians(bfov.yaw_deg)
    lat, pitch = row_lat(rows, height)[:, None], np.radians(bfov.pitch_deg)
    north, up = np.cos(lat) * np.cos(lon), np.sin(lat)  # towards the yaw, and up
    forward = north * np.cos(pitch) + up * np.sin(pitch)
    depth = np.where(forward > 1e-9, forward, np.nan)
    x = np.cos(lat) * np.sin(lon) / depth / bfov.tan_x
    y = (north * np.sin(pitch) - up * np.cos(pitch)) / depth / bfov.tan_y
    return rows, columns, x, y


def closer_view(
    bfov: Bfov | None, *, margin: float, min_fov_deg: float, max_fov_deg: float, max_aspect: float
) -> Bfov | None:
    """The view of a second look at what `bfov` holds; None beyond `max_fov_deg`.

    It has a margin, is at least `min_fov_deg` wide and high, and its sides differ at most by
    `max_aspect`.
    """
    if bfov is None or max(bfov.fov_deg) > max_fov_deg:
        return None
    least = float(np.tan(np.radians(min_fov_deg) / 2))
    x, y = (max(tangent * margin, least) for tangent in (bfov.tan_x, bfov.tan_y))
    return Bfov(bfov.yaw_deg, bfov.pitch_deg, max(x, y / max_aspect), max(y, x / max_aspect))


def around(lonlat_deg: tuple[float, float], fov_deg: float) -> Bfov:
    """A square field of view centred on a direction.

    For where there is a click and no mask to fit to.
    """
    lon, lat = direction_to_lonlat(lonlat_to_direction(*np.radians(lonlat_deg)))
    tangent = float(np.tan(np.radians(fov_deg) / 2))
    return Bfov(float(np.degrees(lon)), float(np.degrees(lat)), tangent, tangent)


def _span(values: Floats, weight: Floats, trim: float) -> tuple[float, float]:
    """The interval that holds all values but `trim` of the weight at either end."""
    order = np.argsort(values)
    reached = np.cumsum(weight[order])
    low = int(np.searchsorted(reached, trim * reached[-1], side="right"))
    high = int(np.searchsorted(reached, (1 - trim) * reached[-1], side="left"))
    return float(values[order[min(low, values.size - 1)]]), float(
        values[order[min(high, values.size - 1)]]
    )
