"""Scan trajectories: the paper's grid, the zig-zag, the closed loop, full coverage of the
sphere."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panoforge.core.geometry.scan import (
    ScanSpec,
    random_yaw0_deg,
    scan_grid,
    scan_order,
    scan_views,
)
from panoforge.core.geometry.sphere import (
    angle_between,
    direction_to_view_pixel,
    lonlat_to_direction,
    pixel_to_direction,
    view_rotation,
)


def test_the_papers_grid():
    grid = scan_grid(ScanSpec(90, 0.5))
    assert grid.columns == 8
    assert grid.pitches_deg == pytest.approx((-45, 0, 45))
    assert len(scan_views(ScanSpec(90, 0.5))) == 24


def test_column_first_zig_zag_closes():
    views = scan_views(ScanSpec(90, 0.5, 64), yaw0_deg=10)
    assert np.allclose(
        [(v.yaw_deg, v.pitch_deg) for v in views[:7]],
        [(10, -45), (10, 0), (10, 45), (55, 45), (55, 0), (55, -45), (100, -45)],
    )
    assert views[-1].pitch_deg == views[0].pitch_deg
    assert (views[-1].yaw_deg - views[0].yaw_deg) % 360 == pytest.approx(315)


SPECS = st.builds(ScanSpec, st.floats(30, 120), st.floats(0, 0.7), st.just(64))


@settings(deadline=None, max_examples=30)
@given(SPECS, st.floats(-180, 179))
def test_every_direction_is_seen(spec, yaw0_deg):
    directions = pixel_to_direction(np.arange(256)[None], np.arange(128)[:, None], 256, 128)
    poles = lonlat_to_direction([0, 0], [np.pi / 2, -np.pi / 2])[None]
    for points in (directions, poles):
        seen = np.zeros(points.shape[:2], bool)
        for view in scan_views(spec, yaw0_deg):
            seen |= direction_to_view_pixel(points, view)[2]
        assert seen.all()


@settings(deadline=None, max_examples=30)
@given(SPECS)
def test_consecutive_frames_overlap_as_asked(spec):
    views = scan_views(spec)
    forward = np.stack([view_rotation(view)[:, 2] for view in views])
    steps_deg = np.degrees(angle_between(forward, np.roll(forward, -1, axis=0)))
    assert steps_deg.max() <= spec.fov_deg * (1 - spec.overlap) + 1e-6


def test_random_yaw_is_seeded_and_whole_columns():
    a = [random_yaw0_deg(np.random.default_rng(0), 4096) for _ in range(2)]
    assert a[0] == a[1]
    rng = np.random.default_rng(1)
    yaws = np.array([random_yaw0_deg(rng, 4096) for _ in range(200)])
    assert ((yaws >= -180) & (yaws < 180)).all()
    assert np.allclose(yaws / 360 * 4096, np.round(yaws / 360 * 4096))
    assert len(set(yaws)) > 150


def test_impossible_specs_are_refused():
    with pytest.raises(ValueError, match=r"overlap must be in \[0, 0.9\], got 1"):
        ScanSpec(90, 1.0)
    with pytest.raises(ValueError, match="fov_deg must be in"):
        ScanSpec(10)


@pytest.mark.parametrize("trajectory", ["column_first", "row_first", "spiral", "random"])
def test_every_trajectory_visits_every_view_once(trajectory):
    order = scan_order(8, 3, trajectory)
    assert sorted(order) == [(column, row) for column in range(8) for row in range(3)]
    assert order == scan_order(8, 3, trajectory)
    views = scan_views(ScanSpec(size_px=8), 10.0, trajectory)
    key = lambda view: (view.yaw_deg, view.pitch_deg)  # noqa: E731
    assert sorted(views, key=key) == sorted(scan_views(ScanSpec(size_px=8), 10.0), key=key)
    steps = [(abs(a[0] - b[0]), abs(a[1] - b[1])) for a, b in itertools.pairwise(order)]
    if trajectory in ("column_first", "row_first"):
        assert set(steps) == {(0, 1), (1, 0)}  # never more than to a neighbour
    elif trajectory == "spiral":
        assert {min(c, 8 - c) + 3 * r for c, r in steps} == {
            1,
            4,
        }  # the next to the right, at the end of a turn also one up
    else:
        assert len(set(steps)) > 6
    with pytest.raises(
        ValueError,
        match="trajectory is one of column_first, row_first, spiral, random, got 'zigzag'",
    ):
        scan_order(8, 3, "zigzag")
