"""Make the scene of a job, with its furniture where the config wants it."""

from dataclasses import replace

from panoforge.core.numbers import counted
from panoforge.datagen.config.render import RenderConfig, SceneJob, source_of
from panoforge.datagen.redraw.furniture import redraw_furniture
from panoforge.datagen.scene.scene import Scene
from panoforge.datagen.sources.base import make_scene


def make_redrawn(config: RenderConfig, job: SceneJob, seed: int) -> Scene:
    """The scene as its source makes it, or with its furniture in other places.

    SceneFailed when this seed makes none.
    """
    scene = make_scene(job, source_of(config, job), seed)
    if not config.redraw.furniture or not scene.indoor:
        return scene
    moved = redraw_furniture(scene, seed, config.redraw.furniture)
    note = (
        f"{counted(moved, 'thing')} moved to other places"
        f" (redraw.furniture={config.redraw.furniture})"
    )
    return replace(scene, notes=(*scene.notes, note))
