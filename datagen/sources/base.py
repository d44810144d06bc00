"""The interface that every scene source has: one function from a job to a `Scene`.

A source fills the open Blender file with geometry, lights and a world, and says what each object is: which objects make
up one thing that a person would click, what it is called, and where a camera may stand. It sets no render settings,
makes no camera and starts no render. Sources are found by name in `source_functions`, so a new one is one file and one line.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from datagen.config import SceneJob


class SceneFailed(Exception):
    """This seed made no scene (a generator gave up or fell over). Expected now and then; the next seed is tried."""


@dataclass(frozen=True)
class Thing:
    """One instance-to-be: what a person would click as one thing. `objects` are names in `bpy.data.objects`."""

    name: str
    category: str
    objects: tuple[str, ...]
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Region:
    """Axis-aligned box in which a camera may stand, metres, world frame, and the height of its floor."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    floor_z: float


@dataclass(frozen=True)
class Scene:
    """A generated scene in the open Blender file."""

    things: tuple[Thing, ...]
    region: Region
    indoor: bool = True  # whether every direction must end on a surface
    notes: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)


SceneSource = Callable[[SceneJob, int], Scene]  # (job, seed) -> Scene, in an empty Blender file


def source_functions() -> dict[str, SceneSource]:
    """All sources by name. Imports bpy and the generators, so only a render process may call it."""
    from datagen.sources import blend, infinigen2_floating, infinigen2_rooms

    return {
        "infinigen2.rooms": infinigen2_rooms.make_scene,
        "infinigen2.floating": infinigen2_floating.make_scene,
        "blend": blend.make_scene,
    }


def make_scene(job: SceneJob, seed: int) -> Scene:
    """Make the scene of `job` with `seed`. Raises SceneFailed when this seed makes none."""
    return source_functions()[job.source](job, seed)


def describe(value: Any) -> str:
    """One line about an exception, for reports."""
    return f"{type(value).__name__}: {' '.join(str(value).split())[:300]}"
