"""A generated scene: the things a person would click, and the regions a camera may stand in.

A source (`panoforge.datagen.sources`) makes it; cameras, geometry and instances read it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from panoforge.core.categories.table import Categories, Category


class SceneFailed(Exception):
    """This seed made no scene (a generator gave up or fell over).

    Expected now and then; the next seed is tried.
    """


@dataclass(frozen=True)
class Thing:
    """One instance-to-be: what a person would click as one thing.

    Args:
        name: what it is called.
        category: what it is.
        objects: keys of its objects (`panoforge.datagen.depsgraph.datablocks`): a local object's
            name. The first one identifies it.
        flags: of its category.
        scatters: whether what its objects instance are things of their own, as rocks are. If not,
            they are part of it, as leaves are of a tree.
    """

    name: str
    category: str
    objects: tuple[str, ...]
    flags: tuple[str, ...] = ()
    scatters: bool = False


@dataclass(frozen=True)
class Region:
    """Axis-aligned box in which a camera may stand, and the height of its floor.

    Metres, world frame. `ground` are the numbers (from 1) of the things that one stands on: a place
    must lie above one of them, and eye height is measured from there. Empty: whatever faces up.
    None: the floor is flat, at `floor_z`.
    """

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    floor_z: float
    ground: tuple[int, ...] | None = None


def by_own_name(name: str) -> Category:
    """The category of an object that its generator named."""
    return Categories.load().of(name)


@dataclass(frozen=True)
class Scene:
    """A generated scene in the open Blender file.

    Args:
        things: what the source knows to be things.
        regions: where cameras may stand, one per room; empty: anywhere on the ground.
        indoor: whether every direction must end on a surface.
        notes: what differs from the plain source.
        versions: what made it.
        rest: what becomes of objects that render and belong to no thing. `hide`: they are a
            generator's helpers. `each`: each is a thing by its name.
        categorise: the category that an object's name stands for, in this source.
    """

    things: tuple[Thing, ...]
    regions: tuple[Region, ...]
    indoor: bool = True
    notes: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    rest: Literal["hide", "each"] = "hide"
    categorise: Callable[[str], Category] = by_own_name
