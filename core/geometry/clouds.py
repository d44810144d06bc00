"""A panorama's pixels as points in space, by its depth."""

import numpy as np

from panoforge.core.geometry.pixels import row_lat
from panoforge.core.geometry.sphere import pixel_to_direction
from panoforge.core.types import Bools, Depth, Floats


def positions_m(depth_m: Depth, where: Bools) -> Floats:
    """Where the pixels `where` (bool H×W) of a panorama are, in its frame, metres (N, 3)."""
    height, width = depth_m.shape
    v, u = np.nonzero(where)
    rays = pixel_to_direction(u, v, width, height)
    return rays * depth_m[where].astype(np.float64)[:, None]


def even_pixels(height: int, width: int) -> Bools:
    """Pixels that lie about as densely in all directions, bool H×W.

    A row at latitude φ keeps every (1/cos φ)-th, offset row by row.
    """
    step = np.floor(1 / np.cos(row_lat(np.arange(height), height))).astype(np.int64)
    step = np.clip(step, 1, width // 4)[:, None]
    return (np.arange(width)[None] + np.arange(height)[:, None]) % step == 0
