"""Every answer of a teacher is checked where it is asked for: size, type, range, NaN."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from panoforge.core.geometry.sphere import View
from panoforge.eval.views.frames import PerspectiveFrame
from panoforge.label.teachers.base import (
    ClassScores,
    Dense,
    DepthMap,
    Entities,
    Panoptic,
    Segment,
    TeacherError,
    ViewImage,
    ask_dense,
    ask_entities,
    ask_panoptic,
)

SIZE = 8
VIEW = ViewImage(
    np.zeros((SIZE, SIZE, 3), np.uint8), PerspectiveFrame(View(0, 0, 90, SIZE)), index=3
)


@dataclass
class Says:
    """A teacher that says what it was given."""

    answer: Any
    name: str = "parrot"
    digest: str = "0"

    def entities(self, view: ViewImage) -> Entities:
        return self.answer

    def panoptic(self, view: ViewImage) -> Panoptic:
        return self.answer

    def dense(self, view: ViewImage) -> Dense:
        return self.answer


def values(value: float = 1.0, *more: int) -> np.ndarray:
    return np.full((SIZE, SIZE, *more), value, np.float32)


ENTITIES = Entities(np.ones((2, SIZE, SIZE), bool), np.array([0.5, 1], np.float32))
CHAIR = Segment(7, "chair", True, 0.9)
PANOPTIC = Panoptic(np.full((SIZE, SIZE), 7, np.int32), (CHAIR,))
UP = values(0, 3)
UP[..., 1] = -1
DENSE = Dense(
    DepthMap(values(np.inf), "ray", "metres"),
    UP,
    ClassScores(("chair", "table"), np.ones((2, SIZE, SIZE), np.float32)),
    values(0.5),
)

BAD_ENTITIES = {
    "another size": replace(ENTITIES, masks=np.ones((2, SIZE, SIZE - 1), bool)),
    "another type": replace(ENTITIES, masks=np.ones((2, SIZE, SIZE), np.uint8)),
    "too many": Entities(np.ones((4097, SIZE, SIZE), bool), np.ones(4097, np.float32)),
    "one confidence short": replace(ENTITIES, confidence=np.ones(1, np.float32)),
    "NaN": replace(ENTITIES, confidence=np.array([np.nan, 1], np.float32)),
    "over 1": replace(ENTITIES, confidence=np.array([1.1, 1], np.float32)),
}
BAD_PANOPTIC = {
    "another size": replace(PANOPTIC, segment_ids=np.full((SIZE, SIZE + 1), 7, np.int32)),
    "another type": replace(PANOPTIC, segment_ids=np.full((SIZE, SIZE), 7, np.int64)),
    "a stranger": replace(PANOPTIC, segment_ids=np.full((SIZE, SIZE), 8, np.int32)),
    "an id twice": replace(PANOPTIC, segments=(CHAIR, CHAIR)),
    "id 0": replace(PANOPTIC, segments=(CHAIR, replace(CHAIR, id=0))),
    "no name": replace(PANOPTIC, segments=(replace(CHAIR, class_name=""),)),
    "a long name": replace(PANOPTIC, segments=(replace(CHAIR, class_name="x" * 201),)),
    "NaN": replace(PANOPTIC, segments=(replace(CHAIR, confidence=float("nan")),)),
    "negative": replace(PANOPTIC, segments=(replace(CHAIR, confidence=-0.1),)),
}


def depth(value: float, unit: str = "metres") -> Dense:
    array = values()
    array[2, 3] = value
    return replace(DENSE, depth=DepthMap(array, "ray", unit))


def scores(array: np.ndarray) -> Dense:
    return replace(DENSE, scores=ClassScores(("chair", "table"), array))


BAD_DENSE = {
    "depth of another size": replace(DENSE, depth=DepthMap(values()[1:], "ray", "metres")),
    "depth of another type": replace(
        DENSE, depth=DepthMap(values().astype(np.float64), "ray", "metres")
    ),
    "depth NaN": depth(np.nan),
    "depth 0": depth(0),
    "depth minus infinity": depth(-np.inf),
    "inverse depth of infinity": depth(np.inf, "inverse"),
    "negative inverse depth": depth(-1, "inverse"),
    "normals of another size": replace(DENSE, normals=UP[:, 1:]),
    "normals NaN": replace(DENSE, normals=values(np.nan, 3)),
    "long normals": replace(DENSE, normals=UP * 2),
    "scores of another size": scores(np.ones((2, SIZE, SIZE + 1), np.float32)),
    "a class short": scores(np.ones((1, SIZE, SIZE), np.float32)),
    "scores NaN": scores(np.full((2, SIZE, SIZE), np.nan, np.float32)),
    "negative scores": scores(np.full((2, SIZE, SIZE), -1, np.float32)),
    "no class": replace(DENSE, scores=ClassScores((), np.ones((0, SIZE, SIZE), np.float32))),
    "confidence of another size": replace(DENSE, confidence=values()[:, 1:]),
    "confidence NaN": replace(DENSE, confidence=values(np.nan)),
    "confidence over 1": replace(DENSE, confidence=values(2)),
}
CASES: list[tuple[str, Callable, Any]] = [
    *(("entities: " + what, ask_entities, bad) for what, bad in BAD_ENTITIES.items()),
    *(("panoptic: " + what, ask_panoptic, bad) for what, bad in BAD_PANOPTIC.items()),
    *(("dense: " + what, ask_dense, bad) for what, bad in BAD_DENSE.items()),
]


@pytest.mark.parametrize(("ask", "bad"), [pytest.param(*case[1:], id=case[0]) for case in CASES])
def test_what_cannot_be_an_answer_is_refused_in_one_line(ask: Callable, bad: Any) -> None:
    with pytest.raises(TeacherError, match=r"^parrot, view 3: .*") as refusal:
        ask(Says(bad), VIEW)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("ask", "good"),
    [
        (ask_entities, ENTITIES),
        (ask_entities, Entities(np.zeros((0, SIZE, SIZE), bool), np.zeros(0, np.float32))),
        (ask_panoptic, PANOPTIC),
        (ask_panoptic, Panoptic(np.zeros((SIZE, SIZE), np.int32), ())),
        (ask_dense, DENSE),
        (ask_dense, Dense()),
        (ask_dense, depth(0, "inverse")),
        (ask_dense, replace(DENSE, normals=values(0, 3))),
    ],
)
def test_what_can_be_an_answer_is_taken_as_it_is(ask: Callable, good: Any) -> None:
    assert ask(Says(good), VIEW) is good
