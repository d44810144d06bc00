"""Paths of rigid things: over the floor or through the air, free of everything at every moment.

A thing goes to and fro along a straight way, slow at its ends, and turns meanwhile: so a way that
is free serves a video of any length. It begins where its source put it, on its way. What is in its
way is asked of the meshes of all else, with things that move where they are at that time. The thing
itself is its convex hull, a little larger: what its hull does not touch, it does not.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import bpy
import numpy as np
from mathutils.bvhtree import BVHTree
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, QhullError

from panoforge.datagen.config.video import ANY, MovingThings, VideoSettings
from panoforge.datagen.geometry.rendered_things import RenderedThing
from panoforge.datagen.geometry.surface import Surface, scene_surface
from panoforge.datagen.redraw.furniture import UNDERFOOT
from panoforge.datagen.video.rigid import RigidTrack, turned
from panoforge.datagen.video.world import thing_triangles

LARGEST_M = 3.0
CHOICE = 4
GROW_M = 0.02  # of a hull, to every side
LIFT_M = 0.04  # of the underside of what stands: floors are uneven, and rugs have an edge
STEP_M, STEP_RAD = 0.03, 0.06  # a way is looked at in steps of these
WAYS_M = (2.4, 1.6, 1.0, 0.6, 0.35)  # lengths of ways, the longest that is free is taken
DIRECTIONS = 10
PHASES = (np.pi / 6, 5 * np.pi / 6)  # at the first frame: it is on its way


@dataclass(frozen=True)
class Body:
    """A thing that may move: its shape at rest.

    `hull` (V, 3) and `faces` (F, 3) are its convex hull, metres, world frame at rest.
    """

    number: int
    centre: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    hull: NDArray[np.float64]
    faces: NDArray[np.int64]

    def grown(self, lift_m: float) -> NDArray[np.float64]:
        """The hull's points moved outwards by GROW_M, its underside lifted."""
        away = self.hull - self.centre
        length = np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-9)
        points = self.hull + away / length * GROW_M
        points[:, 2] = np.maximum(points[:, 2], self.low[2] + lift_m)
        return points


def body_of(number: int, objects: Sequence[bpy.types.Object]) -> Body | None:
    """The shape of a thing; None for one without triangles, or flat."""
    points, triangles = thing_triangles(list(objects))
    if len(triangles) == 0 or any(obj.type != "MESH" for obj in objects):
        return None
    hull = hull_of(points)
    if hull is None:
        return None
    low, high = points.min(axis=0), points.max(axis=0)
    return Body(number, (low + high) / 2, low, high, *hull)


def hull_of(
    points: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.int64]] | None:
    """Corners (V, 3) and triangles (F, 3) of the convex hull of points (N, 3); None if flat."""
    try:
        hull = ConvexHull(points)
    except QhullError:
        return None
    place = np.zeros(len(points), np.int64)
    place[hull.vertices] = np.arange(len(hull.vertices))
    return points[hull.vertices], place[hull.simplices]


def named_things(
    rule: MovingThings,
    things: Sequence[RenderedThing],
    numbered: Mapping[int, list[bpy.types.Object]],
) -> list[int]:
    """The numbers of the things whose category a rule names."""
    return [
        number
        for number in sorted(numbered)
        if ANY in rule.categories or things[number - 1].category in rule.categories
    ]


def candidates(
    rule: MovingThings,
    things: Sequence[RenderedThing],
    numbered: Mapping[int, list[bpy.types.Object]],
    middles: Mapping[int, NDArray[np.float64]],
    seed: Sequence[int],
) -> list[Body]:
    """Things that a rule lets move and that nothing lies on, in an order that the seed draws.

    CHOICE times as many as shall move at most: not every one will have a free way.
    """
    named = [
        number
        for number in named_things(rule, things, numbered)
        if "structure" not in things[number - 1].flags
        and things[number - 1].category not in UNDERFOOT
    ]
    found: list[Body] = []
    for place in np.random.default_rng([*seed, 0]).permutation(len(named)):
        if len(found) == CHOICE * rule.most:
            break
        body = body_of(named[place], numbered[named[place]])
        if body is None or (body.high - body.low).max() > LARGEST_M or carries(body, middles):
            continue
        found.append(body)
    return found


def carries(body: Body, middles: Mapping[int, NDArray[np.float64]]) -> bool:
    """Whether the middle of another thing is in it or close above it."""
    low, high = body.low - 0.01, body.high + np.array([0.01, 0.01, 0.12])
    return any(
        number != body.number and bool(((low < middle) & (middle < high)).all())
        for number, middle in middles.items()
    )


class Surroundings:
    """What is in the way of a thing: what stands still, and what moves, at its time."""

    def __init__(self, bodies: Sequence[Body], underfoot: frozenset[int]) -> None:
        """`bodies` may come to move: they are in nobody's way but as bodies."""
        self._underfoot = underfoot
        self._moving: dict[int, tuple[Body, RigidTrack]] = {}
        self._waiting = {body.number: body for body in bodies}
        self._still: Surface = scene_surface(but=frozenset(self._waiting))

    def moves(self, body: Body, track: RigidTrack) -> None:
        """It does."""
        self._moving[body.number] = body, track

    @property
    def still(self) -> Surface:
        """What cannot move."""
        return self._still

    def free(self, body: Body, points: NDArray[np.float64], frame: int) -> bool:
        """Whether a body whose hull's points are these (V, 3) touches nothing in a frame."""
        if self._still.touched(points, body.faces):
            return False
        mine = BVHTree.FromPolygons(points.tolist(), body.faces.tolist(), all_triangles=True)
        low, high = points.min(axis=0), points.max(axis=0)
        for number, other in self._waiting.items():
            if number == body.number:
                continue
            hull = other.hull
            if number in self._moving:
                track = self._moving[number][1]
                hull = (hull - track.centre) @ track.rotations[frame].T + track.positions[frame]
            if (hull.min(axis=0) > high).any() or (hull.max(axis=0) < low).any():
                continue
            theirs = BVHTree.FromPolygons(hull.tolist(), other.faces.tolist(), all_triangles=True)
            if mine.overlap(theirs) or _holds(points, hull) or _holds(hull, points):
                return False
        return True

    def stands(self, points: NDArray[np.float64]) -> bool:
        """Whether the floor is under all corners of the box around these (V, 3) points."""
        low, high = points.min(axis=0), points.max(axis=0)
        for x in (low[0], high[0]):
            for y in (low[1], high[1]):
                _, _, triangle, _ = self._still.tree.ray_cast(
                    (float(x), float(y), float(low[2])), (0.0, 0.0, -1.0), 2.5 * LIFT_M
                )
                if triangle is None or int(self._still.owner[triangle]) not in self._underfoot:
                    return False
        return True


def _holds(points: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Whether the box around one set of points holds that of the other."""
    return bool(
        (points.min(axis=0) <= other.min(axis=0)).all()
        and (points.max(axis=0) >= other.max(axis=0)).all()
    )


Way = Callable[[float], NDArray[np.float64]]  # seconds → (4, 4) from the world at rest


def plan(
    body: Body,
    rule: MovingThings,
    video: VideoSettings,
    obstacles: Surroundings,
    seed: Sequence[int],
) -> RigidTrack | None:
    """A way of a thing that is free throughout; None if none was found."""
    for length in WAYS_M:
        for direction in range(DIRECTIONS):
            rng = np.random.default_rng([*seed, WAYS_M.index(length), direction])
            motion = _to_and_fro(body, rule, length, rng)
            if _is_free(body, motion, rule, length, video, obstacles):
                times = np.arange(video.frames) / video.fps
                return RigidTrack.of(body.centre, [motion(float(time)) for time in times])
    return None


def _to_and_fro(body: Body, rule: MovingThings, length: float, rng: np.random.Generator) -> Way:
    heading, rise = rng.uniform(-np.pi, np.pi), 0.0
    axis = np.array([0.0, 0.0, 1.0])
    if rule.how == "fly":
        rise = float(np.arcsin(rng.uniform(-1, 1)))
        axis = rng.normal(size=3)
        axis /= np.linalg.norm(axis)
    way = length * np.array(
        [np.cos(rise) * np.sin(heading), np.cos(rise) * np.cos(heading), np.sin(rise)]
    )
    speed = rng.uniform(*rule.speed_m_s)
    period = np.pi * length / max(speed, 1e-6)  # the greatest speed of a half cosine wave
    phase = rng.uniform(*PHASES)
    rate = np.radians(rng.uniform(-rule.turn_deg_s, rule.turn_deg_s))

    def motion(time: float) -> NDArray[np.float64]:
        matrix = np.eye(4)
        matrix[:3, :3] = turned(axis, rate * time)
        along = way * (np.cos(phase) - np.cos(phase + 2 * np.pi * time / period)) / 2
        matrix[:3, 3] = body.centre + along - matrix[:3, :3] @ body.centre
        return matrix

    return motion


def _is_free(
    body: Body,
    motion: Way,
    rule: MovingThings,
    length: float,
    video: VideoSettings,
    obstacles: Surroundings,
) -> bool:
    """Whether a motion touches nothing, at every frame and in small steps between."""
    points = body.grown(LIFT_M if rule.how == "floor" else -np.inf)
    reach = float(np.linalg.norm(body.hull - body.centre, axis=1).max())
    fastest = rule.speed_m_s[1] + np.radians(rule.turn_deg_s) * reach
    per_frame = max(1, int(np.ceil(fastest / video.fps / STEP_M)))
    for step in range((video.frames - 1) * per_frame + 1):
        matrix = motion(step / per_frame / video.fps)
        moved = points @ matrix[:3, :3].T + matrix[:3, 3]
        if rule.how == "floor" and not obstacles.stands(moved):
            return False
        frame = min(-(-step // per_frame), video.frames - 1)
        if not obstacles.free(body, moved, frame):
            return False
    return True
