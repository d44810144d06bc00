"""The independent judge of rendered ids: rays against the scene as its source made it.

What is read is `panoforge.datagen.verify.scene_shapes`'. Rays come from
`panoforge.core.geometry.sphere`, hits from BVHs of Blender's. What differs from a rendered panorama
is put down to a cause by `panoforge.datagen.verify.ray_judge`.

A `RayScene` is an `Oracle`, whose triangles are laid out in one BVH. Where copies are too many it
is a `PlacedOracle`: one BVH a geometry, and rays turned into the frame of each copy.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from mathutils.bvhtree import BVHTree
from numpy.typing import NDArray

from panoforge.core.errors import DataError
from panoforge.datagen.geometry.rendered_things import RenderedThing
from panoforge.datagen.scene.scene import Scene
from panoforge.datagen.verify.placed_oracle import placed
from panoforge.datagen.verify.scene_shapes import NOTHING, SceneShapes, read_shapes

MAX_FACES = 20_000_000  # laid out they take some 8 GB


class RayScene(Protocol):
    """A scene that rays are cast through. Triangles are numbered; NOTHING is none."""

    @property
    def things(self) -> tuple[RenderedThing, ...]:
        """What owners are indices of."""
        ...

    def cast(self, origin: Sequence[float], direction: Sequence[float]) -> tuple[int, float]:
        """(triangle, distance) of the first hit; (NOTHING, inf) if the ray meets nothing."""
        ...

    def near(self, point: Sequence[float], distance_m: float) -> list[int]:
        """The triangles within a distance of a point."""
        ...

    def owner_of(self, triangle: int) -> int:
        """Whose it is: an index of `things`, or NOTHING for a hole and for no triangle."""
        ...

    def is_transparent(self, triangle: int) -> bool:
        """Whether its material lets light through."""
        ...

    def is_displaced(self, triangle: int) -> bool:
        """Whether its material moves it at render time."""
        ...

    def is_strand(self, triangle: int) -> bool:
        """Whether it stands for hair or points, whose shape is only near to Cycles' own."""
        ...

    def has_displaced(self, owner: int) -> bool:
        """Whether a material moves any triangle of a thing."""
        ...


@dataclass(frozen=True)
class Oracle:
    """All triangles that render, laid out.

    `points` (V, 3) in metres and `triangles` (T, 3) are those of `tree`. `owner` says whose each
    is: an index of `things`, or NOTHING for a hole. The others say what its material does, and
    whether it stands for hair or points.
    """

    tree: BVHTree
    points: NDArray[np.float64]
    triangles: NDArray[np.int64]
    things: tuple[RenderedThing, ...]
    owner: NDArray[np.int32]
    transparent: NDArray[np.bool_]
    displaced: NDArray[np.bool_]
    strand: NDArray[np.bool_]

    def moved(self, points: NDArray[np.float64]) -> "Oracle":
        """The same triangles with their points (V, 3) elsewhere."""
        tree = BVHTree.FromPolygons(points.tolist(), self.triangles.tolist(), all_triangles=True)
        return replace(self, tree=tree, points=points)

    def cast(self, origin: Sequence[float], direction: Sequence[float]) -> tuple[int, float]:
        """As `RayScene`."""
        _, _, triangle, distance = self.tree.ray_cast(origin, direction)
        return (NOTHING, np.inf) if triangle is None else (triangle, distance)

    def near(self, point: Sequence[float], distance_m: float) -> list[int]:
        """As `RayScene`."""
        return [triangle for _, _, triangle, _ in self.tree.find_nearest_range(point, distance_m)]

    def owner_of(self, triangle: int) -> int:
        """As `RayScene`."""
        return int(self.owner[triangle]) if triangle != NOTHING else NOTHING

    def is_transparent(self, triangle: int) -> bool:
        """As `RayScene`."""
        return triangle != NOTHING and bool(self.transparent[triangle])

    def is_displaced(self, triangle: int) -> bool:
        """As `RayScene`."""
        return triangle != NOTHING and bool(self.displaced[triangle])

    def is_strand(self, triangle: int) -> bool:
        """As `RayScene`."""
        return triangle != NOTHING and bool(self.strand[triangle])

    def has_displaced(self, owner: int) -> bool:
        """As `RayScene`."""
        return bool(self.displaced[self.owner == owner].any())


def build_oracle(scene: Scene, glass: frozenset[str] = frozenset()) -> Oracle:
    """Every triangle that renders, laid out. Arguments as of `read_shapes`.

    Raises:
        DataError: The scene has more triangles, copies counted, than can be laid out.
    """
    read = read_shapes(scene, glass)
    if read.triangles > MAX_FACES:
        raise DataError(
            f"the scene has {read.triangles:,} triangles, copies counted, and what moves is checked"
            f" by rays against all of them laid out, at most {MAX_FACES:,}: a video of this scene"
            " cannot be checked by rays"
        )
    return laid_out(read)


def build_ray_scene(scene: Scene, glass: frozenset[str] = frozenset()) -> RayScene:
    """Every triangle that renders, laid out where there is room. Arguments as of `read_shapes`."""
    read = read_shapes(scene, glass)
    return laid_out(read) if read.triangles <= MAX_FACES else placed(read)


def laid_out(read: SceneShapes) -> Oracle:
    """One BVH of all copies."""
    shapes = [read.shapes[one.shape] for one in read.placings]
    corners = [
        shape.points @ one.matrix[:3, :3].T + one.matrix[:3, 3]
        for one, shape in zip(read.placings, shapes, strict=True)
    ]
    offsets = np.cumsum([0, *map(len, corners)])[:-1]
    faces = [shape.triangles + offset for shape, offset in zip(shapes, offsets, strict=True)]
    points = np.concatenate([np.zeros((0, 3)), *corners])
    triangles = np.concatenate([np.zeros((0, 3), np.int64), *faces])
    none = np.zeros(0, bool)
    return Oracle(
        BVHTree.FromPolygons(points.tolist(), triangles.tolist(), all_triangles=True),
        points,
        triangles,
        read.things,
        np.repeat(
            np.array([one.owner for one in read.placings], np.int32),
            [len(shape.triangles) for shape in shapes],
        ),
        np.concatenate([none, *[shape.transparent for shape in shapes]]),
        np.concatenate([none, *[shape.displaced for shape in shapes]]),
        np.concatenate([none, *[shape.strands for shape in shapes]]),
    )
