"""A file's own animation as a world in motion: what moves as a whole, and what changes its shape.

Things whose parts all move by one rigid motion have exact poses and flow. Everything else that
changes deforms: an armature's skin, a shape key, a thing that grows. It is rendered and labelled as
it is in each frame, and its flow is unknown.
"""

from collections.abc import Mapping, Sequence

import bpy
import numpy as np
from mathutils import Matrix
from mathutils.bvhtree import BVHTree
from numpy.typing import NDArray

from panoforge.core.sample.metadata import Box3D
from panoforge.datagen.depsgraph.units import metres_per_unit
from panoforge.datagen.geometry.instances import upright_box
from panoforge.datagen.geometry.part_motion import PartMotion
from panoforge.datagen.geometry.prepared_scene import NUMBER, PreparedScene, place_object
from panoforge.datagen.geometry.surface import object_triangles
from panoforge.datagen.video.rigid import RigidTrack
from panoforge.datagen.video.world import Loose, MovingWorld, thing_triangles

RIGID = 1e-5  # of a rotation's entries; Blender's matrices are single precision
RIGID_M = 1e-5


class ShapeTrack:
    """A thing whose shape changes: its parts' objects, and what becomes of each."""

    def __init__(self, parts: Mapping[str, PartMotion]) -> None:
        self._parts = dict(parts)
        self._triangles = {
            name: object_triangles(bpy.data.objects[name])[1] for name in self._parts
        }
        self._trees: dict[int, BVHTree] = {}
        self._boxes = tuple(self._box(frame) for frame in range(self._frames))

    @property
    def _frames(self) -> int:
        return len(next(iter(self._parts.values())).present)

    def show(self, frame: int) -> None:
        """Bring its objects to the shape that they have in a frame."""
        for name, motion in self._parts.items():
            show_part(bpy.data.objects[name], motion, frame)

    def boxes(self) -> tuple[Box3D | None, ...]:
        """Its upright box in each frame; None where it is not there."""
        return self._boxes

    def tree(self, frame: int) -> BVHTree:
        """The BVH of its triangles in a frame, world frame, metres."""
        if frame not in self._trees:
            self._trees = {k: tree for k, tree in self._trees.items() if abs(k - frame) <= 1}
            points, triangles = self.shape(frame)
            self._trees[frame] = BVHTree.FromPolygons(
                points.tolist(), triangles.tolist(), all_triangles=True
            )
        return self._trees[frame]

    def _box(self, frame: int) -> Box3D | None:
        points, triangles = self.shape(frame)
        return upright_box(points[np.unique(triangles)]) if len(triangles) else None

    def shape(self, frame: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Its triangles in a frame, less parts that are not there: (V, 3) metres, (T, 3)."""
        corners, faces, offset = [np.zeros((0, 3))], [np.zeros((0, 3), np.int64)], 0
        for name, motion in self._parts.items():
            if not motion.present[frame]:
                continue
            points = (
                motion.points[frame].astype(float)
                if motion.points
                else object_triangles(bpy.data.objects[name])[0]
            )
            matrix = motion.matrices[frame]
            corners.append((points @ matrix[:3, :3].T + matrix[:3, 3]) * metres_per_unit())
            faces.append(self._triangles[name] + offset)
            offset += len(points)
        return np.concatenate(corners), np.concatenate(faces)


def show_part(obj: bpy.types.Object, motion: PartMotion, frame: int) -> None:
    """Bring one object to where, and to what shape, it has in a frame."""
    place_object(obj, Matrix(motion.matrices[frame].tolist()))
    if motion.points:
        obj.data.vertices.foreach_set("co", np.ascontiguousarray(motion.points[frame]).ravel())
        obj.data.update()
    if obj.hide_render == bool(motion.present[frame]):
        obj.hide_render = not motion.present[frame]


def animated_world(prepared: PreparedScene, frames: Sequence[float]) -> MovingWorld:
    """The world in which a file's animation plays. The scene stands as in its first frame."""
    by_number: dict[int, dict[str, PartMotion]] = {}
    loose: dict[str, PartMotion] = {}
    for identity, motion in prepared.motions.items():
        name = prepared.objects.get(identity)
        if name is None:
            continue
        number = bpy.data.objects[name].get(NUMBER)
        if number is not None:
            by_number.setdefault(number, {})[name] = motion
        elif identity[0] == "volume" or identity[3]:  # lights of the file itself move by themselves
            loose[name] = motion
    tracks: dict[int, RigidTrack] = {}
    present: dict[int, NDArray[np.bool_]] = {}
    shapes: dict[int, ShapeTrack] = {}
    for number, parts in sorted(by_number.items()):
        motions = list(parts.values())
        rigid = _rigid_motion(motions)
        if rigid is None:
            shapes[number] = ShapeTrack(parts)
        elif np.abs(rigid - np.eye(4)).max() > 0 or not motions[0].present.all():
            tracks[number] = RigidTrack.of(_centre(list(parts)), list(rigid))
            present[number] = motions[0].present
    return MovingWorld.of(
        len(frames),
        tracks,
        present=present,
        deformers=shapes,
        loose=Loose(tuple(frames), loose, show_part),
    )


def _centre(names: Sequence[str]) -> NDArray[np.float64]:
    points, _ = thing_triangles([bpy.data.objects[name] for name in names])
    return np.array(upright_box(points).center_m) if len(points) else np.zeros(3)


def _rigid_motion(motions: Sequence[PartMotion]) -> NDArray[np.float64] | None:
    """(F, 4, 4) from the world of the first frame in metres; None if it is no rigid motion."""
    if any(motion.points for motion in motions):
        return None
    if any(not np.array_equal(motions[0].present, other.present) for other in motions[1:]):
        return None
    found: NDArray[np.float64] | None = None
    for motion in motions:
        if np.abs(np.linalg.det(motion.matrices[0])) < 1e-12:
            return None
        way = motion.matrices @ np.linalg.inv(motion.matrices[0])
        turn = way[:, :3, :3]
        if np.abs(turn @ turn.transpose(0, 2, 1) - np.eye(3)).max() > RIGID:
            return None
        if (np.linalg.det(turn) < 0).any():
            return None
        if found is not None and not np.allclose(way, found, rtol=0, atol=RIGID_M):
            return None
        if found is None:
            u, _, vt = np.linalg.svd(turn)
            way[:, :3, :3] = u @ vt
            still = (motion.matrices == motion.matrices[0]).all(axis=(1, 2))
            way[still] = np.eye(4)
            found = way
    assert found is not None
    found = found.copy()
    found[:, :3, 3] *= metres_per_unit()
    return found
