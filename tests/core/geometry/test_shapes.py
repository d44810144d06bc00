"""Strokes and polygons on the sphere against brute force, over the seam and around the poles."""

import numpy as np
import pytest

from panoforge.core.geometry.shapes import fill_polygon, fill_stroke, sphere_parts
from panoforge.core.geometry.sphere import (
    angle_between,
    lonlat_to_direction,
    pixel_to_direction,
    row_area_sr,
)

WIDTH, HEIGHT = 512, 256
PIXEL = np.pi / HEIGHT
DIRECTIONS = pixel_to_direction(np.arange(WIDTH)[None], np.arange(HEIGHT)[:, None], WIDTH, HEIGHT)


def radians(*points: tuple[float, float]) -> np.ndarray:
    return np.radians(np.array(points, np.float64))


def distance_to_arc(start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """The angle from every pixel to a great-circle arc."""
    ends = np.minimum(angle_between(DIRECTIONS, start), angle_between(DIRECTIONS, stop))
    normal = np.cross(start, stop)
    if np.linalg.norm(normal) < 1e-12:
        return ends
    normal /= np.linalg.norm(normal)
    side = np.arcsin(np.clip(DIRECTIONS @ normal, -1, 1))
    foot = DIRECTIONS - np.sin(side)[..., None] * normal
    between = (np.cross(start, foot) @ normal > 0) & (np.cross(foot, stop) @ normal > 0)
    return np.where(between, np.abs(side), ends)


PATHS = {
    "over the seam": radians((170, 10), (-165, -5), (-150, 20)),
    "over the north pole": radians((20, 80), (-160, 75)),
    "around the south pole": radians((0, -85), (90, -85), (180, -85), (-90, -85), (0, -85)),
    "a dab": radians((33, 12)),
}


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("radius_deg", [0.2, 3.0, 20.0])
def test_a_stroke_is_what_lies_within_its_radius(name: str, radius_deg: float) -> None:
    path, radius = PATHS[name], float(np.radians(radius_deg))
    corners = lonlat_to_direction(path[:, 0], path[:, 1])
    away = np.min(
        [
            distance_to_arc(a, b)
            for a, b in zip(corners[[0, *range(len(corners) - 1)]], corners, strict=True)
        ],
        axis=0,
    )
    mask = fill_stroke(path, radius, WIDTH, HEIGHT)
    assert mask[away < radius - 0.11 * PIXEL].all()
    assert not mask[away > max(radius, PIXEL) + 1e-9].any()


def winding(corners: np.ndarray) -> np.ndarray:
    """Whether the polygon turns around each pixel: the sum of the angles its sides are seen under.
    It turns around the antipodes too, the other way; those are not near its corners.
    """
    total = np.zeros((HEIGHT, WIDTH))
    for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        left = a - (DIRECTIONS @ a)[..., None] * DIRECTIONS
        right = b - (DIRECTIONS @ b)[..., None] * DIRECTIONS
        total += np.arctan2(
            np.sum(np.cross(left, right) * DIRECTIONS, -1), np.sum(left * right, -1)
        )
    near = np.min([angle_between(DIRECTIONS, corner) for corner in corners], axis=0) < 0.1
    return total * np.sign(total[near & (np.abs(total) > np.pi)].sum()) > np.pi


POLYGONS = {
    "plain": radians((-20, -10), (30, -15), (10, 25)),
    "over the seam": radians((160, -20), (-150, -30), (-170, 35), (175, 10)),
    "concave over the seam": radians((150, -20), (-150, -20), (-178, 5), (-150, 40), (150, 40)),
    "around the north pole": radians((0, 70), (100, 60), (-120, 65)),
    "around the south pole": radians((0, -50), (-120, -60), (120, -55)),
    "a side over the pole": radians((10, 60), (-170, 70), (-100, 50)),
    "a corner on the pole": radians((0, 90), (-40, 50), (35, 45)),
}


@pytest.mark.parametrize("name", POLYGONS)
@pytest.mark.parametrize("turned", [0.0, 71.3, 180.0])
def test_a_polygon_is_what_its_sides_turn_around(name: str, turned: float) -> None:
    path = POLYGONS[name].copy()
    path[:, 0] = (path[:, 0] + np.radians(turned) + np.pi) % (2 * np.pi) - np.pi
    corners = lonlat_to_direction(path[:, 0], path[:, 1])
    want = winding(corners)
    edge = np.min(
        [distance_to_arc(a, b) for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True)],
        axis=0,
    )
    for order in (path, path[::-1], np.roll(path, 1, axis=0)):
        mask = fill_polygon(order, WIDTH, HEIGHT)
        assert (mask == want)[edge > 1e-4].all()
        assert 0 < mask.sum(axis=1) @ row_area_sr(WIDTH, HEIGHT) < 2 * np.pi


def test_parts_hold_together_over_seam_and_poles() -> None:
    mask = fill_stroke(radians((178, 0), (-178, 0)), 0.05, WIDTH, HEIGHT)
    mask |= fill_stroke(radians((10, 89)), 0.1, WIDTH, HEIGHT)
    mask |= fill_stroke(radians((60, 40)), 0.02, WIDTH, HEIGHT)
    parts, count = sphere_parts(mask)
    assert count == 3 and np.array_equal(parts > 0, mask)
    sizes = np.bincount(parts.ravel())[1:]
    assert list(sizes) == sorted(sizes, reverse=True)
    pole = np.zeros((HEIGHT, WIDTH), bool)
    pole[0, 3] = pole[0, 3 + WIDTH // 2] = True  # neighbours across the pole
    pole[5, 0] = pole[6, WIDTH - 1] = True  # diagonal across the seam
    assert sphere_parts(pole)[1] == 2
    assert sphere_parts(np.zeros((HEIGHT, WIDTH), bool))[1] == 0
