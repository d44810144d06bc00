"""Sources `infinigen1.indoors` and `infinigen1.nature`: Infinigen 1.x by its own command.

Infinigen 1 and 2 cannot be imported together, so the generator runs as a process of its own
(`panoforge.datagen.infinigen1`), and only the .blend that it saves comes back.

Names tell what things are: `SofaFactory(3098452).spawn_asset(17)` is a sofa, `living-room_0/0.wall`
the wall of a room. Placeholders, cutters and parts of doors lie in collections that do not render,
and are no things. What belongs below another object is part of it. Cameras stand above the floor
meshes of furnished rooms, and outdoors where Infinigen's own camera stands: it details only what
that one sees.

The same seed twice gives the same solver's state, names and transforms, because PYTHONHASHSEED is
0; single meshes may differ (bench/RESULTS.md). So the metadata has the seed as it was passed and an
identity of the scene, and `pano verify --rays` compares that before anything else.
"""

from hashlib import sha256

import bpy
import numpy as np
from mathutils import Vector

from panoforge.core.categories.table import Categories, Category
from panoforge.core.numbers import counted
from panoforge.core.storage.location import expanded
from panoforge.datagen import defects
from panoforge.datagen.config.render import SceneJob
from panoforge.datagen.extensions.extension import given_repository
from panoforge.datagen.infinigen1.asset_library import library_file
from panoforge.datagen.infinigen1.asset_names import asset_name, is_helper
from panoforge.datagen.infinigen1.command import hexadecimal_seed
from panoforge.datagen.infinigen1.scenes import SceneOrder, generated_scene
from panoforge.datagen.infinigen1.solved import SolvedRoom
from panoforge.datagen.scene.scene import Region, Scene, SceneFailed, Thing
from panoforge.datagen.small_things.clutter import load_library
from panoforge.datagen.small_things.dressing import dress
from panoforge.datagen.source_settings import Infinigen1Indoors, Infinigen1Source
from panoforge.datagen.sources.blend_file import open_blend

RENDERABLE = ("MESH", "CURVE", "SURFACE", "META", "FONT")
SCATTER = "scatter:"  # what the name of an object that scatters others begins with
AROUND_CAMERA_M = 2.5  # outdoors, how far from Infinigen's own camera ours may stand
HEADROOM_M = 2.6


def make_scene(job: SceneJob, source: Infinigen1Source, seed: int) -> Scene:
    """Open what the generator made, now or earlier.

    SceneFailed if it fails or saves nothing, Infinigen1Missing if it is not there at all.
    """
    order = SceneOrder(source, job.variant, seed, given=given_repository())
    with generated_scene(order, _to_log) as scene:
        open_blend(scene.blend)
    things = things_of_infinigen1()
    if not things:
        raise SceneFailed("the .blend of Infinigen 1 holds nothing that renders")
    identity = scene_identity()  # of what was generated, before anything is mended
    notes = defects.lower_ceiling_lights(
        bpy.data.objects[thing.name] for thing in things if thing.category == "ceiling_light"
    )
    versions = {
        "infinigen1": scene.version,
        "infinigen1_seed": hexadecimal_seed(seed),
        "infinigen1_scene": identity,
    }
    if isinstance(source, Infinigen1Indoors) and source.dressed:
        folder = expanded(source.library) if source.library else None
        assets, versions["asset_library"] = load_library(library_file(folder))
        added = dress(things, assets, seed)
        things += added
        notes += (
            f"{counted(len(added), 'small thing')} of the asset library on its furniture (dressed)",
        )
    return Scene(
        things=things,
        regions=(
            _above_floors(things, scene.rooms) if scene.rooms else (_around_its_camera(things),)
        ),
        indoor=bool(scene.rooms),
        notes=notes,
        versions=versions,
        categorise=category_of_asset,
    )


def _to_log(line: str) -> None:
    print(line, flush=True)  # so that the parent sees progress


def things_of_infinigen1() -> tuple[Thing, ...]:
    """What the open file holds: one thing per asset, per scattering instancer and per room part."""
    categories, owners = Categories.load(), dict[str, list[str]]()
    rendered = _in_rendered_collections(bpy.context.scene.collection)
    shown = {obj.name: obj for obj in rendered if is_shown(obj)}
    for name, obj in sorted(shown.items()):
        top = obj
        while top.parent is not None and top.parent.name in shown:
            top = top.parent
        owners.setdefault(top.name, []).append(name)
    things = []
    for top, parts in sorted(owners.items()):
        category = categories.of(asset_name(top))
        things.append(
            Thing(
                top,
                category.name,
                (top, *[part for part in parts if part != top]),
                category.flags,
                scatters=top.startswith(SCATTER),
            )
        )
    return tuple(things)


def category_of_asset(name: str) -> Category:
    """The category of an object that Infinigen 1 named."""
    return Categories.load().of(asset_name(name))


def is_shown(obj: bpy.types.Object) -> bool:
    """Whether the object renders and is not one of the generator's helpers."""
    renders = obj.type in RENDERABLE or obj.instance_type == "COLLECTION"
    return renders and not obj.hide_render and not is_helper(obj.name)


def _in_rendered_collections(collection: bpy.types.Collection) -> list[bpy.types.Object]:
    """The objects in `collection` and below it that no collection hides from renders."""
    if collection.hide_render:
        return []
    found = list(collection.objects)
    for child in collection.children:
        found += _in_rendered_collections(child)
    return found


def scene_identity() -> str:
    """Digest of what the open file holds: names, transforms, counts of vertices and faces.

    The bytes of a .blend are none: it stores addresses.
    """
    digest = sha256()
    for obj in sorted(bpy.data.objects, key=lambda obj: obj.name):
        counts = (len(obj.data.vertices), len(obj.data.polygons)) if obj.type == "MESH" else ()
        digest.update(f"{obj.name}\0{obj.type}\0{counts}\0".encode())
        digest.update(np.round(np.array(obj.matrix_world, np.float64), 5).tobytes())
    return digest.hexdigest()[:16]


def _above_floors(things: tuple[Thing, ...], rooms: tuple[SolvedRoom, ...]) -> tuple[Region, ...]:
    """A region above the floor mesh of each room. SceneFailed if a room has no floor."""
    index = {thing.name: number for number, thing in enumerate(things, start=1)}
    found = []
    for room in rooms:
        floor = f"{room.name}.floor"
        if floor not in index:
            raise SceneFailed(f"Infinigen 1 left room {room.name} without a floor named {floor}")
        (x0, y0, _), (x1, y1, z) = _box(bpy.data.objects[floor])
        found.append(Region((x0, y0, z), (x1, y1, z + HEADROOM_M), z, ground=(index[floor],)))
    return tuple(found)


def _around_its_camera(things: tuple[Thing, ...]) -> Region:
    """A region around the camera that Infinigen chose, above ground and water.

    SceneFailed if it left none.
    """
    camera = bpy.context.scene.camera or next(
        (obj for obj in bpy.data.objects if obj.type == "CAMERA"), None
    )
    ground = tuple(
        number for number, thing in enumerate(things, start=1) if "structure" in thing.flags
    )
    if camera is None or not ground:
        raise SceneFailed("Infinigen 1 left no camera, or no ground to stand on")
    x, y, z = camera.matrix_world.translation
    low = (x - AROUND_CAMERA_M, y - AROUND_CAMERA_M, z - HEADROOM_M)
    return Region(low, (x + AROUND_CAMERA_M, y + AROUND_CAMERA_M, z + HEADROOM_M), z, ground=ground)


def _box(obj: bpy.types.Object) -> tuple[list[float], list[float]]:
    corners = np.array([obj.matrix_world @ Vector(corner) for corner in obj.bound_box])
    return corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
