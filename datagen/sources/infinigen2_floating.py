"""Source `infinigen2.floating`: Infinigen 2 objects floating in a 5 m cube under a sky.

It gives hard occlusions.

Chairs, lamps, shelves and primitives at any angle, close together: what the tidy rooms never show.
There is no floor and no wall, so rays may end in the sky.
"""

from importlib.metadata import version

import bpy
import numpy as np

from panoforge.core.errors import one_line
from panoforge.datagen import defects
from panoforge.datagen.config.render import SceneJob
from panoforge.datagen.scene.scene import Region, Scene, SceneFailed
from panoforge.datagen.source_settings import FloatingSource
from panoforge.datagen.sources.infinigen2_rooms import things_of

SIZE_M = 5.0


def make_scene(job: SceneJob, source: FloatingSource, seed: int) -> Scene:
    """Fill the open, empty Blender file. Raises SceneFailed when a generator does."""
    import procfunc as pf
    from infinigen2.lighting import sky_lighting
    from infinigen2.scenes import floating_objects

    rng_objects, rng_sky = np.random.default_rng(seed).spawn(2)
    notes: list[str] = []
    with defects.rocks_without_addon(notes.append):
        try:
            placed = floating_objects.floating_objects_rand(
                rng_objects, volume_density=source.volume_density
            ).all_objects
            lights = sky_lighting.sky_hosek_wilkie_with_sun_lamp_rand(rng_sky).lights
        except (
            Exception
        ) as error:  # a generator may fail in any way it likes; the seed is then unusable
            raise SceneFailed(f"floating_objects_rand: {one_line(error)}") from error
    things = things_of([obj.item() for obj in placed if isinstance(obj, pf.MeshObject)])
    keep = {name for thing in things for name in thing.objects}
    floating_lights = [obj for obj in placed if isinstance(obj, pf.LightObject)]
    defects.delete_leftovers(
        defects.objects_named(keep) | {light.item() for light in [*lights, *floating_lights]}
    )
    notes += defects.subdivide_less(bpy.data.objects, source.subdivision)
    return Scene(
        things=things,
        regions=(Region((0.0, 0.0, 0.0), (SIZE_M, SIZE_M, SIZE_M), 0.0),),
        indoor=False,
        notes=tuple(sorted(set(notes))),
        versions={"infinigen": version("infinigen")},
    )
