"""Rotated bounds: overlaps against counted points, the sense of rotation against the picture."""

import math

import numpy as np
import pytest

from panoforge.core.geometry.sphere import pixel_to_direction
from panoforge.core.geometry.tracking_boxes import bounds_of
from panoforge.eval.scoring.metrics.bfov import sphere_iou
from panoforge.eval.scoring.metrics.rotated_box import rotated_iou, success_rotated, upright
from panoforge.eval.scoring.metrics.tracking import OVERLAPS, ROTATED
from panoforge.eval.videos.tracks import Track, TrackBounds, mask_bounds, track_scores

WIDTH, HEIGHT = 320, 160


def held(box: np.ndarray, fine: int = 4) -> np.ndarray:
    """Which points of a fine grid over the cylinder a rotated box holds, turn by turn."""
    x = (np.arange(WIDTH * fine) + 0.5) / fine
    y = (np.arange(-HEIGHT * fine, 2 * HEIGHT * fine) + 0.5) / fine
    cx, cy, w, h, turn = box
    angle = math.radians(turn)
    inside = np.zeros((len(y), len(x)), bool)
    for turns in range(-2, 3):
        dx, dy = x[None, :] + turns * WIDTH - cx, y[:, None] - cy
        along = dx * math.cos(angle) + dy * math.sin(angle)  # clockwise: rows grow downwards
        across = dy * math.cos(angle) - dx * math.sin(angle)
        inside |= (np.abs(along) <= w / 2) & (np.abs(across) <= h / 2)
    return inside


def test_overlap_is_the_share_of_points_over_the_seam_too() -> None:
    rng = np.random.default_rng(0)
    n = 24
    true = np.stack(
        [
            rng.choice([2.0, 100.0, WIDTH - 1.0], n),
            rng.uniform(20, 140, n),
            *rng.uniform(10, 70, (2, n)),
            rng.uniform(-90, 90, n),
        ],
        1,
    )
    predicted = true + rng.normal(0, 1, true.shape) * [6, 6, 5, 5, 20]
    predicted[::3, 0] += rng.choice([-WIDTH, WIDTH], len(predicted[::3]))
    predicted[:, 2:4] = predicted[:, 2:4].clip(4)
    found = rotated_iou(predicted, true, WIDTH)
    for k in range(n):
        a, b = held(predicted[k]), held(true[k])
        assert found[k] == pytest.approx((a & b).sum() / (a | b).sum(), abs=0.01), (k, true[k])
    assert np.allclose(rotated_iou(true, true, WIDTH), 1, atol=1e-4)
    curve = success_rotated(predicted, true, np.ones(n, bool), WIDTH)
    assert np.allclose(curve, [(found > threshold).mean() for threshold in OVERLAPS])
    nothing = true * [1, 1, 0, 0, 1]
    assert (rotated_iou(nothing, true, WIDTH) == 0).all()


def bar(lon_deg: float, lat_deg: float, clockwise_deg: float) -> np.ndarray:
    """A long bar in the plane that touches the sphere, tilted clockwise in the picture."""
    u, v = np.arange(WIDTH)[None, :], np.arange(HEIGHT)[:, None]
    d = pixel_to_direction(u, v, WIDTH, HEIGHT)
    lon, lat, turn = np.radians([lon_deg, lat_deg, clockwise_deg])
    forward = np.array(
        [math.sin(lon) * math.cos(lat), math.cos(lon) * math.cos(lat), math.sin(lat)]
    )
    right = np.array([math.cos(lon), -math.sin(lon), 0.0])
    up = np.cross(right, forward)
    x, y, z = d @ right, d @ up, d @ forward
    along = x * math.cos(turn) - y * math.sin(turn)  # clockwise: to the right is down
    across = x * math.sin(turn) + y * math.cos(turn)
    return (z > 0) & (np.abs(along) < 0.6 * z) & (np.abs(across) < 0.15 * z)


@pytest.mark.parametrize("turn", [0.0, 20.0, -35.0])
@pytest.mark.parametrize(("lon", "lat"), [(0.0, 0.0), (178.0, 10.0), (40.0, 55.0)])
def test_fitted_fields_of_view_and_scores_turn_the_same_way(
    lon: float, lat: float, turn: float
) -> None:
    mask = bar(lon, lat, turn)
    fitted = mask_bounds(mask)[3]
    true = np.array([lon, lat, *(2 * np.degrees(np.arctan([0.6, 0.15]))), turn])
    assert (fitted[4] - turn + 90) % 180 - 90 == pytest.approx(0, abs=4)
    same, mirrored = true.copy(), true.copy()
    mirrored[4] = -turn
    assert sphere_iou(fitted[None], same[None])[0] > 0.8
    if turn:
        assert sphere_iou(fitted[None], mirrored[None])[0] < 0.6
    # the same in pictures: what is in the mask is in the field of view that is scored
    grid = np.array([[same, mirrored][k] for k in range(2)])
    assert sphere_iou(grid, np.stack([same, same]))[0] == pytest.approx(1)


def test_a_track_has_scores_of_rotated_bounds() -> None:
    track = Track(WIDTH, HEIGHT)
    for t in range(4):
        track.add(bar(170 + 5 * t, 10, 30), bar(170 + 5 * t, 10, 30))
    track.add(np.zeros((HEIGHT, WIDTH), bool), np.zeros((HEIGHT, WIDTH), bool))
    found = track.scores()
    assert {name for name in found if name.endswith("_rotated")} == set(ROTATED)
    assert found["s_dual_rotated"] == pytest.approx(20 / 21, abs=0.05)
    assert found["p_dual_rotated"] == found["p_angle_bfov_rotated"] == 1.0
    turned = [bounds_of(bar(0, 0, 30)[:, :], 0, 0, WIDTH, HEIGHT).rotated_box]
    assert turned[0].rotation_deg % 90 == pytest.approx(30, abs=5)


def test_bounds_that_a_file_lacks_are_not_scored() -> None:
    boxes = np.array([[10.0, 20.0, 30.0, 40.0]])
    bare = TrackBounds(boxes, np.zeros((1, 5)))
    found = track_scores(bare, bare, np.array([True]), WIDTH, HEIGHT)
    assert "s_dual" in found and not any("rotated" in name or "sphere" in name for name in found)
    centre = np.array([[25.0, 40.0, 30.0, 40.0, 0.0]])
    assert np.array_equal(upright(centre), boxes)
    both = TrackBounds(boxes, np.zeros((1, 5)), centre, None)
    found = track_scores(both, both, np.array([True]), WIDTH, HEIGHT)
    assert found["p_angle_rotated"] == 1.0 and "s_sphere_rotated" not in found
