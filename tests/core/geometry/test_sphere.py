"""The pixel convention: what looks where, round trips at the seam and the poles, solid angles."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from panoforge.core.geometry import sphere
from panoforge.core.geometry.sphere import View

SIZES = st.sampled_from([(4096, 2048), (64, 32), (6, 3), (2, 1)])
YAW = st.floats(-180, 179.99)
PITCH = st.floats(-90, 90)


def test_known_directions():
    """Blender's frame: the middle of the image is +Y, a quarter to the right is +X, the top is
    +Z."""
    W, H = 4096, 2048
    for u, v, expected in [
        (W / 2 - 0.5, H / 2 - 0.5, (0, 1, 0)),
        (3 * W / 4 - 0.5, H / 2 - 0.5, (1, 0, 0)),
        (-0.5, H / 2 - 0.5, (0, -1, 0)),
        (7, -0.5, (0, 0, 1)),
        (9, H - 0.5, (0, 0, -1)),
    ]:
        assert np.allclose(sphere.pixel_to_direction(u, v, W, H), expected, atol=1e-12)


def test_pixel_centres_are_half_integers():
    lon, lat = sphere.pixel_to_lonlat(0, 0, 8, 4)
    assert lon == pytest.approx((0.5 / 8 - 0.5) * 2 * np.pi)
    assert lat == pytest.approx((0.5 - 0.5 / 4) * np.pi)


@given(SIZES, st.data())
def test_pixel_direction_round_trip(size, data):
    W, H = size
    u = data.draw(st.integers(0, W - 1))
    v = data.draw(st.integers(0, H - 1))
    back_u, back_v = sphere.direction_to_pixel(sphere.pixel_to_direction(u, v, W, H) * 3.7, W, H)
    assert back_v == pytest.approx(v, abs=1e-8)
    assert min(abs(back_u - u), W - abs(back_u - u)) < 1e-6


@given(st.floats(-np.pi, np.pi, exclude_max=True), st.floats(-np.pi / 2, np.pi / 2))
def test_direction_lonlat_round_trip(lon, lat):
    direction = sphere.lonlat_to_direction(lon, lat)
    back = sphere.lonlat_to_direction(*sphere.direction_to_lonlat(direction))
    assert np.allclose(direction, back, atol=1e-12)
    back_lon, back_lat = sphere.direction_to_lonlat(direction)
    assert -np.pi <= back_lon < np.pi
    assert abs(back_lat - lat) < 1e-7


def test_seam_and_poles_wrap():
    assert sphere.wrap_pixel(-1, 5, 16, 8) == (15, 5)
    assert sphere.wrap_pixel(16, 5, 16, 8) == (0, 5)
    assert sphere.wrap_pixel(3, -1, 16, 8) == (11, 0)
    assert sphere.wrap_pixel(3, 8, 16, 8) == (11, 7)


def test_wrap_pixel_is_the_geometry():
    """One row over the pole is the pixel whose direction lies there."""
    W, H = 16, 8
    lon, lat = sphere.pixel_to_lonlat(3, -1, W, H)  # a latitude above π/2
    u, v = sphere.direction_to_pixel(sphere.lonlat_to_direction(lon, lat), W, H)
    assert (round(float(u)), round(float(v))) == tuple(
        int(x) for x in sphere.wrap_pixel(3, -1, W, H)
    )


@given(YAW, PITCH, st.floats(20, 150), st.integers(1, 300), st.data())
def test_view_pixel_round_trip(yaw, pitch, fov, size, data):
    view = View(yaw, pitch, fov, size)
    x, y = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size - 1))
    back_x, back_y, inside = sphere.direction_to_view_pixel(
        sphere.view_pixel_to_direction(x, y, view), view
    )
    assert inside
    assert back_x == pytest.approx(x, abs=1e-6)
    assert back_y == pytest.approx(y, abs=1e-6)


def test_view_axes():
    """Yaw turns right, pitch looks up, x grows right and y down."""
    right = sphere.view_pixel_to_direction(50, 49.5, View(90, 0, 90, 100))
    assert right[0] > 0.99 and abs(right[1]) < 0.05
    up = sphere.view_pixel_to_direction(49.5, 49.5, View(0, 90, 90, 100))
    assert np.allclose(up, (0, 0, 1), atol=1e-12)
    corner = sphere.view_pixel_to_direction(
        99.5, -0.5, View(0, 0, 90, 100)
    )  # upper right corner, border to border 90°
    assert np.allclose(corner, (1, 1, 1))


def test_behind_the_camera_is_outside():
    x, _, inside = sphere.direction_to_view_pixel([0, -1, 0], View(0, 0, 90, 100))
    assert not inside and np.isnan(x)


@given(SIZES)
def test_solid_angles_sum_to_the_sphere(size):
    W, H = size
    assert sphere.row_area_sr(W, H).sum() * W == pytest.approx(4 * np.pi)


def test_angle_between_is_accurate_for_tiny_angles():
    a = sphere.lonlat_to_direction(0.3, 0.2)
    b = sphere.lonlat_to_direction(0.3, 0.2 + 1e-9)
    assert sphere.angle_between(a, b) == pytest.approx(1e-9, rel=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fov_deg": 180}, "needs 0 < fov_deg < 180"),
        ({"pitch_deg": 91}, r"in \[-90, 90\]"),
        ({"size_px": 0}, "at least 1"),
    ],
)
def test_impossible_views_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        View(**{"yaw_deg": 0, "pitch_deg": 0, "fov_deg": 90, "size_px": 8, **change})
