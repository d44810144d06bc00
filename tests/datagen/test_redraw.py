"""Furniture in other places, other colours, and small things on furniture, in scenes that were
generated once. The rooms are redraw_scenes.py's.
"""

import json
import os
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from repository import ROOT

from panoforge.datagen.redraw.places import Move, draw_moves, groups_of

pytestmark = pytest.mark.render


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What one run of redraw_scenes.py found."""
    out = tmp_path_factory.mktemp("redraw") / "found.json"
    script = Path(__file__).with_name("redraw_scenes.py")
    done = subprocess.run(
        [sys.executable, str(script), str(out)],
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0 and out.is_file(), done.stderr[-3000:]
    return json.loads(out.read_text())


def boxes(place: dict) -> dict[str, np.ndarray]:
    return {name: np.array(ends) for name, ends in place["boxes"].items()}


def test_furniture_moves_and_the_room_stays(found):
    before, after = boxes(found["as_made"]), boxes(found["first"])
    moved = {name for name in before if not np.allclose(before[name], after[name], atol=1e-4)}
    assert {"table", "sofa", "plant"} <= moved
    assert not moved & {"door", "painting", "rug", "floor"}
    assert found["first"]["moved"] == len(moved)


def test_the_same_draw_is_the_same_room_and_another_is_another(found):
    assert found["first"] == found["again"]
    assert found["first"]["boxes"] != found["second"]["boxes"]


@pytest.mark.parametrize("draw", ["first", "second"])
def test_nothing_stands_in_anything_off_the_floor_or_before_the_door(found, draw):
    after = boxes(found[draw])
    for one, other in combinations(("table", "sofa", "plant", "chair"), 2):
        if {one, other} == {"table", "chair"}:
            continue  # it stands half below the table, as it did
        shared = np.minimum(after[one][1], after[other][1]) - np.maximum(
            after[one][0], after[other][0]
        )
        assert (shared < 1e-3).any(), (one, other)
    for name in ("table", "sofa", "plant", "chair"):
        assert (after[name][0] >= (-1e-3, -1e-3, -1e-3)).all()
        assert (after[name][1][:2] <= (6.001, 5.001)).all()
        gap = np.maximum(after[name][0] - after["door"][1], after["door"][0] - after[name][1])
        assert gap[:2].max() >= 0.69, name


@pytest.mark.parametrize("draw", ["first", "second"])
def test_a_cup_and_a_chair_go_with_their_table_and_a_light_with_its_lamp(found, draw):
    before, after = boxes(found["as_made"]), boxes(found[draw])

    def apart(place: dict[str, np.ndarray], name: str) -> float:
        return float(np.linalg.norm((place[name] - place["table"]).mean(axis=0)))

    for name in ("cup", "chair"):
        assert apart(after, name) == pytest.approx(apart(before, name), abs=1e-3)
    lamp = np.array(found[draw]["lamp"])
    assert ((after["plant"][0] <= lamp) & (lamp <= after["plant"][1] + 1e-3)).all()


@pytest.mark.parametrize("draw", ["first", "second"])
def test_what_stands_against_a_wall_stays_against_it(found, draw):
    assert boxes(found[draw])["sofa"][0][0] == pytest.approx(0.02, abs=1e-3)


def test_the_judge_of_rays_gets_the_moved_room(found):
    assert found["judged"] == 1.0


def test_colours_are_drawn_anew_but_for_those_of_nature(found):
    first, again, second = found["colours"]
    assert first == again and first["hues"]["cloth"] != second["hues"]["cloth"]
    assert first["hues"]["leaf"] == []  # a plant's
    assert first["changed"] == 3


def test_materials_that_share_a_group_of_nodes_get_colours_of_their_own(found):
    hues = found["colours"][0]["hues"]
    assert len(hues["wood"]) == len(hues["wool"]) == 1 and hues["wood"] != hues["wool"]


def test_small_things_stand_on_every_level_of_a_shelf_and_in_nothing(found):
    first, again, second = found["dressed"]
    assert first == again != second
    boxes = np.array(first["boxes"])
    assert len(boxes) >= 8 and set(first["categories"]) <= {"cup", "vase"}
    levels = np.round(boxes[:, 0, 2], 3)
    assert set(levels) == {0.12, 0.52, 0.92}  # on the boards, none on the sofa or the lamp
    assert (boxes[:, 0, :2] >= (0.0, 0.0)).all() and (boxes[:, 1, :2] <= (1.2, 0.3)).all()
    below = levels < 0.9
    assert (boxes[below, 1, 2] - levels[below] < 0.38).all()  # the board above
    lamp = np.array([[0.5, 0.05, 0.92], [0.7, 0.25, 1.3]])
    for one, other in combinations([*boxes, lamp], 2):
        shared = np.minimum(one[1], other[1]) - np.maximum(one[0], other[0])
        assert (shared < 1e-4).any(), (one, other)


def test_a_quarter_turn_of_a_box_swaps_its_sides_about_its_middle():
    low, high = np.array((1.0, 1.0, 0.0)), np.array((3.0, 2.0, 1.0))
    new = Move(1, (2.0, 1.5), (0.5, 0.0)).box(low, high)
    assert np.allclose(new, [(2.0, 0.5, 0.0), (3.0, 2.5, 1.0)])


def test_riders_of_riders_belong_to_what_stands_on_the_floor():
    low = np.array([(0, 0, 0), (0.2, 0.2, 1), (0.3, 0.3, 1.2), (5, 5, 1.5)], float)
    high = np.array([(2, 2, 1), (0.8, 0.8, 1.2), (0.5, 0.5, 1.3), (6, 6, 2)], float)
    assert groups_of(low, high, np.ones(4, bool), 0.0) == [[0, 1, 2]]


def test_what_finds_no_place_stays():
    box = (np.zeros(3), np.ones(3))
    moves = draw_moves([box], [(True, True)], lambda low, high: False, np.random.default_rng(0))
    assert moves == [None]
