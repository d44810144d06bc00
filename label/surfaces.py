"""Within a surface, and not across its edge: depth and normals between pixels.

A bilinear value between a near thing and what lies behind it is the depth of nothing. So the
bilinear value counts only where it is close to the nearest pixel's own.
"""

import numpy as np
from numpy.typing import NDArray

WITHIN = 0.05  # of the nearest value
STRAIGHT = 0.97  # least length of a mean of unit normals of one surface


def within_surface(
    between: NDArray[np.float32], nearest: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Bilinear values where no edge is near, else the nearest pixel's. Any shape.

    Args:
        between: Bilinear, with 0 in the place of what is infinite.
        nearest: Of the nearest pixels, +inf for sky.
    """
    known = np.isfinite(nearest)
    own = np.where(known, nearest, 0)
    smooth = known & (np.abs(between - own) <= WITHIN * np.abs(own))
    return np.where(smooth, between, nearest)


def unit_within_surface(
    between: NDArray[np.float32], nearest: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The same of unit normals (…, 3), as unit vectors; zero stays zero."""
    length = np.linalg.norm(between, axis=-1, keepdims=True)
    return np.where(length >= STRAIGHT, between / np.maximum(length, STRAIGHT), nearest)
