"""Odd .blend files through the source `blend`, against Blender's own render of the untouched file
and against rays: `python check_blend_oddities.py OUT NAME...`.

Writes facts.json: per file, how many pixels differ in depth, in the object that is shown, in
normals, and between ids and rays; and what the panorama says is in it.
"""

import json
import sys
import time
from collections import defaultdict
from pathlib import Path

import bpy
import numpy as np
from blend_oddities import CAMERA, ODDITIES

from panoforge.core.sample.instance_table import InstanceLabel, instance_table
from panoforge.core.sample.label_maps import dense_ids
from panoforge.core.sample.metadata import Pose, SampleMeta
from panoforge.datagen import defects
from panoforge.datagen.cameras.choice import matrix_rows, world_from_pano
from panoforge.datagen.config.render import SceneJob
from panoforge.datagen.depsgraph.datablocks import key_of
from panoforge.datagen.depsgraph.instance_keys import instance_keys
from panoforge.datagen.depsgraph.parts import parts_of
from panoforge.datagen.depsgraph.visit import visit_render_depsgraph
from panoforge.datagen.geometry import prepared_scene
from panoforge.datagen.geometry.rendered_things import RenderedThing, thing_table
from panoforge.datagen.geometry.scatter_ids import joined, numbered_scatters
from panoforge.datagen.rendering.cycles import choose_device, configure
from panoforge.datagen.rendering.labels import exact_labels
from panoforge.datagen.rendering.passes import Passes, read_exr
from panoforge.datagen.rendering.render import place_camera, render_passes
from panoforge.datagen.rendering.settings import RenderSettings
from panoforge.datagen.scene.scene import Scene
from panoforge.datagen.source_settings import BlendSource
from panoforge.datagen.sources import blend
from panoforge.datagen.verify.oracle import build_oracle
from panoforge.datagen.verify.ray_judge import judge

WIDTH, HEIGHT = 128, 64
CAP = 6
SKY = 1e9
SMALL_SR = 0.03


def pose() -> Pose:
    rotation = matrix_rows(world_from_pano(0.0))
    return Pose(position_m=CAMERA, yaw_deg=0.0, world_from_pano=rotation)


def settings() -> RenderSettings:
    return RenderSettings(WIDTH, HEIGHT, 1, 0.0, 0, False, "FAST", False, False, 0)


def open_scene(path: Path) -> Scene:
    source = BlendSource(source="blend", paths=(str(path),))
    return blend.make_scene(SceneJob(0, "odd", "blend", str(path), (0,), 1), source, 0)


def untouched(path: Path, out: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str], float]:
    """Blender's own render of a file: depth in metres, normals, and at each pixel which object's
    geometry it shows, as a place in the list of keys (0: nothing); and its mean radiance. Only what
    asks for the passes and the camera is set.
    """
    bpy.ops.wm.open_mainfile(filepath=str(path), load_ui=False, use_scripts=False)
    keys = [""]
    for number, obj in enumerate(bpy.data.objects, start=1):
        obj.pass_index = number
        keys.append(key_of(obj))
    scene, render, layer = bpy.context.scene, bpy.context.scene.render, bpy.context.view_layer
    unit = scene.unit_settings.scale_length
    camera = bpy.data.objects.new("reference", bpy.data.cameras.new("reference"))
    scene.collection.objects.link(camera)
    camera.data.type, camera.data.panorama_type = "PANO", "EQUIRECTANGULAR"
    camera.data.clip_start, camera.data.clip_end = 1e-3 / unit, 1e5 / unit
    camera.location = [value / unit for value in CAMERA]
    camera.rotation_euler = (np.pi / 2, 0, 0)
    scene.camera = camera
    render.engine, render.resolution_x, render.resolution_y = "CYCLES", WIDTH, HEIGHT
    render.resolution_percentage, render.use_border, render.use_multiview = 100, False, False
    scene.use_nodes = False
    for other in scene.view_layers:
        other.use = other == layer
    scene.cycles.samples, scene.cycles.max_bounces, scene.cycles.use_denoising = 1, 0, False
    layer.use_pass_z = layer.use_pass_object_index = layer.use_pass_normal = True
    layer.pass_alpha_threshold = 0.0
    render.image_settings.file_format = "OPEN_EXR_MULTILAYER"
    render.image_settings.color_depth, render.filepath = "32", str(out / "reference.exr")
    bpy.ops.render.render(write_still=True)
    channels = read_exr(out / "reference.exr")
    depth = np.where(channels["Depth.Z"] >= SKY, np.inf, channels["Depth.Z"] * unit)
    normal = np.stack([channels[f"Normal.{axis}"] for axis in "XYZ"], axis=-1)
    light = np.stack([channels[f"Combined.{colour}"] for colour in "RGB"], axis=-1)
    return depth, normal, channels["IndexOB.X"].astype(int), keys, float(light.mean())


def ours(
    path: Path, out: Path
) -> tuple[Passes, Scene, list[set[str]], prepared_scene.PreparedScene]:
    """The file as we render it, and whose geometry each number may show."""
    scene = open_scene(path)
    defects.cap_subdivision(bpy.data.objects, CAP)
    parts = visit_render_depsgraph(
        lambda depsgraph: [p.key for p in parts_of(depsgraph) if p.kind not in ("light", "volume")]
    )
    keys = instance_keys(parts)
    table, shown = thing_table(scene, keys), defaultdict[int, set[str]](set)
    for key, part in zip(keys, parts, strict=True):
        shown[table.number[key]].add(part.source)
    prepared = prepared_scene.prepare(scene, CAP)

    def render(how: RenderSettings) -> Passes:
        configure(how)
        place_camera(pose(), how)
        return render_passes(how, out)

    passes = exact_labels(render(settings()), render, settings(), prepared)
    sources = [{""}, *[shown[number] for number in range(1, len(prepared.things) + 1)]]
    return passes, scene, sources, prepared


def outline(index: np.ndarray) -> np.ndarray:
    """Pixels beside which another object, or nothing, is shown; the top and bottom rows too."""
    edge = np.zeros(index.shape, bool)
    for rows in (-1, 0, 1):
        for columns in (-1, 0, 1):
            edge |= np.roll(index, (rows, columns), (0, 1)) != index
    edge[[0, -1]] = True
    return edge


def labelled(
    prepared: prepared_scene.PreparedScene, passes: Passes, least_sr: float
) -> tuple[np.ndarray, dict[int, RenderedThing]]:
    """Ids as a panorama has them, and what each is."""
    of, scatters = numbered_scatters(prepared.things, prepared.scatters)
    labels, old = dense_ids(joined(passes.index, of, least_sr))
    everything = (*prepared.things, *scatters)
    return labels, {id_: everything[number - 1] for id_, number in enumerate(old, start=1)}


def rays(
    path: Path, labels: np.ndarray, things: dict[int, RenderedThing], depth: np.ndarray
) -> dict:
    """The oracle's report on every pixel, of the file opened again."""
    scene = open_scene(path)
    defects.cap_subdivision(bpy.data.objects, CAP)
    names = {
        id_: InstanceLabel(thing.name, thing.category, thing.source, thing.flags)
        for id_, thing in things.items()
    }
    meta = SampleMeta(
        key="odd-c0",
        width=WIDTH,
        height=HEIGHT,
        source="blend",
        scene="odd",
        seed=0,
        camera=0,
        pose=pose(),
        products=("instance.zst",),
        instances=instance_table(labels, names),
        config_sha256="",
        versions={},
    )
    every = np.arange(WIDTH * HEIGHT)
    report = judge(build_oracle(scene), meta, labels, depth, every, displacement=False)
    return json.loads(json.dumps(vars(report)))


def check(name: str, out: Path) -> dict[str, object]:
    """Build one file and compare."""
    start = time.process_time()
    folder = out / name
    folder.mkdir()
    ODDITIES[name](folder)
    path = folder / "odd.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    depth, normal, index, keys, light = untouched(path, folder)
    passes, scene, sources, prepared = ours(path, folder)
    edge = outline(index)
    nothing = np.isinf(depth) != np.isinf(passes.depth_m)
    both = np.isfinite(depth) & np.isfinite(passes.depth_m)
    apart = np.zeros(depth.shape, bool)
    apart[both] = np.abs(depth - passes.depth_m)[both] > 1e-4 * depth[both] + 1e-5
    shown = zip(index.ravel().tolist(), passes.index.ravel().tolist(), strict=True)
    other = np.array([keys[theirs] not in sources[number] for theirs, number in shown])
    other = other.reshape(index.shape)
    turned = np.degrees(
        np.arccos(
            np.clip(
                (normal * passes.normal).sum(axis=-1)
                / np.maximum(np.linalg.norm(normal, axis=-1), 1e-9),
                -1,
                1,
            )
        )
    )
    labels, things = labelled(prepared, passes, 0.0)
    small, small_things = labelled(prepared, passes, SMALL_SR)
    unlabelled = int(((labels == 0) & np.isfinite(passes.depth_m)).sum())
    rows = [
        [thing.name, thing.category, thing.source, int((labels == id_).sum())]
        for id_, thing in things.items()
    ]
    notes = [*scene.notes, *prepared.notes]
    report = rays(path, labels, things, passes.depth_m)
    again = (
        rays(path, small, small_things, passes.depth_m) if len(small_things) < len(things) else None
    )
    return {
        "differ": {
            "nothing": int(nothing.sum()),
            "depth": int(apart.sum()),
            "object": int(other.sum()),
            "normal": int((turned[both] > 1).sum()),
        },
        "differ_inside": {
            "nothing": int((nothing & ~edge).sum()),
            "depth": int((apart & ~edge).sum()),
            "object": int((other & ~edge).sum()),
            "normal": int(((turned > 1) & both & ~edge).sum()),
        },
        "light": [light, float(passes.linear.mean())],
        "unlabelled": unlabelled,
        "rows": rows,
        "joined": sorted(thing.name for thing in small_things.values()),
        "joined_rays": again,
        "notes": notes,
        "rays": report,
        "seconds": time.process_time() - start,
    }


def main(out: Path, names: list[str]) -> None:
    choose_device("cpu", 1)
    facts = {}
    for name in names or list(ODDITIES):
        facts[name] = check(name, out)
        print(
            name,
            facts[name]["differ"],
            facts[name]["rays"]["differ"],
            facts[name]["seconds"],
            flush=True,
        )
    (out / "facts.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
    defects.exit_now(0)
