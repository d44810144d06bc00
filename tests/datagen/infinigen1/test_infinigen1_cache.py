"""Scenes are generated once and shared by runs: what is one scene and what is another, damage,
failures, and `pano generate`. The generator is a script; files and processes are real.
"""

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard

from panoforge.cluster.render.images import image_config_sha256
from panoforge.core.errors import DataError
from panoforge.datagen.config.render import RenderConfig, plan_scene
from panoforge.datagen.infinigen1.fill import FilledScene, cached_scenes, fill
from panoforge.datagen.infinigen1.scenes import SceneOrder, generated_scene, is_cached
from panoforge.datagen.scene.scene import SceneFailed
from panoforge.datagen.source_settings import Infinigen1Indoors
from panoforge.scene_sources import generation_costs

GENERATOR = """#!{python}
import json, os, pathlib, sys
words = sys.argv[1:]
if words[0] == "-c":
    print(json.dumps(["1.15.5", {folder!r}]))
    raise SystemExit
shown = os.environ.get("BLENDER_USER_EXTENSIONS", "")
shown = sorted(os.listdir(shown + "/blender_org")) if shown else []
with open({calls!r}, "a") as file:
    file.write(" ".join([*words, "sees", *shown]) + "\\n")
if words[words.index("--seed") + 1] == "bad":
    raise ValueError("no floor plan")
out = pathlib.Path(words[words.index("--output_folder") + 1])
out.mkdir()
(out / "scene.blend").write_bytes(b"BLENDER" * 1000)
room = {{"generator": None, "relations": [], "tags": ["Semantics(room)"]}}
asset = {{"generator": "x", "relations": [{{"target_name": "kitchen_0/0"}}], "tags": []}}
objs = {{"kitchen_0/0": room, "a": asset, "b": asset, "c": asset}}
(out / "solve_state.json").write_text(json.dumps({{"objs": objs}}))
"""


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, object]:
    """Settings of a source with a cache, whose generator notes its calls in `calls`."""
    examples = tmp_path / "site" / "infinigen_examples"
    examples.mkdir(parents=True)
    for name in ("fast_solve", "singleroom"):
        (examples / f"{name}.gin").touch()
    script = tmp_path / "python"
    script.write_text(
        GENERATOR.format(
            python=sys.executable, folder=str(tmp_path / "site"), calls=str(tmp_path / "calls")
        )
    )
    script.chmod(0o755)
    return {
        "source": "infinigen1.indoors",
        "rooms": ["kitchen"],
        "python": str(script),
        "cache": str(tmp_path / "cache"),
    }


def calls(tmp_path: Path) -> int:
    path = tmp_path / "calls"
    return len(path.read_text().splitlines()) if path.is_file() else 0


def test_a_scene_is_generated_once_and_blender_can_open_what_is_kept(settings, tmp_path):
    order = SceneOrder(Infinigen1Indoors(**settings), "kitchen", 7)
    assert not is_cached(order)
    for _ in range(2):
        with generated_scene(order, lambda line: None) as scene:
            packed = scene.blend.read_bytes()
            assert zstandard.ZstdDecompressor().stream_reader(packed).read() == b"BLENDER" * 1000
            assert [(room.name, room.assets) for room in scene.rooms] == [("kitchen_0/0", 3)]
            assert scene.version == "1.15.5"
    assert calls(tmp_path) == 1 and is_cached(order)
    assert [entry.name.rpartition("-")[0] for entry in (tmp_path / "cache").iterdir()] == [
        "kitchen-7"
    ]


def test_the_generator_sees_the_extensions_of_the_config_and_of_its_source(settings, tmp_path):
    (tmp_path / "given" / "antlandscape").mkdir(parents=True)
    with zipfile.ZipFile(tmp_path / "meshes.zip", "w") as archive:
        archive.writestr("blender_manifest.toml", 'id = "extra_mesh_objects"\n')
    source = Infinigen1Indoors(**settings, addons=(str(tmp_path / "meshes.zip"),))
    for order in (
        SceneOrder(source, "kitchen", 7, given=tmp_path / "given"),
        SceneOrder(Infinigen1Indoors(**settings), "kitchen", 7),
    ):
        with generated_scene(order, lambda line: None):
            pass
    seen = [line.partition(" sees")[2] for line in (tmp_path / "calls").read_text().splitlines()]
    assert seen == [" antlandscape extra_mesh_objects", ""]


def test_generate_fills_what_a_render_with_a_zip_of_the_config_will_read(settings, tmp_path):
    """`pano generate` reads the zip itself; a render is given what was unpacked for Blender."""
    with zipfile.ZipFile(tmp_path / "ant.zip", "w") as archive:
        archive.writestr("blender_manifest.toml", 'id = "antlandscape"\n')
    config = RenderConfig(sources=(settings,), scenes=1, antlandscape=str(tmp_path / "ant.zip"))
    job = plan_scene(config, 0)
    assert fill(config, job) == FilledScene(job.key)
    assert cached_scenes(config, 0) == 1 and calls(tmp_path) == 1
    (tmp_path / "given" / "antlandscape").mkdir(parents=True)
    source = Infinigen1Indoors(**settings)
    order = SceneOrder(source, "kitchen", job.seeds[0], given=tmp_path / "given")
    with generated_scene(order, lambda line: None):
        assert calls(tmp_path) == 1
    assert not is_cached(SceneOrder(source, "kitchen", job.seeds[0]))


def test_other_seeds_rooms_profiles_and_bindings_are_other_scenes_timeouts_are_not(settings):
    def order(seed: int = 7, **other: object) -> SceneOrder:
        return SceneOrder(Infinigen1Indoors(**{**settings, **other}), "kitchen", seed)

    first = order()
    others = [order(8), order(profile="full"), order(lamps=False), order(overrides=("a.b=1",))]
    keys = {one.key([]) for one in (first, *others)} | {first.key(["antlandscape"])}
    assert len(keys) == 6
    same = [order(timeout_s=9), order(rooms=["bedroom", "kitchen"]), order(7 + 2**32)]
    assert {one.key([]) for one in same} == {first.key([])}


def test_a_scene_is_found_wherever_panoforge_is_installed(settings, monkeypatch):
    order = SceneOrder(Infinigen1Indoors(**settings), "kitchen", 7)
    here = order.key([])
    for module in ("command", "scenes"):
        monkeypatch.setattr(f"panoforge.datagen.infinigen1.{module}.LAUNCHER", "/elsewhere/run.py")
    assert order.key([]) == here


def test_runs_over_one_cache_name_their_scenes_alike_and_ask_for_the_same_ones(settings):
    """So near-duplicates share a split, and nothing is generated twice."""
    runs = [
        {},
        {"camera": {"draw": 1}},
        {"redraw": {"furniture": 2, "materials": 3}},
        {"light": {"sun_elevation_deg": 5, "lamps": "off"}, "cameras_per_scene": 20},
    ]
    jobs = [plan_scene(RenderConfig(sources=(settings,), scenes=4, **run), 3) for run in runs]
    assert {job.key for job in jobs} == {"infinigen1-kitchen-00000003"}
    source = Infinigen1Indoors(**settings)
    assert len({SceneOrder(source, job.variant, job.seeds[0]).key([]) for job in jobs}) == 1


def test_a_damaged_entry_is_refused_with_the_way_out(settings, tmp_path):
    order = SceneOrder(Infinigen1Indoors(**settings), "kitchen", 7)
    with generated_scene(order, lambda line: None):
        pass
    (entry,) = (tmp_path / "cache").iterdir()
    (entry / "scene.blend").write_bytes(b"half")
    with (
        pytest.raises(DataError, match="is not what was put there: remove this folder"),
        generated_scene(order, lambda line: None),
    ):
        pass
    os.truncate(entry / "scene.json", 1 << 40)
    with (
        pytest.raises(DataError, match=r"is over the cap of 256 MiB.*: remove this folder"),
        generated_scene(order, lambda line: None),
    ):
        pass


def test_a_seed_that_makes_no_scene_leaves_nothing(settings, tmp_path):
    order = SceneOrder(Infinigen1Indoors(**settings), "kitchen", 0xBAD)
    with (
        pytest.raises(SceneFailed, match="ValueError: no floor plan"),
        generated_scene(order, lambda line: None),
    ):
        pass
    assert not (tmp_path / "cache").exists()


def test_where_scenes_are_kept_and_how_long_they_may_take_is_no_part_of_the_image(settings):
    other = {**settings, "cache": None, "python": None, "overlay": "/x", "timeout_s": 9}
    first, second, third = (
        image_config_sha256(RenderConfig(sources=(one,)))
        for one in (settings, other, {**settings, "profile": "full"})
    )
    assert first == second != third
    redrawn = RenderConfig(sources=(settings,), redraw={"furniture": 1})
    assert image_config_sha256(redrawn) != first


def test_pano_generate_fills_the_cache_and_says_what_failed(settings, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(
        json.dumps({"run": str(tmp_path / "run"), "sources": [settings], "scenes": 3})
    )

    def pano(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "panoforge", "generate", str(config), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=200)

    done = pano()
    assert done.returncode == 0, done.stderr
    assert "3 scenes generated, 0 scenes were in the cache, 0 scenes failed" in done.stdout
    again = pano("scenes=2")
    assert "0 scenes generated, 2 scenes were in the cache" in again.stdout
    assert calls(tmp_path) == 3 and not (tmp_path / "run").exists()
    planned = RenderConfig(sources=(settings,), scenes=5)
    assert cached_scenes(planned, 0) == 3
    assert "for 5, 3 of them in the cache and free, " in generation_costs(planned)[0]
    assert cached_scenes(RenderConfig(sources=(settings,), scenes=5, seed=1), 0) == 0
    none = pano("sources.0.cache=null")
    assert none.returncode == 2 and "set cache=FOLDER on a source" in none.stderr


def test_a_seed_that_fails_is_followed_by_the_next_and_the_last_ones_words_are_kept(
    settings, tmp_path
):
    config = RenderConfig(sources=(settings,), scenes=1)
    job = replace(plan_scene(config, 0), seeds=(0xBAD, 7))
    assert fill(config, job) == FilledScene(job.key) and calls(tmp_path) == 2
    failed = fill(config, replace(job, seeds=(0xBAD, 0xBAD)))
    assert failed.failure == "Infinigen 1 ended with code 1: ValueError: no floor plan"
