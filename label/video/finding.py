"""What is found on one frame: teachers' candidates, their names, and their masks after SDR."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from panoforge.core.types import Mask, Rgb
from panoforge.eval.interactive.following import Following
from panoforge.eval.interactive.frames import Frames
from panoforge.label.video.continuity import UNKNOWN
from panoforge.label.video.masks import colours_of, ious, stacked
from panoforge.label.video.proposals import (
    MaskCandidate,
    Proposal,
    checked,
    label_candidates,
)
from panoforge.label.video.rules import VideoRules
from panoforge.label.video.shifting import Refined, refined
from panoforge.label.video.state import LabelledThing, Phase, VideoState


@dataclass(frozen=True)
class Named:
    """A label, where it comes from, and what the checker remarks."""

    label: str
    how: str
    comment: str = ""


class Asks(Protocol):
    """Teachers and the label checker, as a video needs them."""

    @property
    def teachers(self) -> int:
        """How many propose masks."""

    def proposals(self, frames: Frames, number: int, turned: bool) -> list[Proposal]:
        """What all teachers propose on a frame; `turned`: shown to them turned by half."""
        ...

    def alone(self, frames: Frames, number: int) -> list[Proposal]:
        """What the first entity teacher proposes by itself, named by the first panoptic one."""
        ...

    def name(self, rgb: Rgb, candidate: MaskCandidate) -> Named:
        """What a candidate is."""
        ...


@dataclass(frozen=True)
class FoundMask:
    """A candidate with its label, and its mask after SDR."""

    candidate: MaskCandidate
    named: Named
    refined: Refined


Clock = Callable[[str], AbstractContextManager[None]]


def no_clock(phase: str) -> AbstractContextManager[None]:
    """Counts nothing."""
    return nullcontext()


@dataclass(frozen=True)
class Finder:
    """Asks teachers, checker and follower about frames of one video."""

    frames: Frames
    asks: Asks
    following: Following
    rules: VideoRules
    clock: Clock = no_clock

    def candidates(self, number: int, *, turned: bool = False) -> list[MaskCandidate]:
        """What all teachers propose on a frame, checked; `turned`: shown turned by half."""
        with self.clock("teachers"):
            proposals = self.asks.proposals(self.frames, number, turned)
        with self.clock("sdr"):
            found = checked(proposals, self.asks.teachers, self.rules.candidates)
            named = [one for one in proposals if one.label is not None]
            return label_candidates(found, named)

    def found(self, number: int, candidates: Sequence[MaskCandidate]) -> list[FoundMask]:
        """Candidates named and refined; stuff of one class is one."""
        rgb = self.frames.rgb(number)
        pairs = _stuff_joined([(one, self.name(rgb, one)) for one in candidates])
        masks = self.refine(number, [one.mask for one, _ in pairs])
        return [FoundMask(*pair, mask) for pair, mask in zip(pairs, masks, strict=True)]

    def name(self, rgb: Rgb, candidate: MaskCandidate) -> Named:
        """What a candidate is."""
        with self.clock("checker"):
            return self.asks.name(rgb, candidate)

    def refine(self, number: int, masks: Sequence[Mask]) -> list[Refined]:
        """Masks of a frame after SDR's shifted prompts."""
        if not self.rules.sdr:
            return [Refined(mask, 0, 0, False) for mask in masks]
        with self.clock("sdr"):
            asked = dict(enumerate(masks))
            said = refined(self.following, self.frames, number, asked, self.rules.shifts)
        return [said[k] for k in asked]

    def alone(self, number: int) -> list[FoundMask]:
        """What the first teachers say by themselves, unchecked."""
        return _as_they_are(self.asks.alone(self.frames, number))

    def with_border(self, number: int, found: Sequence[MaskCandidate]) -> list[MaskCandidate]:
        """Candidates, and those of the turned panorama that are not among them."""
        turned = self.candidates(number, turned=True)
        return _with_turned(found, turned, self.rules.candidates.match_iou)


def take_in(
    state: VideoState,
    rgb: Rgb,
    number: int,
    found: FoundMask,
    phase: Phase,
    kind: Literal["begun", "new"],
) -> int | None:
    """Give an object an id; None where there is no room."""
    candidate, answer = found.candidate, found.refined
    thing = LabelledThing(
        id=0,
        label=found.named.label,
        how=found.named.how,
        confidence=candidate.confidence,
        mask=answer.mask,
        colours=colours_of(rgb, answer.mask),
        last=number,
        votes=answer.votes / answer.asked if answer.asked else 1.0,
        teachers=candidate.teachers,
        candidates=candidate.labels,
        comment=found.named.comment,
        is_thing=candidate.is_thing,
    )
    if not state.add(thing):
        state.note(phase, "over_limit", number)
        return None
    state.note(phase, kind, number, thing.id)
    if answer.asked:
        state.note(phase, "refined" if answer.taken else "kept", number, thing.id)
    return thing.id


def _as_they_are(proposals: Sequence[Proposal]) -> list[FoundMask]:
    """Proposals of one teacher, unchecked; they do not overlap."""
    if not proposals:
        return []
    labels = stacked([one.mask for one in proposals])
    found = []
    for k, one in enumerate(proposals, start=1):
        mask = labels == k
        if mask.any():
            candidate = MaskCandidate(mask, (one.teacher,), one.confidence, is_thing=one.is_thing)
            named = Named(one.label or UNKNOWN, one.teacher)
            found.append(FoundMask(candidate, named, Refined(mask, 0, 0, False)))
    return found


def _stuff_joined(
    pairs: Sequence[tuple[MaskCandidate, Named]],
) -> list[tuple[MaskCandidate, Named]]:
    """Candidates that are stuff of one known class as one."""
    found: list[tuple[MaskCandidate, Named]] = []
    place: dict[str, int] = {}
    for one, named in pairs:
        if one.is_thing or named.label == UNKNOWN:
            found.append((one, named))
        elif named.label not in place:
            place[named.label] = len(found)
            found.append((one, named))
        else:
            first, its = found[place[named.label]]
            teachers = tuple(dict.fromkeys((*first.teachers, *one.teachers)))
            joined = replace(first, mask=first.mask | one.mask, teachers=teachers)
            found[place[named.label]] = (joined, its)
    return found


def _with_turned(
    found: Sequence[MaskCandidate], turned: Sequence[MaskCandidate], match_iou: float
) -> list[MaskCandidate]:
    """Candidates, and those of the turned panorama that are not among them."""
    same = ious([one.mask for one in turned], [one.mask for one in found])
    fresh = [one for k, one in enumerate(turned) if not (same[k] >= match_iou).any()]
    return [*fresh, *found]
