"""Source `blend`: somebody's .blend file, opened with its scripts off.

A .blend can carry Python that runs when it is opened (registered texts, driver expressions).
Scripts are off. A file that asks for auto-run is refused, not rendered without what it wanted.
What renders is asked of Blender, and each object is one thing, each instance of what scatters
another. The camera may stand wherever there is ground. The seed chooses the cameras only.
"""

from pathlib import Path

import bpy

from panoforge.datagen.config.render import SceneJob
from panoforge.datagen.scene.foreign_names import category_of_foreign
from panoforge.datagen.scene.scene import Scene
from panoforge.datagen.source_settings import BlendSource
from panoforge.datagen.sources.blend_file import missing_files, open_blend


def make_scene(job: SceneJob, source: BlendSource, seed: int) -> Scene:
    """Open the file of `job.variant`. Raises UnusableBlend with the reason when it is refused."""
    path = Path(job.variant)
    open_blend(path)
    return Scene(
        things=(),
        regions=(),
        indoor=False,
        notes=file_notes(),
        versions={"blend": path.name},
        rest="each",
        categorise=category_of_foreign,
    )


def file_notes() -> tuple[str, ...]:
    """What is missing, and what of the open file is not rendered as its author would see it."""
    notes = [f"missing file: {name}" for name in missing_files()]
    layer = bpy.context.view_layer
    others = [other.name for other in bpy.context.scene.view_layers if other.use and other != layer]
    if others:
        notes.append(f"view layer {layer.name!r} is rendered, not {', '.join(map(repr, others))}")
    if layer.material_override is not None:
        notes.append(f"rendered without the material override of view layer {layer.name!r}")
    return tuple(notes)
