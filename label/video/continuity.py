"""Motion-continuity refinement: what a blank area is, decided by rules (MCR of Leader360V).

Three cases:

- **border**: the area lies at the left or right border. The teachers are asked again with the
  panorama turned by half, where it is in the middle; what they propose goes on below.
- **existing**: a proposal is an object that is known. Either it is on the frame and the proposal
  completes it, or it was lost and comes back. Then label and colours are the same, and it is near
  enough for the time that has passed.
- **new**: anything else.

The seed asks a language model for each of these. Here overlap, labels, distance and colours decide;
who wants a model's opinion has it in the label, which the checker gives.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from pydantic import Field

from panoforge.core.geometry.sphere import angle_between, lonlat_to_direction
from panoforge.core.models import FrozenModel, Probability
from panoforge.core.types import Floats, Mask
from panoforge.label.video.masks import alike, areas_sr, ious, middle_deg, shared_sr

UNKNOWN = "unknown"
Case = Literal["existing", "new", "covered"]


class ContinuityRules(FrozenModel):
    """When a proposal is a known object, a part of one, or a new one."""

    blank_share: Probability = Field(
        0.3, description="Share of a proposal that must be unlabelled for it to count."
    )
    match_iou: Probability = Field(
        0.5, description="IoU from which it is an object that is on the frame."
    )
    overlap_share: Probability = Field(
        0.3, description="Share of it on an object from which it is a part of that object."
    )
    speed_deg: float = Field(
        8.0, description="How far a lost object may have moved each frame, degrees."
    )
    reach_deg: float = Field(60.0, description="How far in all, degrees.")
    colours: Probability = Field(
        0.5, description="Least share of colours that it has in common with a lost object."
    )


@dataclass(frozen=True)
class Known:
    """An object that has an id.

    Attributes:
        id: Its id.
        label: Its class, or `unknown`.
        mask: bool H×W, on this frame, or where it was seen last.
        colours: as `masks.colours_of` gives them.
        gone: frames since it was seen; 0: it is on this frame.
    """

    id: int
    label: str
    mask: Mask = field(repr=False)
    colours: Floats = field(repr=False)
    gone: int = 0


@dataclass(frozen=True)
class SeenProposal:
    """A proposal: its mask, label and colours."""

    mask: Mask = field(repr=False)
    label: str
    colours: Floats = field(repr=False)


@dataclass(frozen=True)
class Decision:
    """`covered`: nothing is to be done. `id` of an existing object; `returns`: it was lost."""

    case: Case
    id: int | None = None
    returns: bool = False


def decide(
    proposals: Sequence[SeenProposal],
    known: Sequence[Known],
    blank: Mask,
    rules: ContinuityRules,
) -> list[Decision]:
    """What each proposal is; a lost object comes back once at most.

    Args:
        proposals: of this frame, the surest first.
        known: the objects so far.
        blank: bool H×W, what has no label.
        rules: when a proposal is what.
    """
    if not proposals:
        return []
    masks = [one.mask for one in proposals]
    area = np.maximum(areas_sr(masks), 1e-12)
    open_share = shared_sr(masks, [blank])[:, 0] / area
    here = [one for one in known if not one.gone]
    lost = [one for one in known if one.gone]
    same = ious(masks, [one.mask for one in here])
    on = shared_sr(masks, [one.mask for one in here]) / area[:, None]
    found: list[Decision] = []
    for k, one in enumerate(proposals):
        if open_share[k] < rules.blank_share:
            found.append(Decision("covered"))
            continue
        completes = _completed(one, here, same[k], on[k], rules)
        if completes is not None:
            found.append(Decision("existing", completes.id))
            continue
        back = _come_back(one, lost, rules)
        if back is not None:
            lost.remove(back)
            found.append(Decision("existing", back.id, returns=True))
        else:
            found.append(Decision("new"))
    return found


def _completed(
    one: SeenProposal, here: Sequence[Known], same: Floats, on: Floats, rules: ContinuityRules
) -> Known | None:
    """The object on the frame that a proposal is, or is a part of."""
    fits = [
        (float(max(same[k], on[k])), -k)
        for k, other in enumerate(here)
        if compatible(one.label, other.label)
        and (same[k] >= rules.match_iou or on[k] >= rules.overlap_share)
    ]
    return here[-max(fits)[1]] if fits else None


def _come_back(one: SeenProposal, lost: Sequence[Known], rules: ContinuityRules) -> Known | None:
    """The lost object that a proposal is: of those that fit the one most alike in colour."""
    middle = _direction(one.mask)
    fits = []
    for k, other in enumerate(lost):
        reach = min(rules.reach_deg, rules.speed_deg * other.gone)
        away = float(np.degrees(angle_between(middle, _direction(other.mask))))
        shared = alike(one.colours, other.colours)
        if compatible(one.label, other.label) and away <= reach and shared >= rules.colours:
            fits.append((shared, -k))
    return lost[-max(fits)[1]] if fits else None


def compatible(one: str, other: str) -> bool:
    """Whether two labels may be of one thing: they are equal, or one is not known."""
    return one == other or UNKNOWN in (one, other)


def _direction(mask: Mask) -> Floats:
    lon, lat = middle_deg(mask)
    return lonlat_to_direction(np.radians(lon), np.radians(lat))
