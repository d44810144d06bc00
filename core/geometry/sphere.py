"""Equirectangular ↔ direction ↔ perspective, on the convention of core/geometry/pixels.py.

The panorama frame is right-handed with x right, y forward, z up (Blender's world, seen by an
unrotated camera). A direction is (cos φ·sin λ, cos φ·cos λ, sin φ). Longitude λ ∈ [−π, π) grows to
the right in the image, latitude φ ∈ [−π/2, π/2] upwards. Pixel *centres* sit at half-integers, so
integer pixel indices (u, v) look at

    λ = ((u + 0.5)/W − 0.5)·2π        φ = (0.5 − (v + 0.5)/H)·π

Columns wrap; crossing a pole flips the row and shifts by W/2. A perspective view is a square OpenCV
camera (x right, y down, z forward) given by yaw, pitch, fov and size; yaw turns to the right, pitch
up. All continuous pixel coordinates here are in *index* units: the centre of pixel 0 is 0.0, so
they can go to cv2.remap as they are.

Why our own and not a library: the two common ones differ from each other by one pixel. Everything
is numpy and vectorised; sampling an image through these maps is `panoforge.core.geometry.views`.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from panoforge.core.geometry.pixels import (
    column_lon,
    edge_lat,
    edge_to_index,
    lat_edge,
    lon_edge,
    middle_index,
    row_lat,
)
from panoforge.core.types import Bools, Floats, Ints, Matrix


@dataclass(frozen=True)
class View:
    """A square perspective view of a panorama: an OpenCV camera, x right, y down, z forward.

    Attributes:
        yaw_deg: Degrees to the right of the panorama's middle.
        pitch_deg: Degrees up, −90 to 90.
        fov_deg: The full angle, degrees, below 180.
        size_px: Pixels on each side.

    Example:
        >>> import panoforge
        >>> view = panoforge.View(yaw_deg=0, pitch_deg=0, fov_deg=90, size_px=512)
        >>> round(view.focal_px, 3)
        256.0
    """

    yaw_deg: float
    pitch_deg: float
    fov_deg: float
    size_px: int

    def __post_init__(self) -> None:
        if not 0 < self.fov_deg < 180:
            raise ValueError(
                "a perspective view needs 0 < fov_deg < 180 (its image plane is flat), got"
                f" {self.fov_deg}"
            )
        if not -90 <= self.pitch_deg <= 90:
            raise ValueError(
                "pitch_deg must be in [-90, 90] (looking past a pole is another yaw), got"
                f" {self.pitch_deg}"
            )
        if self.size_px < 1:
            raise ValueError(f"size_px must be at least 1, got {self.size_px}")

    @property
    def focal_px(self) -> float:
        """Focal length in pixels: half the width over the tangent of half the angle."""
        return 0.5 * self.size_px / float(np.tan(np.radians(self.fov_deg) / 2))

    def plane_offsets(self) -> Floats:
        """Where the pixel centres lie on the image plane at distance 1, along either axis.

        Returns:
            float64 (size_px,), from the plane's middle; growing to the right, or downwards.
        """
        return (np.arange(self.size_px) - middle_index(self.size_px)) / self.focal_px

    def range_per_depth(self) -> Floats:
        """Distance from the camera per depth along its axis, at each pixel.

        Returns:
            float64 (size_px, size_px), 1 or more.
        """
        offsets = self.plane_offsets()
        return np.sqrt(1 + offsets[:, None] ** 2 + offsets[None, :] ** 2)


def lonlat_to_direction(lon: ArrayLike, lat: ArrayLike) -> Floats:
    """Radians (shapes broadcast to S) → unit directions of shape S+(3,)."""
    lon, lat = np.asarray(lon, np.float64), np.asarray(lat, np.float64)
    out = np.empty((*np.broadcast_shapes(lon.shape, lat.shape), 3))
    flat = np.cos(lat)  # of a row and a column: sines of each once, not of every pixel
    np.multiply(flat, np.sin(lon), out=out[..., 0])
    np.multiply(flat, np.cos(lon), out=out[..., 1])
    out[..., 2] = np.sin(lat)
    return out


def direction_to_lonlat(direction: ArrayLike) -> tuple[Floats, Floats]:
    """Directions of shape S+(3,), of any length but zero → (lon, lat) in radians.

    lon is in [−π, π), and 0 at a pole.
    """
    x, y, z = np.moveaxis(np.asarray(direction, np.float64), -1, 0)
    lon = np.arctan2(x, y)
    lon = np.where(lon >= np.pi, -np.pi, lon)
    return lon, np.arctan2(z, np.hypot(x, y))


def pixel_to_lonlat(u: ArrayLike, v: ArrayLike, width: int, height: int) -> tuple[Floats, Floats]:
    """Continuous pixel indices (column u, row v) → (lon, lat) in radians.

    Integers are pixel centres.
    """
    u, v = np.asarray(u, np.float64), np.asarray(v, np.float64)
    return column_lon(u, width), row_lat(v, height)


def lonlat_to_pixel(
    lon: ArrayLike, lat: ArrayLike, width: int, height: int
) -> tuple[Floats, Floats]:
    """(lon, lat) in radians → continuous pixel indices, u in [−0.5, W−0.5), v in [−0.5, H−0.5]."""
    lon, lat = np.asarray(lon, np.float64), np.asarray(lat, np.float64)
    u = edge_to_index(lon_edge(lon, width))
    return np.mod(u + 0.5, width) - 0.5, edge_to_index(lat_edge(lat, height))


def pixel_to_direction(u: ArrayLike, v: ArrayLike, width: int, height: int) -> Floats:
    """Continuous pixel indices of shape S → unit directions of shape S+(3,)."""
    return lonlat_to_direction(*pixel_to_lonlat(u, v, width, height))


def direction_to_pixel(direction: ArrayLike, width: int, height: int) -> tuple[Floats, Floats]:
    """Directions of shape S+(3,) → continuous pixel indices (u, v), each of shape S."""
    return lonlat_to_pixel(*direction_to_lonlat(direction), width, height)


def wrap_pixel(u: ArrayLike, v: ArrayLike, width: int, height: int) -> tuple[Ints, Ints]:
    """Integer pixel indices that ran over an edge → the pixel there.

    Columns wrap; a crossed pole flips the row and shifts by W/2. Rows may overrun by up to H. W
    must be even.
    """
    u, v = np.asarray(u, np.intp), np.asarray(v, np.intp)
    over_north, over_south = v < 0, v >= height
    u = np.where(over_north | over_south, u + width // 2, u)
    v = np.where(over_north, -1 - v, np.where(over_south, 2 * height - 1 - v, v))
    return np.mod(u, width), v


def view_rotation(view: View) -> Matrix:
    """The 3×3 matrix whose columns are the view's axes (right, down, forward).

    They are in the panorama frame: `direction = rotation @ camera_ray`.
    """
    return camera_axes(np.radians(view.yaw_deg), np.radians(view.pitch_deg))


def camera_axes(yaw: float, pitch: float) -> Matrix:
    """The axes (columns right, down, forward) of a camera with that yaw and pitch in radians."""
    right = np.array([np.cos(yaw), -np.sin(yaw), 0.0])
    forward = np.array([np.cos(pitch) * np.sin(yaw), np.cos(pitch) * np.cos(yaw), np.sin(pitch)])
    return np.stack([right, np.cross(forward, right), forward], axis=1)


def view_pixel_to_direction(x: ArrayLike, y: ArrayLike, view: View) -> Floats:
    """Continuous view pixel indices of shape S → directions of shape S+(3,).

    Not normalised: the forward component is 1.
    """
    centre = middle_index(view.size_px)
    x = (np.asarray(x, np.float64) - centre) / view.focal_px
    y = (np.asarray(y, np.float64) - centre) / view.focal_px
    x, y = np.broadcast_arrays(x, y)
    return np.stack([x, y, np.ones_like(x)], axis=-1) @ view_rotation(view).T


def direction_to_view_pixel(direction: ArrayLike, view: View) -> tuple[Floats, Floats, Bools]:
    """Directions of shape S+(3,) → (x, y, inside) of shape S.

    x and y are continuous view pixel indices, NaN behind the camera. `inside` says whether the
    direction falls into the image: in front of the camera and within its borders.
    """
    right, down, forward = np.moveaxis(
        np.asarray(direction, np.float64) @ view_rotation(view), -1, 0
    )
    front = forward > 1e-9
    depth = np.where(front, forward, np.nan)
    centre = middle_index(view.size_px)
    x = right / depth * view.focal_px + centre
    y = down / depth * view.focal_px + centre
    low, high = -0.5 - 1e-9, view.size_px - 0.5 + 1e-9
    with np.errstate(invalid="ignore"):
        inside = front & (x >= low) & (x <= high) & (y >= low) & (y <= high)
    return x, y, inside


def row_area_sr(width: int, height: int) -> Floats:
    """Solid angle in steradians of one pixel in each row, shape (H,).

    (2π/W)·(sin φ_top − sin φ_bottom), exact. Summed over the whole image it is 4π.
    """
    edges = np.sin(edge_lat(np.arange(height + 1), height))
    return (2 * np.pi / width) * (edges[:-1] - edges[1:])


@lru_cache(maxsize=16)
def view_area_sr(fov_deg: float, size_px: int) -> Floats:
    """Solid angle in steradians of each pixel of a view, size×size; read-only.

    DΩ = cos³θ / f², θ the angle to the optical axis, f in pixels.
    """
    view = View(0.0, 0.0, fov_deg, size_px)
    offset = view.plane_offsets()
    cos = 1 / np.sqrt(1 + offset[None, :] ** 2 + offset[:, None] ** 2)
    area = cos**3 / view.focal_px**2
    area.flags.writeable = False
    return area


def row_cos_lat(height: int) -> Floats:
    """Cos φ at the pixel centres of each row, shape (H,): the weight of cos φ-weighted scores."""
    return np.cos(row_lat(np.arange(height), height))


def angle_between(a: ArrayLike, b: ArrayLike) -> Floats:
    """Great-circle angle in radians between directions of shape S+(3,).

    Accurate for small angles too.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return np.arctan2(np.linalg.norm(np.cross(a, b), axis=-1), np.sum(a * b, axis=-1))


def fibonacci_directions(count: int) -> Floats:
    """(count, 3) unit vectors spread evenly over the sphere.

    A golden-angle spiral (Swinbank and Purser 2006).
    """
    k = np.arange(count) + 0.5
    z = 1 - 2 * k / count
    angle = np.pi * (1 + 5**0.5) * k
    radius = np.sqrt(1 - z * z)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), z], axis=1)
