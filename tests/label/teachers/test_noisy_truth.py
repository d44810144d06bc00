"""Noisy truth errs at the rates that it states, and the same way again."""

from collections import Counter

import numpy as np
import pytest

from bench import round_room as solid
from panoforge.label.teachers.base import (
    Panoptic,
    ViewImage,
    ask_dense,
    ask_entities,
    ask_panoptic,
)
from panoforge.label.teachers.noisy import NoiseRates, NoisyTruth
from panoforge.label.teachers.truth import TruthTeacher
from panoforge.label.views.sets import ViewSetConfig, view_frames

ROOM = solid.truth(256)
TRUTH = TruthTeacher(lambda key: ROOM)
FRAMES = view_frames(ViewSetConfig(kind="scan", size_px=96), 256, 128)
VIEWS = [
    ViewImage(np.zeros((96, 96, 3), np.uint8), frame, index, f"room-{repeat}")
    for repeat in range(4)
    for index, frame in enumerate(FRAMES)
]


def noisy(**rates: float) -> NoisyTruth:
    return NoisyTruth(TRUTH, NoiseRates(**rates))


def segments(teacher: NoisyTruth | TruthTeacher) -> list[Panoptic]:
    return [ask_panoptic(teacher, view) for view in VIEWS]


def count(said: list[Panoptic]) -> int:
    return sum(len(one.segments) for one in said)


def test_without_a_rate_it_is_the_truth() -> None:
    for own, true in zip(segments(noisy()), segments(TRUTH), strict=True):
        names = {s.id: s.class_name for s in true.segments}
        for segment in own.segments:
            under = np.unique(true.segment_ids[own.segment_ids == segment.id])
            assert len(under) == 1 and names[int(under[0])] == segment.class_name
    view = VIEWS[3]
    assert np.array_equal(
        ask_dense(noisy(), view).depth.values, ask_dense(TRUTH, view).depth.values
    )
    assert np.array_equal(ask_entities(noisy(), view).masks, ask_entities(TRUTH, view).masks)


def test_the_same_view_errs_the_same_way_and_others_do_not() -> None:
    rates = {"missing": 0.3, "split": 0.3, "eroded": 0.3, "depth_scale": 2.0}
    one, again, other = noisy(**rates), noisy(**rates), noisy(**rates, seed=1)
    differ = 0
    for view in VIEWS[:24]:
        first = one.panoptic(view).segment_ids
        assert np.array_equal(first, again.panoptic(view).segment_ids)
        assert np.array_equal(one.dense(view).depth.values, again.dense(view).depth.values)
        differ += not np.array_equal(first, other.panoptic(view).segment_ids)
    assert differ > 12
    assert one.digest == again.digest != other.digest


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_what_is_missing_and_split_is_as_much_as_said(rate: float) -> None:
    whole = count(segments(TRUTH))
    spread = 3 * np.sqrt(whole * rate * (1 - rate))
    assert abs(count(segments(noisy(missing=rate))) - whole * (1 - rate)) < spread
    assert abs(count(segments(noisy(split=rate))) - whole * (1 + rate)) < spread + 0.02 * whole


def test_merged_instances_touch_and_nothing_is_lost() -> None:
    said, true = segments(noisy(merged=0.5)), segments(TRUTH)
    assert 0.4 * count(true) < count(said) < 0.7 * count(true)
    for own, view in zip(said, true, strict=True):
        assert np.array_equal(own.segment_ids > 0, view.segment_ids > 0)


def test_an_eroded_mask_lies_within_and_has_lost_its_rim() -> None:
    teacher = noisy(eroded=1.0, erode_px=2)
    for view in VIEWS[:24]:
        own, true = ask_panoptic(teacher, view).segment_ids, ask_panoptic(TRUTH, view).segment_ids
        inner = np.ones(true.shape, bool)
        for rows, columns in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            moved = np.roll(true, (rows, columns), (0, 1))
            inner &= moved == true
        assert not ((own > 0) & ~inner)[1:-1, 1:-1].any() and (own > 0).mean() > 0.5


def test_mislabelled_is_as_often_as_said_and_another_class_of_the_panorama() -> None:
    classes = {thing.class_name for thing in ROOM.things.values()}
    wrong = 0
    for own, true in zip(segments(noisy(mislabelled=0.4)), segments(TRUTH), strict=True):
        names = {s.id: s.class_name for s in true.segments}
        for segment in own.segments:
            under = Counter(true.segment_ids[own.segment_ids == segment.id].tolist())
            wrong += names[under.most_common(1)[0][0]] != segment.class_name
            assert segment.class_name in classes
    share, whole = wrong / count(segments(TRUTH)), count(segments(TRUTH))
    assert abs(share - 0.4) < 3 * np.sqrt(0.24 / whole)


def test_depth_is_scaled_and_shifted_by_view_within_what_is_said() -> None:
    teacher, ratios = noisy(depth_scale=2.0), []
    for view in VIEWS:
        own, true = ask_dense(teacher, view).depth, ask_dense(TRUTH, view).depth
        ratio = own.values / true.values
        assert np.ptp(ratio) < 1e-5
        ratios.append(float(ratio.mean()))
    assert 0.5 <= min(ratios) < 0.6 and 1.7 < max(ratios) <= 2
    shifted = ask_dense(noisy(depth_shift=0.2), VIEWS[0]).depth.values
    true = ask_dense(TRUTH, VIEWS[0]).depth.values
    assert np.ptp(shifted - true) < 1e-5 and 0 < abs((shifted - true).mean()) < 0.2 * true.max()
    noise = ask_dense(noisy(depth_noise=0.05), VIEWS[0]).depth.values / true - 1
    assert abs(noise.std() - 0.05) < 0.003
