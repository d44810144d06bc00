"""A prepared scene in motion: where its things are in each frame, for rays and for Cycles.

What stands still has one BVH for the whole video. Each thing that moves has its own, of its shape
at rest, which rays meet in its own frame. A thing that deforms has one of every frame it is asked
about.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import bpy
import numpy as np
from mathutils import Matrix
from mathutils.bvhtree import BVHTree
from numpy.typing import NDArray

from panoforge.core.sample.metadata import Box3D
from panoforge.datagen.depsgraph.units import metres_per_unit
from panoforge.datagen.geometry.part_motion import PartMotion, set_frame
from panoforge.datagen.geometry.prepared_scene import numbered_objects, place_object
from panoforge.datagen.geometry.surface import Surface, in_metres, object_triangles, scene_surface
from panoforge.datagen.video.rigid import RigidTrack

SAME_M, SAME_RELATIVE = 2e-4, 5e-5  # a surface so near to a point is the one that it lies on


@dataclass
class Mover:
    """A thing that moves as a whole.

    Args:
        track: where it is in each frame.
        objects: its objects of the prepared scene, and lights that go with it.
        tree: the BVH of its triangles at rest.
        radius_m: of the ball around the middle of its box that holds it.
    """

    track: RigidTrack
    objects: dict[str, Matrix]  # name → matrix at rest
    tree: BVHTree
    radius_m: float
    present: NDArray[np.bool_]


class Deformer(Protocol):
    """A thing whose shape changes from frame to frame."""

    def show(self, frame: int) -> None:
        """Bring its objects to the shape that they have in a frame."""

    def boxes(self) -> tuple[Box3D | None, ...]:
        """Its upright box in each frame; None where it is not there."""

    def shape(self, frame: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Its triangles in a frame: (V, 3) metres, (T, 3) indices, the same ones in all frames."""

    def tree(self, frame: int) -> BVHTree:
        """The BVH of its triangles in a frame, world frame, metres."""


@dataclass(frozen=True)
class Loose:
    """What else a file's animation moves: volumes, lights, materials, by frames of its scene."""

    frames: tuple[float, ...]
    parts: Mapping[str, PartMotion]
    show_part: Callable[[bpy.types.Object, PartMotion, int], None]

    def show(self, frame: int) -> None:
        """Bring it to a frame of the video."""
        set_frame(self.frames[frame])
        for name, motion in self.parts.items():
            self.show_part(bpy.data.objects[name], motion, frame)


@dataclass
class MovingWorld:
    """The things of the open, prepared scene through the frames of one video."""

    frames: int
    static: Surface
    movers: dict[int, Mover]
    deformers: Mapping[int, Deformer] = field(default_factory=dict)
    loose: Loose | None = None

    @staticmethod
    def at_rest(frames: int, surface: Surface) -> "MovingWorld":
        """One in which nothing moves."""
        return MovingWorld(frames, surface, {})

    @staticmethod
    def of(
        frames: int,
        tracks: Mapping[int, RigidTrack],
        lights: Mapping[int, list[bpy.types.Object]] | None = None,
        present: Mapping[int, NDArray[np.bool_]] | None = None,
        deformers: Mapping[int, Deformer] | None = None,
        loose: Loose | None = None,
    ) -> "MovingWorld":
        """The world in which these things move. The scene stands as it was made."""
        deformers = deformers or {}
        numbered = numbered_objects()
        movers = {}
        for number, track in tracks.items():
            objects = [*numbered[number], *(lights or {}).get(number, [])]
            points, triangles = thing_triangles(numbered[number])
            movers[number] = Mover(
                track,
                {obj.name: obj.matrix_world.copy() for obj in objects},
                BVHTree.FromPolygons(points.tolist(), triangles.tolist(), all_triangles=True),
                float(np.linalg.norm(points - track.centre, axis=1).max(initial=0.0)),
                (present or {}).get(number, np.ones(frames, bool)),
            )
        return MovingWorld(
            frames,
            scene_surface(but=frozenset((*movers, *deformers))),
            movers,
            deformers,
            loose,
        )

    def show(self, frame: int) -> None:
        """Bring the objects of the scene to where they are in a frame."""
        if self.loose is not None:
            self.loose.show(frame)
        unit = metres_per_unit()
        for mover in self.movers.values():
            motion = mover.track.matrix(frame)
            motion[:3, 3] /= unit
            for name, matrix in mover.objects.items():
                obj = bpy.data.objects[name]
                place_object(obj, Matrix(motion.tolist()) @ matrix)
                if obj.hide_render == bool(mover.present[frame]):
                    obj.hide_render = not mover.present[frame]
        for deformer in self.deformers.values():
            deformer.show(frame)
        bpy.context.view_layer.update()

    def rest(self) -> None:
        """Put everything back where the scene's source made it, or to the animation's beginning."""
        if self.loose is not None:
            self.show(0)
            return
        for mover in self.movers.values():
            for name, matrix in mover.objects.items():
                place_object(bpy.data.objects[name], matrix)
                bpy.data.objects[name].hide_render = False
        bpy.context.view_layer.update()

    def nearest(self, point: NDArray[np.float64], frame: int) -> tuple[float, int]:
        """The distance in metres to the nearest surface in a frame, and whose that is (0: none)."""
        where = tuple(map(float, point))
        _, _, triangle, found = self.static.tree.find_nearest(where)
        best = (np.inf, 0) if triangle is None else (found, int(self.static.owner[triangle]))
        for number, mover in self.movers.items():
            away = float(np.linalg.norm(point - mover.track.positions[frame])) - mover.radius_m
            if mover.present[frame] and away < best[0]:
                at_rest = mover.track.to_rest(np.asarray(point, float), frame)
                distance = mover.tree.find_nearest(tuple(at_rest.tolist()))[3]
                if distance is not None and distance < best[0]:
                    best = (distance, number)
        for number, deformer in self.deformers.items():
            distance = deformer.tree(frame).find_nearest(where)[3]
            if distance is not None and distance < best[0]:
                best = (distance, number)
        return best

    def blocking(
        self, start: NDArray[np.float64], stop: NDArray[np.float64], frame: int
    ) -> int | None:
        """The thing that the way between two points meets first in a frame; None if it is free."""
        way = stop - start
        length = float(np.linalg.norm(way))
        if length == 0:
            return None
        met = self.first_hit(start, way / length, length, frame)
        return met[1] if met is not None else None

    def first_hit(
        self, origin: NDArray[np.float64], direction: NDArray[np.float64], reach: float, frame: int
    ) -> tuple[float, int] | None:
        """(distance, number) of the first surface within reach along a ray."""
        begin, towards = tuple(origin.tolist()), tuple(direction.tolist())
        _, _, triangle, found = self.static.tree.ray_cast(begin, towards, reach)
        best = None if triangle is None else (float(found), int(self.static.owner[triangle]))
        for number, mover in self.movers.items():
            if mover.present[frame]:
                at, along = (
                    mover.track.to_rest(origin, frame),
                    direction @ mover.track.rotations[frame],
                )
                hit = mover.tree.ray_cast(tuple(at.tolist()), tuple(along.tolist()), reach)[3]
                if hit is not None and (best is None or hit < best[0]):
                    best = (float(hit), number)
        for number, deformer in self.deformers.items():
            hit = deformer.tree(frame).ray_cast(begin, towards, reach)[3]
            if hit is not None and (best is None or hit < best[0]):
                best = (float(hit), number)
        return best

    def seen(
        self, origin: NDArray[np.float64], points: NDArray[np.float64], frame: int
    ) -> NDArray[np.bool_]:
        """Whether points (N, 3) on surfaces are seen from `origin` (3,) in a frame, (N,)."""
        ways = points - origin
        distance = np.linalg.norm(ways, axis=1)
        reach = distance - np.maximum(SAME_M, SAME_RELATIVE * distance)
        towards = ways / np.maximum(distance, 1e-12)[:, None]
        free = _misses(self.static.tree, origin, towards, reach)
        for mover in self.movers.values():
            if not mover.present[frame]:
                continue
            middle = mover.track.positions[frame] - origin
            away = float(np.linalg.norm(middle))
            across = np.linalg.norm(np.cross(towards, middle), axis=1)
            meets = free & ((across <= mover.radius_m) | (away <= mover.radius_m))
            meets &= reach > away - mover.radius_m
            which = np.flatnonzero(meets)
            at = mover.track.to_rest(origin, frame)
            along = towards[which] @ mover.track.rotations[frame]
            free[which] = _misses(mover.tree, at, along, reach[which])
        for deformer in self.deformers.values():
            which = np.flatnonzero(free)
            free[which] = _misses(deformer.tree(frame), origin, towards[which], reach[which])
        return free


def _misses(
    tree: BVHTree,
    origin: NDArray[np.float64],
    towards: NDArray[np.float64],
    reach: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Whether rays from one origin meet nothing within reach, (N,)."""
    begin, cast = tuple(map(float, origin)), tree.ray_cast
    return np.array(
        [
            cast(begin, direction, far)[0] is None
            for direction, far in zip(towards.tolist(), reach.tolist(), strict=True)
        ],
        bool,
    )


def thing_triangles(
    objects: list[bpy.types.Object],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """All triangles of a thing's objects where they are: (V, 3) metres, (T, 3) indices."""
    corners, faces, offset = [np.zeros((0, 3))], [np.zeros((0, 3), np.int64)], 0
    for obj in objects:
        points, triangles = object_triangles(obj)
        corners.append(in_metres(points, obj))
        faces.append(triangles + offset)
        offset += len(points)
    return np.concatenate(corners), np.concatenate(faces)
