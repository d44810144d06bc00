"""The renderer against analytic scenes and against independently cast rays. See blender_scenes.py
for the scenes.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from blender_scenes_constants import (
    BALL_DISTANCE,
    BALL_RADIUS,
    BALLS,
    HEIGHT,
    POSITION,
    ROOM_RADIUS,
    WIDTH,
)
from repository import ROOT

from panoforge.cluster.process.process import ProcessOutcome
from panoforge.cluster.state.policy import RULES, AttemptFault, classify
from panoforge.core.geometry.sphere import (
    angle_between,
    direction_to_pixel,
    lonlat_to_direction,
    pixel_to_direction,
    row_area_sr,
)
from panoforge.datagen.messages import SceneResult

pytestmark = pytest.mark.render
PIXEL_RAD = 2 * np.pi / WIDTH


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of results of one run of blender_scenes.py."""
    out = tmp_path_factory.mktemp("scenes")
    script = Path(__file__).with_name("blender_scenes.py")
    path = os.pathsep.join([str(ROOT), str(script.parent)])
    done = subprocess.run(
        [sys.executable, str(script), str(out)],
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return out


@pytest.fixture(scope="module")
def analytic(scenes: Path) -> dict[str, np.ndarray]:
    return dict(np.load(scenes / "analytic.npz"))


@pytest.fixture(scope="module")
def facts(scenes: Path) -> dict:
    return json.loads((scenes / "facts.json").read_text())


def pixel_directions() -> np.ndarray:
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    return pixel_to_direction(u, v, WIDTH, HEIGHT)


def ball_pixels(analytic: dict[str, np.ndarray], number: int) -> np.ndarray:
    return analytic["index"] == number + 1


@pytest.mark.parametrize("number", range(len(BALLS)))
def test_centroid_of_a_ball_is_where_the_sphere_convention_puts_it(analytic, number):
    inside = ball_pixels(analytic, number)
    weight = np.repeat(row_area_sr(WIDTH, HEIGHT)[:, None], WIDTH, axis=1)[inside]
    centroid = (pixel_directions()[inside] * weight[:, None]).sum(axis=0)
    expected = lonlat_to_direction(*np.radians(BALLS[number]))
    assert angle_between(centroid, expected) < 0.5 * PIXEL_RAD
    if abs(BALLS[number][1]) < 80:  # in pixels of the image too, where columns mean something
        u, v = direction_to_pixel(centroid, WIDTH, HEIGHT)
        expected_u, expected_v = direction_to_pixel(expected, WIDTH, HEIGHT)
        assert (
            abs((u - expected_u + WIDTH / 2) % WIDTH - WIDTH / 2) < 0.5
            and abs(v - expected_v) < 0.5
        )
    assert weight.sum() == pytest.approx(
        2 * np.pi * (1 - np.sqrt(1 - (BALL_RADIUS / BALL_DISTANCE) ** 2)), rel=0.02
    )


def test_balls_on_seam_and_poles_touch_the_edges(analytic):
    seam = ball_pixels(analytic, BALLS.index((180, 10)))
    assert seam[:, 0].any() and seam[:, -1].any()
    assert ball_pixels(analytic, BALLS.index((0, 90)))[0].all()
    assert ball_pixels(analytic, BALLS.index((0, -90)))[-1].all()


def test_depth_is_the_distance_along_the_ray(analytic):
    room = analytic["index"] == len(BALLS) + 1
    assert np.abs(analytic["depth"][room] - ROOM_RADIUS).max() < 1e-3
    centres = np.array([lonlat_to_direction(*np.radians(place)) for place in BALLS]) * BALL_DISTANCE
    directions = pixel_directions()
    for number, centre in enumerate(centres):
        inside = ball_pixels(analytic, number)
        along = directions[inside] @ centre
        under = BALL_RADIUS**2 - (BALL_DISTANCE**2 - along**2)
        clear = (
            under > 0.05 * BALL_RADIUS**2
        )  # at the rim a facet shifts depth by more than the sphere itself
        exact = along - np.sqrt(np.maximum(under, 0))
        assert np.abs(analytic["depth"][inside] - exact)[clear].max() < 2e-3


def test_normals_are_unit_and_in_the_world_frame(analytic):
    rotation, directions = analytic["rotation"], pixel_directions()
    points = np.array(POSITION) + (directions @ rotation.T) * analytic["depth"][..., None]
    for number in range(len(BALLS)):
        inside = ball_pixels(analytic, number)
        core = (
            inside
            & np.roll(inside, 1, 1)
            & np.roll(inside, -1, 1)
            & np.roll(inside, 1, 0)
            & np.roll(inside, -1, 0)
        )
        core[[0, -1]] = inside[[0, -1]]
        expected = (points[core] - analytic["centres"][number]) / BALL_RADIUS
        facing = -(expected * (directions @ rotation.T)[core]).sum(axis=-1)
        clear = (
            facing > 0.7
        )  # nearer the rim the surface turns by more than 7 degrees within one pixel
        angles = np.degrees(angle_between(analytic["normal"][core], expected))
        assert angles[clear].max() < 5.0 and np.median(angles[clear]) < 1.5
        assert np.allclose(np.linalg.norm(analytic["normal"][core], axis=-1), 1, atol=1e-5)
    room = (
        analytic["index"] == len(BALLS) + 1
    )  # seen from its centre: normals point back along the ray
    beside = room.copy()  # the pixel filter reaches into the neighbours
    for rows in (-2, -1, 0, 1, 2):
        for columns in range(-4, 5):
            beside[2:-2] &= np.roll(room, (rows, columns), (0, 1))[2:-2]
    off = np.degrees(angle_between(analytic["normal"], -(directions @ rotation.T)))
    assert off[beside].max() < 1.0


def test_ids_agree_with_rays_through_pixel_centres(scenes):
    """Every pixel: those that differ must lie on an outline, where a ray a fiftieth of a pixel away
    meets the rendered id (float32 in Cycles and in the BVH round differently); and hardly any may
    differ at all.
    """
    data = np.load(scenes / "oracle.npz")
    assert len(np.unique(data["cast"])) > 30
    on_outline = (data["near"] == data["rendered"].ravel()[data["differs"]]).any(axis=0)
    assert on_outline.all()
    assert len(data["differs"]) <= 6
    same = (data["rendered"] == data["cast"]) & (data["rendered"] > 0)
    assert np.abs(data["depth"][same] - data["distance"][same]).max() < 2e-3
    assert (np.isinf(data["depth"]) == (data["rendered"] == 0)).all()


def test_glass_and_pure_transparency_keep_their_own_id(scenes):
    data = np.load(scenes / "oracle.npz")
    for name in ("paneGlass", "paneTransparent"):
        index = data["names"].tolist().index(name) + 1
        assert (data["cast"] == index).sum() > 200
        assert ((data["rendered"] == index) == (data["cast"] == index)).mean() > 0.9999


def test_instances_carry_the_id_of_what_one_would_click(scenes):
    data = np.load(scenes / "oracle.npz")
    for name in ("plant0", "plant1"):
        assert (data["rendered"] == data["names"].tolist().index(name) + 1).sum() > 100


def test_changes_between_renders_reach_cycles(facts):
    """Persistent data must not show an old scene: every render equals one made from scratch."""
    for change, (moved, stale) in facts["persistent"].items():
        assert stale < 1e-4, change  # rounding: the two scenes were built apart
        if change != "albedo":  # another pass leaves the picture as it is
            assert moved > 1e-3, change


def test_flat_secondary_materials_leave_what_is_seen_directly(facts):
    assert facts["flattened"]["changed"] == 1  # the checker; the lamp stays whole
    assert facts["flattened"]["difference"] == 0.0
    assert np.allclose(
        facts["flattened"]["colour"], 0.49, atol=0.05
    )  # half 0.8 and half 0.2, less the coat


def test_flat_secondary_materials_keep_the_light_and_the_reflections(facts):
    """Metal gives diffuse rays no light back where caustics are off, so its flat colour is black; a
    blurred mirror sees checks.
    """
    assert facts["bounced"]["room"] == pytest.approx(1, abs=0.01)
    assert facts["bounced"]["ball"] < 0.02


def test_settings_of_other_peoples_files_are_put_back(facts):
    assert len(facts["foreign"]) > 10
    for name, (found, fresh) in facts["foreign"].items():
        assert found == (pytest.approx(fresh) if isinstance(fresh, float) else fresh), name


def test_messages_say_what_was_expected_and_why(facts):
    assert "was filtered" in facts["messages"]["filtered"]


def test_leftovers_are_deleted_and_kept_objects_stay_in_place(facts):
    found = facts["leftovers"]
    assert (found["deleted"], found["left"]) == (1, ["kept"]) and found["moved"] == pytest.approx(
        0, abs=1e-6
    )


def test_ceiling_lights_leave_the_plane_of_the_ceiling(facts):
    found = facts["leftovers"]
    assert found["lowered"] == pytest.approx(1e-3, abs=1e-6) and (
        found["notes"],
        found["others"],
    ) == (1, 0)


def test_subdivision_for_renders_has_the_levels_asked_for_and_no_limit_surface(facts):
    found = facts["subdivided"]
    assert [one["triangles"] - 3968 for one in found] == [12, 48, 48]  # a dense ball as it is
    assert not any(one["limit"] for one in found)
    assert all(one["notes"] == [1, 0] for one in found)


def test_rocks_need_no_addon(facts):
    rocks = facts["rocks"]
    assert rocks["restored"]
    if not rocks["installed"]:
        assert rocks["made"].startswith("bowl") and len(rocks["notes"]) == 1


def test_a_device_that_is_not_there_is_an_error_that_blames_the_node(facts):
    said = facts["device"]
    if said.startswith("optix: "):
        return
    assert said.startswith(f"no GPU device of kind optix on node {socket.gethostname()}: ")
    ended = ProcessOutcome(1, None, None, 1.0, "")
    failed = SceneResult(key="scene", outcome="failed", error=f"DeviceError: {said}")
    assert classify(ended, failed).fault is AttemptFault.DEVICE
    assert RULES[AttemptFault.DEVICE].blames_node


def test_a_blend_file_from_outside_renders_with_correct_ids(facts):
    blend = facts["blend"]
    assert (
        "Suzanne" in blend["things"]
        and blend["things"].count("Icosphere") == 2  # each instance, by its prototype's name
        and "hidden" not in blend["things"]
    )
    assert blend["seen"] > 30 and blend["differ"] <= 2
    assert (
        "shy" in blend["things"] and blend["shy"] > 50 and blend["visibility"] > 0.9
    )  # hidden in the viewport only


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("scripted", "ask to run on opening (startup.py)"),
        ("broken", "cannot open it"),
        ("missing", "no such file on the machine that renders"),
    ],
)
def test_unusable_blend_files_are_refused_with_the_reason(facts, name, says):
    assert says in facts["blend"]["refused"][name]
