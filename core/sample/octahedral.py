"""Unit vectors as two whole numbers: the octahedral map.

Meyer et al. 2010; Cigolle et al. 2014, "A Survey of Efficient Representations for Independent Unit
Vectors". A direction is divided by |x| + |y| + |z|, which puts it on an octahedron. The lower half
is folded over the upper one. The square [−1, 1]² is cut into 2·LEVELS steps a side. `LEVELS` is
a round number whose largest error is below 0.05°; the mean is 0.017°. The code (0, 0) stands for no
direction: sky, and where an averaged normal cancelled out.

    u, v = codes.astype("f4").T - 2501                      # codes uint16 N×2
    z = 2500 - abs(u) - abs(v)
    fold = maximum(-z, 0)
    normal = (u - copysign(fold, u), v - copysign(fold, v), z), divided by its length
"""

import cv2
import numpy as np
from jaxtyping import Float, Float32

from panoforge.core.errors import DataError
from panoforge.core.numbers import counted
from panoforge.core.types import OctahedralCodes

LEVELS = 2500
MAX_ERROR_DEG = 0.05


def to_octahedral(normals: Float[np.ndarray, "height width 3"]) -> OctahedralCodes:
    """The codes of unit vectors; zero vectors get (0, 0). DataError for what is not finite."""
    normals = normals.astype(np.float32)
    length = np.abs(normals).sum(axis=-1)
    if not np.isfinite(length).all():
        raise DataError(
            f"normal: {counted(int((~np.isfinite(length)).sum()), 'pixel is', 'pixels are')} not"
            " finite, expected unit"
            " vectors, or zero where there is nothing"
        )
    on = np.divide(
        normals, length[..., None], out=np.zeros_like(normals), where=length[..., None] > 0
    )
    x, y, below = on[..., 0], on[..., 1], on[..., 2] < 0
    u = np.where(below, np.copysign(1 - np.abs(y), x), x)
    v = np.where(below, np.copysign(1 - np.abs(x), y), y)
    codes = np.stack([u, v], axis=-1) * LEVELS
    codes = (np.rint(codes) + (LEVELS + 1)).astype(np.uint16)
    codes[length == 0] = 0
    return codes


def from_octahedral(codes: OctahedralCodes) -> Float32[np.ndarray, "height width 3"]:
    """Unit vectors, zero where the code is (0, 0). DataError for codes beyond the square."""
    if codes.max(initial=0) > 2 * LEVELS + 1:
        raise DataError(f"normal: a code is {codes.max()}, octahedral ones end at {2 * LEVELS + 1}")
    out = np.empty((*codes.shape[:2], 3), np.float32)
    rows = max(1, _BLOCK_PIXELS // codes.shape[1])
    for row in range(0, len(codes), rows):
        _decode(codes[row : row + rows], out[row : row + rows])
    return out


# What stays in the cache, and not so little that calls are most of it.
_BLOCK_PIXELS = 1 << 16


def _decode(codes: OctahedralCodes, out: Float32[np.ndarray, "rows width 3"]) -> None:
    u = codes[..., 0].astype(np.float32)
    v = codes[..., 1].astype(np.float32)
    nothing = None if u.all() else u == 0  # there alone: the least code of the square is 1
    u -= LEVELS + 1
    v -= LEVELS + 1
    z = np.abs(u)
    z += np.abs(v)
    np.subtract(LEVELS, z, out=z)
    fold = np.minimum(z, 0)
    if fold.any():  # |u| and |v| are -fold or more: what is clipped is its whole length, with sign
        for part in (u, v):
            part -= np.minimum(np.maximum(part, fold), -fold)
    # Never 0: |u| + |v| + |z| is LEVELS or more. Not cv2.magnitude, whose last bit differs by call.
    scale = u * u
    scale += v * v
    scale += z * z
    np.sqrt(scale, out=scale)
    for part in (u, v, z):
        part /= scale
    if nothing is not None:
        np.copyto(z, 0, where=nothing)  # u and v are: they have folded away
    cv2.merge([u, v, z], dst=out)  # twice as fast as three writes with gaps
