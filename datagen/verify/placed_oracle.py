"""A scene of many copies for rays: one BVH a geometry, and rays turned into each copy's frame.

A landscape has hundreds of millions of triangles, copies counted: laid out they fit no memory. Here
each geometry is held once. Copies lie in boxes, and boxes in groups of neighbours. A ray meets the
groups in its way, in them the boxes, and in a box the copy's own BVH, nearest first until nothing
nearer can come. Triangles are numbered through all copies.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from mathutils.bvhtree import BVHTree
from numpy.typing import NDArray

from panoforge.datagen.geometry.rendered_things import RenderedThing
from panoforge.datagen.verify.scene_shapes import NOTHING, SceneShapes, TriangleShape

GROUP = 64  # copies
FLAT = 1e-6  # of a matrix, the least of its stretches over the largest: no frame to turn rays into
PAD_M, PAD_RELATIVE = 1e-5, 1e-6  # of boxes: a BVH is of single precision


@dataclass(frozen=True)
class Boxes:
    """Upright boxes, `low` and `high` (N, 3) in metres."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def enters(self, origin: NDArray[np.float64], inverse: NDArray[np.float64]) -> NDArray:
        """Where a ray of direction 1 / `inverse` enters each box, metres; inf: it does not."""
        with np.errstate(invalid="ignore"):  # 0 × inf: on a side that the ray runs along
            a, b = (self.low - origin) * inverse, (self.high - origin) * inverse
        first = np.fmin(a, b).max(axis=1, initial=0.0)
        last = np.fmax(a, b).min(axis=1)
        return np.where(first <= last, first, np.inf)

    def within(self, point: NDArray[np.float64], distance_m: float) -> NDArray[np.int64]:
        """The boxes that a ball reaches."""
        away = np.maximum(self.low - point, 0) + np.maximum(point - self.high, 0)
        return np.flatnonzero((away**2).sum(axis=1) <= distance_m**2)

    def some(self, which: NDArray[np.int64]) -> "Boxes":
        """Those boxes."""
        return Boxes(self.low[which], self.high[which])


@dataclass(frozen=True)
class PlacedOracle:
    """Copies of geometries, as `RayScene`.

    Of each geometry there are `trees` and `shapes`. Of each copy there are `shape`, its geometry,
    and `to_world` and `to_local` (N, 3, 4). `reach` (N,) is how many units of its frame a metre is
    at most, and `owner` whose it is. `first` (N + 1,) is the number of its first triangle. `groups`
    are indices of copies.
    """

    things: tuple[RenderedThing, ...]
    trees: tuple[BVHTree, ...]
    shapes: tuple[TriangleShape, ...]
    shape: NDArray[np.int64]
    to_world: NDArray[np.float64]
    to_local: NDArray[np.float64]
    reach: NDArray[np.float64]
    owner: NDArray[np.int64]
    first: NDArray[np.int64]
    groups: tuple[NDArray[np.int64], ...]
    group_boxes: Boxes
    boxes: tuple[Boxes, ...]  # of the copies of each group

    def cast(self, origin: Sequence[float], direction: Sequence[float]) -> tuple[int, float]:
        """As `RayScene`."""
        at, way = np.asarray(origin, float), np.asarray(direction, float)
        way = way / np.linalg.norm(way)
        with np.errstate(divide="ignore"):
            inverse = 1 / way
        found, nearest = NOTHING, np.inf
        for group, begin in _nearest_first(self.group_boxes.enters(at, inverse)):
            if begin >= nearest:
                break
            for member, enters in _nearest_first(self.boxes[group].enters(at, inverse)):
                if enters >= nearest:
                    break
                copy = int(self.groups[group][member])
                triangle, distance = self._cast_at(copy, at, way, enters)
                if distance < nearest:
                    found, nearest = int(self.first[copy]) + triangle, distance
        return found, nearest

    def _cast_at(
        self, copy: int, at: NDArray[np.float64], way: NDArray[np.float64], enters: float
    ) -> tuple[int, float]:
        """The hit on one copy, in its own frame.

        The ray begins where it enters the box, so that how far away the camera is costs no digits.
        """
        start = at + way * max(0.0, enters - PAD_M)
        local, turned = self.to_local[copy], self.to_local[copy][:, :3] @ way
        begin = local[:, :3] @ start + local[:, 3]
        hit, _, triangle, _ = self.trees[self.shape[copy]].ray_cast(begin.tolist(), turned.tolist())
        if triangle is None:
            return NOTHING, np.inf
        world = self.to_world[copy]
        return triangle, float((world[:, :3] @ np.array(hit) + world[:, 3] - at) @ way)

    def near(self, point: Sequence[float], distance_m: float) -> list[int]:
        """As `RayScene`."""
        at, found = np.asarray(point, float), []
        for group in self.group_boxes.within(at, distance_m):
            for member in self.boxes[group].within(at, distance_m):
                copy = int(self.groups[group][member])
                local, world = self.to_local[copy], self.to_world[copy]
                begin = (local[:, :3] @ at + local[:, 3]).tolist()
                reach = distance_m * float(self.reach[copy])
                for hit, _, triangle, _ in self.trees[self.shape[copy]].find_nearest_range(
                    begin, reach
                ):
                    there = world[:, :3] @ np.array(hit) + world[:, 3]
                    if np.linalg.norm(there - at) <= distance_m:
                        found.append(int(self.first[copy]) + triangle)
        return found

    def owner_of(self, triangle: int) -> int:
        """As `RayScene`."""
        return int(self.owner[self._copy_of(triangle)]) if triangle != NOTHING else NOTHING

    def is_transparent(self, triangle: int) -> bool:
        """As `RayScene`."""
        return triangle != NOTHING and self._flag(triangle, "transparent")

    def is_displaced(self, triangle: int) -> bool:
        """As `RayScene`."""
        return triangle != NOTHING and self._flag(triangle, "displaced")

    def is_strand(self, triangle: int) -> bool:
        """As `RayScene`."""
        return triangle != NOTHING and self._shape_of(self._copy_of(triangle)).strand

    def has_displaced(self, owner: int) -> bool:
        """As `RayScene`."""
        used = np.unique(self.shape[self.owner == owner])
        return any(bool(self.shapes[number].displaced.any()) for number in used)

    def _copy_of(self, triangle: int) -> int:
        return int(np.searchsorted(self.first, triangle, side="right")) - 1

    def _shape_of(self, copy: int) -> TriangleShape:
        return self.shapes[int(self.shape[copy])]

    def _flag(self, triangle: int, name: str) -> bool:
        copy = self._copy_of(triangle)
        flags: NDArray[np.bool_] = getattr(self._shape_of(copy), name)
        return bool(flags[triangle - int(self.first[copy])])


def _nearest_first(enters: NDArray[np.float64]) -> Iterator[tuple[int, float]]:
    met = np.flatnonzero(np.isfinite(enters))
    for number in met[np.argsort(enters[met], kind="stable")]:
        yield int(number), float(enters[number])


def placed(read: SceneShapes) -> PlacedOracle:
    """Copies in groups; what is flattened by its matrix is laid out as a geometry of its own."""
    shapes = list(read.shapes)
    copies = [one for one in read.placings if len(shapes[one.shape].triangles)]
    numbers = [one.shape for one in copies]
    to_world = np.array([one.matrix for one in copies]).reshape(-1, 4, 4)
    stretches = np.linalg.svd(to_world[:, :3, :3], compute_uv=False)
    for flat in np.flatnonzero(stretches[:, -1] <= FLAT * stretches[:, 0]).tolist():
        own, matrix = shapes[numbers[flat]], to_world[flat]
        there = own.points @ matrix[:3, :3].T + matrix[:3, 3]
        numbers[flat], to_world[flat] = len(shapes), np.eye(4)
        shapes.append(replace(own, points=there))
    to_local = np.linalg.inv(to_world)
    shape_of = np.array(numbers, np.int64)
    boxes = _boxes([shapes[number] for number in numbers], to_world)
    groups = tuple(_groups((boxes.low + boxes.high) / 2))
    inside = tuple(boxes.some(group) for group in groups)
    sizes = [len(shapes[number].triangles) for number in numbers]
    return PlacedOracle(
        things=read.things,
        trees=tuple(
            BVHTree.FromPolygons(
                shape.points.tolist(), shape.triangles.tolist(), all_triangles=True
            )
            for shape in shapes
        ),
        shapes=tuple(shapes),
        shape=shape_of,
        to_world=to_world[:, :3],
        to_local=to_local[:, :3],
        reach=np.linalg.norm(to_local[:, :3, :3], ord=2, axis=(1, 2)),
        owner=np.array([one.owner for one in copies], np.int64),
        first=np.cumsum([0, *sizes]),
        groups=groups,
        group_boxes=Boxes(
            np.array([one.low.min(axis=0) for one in inside]).reshape(-1, 3),
            np.array([one.high.max(axis=0) for one in inside]).reshape(-1, 3),
        ),
        boxes=inside,
    )


def _tree(shape: TriangleShape) -> BVHTree:
    return BVHTree.FromPolygons(shape.points.tolist(), shape.triangles.tolist(), all_triangles=True)


def _boxes(shapes: Sequence[TriangleShape], to_world: NDArray[np.float64]) -> Boxes:
    """The box of each copy: of its geometry's own box, turned, which is at least as large."""
    own: dict[int, NDArray[np.float64]] = {}
    low, high = np.empty((len(shapes), 3)), np.empty((len(shapes), 3))
    for number, shape in enumerate(shapes):
        if id(shape) not in own:
            ends = np.stack([shape.points.min(axis=0), shape.points.max(axis=0)])
            own[id(shape)] = np.array([(x, y, z) for x in ends[:, 0] for y in ends[:, 1]
                                       for z in ends[:, 2]])  # fmt: skip
        corners = own[id(shape)] @ to_world[number, :3, :3].T + to_world[number, :3, 3]
        low[number], high[number] = corners.min(axis=0), corners.max(axis=0)
    pad = PAD_M + PAD_RELATIVE * np.maximum(np.abs(low), np.abs(high))
    return Boxes(low - pad, high + pad)


def _groups(middles: NDArray[np.float64]) -> Iterator[NDArray[np.int64]]:
    """Indices of neighbours, at most GROUP in each: halves along the longest side, and again."""
    waiting = [np.arange(len(middles))] if len(middles) else []
    while waiting:
        some = waiting.pop()
        if len(some) <= GROUP:
            yield some
            continue
        side = int(np.ptp(middles[some], axis=0).argmax())
        half = len(some) // 2
        order = np.argpartition(middles[some, side], half)
        waiting += [some[order[:half]], some[order[half:]]]
