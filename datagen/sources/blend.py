"""Source `blend`: somebody's .blend file, opened with its scripts off.

A .blend can carry Python that runs when it is opened (registered texts, driver expressions).
Scripts are off. A file that asks for auto-run is refused, not rendered without what it wanted.
Every object that renders is one thing; an instancer is one thing with all that it instances. The
camera may stand anywhere within the bounds of the geometry, eye height measured from what lies
below it. The seed chooses the cameras only.
"""

from pathlib import Path

import bpy
import numpy as np

from panoforge.core.errors import UserError
from panoforge.datagen.categories import Categories
from panoforge.datagen.config import SceneJob
from panoforge.datagen.geometry import RENDERABLE
from panoforge.datagen.scene import Region, Scene, Thing
from panoforge.datagen.source_settings import BlendSource


class UnusableBlend(UserError):
    """A .blend file that cannot or must not be rendered."""


def make_scene(job: SceneJob, source: BlendSource, seed: int) -> Scene:
    """Open the file of `job.variant`. Raises UnusableBlend with the reason when it is refused."""
    path = Path(job.variant)
    open_blend(path)
    things = _things()
    if not things:
        raise UnusableBlend(
            f"{path}: nothing in scene {bpy.context.scene.name!r} renders (no mesh, curve, surface,"
            " text or instancer that is visible in renders)"
        )
    return Scene(things=things, regions=(bounds(),), indoor=False, versions={"blend": path.name})


def open_blend(path: Path) -> None:
    """Open the file with scripts off. UnusableBlend if it is missing, does not open, or asks to run
    scripts.
    """
    if not path.is_file():
        raise UnusableBlend(
            f"{path}: no such file on the machine that renders; give a path that all render"
            " nodes see"
        )
    try:
        bpy.ops.wm.open_mainfile(filepath=str(path), load_ui=False, use_scripts=False)
    except RuntimeError as error:
        raise UnusableBlend(
            f"{path}: Blender {bpy.app.version_string} cannot open it: {str(error).strip()}"
        ) from None
    auto_run = sorted(text.name for text in bpy.data.texts if text.use_module)
    if auto_run:
        raise UnusableBlend(
            f"{path}: holds scripts that ask to run on opening ({', '.join(auto_run)}). Files from"
            " others must not run code on render nodes: clear Register on these texts and save the"
            " file again"
        )


def _things() -> tuple[Thing, ...]:
    categories, things = Categories.load(), []
    for obj in sorted(bpy.context.view_layer.objects, key=lambda obj: obj.name):
        if obj.hide_render or not (obj.type in RENDERABLE or obj.instance_type == "COLLECTION"):
            continue
        category = categories.of(obj.name.lower())
        things.append(Thing(obj.name, category.name, (obj.name,), category.flags))
    return tuple(things)


def bounds() -> Region:
    """The box around everything that renders, instances included."""
    corners = []
    for instance in bpy.context.evaluated_depsgraph_get().object_instances:
        if instance.object.type in RENDERABLE:
            matrix, box = np.array(instance.matrix_world), np.array(instance.object.bound_box)
            corners.append(box @ matrix[:3, :3].T + matrix[:3, 3])
    points = np.concatenate(corners)
    x0, y0, z0 = (float(value) for value in points.min(axis=0))
    x1, y1, z1 = (float(value) for value in points.max(axis=0))
    return Region((x0, y0, z0), (x1, y1, z1), z0, ground=())
