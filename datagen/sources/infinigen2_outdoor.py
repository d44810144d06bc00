"""Source `infinigen2.outdoor`: open ground under a sky, with rocks and plants.

Most of them stand near the cameras.

Sky, sun, materials, plants and flowers are Infinigen 2's. Its landscapes and boulders come from
Blender's extension A.N.T. Landscape: with it, biome `landscape` and real boulders; without it,
grounds and rocks of `outdoor_parts`, noted in the metadata. A few plants and rocks are generated
and then repeated, turned and scaled: copies share their mesh, and each is an instance of its own.
Cameras stand at eye height above the ground in one of several spots around the middle.
"""

from importlib.metadata import version

import bpy
import numpy as np
from mathutils import Vector

from panoforge.core.errors import one_line
from panoforge.datagen import defects
from panoforge.datagen.config.render import SceneJob
from panoforge.datagen.extensions.extension import ExtensionMissing, antlandscape_available
from panoforge.datagen.scene.scene import Region, Scene, SceneFailed
from panoforge.datagen.source_settings import OutdoorSource
from panoforge.datagen.sources import outdoor_parts
from panoforge.datagen.sources.infinigen2_rooms import things_of

RELIEF_M = {"plain": 1.2, "hills": 9.0}
KINDS = 5  # different plants, and different rocks, in one scene
SPOTS, SPOT_M, MIDDLE_M = 4, 1.5, 6.0
SCATTER_M = 14.0
PLANT_M, ROCK_M = (0.25, 1.3), (0.2, 1.8)  # size of a copy, its longest side
ROCK_NOTE = (
    "infinigen2 boulder_rand replaced by plane-cut rocks: Blender extension antlandscape is not"
    " available"
)


def make_scene(job: SceneJob, source: OutdoorSource, seed: int) -> Scene:
    """Fill the open, empty Blender file.

    Raises SceneFailed when a generator does, ExtensionMissing for `landscape` without the
    extension.
    """
    with_extension = antlandscape_available()
    if job.variant == "landscape" and not with_extension:
        raise ExtensionMissing(
            "infinigen2.outdoor: biome landscape needs Blender's extension A.N.T. Landscape. Set "
            "antlandscape to a zip file of it, or to online, or leave landscape out of biomes"
        )
    rng_ground, rng_sky, rng_plants, rng_rocks, rng_place = np.random.default_rng(seed).spawn(5)
    try:
        ground = _ground(rng_ground, job.variant)
        plants = _plants(rng_plants) if source.plants else []
        rocks = _rocks(rng_rocks, with_extension) if source.rocks else []
        lights = _sky(rng_sky)
    except (
        Exception
    ) as error:  # a generator may fail in any way it likes; the seed is then unusable
        raise SceneFailed(f"outdoor {job.variant}: {one_line(error)}") from error
    bpy.context.view_layer.update()
    spots = _spots(rng_place, ground)
    kept = [
        ground,
        *_scatter(rng_place, ground, spots, plants, source.plants, PLANT_M),
        *_scatter(rng_place, ground, spots, rocks, source.rocks, ROCK_M),
    ]
    defects.delete_leftovers({*kept, *lights})
    notes = defects.subdivide_less(bpy.data.objects, source.subdivision)
    bpy.context.view_layer.update()
    if rocks and not with_extension:
        notes += (ROCK_NOTE,)
    return Scene(
        things=things_of(kept),
        regions=spots,
        indoor=False,
        notes=notes,
        versions={"infinigen": version("infinigen")},
    )


def _ground(rng: np.random.Generator, biome: str) -> bpy.types.Object:
    if biome == "landscape":
        from infinigen2.objects.ant_landscape import landscape_rand

        return landscape_rand(rng).mesh.item()
    rng_shape, rng_material = rng.spawn(2)
    obj = outdoor_parts.ground(rng_shape, RELIEF_M[biome])
    _cover(rng_material, obj)
    return obj


def _cover(rng: np.random.Generator, obj: bpy.types.Object) -> None:
    """Give `obj` one of Infinigen's ground materials."""
    import procfunc as pf
    from infinigen2.shaders.functionality_lists import terrain_material_rand

    material = terrain_material_rand(rng, pf.nodes.shader.coord().object)
    pf.ops.object.set_material(
        pf.MeshObject(obj), surface=material.surface, displacement=material.displacement
    )


def _plants(rng: np.random.Generator) -> list[bpy.types.Object]:
    from infinigen2.objects import flower, phyllo_plant

    makers = (
        phyllo_plant.plant_phyllo_basal_rand,
        phyllo_plant.plant_phyllo_ascending_rand,
        flower.flower_rand,
    )
    made = []
    for number, stream in enumerate(rng.spawn(KINDS)):
        make = makers[number % len(makers)]
        obj = make(stream).mesh.item()
        obj.name = make.__name__
        made.append(obj)
    return made


def _rocks(rng: np.random.Generator, with_extension: bool) -> list[bpy.types.Object]:
    if with_extension:
        from infinigen2.objects import boulder

        return [
            boulder.boulder_rand(stream, mesh_resolution=0.05).mesh.item()
            for stream in rng.spawn(KINDS)
        ]
    made = []
    for stream in rng.spawn(KINDS):
        rng_shape, rng_material = stream.spawn(2)
        obj = outdoor_parts.rock(rng_shape, float(rng_shape.uniform(0.3, 0.9)))
        _cover(rng_material, obj)
        made.append(obj)
    return made


def _sky(rng: np.random.Generator) -> list[bpy.types.Object]:
    from infinigen2.lighting import sky_lighting

    return [light.item() for light in sky_lighting.sky_hosek_wilkie_with_sun_lamp_rand(rng).lights]


def _scatter(
    rng: np.random.Generator,
    ground: bpy.types.Object,
    spots: tuple[Region, ...],
    models: list[bpy.types.Object],
    count: int,
    size_m: tuple[float, float],
) -> list[bpy.types.Object]:
    """`count` copies of the models, upright on the ground around the spots.

    They are denser nearer to them.
    """
    copies = []
    for number in range(count if models else 0):
        model = models[number % len(models)]
        copy = model.copy()  # shares the mesh
        bpy.context.scene.collection.objects.link(copy)
        spot = spots[int(rng.integers(len(spots)))]
        radius, angle = 1.2 + SCATTER_M * rng.random() ** 2, rng.uniform(0, 2 * np.pi)
        x = (spot.low[0] + spot.high[0]) / 2 + float(radius * np.cos(angle))
        y = (spot.low[1] + spot.high[1]) / 2 + float(radius * np.sin(angle))
        size = size_m[0] * (size_m[1] / size_m[0]) ** rng.random()
        scale = float(size / max(max(model.dimensions), 1e-3))
        copy.rotation_euler = (0.0, 0.0, float(rng.uniform(0, 2 * np.pi)))
        copy.scale = (scale, scale, scale)
        copy.location = (x, y, ground_z(ground, x, y) - 0.02 * size)
        copies.append(copy)
    return copies


def ground_z(ground: bpy.types.Object, x: float, y: float) -> float:
    """Height of the ground at (x, y), world metres; SceneFailed beside it."""
    inverse = ground.matrix_world.inverted()
    start, down = inverse @ Vector((x, y, 1e4)), inverse.to_3x3() @ Vector((0, 0, -1))
    hit, location, _, _ = ground.ray_cast(start, down.normalized())
    if not hit:
        raise SceneFailed(f"the ground ends before ({x:.1f}, {y:.1f}) m")
    return float((ground.matrix_world @ location).z)


def _spots(rng: np.random.Generator, ground: bpy.types.Object) -> tuple[Region, ...]:
    """Small squares in which the ground is about level, each with its own floor."""
    found = []
    for _ in range(SPOTS):
        x, y = (float(value) for value in rng.uniform(-MIDDLE_M, MIDDLE_M, 2))
        half = SPOT_M / 2
        floor = max(
            ground_z(ground, x + dx, y + dy) for dx in (-half, 0, half) for dy in (-half, 0, half)
        )
        found.append(Region((x - half, y - half, floor), (x + half, y + half, floor + 10.0), floor))
    return tuple(found)
