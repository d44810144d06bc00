"""A video through the phases, with truth as its teachers and stated faults."""

from dataclasses import replace

import numpy as np
import pytest
from turning_caps import AWAY, ENTERS, HIDDEN, LATE, SEAM, CapFrames, CapTeachers

from panoforge.core.errors import DataError
from panoforge.label.video.annotate import VideoLabeller
from panoforge.label.video.masks import areas_sr
from panoforge.label.video.noisy_following import NoisyTruthFollowing
from panoforge.label.video.revise import revisions_of
from panoforge.label.video.rules import VideoRules
from panoforge.label.video.runs import KeptFrames
from panoforge.label.video.state import LabelledThing, VideoState, dense

FRAMES = CapFrames()
TRUTH = NoisyTruthFollowing()


def labelled(
    teachers: CapTeachers,
    following: NoisyTruthFollowing = TRUTH,
    frames: CapFrames = FRAMES,
    **rules: object,
) -> VideoState:
    return VideoLabeller(
        KeptFrames(frames), teachers, following, VideoRules.model_validate(rules)
    ).label()


def ids_on(state: VideoState, id_: int) -> list[set[int]]:
    """The written ids on a true object, frame by frame, where it is seen."""
    return [
        set(np.unique(state.read(t)[FRAMES.labels(t) == id_]).tolist())
        for t in range(FRAMES.count)
        if (FRAMES.labels(t) == id_).any()
    ]


def test_truth_comes_back_as_truth_with_one_id_for_each_object() -> None:
    state = labelled(CapTeachers())
    for t in range(FRAMES.count):
        labels, true = state.read(t), FRAMES.labels(t)
        pairs = set(zip(true.ravel().tolist(), labels.ravel().tolist(), strict=True))
        late = t >= ENTERS and t % 2 and t < ENTERS  # found on the keyframe, then carried back
        assert late or len(pairs) == len(set(true.ravel().tolist())), t
    assert len({frozenset(ids) for ids in ids_on(state, SEAM)}) == 1
    assert state.coverage == dict.fromkeys(range(0, FRAMES.count, 2), 1.0)
    assert not state.uncovered


def test_an_object_keeps_its_id_through_absence_and_a_late_one_is_carried_back() -> None:
    state = labelled(CapTeachers())
    assert {frozenset(ids) for ids in ids_on(state, HIDDEN)} == {
        frozenset(ids_on(state, HIDDEN)[0])
    }
    assert AWAY[-1] + 1 < FRAMES.count
    late = ids_on(state, LATE)
    assert len({frozenset(ids) for ids in late}) == 1 and len(late) == FRAMES.count - ENTERS


def test_a_lost_object_that_following_does_not_find_again_comes_back_by_mcr() -> None:
    class Forgets(NoisyTruthFollowing):
        """Once it is gone it stays gone, as with optical flow."""

        def follow(self, frames, order, masks):  # type: ignore[no-untyped-def]
            alive = set(masks)
            for found in super().follow(frames, order, masks):
                alive &= set(found)
                yield {id_: found[id_] for id_ in alive}

    state = labelled(CapTeachers(), Forgets())
    before, after = ids_on(state, HIDDEN)[0], ids_on(state, HIDDEN)[-1]
    assert before == after and state.counted()["returned"] == 1
    without = labelled(CapTeachers(), Forgets(), mcr=False)
    assert ids_on(without, HIDDEN)[-1] != before


def test_what_all_teachers_missed_at_first_is_new_on_a_keyframe_and_backfilled() -> None:
    state = labelled(CapTeachers(blind=(SEAM,)))
    assert state.counted()["new"] == 2  # the ball, and the cat that enters late
    assert state.counted()["border"] >= 1 and state.counted()["backfilled"] >= 1
    ids = ids_on(state, SEAM)
    assert ids[1] == ids[-1] and ids[0] == {0}  # frame 1 is before the keyframe
    assert state.uncovered and state.uncovered[0][0] == 0


def test_the_border_is_asked_about_with_the_panorama_turned() -> None:
    teachers = CapTeachers(blind=(SEAM,))
    labelled(teachers)
    assert (2, True) in teachers.asked
    calm = CapTeachers()
    labelled(calm)
    assert [number for number, turned in calm.asked if turned] == []


def test_no_more_objects_than_there_is_room_for() -> None:
    state = labelled(CapTeachers(), max_objects=3)
    assert len(state.things) == 3 and state.turned_away >= 1
    number_of, things = dense(state)
    entries = revisions_of("caps", state, number_of, things)
    assert any(one.kind == "over_limit" for one in entries)
    assert entries[0].severity == max(one.severity for one in entries)
    blanks = [one for one in entries if one.kind == "uncovered"]
    assert 0 < len(blanks) < len(state.uncovered)  # the same place is one entry
    assert any("other keyframe" in one.why for one in blanks)


def test_masks_that_few_agree_on_or_few_see_are_listed_the_less_sure_first() -> None:
    mask = np.zeros((8, 16), bool)
    mask[3:5, 7:9] = True
    sure = LabelledThing(1, "chair", "agreed: a, b", 0.9, mask, np.zeros((1, 3)), 0)
    things = [
        sure,
        replace(sure, id=2, votes=0.45),
        replace(sure, id=3, votes=0.1),
        replace(sure, id=4, confidence=0.3),
    ]
    found = revisions_of("v", VideoState((8, 16), 9), {k: 10 * k for k in (1, 2, 3, 4)}, things)
    assert [(one.id, one.kind) for one in found] == [(n, "confidence") for n in (30, 20, 40)]
    assert [one.why for one in found] == [
        "10% of the shifted prompts agree on its mask",
        "45% of the shifted prompts agree on its mask",
        "few teachers see it, or are sure: confidence 0.30",
    ]
    assert found[0].lon_deg == pytest.approx(0, abs=1) and found[0].label == "chair"


def test_where_there_is_no_room_for_all_the_largest_are_kept() -> None:
    state = labelled(CapTeachers(), max_objects=3)
    first = FRAMES.labels(0)
    areas = {k: float(areas_sr([first == k])[0]) for k in np.unique(first).tolist()}
    largest = sorted(areas, key=lambda k: -areas[k])
    kept = np.unique(first[state.read(0) > 0]).tolist()
    assert len(largest) > 3 and sorted(kept) == sorted(largest[:3])


def test_sdr_gains_on_teachers_alone_and_mcr_on_propagation() -> None:
    teachers = CapTeachers(edge_px=3, misses=0.3)
    following = NoisyTruthFollowing(edge_px=1, lost=0.1)
    steps = [
        {"sdr": False, "propagation": False},
        {"propagation": False},
        {"mcr": False},
        {},
    ]
    alone, sdr, carried, whole = (mean_iou(labelled(teachers, following, **step)) for step in steps)
    assert sdr > alone + 0.2 and whole > carried + 0.1 and whole > sdr


def mean_iou(state: VideoState) -> float:
    """Each true object against the written id that shares most with it, over all frames."""
    maps = np.stack([state.read(t) for t in range(FRAMES.count)])
    true = np.stack(FRAMES.maps)
    best = []
    for id_ in np.unique(true):
        own = true == id_
        ids = np.unique(maps[own])
        shares = [((maps == k) & own).sum() / ((maps == k) | own).sum() for k in ids if k]
        best.append(max(shares, default=0.0))
    return float(np.mean(best))


def test_a_video_that_ends_early_is_labelled_up_to_there_and_it_is_said() -> None:
    class Cut(CapFrames):
        def rgb(self, number: int) -> np.ndarray:
            if number >= 6:
                raise DataError("frame 6 cannot be decoded: the file is damaged")
            return super().rgb(number)

    state = labelled(CapTeachers(), frames=Cut())
    assert sorted(state.frames) == list(range(6))
    assert state.ended.startswith("labelled are 6 of 10 frames: frame 6 cannot be decoded")
    with pytest.raises(DataError, match="damaged"):
        labelled(CapTeachers(), frames=_None())


class _None(CapFrames):
    def rgb(self, number: int) -> np.ndarray:
        raise DataError("frame 0 cannot be decoded: the file is damaged")
