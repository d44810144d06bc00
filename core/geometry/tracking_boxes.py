"""The four bounds of a mask in 360VOT: box, rotated box, field of view, rotated field of view.

A box is on the panorama, unrolled where the mask is: it may run out over the seam. A rotated box is
the rectangle of least area, turned by `rotation_deg` clockwise in the picture. A field of view lies
between two pairs of great circles around its centre (`panoforge.core.geometry.bfov`). A rotated one
is turned about its axis, clockwise in the picture too, its longer side first.
Source: Huang et al., 360VOT, ICCV 2023, §3.2; the signs are those of its toolkit's lib/omni.py,
which made its labels (a comment there says the opposite of what it does).
"""

from dataclasses import dataclass

import cv2
import numpy as np

from panoforge.core.geometry.bfov import Bfov, fit_directions
from panoforge.core.geometry.pixels import index_to_edge
from panoforge.core.geometry.sphere import (
    camera_axes,
    direction_to_lonlat,
    pixel_to_direction,
    row_area_sr,
)
from panoforge.core.types import Floats, Mask


@dataclass(frozen=True)
class FlatBox:
    """A box on the panorama: centre and size in pixels from its edges; no size where absent."""

    cx: float = 0.0
    cy: float = 0.0
    width: float = 0.0
    height: float = 0.0
    rotation_deg: float = 0.0


@dataclass(frozen=True)
class FieldOfView:
    """A rectangle on the sphere; no extent where absent, or where no flat view holds it."""

    lon_deg: float = 0.0
    lat_deg: float = 0.0
    fov_h_deg: float = 0.0
    fov_v_deg: float = 0.0
    rotation_deg: float = 0.0


@dataclass(frozen=True)
class TrackingBoxes:
    """What bounds a thing in one frame."""

    box: FlatBox = FlatBox()
    rotated_box: FlatBox = FlatBox()
    fov: FieldOfView = FieldOfView()
    rotated_fov: FieldOfView = FieldOfView()


def bounds_of(mask: Mask, left: int, top: int, width: int, height: int) -> TrackingBoxes:
    """The bounds of a thing.

    Args:
        mask: bool h×w, not empty. It is the part of the panorama that holds the thing.
        left: The column at which the part begins; it may go on over the seam.
        top: The row at which it begins.
        width: Of the panorama, in pixels.
        height: Of the panorama, in pixels.
    """
    rows, columns = np.nonzero(mask)
    u, v = columns + left, rows + top
    low, high = np.array([u.min(), v.min()], float), np.array([u.max() + 1, v.max() + 1], float)
    box = FlatBox(*(float(x) for x in ((low + high) / 2).tolist() + (high - low).tolist()))
    edge = _outline(mask)
    u, v = u[edge], v[edge]
    directions = pixel_to_direction(u, v, width, height)
    half_pixel = np.pi / height / 2
    weight = row_area_sr(width, height)[v]
    found = fit_directions(directions, weight, half_pixel=half_pixel, trim=0.0)
    if found is None:
        return TrackingBoxes(box, _least_box(u, v))
    flat = FieldOfView(found.yaw_deg, found.pitch_deg, *found.fov_deg)
    turned = _least_field_of_view(found, directions, half_pixel)
    return TrackingBoxes(box, _least_box(u, v), flat, turned)


def _outline(mask: Mask) -> Mask:
    """Which of the mask's pixels, in their order, lie at its edge: they bound all the others."""
    inside = cv2.erode(np.pad(mask.astype(np.uint8), 1), np.ones((3, 3), np.uint8))[1:-1, 1:-1]
    return inside[mask] == 0


def _least_box(u: Floats, v: Floats) -> FlatBox:
    """The rectangle of least area around whole pixels."""
    corners = [
        np.stack([index_to_edge(u) + dx, index_to_edge(v) + dy], axis=-1)
        for dx in (-0.5, 0.5)
        for dy in (-0.5, 0.5)
    ]
    centre, size, turn = cv2.minAreaRect(np.concatenate(corners).astype(np.float32))
    return FlatBox(*(float(x) for x in (*centre, *size, turn)))


def _least_field_of_view(around: Bfov, directions: Floats, half_pixel: float) -> FieldOfView:
    """The field of view of least area in the plane that touches the sphere at the upright one."""
    right, down, forward = (directions @ around.axes()).T
    plane = np.stack([right / forward, down / forward], axis=-1)
    centre, size, turn = cv2.minAreaRect(plane.astype(np.float32))
    angle = np.radians(turn + (90.0 if size[0] < size[1] else 0.0))
    ends = np.array([[*centre, 1.0], [centre[0] + np.cos(angle), centre[1] + np.sin(angle), 1.0]])
    middle, along = ends @ around.axes().T
    lon, lat = (float(x) for x in direction_to_lonlat(middle))
    upright = camera_axes(lon, lat)
    ahead = (along / np.linalg.norm(along) - middle / np.linalg.norm(middle)) @ upright
    turned = float(np.arctan2(ahead[1], ahead[0]))  # from right towards down
    turned = (turned + np.pi / 2) % np.pi - np.pi / 2  # a rectangle has no front
    cos, sin = np.cos(turned), np.sin(turned)
    axes = upright @ np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    right, down, forward = (directions @ axes).T
    reach = [float(np.abs(side / forward).max()) for side in (right, down)]
    wide, high = (2 * float(np.degrees(np.arctan(t + half_pixel * (1 + t * t)))) for t in reach)
    lon_deg, lat_deg, turn_deg = (float(x) for x in np.degrees([lon, lat, turned]))
    return FieldOfView(lon_deg, lat_deg, wide, high, turn_deg)
