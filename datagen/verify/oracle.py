"""The independent judge of rendered ids: rays against the scene as its source made it.

It shares no step with the path that made the ids but Blender's own answer to what renders, and the
names of things. The scene is generated again (or its file opened again) and left as it is: nothing
is realised, joined, renamed, hidden or given an index. Triangles come from the evaluated instances
of Blender's render depsgraph, the thing that owns each from the instance's parent. Rays come from
`panoforge.core.geometry.sphere`, hits from a BVH of Blender's. What differs from a rendered
panorama is put down to a cause by `panoforge.datagen.verify.ray_judge`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import bpy
import numpy as np
from mathutils.bvhtree import BVHTree
from numpy.typing import NDArray

from panoforge.core.errors import DataError
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
MAX_FACES = 60_000_000  # laid out they take some 25 GB
STRAND_SIDES = 12
TRANSPARENT = {"BSDF_TRANSPARENT", "BSDF_GLASS", "BSDF_REFRACTION", "HOLDOUT"}


@dataclass(frozen=True)
class Oracle:
    """All triangles that render.

    `points` (V, 3) in metres and `triangles` (T, 3) are those of `tree`. `owner` says whose each
    is: an index of `things`, or NOTHING for a hole, which renders as nothing. The others say what
    its material does, and whether it stands for hair or points, whose shape is only near to Cycles'
    own.
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
        """(triangle, distance) of the first hit; (NOTHING, inf) if the ray meets nothing."""
        _, _, triangle, distance = self.tree.ray_cast(origin, direction)
        return (NOTHING, np.inf) if triangle is None else (triangle, distance)


def build_oracle(scene: Scene, glass: frozenset[str] = frozenset()) -> Oracle:
    """Collect every triangle that renders.

    Materials with keys in `glass` are left out (the see-through policy). The scene must be as its
    source left it.

    Raises:
        DataError: It has more faces, copies counted, than can be laid out.
    """
    if (faces_there := visit_render_depsgraph(_count_faces)) > MAX_FACES:
        raise DataError(
            f"the scene has {faces_there:,} faces, copies counted, and rays are checked against all"
            f" of them laid out, at most {MAX_FACES:,}: this scene cannot be checked by rays"
        )
    found = visit_render_depsgraph(lambda depsgraph: _collect(depsgraph, glass))
    keys = instance_keys([key for key, _ in found])
    table = thing_table(scene, keys)
    shapes = [
        (NOTHING if shape.holdout else table.number[key] - 1, shape)
        for key, (_, shape) in zip(keys, found, strict=True)
        if key in table.number
    ]
    corners = [shape.points for _, shape in shapes]
    offsets = np.cumsum([0, *map(len, corners)])
    faces = [
        shape.triangles + offset for (_, shape), offset in zip(shapes, offsets[:-1], strict=True)
    ]

    def per_triangle(of: Callable[[_ObjectShape], NDArray]) -> NDArray:
        return np.concatenate([np.zeros(0, bool), *[of(shape) for _, shape in shapes]])

    owners = [np.full(len(shape.triangles), owner, np.int32) for owner, shape in shapes]
    points = np.concatenate([np.zeros((0, 3)), *corners])
    triangles = np.concatenate([np.zeros((0, 3), np.int64), *faces])
    return Oracle(
        BVHTree.FromPolygons(points.tolist(), triangles.tolist(), all_triangles=True),
        points,
        triangles,
        table.things,
        np.concatenate([np.zeros(0, np.int32), *owners]),
        per_triangle(lambda shape: shape.transparent),
        per_triangle(lambda shape: shape.displaced),
        per_triangle(lambda shape: np.full(len(shape.triangles), shape.strand)),
    )


def _count_faces(depsgraph: bpy.types.Depsgraph) -> int:
    """Faces of all that renders, every copy for itself."""
    return sum(
        len(part.instance.object.data.polygons)
        for part in parts_of(depsgraph)
        if part.kind == "mesh" and part.visible_to_camera
    )


@dataclass(frozen=True)
class _ObjectShape:
    """Triangles of one part of the scene, in metres, and what their materials do."""

    points: NDArray[np.float64]
    triangles: NDArray[np.int64]
    transparent: NDArray[np.bool_]
    displaced: NDArray[np.bool_]
    strand: bool
    holdout: bool


def _collect(
    depsgraph: bpy.types.Depsgraph, glass: frozenset[str]
) -> list[tuple[PartKey, _ObjectShape]]:
    found = []
    for part in parts_of(depsgraph):
        if part.kind in ("light", "volume") or not part.visible_to_camera:
            continue
        obj = part.instance.object
        points, triangles, slots = _local(part)
        matrix = np.array(part.instance.matrix_world)
        world = (points @ matrix[:3, :3].T + matrix[:3, 3]) * metres_per_unit()
        slots_of = [slot.material for slot in obj.material_slots]
        materials = [material.original if material else None for material in slots_of]
        of = np.clip(slots, 0, max(len(materials) - 1, 0))

        def flags(
            test: Callable[[bpy.types.Material | None], bool],
            materials: list = materials,
            of: NDArray = of,
        ) -> NDArray[np.bool_]:
            return np.array([test(material) for material in materials] or [False])[of]

        kept = ~flags(lambda one: is_volume_only(one) or (one is not None and key_of(one) in glass))
        found.append(
            (
                part.key,
                _ObjectShape(
                    world,
                    triangles[kept],
                    flags(_lets_light_through)[kept],
                    flags(_moves_surface)[kept],
                    part.kind != "mesh",
                    part.is_holdout,
                ),
            )
        )
    return found


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
