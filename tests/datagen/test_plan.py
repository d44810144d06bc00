"""The plan of a run, poses, categories and the quality gate: everything of datagen that needs no
Blender.
"""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from pydantic import ValidationError
from repository import ROOT

from panoforge.core.categories.table import (
    CATEGORIES_FILE,
    Categories,
    base_name,
    parse_categories,
)
from panoforge.core.geometry.sphere import View
from panoforge.core.geometry.views import MAX_PANORAMA_WIDTH, sample_view, wrap_panorama
from panoforge.datagen.config.poses import FixedPose, poses_of, read_poses
from panoforge.datagen.config.render import (
    CameraSettings,
    QualitySettings,
    RenderConfig,
    plan_scenes,
    source_of,
)
from panoforge.datagen.messages import (
    Rejection,
    SceneRequest,
    SceneResult,
    StagedPanorama,
    read_request,
    write_result,
)
from panoforge.datagen.rendering.quality import (
    RejectedScene,
    RenderedPanorama,
    auto_exposure_ev,
    check_panorama,
)
from panoforge.datagen.sources.base import MODULES

ROOMS = [{"source": "infinigen2.rooms", "rooms": ["kitchen", "bedroom"]}]


def config(**changes: object) -> RenderConfig:
    return RenderConfig(**{"sources": ROOMS, "scenes": 5, "width": 128, "height": 64, **changes})


def test_scenes_take_turns_and_do_not_depend_on_how_many_are_asked_for():
    five, fifty = plan_scenes(config()), plan_scenes(config(scenes=50))
    assert five == fifty[:5]
    assert [job.key for job in five[:3]] == [
        "rooms-kitchen-00000000",
        "rooms-bedroom-00000001",
        "rooms-kitchen-00000002",
    ]
    assert five[2].sample_key(1) == "rooms-kitchen-00000002-c1"


def test_seeds_differ_between_scenes_attempts_and_runs_and_zero_is_a_seed():
    seeds = [
        seed
        for run in (0, 1)
        for job in plan_scenes(config(seed=run, scenes=200, scene_tries=3))
        for seed in job.seeds
    ]
    assert len(set(seeds)) == len(seeds) == 2 * 200 * 3
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert plan_scenes(config(seed=0)) == plan_scenes(config(seed=0))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"width": 130}, "twice as wide as high, got 130×64"),
        ({"width": 16384, "height": 8192}, "width 16384 is over 16378, the widest that views"),
        ({"products": ["rgb"]}, "must include rgb and instance"),
        ({"sampels": 3}, "Extra inputs are not permitted"),
        ({"sources": [{"source": "infinigen2.rooms", "rooms": ["garage"]}]}, "garage"),
        ({"sources": [{"source": "infinigen3"}]}, "infinigen2.rooms"),
        ({"camera": {"eye_height_m": [2, 1]}}, "(lowest, highest)"),
        ({"scenes": 0}, "greater than or equal to 1"),
    ],
)
def test_configs_that_cannot_be_meant_are_refused(changes, says):
    with pytest.raises(ValidationError) as caught:
        config(**changes)
    assert says in str(caught.value)


def test_the_widest_panorama_that_is_rendered_can_be_sampled():
    """One limit: what the config allows is what `wrap_panorama` takes."""
    widest = config(width=MAX_PANORAMA_WIDTH, height=MAX_PANORAMA_WIDTH // 2)
    wrapped = wrap_panorama(np.zeros((widest.height, widest.width), np.uint8))
    assert sample_view(wrapped, View(180.0, 90.0, 90.0, 8)).shape == (8, 8)


def test_products_become_member_names():
    assert config(rgb_format="png", products=["rgb", "instance", "albedo"]).product_suffixes == (
        "albedo.jpg",
        "instance.zst",
        "rgb.png",
    )


def test_request_and_result_survive_the_files_and_need_no_bpy(tmp_path):
    job = plan_scenes(config())[1]
    request = SceneRequest(
        scene=job, render=config(), staged=tmp_path, result=tmp_path / "r.json", config_sha256="ab"
    )
    (tmp_path / "job.json").write_text(request.model_dump_json())
    assert read_request(tmp_path / "job.json") == request
    result = SceneResult(
        key=job.key,
        outcome="done",
        panoramas=(StagedPanorama(key="k", sha256={}, instances=3, timings_s={}),),
        rejections=(Rejection(seed=1, pose=None, reason="black", detail="dark"),),
    )
    write_result(request.result, result)
    assert SceneResult.model_validate_json(request.result.read_bytes()) == result
    code = (
        "import panoforge.datagen.worker, panoforge.datagen.config.render,"
        " panoforge.datagen.rendering.quality, panoforge.core.categories.table, sys;"
        " sys.exit('bpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_names_become_categories():
    categories = Categories.load()
    assert base_name("cup_rand.005") == "cup" and base_name("dining_chair_02") == "dining_chair"
    assert (
        base_name("cube_rand_effect_bevel.004") == "cube"
        and base_name("room_wall_sill_01.002") == "room_wall_sill"
    )
    assert categories.of("plant_pot_large_rand.001").name == "plant"
    assert (
        categories.of("_table_coffee_legged_rand").name == "table"
        and categories.of("<lambda>").name == "window"
    )
    assert categories.of("room_floor_00").flags == ("structure",) and categories.of(
        "window_03"
    ).flags == ("transparent",)
    unknown = categories.of("spaceship_rand.007")
    assert (unknown.name, unknown.id) == ("unknown:spaceship", 0)


def test_category_ids_are_the_order_of_the_file_and_names_are_listed_once():
    document = yaml.safe_load(CATEGORIES_FILE.read_text())
    categories = Categories.load()
    assert [categories.by_name[name].id for name in document] == list(range(1, len(document) + 1))
    with pytest.raises(ValueError, match="'cup' is listed under 'a' and 'b'"):
        parse_categories({"a": {"objects": ["cup"]}, "b": {"objects": ["cup"]}})


def test_every_object_generator_of_infinigen_has_a_category():
    """The package's own manifest, read as a file. Not things one would click: generators of parts
    and of light.
    """
    manifest = next(
        Path(path) / "infinigen2" / "manifest.json"
        for path in sys.path
        if (Path(path) / "infinigen2" / "manifest.json").is_file()
    )
    generators = [
        row["name"].rsplit(".", 1)[1]
        for row in yaml.safe_load(manifest.read_text())
        if row["category"] == "Object"
    ]
    assert len(generators) > 50
    categories = Categories.load()
    unknown = {name for name in generators if categories.of(name).name.startswith("unknown:")}
    assert unknown <= {
        "obj_with_postprocessing"
    }  # wraps another generator, whose object keeps its name


# Numbers, materials, poses and parts that no room has alone.
NO_OBJECTS = re.compile(
    r"(dimensions|material|params|pose|profile|shape|shape_hanging|type|radius|legs_grid|legs_stable"
    r"|base_stable|drawer_handle|pedestal_column|light_point_indoor)_rand$"
)


def test_what_infinigens_objects_offer_has_a_category_too():
    """Its manifest leaves out a fourth of them: a bedroom had an `unknown:storage_table_side`."""
    folder = next(p for path in sys.path if (p := Path(path) / "infinigen2" / "objects").is_dir())
    offered = {
        name
        for file in folder.glob("*.py")
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
        for name in ast.literal_eval(node.value)
        if name.endswith("_rand") and not NO_OBJECTS.search(name)
    }
    assert len(offered) > 100
    categories = Categories.load()
    assert {n for n in offered if categories.of(n).name.startswith("unknown:")} == set()


def good_panorama(width: int = 128, height: int = 64) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = (
        np.arange(width)[None] * 12 // width + 1 + 12 * (np.arange(height)[:, None] >= height // 2)
    ).astype(np.uint16)
    return dict(
        linear=rng.uniform(0.05, 0.8, (height, width, 3)).astype(np.float32),
        rgb=rng.integers(20, 230, (height, width, 3), dtype=np.uint8),
        labels=labels,
        depth_m=np.full((height, width), 2.0, np.float32),
    )


def reason(**changes: object) -> str | None:
    try:
        check_panorama(RenderedPanorama(**{**good_panorama(), **changes}), QualitySettings())
    except RejectedScene as rejected:
        return rejected.reason
    return None


def test_a_good_panorama_is_accepted():
    assert reason() is None


def test_a_landscape_shows_fewer_things_than_a_room():
    labels = np.minimum(good_panorama()["labels"], 2)  # a thing, and the ground
    few = {"labels": labels, "structure_ids": frozenset({2})}
    assert reason(**few) == "too_few_instances"
    assert reason(**few, indoor=False) is None
    bare = few | {"labels": np.full_like(labels, 2)}
    assert reason(**bare, indoor=False) == "too_few_instances"
    least = QualitySettings().least_instances
    assert (least(True), least(False)) == (8, 2)
    assert {QualitySettings(min_instances=5).least_instances(where) for where in (True, False)} == {
        5
    }


def test_each_fault_has_its_reason():
    good = good_panorama()
    broken = good["linear"].copy()
    broken[3, 4, 1] = np.nan
    assert reason(linear=broken) == "nan"
    near = good["depth_m"].copy()
    near[20:40] = 0.02
    assert reason(depth_m=near) == "too_close"
    assert reason(linear=good["linear"] * 1e-6) == "black"
    assert (
        reason(rgb=np.where(np.arange(128)[None, :, None] < 64, 255, good["rgb"]).astype(np.uint8))
        == "blown_out"
    )
    assert reason(rgb=np.full_like(good["rgb"], 120)) == "flat"
    magenta = good["linear"].copy()
    magenta[30:34, 10:20] = (1, 0, 1)
    assert reason(linear=magenta) == "magenta"
    assert reason(labels=np.minimum(good["labels"], 5)) == "single_instance"
    assert (
        reason(labels=np.minimum(good["labels"], 5), structure_ids=frozenset({5}))
        == "too_few_instances"
    )


def test_what_counts_is_the_sphere_not_the_pixels():
    """The top sixth of the rows is 6.7 % of the sphere: a magenta pixel there weighs less than one
    at the equator.
    """
    near = good_panorama()["depth_m"]
    near[:10] = 0.02  # 15.6 % of the rows, 5.9 % of the sphere
    assert reason(depth_m=near) == "too_close"
    near[7:10] = 2.0  # 10.9 % of the rows, 2.9 % of the sphere
    assert reason(depth_m=near) is None


def test_exposure_brings_a_grey_scene_to_middle_grey_and_ignores_a_lamp():
    grey = np.full((64, 128, 3), 0.045, np.float32)
    assert auto_exposure_ev(grey) == pytest.approx(2.0, abs=0.01)
    grey[30:32, 50:60] = 5000.0
    assert auto_exposure_ev(grey) == pytest.approx(2.0, abs=0.02)
    assert auto_exposure_ev(grey * 1e6) == -8.0


def test_camera_settings_have_sane_defaults():
    assert CameraSettings().eye_height_m[0] < CameraSettings().eye_height_m[1]


def test_poses_come_from_a_file_and_become_part_of_the_config(tmp_path):
    rows = [
        {"x_m": 1, "y_m": 2, "z_m": 1.5, "yaw_deg": 30},
        {"x_m": 0, "y_m": 0, "z_m": 1, "roll_deg": 5, "scene": "rooms-kitchen-00000000"},
    ]
    (tmp_path / "poses.json").write_text(json.dumps(rows))
    (tmp_path / "poses.csv").write_text(
        "x_m,y_m,z_m,yaw_deg,roll_deg,scene\n1,2,1.5,30,,\n0,0,1,,5,rooms-kitchen-00000000\n"
    )
    found = [
        config(camera={"poses": str(tmp_path / name)}).camera.poses
        for name in ("poses.json", "poses.csv")
    ]
    assert found[0] == found[1] and found[0][0] == FixedPose(x_m=1, y_m=2, z_m=1.5, yaw_deg=30)
    assert (
        len(poses_of(found[0], "rooms-kitchen-00000000")) == 2
        and len(poses_of(found[0], "rooms-bedroom-00000001")) == 1
    )
    again = RenderConfig.model_validate_json(
        config(camera={"poses": str(tmp_path / "poses.csv")}).model_dump_json()
    )
    assert again.camera.poses == found[0]  # a node reads no file


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("poses.txt", "", "expected a .json or .csv file"),
        ("poses.json", "[", "is not JSON"),
        ("poses.json", "[]", "holds no poses"),
        ("poses.csv", "x_m,y_m,z_m\n", "holds no poses"),
        ("poses.csv", "x_m,y_m,z_m\n1,2\n", "z_m"),
        ("poses.csv", "x_m,y_m,z_m,jaw_deg\n1,2,3,4\n", "jaw_deg"),
        ("poses.csv", "x_m,y_m,z_m\n1,2,nan\n", "finite"),
        (
            "poses.json",
            '[{"x_m": 1, "y_m": 1, "z_m": 1, "pitch_deg": 95}]',
            "less than or equal to 90",
        ),
    ],
)
def test_poses_that_cannot_be_meant_are_refused(tmp_path, name, text, says):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValidationError, match=says):
        config(camera={"poses": str(tmp_path / name)})


def test_a_file_of_poses_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValidationError, match=r"poses\.csv does not exist"):
        config(camera={"poses": str(tmp_path / "poses.csv")})


ALL_SOURCES = [
    {"source": "infinigen2.house"},
    {"source": "infinigen2.outdoor", "biomes": ["plain", "landscape"]},
    {"source": "infinigen2.floating"},
    {"source": "infinigen1.nature", "python": "/nowhere/python"},
    {"source": "blend", "paths": ["/nowhere/mine.blend"]},
]


def test_scenes_of_every_source_are_planned_and_know_their_entry():
    planned = plan_scenes(config(sources=ALL_SOURCES, scenes=6))
    assert [job.key.rpartition("-")[0] for job in planned] == [
        "house",
        "outdoor-plain",
        "outdoor-landscape",
        "floating",
        "infinigen1-nature-simple",
        "blend",
    ]
    assert [job.entry for job in planned] == [0, 1, 1, 2, 3, 4]
    assert all(source_of(config(sources=ALL_SOURCES), job).source == job.source for job in planned)


def test_what_sources_lack_is_said_before_a_run_starts(monkeypatch):
    from panoforge import scene_sources as sources

    monkeypatch.setattr(sources, "antlandscape_installed", lambda: False)
    said = sources.missing_here(config(sources=ALL_SOURCES, antlandscape="installed"))
    assert len(said) == 3 and "landscape needs Blender's extension A.N.T. Landscape" in said[0]
    assert (
        "python=/nowhere/python is no executable" in said[1]
        and "no such file: /nowhere/mine.blend" in said[2]
    )
    assert sources.missing_here(
        config(sources=ALL_SOURCES[:1], antlandscape="/nowhere/ant.zip")
    ) == ["antlandscape: no such file: /nowhere/ant.zip"]
    assert sources.missing_here(config(sources=ALL_SOURCES[1:2], antlandscape="online")) == []
    listed = {state.name: state for state in sources.known_sources()}
    assert (
        set(listed) == set(MODULES) and "A.N.T. Landscape" in listed["infinigen2.outdoor"].missing
    )


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbfx_m,y_m,z_m,yaw_deg\r\n0,0,1.5,0\r\n",
        b"x_m;y_m;z_m;yaw_deg\r\n0;0;1,5;0\r\n",
    ],
)
def test_poses_are_read_as_spreadsheets_save_them(tmp_path, data):
    """A byte order mark; semicolons with decimal commas."""
    path = tmp_path / "poses.csv"
    path.write_bytes(data)
    (row,) = read_poses(str(path))
    assert FixedPose.model_validate(row) == FixedPose(x_m=0, y_m=0, z_m=1.5)
