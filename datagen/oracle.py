"""The independent judge of rendered ids: rays against the scene as its source made it.

It shares no step with the path that made the ids but Blender's own answer to what renders, and the
names of things. The scene is generated again (or its file opened again) and left as it is: nothing
is realised, joined, renamed, hidden or given an index. Triangles come from the evaluated instances
of Blender's render depsgraph, the thing that owns each from the instance's parent. Rays come from
`panoforge.core.geometry.sphere`, hits from a BVH of Blender's. What differs is put down to a cause
that is looked for, never assumed:

    coplanar     the rendered thing's surface lies within a tenth of a millimetre of the hit
                 (1/10,000 of the distance)
    edge         a ray a fiftieth of a pixel away meets the rendered thing: two single-precision
                 tracers round differently
    displaced    one of the two surfaces is moved by its shader at render time, where no ray outside
                 Cycles can see it
    strand       one of the two is hair or a point, whose outline is only near to Cycles' own, and a
                 ray half a pixel away meets the rendered thing
    transparent  the ray met a surface that lets light through, by its material
    wrong        none of these
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import bpy
import numpy as np
from mathutils.bvhtree import BVHTree
from numpy.typing import NDArray

from panoforge.core.geometry.sphere import pixel_to_direction
from panoforge.core.sample.metadata import SampleMeta
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
from panoforge.datagen.materials import is_volume_only
from panoforge.datagen.rendered_things import RenderedThing, thing_table
from panoforge.datagen.scene import Scene

NOTHING, UNKNOWN = -1, -2
STRAND_SIDES = 12
EDGE_PX, STRAND_PX = 0.02, 0.5
TIE_M, TIE_RELATIVE = 1e-4, 1e-4
DEPTH_RELATIVE = 2e-3
TRANSPARENT = {"BSDF_TRANSPARENT", "BSDF_GLASS", "BSDF_REFRACTION", "HOLDOUT"}
CAUSES = ("edge", "coplanar", "displaced", "strand", "transparent", "wrong")


@dataclass(frozen=True)
class Oracle:
    """All triangles that render. `owner` says whose each is: an index of `things`, or -1 for a
    hole, which renders as nothing. The others say what its material does, and whether it stands for
    hair or points, whose shape is only near to Cycles' own.
    """

    tree: BVHTree
    things: tuple[RenderedThing, ...]
    owner: NDArray[np.int32]
    transparent: NDArray[np.bool_]
    displaced: NDArray[np.bool_]
    strand: NDArray[np.bool_]

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


def build_oracle(scene: Scene, glass: frozenset[str] = frozenset()) -> Oracle:
    """Collect every triangle that renders. Materials with keys in `glass` are left out (the
    see-through policy). The scene must be as its source left it.
    """
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

    def per_triangle(of: Callable[[_Shape], NDArray]) -> NDArray:
        return np.concatenate([np.zeros(0, bool), *[of(shape) for _, shape in shapes]])

    owners = [np.full(len(shape.triangles), owner, np.int32) for owner, shape in shapes]
    tree = BVHTree.FromPolygons(
        np.concatenate([np.zeros((0, 3)), *corners]).tolist(),
        np.concatenate([np.zeros((0, 3), int), *faces]).tolist(),
        all_triangles=True,
    )
    return Oracle(
        tree,
        table.things,
        np.concatenate([np.zeros(0, np.int32), *owners]),
        per_triangle(lambda shape: shape.transparent),
        per_triangle(lambda shape: shape.displaced),
        per_triangle(lambda shape: np.full(len(shape.triangles), shape.strand)),
    )


@dataclass(frozen=True)
class _Shape:
    """Triangles of one part of the scene, in metres, and what their materials do."""

    points: NDArray[np.float64]
    triangles: NDArray[np.int64]
    transparent: NDArray[np.bool_]
    displaced: NDArray[np.bool_]
    strand: bool
    holdout: bool


def _collect(depsgraph: bpy.types.Depsgraph, glass: frozenset[str]) -> list[tuple[PartKey, _Shape]]:
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
                _Shape(
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


def judge(
    oracle: Oracle,
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
    things, table = oracle.things, _LabelTable(oracle.things, meta)
    rows, columns = np.divmod(pixels, meta.width)
    origin = tuple(meta.pose.position_m)

    def directions(du: float, dv: float, at: NDArray) -> NDArray:
        return (
            pixel_to_direction(columns[at] + du, rows[at] + dv, meta.width, meta.height)
            @ rotation.T
        )

    def around(number: int, px: float = EDGE_PX) -> list[tuple[int, float]]:
        at, steps = everything[number : number + 1], (-px, 0.0, px)
        return [
            oracle.cast(origin, directions(du, dv, at)[0].tolist()) for du in steps for dv in steps
        ]

    def is_strand(triangle: int, beside: list[tuple[int, float]], said: int) -> bool:
        """Whether hair is met here or beside, and what was rendered is met beside."""
        hits = [t for t, _ in beside if t != NOTHING]
        owners = {int(oracle.owner[t]) for t in hits} | (
            {NOTHING} if len(hits) < len(beside) else set()
        )
        return said in owners and any(oracle.strand[t] for t in [*hits, triangle] if t != NOTHING)

    everything = np.arange(len(pixels))
    for number, direction in enumerate(directions(0, 0, everything).tolist()):
        triangle, distance = oracle.cast(origin, direction)
        met = int(oracle.owner[triangle]) if triangle != NOTHING else NOTHING
        id_ = int(labels[rows[number], columns[number]])
        said = table.thing_of(id_, met)
        kind = _kind(oracle, triangle, displacement)
        category = things[met].category if met >= 0 else "nothing"
        report.rays += 1
        report.kinds[kind] += 1
        counted = report.by_category.setdefault(category, [0, 0])
        counted[0] += 1
        near = _near(oracle, origin, direction, distance) if triangle != NOTHING else {}
        for other in sorted(set(near) - {met, NOTHING}) if met != NOTHING else ():
            report.ties[" / ".join(sorted((things[met].name, things[other].name)))] += 1
        if met == said:
            report.agree += 1
            report.agree_by_kind[kind] += 1
            counted[1] += 1
            if depth_m is not None and met != NOTHING and kind != "strand":
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
        if (
            said == UNKNOWN
        ):  # which member of a scatter was rendered is not known: one beside will do
            said = next((other for other in beside if table.thing_of(id_, other) == other), said)
        cause = _cause(oracle, triangle, said, beside, near, displacement)
        if cause == "wrong" and is_strand(triangle, around(number, STRAND_PX), said):
            cause = "strand"
        report.differ[cause] += 1
        if cause == "wrong" and len(report.examples) < 5:
            report.examples.append(
                f"pixel ({columns[number]}, {rows[number]}): rendered {_name(things, said)}, a ray"
                f" meets {_name(things, met)} at {distance:.4f} m"
            )
    return report


class _LabelTable:
    """What the ids of a panorama stand for, in terms of the things of its scene."""

    def __init__(self, things: Sequence[RenderedThing], meta: SampleMeta):
        self.things = things
        number_of = {thing.source: number for number, thing in enumerate(things)}
        self.thing = {row.id: number_of.get(row.source_object, UNKNOWN) for row in meta.instances}
        self.source = {row.id: row.source_object for row in meta.instances}
        self.shown = set(self.source.values())

    def thing_of(self, id_: int, met: int) -> int:
        """The thing of `id_`; where that is a scatter's id, and thing `met` is a member without an
        id of its own: `met`.
        """
        if id_ == 0:
            return NOTHING
        if met >= 0 and self.things[met].scatter == self.source.get(id_, ""):
            return UNKNOWN if self.things[met].source in self.shown else met
        return self.thing.get(id_, UNKNOWN)


def _kind(oracle: Oracle, triangle: int, displacement: bool) -> str:
    if triangle == NOTHING:
        return "nothing"
    if displacement and oracle.displaced[triangle]:
        return "displaced"
    if oracle.strand[triangle]:
        return "strand"
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


def _name(things: Sequence[RenderedThing], number: int) -> str:
    return (
        things[number].name
        if number >= 0
        else {NOTHING: "nothing"}.get(number, "a thing that this scene does not have")
    )
