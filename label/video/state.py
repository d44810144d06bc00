"""The objects of one video while it is labelled: ids, labels, masks, and what changed.

Label maps wait in memory as they are stored, some kilobytes a frame.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from panoforge.core.models import FrozenModel
from panoforge.core.sample.products import decode_product, encode_product
from panoforge.core.types import Floats, Labels, Mask, Rgb
from panoforge.label.video.continuity import UNKNOWN, Known
from panoforge.label.video.masks import colours_of, ids_in, stacked

SUFFIX = "instance.zst"
Phase = Literal["initial", "refine", "finish"]
ChangeKind = Literal[
    "begun",  # found in the initial phase
    "refined",  # an answer of the model took the place of the teachers' mask
    "kept",  # no answer fitted: the teachers' mask stands
    "border",  # teachers were asked again with the panorama turned by half
    "completed",  # a blank area was a part of an object
    "returned",  # an object that was lost has come back under its id
    "new",  # an object that was not seen before
    "corrected",  # teachers agreed on another mask than the one that was carried along
    "backfilled",  # a new object on frames before the one where it was found
    "merged",  # two ids were one object
    "over_limit",  # there was no room for another object
]


class LabelChange(FrozenModel):
    """What was done to an object, on which frame (of the video, from 0) and in which phase."""

    phase: Phase
    kind: ChangeKind
    frame: int
    id: int | None = None


@dataclass
class LabelledThing:
    """An object: what it is called and how that is known, and where it was seen last."""

    id: int
    label: str
    how: str  # where the label comes from
    confidence: float
    mask: Mask = field(repr=False)
    colours: Floats = field(repr=False)
    last: int
    votes: float = 1.0  # the share of the shifted prompts that agreed
    teachers: tuple[str, ...] = ()
    candidates: tuple[tuple[str, str], ...] = ()  # what each panoptic teacher called it
    comment: str = ""
    is_thing: bool = True


@dataclass
class VideoState:
    """All of a video. Ids count from 1.

    `coverage` by keyframe; `uncovered` are blank areas that stayed: frame, longitude and latitude
    in degrees, steradians. `turned_away` objects had no room. `ended` says why a video ends early.
    """

    shape: tuple[int, int]
    max_objects: int
    things: dict[int, LabelledThing] = field(default_factory=dict)
    frames: dict[int, bytes] = field(default_factory=dict, repr=False)
    changes: list[LabelChange] = field(default_factory=list)
    coverage: dict[int, float] = field(default_factory=dict)
    uncovered: list[tuple[int, tuple[float, float], float]] = field(default_factory=list)
    turned_away: int = 0
    ended: str = ""

    def add(self, thing: LabelledThing) -> bool:
        """Take an object in under the next id; False where there is no room for another."""
        if len(self.things) >= self.max_objects:
            self.turned_away += 1
            return False
        thing.id = max(self.things, default=0) + 1
        self.things[thing.id] = thing
        return True

    def note(self, phase: Phase, kind: ChangeKind, frame: int, id_: int | None = None) -> None:
        """Remember what was done."""
        self.changes.append(LabelChange(phase=phase, kind=kind, frame=frame, id=id_))

    def put(self, number: int, masks: Mapping[int, Mask], rgb: Rgb) -> Labels:
        """Lay masks onto a frame, the smaller on top; objects are seen where they show."""
        labels = np.zeros(self.shape, np.uint16)
        if masks:
            table = np.array([0, *masks], np.uint16)
            labels = table[stacked(list(masks.values()))]
        self.write(number, labels)
        for id_ in ids_in(labels):
            thing = self.things[id_]
            thing.mask, thing.last = labels == id_, number
            thing.colours = colours_of(rgb, thing.mask)
        return labels

    def write(self, number: int, labels: Labels) -> None:
        """Keep a frame's label map."""
        self.frames[number] = encode_product(SUFFIX, labels)

    def read(self, number: int) -> Labels:
        """A frame's label map, uint16 H×W."""
        return np.asarray(decode_product(SUFFIX, self.frames[number]))

    def masks(self, number: int) -> dict[int, Mask]:
        """The masks that a frame shows, by id."""
        labels = self.read(number)
        return {id_: labels == id_ for id_ in ids_in(labels)}

    def known(self, number: int) -> list[Known]:
        """The objects as `continuity.decide` takes them on frame `number`."""
        return [
            Known(thing.id, thing.label, thing.mask, thing.colours, number - thing.last)
            for thing in self.things.values()
        ]

    def merge(self, kept: int, gone: int) -> None:
        """Two ids are one object: the frames of one go to the other."""
        for number in self.frames:
            labels = self.read(number)
            if (labels == gone).any():
                self.write(number, np.where(labels == gone, np.uint16(kept), labels))
        one, other = self.things[kept], self.things.pop(gone)
        if other.last >= one.last:
            one.mask, one.colours, one.last = other.mask, other.colours, other.last
        if one.label == UNKNOWN:
            one.label, one.how = other.label, other.how

    def counted(self) -> Mapping[str, int]:
        """How often each kind of change was made."""
        return Counter(change.kind for change in self.changes)


def dense(state: VideoState) -> tuple[dict[int, int], Sequence[LabelledThing]]:
    """New ids without gaps, from 1 in the order of old ones, of the objects that any frame shows.

    Returns:
        Old id → new id, and the objects in the order of their new ids.
    """
    shown: set[int] = set()
    for number in state.frames:
        shown.update(ids_in(state.read(number)))
    order = [id_ for id_ in sorted(state.things) if id_ in shown]
    return {old: k for k, old in enumerate(order, start=1)}, [state.things[k] for k in order]
