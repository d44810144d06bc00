"""One panorama's pseudo-labels: views are shown to teachers, what they say is made one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panoforge.core.errors import DataError
from panoforge.core.geometry.views import WrappedPanorama, wrap_panorama
from panoforge.core.types import Mask, Rgb
from panoforge.eval.views.frames import Projection
from panoforge.label.agree.alignment import DepthAlignment, align
from panoforge.label.agree.instances import Joined, ViewSegments, join
from panoforge.label.agree.merging import (
    ClassVotes,
    MergedClasses,
    MergedDepth,
    MergedNormals,
    merge_depth,
    merge_normals,
)
from panoforge.label.pseudo.config import PseudolabelConfig
from panoforge.label.teachers.base import (
    ClassScores,
    Dense,
    Panoptic,
    TeacherError,
    ViewImage,
    ask_dense,
    ask_panoptic,
)
from panoforge.label.teachers.choice import TeacherRole
from panoforge.label.views.look import look
from panoforge.label.views.sets import view_frames
from panoforge.label.vocabulary import Vocabulary

LEAST_SEEN = 0.01  # of a view: less of a partial sphere is not worth asking about


@dataclass(frozen=True)
class PseudoLabels:
    """What teachers say of a panorama, as far as they were named.

    Attributes:
        depth: Along the ray, metres; scaled to a stated median where the teacher knows no unit.
        normals: In the panorama's frame.
        classes: Places in the vocabulary's names.
        instances: Of panoptic teachers.
        alignment: How depth of views was made one.
        unit: What the depth teacher's numbers meant.
        views: How many were shown.
    """

    depth: MergedDepth | None = None
    normals: MergedNormals | None = None
    classes: MergedClasses | None = None
    instances: Joined | None = None
    alignment: DepthAlignment | None = None
    unit: str = ""
    views: int = 0


def pseudolabels(
    rgb: Rgb,
    key: str,
    config: PseudolabelConfig,
    teachers: Mapping[TeacherRole, Any],
    vocabulary: Vocabulary,
    seen: Mask | None = None,
) -> PseudoLabels:
    """Ask the teachers about every view of a panorama, and make what they say one.

    Args:
        rgb: uint8 (H, W, 3), the whole sphere.
        key: The panorama's.
        config: Views and how they agree.
        teachers: By what they are asked for.
        vocabulary: What their classes mean.
        seen: bool (H, W), what a partial sphere shows; None is all.

    Raises:
        DataError: The picture is no panorama, or a teacher's answer cannot be one.
    """
    height, width = rgb.shape[:2]
    frames = view_frames(config.views, width, height)
    heard = _Heard(teachers, ClassVotes(vocabulary.names, width, height), vocabulary)
    for view, shown in _shown(rgb, frames, key, seen):
        heard.ask(view, shown)
    depth, alignment, unit = None, None, ""
    if "depth" in teachers:
        depth, alignment, unit = _depth(heard, config, width, height)
    return PseudoLabels(
        depth=depth,
        normals=merge_normals(heard.frames, heard.normals, width, height)
        if "normals" in teachers
        else None,
        classes=heard.votes.result() if "classes" in teachers else None,
        instances=join(heard.segments, width, height, config.join)
        if "panoptic" in teachers
        else None,
        alignment=alignment,
        unit=unit,
        views=len(heard.frames),
    )


def _shown(
    rgb: Rgb, frames: Sequence[Projection], key: str, seen: Mask | None
) -> Iterator[tuple[ViewImage, Mask | None]]:
    """The views that see something of the picture, and what of each is picture."""
    inside: WrappedPanorama | None = None if seen is None else wrap_panorama(seen.astype(np.uint8))
    for view in look(rgb, frames, key):
        if inside is None:
            yield view, None
            continue
        own = view.frame.sample(inside, labels=True) > 0
        if own.mean() >= LEAST_SEEN:
            yield view, own


class _Heard:
    """What teachers said of the views so far. A teacher that has two roles is asked once."""

    def __init__(
        self, teachers: Mapping[TeacherRole, Any], votes: ClassVotes, vocabulary: Vocabulary
    ) -> None:
        self.teachers, self.votes, self.vocabulary = teachers, votes, vocabulary
        self.frames: list[Projection] = []
        self.depths: list[Dense] = []
        self.normals: list[Dense] = []
        self.segments: list[ViewSegments] = []

    def ask(self, view: ViewImage, shown: Mask | None) -> None:
        """Ask every teacher about a view; what lies outside of the picture counts for nothing."""
        said: dict[tuple[int, str], Any] = {}

        def answer(role: TeacherRole, ask: Any) -> Any:
            teacher = self.teachers[role]
            place = id(teacher), ask.__name__
            if place not in said:
                said[place] = ask(teacher, view)
            return said[place]

        self.frames.append(view.frame)
        if "depth" in self.teachers:
            self.depths.append(_depth_alone(answer("depth", ask_dense), shown, self.teachers, view))
        if "normals" in self.teachers:
            own = answer("normals", ask_dense)
            if own.normals is None:
                raise _silent(self.teachers["normals"], view, "normals")
            self.normals.append(
                _within(Dense(normals=own.normals, confidence=own.confidence), shown)
            )
        if "panoptic" in self.teachers:
            self.segments.append(
                ViewSegments(view.frame, _inside(answer("panoptic", ask_panoptic), shown))
            )
        if "classes" in self.teachers:
            self._vote(view, shown, answer)

    def _vote(self, view: ViewImage, shown: Mask | None, answer: Any) -> None:
        teacher = self.teachers["classes"]
        if hasattr(teacher, "dense"):
            own: Dense = answer("classes", ask_dense)
            if own.scores is None:
                raise _silent(teacher, view, "classes")
            said = Dense(scores=own.scores, confidence=own.confidence)
        else:
            segments: Panoptic = answer("classes", ask_panoptic)
            if not segments.segments:
                return
            said = Dense(scores=scores_of(segments))
        assert said.scores is not None
        self.votes.add(view.frame, _within(said, shown), self._numbers(said.scores))

    def _numbers(self, scores: ClassScores) -> list[int]:
        names = self.vocabulary.names
        found = [self.vocabulary.find(word) for word in scores.names]
        return [names.index(class_.name) if class_ is not None else -1 for class_ in found]


def scores_of(said: Panoptic) -> ClassScores:
    """Segments as scores of their classes: their confidence where they are."""
    names = tuple(dict.fromkeys(segment.class_name for segment in said.segments))
    values = np.zeros((len(names), *said.segment_ids.shape), np.float32)
    for segment in said.segments:
        values[names.index(segment.class_name)][said.segment_ids == segment.id] = max(
            segment.confidence, 1e-3
        )
    return ClassScores(names, values)


def _depth_alone(
    said: Dense, shown: Mask | None, teachers: Mapping[TeacherRole, Any], view: ViewImage
) -> Dense:
    """The depth of an answer; outside of the picture there is none, as in the sky."""
    if said.depth is None:
        raise _silent(teachers["depth"], view, "depth")
    depth = said.depth
    if shown is not None:
        nothing = np.float32(0 if depth.unit == "inverse" else np.inf)
        depth = replace(depth, values=np.where(shown, depth.values, nothing))
    return _within(Dense(depth, confidence=said.confidence), shown)


def _within(said: Dense, shown: Mask | None) -> Dense:
    """The same with confidence 0 outside of the picture."""
    if shown is None:
        return said
    own: NDArray[np.float32] = (
        shown.astype(np.float32) if said.confidence is None else said.confidence * shown
    )
    return replace(said, confidence=own)


def _inside(said: Panoptic, shown: Mask | None) -> Panoptic:
    if shown is None:
        return said
    return replace(said, segment_ids=np.where(shown, said.segment_ids, 0).astype(np.int32))


def _depth(
    heard: _Heard, config: PseudolabelConfig, width: int, height: int
) -> tuple[MergedDepth, DepthAlignment, str]:
    """Depth of all views as one, in metres or of the stated median."""
    depths = [one.depth for one in heard.depths if one.depth is not None]
    if not depths:
        raise DataError(
            "no view shows anything of the picture: its GPano tags place it nowhere, write them"
            " anew or take them out"
        )
    unit = depths[0].unit
    found = align(heard.frames, depths, config.align)
    merged = merge_depth(heard.frames, heard.depths, found, width, height)
    if unit != "metres":
        known = merged.distance[np.isfinite(merged.distance)]
        factor = config.relative_median_m / float(np.median(known)) if known.size else 1.0
        merged = replace(merged, distance=(merged.distance * factor).astype(np.float32))
    return merged, found, unit


def _silent(teacher: Any, view: ViewImage, what: str) -> TeacherError:
    return TeacherError(
        f"{teacher.name}, view {view.index}: it was asked for {what} and says nothing of it: name"
        " another teacher for that"
    )
