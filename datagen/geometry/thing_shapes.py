"""The meshes of a scene's things in the world, as its source left it, and boxes among them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import bpy
import numpy as np
from mathutils.bvhtree import BVHTree
from numpy.typing import NDArray

from panoforge.datagen.depsgraph.parts import parts_of
from panoforge.datagen.depsgraph.units import metres_per_unit
from panoforge.datagen.depsgraph.visit import visit_render_depsgraph
from panoforge.datagen.scene.scene import Thing


@dataclass(frozen=True)
class WorldMesh:
    """Triangles in the world, in metres: (V, 3) vertices, (T, 3) indices."""

    points: NDArray[np.float64]
    triangles: NDArray[np.int64]


@dataclass(frozen=True)
class ThingShapes:
    """The meshes of each thing by its place in the scene's things, and the bounds (N, 3) of all.

    NaN for one that no mesh renders of.
    """

    of: dict[int, list[WorldMesh]]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def tree(self, numbers: Iterable[int]) -> BVHTree:
        """A BVH over the triangles of some things."""
        points, faces, offset = [], [], 0
        for number in numbers:
            for shape in self.of[number]:
                points += shape.points.tolist()
                faces += (shape.triangles + offset).tolist()
                offset += len(shape.points)
        return BVHTree.FromPolygons(points, faces, all_triangles=True)

    def near(
        self, low: Sequence[float], high: Sequence[float], margin_m: float, but: set[int]
    ) -> list[int]:
        """The things whose bounds come within a margin of a box seen from above, less `but`."""
        return [
            number
            for number in sorted(self.of)
            if number not in but
            and (self.low[number, :2] <= np.array(high[:2]) + margin_m).all()
            and (self.high[number, :2] >= np.array(low[:2]) - margin_m).all()
        ]


def thing_shapes(things: Sequence[Thing]) -> ThingShapes:
    """Read the meshes of the open scene's things from Blender's render depsgraph."""
    found = visit_render_depsgraph(lambda depsgraph: _read(depsgraph, things))
    bounds = np.full((2, len(things), 3), np.nan)
    for number, shapes in found.items():
        points = np.concatenate([shape.points for shape in shapes])
        bounds[:, number] = points.min(axis=0), points.max(axis=0)
    return ThingShapes(found, bounds[0], bounds[1])


def _read(depsgraph: bpy.types.Depsgraph, things: Sequence[Thing]) -> dict[int, list[WorldMesh]]:
    number_of = {key: number for number, thing in enumerate(things) for key in thing.objects}
    found: dict[int, list[WorldMesh]] = {}
    for part in parts_of(depsgraph):
        if part.kind != "mesh" or part.key.owner not in number_of:
            continue
        mesh, matrix = part.instance.object.data, np.array(part.instance.matrix_world)
        mesh.calc_loop_triangles()
        points = np.empty(len(mesh.vertices) * 3, np.float32)
        mesh.vertices.foreach_get("co", points)
        triangles = np.empty(len(mesh.loop_triangles) * 3, np.int32)
        mesh.loop_triangles.foreach_get("vertices", triangles)
        world = points.reshape(-1, 3).astype(float) @ matrix[:3, :3].T + matrix[:3, 3]
        found.setdefault(number_of[part.key.owner], []).append(
            WorldMesh(world * metres_per_unit(), triangles.reshape(-1, 3).astype(np.int64))
        )
    return found


def box_tree(low: NDArray[np.float64], high: NDArray[np.float64]) -> BVHTree:
    """The faces of a box."""
    corners = [
        (x, y, z) for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])
    ]
    faces = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    return BVHTree.FromPolygons(corners, faces)
