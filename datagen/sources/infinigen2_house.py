"""Source `infinigen2.house`: a furnished house of Infinigen 2, several rooms behind doors that
stand open.

Calls `house_furnished_rand` as a plain function. Every room is a region of its own, so that each
gets cameras; the scene stays one, and a panorama in one room shows the next through the door. Most
of a house's objects are never seen from one place, but all are rendered: sync and BVH cost as much
as the house is large, once per scene.
"""

from importlib.metadata import version

import numpy as np

from panoforge.datagen import defects
from panoforge.datagen.config import SceneJob
from panoforge.datagen.scene import Region, Scene, SceneFailed
from panoforge.datagen.source_settings import HouseSource
from panoforge.datagen.sources.base import describe
from panoforge.datagen.sources.infinigen2_rooms import WALL_MARGIN_M, things_of


def make_scene(job: SceneJob, source: HouseSource, seed: int) -> Scene:
    """Fill the open, empty Blender file with a house. Raises SceneFailed when the generator
    does."""
    from infinigen2.scenes.house.furnishings import house_furnished_rand

    notes: list[str] = []
    with defects.rocks_without_addon(notes.append):
        try:
            house = house_furnished_rand(np.random.default_rng(seed), room_count=source.room_count)
        except (
            Exception
        ) as error:  # a generator may fail in any way it likes; the seed is then unusable
            raise SceneFailed(f"house_furnished_rand: {describe(error)}") from error
    things = things_of([obj.item() for obj in house.all_objects])
    kept = defects.objects_named(name for thing in things for name in thing.objects)
    defects.delete_leftovers(kept | {light.item() for light in house.lights})
    notes += defects.lower_ceiling_lights(kept)
    height = float(house.dimensions[2])
    return Scene(
        things=things,
        regions=tuple(room_box(room.boundary_rings[0], height) for room in house.rooms),
        notes=tuple(sorted(set(notes))),
        versions={"infinigen": version("infinigen")},
    )


def room_box(outline: object, height: float) -> Region:
    """The box around a room's outline (N, 2), a little off the walls. A corner of the box may lie
    in the next room of a room that is not a rectangle: that is as good a place, and one inside a
    wall is found by rays.
    """
    points = np.asarray(outline, float)[:, :2]
    low, high = points.min(axis=0), points.max(axis=0)
    margin = np.minimum(WALL_MARGIN_M, (high - low) / 3)
    (x0, y0), (x1, y1) = (low + margin).tolist(), (high - margin).tolist()
    return Region((x0, y0, 0.0), (x1, y1, height), 0.0)
