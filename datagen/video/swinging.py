"""Doors that swing: about the vertical through their own origin, where a file has the hinge.

Infinigen's door leaves are objects of their own, their origin at the hinge, as in most files. A
thing whose origin lies at one end of it has a hinge there; any other has none, and stays. It opens
and closes again, slow at both ends, from where its source left it.

A leaf touches its frame. So what must be free of everything is the leaf without its outer parts.
These are `NEAR_M` at the hinge, where its corner turns into the frame, and some centimetres at its
latch, head and foot. Nothing else may be in its way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import bpy
import numpy as np
from numpy.typing import NDArray

from panoforge.datagen.config.video import MovingThings, VideoSettings
from panoforge.datagen.depsgraph.units import metres_per_unit
from panoforge.datagen.geometry.rendered_things import RenderedThing
from panoforge.datagen.video.moving import (
    CHOICE,
    LIFT_M,
    STEP_M,
    Body,
    Surroundings,
    body_of,
    hull_of,
    named_things,
)
from panoforge.datagen.video.rigid import RigidTrack, turned

BEYOND_M = 0.12  # of a leaf, behind its hinge: its own thickness, a casing
NEAR_M, LATCH_M = 0.15, 0.03
LEAST_M = 0.3  # of a leaf's width
SLENDER = 0.5  # a leaf is at most so thick, handles included, for its width
OPENINGS = 4  # angles that are tried, the widest first
UP = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True)
class Leaf(Body):
    """A door's leaf: its hull is that of what must stay free, `hinge` (3,) a point of its axis."""

    hinge: NDArray[np.float64]


def leaf_of(number: int, objects: Sequence[bpy.types.Object]) -> Leaf | None:
    """The leaf of a thing; None for one that has no hinge."""
    body = body_of(number, objects)
    if body is None:
        return None
    origins = [np.array(obj.matrix_world.translation) * metres_per_unit() for obj in objects]
    return next((leaf for hinge in origins if (leaf := _hung(body, hinge)) is not None), None)


def leaves(
    rule: MovingThings,
    things: Sequence[RenderedThing],
    numbered: Mapping[int, list[bpy.types.Object]],
    seed: Sequence[int],
) -> list[Leaf]:
    """The things that a rule names and that have a hinge, in an order that the seed draws."""
    named = named_things(rule, things, numbered)
    order = np.random.default_rng([*seed, 0]).permutation(len(named))
    found = (leaf_of(named[place], numbered[named[place]]) for place in order)
    return [leaf for leaf in found if leaf is not None][: CHOICE * rule.most]


def _hung(body: Body, hinge: NDArray[np.float64]) -> Leaf | None:
    """A body with its hinge at a point; None where it would not be at an end of it."""
    way = (body.centre - hinge)[:2]
    length = float(np.linalg.norm(way))
    if length < LEAST_M / 2:
        return None
    ahead = np.array([*(way / length), 0.0])
    aside = np.cross(UP, ahead)
    along, across = (body.hull - hinge) @ ahead, (body.hull - hinge) @ aside
    width = float(along.max())
    if along.min() < -BEYOND_M or width < LEAST_M or np.ptp(across) > SLENDER * width:
        return None
    inner = np.clip(along, NEAR_M, width - LATCH_M)[:, None] * ahead + across[:, None] * aside
    inner[:, :2] += hinge[:2]
    inner[:, 2] = np.clip(body.hull[:, 2], body.low[2] + LIFT_M, body.high[2] - LIFT_M)
    hull = hull_of(inner)
    if hull is None:
        return None
    return Leaf(body.number, body.centre, body.low, body.high, *hull, hinge)


def swing(
    leaf: Leaf,
    rule: MovingThings,
    video: VideoSettings,
    obstacles: Surroundings,
    seed: Sequence[int],
) -> RigidTrack | None:
    """The widest opening, to either side, whose way is free throughout; None if none is."""
    rng = np.random.default_rng([*seed, 2])
    first = float(rng.choice([-1.0, 1.0]))
    rate = np.radians(rule.turn_deg_s) * float(rng.uniform(0.4, 1.0))
    least, greatest = rule.swing_deg
    for opening in np.linspace(greatest, least, OPENINGS):
        for side in (first, -first):
            angles = Opening(side * float(np.radians(opening)), rate)
            if rate > 0 and _is_free(leaf, angles, rate, video, obstacles):
                return RigidTrack.of(
                    leaf.centre,
                    [
                        about(leaf.hinge, angles.at(frame / video.fps))
                        for frame in range(video.frames)
                    ],
                )
    return None


@dataclass(frozen=True)
class Opening:
    """How far open over time: from 0 to `widest` and back, radians or metres.

    Slow at both ends, and never faster than `rate` a second.
    """

    widest: float
    rate: float

    def at(self, time: float) -> float:
        """How far after so many seconds."""
        return self.widest * (1 - float(np.cos(2 * self.rate / abs(self.widest) * time))) / 2


def about(hinge: NDArray[np.float64], angle: float) -> NDArray[np.float64]:
    """(4, 4) turn by an angle about the vertical through a point."""
    matrix = np.eye(4)
    matrix[:3, :3] = turned(UP, angle)
    matrix[:3, 3] = hinge - matrix[:3, :3] @ hinge
    return matrix


def _is_free(
    leaf: Leaf, angles: Opening, rate: float, video: VideoSettings, obstacles: Surroundings
) -> bool:
    """Whether the leaf touches nothing, at every frame and in small steps between."""
    reach = float(np.linalg.norm((leaf.hull - leaf.hinge)[:, :2], axis=1).max())
    per_frame = max(1, int(np.ceil(rate * reach / video.fps / STEP_M)))
    for step in range((video.frames - 1) * per_frame + 1):
        matrix = about(leaf.hinge, angles.at(step / per_frame / video.fps))
        moved = leaf.hull @ matrix[:3, :3].T + matrix[:3, 3]
        if not obstacles.free(leaf, moved, min(-(-step // per_frame), video.frames - 1)):
            return False
    return True
