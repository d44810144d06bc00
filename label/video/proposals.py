"""What several teachers propose on one frame, checked against each other: SDR's first half.

Proposals that are the same thing to several teachers (IoU) are one candidate. Its mask is what most
of them say, its support how many. A candidate that only repeats a part of a better supported one is
dropped, and so is one that joins several of them. What one teacher alone says stands where nobody
contradicts it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from pydantic import Field

from panoforge.core.models import FrozenModel, Probability
from panoforge.core.types import Floats, Mask
from panoforge.label.video.masks import areas_sr, ious, shared_sr, stacked

REFERENCE_PX = 2048 * 1024  # the size that the seed's least area is meant at


@dataclass(frozen=True)
class Proposal:
    """One mask of one teacher: bool H×W, its confidence in [0, 1], and its class if it has one."""

    mask: Mask = field(repr=False)
    teacher: str
    confidence: float
    label: str | None = None
    is_thing: bool = True


@dataclass(frozen=True)
class MaskCandidate:
    """What teachers agree on.

    Attributes:
        mask: bool H×W.
        teachers: who proposed it.
        confidence: the mean of theirs, times the share of the teachers that see it.
        labels: (teacher, label) of each panoptic teacher that has a word for it.
        is_thing: whether most of those that know say so.
    """

    mask: Mask = field(repr=False)
    teachers: tuple[str, ...]
    confidence: float
    labels: tuple[tuple[str, str], ...] = ()
    is_thing: bool = True


class CandidateRules(FrozenModel):
    """Values of A3360V: match IoU 0.5, entity confidence 0.2, 100 pixels at 2048×1024."""

    match_iou: Probability = Field(
        0.5, description="IoU from which proposals of two teachers are one thing."
    )
    least_confidence: Probability = Field(
        0.2, description="Proposals of less confidence are left out."
    )
    least_area_px: float = Field(
        100, description="Smaller ones are left out: pixels of a panorama of 2048×1024."
    )
    contained: Probability = Field(
        0.8, description="Share of a proposal inside a better one that makes it a part of it."
    )


def checked(
    proposals: Sequence[Proposal], teachers: int, rules: CandidateRules
) -> list[MaskCandidate]:
    """The candidates of a frame, the best supported first; their masks do not overlap.

    Args:
        proposals: of all teachers; masks of one size.
        teachers: how many were asked.
        rules: what counts as the same thing, and as too little.
    """
    kept = [one for one in proposals if one.confidence >= rules.least_confidence and one.mask.any()]
    if not kept:
        return []
    found = [_joined([kept[k] for k in group], teachers) for group in _groups(kept, rules)]
    found.sort(key=lambda one: (-len(one.teachers), -one.confidence))
    found = _without_parts(found, rules.contained)
    labels = stacked([one.mask for one in found])
    least = rules.least_area_px * labels.size / REFERENCE_PX
    shown = [replace(one, mask=labels == k) for k, one in enumerate(found, start=1)]
    return [one for one in shown if np.count_nonzero(one.mask) >= max(1.0, least)]


def _groups(proposals: Sequence[Proposal], rules: CandidateRules) -> list[list[int]]:
    """Proposals that are one thing: greedily by IoU, at most one of each teacher in a group."""
    same = ious([one.mask for one in proposals], [one.mask for one in proposals])
    pairs = [
        (float(same[a, b]), a, b)
        for a, b in zip(*np.nonzero(np.triu(same >= rules.match_iou, 1)), strict=True)
        if proposals[a].teacher != proposals[b].teacher
    ]
    of = {k: [k] for k in range(len(proposals))}
    for _, a, b in sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2])):
        one, other = of[a], of[b]
        if one is other:
            continue
        names = [proposals[k].teacher for k in (*one, *other)]
        if len(set(names)) == len(names):
            one.extend(other)
            of |= dict.fromkeys(other, one)
    unique = {id(group): sorted(group) for group in of.values()}
    return sorted(unique.values())


def _joined(group: Sequence[Proposal], teachers: int) -> MaskCandidate:
    """The mask of most: of two the surer one's, else the pixels that over half of them have."""
    masks = [one.mask for one in group]
    if len(group) < 3:
        mask = max(group, key=lambda one: one.confidence).mask
    else:
        mask = np.sum(masks, axis=0, dtype=np.uint16) * 2 > len(masks)
    confidence = float(np.mean([one.confidence for one in group])) * len(group) / max(1, teachers)
    knowing = [one.is_thing for one in group if one.label is not None]
    return MaskCandidate(
        mask,
        tuple(one.teacher for one in group),
        confidence,
        is_thing=sum(knowing) * 2 >= len(knowing),
    )


def _without_parts(found: Sequence[MaskCandidate], contained: float) -> list[MaskCandidate]:
    """Without pieces of better supported candidates, and without those that join several."""
    masks = [one.mask for one in found]
    both, area = shared_sr(masks, masks), areas_sr(masks)
    support = np.array([len(one.teachers) for one in found])
    inside = both / np.maximum(area, 1e-12)[:, None]  # [a, b]: the share of a that lies in b
    better = support[None] > support[:, None]  # [a, b]: b is better supported than a
    is_part = (inside >= contained) & better
    holds = (inside >= contained).T  # [a, b]: most of b lies in a
    joins = _joining(holds, better, both, area, contained)
    return [one for k, one in enumerate(found) if not is_part[k].any() and not joins[k]]


def _joining(holds: Mask, better: Mask, both: Floats, area: Floats, contained: float) -> Mask:
    """Which candidates are little but several better supported ones together, (N,)."""
    parts = holds & better
    covered = np.where(parts, both, 0).sum(axis=1)
    return (parts.sum(axis=1) >= 2) & (covered >= contained * area)


def label_candidates(
    candidates: Sequence[MaskCandidate], named: Sequence[Proposal], least_share: float = 0.5
) -> list[MaskCandidate]:
    """Candidates with what each panoptic teacher calls them: its segment that covers most.

    Args:
        candidates: as `checked` gives them.
        named: the proposals that have a label.
        least_share: of a candidate that a segment must cover to speak.
    """
    if not candidates:
        return []
    both = shared_sr([one.mask for one in candidates], [one.mask for one in named])
    share = both / np.maximum(areas_sr([one.mask for one in candidates]), 1e-12)[:, None]
    found = []
    for k, one in enumerate(candidates):
        said: dict[str, tuple[float, str, bool]] = {}
        for j, segment in enumerate(named):
            best = said.get(segment.teacher, (least_share, "", True))
            if segment.label is not None and share[k, j] >= best[0]:
                said[segment.teacher] = (float(share[k, j]), segment.label, segment.is_thing)
        labels = tuple((teacher, label) for teacher, (_, label, _) in sorted(said.items()))
        things = [is_thing for _, _, is_thing in said.values()]
        is_thing = sum(things) * 2 >= len(things)
        found.append(replace(one, labels=labels, is_thing=is_thing))
    return found
