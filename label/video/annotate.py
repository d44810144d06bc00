"""A video through A3360V's phases, frame by frame.

*Initial*, on the first frame: candidates of all teachers are checked (`proposals`), their labels
asked for, their masks refined (`shifting`). *Auto-refine*, on all others: objects are carried along
(`runs`). On keyframes the coverage is taken, and where areas are blank the teachers are asked. What
they propose is an old object, a part of one, or a new one (`continuity`). What needs a person
is listed by `revise`.

Without `propagation` each frame is labelled by itself, and ids go from a frame to the next by IoU:
what the seed calls the 2D segmentors alone. That is for comparison.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from panoforge.core.errors import DataError
from panoforge.core.numbers import counted
from panoforge.core.types import Mask
from panoforge.eval.interactive.following import Following
from panoforge.label.video.continuing import Continuation
from panoforge.label.video.coverage import Coverage, coverage_of
from panoforge.label.video.finding import Asks, Clock, Finder, FoundMask, no_clock, take_in
from panoforge.label.video.masks import areas_sr, ious
from panoforge.label.video.rules import VideoRules
from panoforge.label.video.runs import KeptFrames, LockStep
from panoforge.label.video.state import VideoState


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
    clock: Clock = no_clock
    state: VideoState = field(init=False)
    _finder: Finder = field(init=False, repr=False)

    def __post_init__(self) -> None:
        width, height = self.frames.size
        self.state = VideoState((height, width), self.rules.max_objects)
        self._finder = Finder(self.frames, self.asks, self.following, self.rules, self.clock)

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
        for one in self._by_room(self._finder.found(0, self._finder.candidates(0))):
            id_ = self._begin(0, one)
            if id_ is not None:
                masks[id_] = one.refined.mask
        self._put(0, masks)
        runs.begin(0, {id_: thing.mask for id_, thing in self.state.things.items()})
        self._covered(0, self._coverage(0))
        self.on_frame()

    def _by_room(self, found: list[FoundMask]) -> list[FoundMask]:
        """As they are; where there is no room for all, the largest of what two teachers see first.

        Else the surest trinkets take the ids, and a wall stays blank for the whole video.
        """
        if len(found) <= self.rules.max_objects:
            return found
        area = areas_sr([one.refined.mask for one in found])
        alone = np.array([len(one.candidate.teachers) < 2 for one in found])
        return [found[k] for k in np.lexsort((-area, alone)).tolist()]

    def _keyframe(self, number: int, before: int, runs: LockStep) -> None:
        """Auto-refine on one frame: coverage, and MCR where areas are blank."""
        coverage = self._coverage(number)
        if self.rules.mcr and coverage.blanks:
            with self.clock("mcr"):
                Continuation(self.frames, self._finder, self.state, runs).on(
                    number, before, coverage
                )
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

    def _each_alone(self) -> VideoState:
        """Every frame by itself, ids by IoU with the frame before."""
        previous: dict[int, Mask] = {}
        for number in range(len(self.frames.names)):
            if number and not self._there(number):
                break
            if self.rules.sdr:
                found = self._finder.found(number, self._finder.candidates(number))
            else:
                found = self._finder.alone(number)
            masks: dict[int, Mask] = {}
            same = ious([one.refined.mask for one in found], list(previous.values()))
            ids = list(previous)
            for row, one in enumerate(found):
                best = int(same[row].argmax()) if ids else 0
                taken = ids and ids[best] not in masks
                if taken and same[row, best] >= self.rules.candidates.match_iou:
                    masks[ids[best]] = one.refined.mask
                elif (id_ := self._begin(number, one)) is not None:
                    masks[id_] = one.refined.mask
            self._put(number, masks)
            previous = self.state.masks(number)
            self._covered(number, self._coverage(number))
            self.on_frame()
        return self.state

    def _begin(self, number: int, found: FoundMask) -> int | None:
        """Give an object an id; None where there is no room."""
        rgb = self.frames.rgb(number)
        return take_in(self.state, rgb, number, found, "initial", "begun")

    def _put(self, number: int, masks: dict[int, Mask]) -> None:
        self.state.put(number, masks, self.frames.rgb(number))

    def _coverage(self, number: int) -> Coverage:
        return coverage_of(self.state.read(number), self.rules.tolerance, self.seen)
