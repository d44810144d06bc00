"""Somebody's .blend through the worker: a room of many oddities comes out right, and files that
cannot be rendered are refused in one line that says the way out.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from repository import ROOT

from panoforge.cluster.render.verify_rays import verify_by_rays
from panoforge.core.sample.array_codec import decode_array

pytestmark = [pytest.mark.render, pytest.mark.timeout(500)]
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one run of check_foreign_blends.py."""
    out = tmp_path_factory.mktemp("foreign")
    path = os.pathsep.join([str(ROOT), str(HERE)])
    done = subprocess.run(
        [sys.executable, str(HERE / "check_foreign_blends.py"), str(out)],
        capture_output=True,
        text=True,
        timeout=480,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    return out


def result(runs: Path, name: str) -> dict:
    return json.loads((runs / "results.json").read_text())[name]


def meta(run: Path) -> dict:
    return json.loads(next((run / "staged").glob("*/meta.json")).read_text())


def labels(run: Path) -> np.ndarray:
    return decode_array(next((run / "staged").glob("*/instance.zst")).read_bytes())


def test_a_room_of_many_oddities_is_labelled_as_it_renders(runs):
    found = meta(runs / "room")
    names = Counter(row["name"] for row in found["instances"])
    assert names["Prototype ball"] == 6 and names["Reeds"] == names["Furry rug"] == 1
    assert not {"Hidden plain", "Hidden instancer", "Scatter of 6 balls"} & set(names)
    kinds = {row["name"]: (row["category"], row["flags"]) for row in found["instances"]}
    for name in ("Wall_N", "Wall_S", "Wall_E", "Wall_W"):
        assert kinds[name][0] == "wall" and "structure" in kinds[name][1]
    assert kinds["Floor"][0] == "floor" and kinds["Ceiling"][0] == "ceiling"
    assert kinds["Furry rug"][0] == "rug"
    assert any(note.endswith("wood_not_there.png") for note in found["notes"])
    ids = labels(runs / "room")
    depth = decode_array(next((runs / "room" / "staged").glob("*/depth*.zst")).read_bytes())
    assert not (np.isfinite(depth) & (ids == 0)).any()


def test_its_rays_meet_what_was_rendered(runs):
    report = verify_by_rays(runs / "room", 4000)
    assert report.ok and report.counts("kinds")["strand"] > 20
    assert report.total("agree") >= 3990 and report.counts("differ").get("wrong", 0) == 0


def test_instances_of_a_scatter_share_an_id_where_the_config_says_so(runs):
    rows = meta(runs / "per-scatter")["instances"]
    balls = [row for row in rows if "balls" in row["name"] or "ball" in row["source_object"]]
    assert [row["source_object"] for row in balls] == ["Scatter of 6 balls/*"]
    apart = [row["pixels"] for row in meta(runs / "room")["instances"] if "ball" in row["name"]]
    assert balls[0]["pixels"] == sum(apart) and balls[0].get("box_3d") is None


def test_more_things_than_a_pass_index_holds_are_told_apart(runs):
    """With a pass index that ends at 5, ids are the same, from two renders."""
    assert len(meta(runs / "digits")["instances"]) > 15
    assert (labels(runs / "digits") == labels(runs / "room")).all()
    assert meta(runs / "digits")["instances"] == meta(runs / "room")["instances"]


def test_cameras_of_a_file_stand_at_eye_height_above_its_ground(runs):
    x, y, z = meta(runs / "chosen")["pose"]["position_m"]
    assert 1.3 <= z <= 1.9 and abs(x) < 5 and abs(y) < 5  # in the room, not on its roof


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("newer", "saved by Blender 4.5, this is 4.2"),
        ("library", "links libraries that are not there: //lib.blend. Put them there, or make"),
        ("empty", "nothing in its scene 'Scene' renders"),
        ("drawing", "'Scribble' is a grease pencil drawing: Cycles does not render it"),
        ("driver", "needs scripts to look as it does (Driver 'len(bpy.data.objects)')"),
    ],
)
def test_what_cannot_be_rendered_is_refused_in_one_line(runs, name, says):
    found = result(runs, name)
    assert found["outcome"] == "failed" and says in found["error"] and "\n" not in found["error"]
