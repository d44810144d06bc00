"""What a view says of its pixels, carried to the panorama's: depth, normals, class scores.

Depth and normals are interpolated within a surface and never across its edge: where the bilinear
value is far from the nearest one, the nearest one counts. Depth along the axis (z) becomes distance
along the ray, by the ray of the panorama's own pixel. Normals turn from the view's camera axes into
the panorama's frame (`panoforge.core.geometry.sphere`); a pose turns those into the world's.
"""

import numpy as np
from numpy.typing import NDArray

from panoforge.core.geometry.sphere import view_rotation
from panoforge.label.surfaces import unit_within_surface, within_surface
from panoforge.label.teachers.base import ClassScores, Dense, DepthMap, camera_of
from panoforge.label.views.landing import Landing


def carry_confidence(said: Dense, landing: Landing) -> NDArray[np.float32]:
    """How much an answer counts at the landing's pixels (P,): the border's times the teacher's."""
    if said.confidence is None:
        return landing.border
    own: NDArray[np.float32] = np.clip(landing.smooth(said.confidence), 0, 1)
    return landing.border * own


def carry_depth(
    depth: DepthMap, landing: Landing
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(distance along the ray (P,), what it was multiplied by (P,)), in the teacher's unit."""
    values = within_surfaces(depth.values, landing)
    factor = np.ones_like(values)
    if depth.along == "axis":
        factor = landing.range_per_depth
        factor = 1 / factor if depth.unit == "inverse" else factor
    return values * factor, factor


def within_surfaces(values: NDArray[np.float32], landing: Landing) -> NDArray[np.float32]:
    """A map of the view at the landing's pixels: bilinear, but the nearest across edges."""
    between = landing.smooth(np.where(np.isfinite(values), values, 0).astype(np.float32))
    return within_surface(between, landing.nearest(values))


def carry_normals(normals: NDArray[np.float32], landing: Landing) -> NDArray[np.float32]:
    """Normals in the view's camera axes (h, w, 3) → panorama frame (P, 3), unit or zero."""
    row, column = landing.cells(*normals.shape[:2])
    turned = unit_within_surface(landing.smooth(normals), normals[row, column])
    rotation = view_rotation(camera_of(landing.frame)).astype(np.float32)
    return turned @ rotation.T


def carry_scores(scores: ClassScores, landing: Landing) -> NDArray[np.float32]:
    """Class scores (C, h, w) → (C, P), each pixel's divided by their sum: votes of weight 1.

    Of the nearest pixel: mixing two classes gives no third.
    """
    values = landing.nearest(scores.values)
    return values / np.maximum(values.sum(axis=0), np.finfo(np.float32).tiny)
