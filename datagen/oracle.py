"""The independent judge of rendered ids: rays against the scene as its source made it.

It shares no step with the path that made the ids. The scene is generated again (or its file opened
again) and left as it is: nothing is realised, joined, renamed, hidden or given an index. Triangles
come from Blender's evaluated instances, the thing that owns each from the instance's parent, rays
from `panoforge.core.geometry.sphere`, hits from a BVH of Blender's. What differs is put down to a
cause that is looked for, never assumed:

    coplanar     the rendered thing's surface lies within a tenth of a millimetre of the hit
                 (1/10,000 of the distance)
    edge         a ray a fiftieth of a pixel away meets the rendered thing: two single-precision
                 tracers round differently
    displaced    one of the two surfaces is moved by its shader at render time, where no ray outside
                 Cycles can see it
    transparent  the ray met a surface that lets light through, by its material
    wrong        none of these
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import bpy
import numpy as np
from mathutils.bvhtree import BVHTree
from numpy.typing import NDArray

from panoforge.core.geometry.sphere import pixel_to_direction
from panoforge.core.sample.metadata import SampleMeta
from panoforge.datagen.geometry import RENDERABLE
from panoforge.datagen.scene import Thing

NOTHING = -1
EDGE_PX = 0.02
TIE_M, TIE_RELATIVE = 1e-4, 1e-4
DEPTH_RELATIVE = 2e-3
TRANSPARENT = {"BSDF_TRANSPARENT", "BSDF_GLASS", "BSDF_REFRACTION"}
CAUSES = ("edge", "coplanar", "displaced", "transparent", "wrong")


@dataclass(frozen=True)
class Oracle:
    """All triangles that render: whose each is (-1: of nothing that has an id), and what its
    material does.
    """

    tree: BVHTree
    owner: NDArray[np.int32]
    transparent: NDArray[np.bool_]
    displaced: NDArray[np.bool_]

    def cast(self, origin: Sequence[float], direction: Sequence[float]) -> tuple[int, float]:
        """(triangle, distance) of the first hit; (-1, inf) if the ray meets nothing."""
        _, _, triangle, distance = self.tree.ray_cast(origin, direction)
        return (NOTHING, np.inf) if triangle is None else (triangle, distance)


@dataclass
class RayReport:
    """What N rays said of one panorama.

    - `kinds`: how many rays met what;
    - `differ`: disagreements by cause;
    - `ties`: pairs of things that lie in one plane where a ray met them, agreeing or not;
    - `examples`: some of what is wrong.
    """

    key: str
    rays: int = 0
    agree: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    agree_by_kind: Counter[str] = field(default_factory=Counter)
    by_category: dict[str, list[int]] = field(default_factory=dict)  # category → [rays, agreeing]
    differ: Counter[str] = field(default_factory=Counter)
    ties: Counter[str] = field(default_factory=Counter)
    depth_off: int = 0  # agreeing rays whose depth is another, on no edge of the thing itself
    depth_edges: int = 0
    depth_max_error_m: float = 0.0
    examples: list[str] = field(default_factory=list)


def build_oracle(things: Sequence[Thing], glass: frozenset[str] = frozenset()) -> Oracle:
    """Collect every triangle that renders. Materials named in `glass` are left out (the see-through
    policy).
    """
    owner_of = {name: number for number, thing in enumerate(things) for name in thing.objects}
    corners: list[NDArray] = []
    faces: list[NDArray] = []
    parts: dict[str, list[NDArray]] = {"owner": [], "transparent": [], "displaced": []}
    offset = 0
    for instance in bpy.context.evaluated_depsgraph_get().object_instances:
        obj = instance.object
        holder = (
            instance.parent.original if instance.is_instance and instance.parent else obj.original
        )
        if obj.type not in RENDERABLE or holder.name not in owner_of or not instance.show_self:
            continue
        if obj.original.hide_render and not instance.is_instance:
            continue
        points, triangles, materials = _triangles(obj, np.array(instance.matrix_world))
        kept = np.array([name not in glass for name in materials.names] or [True])[materials.of]
        corners.append(points)
        faces.append(triangles[kept] + offset)
        offset += len(points)
        parts["owner"].append(np.full(int(kept.sum()), owner_of[holder.name], np.int32))
        parts["transparent"].append(materials.flags("transparent")[kept])
        parts["displaced"].append(materials.flags("displaced")[kept])
    tree = BVHTree.FromPolygons(
        np.concatenate(corners).tolist(), np.concatenate(faces).tolist(), all_triangles=True
    )
    joined = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    return Oracle(tree, joined["owner"], joined["transparent"], joined["displaced"])


@dataclass(frozen=True)
class _Materials:
    """The materials of a mesh: their names, and which one each triangle has."""

    names: list[str]
    of: NDArray[np.int64]

    def flags(self, what: str) -> NDArray[np.bool_]:
        test = {"transparent": _lets_light_through, "displaced": _moves_surface}[what]
        return np.array([test(name) for name in self.names] or [False])[self.of]


def _triangles(obj: bpy.types.Object, matrix: NDArray) -> tuple[NDArray, NDArray, _Materials]:
    mesh = obj.to_mesh()
    try:
        mesh.calc_loop_triangles()
        points = np.empty(len(mesh.vertices) * 3, np.float32)
        mesh.vertices.foreach_get("co", points)
        triangles = np.empty(len(mesh.loop_triangles) * 3, np.int32)
        mesh.loop_triangles.foreach_get("vertices", triangles)
        slots = np.empty(len(mesh.loop_triangles), np.int32)
        mesh.loop_triangles.foreach_get("material_index", slots)
        names = [slot.material.name if slot.material else "" for slot in obj.material_slots]
        world = points.reshape(-1, 3).astype(np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
        used = np.clip(slots, 0, max(len(names) - 1, 0)).astype(np.int64)
        return world, triangles.reshape(-1, 3).astype(np.int64), _Materials(names, used)
    finally:
        obj.to_mesh_clear()


def _lets_light_through(name: str) -> bool:
    material = bpy.data.materials.get(name)
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


def _moves_surface(name: str) -> bool:
    material = bpy.data.materials.get(name)
    if material is None or not material.use_nodes or material.displacement_method == "BUMP":
        return False
    return any(
        node.type == "OUTPUT_MATERIAL" and node.inputs["Displacement"].is_linked
        for node in material.node_tree.nodes
    )


def judge(
    oracle: Oracle,
    things: Sequence[Thing],
    meta: SampleMeta,
    labels: NDArray[np.uint16],
    depth_m: NDArray | None,
    pixels: NDArray[np.int64],
    *,
    displacement: bool,
) -> RayReport:
    """Cast a ray through the centre of each of `pixels` (flat indices) and compare it with `labels`
    (H, W). `displacement`: whether the render moved surfaces by their shaders.
    """
    report, rotation = RayReport(meta.key), np.array(meta.pose.world_from_pano)
    by_name = {
        row.source_object: number
        for number, thing in enumerate(things)
        for row in meta.instances
        if row.source_object == thing.objects[0]
    }
    rendered_thing = {row.id: by_name.get(row.source_object, -2) for row in meta.instances}
    rows, columns = np.divmod(pixels, meta.width)
    origin = tuple(meta.pose.position_m)

    def directions(du: float, dv: float, at: NDArray) -> NDArray:
        return (
            pixel_to_direction(columns[at] + du, rows[at] + dv, meta.width, meta.height)
            @ rotation.T
        )

    def around(number: int) -> list[tuple[int, float]]:
        at, steps = everything[number : number + 1], (-EDGE_PX, 0.0, EDGE_PX)
        return [
            oracle.cast(origin, directions(du, dv, at)[0].tolist()) for du in steps for dv in steps
        ]

    everything = np.arange(len(pixels))
    for number, direction in enumerate(directions(0, 0, everything).tolist()):
        triangle, distance = oracle.cast(origin, direction)
        met = int(oracle.owner[triangle]) if triangle != NOTHING else NOTHING
        id_ = int(labels[rows[number], columns[number]])
        said = rendered_thing[id_] if id_ else NOTHING
        kind = _kind(oracle, triangle, displacement)
        category = things[met].category if met >= 0 else "nothing"
        report.rays += 1
        report.kinds[kind] += 1
        counted = report.by_category.setdefault(category, [0, 0])
        counted[0] += 1
        near = _near(oracle, origin, direction, distance) if triangle != NOTHING else {}
        for other in sorted(set(near) - {met}):
            report.ties[" / ".join(sorted((things[met].name, things[other].name)))] += 1
        if met == said:
            report.agree += 1
            report.agree_by_kind[kind] += 1
            counted[1] += 1
            if depth_m is not None and np.isfinite(distance):
                shown = float(depth_m[rows[number], columns[number]])
                if _differs(
                    shown, distance
                ):  # an outline of the thing before itself is an edge too
                    beside_m = [hit[1] for hit in around(number)]
                    report.depth_edges += not all(_differs(shown, other) for other in beside_m)
                    report.depth_off += all(_differs(shown, other) for other in beside_m)
                else:
                    report.depth_max_error_m = max(report.depth_max_error_m, abs(shown - distance))
            continue
        beside = {int(oracle.owner[t]) if t != NOTHING else NOTHING for t, _ in around(number)}
        cause = _cause(oracle, triangle, said, beside, near, displacement)
        report.differ[cause] += 1
        if cause == "wrong" and len(report.examples) < 5:
            report.examples.append(
                f"pixel ({columns[number]}, {rows[number]}): rendered {_name(things, said)}, a ray"
                f" meets {_name(things, met)} at {distance:.4f} m"
            )
    return report


def _kind(oracle: Oracle, triangle: int, displacement: bool) -> str:
    if triangle == NOTHING:
        return "nothing"
    if displacement and oracle.displaced[triangle]:
        return "displaced"
    return "transparent" if oracle.transparent[triangle] else "opaque"


def _near(
    oracle: Oracle, origin: Sequence[float], direction: Sequence[float], distance: float
) -> dict[int, bool]:
    """Things with a surface where the ray ended: thing → whether the shader of a surface there
    moves it.
    """
    point = [o + d * distance for o, d in zip(origin, direction, strict=True)]
    found: dict[int, bool] = {}
    for _, _, triangle, _ in oracle.tree.find_nearest_range(
        point, max(TIE_M, TIE_RELATIVE * distance)
    ):
        owner = int(oracle.owner[triangle])
        found[owner] = found.get(owner, False) or bool(oracle.displaced[triangle])
    return found


def _cause(
    oracle: Oracle,
    triangle: int,
    said: int,
    beside: set[int],
    near: Mapping[int, bool],
    displacement: bool,
) -> str:
    if said in near:  # before edges: where two surfaces fight, the rays around meet either
        return "coplanar"
    if said in beside:
        return "edge"
    moved = displacement and (
        oracle.displaced[oracle.owner == said].any()
        or (triangle != NOTHING and oracle.displaced[triangle])
    )
    if moved:
        return "displaced"
    return "transparent" if triangle != NOTHING and oracle.transparent[triangle] else "wrong"


def _differs(depth_m: float, distance_m: float) -> bool:
    return abs(depth_m - distance_m) > max(2e-3, DEPTH_RELATIVE * distance_m)


def _name(things: Sequence[Thing], number: int) -> str:
    return (
        things[number].name
        if number >= 0
        else {NOTHING: "nothing"}.get(number, "a thing that this scene does not have")
    )
