"""What a teacher is shown, what it answers, and the check that every answer goes through.

A teacher sees one `ViewImage` at a time. Three interfaces, and a teacher may have several:

- `EntityTeacher`: masks of things, without names;
- `PanopticTeacher`: every pixel belongs to at most one segment, which has a class;
- `DenseTeacher`: depth, normals and class scores of every pixel, as many of them as it knows.

Ask through `ask_entities`, `ask_panoptic` and `ask_dense`: an answer of another size, with NaN or
with values out of range is refused there, in one line that names the teacher. Nobody downstream
checks again. What lies between answers and the sphere is `panoforge.label.views`.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray

from panoforge.core.errors import DataError
from panoforge.core.geometry.sphere import View
from panoforge.core.types import ClassMaps, MaskStack, Normals, Rgb, SegmentIds, Values
from panoforge.eval.views.frames import PerspectiveFrame, Projection

DepthAlong = Literal["ray", "axis"]
DepthUnit = Literal["metres", "relative", "inverse"]

MAX_ENTITIES = 4096
MAX_CLASSES = 4096
MAX_NAME = 200


class TeacherError(DataError):
    """A teacher answered what cannot be an answer, or did not answer."""


@dataclass(frozen=True)
class ViewImage:
    """One view of a panorama, as a teacher sees it.

    Attributes:
        rgb: uint8 (H, W, 3), sRGB.
        frame: Where it lies on the sphere; its height and width are those of `rgb`. Only truth
            teachers need it.
        index: Its place in its set of views.
        panorama: Key of the panorama, or of the video's frame, that it is a view of.
    """

    rgb: Rgb
    frame: Projection
    index: int = 0
    panorama: str = ""

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.rgb.shape[0])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.rgb.shape[1])


def camera_of(frame: Projection) -> View:
    """The camera of a perspective view, whose axes its depth and normals are in.

    Raises:
        DataError: The frame is a piece of the panorama and has no camera.
    """
    if not isinstance(frame, PerspectiveFrame):
        raise DataError(
            "depth along the axis and normals in camera axes need a perspective view, got a"
            f" {type(frame).__name__}: take views scan, cube or dense32 for dense teachers"
        )
    return frame.view


@dataclass(frozen=True)
class Entities:
    """Masks without names, which may overlap.

    Attributes:
        masks: bool (N, H, W).
        confidence: float32 (N,), in [0, 1].
    """

    masks: MaskStack
    confidence: Float32[np.ndarray, " entities"]


@dataclass(frozen=True)
class Segment:
    """One segment of a panoptic answer.

    `id` is its value in the answer's map, from 1; `class_name` is the teacher's own word.
    """

    id: int
    class_name: str
    is_thing: bool
    confidence: float


@dataclass(frozen=True)
class Panoptic:
    """A partition of the view.

    Attributes:
        segment_ids: int32 (H, W), 0 where nothing was said.
        segments: One for each id that occurs.
    """

    segment_ids: SegmentIds
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class DepthMap:
    """Depth of a view, in the teacher's own measure.

    Attributes:
        values: float32 (H, W). Positive or +inf (sky) for depths; 0 or more, 0 at infinity, where
            `unit` is "inverse".
        along: "ray" is the distance from the camera, "axis" the depth along the optical axis (z).
        unit: "metres"; "relative", right up to scale (and shift); "inverse", one over the depth,
            right up to scale and shift.
    """

    values: Values
    along: DepthAlong
    unit: DepthUnit


@dataclass(frozen=True)
class ClassScores:
    """How likely each class is at each pixel: float32 (C, H, W) of any sum, 0 or more."""

    names: tuple[str, ...]
    values: ClassMaps


@dataclass(frozen=True)
class Dense:
    """What a dense teacher knows of every pixel; None is what it does not say.

    Attributes:
        depth: Depth, or None.
        normals: float32 (H, W, 3), unit vectors in the view's camera axes (x right, y down, z
            forward), zero where there is no surface; or None. Of perspective views only.
        scores: Class scores, or None.
        confidence: float32 (H, W) in [0, 1], the teacher's own, or None.
    """

    depth: DepthMap | None = None
    normals: Normals | None = None
    scores: ClassScores | None = None
    confidence: Values | None = None


class Teacher(Protocol):
    """What all teachers have: where a label came from is written beside it."""

    @property
    def name(self) -> str:
        """What it is called in reports and metadata."""

    @property
    def digest(self) -> str:
        """SHA-256 of what decides its answers: weights and settings."""


class EntityTeacher(Teacher, Protocol):
    """Finds things without naming them."""

    def entities(self, view: ViewImage) -> Entities:
        """The masks of one view."""
        ...


class PanopticTeacher(Teacher, Protocol):
    """Names every pixel, and tells things of one class apart."""

    def panoptic(self, view: ViewImage) -> Panoptic:
        """The segments of one view."""
        ...


class DenseTeacher(Teacher, Protocol):
    """Knows depth, normals or classes of every pixel."""

    def dense(self, view: ViewImage) -> Dense:
        """What it knows of one view."""
        ...


def ask_entities(teacher: EntityTeacher, view: ViewImage) -> Entities:
    """A teacher's masks of a view, checked.

    Raises:
        TeacherError: the answer has another size, is not finite or is out of range.
    """
    said = teacher.entities(view)
    masks, confidence = said.masks, said.confidence
    if masks.dtype != np.bool_ or masks.ndim != 3 or masks.shape[1:] != view.rgb.shape[:2]:
        raise _unfit(teacher, view, f"masks of bool (N, {view.height}, {view.width})", masks)
    if len(masks) > MAX_ENTITIES:
        raise _unfit(teacher, view, f"at most {MAX_ENTITIES} masks", masks)
    if confidence.shape != masks.shape[:1]:
        raise _unfit(teacher, view, f"confidence of ({len(masks)},)", confidence)
    _check_share(teacher, view, "confidence", confidence)
    return said


def ask_panoptic(teacher: PanopticTeacher, view: ViewImage) -> Panoptic:
    """A teacher's segments of a view, checked: every id of the map is a segment.

    Raises:
        TeacherError: the answer has another size, unknown ids or confidence out of range.
    """
    said = teacher.panoptic(view)
    ids = said.segment_ids
    if ids.dtype != np.int32 or ids.shape != view.rgb.shape[:2]:
        raise _unfit(teacher, view, f"segment ids of int32 ({view.height}, {view.width})", ids)
    known = [segment.id for segment in said.segments]
    if len(known) > MAX_ENTITIES or len(set(known)) < len(known) or min(known, default=1) < 1:
        raise TeacherError(
            f"{teacher.name}, view {view.index}: expected at most {MAX_ENTITIES} segments with ids"
            f" from 1, each once, got {len(known)} with {len(set(known))} ids from"
            f" {min(known, default=1)}"
        )
    if strangers := set(np.unique(ids).tolist()) - {0, *known}:
        raise TeacherError(
            f"{teacher.name}, view {view.index}: its map holds id {min(strangers)}, which is none"
            f" of its {len(known)} segments"
        )
    for segment in said.segments:
        if not segment.class_name or len(segment.class_name) > MAX_NAME:
            raise TeacherError(
                f"{teacher.name}, view {view.index}: segment {segment.id} has a class name of"
                f" {len(segment.class_name)} characters, expected 1 to {MAX_NAME}"
            )
    shares = np.array([segment.confidence for segment in said.segments], np.float32)
    _check_share(teacher, view, "confidence", shares)
    return said


def ask_dense(teacher: DenseTeacher, view: ViewImage) -> Dense:
    """What a teacher knows of every pixel of a view, checked.

    Raises:
        TeacherError: a map has another size, is not finite or is out of range.
    """
    said = teacher.dense(view)
    if said.depth is not None:
        _check_depth(teacher, view, said.depth)
    if said.normals is not None:
        _check_map(teacher, view, "normals", said.normals, (3,))
        length = np.linalg.norm(said.normals, axis=-1)
        if not ((np.abs(length - 1) < 0.01) | (length == 0)).all():
            raise _unfit(teacher, view, "normals of length 1, or 0 for none", said.normals)
    if said.scores is not None:
        _check_scores(teacher, view, said.scores)
    if said.confidence is not None:
        _check_map(teacher, view, "confidence", said.confidence)
        _check_share(teacher, view, "confidence", said.confidence)
    return said


def _check_depth(teacher: Teacher, view: ViewImage, depth: DepthMap) -> None:
    values, inverse = depth.values, depth.unit == "inverse"
    if values.dtype != np.float32 or values.shape != view.rgb.shape[:2]:
        raise _unfit(teacher, view, f"depth of float32 ({view.height}, {view.width})", values)
    right = (np.isfinite(values) & (values >= 0)) if inverse else values > 0
    if not right.all():  # NaN compares false
        wanted = "finite inverse depth of 0 or more" if inverse else "positive depth, or +inf"
        raise _unfit(teacher, view, wanted, values[~right])


def _check_scores(teacher: Teacher, view: ViewImage, scores: ClassScores) -> None:
    values, classes = scores.values, len(scores.names)
    shape = (classes, *view.rgb.shape[:2])
    if values.dtype != np.float32 or values.shape != shape or not 0 < classes <= MAX_CLASSES:
        raise _unfit(teacher, view, f"class scores of float32 {shape}", values)
    if not (np.isfinite(values) & (values >= 0)).all():
        raise _unfit(teacher, view, "finite class scores of 0 or more", values)


def _check_map(
    teacher: Teacher, view: ViewImage, what: str, values: NDArray, more: tuple[int, ...] = ()
) -> None:
    shape = (*view.rgb.shape[:2], *more)
    if values.dtype != np.float32 or values.shape != shape:
        raise _unfit(teacher, view, f"{what} of float32 {shape}", values)
    if not np.isfinite(values).all():
        raise _unfit(teacher, view, f"finite {what}", values)


def _check_share(teacher: Teacher, view: ViewImage, what: str, values: NDArray) -> None:
    if not ((values >= 0) & (values <= 1)).all():  # NaN compares false
        raise _unfit(teacher, view, f"{what} in [0, 1]", values)


def _unfit(teacher: Teacher, view: ViewImage, wanted: str, got: NDArray) -> TeacherError:
    """What is wrong with an answer, in one line."""
    said = f"{got.dtype} {got.shape}"
    if got.size and got.dtype.kind == "f":
        bad = got[~np.isfinite(got)]
        said += f", {bad.size} not finite" if bad.size else f", {got.min():g} to {got.max():g}"
    return TeacherError(
        f"{teacher.name}, view {view.index}: expected {wanted}, got {said}: nothing of this answer"
        " is used"
    )
