"""MCR on one keyframe: what teachers propose for blank areas is an old object, a part, or new."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from panoforge.core.types import Mask
from panoforge.label.video.continuity import (
    UNKNOWN,
    Decision,
    SeenProposal,
    compatible,
    decide,
)
from panoforge.label.video.coverage import Coverage
from panoforge.label.video.finding import Finder, FoundMask, Named, take_in
from panoforge.label.video.masks import colours_of, ious
from panoforge.label.video.proposals import MaskCandidate
from panoforge.label.video.runs import KeptFrames, LockStep, carried_back
from panoforge.label.video.state import VideoState

CORRECT_IOU = 0.8  # a carried mask that teachers agree with so well needs no correction


@dataclass(frozen=True)
class Continuation:
    """Goes on with a video's objects on its keyframes; `runs` carry them along."""

    frames: KeptFrames
    finder: Finder
    state: VideoState
    runs: LockStep

    def on(self, number: int, before: int, coverage: Coverage) -> None:
        """Settle the blank areas of keyframe `number`; `before` is the keyframe before it."""
        candidates = self.finder.candidates(number)
        blank = np.any([one.mask for one in coverage.blanks], axis=0)
        if any(one.border for one in coverage.blanks):
            self.state.note("refine", "border", number)
            candidates = self.finder.with_border(number, candidates)
        rgb = self.frames.rgb(number)
        names = [self.finder.name(rgb, one) for one in candidates]
        seen = [
            SeenProposal(one.mask, named.label, colours_of(rgb, one.mask))
            for one, named in zip(candidates, names, strict=True)
        ]
        decisions = decide(seen, self.state.known(number), blank, self.finder.rules.continuity)
        open_ = [k for k, one in enumerate(decisions) if one.case != "covered"]
        refined_masks = self.finder.refine(number, [candidates[k].mask for k in open_])
        changed: dict[int, Mask] = {}
        fresh: list[int] = []
        for k, one in zip(open_, refined_masks, strict=True):
            found = FoundMask(candidates[k], names[k], one)
            id_ = self._settle(number, found, decisions[k], blank, changed)
            if id_ is not None and decisions[k].case == "new":
                fresh.append(id_)
        self._correct(number, candidates, names, decisions, changed)
        if changed:
            now = self.state.masks(number)
            self.state.put(number, now | changed, rgb)
            begun = {id_: self.state.masks(number).get(id_) for id_ in changed}
            self.runs.begin(number, {id_: mask for id_, mask in begun.items() if mask is not None})
        self._merge(number)
        if self.finder.rules.backfill and fresh:
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
            id_ = take_in(self.state, self.frames.rgb(number), number, found, "refine", "new")
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
        now = {id_: mask for id_, mask in self.state.masks(number).items() if id_ not in changed}
        if not sure or not now:
            return
        same = ious([candidates[k].mask for k in sure], list(now.values()))
        ids, drifted = list(now), {}
        for row, k in enumerate(sure):
            best = int(same[row].argmax())
            fits = self.finder.rules.continuity.match_iou <= same[row, best] < CORRECT_IOU
            if fits and compatible(names[k].label, self.state.things[ids[best]].label):
                drifted[ids[best]] = candidates[k].mask
        masks = self.finder.refine(number, list(drifted.values()))
        for id_, one in zip(drifted, masks, strict=True):
            changed[id_] = one.mask
            self.state.note("refine", "corrected", number, id_)

    def _merge(self, number: int) -> None:
        """Objects that lie on each other by their own runs are one: the older id stays."""
        found = {id_: mask for id_, mask in self.runs.now().items() if id_ in self.state.things}
        ids = sorted(found)
        same = ious([found[k] for k in ids], [found[k] for k in ids])
        for a, b in zip(*np.nonzero(np.triu(same >= self.finder.rules.merge_iou, 1)), strict=True):
            kept, gone = ids[a], ids[b]
            things = self.state.things
            if kept in things and gone in things:
                if not compatible(things[kept].label, things[gone].label):
                    continue
                self.state.merge(kept, gone)
                self.runs.end(gone)
                self.state.note("refine", "merged", number, kept)

    def _backfill(self, number: int, before: int, ids: Sequence[int]) -> None:
        """New objects on the frames since the last keyframe, where nothing else is."""
        masks = {id_: mask for id_, mask in self.state.masks(number).items() if id_ in ids}
        back = carried_back(self.finder.following, self.frames, number, before + 1, masks)
        for earlier, found in back:
            labels = self.state.read(earlier)
            for id_, mask in found.items():
                here = mask & (labels == 0)
                if here.any():
                    labels = np.where(here, np.uint16(id_), labels)
                    self.state.note("refine", "backfilled", earlier, id_)
            self.state.write(earlier, labels)
