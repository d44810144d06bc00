"""Teachers asked about a frame through views, joined over the sphere, as proposals of masks.

A teacher is asked for the segments of every view, and what it says of overlapping views is joined
(`panoforge.label.agree`). What is one thing to a teacher is one proposal, over the seam too. Turned
by half means that the views are moved, not the picture: truth as a teacher knows where it looks.

Labels are the checker's (`panoforge.label.checker`): its rule, then its model, else `unknown`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from panoforge.core.types import Mask, Rgb
from panoforge.eval.interactive.frames import Frames
from panoforge.eval.views.frames import ErpFrame, PerspectiveFrame, Projection
from panoforge.label.agree.instances import ViewSegments, as_partition, join
from panoforge.label.checker import LabelCandidate, LabelChecker, LabelSource
from panoforge.label.settings import JoinSettings
from panoforge.label.teachers.base import (
    EntityTeacher,
    PanopticTeacher,
    ask_entities,
    ask_panoptic,
)
from panoforge.label.video.continuity import UNKNOWN
from panoforge.label.video.finding import Named
from panoforge.label.video.proposals import MaskCandidate, Proposal
from panoforge.label.views.look import look
from panoforge.label.views.sets import ViewSetConfig, view_frames
from panoforge.label.vocabulary import load_vocabulary

# How a label came to be, as reports and metadata say it.
HOW: dict[LabelSource, str] = {
    "agreement": "agreed",
    "one teacher": "one",
    "model": "model",
    "none": "nobody",
}


@dataclass
class TeacherPanel:
    """Teachers and a checker, as a video asks them.

    `asked` counts labels by where they come from.
    """

    entity: Sequence[EntityTeacher]
    panoptic: Sequence[PanopticTeacher]
    views: ViewSetConfig
    joining: JoinSettings
    checker: LabelChecker = field(default_factory=lambda: LabelChecker(load_vocabulary()))
    asked: Counter[str] = field(default_factory=Counter)

    @property
    def teachers(self) -> int:
        """How many propose masks."""
        return len(self.entity) + len(self.panoptic)

    def proposals(self, frames: Frames, number: int, turned: bool) -> list[Proposal]:
        """What all teachers propose on a frame, one proposal for each thing of each teacher."""
        found: list[Proposal] = []
        for one in self.entity:
            found += self._entities(one, frames, number, turned)
        for other in self.panoptic:
            found += self._named(other, frames, number, turned)
        return found

    def alone(self, frames: Frames, number: int) -> list[Proposal]:
        """What the first entity teacher proposes; without one, the first panoptic one."""
        if not self.entity:
            return self._named(self.panoptic[0], frames, number, False)
        return self._entities(self.entity[0], frames, number, False)

    def named(self, frames: Frames, number: int) -> list[Proposal]:
        """What panoptic teachers alone say of a frame."""
        return [p for one in self.panoptic for p in self._named(one, frames, number, False)]

    def name(self, rgb: Rgb, candidate: MaskCandidate) -> Named:
        """What a candidate is: the rule first, then the checker's model."""
        said = [LabelCandidate(teacher, word) for teacher, word in candidate.labels]
        one = self.checker.check(said, rgb, candidate.mask)
        by = one.by or "teachers do not agree"
        found = Named(one.name, f"{HOW[one.source]}: {by}", one.comment)
        self.asked[found.how.split(":")[0]] += 1
        return found

    def _frames(self, frames: Frames, turned: bool) -> list[Projection]:
        width, height = frames.size
        found = view_frames(self.views, width, height)
        return [half_turned(one) for one in found] if turned else list(found)

    def _entities(
        self, teacher: EntityTeacher, frames: Frames, number: int, turned: bool
    ) -> list[Proposal]:
        views = look(frames.rgb(number), self._frames(frames, turned), frames.names[number])
        said = [
            ViewSegments(view.frame, as_partition(ask_entities(teacher, view))) for view in views
        ]
        return self._joined(teacher.name, said, frames.size, named=False)

    def _named(
        self, teacher: PanopticTeacher, frames: Frames, number: int, turned: bool
    ) -> list[Proposal]:
        views = look(frames.rgb(number), self._frames(frames, turned), frames.names[number])
        said = [ViewSegments(view.frame, ask_panoptic(teacher, view)) for view in views]
        return self._joined(teacher.name, said, frames.size, named=True)

    def _joined(
        self, teacher: str, said: Sequence[ViewSegments], size: tuple[int, int], *, named: bool
    ) -> list[Proposal]:
        joined = join(said, *size, self.joining)
        sure = {
            (place, segment.id): segment.confidence
            for place, view in enumerate(said)
            for segment in view.said.segments
        }
        found = []
        for one in joined.instances:
            own = float(np.mean([sure[member] for member in one.members]))
            mask: Mask = joined.ids == one.id
            label = one.class_name if named and one.class_name != UNKNOWN else None
            found.append(Proposal(mask, teacher, min(1.0, own), label, one.is_thing))
        return found


def half_turned(frame: Projection) -> Projection:
    """The view that looks the other way: where the seam was is now the middle of views."""
    if isinstance(frame, ErpFrame):
        return replace(frame, u0=(frame.u0 + frame.pano_width // 2) % frame.pano_width)
    if isinstance(frame, PerspectiveFrame):
        view = frame.view
        return PerspectiveFrame(replace(view, yaw_deg=(view.yaw_deg + 180) % 360))
    return frame
