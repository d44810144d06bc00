"""Sources `infinigen2.rooms` and `infinigen2.house`: furnished rooms of Infinigen 2.

`rooms` calls `room_<variant>_rand` of `infinigen2.scenes.room.room` as a plain function with a
numpy generator made from the seed: 10-20 s per room on one core. `house` calls
`house_furnished_rand`: several rooms behind doors that stand open.

Every object that a generator returns is one thing; its name says which generator made it. A camera
region is a room's floor plan. In a house every room is a region of its own, so each gets cameras.
Most of a house is never seen from one place, but all of it is rendered. Its sync and BVH are paid
once per scene.
"""

import re
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import bpy
import numpy as np
from numpy.typing import ArrayLike

from panoforge.core.categories.table import Categories
from panoforge.core.errors import one_line
from panoforge.core.numbers import counted
from panoforge.core.storage.location import expanded
from panoforge.datagen import defects
from panoforge.datagen.config.render import SceneJob
from panoforge.datagen.infinigen1.asset_library import library_file
from panoforge.datagen.scene.scene import Region, Scene, SceneFailed, Thing
from panoforge.datagen.small_things.clutter import load_library, replace_bodies
from panoforge.datagen.source_settings import HouseSource, RoomsSource

WALL_MARGIN_M = 0.3
CEILING_LIGHTS = ("ceiling_light", "house_ceiling_feature")
CLUTTER = "ornament"  # the category of primitive bodies
# Nobody clicks these as a wall: flagged `part`, so that whoever counts walls can leave them out.
_WALL_PART = re.compile(r"_(wall|ceiling)_(back|corners?|sill)(?![a-z])")


def make_scene(job: SceneJob, source: RoomsSource | HouseSource, seed: int) -> Scene:
    """Fill the open, empty Blender file with a room or a house.

    Raises:
        SceneFailed: the generator failed; another seed may do.
    """
    rng, notes = np.random.default_rng(seed), list[str]()
    if isinstance(source, HouseSource):
        from infinigen2.scenes.house.furnishings import house_furnished_rand

        house = _generated(house_furnished_rand, notes, rng, room_count=source.room_count)
        height = float(house.dimensions[2])
        regions = tuple(room_box(room.boundary_rings[0], height) for room in house.rooms)
        return _scene(house, regions, notes, source, seed)
    from infinigen2.scenes.room import room as rooms

    room = _generated(getattr(rooms, f"room_{job.variant}_rand"), notes, rng)
    return _scene(room, (room_region(tuple(room.dimensions)),), notes, source, seed)


def _generated(generate: Callable[..., Any], notes: list[str], *args: Any, **kwargs: Any) -> Any:
    """What the generator returns, its defects mended and noted."""
    with defects.rocks_without_addon(notes.append):
        try:
            return generate(*args, **kwargs)
        except Exception as error:  # it may fail in any way; the seed is then unusable
            raise SceneFailed(f"{generate.__name__}: {one_line(error)}") from error


def _scene(
    result: Any,
    regions: tuple[Region, ...],
    notes: list[str],
    source: RoomsSource | HouseSource,
    seed: int,
) -> Scene:
    """The scene of a generator's result; its leftovers are deleted, and clutter if unwanted."""
    things = things_of([obj.item() for obj in result.all_objects])
    versions = {"infinigen": version("infinigen")}
    if source.clutter == "none":
        things = tuple(thing for thing in things if thing.category != CLUTTER)
    elif source.clutter == "infinigen1":
        folder = expanded(source.library) if source.library else None
        assets, versions["asset_library"] = load_library(library_file(folder))
        bodies = sum(thing.category == CLUTTER for thing in things)
        things, replaced = replace_bodies(things, assets, CLUTTER, seed)
        notes.append(
            f"{replaced} of {counted(bodies, 'primitive body', 'primitive bodies')} replaced by"
            " assets of Infinigen 1, no others"
        )
    kept = defects.objects_named(name for thing in things for name in thing.objects)
    defects.delete_leftovers(kept | {light.item() for light in result.lights})
    notes += defects.lower_ceiling_lights(
        obj for obj in kept if obj.name.startswith(CEILING_LIGHTS)
    )
    notes += defects.subdivide_less(bpy.data.objects, source.subdivision)
    return Scene(
        things=things,
        regions=regions,
        notes=tuple(sorted(set(notes))),
        versions=versions,
    )


def things_of(objects: list[bpy.types.Object]) -> tuple[Thing, ...]:
    """One thing per returned object.

    Meshes parented below it that are not returned themselves belong to it.
    """
    categories = Categories.load()
    returned = {obj.name for obj in objects}
    things = []
    for obj in sorted({obj.name: obj for obj in objects}.values(), key=lambda obj: obj.name):
        if obj.hide_render:
            continue
        parts = [
            child.name
            for child in obj.children_recursive
            if child.name not in returned and not child.hide_render
        ]
        category = categories.of(obj.name)
        flags = (*category.flags, "part") if _WALL_PART.search(obj.name) else category.flags
        things.append(Thing(obj.name, category.name, (obj.name, *sorted(parts)), flags))
    return tuple(things)


def room_region(dimensions: tuple[float, ...]) -> Region:
    """The inside of a room that spans (0, 0, 0) to its dimensions, a little off the walls."""
    width, depth, height = dimensions
    margin_x, margin_y = min(WALL_MARGIN_M, width / 3), min(WALL_MARGIN_M, depth / 3)
    return Region((margin_x, margin_y, 0.0), (width - margin_x, depth - margin_y, height), 0.0)


def room_box(outline: ArrayLike, height: float) -> Region:
    """The box around a room's outline (N, 2), a little off the walls.

    A corner of the box may lie in the next room, where the room is no rectangle. That is as good a
    place, and one inside a wall is found by rays.
    """
    points = np.asarray(outline, float)[:, :2]
    low, high = points.min(axis=0), points.max(axis=0)
    margin = np.minimum(WALL_MARGIN_M, (high - low) / 3)
    (x0, y0), (x1, y1) = (low + margin).tolist(), (high - margin).tolist()
    return Region((x0, y0, 0.0), (x1, y1, height), 0.0)
