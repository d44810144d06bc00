"""A perspective view that goes with an object, and what is found in it, back on the panorama."""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from panoforge.core.geometry.pixels import column_lon, resize_index, row_lat
from panoforge.core.geometry.sphere import (
    View,
    angle_between,
    direction_to_lonlat,
    direction_to_view_pixel,
    lonlat_to_direction,
    pixel_to_direction,
    view_pixel_to_direction,
)
from panoforge.core.types import Floats, Mask

MAX_FOV_DEG = 110.0
STRAY = 1 / 6  # of the field of view: an object that strays so far from the middle turns the view
_SAMPLES = 20_000


@dataclass
class MovingView:
    """`view` looks at the object as it was seen last.

    It turns only when it has to: what stands still should stand still in the view.
    """

    view: View

    @classmethod
    def around(
        cls, mask: Mask, size_px: int, *, room: float = 1.7, min_fov_deg: float = 40.0
    ) -> "MovingView":
        """The view of an object whose mask, bool H×W, is not empty; `room` times as wide as it."""
        directions = _directions(mask)
        middle = _middle(directions)
        reach_deg = float(np.degrees(angle_between(directions, middle).max()))
        fov_deg = float(np.clip(2 * reach_deg * room, min_fov_deg, MAX_FOV_DEG))
        return cls(_view_at(middle, round(fov_deg, 1), size_px))

    def go_with(self, mask: Mask) -> None:
        """Look at the object as it is now; an empty mask changes nothing."""
        if not mask.any():
            return
        middle = _middle(_directions(mask))
        yaw, pitch = np.radians(self.view.yaw_deg), np.radians(self.view.pitch_deg)
        away = angle_between(middle, lonlat_to_direction(yaw, pitch))
        if np.degrees(away) > STRAY * self.view.fov_deg:
            self.view = _view_at(middle, self.view.fov_deg, self.view.size_px)


def _directions(mask: Mask) -> Floats:
    """Some directions in a mask, N×3, as many in each solid angle."""
    height, width = mask.shape
    at = np.flatnonzero(mask)
    at = at[:: max(1, at.size // _SAMPLES)]
    return pixel_to_direction(at % width, at // width, width, height)


def _middle(directions: Floats) -> Floats:
    weight = np.sqrt(np.maximum(1 - directions[:, 2] ** 2, 0)) + 1e-6  # cos φ: of the pixels' area
    total = (directions * weight[:, None]).sum(axis=0)
    length = np.linalg.norm(total)
    return np.asarray(total / length if length > 1e-9 else directions[0])


def _view_at(direction: Floats, fov_deg: float, size_px: int) -> View:
    lon, lat = direction_to_lonlat(direction)
    return View(float(np.degrees(lon)), float(np.degrees(lat)), fov_deg, size_px)


def laid_on(found: NDArray[np.float32], view: View, before: Mask) -> Mask:
    """What is found in a view, on the panorama.

    Args:
        found: size×size of any resolution; above 0 is the object.
        view: where it was found.
        before: bool H×W; what the view does not see stays as it is there.

    Returns:
        The mask, bool H×W.
    """
    height, width = before.shape
    rows, columns, x, y, inside = _places(view, width, height)
    size_px = found.shape[0]
    seen = cv2.remap(  # which takes float32 places only
        found,
        resize_index(x, view.size_px, size_px).astype(np.float32),
        resize_index(y, view.size_px, size_px).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    out = before.copy()
    where = np.ix_(rows, columns)
    out[where] = np.where(inside, seen > 0, before[where])
    return out


@lru_cache(maxsize=4)
def _places(
    view: View, width: int, height: int
) -> tuple[NDArray, NDArray, NDArray[np.float32], NDArray[np.float32], Mask]:
    """Rows and columns around what a view sees, and where they are in it."""
    index = np.arange(view.size_px)
    last = np.full_like(index, view.size_px - 1)
    zero = np.zeros_like(index)
    border = view_pixel_to_direction(
        np.concatenate([index, index, zero, last]),
        np.concatenate([zero, last, index, index]),
        view,
    )
    lon, lat = direction_to_lonlat(border)
    away = np.degrees(lon) - view.yaw_deg
    away = (away + 180) % 360 - 180
    half_deg = float(np.degrees(np.arctan(np.sqrt(2) * np.tan(np.radians(view.fov_deg / 2)))))
    at_pole = abs(view.pitch_deg) + half_deg >= 90
    low, high = np.degrees(lat.min()) - 1, np.degrees(lat.max()) + 1
    if at_pole:
        low, high = (low, 90.0) if view.pitch_deg > 0 else (-90.0, high)
    row_deg = np.degrees(row_lat(np.arange(height), height))
    rows = np.flatnonzero((row_deg >= low) & (row_deg <= high))
    turn = (np.degrees(column_lon(np.arange(width), width)) - view.yaw_deg + 180) % 360 - 180
    columns = np.flatnonzero(at_pole | (np.abs(turn) <= np.abs(away).max() + 1))
    directions = pixel_to_direction(columns[None], rows[:, None], width, height)
    x, y, inside = direction_to_view_pixel(directions, view)
    return (
        rows,
        columns,
        np.nan_to_num(x, nan=-1).astype(np.float32),
        np.nan_to_num(y, nan=-1).astype(np.float32),
        np.asarray(inside),
    )
