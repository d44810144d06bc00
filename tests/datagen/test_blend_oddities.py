"""What renders is what is labelled, in other people's files: forty-three odd ones, built by script.

Each is rendered by Blender as it is, and by us. Depth, the object shown and normals are equal on
every pixel that is not an outline, and every id is what a ray meets. See blend_oddities.py for the
files, check_blend_oddities.py for the comparison.
"""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from repository import ROOT

pytestmark = [pytest.mark.render, pytest.mark.timeout(500)]
HERE = Path(__file__).parent
NAMES = re.findall(r"@odd\ndef (\w+)", (HERE / "blend_oddities.py").read_text())
# Light that scatters in a volume leaves Blender's own data passes to chance.
BY_CHANCE = {"mist_in_a_box"}
STRANDS = {name for name in NAMES if "hair" in name}


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """What one process found of all files."""
    out = tmp_path_factory.mktemp("oddities")
    path = os.pathsep.join([str(ROOT), str(HERE)])
    done = subprocess.run(
        [sys.executable, str(HERE / "check_blend_oddities.py"), str(out)],
        capture_output=True,
        text=True,
        timeout=480,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    return json.loads((out / "facts.json").read_text())


def names(found: dict) -> Counter[str]:
    """How many ids there are of each name, the room's own aside."""
    return Counter(row[0] for row in found["rows"] if row[0] not in ("Floor", "Crate"))


def category(found: dict, name: str) -> str:
    return next(row[1] for row in found["rows"] if row[0] == name)


@pytest.mark.parametrize("name", NAMES)
def test_depth_object_and_normals_are_blenders_own(facts, name):
    if name not in BY_CHANCE:
        assert facts[name]["differ_inside"] == dict.fromkeys(facts[name]["differ_inside"], 0)
        assert sum(facts[name]["differ"].values()) <= 2  # of 8,192 pixels, outlines included


@pytest.mark.parametrize("name", NAMES)
def test_every_id_is_what_a_ray_meets(facts, name):
    found = facts[name]
    for report in filter(None, (found["rays"], found["joined_rays"])):
        allowed = {"edge", "strand", "coplanar"} if name in STRANDS else {"edge"}
        assert set(report["differ"]) <= allowed, report["examples"]
        assert report["agree"] >= report["rays"] - 4 and report["depth_off"] == 0
    assert found["unlabelled"] == 0


@pytest.mark.parametrize("name", NAMES)
def test_the_scene_is_lit_as_the_file_is(facts, name):
    theirs, ours = facts[name]["light"]
    if name not in BY_CHANCE:
        assert ours == pytest.approx(theirs, rel=0.05)


def test_objects_of_one_name_are_told_apart_by_their_library(facts):
    found = facts["two_libraries_with_a_cube_each"]
    sources = {row[2] for row in found["rows"]}
    assert {"Cube [one.blend]", "Cube [two.blend]"} <= sources and names(found) == {"Cube": 2}
    found = facts["linked_object_with_a_local_ones_name"]
    assert {"Crate", "Crate [crates.blend]"} <= {row[2] for row in found["rows"]}
    assert names(facts["names_of_all_kinds"])["wall [x.blend]"] == 1


def test_the_unit_of_the_file_is_applied_and_said(facts):
    assert facts["modelled_in_centimetres"]["notes"] == ["one unit of the file is 0.01 m"]


def test_what_does_not_render_has_no_id(facts):
    assert [row[2] for row in facts["instancer_in_a_collection_hidden_in_renders"]["rows"]] == [
        "Crate",
        "Floor",
        "Shown pot/Pot#",
    ]
    assert "Vertices" not in names(facts["instancer_that_does_not_show"])
    assert names(facts["collections_left_out_of_the_view_layer"]) == {"Here": 1}
    assert names(facts["two_view_layers"]) == {"Front": 1}
    assert "is rendered, not 'another'" in facts["two_view_layers"]["notes"][0]
    assert names(facts["instancer_hidden_by_the_eye"]) == {"Pot": 1}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("scatter_of_an_object", {"Rock.001": 6}),
        ("scatter_in_a_collection_hidden_in_the_viewport", {"Rock": 6}),
        ("scatter_of_nameless_geometry", {"Stool": 6}),
        ("scatter_of_scatters", {"Bead": 6}),
        ("instancer_that_does_not_show", {"Pot": 8}),
        ("collection_instances_of_an_assembly", {"Chair": 3, "Pillow": 3}),
        ("nested_collection_instances", {"Cup": 6, "Table": 2}),
        ("particle_hair_of_an_instance", {"Pet": 2}),
    ],
)
def test_every_instance_has_an_id_of_its_own_named_after_its_prototype(facts, name, expected):
    assert names(facts[name]) == expected
    sources = [row[2] for row in facts[name]["rows"]]
    assert len(sources) == len(set(sources))


def test_small_instances_share_the_id_of_their_scatter(facts):
    found = facts["scatter_in_a_collection_hidden_in_the_viewport"]
    assert found["joined"] == ["Crate", "Floor", "rocks"]  # and rays agree: see above
    assert found["joined_rays"]["agree"] == found["joined_rays"]["rays"]
    stools = Counter(facts["scatter_of_nameless_geometry"]["joined"])
    assert stools["Stool"] == 1 + 3 + 1  # itself, the large ones, the two small ones as one


def test_what_blender_proposes_is_no_category_and_words_are(facts):
    found = facts["names_that_blender_proposes"]
    assert category(found, "Plane") == "unknown:plane"
    assert category(found, "Cube.003") == "unknown:cube"
    assert category(found, "Icosphere") == "unknown:icosphere"
    assert category(found, "SM_CoffeeTable_02") == "table" and category(found, "Wall_N") == "wall"


def test_what_is_missing_or_has_no_id_is_noted(facts):
    assert facts["missing_texture"]["notes"][0].endswith("wood_not_there.png")
    assert "'Bouncer', 'Ghost', 'Unseen pot'" in facts["hidden_from_the_camera"]["notes"][0]
    assert "'Hole'" in facts["holdout_and_shadow_catcher"]["notes"][0]
