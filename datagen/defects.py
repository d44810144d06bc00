"""Known defects of the stack below us, each boxed in one function that names it.

Remove a box when its defect is fixed.

Found on infinigen 2.0.0a3 with bpy 4.2.0. Nothing here changes what is rendered beyond what its
docstring says. Whatever does change the scene returns a note, which ends up in the metadata of
every sample made of it.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator

import bpy
import numpy as np
from mathutils import Matrix

from panoforge.datagen.depsgraph.datablocks import key_of
from panoforge.datagen.extensions.extension import antlandscape_available

FLUSH_GAP_M = 1e-3
FLUSH_NOTE = "ceiling lights lowered by 1 mm: they lie in the plane of the ceiling"
DENSE_POLYGONS = 2000
SUBDIVISION_NOTE = "infinigen2's subdivision for renders is at most"
ROCK_NOTE = (
    "infinigen2 rock_rand replaced by bowl_rand: Blender add-on antlandscape is not installed"
)


def objects_named(names: Iterable[str]) -> set[bpy.types.Object]:
    """The objects of these names. KeyError if one is not there."""
    return {bpy.data.objects[name] for name in names}


def delete_leftovers(keep: Iterable[bpy.types.Object]) -> int:
    """Defect: Infinigen 2 leaves what it samples from in the file, where it renders too.

    The pools, failed placements and collision proxies (at subdivision level 6). Deletes every
    object that is not in `keep`. Returns how many.
    """
    kept = set(keep)
    doomed = [obj for obj in bpy.data.objects if obj not in kept]
    for obj in kept:  # a deleted parent would drop its child at the wrong place
        if obj.parent is not None and obj.parent not in kept:
            world = obj.matrix_world.copy()
            obj.parent = None
            obj.matrix_world = world
    bpy.data.batch_remove(doomed)
    return len(doomed)


def lower_ceiling_lights(objects: Iterable[bpy.types.Object]) -> tuple[str, ...]:
    """Defect: ceiling lights of Infinigen 1 and 2 have a face in the plane of the ceiling itself.

    Which of the two a ray meets is chance, in the picture and in the labels (streaks; found by
    `pano verify --rays`). Lowers every one by FLUSH_GAP_M. Returns the note.
    """
    lights = list(objects)
    for obj in lights:
        obj.matrix_world = Matrix.Translation((0.0, 0.0, -FLUSH_GAP_M)) @ obj.matrix_world
    return (FLUSH_NOTE,) if lights else ()


@contextlib.contextmanager
def rocks_without_addon(on_replaced: Callable[[str], None]) -> Iterator[None]:
    """Defect: a scene fails where the add-on `antlandscape` cannot be fetched.

    Rocks among the small decorations need it, and Blender fetches it online. While this is open and
    the add-on is missing, a bowl is made in place of each rock, from the same RNG stream.
    `on_replaced` gets the note each time that happens.
    """
    if antlandscape_available():
        yield
        return
    from infinigen2.objects import boulder, bowl

    original = boulder.rock_rand

    def bowl_in_place_of_rock(rng: np.random.Generator, material: object = None) -> object:
        on_replaced(ROCK_NOTE)
        return bowl.bowl_rand(rng)

    boulder.rock_rand = bowl_in_place_of_rock
    try:
        yield
    finally:
        boulder.rock_rand = original


def subdivide_less(objects: Iterable[bpy.types.Object], levels: int) -> tuple[str, ...]:
    """Defect: Infinigen 2 subdivides for renders only, up to level 6, on the limit surface.

    Dense meshes (monkeys, pots) too, where nobody sees it: a living room of 1.6 million triangles
    has 5.4 at one level, 10.8 at two. The limit surface takes up to 667 core-seconds of
    OpenSubdiv's stencils and 14 GB. Keeps `levels` at most of meshes up to DENSE_POLYGONS (that
    room has 2.4 million at two, and no edged stones), none of denser ones, and no limit surface.
    Returns the note.
    """
    meshes = [obj for obj in objects if obj.type == "MESH"]
    dense = [obj for obj in meshes if len(obj.data.polygons) > DENSE_POLYGONS]
    changed = cap_subdivision(meshes, levels, limit_surface=False)
    changed |= cap_subdivision(dense, 0, limit_surface=False)
    return (f"{SUBDIVISION_NOTE} {levels}",) if changed else ()


def cap_subdivision(
    objects: Iterable[bpy.types.Object], cap: int, *, limit_surface: bool = True
) -> set[str]:
    """Let modifiers subdivide `cap` times at most, in renders and in the viewport.

    The limit surface is turned off where the level was higher, and everywhere without
    `limit_surface`. Returns the keys of the objects that changed.
    """
    changed = set()
    for obj in objects:
        for modifier in obj.modifiers:
            if modifier.type not in ("SUBSURF", "MULTIRES"):
                continue
            higher = modifier.render_levels > cap
            if higher:
                modifier.levels = modifier.render_levels = cap
            if modifier.type == "SUBSURF" and modifier.use_limit_surface:
                modifier.use_limit_surface = limit_surface and not higher
                higher |= not limit_surface
            if higher:
                changed.add(key_of(obj))
    return changed


def exit_now(code: int) -> None:
    """Defect: bpy may crash while the interpreter shuts down, after good work.

    Flush and leave without a shutdown.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
