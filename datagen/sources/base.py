"""The interface that every scene source has: one function from a job to a `Scene`.

A source fills the open Blender file with geometry, lights and a world. It says which objects make
up one thing that a person would click, what it is called, and where a camera may stand. It sets no
render settings, makes no camera and starts no render. Sources are found by name in `MODULES`, so a
new one is one file and one line.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from panoforge.datagen.config.render import SceneJob
from panoforge.datagen.scene.scene import Scene
from panoforge.datagen.source_settings import AnySource

SceneSource = Callable[
    [SceneJob, Any, int], Scene
]  # (job, this source's settings, seed) -> Scene, in an empty Blender file


MODULES = {
    "infinigen2.rooms": "infinigen2_rooms",
    "infinigen2.house": "infinigen2_rooms",
    "infinigen2.floating": "infinigen2_floating",
    "infinigen2.outdoor": "infinigen2_outdoor",
    "infinigen1.indoors": "infinigen1",
    "infinigen1.nature": "infinigen1",
    "blend": "blend",
}


def make_scene(job: SceneJob, source: AnySource, seed: int) -> Scene:
    """Make the scene of `job` with `seed`. Raises SceneFailed when this seed makes none."""
    module = import_module(
        f"panoforge.datagen.sources.{MODULES[job.source]}"
    )  # imports bpy and generators: in a render process only
    function: SceneSource = module.make_scene
    return function(job, source, seed)
