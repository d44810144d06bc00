"""Drawers that slide: out of what they are in, to the one side that is open, and back.

No name tells where a drawer's front is. So each way of its own horizontal axes is tried: a thing
that can be pulled out one way, and no other, is a drawer. One that can go several ways stands
free; one that can go none is held; what holds another thing stays, since that would be left behind.

A drawer touches its runners and its front lies on the frame. So what must be free of everything is
the drawer without its outer `EDGE_M` on all sides.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import bpy
import numpy as np
from numpy.typing import NDArray

from panoforge.datagen.config.video import MovingThings, VideoSettings
from panoforge.datagen.geometry.rendered_things import RenderedThing
from panoforge.datagen.geometry.surface import Surface
from panoforge.datagen.video.moving import (
    CHOICE,
    LARGEST_M,
    STEP_M,
    Body,
    Surroundings,
    body_of,
    hull_of,
    named_things,
)
from panoforge.datagen.video.rigid import RigidTrack
from panoforge.datagen.video.swinging import Opening

EDGE_M = 0.03
LEAST_M = 0.1  # of a drawer, every way: less is no drawer, and nothing is left of it inside
SHARE = 0.9  # of its own depth a drawer comes out at most
OPENINGS = 4  # lengths that are tried, the longest first
LEVEL = 0.1  # an axis that rises more is not horizontal


@dataclass(frozen=True)
class Drawer(Body):
    """A drawer: `way` (3,) is the unit vector out, `depth` metres from front to back.

    Its hull is that of what must stay free.
    """

    way: NDArray[np.float64]
    depth: float


def drawers(
    rule: MovingThings,
    things: Sequence[RenderedThing],
    numbered: Mapping[int, list[bpy.types.Object]],
    middles: Mapping[int, NDArray[np.float64]],
    surface: Surface,
    seed: Sequence[int],
) -> list[Drawer]:
    """The things that a rule names and that are drawers, in an order that the seed draws.

    `surface` is all of the scene, and `middles` where its things are.
    """
    named = named_things(rule, things, numbered)
    found: list[Drawer] = []
    for place in np.random.default_rng([*seed, 0]).permutation(len(named)):
        if len(found) == CHOICE * rule.most:
            break
        body = body_of(named[place], numbered[named[place]])
        if body is None or (body.high - body.low).max() > LARGEST_M or _holds_any(body, middles):
            continue
        drawer = _drawer(body, numbered[body.number][0], rule.slide_m[0], surface)
        if drawer is not None:
            found.append(drawer)
    return found


def slide(
    drawer: Drawer,
    rule: MovingThings,
    video: VideoSettings,
    obstacles: Surroundings,
    seed: Sequence[int],
) -> RigidTrack | None:
    """The farthest way out that is free throughout; None if none is."""
    speed = float(np.random.default_rng([*seed, 2]).uniform(*rule.speed_m_s))
    least, most = rule.slide_m
    most = min(most, SHARE * drawer.depth)
    if speed <= 0 or most < least:
        return None
    for length in np.linspace(most, least, OPENINGS):
        pulled = Opening(float(length), speed)
        if _is_free(drawer, pulled, video, obstacles):
            times = [frame / video.fps for frame in range(video.frames)]
            return RigidTrack.of(drawer.centre, [_along(drawer, pulled.at(t)) for t in times])
    return None


def _drawer(body: Body, obj: bpy.types.Object, least_m: float, surface: Surface) -> Drawer | None:
    """A body as a drawer; None where not exactly one way out of four is open."""
    axes = np.array(obj.matrix_world.to_3x3().normalized()).T
    level = [axis * [1, 1, 0] / np.linalg.norm(axis[:2]) for axis in axes if abs(axis[2]) < LEVEL]
    if len(level) != 2:
        return None
    inner = _without_edges(body, level)
    if inner is None:
        return None
    hull, faces, sizes = inner
    open_ways = [
        (sign * axis, float(size))
        for axis, size in zip(level, sizes, strict=True)
        for sign in (1.0, -1.0)
        if _reaches(hull, faces, sign * axis, least_m, body.number, surface)
    ]
    if len(open_ways) != 1:
        return None
    way, depth = open_ways[0]
    return Drawer(body.number, body.centre, body.low, body.high, hull, faces, way, depth)


def _without_edges(
    body: Body, level: Sequence[NDArray[np.float64]]
) -> tuple[NDArray[np.float64], NDArray[np.int64], list[float]] | None:
    """Hull and faces without EDGE_M on all sides, sizes along both level axes; None if flat."""
    frame = np.array([*level, [0.0, 0.0, 1.0]])
    own = body.hull @ frame.T
    low, high = own.min(axis=0), own.max(axis=0)
    if (high - low).min() < LEAST_M:
        return None
    inner = np.clip(own, low + EDGE_M, high - EDGE_M) @ np.linalg.inv(frame).T
    hull = hull_of(inner)
    return None if hull is None else (*hull, list((high - low)[:2]))


def _reaches(
    hull: NDArray[np.float64],
    faces: NDArray[np.int64],
    way: NDArray[np.float64],
    length_m: float,
    number: int,
    surface: Surface,
) -> bool:
    """Whether a hull moves so far without touching anything but the thing that it is of."""
    for step in range(int(np.ceil(length_m / STEP_M)) + 1):
        if surface.touched(hull + way * min(step * STEP_M, length_m), faces) - {number}:
            return False
    return True


def _holds_any(body: Body, middles: Mapping[int, NDArray[np.float64]]) -> bool:
    return any(
        number != body.number and bool(((body.low < middle) & (middle < body.high)).all())
        for number, middle in middles.items()
    )


def _along(drawer: Drawer, length: float) -> NDArray[np.float64]:
    matrix = np.eye(4)
    matrix[:3, 3] = drawer.way * length
    return matrix


def _is_free(
    drawer: Drawer, pulled: Opening, video: VideoSettings, obstacles: Surroundings
) -> bool:
    """Whether it touches nothing, at every frame and in small steps between."""
    per_frame = max(1, int(np.ceil(pulled.rate / video.fps / STEP_M)))
    for step in range((video.frames - 1) * per_frame + 1):
        moved = drawer.hull + drawer.way * pulled.at(step / per_frame / video.fps)
        if not obstacles.free(drawer, moved, min(-(-step // per_frame), video.frames - 1)):
            return False
    return True
