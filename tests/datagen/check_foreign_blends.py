"""Whole .blend files through the worker, in one process: `python check_foreign_blends.py OUT`.

A room with many oddities at once, rendered in several ways, and files that are refused. Writes
results.json: the worker's result of each.
"""

import json
import sys
from pathlib import Path

import bpy
from blend_oddities import (
    ball_mesh,
    begin,
    box_mesh,
    collection,
    hair,
    hair_curves,
    instancer,
    library,
    link,
    loose,
    missing_texture,
    put,
    root,
    scatter,
)

from panoforge.cluster.config.jobs import RenderJobConfig
from panoforge.cluster.render.images import image_config_sha256
from panoforge.core.run_layout import JOB_FILE
from panoforge.datagen import defects, worker
from panoforge.datagen.config.render import plan_scenes
from panoforge.datagen.geometry import prepared_scene
from panoforge.datagen.messages import SceneRequest


def room(folder: Path) -> None:
    """What a user's file may hold: see tests/datagen/test_foreign_blends.py."""
    hair_curves(folder)
    _keep(missing_texture, folder)
    for side, at in (("N", (0, 5, 1.5)), ("S", (0, -5, 1.5))):
        put(f"Wall_{side}", box_mesh("wall", (10, 0.2, 3)), at)
    for side, at in (("E", (5, 0, 1.5)), ("W", (-5, 0, 1.5))):
        put(f"Wall_{side}", box_mesh("wall", (0.2, 10, 3)), at)
    put("Ceiling", box_mesh("ceiling", (10, 10, 0.2)), (0, 0, 3.1))
    bpy.data.objects["Lamp"].location.z = 2.5
    rug = put("Furry rug", box_mesh("rug", (1.5, 1.0, 0.1)), (-2.5, -2, 0.1))
    hair(rug, 200)
    hidden, props = collection("Hidden in renders"), loose("Props")
    hidden.hide_render = True
    put("Hidden plain", box_mesh("hidden"), (0, -2, 1), hidden)
    ball = put("Prototype ball", ball_mesh("ball", 0.3), into=props)
    instancer("Hidden instancer", props, (1, -2, 1), hidden)
    scatter("Scatter of 6 balls", ball, 6, -3.0)


def _keep(build: object, folder: Path) -> None:
    """Build upon what is there: `begin` would empty the file."""
    import blend_oddities

    kept, blend_oddities.begin = blend_oddities.begin, lambda: None
    try:
        build(folder)
    finally:
        blend_oddities.begin = kept


def save(path: Path) -> Path:
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    return path


def render(path: Path, run: Path, **changes: object) -> dict:
    """The worker's result of one panorama of a file."""
    run.mkdir()
    config = RenderJobConfig(
        run=run,
        sources=({"source": "blend", "paths": (str(path),)},),
        scenes=1,
        cameras_per_scene=1,
        width=256,
        height=128,
        samples=1,
        denoise=False,
        threads=1,
        max_bounces=1,
        scene_tries=1,
        secondary_materials="full",
        rgb_format="png",
        quality={"min_instances": 1, "max_single_instance": 1.0, "max_magenta": 1.0},
        **{"camera": {"poses": [{"x_m": 0, "y_m": 0, "z_m": 1.5}]}, **changes},
    )
    (run / JOB_FILE).write_text(config.model_dump_json())
    request = SceneRequest(
        scene=plan_scenes(config.render)[0],
        render=config.render,
        staged=run / "staged",
        result=run / "result.json",
        config_sha256=image_config_sha256(config.render),
    )
    return json.loads(worker.run(request).model_dump_json())


def refused(out: Path) -> dict[str, Path]:
    """Files that cannot be rendered, by what is wrong with them."""
    files = {}
    begin()
    whole = save(out / "whole.blend").read_bytes()
    files["newer"] = out / "newer.blend"
    files["newer"].write_bytes(whole.replace(b"BLENDER-v402", b"BLENDER-v405", 1))
    path = library(out, "lib", 0.5)
    begin()
    root().objects.link(link(path, "objects", "Cube"))
    files["library"] = save(out / "linked.blend")
    path.unlink()
    bpy.ops.wm.read_factory_settings(use_empty=True)
    files["empty"] = save(out / "empty.blend")
    begin()
    put("Scribble", bpy.data.grease_pencils.new("scribble"), (0, 2, 1))
    files["drawing"] = save(out / "drawing.blend")
    begin()
    bpy.data.objects["Crate"].driver_add("scale", 2).driver.expression = "len(bpy.data.objects)"
    files["driver"] = save(out / "driver.blend")
    return files


def main(out: Path) -> None:
    (out / "case").mkdir()
    room(out / "case")
    path = save(out / "case" / "room.blend")
    found = {"room": render(path, out / "room")}
    found["per-scatter"] = render(path, out / "per-scatter", instances="per-scatter")
    kept, prepared_scene.MAX_PASS_INDEX = prepared_scene.MAX_PASS_INDEX, 5
    found["two digits"] = render(path, out / "digits")
    prepared_scene.MAX_PASS_INDEX = kept
    found["chosen"] = render(path, out / "chosen", camera={})
    for name, file in refused(out).items():
        found[name] = render(file, out / f"run-{name}")
    (out / "results.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    defects.exit_now(0)
