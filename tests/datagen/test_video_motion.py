"""What videos are made of, without Blender: smooth functions, rigid motion, the instance table."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panoforge.core.sample.instance_table import InstanceLabel
from panoforge.core.sample.metadata import Pose
from panoforge.datagen.video.rigid import RigidTrack, turned
from panoforge.datagen.video.smooth import b_spline, controls_for, swaying, wandering
from panoforge.datagen.video.tables import ThingMotion, video_table

RIGHT = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(5, 20))
def test_a_spline_is_smooth_and_no_faster_than_its_controls(seed: int, count: int) -> None:
    controls = np.random.default_rng(seed).normal(size=(count, 3))
    at = np.linspace(0, count - 3, 4000)
    points = b_spline(controls, at)
    step = at[1] - at[0]
    speed = np.diff(points, axis=0) / step
    fastest = np.linalg.norm(np.diff(controls, axis=0), axis=1).max()
    assert np.linalg.norm(speed, axis=1).max() <= fastest * (1 + 1e-6)
    bend = np.diff(speed, axis=0) / step  # continuous: no jump from one step to the next
    assert np.abs(np.diff(bend, axis=0)).max() <= 30 * step * np.abs(controls).max()
    assert np.allclose(points[0], (controls[0] + 4 * controls[1] + controls[2]) / 6)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.5, 90), st.floats(0.1, 30))
def test_a_heading_turns_no_faster_than_it_may(seed: int, rate: float, seconds: float) -> None:
    times = np.linspace(0, seconds, 200)
    value = wandering(np.random.default_rng(seed), times, rate)
    assert value[0] == 0 and controls_for(seconds, 1.0) >= 4
    assert np.abs(np.diff(value) / np.diff(times)).max() <= rate * (1 + 1e-6)


def test_a_sway_stays_within_its_bounds_and_moves() -> None:
    sway = swaying(np.random.default_rng(3), np.linspace(0, 20, 2000), 4.0)
    assert np.abs(sway).max() <= 4.0 and np.ptp(sway) > 2.0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_points_move_with_their_thing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    axis = rng.normal(size=3)
    matrices = []
    for angle in rng.uniform(-3, 3, 4):
        matrix = np.eye(4)
        matrix[:3, :3] = turned(axis / np.linalg.norm(axis), angle)
        matrix[:3, 3] = rng.normal(size=3)
        matrices.append(matrix)
    track = RigidTrack.of(rng.normal(size=3), matrices)
    at_rest = rng.normal(size=(5, 3))
    here, there = (at_rest @ m[:3, :3].T + m[:3, 3] for m in (matrices[1], matrices[3]))
    assert np.allclose(track.moved(here, 1, 3), there, atol=1e-12)
    assert np.allclose(track.to_rest(here, 1), at_rest, atol=1e-12)
    assert np.allclose(track.matrix(3), matrices[3], atol=1e-12)
    pose = track.poses()[3]
    said = (at_rest - track.centre) @ np.array(pose.world_from_rest).T + pose.position_m
    assert np.allclose(said, there, atol=1e-12)


def test_what_stays_has_one_pose() -> None:
    track = RigidTrack.of(np.ones(3), [np.eye(4)] * 5)
    assert len(track.poses()) == 1 and not track.moves
    assert track.poses()[0].position_m == (1.0, 1.0, 1.0)


@pytest.fixture
def table():
    counts = np.zeros((3, 6), np.int64)
    counts[:, 2], counts[:, 5] = (4, 0, 2), (0, 0, 9)
    track = RigidTrack.of(
        np.zeros(3), [np.diag([1.0, 1, 1, 1]) + np.eye(4, k=3) * t for t in range(3)]
    )
    return video_table(
        counts,
        [{2: 0.5}, {}, {2: 0.25, 5: None}],
        [InstanceLabel(f"n{k}", f"c{k}", f"s{k}") for k in range(6)],
        {5: ThingMotion("rigid", track.centre, track.poses(), ())},
        [Pose(position_m=(0.0, 0.0, 0.0), yaw_deg=0.0, world_from_pano=RIGHT)] * 3,
        4.0,
        (16, 8),
    )


def test_ids_are_dense_over_the_video_and_last(table) -> None:
    assert table.numbers == (2, 5) and table.id_of.tolist() == [0, 0, 1, 0, 0, 2]
    still, moving = table.meta.instances
    assert (still.name, still.pixels, still.visibility) == ("n2", (4, 0, 2), (0.5, 0.0, 0.25))
    assert (still.entered, still.left) == ((2,), (1,))
    assert (moving.motion, moving.entered, moving.left) == ("rigid", (2,), ())
    assert moving.visibility == (0.0, 0.0, None) and len(moving.poses) == 3
    index = np.array([[0, 5], [2, 2]])
    assert table.labels(index).tolist() == [[0, 2], [1, 1]]
