"""Rays and nearest points against many copies of few meshes, with one BVH for each mesh.

A forest is a few trees of millions of triangles, each copied a hundred times: laid out in the world
it fits no memory. Here a copy is its matrix and the box around it. A ray meets the boxes in NumPy,
then the BVHs of those that it meets, nearest first, in the copy's own space.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from mathutils import Matrix, Vector
from mathutils.bvhtree import BVHTree
from numpy.typing import NDArray

SIMILAR = 1e-4  # relative: scales that differ by less are one


class BvhHit(NamedTuple):
    """What `BVHTree` gives: place, normal, number of the triangle (or copy), distance; or Nones."""

    location: Any
    normal: Any
    index: Any
    distance: Any


@dataclass(frozen=True)
class Copy:
    """A copy of a mesh: which BVH, `world_from_mesh` (4×4, metres), and its box in the world."""

    tree: int
    world_from_mesh: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def is_similar(matrix: NDArray[np.float64]) -> bool:
    """Whether a 4×4 matrix keeps shapes: what is nearest in a copy's space is so in the world."""
    gram = matrix[:3, :3].T @ matrix[:3, :3]
    scale = np.trace(gram) / 3
    return bool(scale > 0 and np.abs(gram - scale * np.eye(3)).max() <= SIMILAR * scale)


def meeting(
    points: NDArray[np.float64], faces: NDArray[np.int64], tree: BVHTree
) -> NDArray[np.int64]:
    """The triangles of a BVH that meet any of a mesh's, of points (V, 3) and triangles (F, 3)."""
    mine = BVHTree.FromPolygons(points.tolist(), faces.tolist(), all_triangles=True)
    return np.unique(np.array([theirs for _, theirs in mine.overlap(tree)], np.int64))


class SharedBvh:
    """A BVH over triangles of its own, and copies of other meshes beside them.

    It answers as `mathutils.bvhtree.BVHTree` does. Numbers from `own_triangles` on are copies.
    """

    def __init__(
        self, own: BVHTree, own_triangles: int, trees: Sequence[BVHTree], copies: Sequence[Copy]
    ) -> None:
        """Take the triangles' own BVH, one for each shared mesh, and the copies of these.

        Args:
            own: over what is laid out in the world.
            own_triangles: how many triangles it has.
            trees: of the shared meshes, each in its own space.
            copies: each similar to its mesh (`is_similar`).
        """
        self._own, self._first, self._trees = own, own_triangles, list(trees)
        self._tree = [copy.tree for copy in copies]
        self._low = np.array([copy.low for copy in copies]).reshape(-1, 3)
        self._high = np.array([copy.high for copy in copies]).reshape(-1, 3)
        self._world = [Matrix(copy.world_from_mesh.tolist()) for copy in copies]
        self._local = [matrix.inverted() for matrix in self._world]
        # The normal of a triangle whose corners are mirrored in the world points the other way.
        self._side = [1.0 if matrix.determinant() > 0 else -1.0 for matrix in self._world]

    def ray_cast(
        self,
        origin: Sequence[float],
        direction: Sequence[float],
        distance: float = float("inf"),
    ) -> BvhHit:
        """What a ray meets first within `distance` metres; `direction` is of unit length."""
        found = self._own.ray_cast(origin, direction, min(distance, 1e30))
        best = BvhHit(*found)
        reach = distance if best.distance is None else best.distance
        start, way = np.asarray(origin, float), np.asarray(direction, float)
        with np.errstate(divide="ignore", invalid="ignore"):
            one, other = (self._low - start) / way, (self._high - start) / way
        # 0/0: the ray lies in that side of the box, which then bounds nothing
        enter = np.fmin(np.nan_to_num(one, nan=-np.inf, posinf=np.inf, neginf=-np.inf), other)
        leave = np.fmax(np.nan_to_num(other, nan=np.inf, posinf=np.inf, neginf=-np.inf), one)
        enter, leave = enter.max(axis=1, initial=0.0), leave.min(axis=1, initial=np.inf)
        met = np.flatnonzero(enter <= leave)
        for copy in met[np.argsort(enter[met], kind="stable")].tolist():
            if enter[copy] > reach:
                break
            local = self._local[copy]
            begin = local @ Vector(origin)
            towards = local.to_3x3() @ Vector(direction)
            place, normal, _, _ = self._trees[self._tree[copy]].ray_cast(begin, towards)
            if place is None:
                continue
            world = self._world[copy] @ place
            length = (world - Vector(origin)).length
            if length < reach:
                reach = length
                best = BvhHit(world, self._normal(copy, normal), self._first + copy, length)
        return best

    def find_nearest(self, point: Sequence[float], distance: float = float("inf")) -> BvhHit:
        """The surface nearest to a point within `distance` metres."""
        best = BvhHit(*self._own.find_nearest(point, min(distance, 1e30)))
        reach = distance if best.distance is None else best.distance
        where = np.asarray(point, float)
        away = np.linalg.norm(
            np.maximum(np.maximum(self._low - where, where - self._high), 0), axis=1
        )
        for copy in np.argsort(away, kind="stable").tolist():
            if away[copy] >= reach:
                break
            place, normal, _, _ = self._trees[self._tree[copy]].find_nearest(
                self._local[copy] @ Vector(point)
            )
            if place is None:
                continue
            world = self._world[copy] @ place
            length = (world - Vector(point)).length
            if length < reach:
                reach = length
                best = BvhHit(world, self._normal(copy, normal), self._first + copy, length)
        return best

    def touched(self, points: NDArray[np.float64], faces: NDArray[np.int64]) -> NDArray[np.int64]:
        """The numbers of all that a mesh of points (V, 3) and triangles (F, 3) meets, in metres."""
        found = [meeting(points, faces, self._own)]
        low, high = points.min(axis=0), points.max(axis=0)
        near = ((self._low <= high) & (self._high >= low)).all(axis=1)
        for copy in np.flatnonzero(near).tolist():
            local = np.array(self._local[copy])
            own = points @ local[:3, :3].T + local[:3, 3]
            if len(meeting(own, faces, self._trees[self._tree[copy]])):
                found.append(np.array([self._first + copy]))
        return np.concatenate(found)

    def _normal(self, copy: int, normal: Vector) -> Vector:
        turned = self._world[copy].to_3x3() @ normal
        return turned.normalized() * self._side[copy]
