"""Rays of a `RayScene` against a rendered panorama: which agree, and why others do not.

What differs is put down to a cause that is looked for, never assumed:

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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from panoforge.core.geometry.sphere import pixel_to_direction
from panoforge.core.sample.metadata import SampleMeta
from panoforge.datagen.geometry.rendered_things import RenderedThing
from panoforge.datagen.verify.oracle import RayScene
from panoforge.datagen.verify.scene_shapes import NOTHING

UNKNOWN = -2
EDGE_PX, STRAND_PX = 0.02, 0.5
TIE_M, TIE_RELATIVE = 1e-4, 1e-4
DEPTH_RELATIVE = 2e-3
CAUSES = ("edge", "coplanar", "displaced", "strand", "transparent", "wrong")


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
    flow: dict = field(default_factory=dict)  # `FlowReport` of a frame of a video, as plain data


def judge(
    oracle: RayScene,
    meta: SampleMeta,
    labels: NDArray[np.uint16],
    depth_m: NDArray | None,
    pixels: NDArray[np.int64],
    *,
    displacement: bool,
) -> RayReport:
    """Cast a ray through the centre of each of `pixels` and compare it with `labels`.

    `pixels` are flat indices of `labels` (H, W). `displacement`: whether the render moved surfaces
    by their shaders.
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
        hits = [t for t, _ in beside]
        owners = {oracle.owner_of(t) for t in hits}
        return said in owners and any(oracle.is_strand(t) for t in [*hits, triangle])

    everything = np.arange(len(pixels))
    for number, direction in enumerate(directions(0, 0, everything).tolist()):
        triangle, distance = oracle.cast(origin, direction)
        met = oracle.owner_of(triangle)
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
        beside = {oracle.owner_of(t) for t, _ in around(number)}
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
        """The thing of `id_`.

        Where that is a scatter's id, and thing `met` is a member without an id of its own: `met`.
        """
        if id_ == 0:
            return NOTHING
        if met >= 0 and self.things[met].scatter == self.source.get(id_, ""):
            return UNKNOWN if self.things[met].source in self.shown else met
        return self.thing.get(id_, UNKNOWN)


def _kind(oracle: RayScene, triangle: int, displacement: bool) -> str:
    if triangle == NOTHING:
        return "nothing"
    if displacement and oracle.is_displaced(triangle):
        return "displaced"
    if oracle.is_strand(triangle):
        return "strand"
    return "transparent" if oracle.is_transparent(triangle) else "opaque"


def _near(
    oracle: RayScene, origin: Sequence[float], direction: Sequence[float], distance: float
) -> dict[int, bool]:
    """Things with a surface where the ray ended.

    Thing → whether the shader of a surface there moves it.
    """
    point = [o + d * distance for o, d in zip(origin, direction, strict=True)]
    found: dict[int, bool] = {}
    for triangle in oracle.near(point, max(TIE_M, TIE_RELATIVE * distance)):
        owner = oracle.owner_of(triangle)
        found[owner] = found.get(owner, False) or oracle.is_displaced(triangle)
    return found


def _cause(
    oracle: RayScene,
    triangle: int,
    said: int,
    beside: set[int],
    near: Mapping[int, bool],
    displacement: bool,
) -> str:
    """Why the render said something else at one pixel than the ray did: one of `CAUSES`.

    Args:
        oracle: The scene that the ray went through.
        triangle: Its triangle that the ray met, or NOTHING.
        said: The number of the thing that was rendered there, NOTHING or UNKNOWN.
        beside: Numbers that rays around the pixel met.
        near: Things with a surface where the ray ended → whether its shader moves it.
        displacement: Whether the render moved such surfaces, which the oracle does not.
    """
    if said in near:  # before edges: where two surfaces fight, the rays around meet either
        return "coplanar"
    if said in beside:
        return "edge"
    if displacement and (oracle.has_displaced(said) or oracle.is_displaced(triangle)):
        return "displaced"
    return "transparent" if oracle.is_transparent(triangle) else "wrong"


def _differs(depth_m: float, distance_m: float) -> bool:
    return abs(depth_m - distance_m) > max(2e-3, DEPTH_RELATIVE * distance_m)


def _name(things: Sequence[RenderedThing], number: int) -> str:
    return (
        things[number].name
        if number >= 0
        else {NOTHING: "nothing"}.get(number, "a thing that this scene does not have")
    )
