"""Source `infinigen2.rooms`: one furnished room of Infinigen 2 per scene, 10-20 s each on one core.

Calls `room_<variant>_rand` of `infinigen2.scenes.room.room` as a plain function with a numpy
generator made from the seed. Every object that the generator returns is one thing; its name says
which generator made it. The camera region is the room's floor plan, from the dimensions that the
generator returns.
"""

from importlib.metadata import version

import bpy
import numpy as np

from panoforge.datagen import defects
from panoforge.datagen.categories import Categories
from panoforge.datagen.config import SceneJob
from panoforge.datagen.scene import Region, Scene, SceneFailed, Thing
from panoforge.datagen.source_settings import RoomsSource
from panoforge.datagen.sources.base import describe

WALL_MARGIN_M = 0.3


def make_scene(job: SceneJob, source: RoomsSource, seed: int) -> Scene:
    """Fill the open, empty Blender file with a room. Raises SceneFailed when the generator does."""
    from infinigen2.scenes.room import room as rooms

    generate = getattr(rooms, f"room_{job.variant}_rand")
    notes: list[str] = []
    with defects.rocks_without_addon(notes.append):
        try:
            result = generate(np.random.default_rng(seed))
        except (
            Exception
        ) as error:  # a generator may fail in any way it likes; the seed is then unusable
            raise SceneFailed(f"room_{job.variant}_rand: {describe(error)}") from error
    things = things_of([obj.item() for obj in result.all_objects])
    kept = defects.objects_named(name for thing in things for name in thing.objects)
    defects.delete_leftovers(kept | {light.item() for light in result.lights})
    notes += defects.lower_ceiling_lights(kept)
    return Scene(
        things=things,
        regions=(room_region(tuple(result.dimensions)),),
        notes=tuple(sorted(set(notes))),
        versions={"infinigen": version("infinigen")},
    )


def things_of(objects: list[bpy.types.Object]) -> tuple[Thing, ...]:
    """One thing per returned object; meshes parented below it that are not returned themselves
    belong to it.
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
        things.append(Thing(obj.name, category.name, (obj.name, *sorted(parts)), category.flags))
    return tuple(things)


def room_region(dimensions: tuple[float, ...]) -> Region:
    """The inside of a room that spans (0, 0, 0) to its dimensions, a little off the walls."""
    width, depth, height = dimensions
    margin_x, margin_y = min(WALL_MARGIN_M, width / 3), min(WALL_MARGIN_M, depth / 3)
    return Region((margin_x, margin_y, 0.0), (width - margin_x, depth - margin_y, height), 0.0)
