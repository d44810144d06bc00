"""Rays of two frames' oracles against a frame's flow: whether each place and each state is right.

The oracle knows which triangle a pixel's ray meets, and where on it. The same place on the same
triangle in the other frame is where the point has gone, whoever moved it. So neither depth nor
motion takes part, which the flow is made of. A ray from the other camera towards it says
whether it is seen there: it must meet the same thing at its distance, to a millimetre.

What differs is put down to a cause that is looked for:

    edge        a ray a fiftieth of a pixel beside the point, in either frame, says otherwise
    coplanar    another surface lies within a tenth of a millimetre of the point
    wrong       none of these
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from panoforge.core.geometry.sphere import angle_between, pixel_to_direction
from panoforge.core.sample.flow import HIDDEN, UNKNOWN, VISIBLE, Flow
from panoforge.core.sample.metadata import Pose, SampleMeta
from panoforge.datagen.verify.oracle import Oracle
from panoforge.datagen.verify.ray_judge import EDGE_PX, TIE_M
from panoforge.datagen.verify.scene_shapes import NOTHING

MOST_PX, MOST_M = 0.05, 1e-3
STATES = {VISIBLE: "visible", HIDDEN: "hidden", UNKNOWN: "unknown"}


@dataclass
class FlowReport:
    """What rays said of the flow of one frame.

    - `rays`: samples on opaque surfaces whose thing is the one that was rendered;
    - `agree`: of them, those whose place and state are right;
    - `differ`: the others by cause;
    - `worst_px`: the largest distance of a place from the true one.
    """

    rays: int = 0
    agree: int = 0
    states: Counter[str] = field(default_factory=Counter)
    differ: Counter[str] = field(default_factory=Counter)
    worst_px: float = 0.0
    examples: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Moment:
    """One frame as the judge sees it: the scene of that moment, and where the camera was."""

    oracle: Oracle
    pose: Pose

    @property
    def origin(self) -> tuple[float, float, float]:
        """The camera's position, metres."""
        return self.pose.position_m

    @cached_property
    def number_of(self) -> dict[str, int]:
        """The owner of each thing's triangles by its source: it may differ from frame to frame."""
        return {thing.source: number for number, thing in enumerate(self.oracle.things)}

    @cached_property
    def triangles_of(self) -> dict[int, NDArray[np.int64]]:
        """The triangles of each owner, in their order, which is that of its shape."""
        order = np.argsort(self.oracle.owner, kind="stable")
        owners, first = np.unique(self.oracle.owner[order], return_index=True)
        return dict(zip(owners.tolist(), np.split(order, first[1:]), strict=True))

    def cast(self, direction: NDArray[np.float64]) -> tuple[int, float]:
        """The triangle and the distance that a direction of the world meets."""
        return self.oracle.cast(self.origin, direction.tolist())


def judge_flow(
    here: Moment,
    there: Moment,
    meta: SampleMeta,
    labels: NDArray[np.uint16],
    flow: Flow,
    pixels: NDArray[np.int64],
    deforming: frozenset[str],
    report: FlowReport,
) -> None:
    """Compare the flow of a frame at flat indices `pixels` of `labels` (H, W) with rays.

    `deforming` are the sources of things that change their shape. `report` is added to.
    """
    source_of = {row.id: row.source_object for row in meta.instances}
    rotation = np.array(here.pose.world_from_pano)
    rows, columns = np.divmod(pixels, meta.width)
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        direction = pixel_to_direction(column, row, meta.width, meta.height) @ rotation.T
        triangle, distance = here.cast(direction)
        if triangle == NOTHING or here.oracle.transparent[triangle] or here.oracle.strand[triangle]:
            continue
        owner = int(here.oracle.owner[triangle])
        if owner == NOTHING or not _is(here.oracle, owner, source_of.get(int(labels[row, column]))):
            continue  # an edge, or wrong: the check of ids says which
        report.rays += 1
        state = int(flow.state[row, column])
        report.states[STATES[state]] += 1
        name = here.oracle.things[owner].source
        if name in deforming or state == UNKNOWN:
            right = name in deforming and state == UNKNOWN
            _count(
                report, "" if right else "wrong", f"{name} at ({column}, {row}) is {STATES[state]}"
            )
            continue
        again = _there(here, there, triangle, owner)
        if again is None:
            _count(report, "" if state == HIDDEN else "wrong", f"{name} is not there any more")
            continue
        there_owner, there_triangle = again
        point = _carried(here, there, triangle, there_triangle, direction, distance)
        away = point - np.array(there.pose.position_m)
        u, v = (float(value) for value in flow.displacement_px[row, column])
        said = pixel_to_direction(column + u, row + v, meta.width, meta.height)
        said = said @ np.array(there.pose.world_from_pano).T
        off_px = float(angle_between(said, away)) * meta.width / (2 * np.pi)
        seen = _seen(there, point, there_owner)
        if off_px <= MOST_PX:
            report.worst_px = max(report.worst_px, off_px)
        if off_px <= MOST_PX and seen == (state == VISIBLE):
            _count(report, "", "")
            continue
        owners = (owner, there_owner)
        cause = _cause(here, there, meta, (column, row), point, owners, seen, off_px)
        _count(
            report,
            cause,
            f"{name} at ({column}, {row}): {STATES[state]}, off by {off_px:.3f} px; a ray from the"
            f" other frame {'meets' if seen else 'does not meet'} it at"
            f" {float(np.linalg.norm(away)):.4f} m",
        )


def _count(report: FlowReport, cause: str, what: str) -> None:
    if not cause:
        report.agree += 1
        return
    report.differ[cause] += 1
    if cause == "wrong" and len(report.examples) < 5:
        report.examples.append(what)


def _is(oracle: Oracle, owner: int, source: str | None) -> bool:
    """Whether a label's source is the thing, or the scatter that it is one of."""
    thing = oracle.things[owner]
    return source is not None and source in (thing.source, thing.scatter)


def _there(here: Moment, there: Moment, triangle: int, owner: int) -> tuple[int, int] | None:
    """The owner and the triangle of the other frame that are these; None if they are not there."""
    number = there.number_of.get(here.oracle.things[owner].source)
    if number is None or number not in there.triangles_of:
        return None
    mine, theirs = here.triangles_of[owner], there.triangles_of[number]
    if len(mine) != len(theirs):
        return None
    return number, int(theirs[np.searchsorted(mine, triangle)])


def _carried(
    here: Moment,
    there: Moment,
    triangle: int,
    there_triangle: int,
    direction: NDArray[np.float64],
    distance: float,
) -> NDArray[np.float64]:
    """Where the point that a ray meets is in the other frame: the same place on its triangle."""
    a, b, c = here.oracle.points[here.oracle.triangles[triangle]]
    normal = np.cross(b - a, c - a)
    origin = np.array(here.origin)
    exact = float(np.dot(a - origin, normal) / np.dot(direction, normal))
    point = origin + direction * (exact if abs(exact - distance) < 1e-3 else distance)
    weights, *_ = np.linalg.lstsq(np.stack([b - a, c - a], axis=1), point - a, rcond=None)
    a, b, c = there.oracle.points[there.oracle.triangles[there_triangle]]
    moved: NDArray[np.float64] = a + weights[0] * (b - a) + weights[1] * (c - a)
    return moved


def _seen(frame: Moment, point: NDArray[np.float64], owner: int) -> bool:
    """Whether a ray from the camera towards a point meets its thing there."""
    way = point - np.array(frame.origin)
    length = float(np.linalg.norm(way))
    triangle, distance = frame.cast(way / length)
    if triangle == NOTHING or abs(distance - length) > MOST_M:
        return False
    return int(frame.oracle.owner[triangle]) == owner


def _around(direction: NDArray[np.float64], width: int) -> Iterator[NDArray[np.float64]]:
    """Directions a fiftieth of a pixel around one."""
    helper = np.eye(3)[int(np.abs(direction).argmin())]
    across = np.cross(direction, helper)
    across /= np.linalg.norm(across)
    upward = np.cross(direction, across)
    step = EDGE_PX * 2 * np.pi / width
    for angle in np.arange(8) * np.pi / 4:
        yield direction + step * (np.cos(angle) * across + np.sin(angle) * upward)


def _cause(
    here: Moment,
    there: Moment,
    meta: SampleMeta,
    pixel: tuple[int, int],
    point: NDArray[np.float64],
    owners: tuple[int, int],
    seen: bool,
    off_px: float,
) -> str:
    """Why the flow says otherwise than the rays: one of those above."""
    way = point - np.array(there.origin)
    length = float(np.linalg.norm(way))
    if off_px <= MOST_PX:
        for _, _, triangle, _ in there.oracle.tree.find_nearest_range(tuple(point), TIE_M):
            if int(there.oracle.owner[triangle]) != owners[1]:
                return "coplanar"
        others = [
            _meets(there, other, owners[1], length) for other in _around(way / length, meta.width)
        ]
        if any(other != seen for other in others):
            return "edge"
    column, row = pixel
    direction = pixel_to_direction(column, row, meta.width, meta.height)
    direction = direction @ np.array(here.pose.world_from_pano).T
    met = [here.cast(other) for other in _around(direction, meta.width)]
    around = {int(here.oracle.owner[t]) if t != NOTHING else NOTHING for t, _ in met}
    distances = [distance for _, distance in met]
    if around != {owners[0]} or max(distances) - min(distances) > 0.02 * min(distances):
        return "edge"
    return "wrong"


def _meets(frame: Moment, direction: NDArray[np.float64], owner: int, distance: float) -> bool:
    """Whether a ray meets a thing at about a distance."""
    triangle, met = frame.cast(direction / np.linalg.norm(direction))
    if triangle == NOTHING or int(frame.oracle.owner[triangle]) != owner:
        return False
    return abs(met - distance) <= 0.01 * distance
