"""Known scenes rendered by the real renderer, in a process of its own: `python blender_scenes.py
OUT_FOLDER`.

Writes NumPy archives and facts.json for test_render.py, which checks them without bpy (bpy may
crash a test process at exit). Every scene is made with plain bpy, so nothing here depends on the
scene generators.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import bpy
import numpy as np
from blender_scenes_constants import (
    BALL_DISTANCE,
    BALL_RADIUS,
    BALLS,
    HEIGHT,
    PITCH,
    POSITION,
    ROLL,
    ROOM_RADIUS,
    WIDTH,
    YAW,
)
from mathutils import Euler

from panoforge.core.errors import UserError
from panoforge.core.geometry.sphere import lonlat_to_direction, pixel_to_direction
from panoforge.core.sample.metadata import Pose
from panoforge.datagen import defects
from panoforge.datagen.cameras.choice import matrix_rows, world_from_pano
from panoforge.datagen.config.render import SceneJob
from panoforge.datagen.extensions import extension
from panoforge.datagen.geometry import materials, prepared_scene
from panoforge.datagen.geometry.instances import SceneInstances
from panoforge.datagen.geometry.rendered_things import RenderedThing
from panoforge.datagen.geometry.surface import scene_surface
from panoforge.datagen.rendering.cycles import PLAIN, DeviceError, assign, choose_device, configure
from panoforge.datagen.rendering.passes import Passes, RenderFailed, whole_numbers
from panoforge.datagen.rendering.render import place_camera, render_passes
from panoforge.datagen.rendering.settings import RenderSettings
from panoforge.datagen.scene.scene import Scene, Thing
from panoforge.datagen.source_settings import BlendSource
from panoforge.datagen.sources import blend


def settings(**changes: object) -> RenderSettings:
    base = dict(
        width=WIDTH,
        height=HEIGHT,
        samples=4,
        adaptive_threshold=0.0,
        max_bounces=2,
        denoise=True,
        denoise_quality="FAST",
        albedo=True,
        material_index=False,
        seed=0,
    )
    return RenderSettings(**{**base, **changes})


def pose() -> Pose:
    rotation = world_from_pano(YAW, PITCH, ROLL)
    return Pose(
        position_m=POSITION,
        yaw_deg=YAW,
        pitch_deg=PITCH,
        roll_deg=ROLL,
        world_from_pano=matrix_rows(rotation),
    )


def take(config: RenderSettings, where: Pose, folder: Path) -> Passes:
    configure(config)
    place_camera(where, config)
    return render_passes(config, folder)


def material(name: str, colour: tuple[float, float, float]) -> bpy.types.Material:
    made = bpy.data.materials.new(name)
    made.use_nodes = True
    made.node_tree.nodes["Principled BSDF"].inputs["Base Color"].default_value = (*colour, 1)
    return made


def ball(name: str, centre: np.ndarray, radius: float, segments: int = 128) -> bpy.types.Object:
    bpy.ops.mesh.primitive_uv_sphere_add(
        radius=radius, segments=segments, ring_count=segments // 2, location=tuple(centre)
    )
    obj = bpy.context.object
    obj.name = name
    return obj


def lamp(energy: float, location: tuple[float, float, float]) -> bpy.types.Object:
    light = bpy.data.lights.new("lamp", "POINT")
    light.energy, light.shadow_soft_size = energy, 0.1
    obj = bpy.data.objects.new("lamp", light)
    obj.location = location
    bpy.context.scene.collection.objects.link(obj)
    return obj


def thing(*names: str) -> Thing:
    return Thing(names[0], "test", names)


def prepared(things: Iterable[Thing], subdivision_cap: int = 0) -> prepared_scene.PreparedScene:
    """The open scene prepared, with these things in it."""
    return prepared_scene.prepare(Scene(tuple(things), ()), subdivision_cap)


def analytic(out: Path) -> None:
    """Balls at known directions inside a big sphere around the camera."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    where = pose()
    rotation = np.array(where.world_from_pano)
    centres = [
        np.array(POSITION) + BALL_DISTANCE * rotation @ lonlat_to_direction(*np.radians(place))
        for place in BALLS
    ]
    names = [
        ball(f"ball{number}", centre, BALL_RADIUS).name for number, centre in enumerate(centres)
    ]
    names.append(ball("room", np.array(POSITION), ROOM_RADIUS, 256).name)
    lamp(100, (0.3, -0.2, 2.1))
    prepared(thing(name) for name in names)
    passes = take(settings(), where, out)
    np.savez(
        out / "analytic.npz",
        index=passes.index,
        depth=passes.depth_m,
        normal=passes.normal,
        linear=passes.linear,
        centres=np.array(centres),
        rotation=rotation,
    )


def cluttered() -> list[Thing]:
    """Rotated boxes, a monkey, panes of glass and of pure transparency, and two instances of a
    collection.
    """
    rng = np.random.default_rng(3)
    names = []
    for number in range(40):
        bpy.ops.mesh.primitive_cube_add(size=0.5, location=tuple(rng.uniform(-2.5, 2.5, 3)))
        box = bpy.context.object
        box.name, box.rotation_euler = f"box{number:02d}", Euler(rng.uniform(0, 6, 3))
        names.append(box.name)
    bpy.ops.mesh.primitive_monkey_add(location=(1, 1, 0.5))
    bpy.context.object.modifiers.new("subdivide", "SUBSURF").render_levels = 4
    names.append(bpy.context.object.name)
    for kind, place in (
        ("ShaderNodeBsdfGlass", (0, -1.2, 1.2)),
        ("ShaderNodeBsdfTransparent", (0, 1.4, 1.3)),
    ):
        bpy.ops.mesh.primitive_plane_add(size=1.0, location=place, rotation=(1.2, 0.3, 0))
        pane = bpy.context.object
        pane.name = f"pane{kind[14:]}"
        see_through = bpy.data.materials.new(kind)
        see_through.use_nodes = True
        shader = see_through.node_tree.nodes.new(kind)
        output = see_through.node_tree.nodes["Material Output"]
        see_through.node_tree.links.new(shader.outputs[0], output.inputs["Surface"])
        pane.data.materials.append(see_through)
        names.append(pane.name)
    collection = bpy.data.collections.new("plants")
    bpy.ops.mesh.primitive_ico_sphere_add(radius=0.3, location=(0, 0, 0))
    collection.objects.link(bpy.context.object)
    bpy.context.scene.collection.objects.unlink(bpy.context.object)
    for number, place in enumerate(((0.9, -1.3, 1.5), (-0.6, 0.3, 1.0))):
        empty = bpy.data.objects.new(f"plant{number}", None)
        empty.instance_type, empty.instance_collection, empty.location = (
            "COLLECTION",
            collection,
            place,
        )
        bpy.context.scene.collection.objects.link(empty)
        names.append(empty.name)
    bpy.context.view_layer.update()
    return [thing(name) for name in names]


def oracle(out: Path) -> None:
    """The rendered id map of the cluttered scene, and what rays through pixel centres meet."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    things = cluttered()
    lamp(100, (0, 0, 2.4))
    prepared(things, subdivision_cap=2)
    where = pose()
    passes = take(settings(), where, out)
    surface, rotation = scene_surface(), np.array(where.world_from_pano)

    def cast(du: float, dv: float, at: np.ndarray) -> np.ndarray:
        v, u = np.divmod(at, WIDTH)
        directions = pixel_to_direction(u + du, v + dv, WIDTH, HEIGHT) @ rotation.T
        hits = surface.cast(np.array(POSITION), directions)
        return np.stack([hits.index, hits.distance_m])

    everywhere = np.arange(WIDTH * HEIGHT)
    index, distance = cast(0, 0, everywhere)
    differs = np.flatnonzero(index != passes.index.ravel())
    near = (
        np.stack([cast(du, dv, differs)[0] for du in (-0.02, 0, 0.02) for dv in (-0.02, 0, 0.02)])
        if differs.size
        else None
    )
    np.savez(
        out / "oracle.npz",
        rendered=passes.index,
        depth=passes.depth_m,
        cast=index.reshape(HEIGHT, WIDTH),
        distance=distance.reshape(HEIGHT, WIDTH),
        differs=differs,
        near=np.zeros((9, 0)) if near is None else near,
        names=np.array([thing.name for thing in things]),
    )


def persistent(out: Path) -> dict[str, list[float]]:
    """For each change: how far the image moved from the one before, and how far it is from a render
    of the same state for which nothing is kept. A change that does not reach Cycles has the first
    zero or the second large. Nothing but the change happens between two renders.
    """
    kept, fresh = changing(out, keep=True), changing(out, keep=False)
    return {
        name: [
            float(np.abs(kept[name] - before).max()),
            float(np.abs(kept[name] - fresh[name]).max()),
        ]
        for before, name in zip(kept.values(), list(kept)[1:], strict=False)
    }


def changing(out: Path, *, keep: bool) -> dict[str, np.ndarray]:
    """The images of a scene that changes a little from one to the next."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    centre = np.array(POSITION)
    names = [
        ball("room", centre, 4.0, 32).name,
        ball("ball", centre + np.array((0, 2, 0)), 0.5, 32).name,
    ]
    light = lamp(100, (0.3, -0.2, 3.0))
    paint = material("paint", (0.8, 0.1, 0.1))
    for name in names:
        bpy.data.objects[name].data.materials.append(paint)
    prepared(thing(name) for name in names)
    state = dict(where=pose(), config=settings(width=128, height=64, denoise=False, albedo=False))

    def paint_green() -> None:
        paint.node_tree.nodes["Principled BSDF"].inputs["Base Color"].default_value = (
            0.1,
            0.8,
            0.1,
            1,
        )

    def move_camera() -> None:
        state["where"] = state["where"].model_copy(update={"position_m": (0.8, -0.2, 1.3)})

    def reconfigure(**changes: object) -> None:
        state["config"] = RenderSettings(**{**vars(state["config"]), **changes})

    changes = {
        "start": lambda: None,
        "camera": move_camera,
        "seed": lambda: reconfigure(seed=5),
        "light": lambda: setattr(light.data, "energy", 900.0),
        "material": paint_green,
        "bounces": lambda: reconfigure(max_bounces=0),
        "samples": lambda: reconfigure(samples=16),
        "bounces again": lambda: reconfigure(max_bounces=3),
        "flat materials": lambda: materials.flatten_secondary({}),
        "seed again": lambda: reconfigure(seed=6),
        "albedo": lambda: reconfigure(albedo=True),
        "denoiser": lambda: reconfigure(denoise=True),
    }
    images = {}
    for name, change in changes.items():
        change()
        configure(state["config"])
        place_camera(state["where"], state["config"])
        assign(bpy.context.scene.render, use_persistent_data=keep)
        images[name] = render_passes(state["config"], out).linear
    return images


def flattened(out: Path) -> dict[str, object]:
    """What the camera sees directly is the same before and after materials are flattened; glass and
    lamps stay whole.
    """
    bpy.ops.wm.read_factory_settings(use_empty=True)
    centre = np.array(POSITION)
    names = [
        ball("room", centre, 4.0, 32).name,
        ball("lampshade", centre + np.array((1.5, 1, 0)), 0.3, 32).name,
    ]
    checker = material("checker", (1, 1, 1))
    texture = checker.node_tree.nodes.new("ShaderNodeTexChecker")
    checker.node_tree.links.new(
        texture.outputs["Color"], checker.node_tree.nodes["Principled BSDF"].inputs["Base Color"]
    )
    glow = material("glow", (1, 1, 1))
    glow.node_tree.nodes["Principled BSDF"].inputs["Emission Strength"].default_value = 5.0
    for name, paint in zip(names, (checker, glow), strict=True):
        bpy.data.objects[name].data.materials.append(paint)
    lamp(100, (0.3, -0.2, 3.0))
    prepared(thing(name) for name in names)
    config = settings(width=128, height=64, denoise=False, max_bounces=0, material_index=True)
    before = take(config, pose(), out)
    order = materials.index_materials()
    before = take(config, pose(), out)
    probe = take(RenderSettings.probe(256, 0), pose(), out)
    colours = materials.mean_colours(order, probe.material, probe.diffuse)
    changed = materials.flatten_secondary(colours)
    after = take(config, pose(), out)
    return {
        "changed": changed,
        "difference": float(np.abs(after.linear - before.linear).max()),
        "colour": colours["checker"].tolist(),
    }


def bounced(out: Path) -> dict[str, float]:
    """A white room under a lamp whose lower half is polished metal of checks: what light does there
    before and after flattening. `ball`: how far pixels of a blurred mirror in it move, which sees
    the checks; `room`: how much brighter its ceiling gets.
    """
    bpy.ops.wm.read_factory_settings(use_empty=True)
    centre = np.array(POSITION)
    balls = (
        ("room", centre, 4.0),
        ("bowl", centre, 3.9),
        ("mirror", centre + np.array((0, 2, 0)), 0.7),
    )
    names = [ball(*one, segments=32).name for one in balls]
    bowl = bpy.data.objects["bowl"]
    bowl.modifiers.new("half", "MASK").vertex_group = bowl.vertex_groups.new(name="low").name
    bowl.vertex_groups["low"].add([v.index for v in bowl.data.vertices if v.co.z < 0], 1.0, "ADD")
    metal, blurred = material("metal", (1, 1, 1)), material("blurred", (0.9, 0.9, 0.9))
    texture = metal.node_tree.nodes.new("ShaderNodeTexChecker")
    metal.node_tree.links.new(
        texture.outputs["Color"], metal.node_tree.nodes["Principled BSDF"].inputs["Base Color"]
    )
    for paint, roughness in ((metal, 0.4), (blurred, 0.2)):
        paint.node_tree.nodes["Principled BSDF"].inputs["Metallic"].default_value = 1.0
        paint.node_tree.nodes["Principled BSDF"].inputs["Roughness"].default_value = roughness
    for name, paint in zip(
        names, (material("white", (0.8, 0.8, 0.8)), metal, blurred), strict=True
    ):
        bpy.data.objects[name].data.materials.append(paint)
    lamp(100, (0.3, -0.2, 3.0))
    prepared(thing(name) for name in names)
    config = settings(
        width=64, height=32, denoise=False, max_bounces=4, samples=256, material_index=True
    )
    order = materials.index_materials()
    before = take(config, pose(), out)
    probe = take(RenderSettings.probe(256, 0), pose(), out)
    assert (
        materials.flatten_secondary(materials.mean_colours(order, probe.material, probe.diffuse))
        == 3
    )
    after = take(config, pose(), out)
    white, mirror = (before.material == order.index(name) + 1 for name in ("white", "blurred"))
    return {
        "room": float(after.linear[white].mean() / before.linear[white].mean()),
        "ball": float(
            np.abs(after.linear - before.linear)[mirror].mean() / before.linear[mirror].mean()
        ),
    }


def foreign_settings() -> dict[str, list]:
    """What settings of somebody else's file are after `configure`, beside what a new file has."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    cycles = bpy.context.scene.cycles
    fresh = {name: getattr(cycles, name) for name in PLAIN}
    cycles.adaptive_min_samples, cycles.blur_glossy, cycles.light_sampling_threshold = 1, 5.0, 0.5
    cycles.use_camera_cull, cycles.sampling_pattern, cycles.use_guiding = (
        True,
        "TABULATED_SOBOL",
        True,
    )
    configure(settings())
    return {name: [getattr(cycles, name), value] for name, value in fresh.items()}


def messages() -> dict[str, str]:
    texts = {}
    try:
        whole_numbers(np.array([[1.0, 2.5]], np.float32), "Object Index")
    except RenderFailed as error:
        texts["filtered"] = str(error)
    return texts


def leftovers() -> dict[str, object]:
    """Leftover objects go; a kept child of a deleted parent stays where it is."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    parent = ball("pool", np.array((1.0, 2.0, 3.0)), 0.1, 8)
    child = ball("kept", np.array((1.0, 2.0, 4.0)), 0.1, 8)
    child.parent = parent
    bpy.context.view_layer.update()
    was = child.matrix_world.translation.copy()
    count = defects.delete_leftovers([child])
    bpy.context.view_layer.update()
    found = {
        "deleted": count,
        "left": sorted(bpy.data.objects.keys()),
        "moved": (child.matrix_world.translation - was).length,
    }
    light = ball("ceiling_light_00", np.array((0.0, 0.0, 3.0)), 0.1, 8)
    notes = defects.lower_ceiling_lights([light])
    return {
        **found,
        "lowered": 3.0 - light.location.z,
        "notes": len(notes),
        "others": len(defects.lower_ceiling_lights([])),
    }


def kept_levels(levels: int) -> dict[str, object]:
    """What Infinigen 2's subdivision, for renders only, leaves at `levels` of a cube (once) and a
    ball of 3,968 triangles (twice).
    """
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.mesh.primitive_cube_add()
    objects = [bpy.context.object, ball("dense", np.array((3.0, 0.0, 0.0)), 1.0, 64)]
    for wanted, obj in enumerate(objects, start=1):
        modifier = obj.modifiers.new("subsurf", "SUBSURF")
        modifier.levels = modifier.render_levels = wanted
        modifier.show_viewport = False
    notes, again = (defects.subdivide_less(objects, levels) for _ in range(2))
    limit = [obj.modifiers[0].use_limit_surface for obj in objects]
    prepared([thing(obj.name) for obj in objects], subdivision_cap=2)
    return {
        "limit": any(limit),
        "notes": (len(notes), len(again)),
        "triangles": scene_surface().triangles,
    }


def open_file(path: Path) -> Scene:
    """The file through the `blend` source."""
    job = SceneJob(0, "blend", "blend", str(path), (0,), 1)
    return blend.make_scene(job, BlendSource(source="blend", paths=(str(path),)), 0)


def blend_file(out: Path) -> dict[str, object]:
    """A file made with plain bpy comes back through the `blend` source; one with auto-run text
    and a broken one do not.
    """
    bpy.ops.wm.read_factory_settings(use_empty=True)
    cluttered()
    lamp(100, (0, 0, 2.4))
    hidden = ball("hidden", np.zeros(3), 0.1, 8)
    hidden.hide_render = True
    ball("shy", np.array((0.3, 0.6, 1.1)), 0.2, 16).hide_viewport = True  # renders all the same
    bpy.context.view_layer.name = "View.Layer.001"
    bpy.context.scene.view_layers.new("another")
    bpy.data.objects["Suzanne"].pass_index = bpy.context.scene.objects["hidden"].pass_index = 9
    bpy.ops.wm.save_as_mainfile(filepath=str(out / "good.blend"))
    bpy.data.texts.new("startup.py").use_module = True
    bpy.ops.wm.save_as_mainfile(filepath=str(out / "scripted.blend"))
    (out / "broken.blend").write_bytes(b"BLENDER nonsense")
    refused = {}
    for name in ("scripted", "broken", "missing"):
        try:
            open_file(out / f"{name}.blend")
        except UserError as error:
            refused[name] = str(error)
    scene = open_file(out / "good.blend")
    things = prepared_scene.prepare(scene, subdivision_cap=2).things
    passes = take(settings(width=256, height=128, denoise=False, albedo=False), pose(), out)
    surface, (v, u) = scene_surface(), np.mgrid[:128, :256]
    directions = (
        pixel_to_direction(u.ravel(), v.ravel(), 256, 128) @ np.array(pose().world_from_pano).T
    )
    met = surface.cast(np.array(POSITION), directions).index
    return {
        "refused": refused,
        "things": [thing.name for thing in things],
        "differ": int((met != passes.index.ravel()).sum()),
        "seen": len(np.unique(met)),
        "shy": int((passes.index == 1 + [thing.name for thing in things].index("shy")).sum()),
        "visibility": SceneInstances().visibility(*shy_seen(things, passes.index)),
    }


def shy_seen(
    things: Sequence[RenderedThing], index: np.ndarray
) -> tuple[int, int, np.ndarray, Pose]:
    """Arguments of `visibility` for the object that is hidden in the viewport."""
    number = 1 + [thing.name for thing in things].index("shy")
    return number, 1, (index == number).astype(np.uint16), pose()


def rocks() -> dict[str, object]:
    """Without the add-on a rock is a bowl, with a note; the generator is put back afterwards."""
    from infinigen2.objects import boulder

    original, notes = boulder.rock_rand, []
    with defects.rocks_without_addon(notes.append):
        made = (
            boulder.rock_rand(np.random.default_rng(0)).mesh.item().name
            if not extension.antlandscape_available()
            else ""
        )
    return {
        "installed": extension.antlandscape_available(),
        "made": made,
        "notes": notes,
        "restored": boulder.rock_rand is original,
    }


def device() -> str:
    try:
        return choose_device("optix", 0)
    except DeviceError as error:
        return str(error)


def main(out: Path) -> None:
    choose_device("cpu", 0)
    analytic(out)
    oracle(out)
    facts = {
        "persistent": persistent(out),
        "flattened": flattened(out),
        "bounced": bounced(out),
        "foreign": foreign_settings(),
        "messages": messages(),
        "leftovers": leftovers(),
        "subdivided": [kept_levels(levels) for levels in (0, 1, 2)],
        "blend": blend_file(out),
        "rocks": rocks(),
        "device": device(),
    }
    (out / "facts.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    defects.exit_now(0)
