"""Known scenes for glass, boxes, visibility, rays and sources, made in a process of their own:
`python blender_sources.py OUT`.

Writes facts.json for test_sources.py. The scenes are plain bpy; Infinigen 1 is stood in for by a
command that takes its arguments and saves a real .blend laid out as it does
(infinigen1_command.py).
"""

import json
import math
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import bpy
import numpy as np
from blender_scenes import ball, lamp, prepared, settings, take, thing
from mathutils import Euler, Vector

from panoforge.core.errors import UserError
from panoforge.core.geometry.sphere import fibonacci_directions
from panoforge.core.sample.instance_table import InstanceLabel, instance_table
from panoforge.core.sample.label_maps import dense_ids
from panoforge.core.sample.metadata import Pose, SampleMeta
from panoforge.datagen import defects
from panoforge.datagen.cameras.choice import (
    choose_poses,
    greedy_coverage,
    matrix_rows,
    world_from_pano,
)
from panoforge.datagen.cameras.places import candidates, free_places
from panoforge.datagen.config.render import CameraSettings, LightSettings, QualitySettings, SceneJob
from panoforge.datagen.extensions import extension
from panoforge.datagen.geometry import materials, prepared_scene
from panoforge.datagen.geometry.instances import SceneInstances, upright_box
from panoforge.datagen.geometry.surface import scene_surface
from panoforge.datagen.infinigen1.overlay import own_environment
from panoforge.datagen.redraw import lighting
from panoforge.datagen.rendering import glass
from panoforge.datagen.rendering.cycles import choose_device
from panoforge.datagen.rendering.quality import RejectedScene
from panoforge.datagen.scene.scene import Region, Scene, Thing
from panoforge.datagen.source_settings import (
    Infinigen1Indoors,
    Infinigen1Nature,
    OutdoorSource,
    RoomsSource,
)
from panoforge.datagen.sources import (
    infinigen1,
    infinigen2_outdoor,
    infinigen2_rooms,
    outdoor_parts,
)
from panoforge.datagen.verify import oracle, ray_judge

SIZE = (256, 128)


def origin_pose() -> Pose:
    return Pose(
        position_m=(0.0, 0.0, 0.0), yaw_deg=0.0, world_from_pano=matrix_rows(world_from_pano(0.0))
    )


def card(
    name: str,
    distance: float,
    size: float,
    shader: Callable[[bpy.types.NodeTree], bpy.types.Node] | None = None,
) -> None:
    """A square facing the origin from +Y."""
    bpy.ops.mesh.primitive_plane_add(
        size=size, location=(0, distance, 0), rotation=(np.pi / 2, 0, 0)
    )
    bpy.context.object.name = name
    made = bpy.data.materials.new(name)
    made.use_nodes = True
    if shader:
        node = shader(made.node_tree)
        made.node_tree.links.new(
            node.outputs[0], made.node_tree.nodes["Material Output"].inputs["Surface"]
        )
    bpy.context.object.data.materials.append(made)


def thin_pane(tree: bpy.types.NodeTree) -> bpy.types.Node:
    """Infinigen 2's window glass: a principled shader of little alpha, with grime mixed in by a
    mask.
    """
    kinds = ("ShaderNodeBsdfPrincipled", "ShaderNodeBsdfDiffuse", "ShaderNodeTexNoise")
    clear, grime, mask = (tree.nodes.new(kind) for kind in kinds)
    clear.inputs["Alpha"].default_value = 0.05
    mix = tree.nodes.new("ShaderNodeMixShader")
    tree.links.new(mask.outputs["Fac"], mix.inputs[0])
    tree.links.new(clear.outputs[0], mix.inputs[1])
    tree.links.new(grime.outputs[0], mix.inputs[2])
    return mix


def cut_out(tree: bpy.types.NodeTree) -> bpy.types.Node:
    """A leaf on a card: transparency mixed in by a mask."""
    kinds = ("ShaderNodeBsdfTransparent", "ShaderNodeBsdfDiffuse", "ShaderNodeTexChecker")
    clear, leaf, mask = (tree.nodes.new(kind) for kind in kinds)
    mix = tree.nodes.new("ShaderNodeMixShader")
    tree.links.new(mask.outputs["Fac"], mix.inputs[0])
    tree.links.new(clear.outputs[0], mix.inputs[1])
    tree.links.new(leaf.outputs[0], mix.inputs[2])
    return mix


def glass_policies(out: Path) -> dict[str, object]:
    """A pane before a wall, in a room; ids, depth and colour under both policies."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    card("pane", 2.0, 1.0, thin_pane)
    card("leaf", 2.0, 0.4, cut_out)
    bpy.data.objects["leaf"].location.x = 1.2
    card("wall", 4.0, 6.0)
    ball("room", np.zeros(3), 8.0, 32)
    lamp(200, (0, 0.5, 2.0))
    names = ["pane", "leaf", "wall", "room"]
    prepared(thing(name) for name in names)
    order, panes = materials.index_materials(), glass.glass_materials()
    config = settings(
        width=SIZE[0], height=SIZE[1], denoise=False, albedo=False, material_index=True, samples=2
    )
    front = take(config, origin_pose(), out)
    with glass.removed(panes):
        behind = take(glass.behind_settings(config), origin_pose(), out)
    again = take(config, origin_pose(), out)
    merged = glass.merge(front, behind, [order.index(name) + 1 for name in panes])
    middle = (SIZE[1] // 2, SIZE[0] // 2)
    count = {
        policy: [int((passes.index == number + 1).sum()) for number in range(4)]
        for policy, passes in (("solid", front), ("through", merged))
    }
    return {
        "panes": panes,
        "count": count,
        "id": [int(front.index[middle]), int(merged.index[middle])],
        "depth": [float(front.depth_m[middle]), float(merged.depth_m[middle])],
        "restored": float(np.abs(again.linear - front.linear).max()),
        "same_elsewhere": int((front.index != merged.index)[front.index != 1].sum()),
    }


def boxes_and_visibility(out: Path) -> dict[str, object]:
    """A turned box half hidden behind a wall, a ball in the open, and one around the camera."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.mesh.primitive_cube_add(size=1.0, location=(0, 6, 0.3))
    box = bpy.context.object
    box.name, box.scale, box.rotation_euler = "box", (2.0, 0.5, 1.0), Euler((0, 0, np.radians(30)))
    card("wall", 3.0, 4.0)
    bpy.data.objects["wall"].location.x = 2.0  # covers what is right of the middle
    ball("open", np.array((-4.0, 0.0, 1.0)), 0.5)
    ball("seam", np.array((0.0, -4.0, 0.0)), 0.5)
    ball("room", np.zeros(3), 9.0, 64)
    lamp(100, (0, 0, 3))
    names = ["box", "wall", "open", "seam", "room"]
    prepared(thing(name) for name in names)
    passes = take(
        settings(width=1024, height=512, samples=1, denoise=False, albedo=False, max_bounces=0),
        origin_pose(),
        out,
    )
    labels, old = dense_ids(passes.index)
    instances = SceneInstances()
    found = {}
    for id_, index in enumerate(old, start=1):
        visibility = instances.visibility(int(index), id_, labels, origin_pose())
        found[names[int(index) - 1]] = {
            "box": instances.box(int(index)).model_dump(),
            "visibility": visibility,
        }
    return found


def random_boxes() -> list[float]:
    """Volume of the upright box of a turned cuboid's corners, over the true volume, for random
    turns.
    """
    rng, ratios = np.random.default_rng(0), []
    for _ in range(50):
        size, yaw = rng.uniform(0.1, 3, 3), rng.uniform(0, 2 * np.pi)
        corners = (
            np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
            * size
        )
        turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
        box = upright_box(corners @ turn.T + rng.uniform(-20, 20, 3))
        ratios.append(float(np.prod(box.size_m) / np.prod(size)))
    return ratios


def rays(out: Path) -> dict[str, object]:
    """The oracle on a rendered cluttered scene: all agree; after two ids are swapped, not."""
    from blender_scenes import cluttered

    bpy.ops.wm.read_factory_settings(use_empty=True)
    things = cluttered()
    bpy.ops.mesh.primitive_plane_add(size=1.0, location=(0, 2.0, 0.5), rotation=(np.pi / 2, 0, 0))
    bpy.context.object.name = "poster"
    bpy.ops.mesh.primitive_plane_add(size=2.0, location=(0, 2.0, 0.5), rotation=(np.pi / 2, 0, 0))
    bpy.context.object.name = "plaster"  # in one plane with the poster
    things += [thing("poster"), thing("plaster")]
    defects.cap_subdivision([bpy.data.objects[name] for one in things for name in one.objects], 2)
    bpy.context.view_layer.update()
    judge_of = oracle.build_oracle(Scene(tuple(things), ()))  # before anything is realised
    lamp(100, (0, 0, 2.4))
    prepared(things, subdivision_cap=2)
    where = Pose(
        position_m=(0.1, -0.2, 0.2),
        yaw_deg=20.0,
        world_from_pano=matrix_rows(world_from_pano(20.0, 5.0, -3.0)),
    )
    passes = take(
        settings(width=256, height=128, samples=1, denoise=False, albedo=False, max_bounces=0),
        where,
        out,
    )
    labels, old = dense_ids(passes.index)
    seen = {id_: things[int(index) - 1] for id_, index in enumerate(old, start=1)}
    names = {id_: InstanceLabel(one.name, "test", one.objects[0]) for id_, one in seen.items()}
    meta = SampleMeta(
        key="a-c0",
        width=256,
        height=128,
        source="test",
        scene="a",
        seed=0,
        camera=0,
        pose=where,
        products=("instance.zst",),
        instances=instance_table(labels, names),
        config_sha256="",
        versions={},
    )
    pixels = np.arange(256 * 128)
    honest = ray_judge.judge(judge_of, meta, labels, passes.depth_m, pixels, displacement=False)
    first, second = (
        next(id_ for id_, label in names.items() if label.name == name)
        for name in ("box00", "Suzanne")
    )
    swapped = labels.copy()
    swapped[labels == first], swapped[labels == second] = second, first
    lying = ray_judge.judge(judge_of, meta, swapped, None, pixels, displacement=False)
    shifted = ray_judge.judge(
        judge_of, meta, np.roll(labels, 1, axis=1), None, pixels, displacement=False
    )
    return {
        "honest": plain(honest),
        "lying": plain(lying),
        "swapped": int(np.isin(labels, (first, second)).sum()),
        "shifted": plain(shifted),
    }


def two_rooms() -> list[list]:
    """Where cameras stand in two closed rooms side by side, two regions: with two cameras, one in
    each. Then free ones, and those again. And which places of the first room are preferred,
    evaluated in two orders.
    """
    bpy.ops.wm.read_factory_settings(use_empty=True)
    names, regions = [], []
    for number, x in enumerate((0.0, 20.0)):
        bpy.ops.mesh.primitive_cube_add(size=1, location=(x, 0, 1.5))
        room = bpy.context.object
        room.name, room.scale = (
            f"room{number}",
            (6.0 - 3 * number, 5.0 - 2 * number, 3.0),
        )  # the second is much smaller
        bpy.ops.object.mode_set(mode="EDIT")
        bpy.ops.mesh.flip_normals()  # seen from within
        bpy.ops.object.mode_set(mode="OBJECT")
        names.append(room.name)
        regions.append(Region((x - 1, -1, 0), (x + 1, 1, 3), 0.0))
    prepared(thing(name) for name in names)
    poses = choose_poses(scene_surface(), regions, True, CameraSettings(), QualitySettings(), 2, 5)
    free, again = (
        [
            [*pose.position_m, pose.yaw_deg, pose.pitch_deg, pose.roll_deg]
            for pose in choose_poses(
                scene_surface(),
                regions,
                True,
                CameraSettings(placement="free", tilt_deg=10),
                QualitySettings(),
                8,
                5,
            )
        ]
        for _ in range(2)
    )
    points = candidates(regions[0], CameraSettings(), np.random.default_rng(5), scene_surface())
    preferred = []
    for order in (points, points[::-1]):
        found, _ = free_places(scene_surface(), order, True, 0.35, QualitySettings())
        preferred.append([found[index].position.tolist() for index in greedy_coverage(found, 6)])
    return [[list(pose.position_m) for pose in poses], free, again, preferred]


def places() -> dict[str, list[int]]:
    """Which of three points in a closed room are free: in the open beside sheets seen from behind,
    inside a box, outside.
    """
    bpy.ops.wm.read_factory_settings(use_empty=True)
    names = [ball("room", np.array((0.0, 0.0, 1.5)), 5.0, 32).name]
    bpy.ops.object.mode_set(mode="EDIT")
    bpy.ops.mesh.flip_normals()
    bpy.ops.object.mode_set(mode="OBJECT")
    for number in range(4):  # their backs fill some 8 % of the sphere
        bpy.ops.mesh.primitive_plane_add(
            size=1.2, location=(-1.0 + 0.5 * number, 1.6, 1.5), rotation=(-np.pi / 2, 0, 0)
        )
        bpy.context.object.name = f"sheet{number}"
        names.append(f"sheet{number}")
    bpy.ops.mesh.primitive_cube_add(size=1.6, location=(0, -2.5, 1.5))
    bpy.context.object.name = "chest"
    prepared(thing(name) for name in [*names, "chest"])
    surface, found = scene_surface(), {}
    for name, point in (
        ("open", (0, 0, 1.5)),
        ("in the chest", (0, -2.5, 1.5)),
        ("outside", (0, 0, 8.0)),
    ):
        free, refused = free_places(surface, np.array([point], float), True, 0.3, QualitySettings())
        behind = surface.cast(np.array(point, float), fibonacci_directions(640)).backface.mean()
        found[name] = [len(free), refused["inside"], refused["open"], round(100 * float(behind))]
    return found


def plain(report: ray_judge.RayReport) -> dict[str, object]:
    return json.loads(json.dumps(vars(report)))


def cycles_error(out: Path) -> str:
    """A render during which Cycles writes an error is refused: here the line that Cycles writes,
    from its own process.
    """
    bpy.ops.wm.read_factory_settings(use_empty=True)
    ball("room", np.zeros(3), 2.0, 8)
    lamp(10, (0, 0, 0.5))

    def complain(scene: object, *rest: object) -> None:
        os.write(2, b'Out of SVM stack space, shader "room" too big.\n')

    bpy.app.handlers.render_pre.append(complain)
    try:
        take(
            settings(width=64, height=32, samples=1, denoise=False, albedo=False),
            origin_pose(),
            out,
        )
    except RejectedScene as refused:
        return str(refused)
    finally:
        bpy.app.handlers.render_pre.remove(complain)
    return ""


def infinigen1_scenes(out: Path) -> dict[str, object]:
    """Both kinds through the stand-in command, and what is said when the environment is missing or
    another one.
    """
    found: dict[str, object] = {}
    python = str(out / "python1")
    Path(python).write_text(
        f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).with_name("infinigen1_command.py")}"'
        ' "$@"\n'
    )
    os.chmod(python, 0o755)
    folder = out / "infinigen1"
    for name in ("fast_solve", "singleroom", "simple", "no_rocks"):
        (folder / "infinigen_examples" / "configs").mkdir(parents=True, exist_ok=True)
        (folder / "infinigen_examples" / "configs" / f"{name}.gin").touch()
    os.environ["INFINIGEN1_FOLDER"] = str(folder)
    seed = 5 * 2**32 + 3_735_928_559  # more digits than its decimal parser, had it one, would take
    sources = {
        "indoors": Infinigen1Indoors(
            source="infinigen1.indoors", rooms=("livingroom",), python=python
        ),
        "nature": Infinigen1Nature(source="infinigen1.nature", python=python),
    }
    for kind, source in sources.items():
        bpy.ops.wm.read_factory_settings(use_empty=True)
        job = SceneJob(0, "a", source.source, source.variants[0], (seed,), 1)
        scene = infinigen1.make_scene(job, source, seed)
        things = prepared_scene.prepare(scene, 1).things
        where = replace_position((0.0, 0.0, 1.5))
        seen = take(
            settings(width=128, height=64, samples=1, denoise=False, albedo=False, max_bounces=0),
            where,
            out,
        ).index
        found[kind] = {
            "things": {
                one.name: [one.category, list(one.flags), len(one.objects)] for one in scene.things
            },
            "seen": sorted({things[i - 1].name for i in np.unique(seen).tolist() if i}),
            "regions": [[*region.low, *region.high] for region in scene.regions],
            "ground": [
                [scene.things[number - 1].name for number in region.ground]
                for region in scene.regions
            ],
            "heights": [
                candidates(region, CameraSettings(), np.random.default_rng(1), scene_surface())
                .round(3)
                .tolist()
                for region in scene.regions
            ],
            "notes": list(scene.notes),
            "lights": [
                obj.matrix_world.translation.z
                for obj in bpy.context.scene.objects
                if obj.name.startswith("CeilingLight")
            ],
            "versions": scene.versions,
            "seed": bpy.context.scene["infinigen1_seed"],
            "steps": bpy.context.scene["infinigen1_steps"],
        }
    for name, interpreter in (("missing", "/nowhere/python"), ("other", sys.executable)):
        try:
            own_environment(interpreter)
        except UserError as error:
            found[name] = str(error)
    os.environ["INFINIGEN1_FAILS"] = "1"
    try:
        infinigen1.make_scene(job, source, seed)
    except Exception as error:
        found["failed"] = f"{type(error).__name__}: {error}"
    del os.environ["INFINIGEN1_FAILS"]
    return found


def clutter(out: Path) -> dict[str, list]:
    """The things of a room of Infinigen 2's names: with its primitive bodies, without them, and
    with assets of a library in their places.
    """
    found = {}
    small_library(out / "library")
    for wanted in ("primitives", "none", "infinigen1", "infinigen1"):
        bpy.ops.wm.read_factory_settings(use_empty=True)
        for name in ("room_wall_00", "room_wall_back_00", "sofa_rand", "cone_rand", "monkey_rand"):
            bpy.ops.mesh.primitive_cube_add()
            bpy.context.object.name = name
        cone, monkey = bpy.data.objects["cone_rand"], bpy.data.objects["monkey_rand"]
        cone.scale, cone.location = (0.06, 0.06, 0.1), (1.0, 2.0, 0.85)  # its box: 12 x 12 x 20 cm
        monkey.scale, monkey.location = (0.01, 0.01, 0.01), (0.0, 0.0, 1.0)  # nothing is so small
        bpy.context.view_layer.update()
        room = SimpleNamespace(
            all_objects=[SimpleNamespace(item=lambda obj=obj: obj) for obj in bpy.data.objects],
            lights=[],
        )
        source = RoomsSource(
            source="infinigen2.rooms", clutter=wanted, library=str(out / "library")
        )
        notes: list[str] = []
        scene = infinigen2_rooms._scene(room, (), notes, source, 4)
        found[f"{wanted} again"] = found.get(wanted)
        found[wanted] = [[thing.name, *thing.flags] for thing in scene.things]
        found[f"{wanted} left"] = len(bpy.data.objects)
    bpy.context.view_layer.update()
    asset = next(obj for obj in bpy.data.objects if "Factory" in obj.name)
    corners = np.array([asset.matrix_world @ Vector(corner) for corner in asset.bound_box])
    found["box"] = [corners.min(axis=0).tolist(), corners.max(axis=0).tolist()]
    found["asset"] = [thing.category for thing in scene.things if "Factory" in thing.name]
    found["said"] = [*scene.notes, len(scene.versions["asset_library"])]
    return found


def small_library(folder: Path) -> None:
    """A library of two assets: a cup of 10 x 10 x 12 cm, and a vase that no body has room for."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    for name, size in (("CupFactory(0)", (0.1, 0.1, 0.12)), ("VaseFactory(1)", (0.9, 0.9, 1.4))):
        bpy.ops.mesh.primitive_cube_add(size=1.0, location=(0.0, 0.0, 0.5))
        bpy.ops.object.transform_apply(location=True)
        bpy.context.object.scale = size
        bpy.ops.object.transform_apply(scale=True)
        bpy.context.object.name = name
    folder.mkdir()
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / "scene.blend"))


def ground() -> dict[str, list]:
    """Where places lie: above the L of a floor whose box holds more, tables or not; above hills
    and not above their lowest point; in a house of a user's, on its floor and not on its roof.
    """
    bpy.ops.wm.read_factory_settings(use_empty=True)
    mesh = bpy.data.meshes.new("floor")
    corners = [(0, 0), (6, 0), (6, 2), (2, 2), (2, 6), (0, 6)]
    mesh.from_pydata([(x, y, 0.1) for x, y in corners], [], [(0, 1, 2, 3), (0, 3, 4, 5)])
    bpy.context.scene.collection.objects.link(bpy.data.objects.new("floor", mesh))
    bpy.ops.mesh.primitive_cube_add(size=1, location=(1, 1, 0.5))
    bpy.context.object.name = "table"
    bpy.ops.mesh.primitive_plane_add(size=12, location=(3, 3, 2.65))  # no headroom on the table
    bpy.context.object.name = "roof"
    names = ["floor", "table", "roof"]
    prepared(thing(name) for name in names)
    surface, rng = scene_surface(), np.random.default_rng(3)
    above = Region((0, 0, 0.1), (6, 6, 2.7), 0.1, ground=(1,))
    found = {"room": candidates(above, CameraSettings(), rng, surface).tolist()}
    anywhere = Region((0, 0, 0.1), (6, 6, 2.7), 0.1, ground=())
    found["anywhere"] = candidates(anywhere, CameraSettings(), rng, surface).tolist()
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.mesh.primitive_plane_add(size=20, rotation=(0, -np.arctan(0.5), 0))
    bpy.context.object.name = "hill"
    prepared([thing("hill")])
    slope = Region((-8, -8, -4), (8, 8, 4), -4.0, ground=())
    found["hill"] = candidates(slope, CameraSettings(), rng, scene_surface()).tolist()
    return found


def light() -> dict[str, object]:
    """A sky and a sun that are moved, a lamp and a glowing shade that go out, a glowing screen that
    does not.
    """
    bpy.ops.wm.read_factory_settings(use_empty=True)
    found: dict[str, object] = {}
    try:
        lighting.move_sun(20)
    except UserError as error:
        found["no sun"] = str(error)
    world = bpy.context.scene.world = bpy.data.worlds.new("world")
    world.use_nodes = True
    sky = world.node_tree.nodes.new("ShaderNodeTexSky")
    sun = bpy.data.objects.new("sun", bpy.data.lights.new("sun", "SUN"))
    sun.rotation_euler = (0.3, 0.0, 1.0)
    point = bpy.data.objects.new("point", bpy.data.lights.new("point", "POINT"))
    for obj in (sun, point):
        bpy.context.scene.collection.objects.link(obj)
    for name in ("shade", "screen"):
        ball(name, np.zeros(3), 1.0, 4)
        glow = bpy.data.materials.new(name)
        glow.use_nodes = True
        glow.node_tree.nodes["Principled BSDF"].inputs["Emission Strength"].default_value = 5.0
        bpy.data.objects[name].data.materials.append(glow)
    bpy.context.view_layer.update()
    things = (Thing("shade", "lamp", ("shade",)), Thing("screen", "screen", ("screen",)))
    relit = prepared(things).things
    lighting.relight(LightSettings(sun_elevation_deg=20, lamps="off"), relit)
    bpy.context.view_layer.update()
    found["sky"] = math.degrees(sky.sun_elevation)
    found["sun"] = (sun.matrix_world.to_3x3() @ Vector((0, 0, 1))).normalized()[:]
    found["heading"] = sun.rotation_euler.z
    found["hidden"] = [obj.name for obj in bpy.context.scene.objects if obj.hide_render]
    found["glow"] = [
        bpy.data.materials[name]
        .node_tree.nodes["Principled BSDF"]
        .inputs["Emission Strength"]
        .default_value
        for name in ("shade", "screen")
    ]
    return found


def replace_position(position: tuple[float, float, float]) -> Pose:
    return origin_pose().model_copy(update={"position_m": position})


def antlandscape(out: Path) -> dict[str, object]:
    """The extension from a zip (a stand-in that keeps its names and makes a grid), what is refused,
    and what is said without.
    """
    said = {}
    job = SceneJob(0, "a", "infinigen2.outdoor", "landscape", (1,), 1)
    source = OutdoorSource(source="infinigen2.outdoor", biomes=("landscape",), plants=2, rocks=2)
    for name, names in (("other", ["addon/readme.txt"]), ("wrong", ["blender_manifest.toml"])):
        with zipfile.ZipFile(out / f"{name}.zip", "w") as archive:
            for inside in names:
                archive.writestr(inside, 'id = "something_else"\n')
    (out / "no.zip").write_bytes(b"no zip")
    bpy.ops.wm.read_factory_settings(use_empty=True)
    for name in ("other", "wrong", "no", "gone"):
        try:
            extension.provide_antlandscape(str(out / f"{name}.zip"), out / f"ext-{name}")
        except UserError as error:
            said[name] = str(error)
    if not extension.antlandscape_available():
        try:
            infinigen2_outdoor.make_scene(job, source, 1)
        except UserError as error:
            said["without"] = str(error)
    folder = Path(__file__).with_name("antlandscape_standin")
    with zipfile.ZipFile(out / "good.zip", "w") as archive:
        for path in sorted(folder.iterdir()):
            if path.is_file():
                archive.write(path, f"antlandscape-1.0/{path.name}")
    bpy.ops.wm.read_factory_settings(use_empty=True)
    available = extension.provide_antlandscape(str(out / "good.zip"), out / "ext-good")
    scene = infinigen2_outdoor.make_scene(job, source, 1)
    return {
        "said": said,
        "available": available,
        "categories": [one.category for one in scene.things],
        "notes": list(scene.notes),
        "spots": len(scene.regions),
    }


def terrain() -> dict[str, float]:
    """The ground made here: flat in the middle, relief as asked for, and a function of its
    generator.
    """
    first, second = (outdoor_parts.height_map(np.random.default_rng(3), 9.0) for _ in range(2))
    steepest = np.abs(np.diff(first, axis=0)).max() / (outdoor_parts.GROUND_M / outdoor_parts.CELLS)
    return {
        "same": float(np.abs(first - second).max()),
        "range": float(np.ptp(first)),
        "middle": float(first[120, 120]),
        "steepest": float(steepest),
    }


def main(out: Path) -> None:
    choose_device("cpu", 0)
    facts = {
        "glass": glass_policies(out),
        "space": boxes_and_visibility(out),
        "boxes": random_boxes(),
        "rays": rays(out),
        "cycles_error": cycles_error(out),
        "rooms": two_rooms(),
        "places": places(),
        "infinigen1": infinigen1_scenes(out),
        "clutter": clutter(out),
        "ground": ground(),
        "light": light(),
        "antlandscape": antlandscape(out),
        "terrain": terrain(),
    }
    (out / "facts.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    defects.exit_now(0)
