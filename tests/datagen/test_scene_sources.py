"""Glass, boxes, visibility, the ray oracle and the sources that need no Infinigen room. See
blender_sources.py for the scenes.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from repository import ROOT

pytestmark = [pytest.mark.render, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What one run of blender_sources.py found."""
    out = tmp_path_factory.mktemp("sources")
    script = Path(__file__).with_name("blender_sources.py")
    path = os.pathsep.join([str(ROOT), str(script.parent)])
    done = subprocess.run(
        [sys.executable, str(script), str(out)],
        capture_output=True,
        text=True,
        timeout=380,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((out / "facts.json").read_text())


def test_glass_is_solid_or_seen_through_by_policy(facts):
    glass = facts["glass"]
    assert glass["panes"] == ["pane"]  # not the leaf that is cut out of its card
    assert glass["id"] == [1, 3] and glass["depth"] == pytest.approx([2.0, 4.0], abs=5e-3)
    assert glass["count"]["solid"][0] > 200 and glass["count"]["through"][0] == 0
    assert glass["count"]["through"][2] == glass["count"]["solid"][2] + glass["count"]["solid"][0]
    assert glass["count"]["through"][1] == glass["count"]["solid"][1] > 10
    assert glass["restored"] == 0.0 and glass["same_elsewhere"] == 0


def test_boxes_are_upright_and_tight(facts):
    assert np.allclose(facts["boxes"], 1.0, atol=1e-3)
    box = facts["space"]["box"]["box"]
    assert box["center_m"] == pytest.approx([0, 6, 0.3], abs=1e-4) and box[
        "size_m"
    ] == pytest.approx([2, 0.5, 1], abs=1e-4)
    assert np.array(box["world_from_box"])[:2, 0] == pytest.approx(
        [np.cos(np.pi / 6), np.sin(np.pi / 6)], abs=1e-4
    )


def test_visibility_is_the_share_of_what_the_instance_alone_would_cover(facts):
    space = facts["space"]
    assert (
        space["open"]["visibility"] == 1.0
        and space["seam"]["visibility"] == 1.0
        and space["wall"]["visibility"] == 1.0
    )
    assert 0.35 < space["box"]["visibility"] < 0.65  # the wall's edge passes before its middle
    # The wall alone covers the sphere around a 4×4 m card 3 m away, less the half of the box that
    # is not before it.
    assert 0.8 < space["room"]["visibility"] < 0.95


def test_rays_confirm_every_pixel_and_name_the_cause_of_those_they_do_not(facts):
    honest = facts["rays"]["honest"]
    assert (
        honest["rays"] == 256 * 128
        and honest["kinds"]["opaque"] > 10_000
        and honest["kinds"]["transparent"] > 200
    )
    assert honest["differ"].get("wrong", 0) == 0 and honest["differ"].get("transparent", 0) == 0
    assert honest["differ"].get("edge", 0) <= 6 and honest["depth_off"] == 0
    assert set(honest["differ"]) <= {"edge", "coplanar"}
    assert (
        honest["ties"]["plaster / poster"] > 50
    )  # they lie in one plane: said, whoever is rendered


def test_rays_find_swapped_ids_and_a_map_that_is_one_pixel_off(facts):
    lying, shifted = facts["rays"]["lying"], facts["rays"]["shifted"]
    assert lying["differ"]["wrong"] > 0.95 * facts["rays"]["swapped"] > 100
    assert "rendered Suzanne, a ray meets box00" in " ".join(
        lying["examples"]
    ) or "rendered box00" in " ".join(lying["examples"])
    assert shifted["differ"]["wrong"] > 300


def test_every_room_gets_a_camera_and_free_ones_stand_at_any_height_a_little_tilted(facts):
    chosen, free, _, _ = facts["rooms"]
    assert sorted(position[0] > 10 for position in chosen) == [False, True]
    assert all(1.3 <= position[2] <= 1.7 for position in chosen)
    heights, tilts = np.array(free)[:, 2], np.array(free)[:, 4:]
    assert np.ptp(heights) > 0.8 and heights.min() >= 0.35 and heights.max() <= 2.65
    assert 2 < np.abs(tilts).max() <= 10


def test_poses_follow_from_the_seed_whatever_the_order_of_evaluation(facts):
    _, free, again, (forth, back) = facts["rooms"]
    assert len(free) == 8 and free == again
    assert len(forth) == 6 and forth == back


def test_backs_of_sheets_elsewhere_do_not_make_a_place_unfree_being_inside_does(facts):
    places = facts["places"]
    assert (
        places["open"][:3] == [1, 0, 0] and places["open"][3] > 4
    )  # % of the sphere: more than max_backfacing
    assert places["in the chest"] == [0, 1, 0, 100]
    assert places["outside"][:3] == [0, 0, 1]


def test_an_error_that_cycles_writes_refuses_the_panorama(facts):
    assert (
        facts["cycles_error"].startswith("cycles_error: ") and "SVM stack" in facts["cycles_error"]
    )


def test_infinigen1_comes_back_with_names_and_categories(facts):
    indoors, nature = facts["infinigen1"]["indoors"], facts["infinigen1"]["nature"]
    assert indoors["things"]["SofaFactory(3098452).spawn_asset(17)"] == [
        "sofa",
        [],
        2,
    ]  # with the cushion below it
    assert indoors["things"]["living-room_0/0.floor"][:2] == ["floor", ["structure"]]
    assert indoors["things"]["BookStackFactory(5).spawn_asset(6)"][0] == "book"
    assert not any("placeholder" in name for name in indoors["things"])
    assert indoors["things"]["living-room_0/0.exterior"][:2] == ["wall", ["structure"]]
    assert "living-room_0/0" not in indoors["things"]  # its collection does not render
    assert "SofaFactory(3098452).spawn_asset(17)" in indoors["seen"]
    assert indoors["seed"] == "3735928559 0"  # 32 bits, passed as hexadecimal; PYTHONHASHSEED=0
    assert indoors["regions"] == [pytest.approx([-3, -3, 0.0, 3, 3, 2.6], abs=1e-5)]
    assert indoors["ground"] == [["living-room_0/0.floor"]]  # the hall is not furnished
    assert indoors["versions"]["infinigen1"] == "1.19.1" and indoors["steps"] == "coarse;"
    assert indoors["versions"]["infinigen1_seed"] == "deadbeef"
    assert len(indoors["versions"]["infinigen1_scene"]) == 16
    assert indoors["lights"] == pytest.approx([2.649], abs=1e-5)
    assert indoors["notes"] == [
        "ceiling lights lowered by 1 mm: they lie in the plane of the ceiling"
    ]
    assert nature["steps"] == "coarse;populate+fine_terrain;"
    assert (
        nature["things"]["OpaqueTerrain_fine"][0] == "terrain"
        and nature["things"]["BoulderFactory(11).spawn_asset(2)"][0] == "rock"
    )
    assert nature["things"]["scatter:grass.0"][0] == "grass"
    assert not {"OpaqueTerrain", "atmosphere_fine", "KoleClouds"} & set(nature["things"])
    (places,) = nature["heights"]  # around its own camera, eye height above the ground there
    assert len(places) == 96 and np.abs(np.array(places)[:, :2] - 5).max() <= 2.5
    assert np.array(places)[:, 2].min() >= 4.3 and np.array(places)[:, 2].max() <= 4.7


def test_an_environment_without_infinigen1_is_refused_with_the_reason(facts):
    said = facts["infinigen1"]
    assert "python=/nowhere/python is no executable" in said["missing"]
    assert (
        "expected Infinigen 1.x with its package infinigen_examples, got: " in said["other"]
    )  # this very environment
    assert (
        said["failed"]
        == "SceneFailed: Infinigen 1 ended with code 1: ValueError: no valid floor plan"
    )


def test_rooms_of_infinigen_2_do_without_primitive_bodies_and_backs_of_walls_are_flagged(facts):
    walls = [["room_wall_00", "structure"], ["room_wall_back_00", "structure", "part"]]
    found = facts["clutter"]
    assert found["primitives"] == [["cone_rand"], ["monkey_rand"], *walls, ["sofa_rand"]]
    assert found["none"] == [*walls, ["sofa_rand"]] and found["none left"] == 3


def test_assets_of_infinigen_1_stand_in_the_places_of_primitive_bodies(facts):
    found = facts["clutter"]
    names = [row[0] for row in found["infinigen1"]]
    assert names == ["CupFactory(0)", "room_wall_00", "room_wall_back_00", "sofa_rand"]
    assert found["infinigen1"] == found["infinigen1 again"] and found["infinigen1 left"] == 4
    assert found["asset"] == ["cup"]
    low, high = found["box"]
    assert low == pytest.approx((0.94, 1.94, 0.75), abs=1e-4)  # on what the body stood on
    assert high == pytest.approx((1.06, 2.06, 0.75 + 1.2 * 0.12), abs=1e-4)
    said, digest = found["said"]
    assert (
        said == "1 of 2 primitive bodies replaced by assets of Infinigen 1, no others"
        and digest == 16
    )


def test_places_lie_above_the_ground_that_one_stands_on(facts):
    found = {name: np.array(places) for name, places in facts["ground"].items()}
    room, anywhere, hill = found["room"], found["anywhere"], found["hill"]
    assert len(room) == len(anywhere) == len(hill) == 96
    assert not ((room[:, 0] > 2) & (room[:, 1] > 2)).any()  # the box of the L holds another room
    assert room[:, 2].min() >= 1.4 and room[:, 2].max() <= 1.8
    over_floor = (anywhere[:, 0] < 2) | (anywhere[:, 1] < 2)
    assert over_floor.any() and anywhere[over_floor, 2].max() <= 1.8  # and not on the roof
    over = hill[:, 2] - 0.5 * hill[:, 0]
    assert over.min() >= 1.3 - 1e-4 and over.max() <= 1.7 + 1e-4


def test_the_sun_is_moved_and_lamps_go_out(facts):
    found = facts["light"]
    assert "no sky texture and no sun lamp to move" in found["no sun"]
    assert found["sky"] == pytest.approx(20, abs=1e-3) and found["heading"] == pytest.approx(1.0)
    assert np.degrees(np.arcsin(found["sun"][2])) == pytest.approx(20, abs=1e-3)  # towards the sun
    assert found["hidden"] == ["point"] and found["glow"] == [0.0, 5.0]


def test_landscapes_take_the_extension_from_a_zip_and_say_so_when_it_is_missing(facts):
    found = facts["antlandscape"]
    assert found["available"] and found["spots"] == 4
    assert all("infinigen2's subdivision" in note for note in found["notes"])  # none of the zip
    assert sorted(set(found["categories"])) == ["plant", "rock", "terrain"]
    said = found["said"]
    assert "got no manifest" in said["other"] and "got 'something_else'" in said["wrong"]
    assert "cannot be read as a zip file" in said["no"] and "does not exist" in said["gone"]
    assert (
        "needs Blender's extension A.N.T. Landscape" in said["without"]
        and "antlandscape" in said["without"]
    )


def test_ground_is_fractal_level_where_cameras_stand_and_reproducible(facts):
    terrain = facts["terrain"]
    assert terrain["same"] == 0.0 and terrain["middle"] == 0.0
    assert 4.0 < terrain["range"] < 40.0 and terrain["steepest"] < 8.0
