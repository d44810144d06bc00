"""A video through A3360V's phases, frame by frame.

*Initial*, on the first frame: candidates of all teachers are checked (`proposals`), their labels
asked for, their masks refined (`shifting`). *Auto-refine*, on all others: objects are carried along
(`runs`). On keyframes the coverage is taken, and where areas are blank the teachers are asked. What
they propose is an old object, a part of one, or a new one (`continuity`). What needs a person
is listed by `revise`.

Without `propagation` each frame is labelled by itself, and ids go from a frame to the next by IoU:
what the seed calls the 2D segmentors alone. That is for comparison.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import numpy as np
from pydantic import Field

from panoforge.core.errors import DataError
from panoforge.core.models import FrozenModel, Positive, Probability
from panoforge.core.numbers import counted
from panoforge.core.types import Mask, Rgb
from panoforge.eval.interactive.following import Following
from panoforge.eval.interactive.frames import Frames
from panoforge.label.video.continuity import (
    UNKNOWN,
    ContinuityRules,
    Decision,
    SeenProposal,
    compatible,
    decide,
)
from panoforge.label.video.coverage import Coverage, coverage_of
from panoforge.label.video.masks import colours_of, ids_in, ious, stacked
from panoforge.label.video.proposals import (
    CandidateRules,
    MaskCandidate,
    Proposal,
    checked,
    label_candidates,
)
from panoforge.label.video.runs import KeptFrames, LockStep, carried_back
from panoforge.label.video.shifting import Refined, ShiftRules, refined
from panoforge.label.video.state import LabelledThing, Phase, VideoState

CORRECT_IOU = 0.8  # a carried mask that teachers agree with so well needs no correction


class VideoRules(FrozenModel):
    """How a video is labelled; the values are A3360V's where it has one."""

    keyframes_hz: float = Field(
        5.0, description="Keyframes of a second of video, on which coverage is taken."
    )
    max_objects: Positive = Field(63, description="At most so many ids in a video.")
    tolerance: Probability = Field(
        0.002, description="Blank areas up to this share of the sphere are let be."
    )
    merge_iou: Probability = Field(
        0.5, description="IoU from which masks of one label that were carried along are one object."
    )
    backfill: bool = Field(
        True, description="Carry a new object back to the keyframe before it was found."
    )
    sdr: bool = Field(
        True, description="Refine masks by shifted prompts (SDR); false takes them as they are."
    )
    propagation: bool = Field(
        True, description="Carry objects along; false labels each frame by itself, to compare."
    )
    mcr: bool = Field(True, description="Ask the teachers again where a keyframe has blank areas.")
    candidates: CandidateRules = Field(
        CandidateRules(), description="When proposals of teachers are one thing, or too little."
    )
    shifts: ShiftRules = Field(
        ShiftRules(), description="How prompts are shifted, and which answer is taken."
    )
    continuity: ContinuityRules = Field(
        ContinuityRules(), description="When a proposal is a known object, a part of one, or new."
    )


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


def _no_clock(phase: str) -> AbstractContextManager[None]:
    return nullcontext()


@dataclass
class VideoLabeller:
    """Labels one video.

    `seen` bool H×W is what a partial sphere shows. `clock` is entered for each phase, by its name;
    `on_frame` is called after each frame.
    """

    frames: KeptFrames
    asks: Asks
    following: Following
    rules: VideoRules
    seen: Mask | None = None
    on_frame: Callable[[], None] = lambda: None
    clock: Clock = _no_clock
    state: VideoState = field(init=False)

    def __post_init__(self) -> None:
        width, height = self.frames.size
        self.state = VideoState((height, width), self.rules.max_objects)

    @property
    def key_step(self) -> int:
        """Frames from one keyframe to the next; a video without a rate has keyframes only."""
        return max(1, round((self.frames.fps or self.rules.keyframes_hz) / self.rules.keyframes_hz))

    def label(self) -> VideoState:
        """Go through all frames."""
        if not self.rules.propagation:
            return self._each_alone()
        runs = LockStep(self.following, self.frames)
        self._first(runs)
        key = 0
        for number in range(1, len(self.frames.names)):
            if not self._there(number):
                break
            with self.clock("propagation"):
                found = runs.step()
            self._put(number, {k: m for k, m in found.items() if k in self.state.things})
            if number % self.key_step == 0:
                self._keyframe(number, key, runs)
                key = number
            self.on_frame()
        return self.state

    def _first(self, runs: LockStep) -> None:
        """The initial phase."""
        masks = {}
        for one in self._found(0, self._candidates(0)):
            id_ = self._take_in(0, one, "initial", "begun")
            if id_ is not None:
                masks[id_] = one.refined.mask
        self._put(0, masks)
        runs.begin(0, {id_: thing.mask for id_, thing in self.state.things.items()})
        self._covered(0, self._coverage(0))
        self.on_frame()

    def _keyframe(self, number: int, before: int, runs: LockStep) -> None:
        """Auto-refine on one frame: coverage, and MCR where areas are blank."""
        coverage = self._coverage(number)
        if self.rules.mcr and coverage.blanks:
            with self.clock("mcr"):
                self._continue(number, before, coverage, runs)
            coverage = self._coverage(number)
        self._covered(number, coverage)

    def _covered(self, number: int, coverage: Coverage) -> None:
        """Remember a keyframe's coverage, and what nothing covers."""
        self.state.coverage[number] = coverage.share
        self.state.uncovered += [(number, one.at_deg, one.area_sr) for one in coverage.blanks]

    def _there(self, number: int) -> bool:
        """Whether a frame can be read; where not, the video ends before it, and that is said."""
        try:
            self.frames.rgb(number)
        except DataError as error:
            self.state.ended = (
                f"labelled are {number} of {counted(len(self.frames.names), 'frame')}: {error}"
            )
            return False
        return True

    def _continue(self, number: int, before: int, coverage: Coverage, runs: LockStep) -> None:
        """MCR: what is proposed for blank areas is an old object, a part of one, or new."""
        candidates = self._candidates(number)
        blank = np.any([one.mask for one in coverage.blanks], axis=0)
        if any(one.border for one in coverage.blanks):
            self.state.note("refine", "border", number)
            turned = self._candidates(number, turned=True)
            candidates = _with_turned(candidates, turned, self.rules.candidates.match_iou)
        rgb = self.frames.rgb(number)
        names = [self._name(rgb, one) for one in candidates]
        seen = [
            SeenProposal(one.mask, named.label, colours_of(rgb, one.mask))
            for one, named in zip(candidates, names, strict=True)
        ]
        decisions = decide(seen, self.state.known(number), blank, self.rules.continuity)
        open_ = [k for k, one in enumerate(decisions) if one.case != "covered"]
        refined_masks = self._refine(number, [candidates[k].mask for k in open_])
        changed: dict[int, Mask] = {}
        fresh: list[int] = []
        for k, one in zip(open_, refined_masks, strict=True):
            found = FoundMask(candidates[k], names[k], one)
            id_ = self._settle(number, found, decisions[k], blank, changed)
            if id_ is not None and decisions[k].case == "new":
                fresh.append(id_)
        self._correct(number, candidates, names, decisions, changed)
        if changed:
            now = self._masks(number)
            self._put(number, now | changed)
            begun = {id_: self._masks(number).get(id_) for id_ in changed}
            runs.begin(number, {id_: mask for id_, mask in begun.items() if mask is not None})
        self._merge(number, runs)
        if self.rules.backfill and fresh:
            self._backfill(number, before, [id_ for id_ in fresh if id_ in self.state.things])

    def _settle(
        self,
        number: int,
        found: FoundMask,
        decision: Decision,
        blank: Mask,
        changed: dict[int, Mask],
    ) -> int | None:
        """What becomes of one proposal: its mask goes into `changed` under its id."""
        if decision.id is None:
            id_ = self._take_in(number, found, "refine", "new")
            if id_ is not None:
                changed[id_] = found.refined.mask & (blank | found.candidate.mask)
            return id_
        id_, thing = decision.id, self.state.things[decision.id]
        if decision.returns:
            changed[id_] = found.refined.mask
        else:
            own = changed.get(id_, thing.mask if thing.last == number else None)
            mask = found.refined.mask
            changed[id_] = mask if own is None else own | mask
        if thing.label == UNKNOWN:
            thing.label, thing.how = found.named.label, found.named.how
        self.state.note("refine", "returned" if decision.returns else "completed", number, id_)
        return id_

    def _correct(
        self,
        number: int,
        candidates: Sequence[MaskCandidate],
        names: Sequence[Named],
        decisions: Sequence[Decision],
        changed: dict[int, Mask],
    ) -> None:
        """Objects whose mask has drifted from what several teachers agree on."""
        sure = [
            k
            for k, one in enumerate(candidates)
            if decisions[k].case == "covered" and len(one.teachers) > 1
        ]
        now = {id_: mask for id_, mask in self._masks(number).items() if id_ not in changed}
        if not sure or not now:
            return
        same = ious([candidates[k].mask for k in sure], list(now.values()))
        ids, drifted = list(now), {}
        for row, k in enumerate(sure):
            best = int(same[row].argmax())
            fits = self.rules.continuity.match_iou <= same[row, best] < CORRECT_IOU
            if fits and compatible(names[k].label, self.state.things[ids[best]].label):
                drifted[ids[best]] = candidates[k].mask
        masks = self._refine(number, list(drifted.values()))
        for id_, one in zip(drifted, masks, strict=True):
            changed[id_] = one.mask
            self.state.note("refine", "corrected", number, id_)

    def _merge(self, number: int, runs: LockStep) -> None:
        """Objects that lie on each other by their own runs are one: the older id stays."""
        found = {id_: mask for id_, mask in runs.now().items() if id_ in self.state.things}
        ids = sorted(found)
        same = ious([found[k] for k in ids], [found[k] for k in ids])
        for a, b in zip(*np.nonzero(np.triu(same >= self.rules.merge_iou, 1)), strict=True):
            kept, gone = ids[a], ids[b]
            things = self.state.things
            if kept in things and gone in things:
                if not compatible(things[kept].label, things[gone].label):
                    continue
                self.state.merge(kept, gone)
                runs.end(gone)
                self.state.note("refine", "merged", number, kept)

    def _backfill(self, number: int, before: int, ids: Sequence[int]) -> None:
        """New objects on the frames since the last keyframe, where nothing else is."""
        masks = {id_: mask for id_, mask in self._masks(number).items() if id_ in ids}
        back = carried_back(self.following, self.frames, number, before + 1, masks)
        for earlier, found in back:
            labels = self.state.read(earlier)
            for id_, mask in found.items():
                here = mask & (labels == 0)
                if here.any():
                    labels = np.where(here, np.uint16(id_), labels)
                    self.state.note("refine", "backfilled", earlier, id_)
            self.state.write(earlier, labels)

    def _each_alone(self) -> VideoState:
        """Every frame by itself, ids by IoU with the frame before."""
        previous: dict[int, Mask] = {}
        for number in range(len(self.frames.names)):
            if number and not self._there(number):
                break
            if self.rules.sdr:
                found = self._found(number, self._candidates(number))
            else:
                found = _as_they_are(self.asks.alone(self.frames, number))
            masks: dict[int, Mask] = {}
            same = ious([one.refined.mask for one in found], list(previous.values()))
            ids = list(previous)
            for row, one in enumerate(found):
                best = int(same[row].argmax()) if ids else 0
                taken = ids and ids[best] not in masks
                if taken and same[row, best] >= self.rules.candidates.match_iou:
                    masks[ids[best]] = one.refined.mask
                elif (id_ := self._take_in(number, one, "initial", "begun")) is not None:
                    masks[id_] = one.refined.mask
            self._put(number, masks)
            previous = self._masks(number)
            self._covered(number, self._coverage(number))
            self.on_frame()
        return self.state

    def _candidates(self, number: int, *, turned: bool = False) -> list[MaskCandidate]:
        with self.clock("teachers"):
            proposals = self.asks.proposals(self.frames, number, turned)
        with self.clock("sdr"):
            found = checked(proposals, self.asks.teachers, self.rules.candidates)
            named = [one for one in proposals if one.label is not None]
            return label_candidates(found, named)

    def _found(self, number: int, candidates: Sequence[MaskCandidate]) -> list[FoundMask]:
        """Candidates named and refined; stuff of one class is one."""
        rgb = self.frames.rgb(number)
        pairs = _stuff_joined([(one, self._name(rgb, one)) for one in candidates])
        masks = self._refine(number, [one.mask for one, _ in pairs])
        return [FoundMask(*pair, mask) for pair, mask in zip(pairs, masks, strict=True)]

    def _name(self, rgb: Rgb, candidate: MaskCandidate) -> Named:
        with self.clock("checker"):
            return self.asks.name(rgb, candidate)

    def _refine(self, number: int, masks: Sequence[Mask]) -> list[Refined]:
        if not self.rules.sdr:
            return [Refined(mask, 0, 0, False) for mask in masks]
        with self.clock("sdr"):
            asked = dict(enumerate(masks))
            said = refined(self.following, self.frames, number, asked, self.rules.shifts)
        return [said[k] for k in asked]

    def _take_in(
        self, number: int, found: FoundMask, phase: Phase, kind: Literal["begun", "new"]
    ) -> int | None:
        """Give an object an id; None where there is no room."""
        candidate, answer = found.candidate, found.refined
        thing = LabelledThing(
            id=0,
            label=found.named.label,
            how=found.named.how,
            confidence=candidate.confidence,
            mask=answer.mask,
            colours=colours_of(self.frames.rgb(number), answer.mask),
            last=number,
            votes=answer.votes / answer.asked if answer.asked else 1.0,
            teachers=candidate.teachers,
            candidates=candidate.labels,
            comment=found.named.comment,
            is_thing=candidate.is_thing,
        )
        if not self.state.add(thing):
            self.state.note(phase, "over_limit", number)
            return None
        self.state.note(phase, kind, number, thing.id)
        if answer.asked:
            self.state.note(phase, "refined" if answer.taken else "kept", number, thing.id)
        return thing.id

    def _put(self, number: int, masks: dict[int, Mask]) -> None:
        self.state.put(number, masks, self.frames.rgb(number))

    def _masks(self, number: int) -> dict[int, Mask]:
        """The masks that a frame shows, by id."""
        labels = self.state.read(number)
        return {id_: labels == id_ for id_ in ids_in(labels)}

    def _coverage(self, number: int) -> Coverage:
        return coverage_of(self.state.read(number), self.rules.tolerance, self.seen)


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
