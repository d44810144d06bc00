"""S_sphere and P_angle of 360VOT for bounding fields of view.

Spherical rectangles instead of boxes.

A BFoV (N, 5) is clon, clat, fov_h, fov_v, rotation, in degrees: the directions between two pairs of
great circles around its centre. It is turned clockwise as one looks at it (its toolkit's
`lib/omni.py`, which made the labels). Its IoU is exact in mode `seam-aware`. One rectangle is
clipped by the four half-spaces of the other (Sutherland–Hodgman on the sphere), and areas are sums
of signed solid angles (Van Oosterom and Strackee 1983). So it holds for equal and for touching
rectangles. Fields of view are below 180°.

Mode `official` is the toolkit (HuajianUP/360VOT, `eval/sphiou.py`, after Dai et al., Unbiased IoU,
AAAI 2022), which
- takes the latitude for the polar angle, so a rectangle on the horizon is computed as one at the
  pole;
- converts the rotation to radians twice, so it is nearly none (and it is anticlockwise);
- keeps corners that coincide, so rectangles that are equal, or share a side, get a meaningless
  number (equal ones: −0.97).
"""

import numpy as np
from numpy.typing import ArrayLike

from panoforge.core.types import Floats
from panoforge.eval.scoring.metrics.boundary import Mode
from panoforge.eval.scoring.metrics.tracking import (
    DEGREES,
    OVERLAPS,
    centre_angle_deg,
    scored_frames,
    shares,
)


def success_sphere(
    predicted: ArrayLike, true: ArrayLike, present: ArrayLike, mode: Mode = "seam-aware"
) -> Floats:
    """S_sphere, (21,).

    The share of frames whose spherical IoU is above each of `tracking.OVERLAPS`.
    """
    p, t, frames = scored_frames(predicted, true, present, mode)
    there = (t[:, 2] > 0) & (t[:, 3] > 0)
    overlap = np.full(len(t), -1.0)
    overlap[there] = sphere_iou(p[there], t[there], mode)
    return np.array([np.sum(overlap > threshold) / frames for threshold in OVERLAPS])


def precision_angle_bfov(
    predicted: ArrayLike, true: ArrayLike, present: ArrayLike, mode: Mode = "seam-aware"
) -> Floats:
    """P_angle: the share of frames whose centres are within each of `tracking.DEGREES`, (101,)."""
    p, t, frames = scored_frames(predicted, true, present, mode)
    return shares(
        centre_angle_deg(np.radians(p[:, :2]).T, np.radians(t[:, :2]).T, mode), DEGREES, frames
    )


def sphere_iou(predicted: ArrayLike, true: ArrayLike, mode: Mode = "seam-aware") -> Floats:
    """IoU of BFoVs (N, 5) in degrees, frame by frame, (N,).

    A predicted BFoV without extent overlaps nothing.
    """
    a, b = np.asarray(predicted, np.float64), np.asarray(true, np.float64)
    if a.ndim != 2 or a.shape != b.shape or a.shape[1] != 5:
        raise ValueError(
            "BFoVs are N×5 (clon, clat, fov_h, fov_v, rotation), predicted like true; got"
            f" {a.shape} and {b.shape}"
        )
    if mode == "official":
        return _official_iou(np.radians(a), np.radians(b))
    if (a[:, 2:4] >= 180).any() or (b[:, 2:4] >= 180).any():
        raise ValueError(
            "a BFoV of 180° or more is no spherical rectangle; mode 'official' computes what the"
            " toolkit computes"
        )
    return np.array([_rectangle_iou(x, y) for x, y in zip(a, b, strict=True)], np.float64)


def _sides(lon: Floats, polar: Floats, fov_h: Floats, fov_v: Floats, roll: Floats) -> Floats:
    """Inward normals of the four great circles, (N, 4, 3), in order around the rectangle.

    All in radians, (N,).
    """
    zero = np.zeros_like(lon)
    ahead = np.stack([np.sin(polar) * np.cos(lon), np.sin(polar) * np.sin(lon), np.cos(polar)], -1)
    east = np.stack([-np.sin(lon), np.cos(lon), zero], -1)
    north = np.stack(
        [-np.cos(polar) * np.cos(lon), -np.cos(polar) * np.sin(lon), np.sin(polar)], -1
    )
    cos, sin = np.cos(roll)[:, None], np.sin(roll)[:, None]
    # Turned about `ahead`, right-handed, which is anticlockwise; ahead × east = north.
    right, up = cos * east + sin * north, cos * north - sin * east
    h, v = fov_h[:, None] / 2, fov_v[:, None] / 2
    return np.stack(
        [
            -np.cos(h) * right + np.sin(h) * ahead,
            -np.cos(v) * up + np.sin(v) * ahead,
            np.cos(h) * right + np.sin(h) * ahead,
            np.cos(v) * up + np.sin(v) * ahead,
        ],
        axis=1,
    )


def _rectangle_iou(a: Floats, b: Floats) -> float:
    if (a[2:4] <= 0).any() or (b[2:4] <= 0).any():
        return 0.0
    lon, lat, fov_h, fov_v, roll = np.radians(np.stack([a, b])).T
    sides = _sides(lon, np.pi / 2 - lat, fov_h, fov_v, -roll)
    corners = [_unit(np.cross(own, np.roll(own, -1, axis=0))) for own in sides]
    common = corners[0]
    for normal in sides[1]:
        common = _clip(common, normal)
    both = _area_sr(common)
    return both / (_area_sr(corners[0]) + _area_sr(corners[1]) - both)


def _clip(polygon: Floats, normal: Floats) -> Floats:
    """The part of a convex spherical polygon (K, 3) on the inner side of a great circle."""
    kept: list[Floats] = []
    height = polygon @ normal
    for k in range(len(polygon)):
        j = (k + 1) % len(polygon)
        if height[k] >= 0:
            kept.append(polygon[k])
        if (height[k] >= 0) != (height[j] >= 0):
            kept.append(
                _unit(polygon[k] * height[j] - polygon[j] * height[k])
                * (1 if height[j] > height[k] else -1)
            )
    return np.array(kept).reshape(-1, 3)


def _area_sr(polygon: Floats) -> float:
    """Solid angle of a convex spherical polygon (K, 3)."""
    if len(polygon) < 3:
        return 0.0
    a, b, c = polygon[0], polygon[1:-1], polygon[2:]
    solid = 2 * np.arctan2(np.cross(b, c) @ a, 1 + b @ a + c @ a + np.sum(b * c, axis=1))
    return abs(float(solid.sum()))


def _unit(vectors: Floats) -> Floats:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _official_iou(a: Floats, b: Floats) -> Floats:
    """Girard's theorem over every corner and crossing that no side excludes, as the toolkit has it.

    Radians, (N, 5).
    """
    sides = [
        _sides(bfov[:, 0], bfov[:, 1], bfov[:, 2], bfov[:, 3], np.radians(bfov[:, 4]))
        for bfov in (a, b)
    ]
    pairs = [(own[:, k], own[:, (k + 1) % 4]) for own in sides for k in range(4)]
    crossings = [
        (one, other) for one in np.moveaxis(sides[0], 1, 0) for other in np.moveaxis(sides[1], 1, 0)
    ]
    first, second = (np.stack(part, axis=1) for part in zip(*pairs, *crossings, strict=True))
    normal = np.cross(first, second)
    length = np.linalg.norm(normal, axis=-1, keepdims=True)
    corner = normal / np.where(
        np.arange(normal.shape[1])[:, None] < len(pairs), length, length + 1e-10
    )
    corner = np.concatenate([corner, -corner[:, len(pairs) :]], axis=1)
    angle = np.arccos(np.clip(-np.sum(first * second, axis=-1), -1, 1))
    angle = np.concatenate([angle, angle[:, len(pairs) :]], axis=1)
    inside = (np.round(corner @ np.concatenate(sides, axis=1).transpose(0, 2, 1), 8) >= 0).all(
        axis=-1
    )
    number = inside.sum(axis=1)
    both = np.where(number > 0, (angle * inside).sum(axis=1) - (number - 2) * np.pi, 0.0)
    area = [
        4 * np.arccos(-np.sin(bfov[:, 2] / 2) * np.sin(bfov[:, 3] / 2)) - 2 * np.pi
        for bfov in (a, b)
    ]
    return both / (area[0] + area[1] - both)
