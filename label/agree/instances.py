"""Instances of overlapping views, joined over the whole sphere.

Two segments of two views are one thing where their IoU within the views' overlap is over a
threshold (Leader360V, arXiv 2506.14271, eq. 1). Areas are steradians, weighted by how far the
borders are: seam and poles are like anywhere else. Pairs are joined by union-find, the surest
first; a thing in three views is one thing. What one view tells apart stays apart, so that no chain
of doubtful pairs joins a room. Stuff of one class is one segment, wherever it is.

Then every pixel takes the instance that most of the views' confidence is for. What wins less than a
share of what it claimed, or too small an area, gives way to the next.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from panoforge.core.geometry.sphere import row_area_sr
from panoforge.core.types import SegmentIds, Values
from panoforge.eval.views.frames import Projection
from panoforge.label.agree.votes import Votes
from panoforge.label.settings import JoinSettings
from panoforge.label.teachers.base import Entities, Panoptic, Segment
from panoforge.label.views.landing import Landing, land

UNKNOWN = "unknown"  # the class of what nobody named


@dataclass(frozen=True)
class ViewSegments:
    """What one view says: its frame, and a partition at any resolution."""

    frame: Projection
    said: Panoptic


@dataclass(frozen=True)
class JoinedInstance:
    """One instance of the sphere.

    Attributes:
        id: Its value in the map, from 1.
        class_name: The class that most confidence and area is for; `unknown` where none was named.
        class_share: That class's share of all votes, in [0, 1].
        is_thing: Whether most votes say so.
        votes: Every class's votes: confidence times steradians.
        members: (place of the view, id of its segment), in order.
        confidence: Mean share of the confidence at its pixels that is for it.
        area_sr: Its area, steradians.
    """

    id: int
    class_name: str
    class_share: float
    is_thing: bool
    votes: dict[str, float]
    members: tuple[tuple[int, int], ...]
    confidence: float
    area_sr: float


@dataclass(frozen=True)
class Joined:
    """Instances of the whole sphere.

    Attributes:
        ids: int32 (H, W), 0 for nothing, dense from 1 in order of area, the largest first.
        confidence: float32 (H, W): the share of the views' confidence that is for the pixel's id.
        instances: One for each id.
    """

    ids: SegmentIds
    confidence: Values
    instances: tuple[JoinedInstance, ...]


def as_partition(said: Entities, least_px: int = 1) -> Panoptic:
    """Masks that may overlap → segments that do not, of class `unknown`.

    The surer mask is on top, of two as sure ones the smaller. A mask of which less than half is
    left is what surer ones cover already, and is dropped.
    """
    areas = said.masks.sum(axis=(1, 2))
    ids = np.zeros(said.masks.shape[1:], np.int32)
    for k in np.lexsort((-areas, said.confidence)).tolist():
        ids[said.masks[k]] = k + 1
    left = np.bincount(ids.ravel(), minlength=len(areas) + 1)[1:]
    keep = (2 * left >= areas) & (left >= max(1, least_px))
    ids[~np.concatenate([[True], keep])[ids]] = 0
    segments = tuple(
        Segment(k + 1, UNKNOWN, True, float(said.confidence[k]))
        for k in np.flatnonzero(keep).tolist()
    )
    return Panoptic(ids, segments)


def join(
    views: Sequence[ViewSegments],
    width: int,
    height: int,
    settings: JoinSettings = JoinSettings(),
) -> Joined:
    """The instances of a width×height panorama that its views' segments are parts of.

    Args:
        views: What each view says.
        width: Columns of the panorama.
        height: Its rows, half as many.
        settings: When two segments are one.
    """
    table = _SegmentTable.of(views)
    groups = _grouped(views, table, settings)
    votes = Votes(width * height)
    claimed = np.zeros(int(groups.max(initial=-1)) + 2)
    area = np.repeat(row_area_sr(width, height), width)
    class_votes = np.zeros(len(table.segments))
    for place, view in enumerate(views):
        landing = land(view.frame, width, height)
        segment = table.at(place, landing.nearest(view.said.segment_ids))
        weights = np.append(table.confidence, settings.nothing_weight)[segment] * landing.border
        keys = np.append(groups, -1)[segment] + 1  # key 0: nothing
        votes.add(landing.pixels, keys.astype(np.int32), weights.astype(np.float32))
        here = np.bincount(segment, weights * area[landing.pixels], len(table.segments) + 1)
        class_votes += here[:-1]
        claimed = np.maximum(
            claimed, np.bincount(keys, area[landing.pixels], minlength=len(claimed))
        )
    return _elected(votes, claimed, area, table, groups, class_votes, settings, (height, width))


@dataclass(frozen=True)
class _SegmentTable:
    """All segments of all views in one row: numbers 0 … S−1, and S for none."""

    segments: tuple[tuple[int, Segment], ...]  # (place of the view, segment)
    confidence: NDArray[np.float64]
    ids: tuple[NDArray[np.int64], ...]  # of each view, ascending
    first: tuple[int, ...]  # number of each view's first

    @staticmethod
    def of(views: Sequence[ViewSegments]) -> "_SegmentTable":
        segments: list[tuple[int, Segment]] = []
        ids, first = [], []
        for place, view in enumerate(views):
            own = sorted(view.said.segments, key=lambda segment: segment.id)
            first.append(len(segments))
            ids.append(np.array([segment.id for segment in own], np.int64))
            segments += [(place, segment) for segment in own]
        confidence = np.array([max(s.confidence, 1e-3) for _, s in segments], np.float64)
        return _SegmentTable(tuple(segments), confidence, tuple(ids), tuple(first))

    def at(self, place: int, said: NDArray[np.int32]) -> NDArray[np.int64]:
        """The numbers of the segments that a view says by its own ids."""
        own = self.ids[place]
        if not own.size:
            return np.full(said.shape, len(self.segments))
        index = np.minimum(np.searchsorted(own, said), len(own) - 1)
        return np.where(own[index] == said, index + self.first[place], len(self.segments))


def _grouped(
    views: Sequence[ViewSegments], table: _SegmentTable, settings: JoinSettings
) -> NDArray[np.int64]:
    """The group of each segment, (S,), numbered from 0."""
    sets = _DisjointSets([place for place, _ in table.segments])
    stuff: dict[str, int] = {}
    for number, (_, segment) in enumerate(table.segments):
        if not segment.is_thing:
            sets.join(stuff.setdefault(segment.class_name, number), number, apart=False)
    width = settings.grid_px - settings.grid_px % 2
    landings = [land(view.frame, width, width // 2) for view in views]
    for a, b in _pairs(views, landings, table, width, settings):
        things = table.segments[a][1].is_thing and table.segments[b][1].is_thing
        if things:
            sets.join(a, b, apart=True)
    return np.unique(np.array(sets.roots(), np.int64), return_inverse=True)[1]


def _pairs(
    views: Sequence[ViewSegments],
    landings: Sequence[Landing],
    table: _SegmentTable,
    width: int,
    settings: JoinSettings,
) -> list[tuple[int, int]]:
    """Segments that are one thing in two views, the surest pairs first."""
    cells = width * (width // 2)
    area = np.repeat(row_area_sr(width, width // 2), width)
    said = np.full((len(views), cells), -1, np.int32)
    border = np.zeros((len(views), cells), np.float32)
    for place, (view, landing) in enumerate(zip(views, landings, strict=True)):
        own = table.at(place, landing.nearest(view.said.segment_ids))
        none = own == len(table.segments)
        said[place, landing.pixels] = np.where(none, 0, own - table.first[place] + 1)
        border[place, landing.pixels] = landing.border
    found: list[tuple[float, int, int]] = []
    for i, landing in enumerate(landings):
        at = landing.pixels
        for j in range(i + 1, len(views)):
            both = at[said[j, at] >= 0]
            if both.size:
                weight = area[both] * np.minimum(border[i, both], border[j, both])
                pair = (said[i, both], said[j, both])
                counts = (len(table.ids[i]) + 1, len(table.ids[j]) + 1)
                found += [
                    (sure, table.first[i] + a, table.first[j] + b)
                    for sure, a, b in _alike(pair, counts, weight, settings)
                ]
    return [(a, b) for _, a, b in sorted(found, reverse=True)]


def _alike(
    own: tuple[NDArray[np.int32], NDArray[np.int32]],
    counts: tuple[int, int],
    weight: NDArray[np.float64],
    settings: JoinSettings,
) -> list[tuple[float, int, int]]:
    """(how sure, segment of one, of the other), from 0, of one overlap of two views."""
    flat = own[0].astype(np.int64) * counts[1] + own[1]
    both = np.bincount(flat, weight, counts[0] * counts[1]).reshape(counts)
    union = both.sum(1)[1:, None] + both.sum(0)[None, 1:] - both[1:, 1:]
    with np.errstate(divide="ignore", invalid="ignore"):
        iou = np.where(union > settings.least_evidence_sr, both[1:, 1:] / union, 0)
    rows, columns = np.nonzero(iou > settings.match_iou)
    sure = iou[rows, columns] * both[1:, 1:][rows, columns]
    return list(zip(sure.tolist(), rows.tolist(), columns.tolist(), strict=True))


class _DisjointSets:
    """Union-find whose sets know which views they have a segment of."""

    def __init__(self, views: Sequence[int]) -> None:
        self._parent = list(range(len(views)))
        self._views = [{view} for view in views]

    def root(self, number: int) -> int:
        """The set that a segment is in, halving the path to it."""
        while self._parent[number] != number:
            self._parent[number] = self._parent[self._parent[number]]
            number = self._parent[number]
        return number

    def join(self, a: int, b: int, *, apart: bool) -> None:
        """Make two sets one; not where `apart` and a view tells parts of them apart."""
        a, b = self.root(a), self.root(b)
        if a == b or (apart and self._views[a] & self._views[b]):
            return
        self._parent[b] = a
        self._views[a] |= self._views[b]

    def roots(self) -> list[int]:
        """The set of every segment."""
        return [self.root(number) for number in range(len(self._parent))]


def _elected(
    votes: Votes,
    claimed: NDArray[np.float64],
    area: NDArray[np.float64],
    table: _SegmentTable,
    groups: NDArray[np.int64],
    class_votes: NDArray[np.float64],
    settings: JoinSettings,
    shape: tuple[int, int],
) -> Joined:
    """The instances that win enough of what they claim, by area."""
    keys, _ = votes.winners()
    won = np.bincount(np.maximum(keys, 0), area, minlength=len(claimed))
    lost = (won < settings.least_won * claimed) | (won < settings.least_area_sr)
    lost[0] = False
    keys, weight = votes.winners(lost)
    keys = np.maximum(keys, 0)
    won = np.bincount(keys, area, minlength=len(claimed))
    won[0] = 0
    order = np.argsort(-won, kind="stable")[: np.count_nonzero(won)]
    new = np.zeros(len(won), np.int32)
    new[order] = np.arange(1, len(order) + 1)
    share = weight / np.maximum(votes.given, np.finfo(np.float32).tiny)
    mean = np.bincount(keys, area * share, minlength=len(won)) / np.maximum(won, 1e-30)
    members: dict[int, list[int]] = {}
    for number, group in enumerate(groups.tolist()):
        members.setdefault(group + 1, []).append(number)
    instances = tuple(
        _instance(
            int(new[key]), [(table.segments[n], class_votes[n]) for n in members[key]],
            float(mean[key]), float(won[key]),
        )
        for key in order.tolist()
    )  # fmt: skip
    ids = new[keys].reshape(shape)
    confidence = np.where(ids > 0, share.reshape(shape), 0).astype(np.float32)
    return Joined(ids, confidence, instances)


def _instance(
    id_: int, parts: Sequence[tuple[tuple[int, Segment], float]], confidence: float, area_sr: float
) -> JoinedInstance:
    """What a group's segments make of it; a named class is worth more than none."""
    votes: dict[str, float] = {}
    things = 0.0
    for (_, segment), weight in parts:
        votes[segment.class_name] = votes.get(segment.class_name, 0.0) + float(weight)
        things += float(weight) * (1 if segment.is_thing else -1)
    named = {name: weight for name, weight in votes.items() if name != UNKNOWN} or votes
    best = min(named, key=lambda name: (-named[name], name))
    total = sum(votes.values())
    return JoinedInstance(
        id=id_,
        class_name=best,
        class_share=named[best] / total if total else 0.0,
        is_thing=things >= 0,
        votes=votes,
        members=tuple((place, segment.id) for (place, segment), _ in parts),
        confidence=confidence,
        area_sr=area_sr,
    )
