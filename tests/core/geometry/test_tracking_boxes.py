"""The bounds of 360VOT: each holds its whole mask and is no larger than it must be."""

import numpy as np
import pytest
from sticks import HEIGHT, WIDTH, bounds, directions, stick

from panoforge.core.geometry.sphere import angle_between
from panoforge.eval.scoring.metrics.bfov import _sides


@pytest.mark.parametrize("lon_deg", [0.0, 100.0, 180.0])
@pytest.mark.parametrize("lat_deg", [0.0, 35.0, -60.0])
@pytest.mark.parametrize("turn_deg", [0.0, 30.0, -50.0, 80.0])
def test_a_turned_stick_has_its_own_length_width_and_turn(
    lon_deg: float, lat_deg: float, turn_deg: float
) -> None:
    boxes = bounds(stick(lon_deg, lat_deg, turn_deg, 30.0, 6.0))
    turned = boxes.rotated_fov
    assert abs((turned.lon_deg - lon_deg + 180) % 360 - 180) < 0.6 / np.cos(np.radians(lat_deg))
    assert abs(turned.lat_deg - lat_deg) < 0.6
    assert abs(turned.fov_h_deg - 30.0) < 1.2 and abs(turned.fov_v_deg - 6.0) < 1.2
    assert abs((turned.rotation_deg + turn_deg + 90) % 180 - 90) < 2.0
    flat = boxes.fov
    assert flat.rotation_deg == 0.0
    if turn_deg == 0.0:
        assert abs(flat.fov_h_deg - 30.0) < 1.2 and abs(flat.fov_v_deg - 6.0) < 1.2


@pytest.mark.parametrize("seed", range(12))
def test_every_bound_holds_every_pixel(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ways = directions()
    mask = np.zeros((HEIGHT, WIDTH), bool)
    centre = rng.normal(size=3)
    for _ in range(4):
        at = centre / np.linalg.norm(centre) + rng.normal(size=3) * 0.2
        mask |= angle_between(ways, at / np.linalg.norm(at)) < rng.uniform(0.03, 0.15)
    boxes, inside = bounds(mask), ways[mask]
    for fov in (boxes.fov, boxes.rotated_fov):
        numbers = np.radians(
            [[fov.lon_deg], [fov.lat_deg], [fov.fov_h_deg], [fov.fov_v_deg], [-fov.rotation_deg]]
        )
        # the metric's own rectangle: x to longitude 0, polar angle from the north, anticlockwise
        numbers[1] = np.pi / 2 - numbers[1]
        normals = _sides(*numbers)[0]
        own = np.stack([inside[:, 1], inside[:, 0], inside[:, 2]], axis=-1)
        assert (own @ normals.T).min() > -1e-9, fov
    area = boxes.rotated_fov.fov_h_deg * boxes.rotated_fov.fov_v_deg
    assert area <= boxes.fov.fov_h_deg * boxes.fov.fov_v_deg * 1.1
    v, u = np.nonzero(mask)
    box, turned = boxes.box, boxes.rotated_box
    assert (np.abs((u + 0.5 - box.cx + WIDTH / 2) % WIDTH - WIDTH / 2) <= box.width / 2).all()
    assert (np.abs(v + 0.5 - box.cy) <= box.height / 2).all()
    turn = np.radians(turned.rotation_deg)
    x = (u + 0.5 - turned.cx + WIDTH / 2) % WIDTH - WIDTH / 2
    y = v + 0.5 - turned.cy
    assert (np.abs(x * np.cos(turn) + y * np.sin(turn)) <= turned.width / 2 + 1e-3).all()
    assert (np.abs(y * np.cos(turn) - x * np.sin(turn)) <= turned.height / 2 + 1e-3).all()
    assert turned.width * turned.height <= box.width * box.height * 1.001


def test_what_goes_all_around_has_a_box_and_no_field_of_view() -> None:
    band = np.zeros((HEIGHT, WIDTH), bool)
    band[100:120] = True
    boxes = bounds(band)
    assert boxes.box.width == WIDTH and boxes.box.height == 20
    assert boxes.fov.fov_h_deg == boxes.rotated_fov.fov_h_deg == 0.0
