"""What a person should look at, the worst first: `revise.json`.

Listed are areas that no label covers, and labels that teachers disagree about or nobody knows. So
are masks that few prompts or teachers agree on, what the checker remarked, and objects for which
there was no room. `severity` orders them; it is a rank, no probability.
"""

from collections.abc import Sequence

import numpy as np

from panoforge.core.geometry.sphere import angle_between, lonlat_to_direction
from panoforge.core.numbers import counted
from panoforge.core.sample.revisions import Revision, Why, worst_first
from panoforge.core.types import Floats
from panoforge.label.video.continuity import UNKNOWN
from panoforge.label.video.masks import areas_sr, middle_deg
from panoforge.label.video.state import LabelledThing, VideoState

WHOLE_SR = 12.566370614359172
SAME_DEG = 15.0  # between the middles of one blank area on two keyframes
UNCOVERED = 0.5  # the severity of the smallest area that counts
SURE = 0.5  # of the prompts agree: below it a mask is to be looked at
FEW = 0.34  # confidence of what one of three teachers sees
BlankSeen = tuple[int, tuple[float, float], float]  # frame, longitude and latitude, steradians


def revisions_of(
    item: str, state: VideoState, number_of: dict[int, int], things: Sequence[LabelledThing]
) -> list[Revision]:
    """What is to be looked at in one video, the worst first.

    Args:
        item: its name.
        state: after labelling.
        number_of: old ids → written ones, as `state.dense` gives them.
        things: the objects that are written.
    """
    found = _blanks(item, state.uncovered)
    for thing in things:
        found += _of_thing(item, thing, number_of[thing.id])
    if state.turned_away:
        why = f"{state.turned_away} proposals had no room: max_objects is {state.max_objects}"
        first = next((c.frame for c in state.changes if c.kind == "over_limit"), 0)
        found.append(Revision(item=item, frame=first, kind="over_limit", severity=0.9, why=why))
    return worst_first(found)


def _blanks(
    item: str, uncovered: Sequence[tuple[int, tuple[float, float], float]]
) -> list[Revision]:
    """Blank areas; one that is at about the same place on several keyframes is one entry."""
    places: list[tuple[Floats, list[BlankSeen]]] = []
    for one in uncovered:
        way = lonlat_to_direction(*np.radians(one[1]))
        near = (own for middle, own in places if np.degrees(angle_between(way, middle)) < SAME_DEG)
        known = next(near, None)
        if known is None:
            places.append((way, [one]))
        else:
            known.append(one)
    return [_uncovered(item, *max(own, key=lambda one: one[2]), len(own)) for _, own in places]


def _uncovered(
    item: str, frame: int, at: tuple[float, float], area: float, keyframes: int
) -> Revision:
    more = f", and on {counted(keyframes - 1, 'other keyframe')}" if keyframes > 1 else ""
    return Revision(
        item=item,
        frame=frame,
        kind="uncovered",
        lon_deg=at[0],
        lat_deg=at[1],
        area_sr=area,
        severity=min(1.0, UNCOVERED + 10 * area / WHOLE_SR),
        why=f"nothing covers {100 * area / WHOLE_SR:.1f} % of the sphere here{more}",
    )


def _of_thing(item: str, thing: LabelledThing, number: int) -> list[Revision]:
    said = sorted({label for _, label in thing.candidates})
    lon, lat = middle_deg(thing.mask)
    area = float(areas_sr([thing.mask])[0])
    faults: list[tuple[Why, float, str]] = []
    if thing.label == UNKNOWN:
        words = f"teachers say {', '.join(said)}" if said else "no teacher has a word for it"
        faults.append(("label", 0.7, f"nobody knows what it is: {words}"))
    elif len(said) > 1:
        words = f"taken is {thing.label} ({thing.how}), teachers say {', '.join(said)}"
        faults.append(("label", 0.55, words))
    if thing.votes < SURE:
        share = f"{thing.votes:.0%} of the shifted prompts agree on its mask"
        faults.append(("confidence", 0.4 + (1 - thing.votes) / 4, share))
    elif thing.confidence < FEW:
        share = f"few teachers see it, or are sure: confidence {thing.confidence:.2f}"
        faults.append(("confidence", 0.3 + 0.2 * (1 - thing.confidence), share))
    if thing.comment:
        faults.append(("comment", 0.5, thing.comment[:500]))
    return [
        Revision(
            item=item,
            frame=thing.last,
            kind=kind,
            id=number,
            label=thing.label,
            lon_deg=lon,
            lat_deg=lat,
            area_sr=area,
            severity=severity,
            why=why,
        )
        for kind, severity, why in faults
    ]
