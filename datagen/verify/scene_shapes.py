"""What a judge of ids reads of a scene: each geometry once, and where copies of it are placed.

It shares no step with the path that makes ids but Blender's own answer to what renders, and the
names of things. Triangles are those of evaluated instances of Blender's render depsgraph. Nothing
is realised, joined, renamed, hidden or given an index.
"""

from collections.abc import Callable
from dataclasses import dataclass

import bpy
import numpy as np
from numpy.typing import NDArray

from panoforge.datagen.depsgraph.datablocks import key_of
from panoforge.datagen.depsgraph.instance_keys import PartKey, instance_keys
from panoforge.datagen.depsgraph.parts import ScenePart, parts_of
from panoforge.datagen.depsgraph.strands import (
    balls,
    particle_strands,
    read_curves,
    read_points,
    tubes,
)
from panoforge.datagen.depsgraph.units import metres_per_unit
from panoforge.datagen.depsgraph.visit import visit_render_depsgraph
from panoforge.datagen.geometry.materials import is_volume_only
from panoforge.datagen.geometry.rendered_things import RenderedThing, thing_table
from panoforge.datagen.scene.scene import Scene

NOTHING = -1
STRAND_SIDES = 12
TRANSPARENT = {"BSDF_TRANSPARENT", "BSDF_GLASS", "BSDF_REFRACTION", "HOLDOUT"}


@dataclass(frozen=True)
class TriangleShape:
    """Triangles (T, 3) of points (V, 3) in object space, and what their materials do.

    `strand`: it stands for hair or points, whose shape is only near to Cycles' own.
    """

    points: NDArray[np.float64]
    triangles: NDArray[np.int64]
    transparent: NDArray[np.bool_]
    displaced: NDArray[np.bool_]
    strand: bool

    @property
    def strands(self) -> NDArray[np.bool_]:
        """`strand` of each triangle."""
        return np.full(len(self.triangles), self.strand)


@dataclass(frozen=True)
class Placing:
    """One copy of `shape` (an index): `matrix` 4×4 takes its points to the world, in metres.

    `owner` is an index of the scene's things, or NOTHING for a hole, which renders as nothing.
    """

    shape: int
    matrix: NDArray[np.float64]
    owner: int


@dataclass(frozen=True)
class SceneShapes:
    """All that a camera's ray can meet."""

    shapes: tuple[TriangleShape, ...]
    placings: tuple[Placing, ...]
    things: tuple[RenderedThing, ...]

    @property
    def triangles(self) -> int:
        """How many there are, every copy for itself."""
        return sum(len(self.shapes[one.shape].triangles) for one in self.placings)


def read_shapes(scene: Scene, glass: frozenset[str] = frozenset()) -> SceneShapes:
    """Read the open scene, which must be as its source left it.

    Materials with keys in `glass` are left out (the see-through policy).
    """
    shapes, found = visit_render_depsgraph(lambda depsgraph: _collect(depsgraph, glass))
    keys = instance_keys([part.key for part in found])
    table = thing_table(scene, keys)
    placings = [
        Placing(part.shape, part.matrix, NOTHING if part.holdout else table.number[key] - 1)
        for key, part in zip(keys, found, strict=True)
        if key in table.number
    ]
    return SceneShapes(tuple(shapes), tuple(placings), table.things)


@dataclass(frozen=True)
class _PlacedPart:
    key: PartKey
    shape: int
    matrix: NDArray[np.float64]
    holdout: bool


def _collect(
    depsgraph: bpy.types.Depsgraph, glass: frozenset[str]
) -> tuple[list[TriangleShape], list[_PlacedPart]]:
    shapes: list[TriangleShape] = []
    known: dict[tuple[int, tuple[str | None, ...]], int] = {}
    found = []
    to_metres = np.diag([metres_per_unit()] * 3 + [1.0])
    for part in parts_of(depsgraph):
        if part.kind in ("light", "volume") or not part.visible_to_camera:
            continue
        slots = [slot.material for slot in part.instance.object.material_slots]
        materials = [material.original if material else None for material in slots]
        # Copies of one mesh may differ by the materials of their objects.
        same = (part.key.data, tuple(key_of(one) if one else None for one in materials))
        number = known.get(same) if part.kind == "mesh" else None
        if number is None:
            number = len(shapes)
            shapes.append(_shape(part, materials, glass))
        if part.kind == "mesh":  # its particle hair has the same data
            known[same] = number
        matrix = to_metres @ np.array(part.instance.matrix_world)
        found.append(_PlacedPart(part.key, number, matrix, part.is_holdout))
    return shapes, found


def _shape(
    part: ScenePart, materials: list[bpy.types.Material | None], glass: frozenset[str]
) -> TriangleShape:
    points, triangles, slots = _local(part)
    of = np.clip(slots, 0, max(len(materials) - 1, 0))

    def flags(test: Callable[[bpy.types.Material | None], bool]) -> NDArray[np.bool_]:
        return np.array([test(material) for material in materials] or [False])[of]

    kept = ~flags(lambda one: is_volume_only(one) or (one is not None and key_of(one) in glass))
    return TriangleShape(
        points,
        triangles[kept],
        flags(_lets_light_through)[kept],
        flags(_moves_surface)[kept],
        part.kind != "mesh",
    )


def _local(part: ScenePart) -> tuple[NDArray, NDArray, NDArray]:
    """Vertices, triangles and the material slot of each, in object space, of evaluated data."""
    obj = part.instance.object
    if part.kind == "mesh":
        mesh = obj.data
        mesh.calc_loop_triangles()
        points = np.empty(len(mesh.vertices) * 3, np.float32)
        mesh.vertices.foreach_get("co", points)
        triangles = np.empty(len(mesh.loop_triangles) * 3, np.int32)
        mesh.loop_triangles.foreach_get("vertices", triangles)
        slots = np.empty(len(mesh.loop_triangles), np.int32)
        mesh.loop_triangles.foreach_get("material_index", slots)
        return points.reshape(-1, 3).astype(float), triangles.reshape(-1, 3).astype(int), slots
    if part.kind == "points":
        vertices, faces = balls(*read_points(obj.data), subdivisions=4)
    elif part.kind == "curves":
        vertices, faces = tubes(read_curves(obj.data), STRAND_SIDES)
    else:
        hairy = part.instance.instance_object if part.key.ids else obj
        strands = particle_strands(hairy)
        if strands is None:
            return np.zeros((0, 3)), np.zeros((0, 3), int), np.zeros(0, int)
        vertices, faces = tubes(strands, STRAND_SIDES)
    return vertices, faces, np.zeros(len(faces), int)


def _lets_light_through(material: bpy.types.Material | None) -> bool:
    if material is None or not material.use_nodes:
        return False
    for node in material.node_tree.nodes:
        if node.type in TRANSPARENT:
            return True
        if node.type == "BSDF_PRINCIPLED":
            alpha, through = node.inputs["Alpha"], node.inputs["Transmission Weight"]
            if (
                alpha.is_linked
                or alpha.default_value < 1
                or through.is_linked
                or through.default_value > 0
            ):
                return True
    return False


def _moves_surface(material: bpy.types.Material | None) -> bool:
    if material is None or not material.use_nodes or material.displacement_method == "BUMP":
        return False
    return any(
        node.type == "OUTPUT_MATERIAL" and node.inputs["Displacement"].is_linked
        for node in material.node_tree.nodes
    )
