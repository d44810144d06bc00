"""Tilt and affine augmentation of scan clips, as part of the one look at the panorama.

No second resampling, no empty borders.

The ray of view pixel (x, y), in units of the focal length from the view's centre, is turned by a
plan's draws into

    direction = T · R_view · (A⁻¹ (x, y), 1)
    A = [[cos θ, −sin θ], [sin θ, cos θ]] · [[1, tan s], [0, 1]]

A rotates the picture by θ = `rotate_deg` and shears it by s = `shear_deg` (what SAM2's RandomAffine
draws). T leans the scan's vertical axis by `tilt_deg` towards longitude `tilt_towards_deg`
(Rodrigues, about the horizontal axis 90° to its left). All frames of a clip share A and T, so an
object moves as it would under a camera that is held askew.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from panoforge.core.geometry.pixels import middle_index
from panoforge.core.geometry.sphere import View, view_rotation
from panoforge.core.geometry.views import WrappedPanorama, sample_directions, sample_view
from panoforge.core.types import Floats
from panoforge.train.data.plan import ClipPlan


def affine_matrix(rotate_deg: float, shear_deg: float) -> Floats:
    """A above, 2×2."""
    turn, shear = np.radians(rotate_deg), np.tan(np.radians(shear_deg))
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return rotation @ np.array([[1.0, shear], [0.0, 1.0]])


def tilt_matrix(tilt_deg: float, towards_deg: float) -> Floats:
    """T above, 3×3: takes the zenith to latitude 90° − tilt at longitude `towards`."""
    tilt, towards = np.radians(tilt_deg), np.radians(towards_deg)
    # Longitude λ points to (sin λ, cos λ, 0); up × that is the axis about which up leans towards
    # it.
    x, y = -np.cos(towards), np.sin(towards)
    cross = np.array([[0.0, 0.0, y], [0.0, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + np.sin(tilt) * cross + (1 - np.cos(tilt)) * cross @ cross


def is_warped(plan: ClipPlan) -> bool:
    """Whether a plan's frames are other than plain views."""
    return bool(plan.tilt_deg or plan.rotate_deg or plan.shear_deg)


@lru_cache(maxsize=8)
def camera_rays(fov_deg: float, size_px: int, rotate_deg: float, shear_deg: float) -> Floats:
    """(A⁻¹ (x, y), 1) of every pixel, size×size×3; read-only."""
    offset = View(0.0, 0.0, fov_deg, size_px).plane_offsets()
    plane = (
        np.stack(np.meshgrid(offset, offset), axis=-1)
        @ np.linalg.inv(affine_matrix(rotate_deg, shear_deg)).T
    )
    rays = np.concatenate([plane, np.ones((size_px, size_px, 1))], axis=-1)
    rays.flags.writeable = False
    return rays


def look(panorama: WrappedPanorama, view: View, plan: ClipPlan, *, labels: bool = False) -> NDArray:
    """The frame of a plan at `view`: size×size[×C]."""
    if not is_warped(plan):
        return sample_view(panorama, view, labels=labels)
    rays = camera_rays(view.fov_deg, view.size_px, plan.rotate_deg, plan.shear_deg)
    turned = tilt_matrix(plan.tilt_deg, plan.tilt_towards_deg) @ view_rotation(view)
    return sample_directions(panorama, rays @ turned.T, labels=labels)


def frame_area_sr(plan: ClipPlan, view: View) -> Floats:
    """Steradians of each pixel of a plan's frame.

    DΩ = dA / |ray|³ on the plane at distance 1; det A is 1.
    """
    rays = camera_rays(view.fov_deg, view.size_px, plan.rotate_deg, plan.shear_deg)
    return np.linalg.norm(rays, axis=-1) ** -3 / view.focal_px**2


def warp_places(places: Floats, plan: ClipPlan, size_px: int) -> Floats:
    """Pixel indices (…×2) of plain views → of the plan's frames."""
    centre = middle_index(size_px)
    return (places - centre) @ affine_matrix(plan.rotate_deg, plan.shear_deg).T + centre


def unwarp_places(places: Floats, plan: ClipPlan, size_px: int) -> Floats:
    """Undo `warp_places`."""
    centre = middle_index(size_px)
    return (places - centre) @ np.linalg.inv(
        affine_matrix(plan.rotate_deg, plan.shear_deg)
    ).T + centre
