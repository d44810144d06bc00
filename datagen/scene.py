"""A generated scene: the things a person would click, and the regions a camera may stand in.

A source (`panoforge.datagen.sources`) makes it; cameras, geometry and instances read it.
"""

from dataclasses import dataclass, field


class SceneFailed(Exception):
    """This seed made no scene (a generator gave up or fell over). Expected now and then; the next
    seed is tried.
    """


@dataclass(frozen=True)
class Thing:
    """One instance-to-be: what a person would click as one thing. `objects` are names in
    `bpy.data.objects`.
    """

    name: str
    category: str
    objects: tuple[str, ...]
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Region:
    """Axis-aligned box in which a camera may stand, metres, world frame, and the height of its
    floor. `ground` are the numbers (from 1) of the things that one stands on: a place must lie
    above one of them, and eye height is measured from there. Empty: whatever faces up. None: the
    floor is flat, at `floor_z`.
    """

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    floor_z: float
    ground: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Scene:
    """A generated scene in the open Blender file."""

    things: tuple[Thing, ...]
    regions: tuple[Region, ...]  # one per room
    indoor: bool = True  # whether every direction must end on a surface
    notes: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
