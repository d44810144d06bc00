"""Segments of overlapping views joined over the whole sphere, and what wins each pixel."""

from collections import Counter

import numpy as np
import pytest
import synthetic

from bench import round_room as solid
from panoforge.core.geometry.sphere import row_area_sr
from panoforge.label.agree.instances import (
    Joined,
    ViewSegments,
    as_partition,
    join,
)
from panoforge.label.agree.votes import NOBODY, Votes
from panoforge.label.settings import JoinSettings
from panoforge.label.teachers.base import (
    Entities,
    Panoptic,
    PanopticTeacher,
    Segment,
    ViewImage,
    ask_panoptic,
)
from panoforge.label.teachers.noisy import NoiseRates, NoisyTruth
from panoforge.label.teachers.truth import TrueThing, Truth, TruthTeacher
from panoforge.label.views.sets import ViewSetConfig, view_frames

WIDTH, SIZE = 512, 192
ROOM = solid.truth(WIDTH)
AREA = np.repeat(row_area_sr(WIDTH, WIDTH // 2), WIDTH).reshape(WIDTH // 2, WIDTH)


def views_of(teacher: PanopticTeacher, kind: str, seed: int = 0) -> list[ViewSegments]:
    """What a teacher says of each view, every view with ids of its own."""
    rng, found = np.random.default_rng(seed), []
    frames = view_frames(ViewSetConfig(kind=kind, size_px=SIZE), WIDTH, WIDTH // 2)
    for index, frame in enumerate(frames):
        blank = np.zeros((frame.height, frame.width, 3), np.uint8)
        said = ask_panoptic(teacher, ViewImage(blank, frame, index, "room"))
        own = rng.permutation(900)[: len(said.segments)] + 1
        lookup = np.zeros(1000, np.int32)
        for segment, new in zip(said.segments, own.tolist(), strict=True):
            lookup[segment.id] = new
        segments = tuple(
            Segment(new, s.class_name, s.is_thing, s.confidence)
            for s, new in zip(said.segments, own.tolist(), strict=True)
        )
        found.append(ViewSegments(frame, Panoptic(lookup[said.segment_ids], segments)))
    return found


def best_ious(joined: Joined, labels: np.ndarray) -> dict[int, tuple[float, int]]:
    """Of each true id: the best IoU by solid angle, and whose it is."""
    found = {}
    for id_ in np.unique(labels[labels > 0]).tolist():
        mask = labels == id_
        shares = []
        for own in np.unique(joined.ids[mask]).tolist():
            other = joined.ids == own
            shares.append((float(AREA[mask & other].sum() / AREA[mask | other].sum()), own))
        found[id_] = max(shares)
    return found


@pytest.mark.parametrize("kind", ["scan", "cube", "slices", "dense32"])
def test_truth_joined_is_the_truth(kind: str) -> None:
    """Each thing one instance, also over the seam and at both poles; walls by their class."""
    joined = join(views_of(TruthTeacher(lambda key: ROOM), kind), WIDTH, WIDTH // 2)
    found = best_ious(joined, np.where(ROOM.labels >= 7, ROOM.labels, 0))
    assert len(found) == 5 and len({own for _, own in found.values()}) == 5
    for id_, (iou, own) in found.items():
        instance = joined.instances[own - 1]
        assert iou > 0.96, (id_, iou)  # a face of the cube has coarser pixels than the room
        assert instance.class_name == ROOM.things[id_].class_name
        assert instance.class_share == 1 and instance.is_thing
        assert instance.confidence > 0.9
        assert len({place for place, _ in instance.members}) == len(instance.members)
    stuff = [one.class_name for one in joined.instances if not one.is_thing]
    assert sorted(stuff) == ["ceiling", "floor", "wall"]
    assert len(joined.instances) == 8 and (joined.ids > 0).all()
    assert [one.id for one in joined.instances] == list(range(1, 9))
    areas = [one.area_sr for one in joined.instances]
    assert areas == sorted(areas, reverse=True) and abs(sum(areas) - 4 * np.pi) < 1e-6


@pytest.mark.parametrize("kind", ["scan", "dense32"])
def test_many_noisy_views_are_better_than_each(kind: str) -> None:
    """At rates that spoil two thirds of a view's instances, most come back whole and named."""
    rates = NoiseRates(missing=0.15, split=0.15, merged=0.05, eroded=0.2, mislabelled=0.25)
    teacher = NoisyTruth(TruthTeacher(lambda key: ROOM), rates)
    joined = join(views_of(teacher, kind), WIDTH, WIDTH // 2)
    things = best_ious(joined, np.where(ROOM.labels >= 7, ROOM.labels, 0))
    print(kind, {id_: round(iou, 3) for id_, (iou, _) in things.items()})
    assert np.mean([iou for iou, _ in things.values()]) > 0.85
    names = [joined.instances[own - 1].class_name == ROOM.things[id_].class_name
             for id_, (_, own) in things.items() if own]  # fmt: skip
    assert sum(names) >= 4


def test_forty_small_things_are_each_one() -> None:
    labels = synthetic.caps(np.random.default_rng(2), WIDTH, 40)[1]
    things = {id_: TrueThing(f"kind {id_ % 7}", True) for id_ in range(1, 41)}
    truth = Truth(labels, things)
    joined = join(views_of(TruthTeacher(lambda key: truth), "scan"), WIDTH, WIDTH // 2)
    found = best_ious(joined, labels)
    large = [iou for id_, (iou, _) in found.items() if AREA[labels == id_].sum() > 0.005]
    assert len(large) > 15 and min(large) > 0.9
    assert len({own for _, own in found.values()}) >= len(found) - 2


def test_what_one_view_tells_apart_is_not_joined_through_another() -> None:
    """One view sees two halves, another the whole: a chain would make both one."""
    frames = view_frames(ViewSetConfig(kind="scan", size_px=SIZE), WIDTH, WIDTH // 2)[:2]
    left = np.ones((SIZE, SIZE), np.int32)
    left[:, SIZE // 2 :] = 2
    pair = (Segment(1, "sofa", True, 1.0), Segment(2, "sofa", True, 0.9))
    views = [
        ViewSegments(frames[0], Panoptic(left, pair)),
        ViewSegments(frames[1], Panoptic(np.ones((SIZE, SIZE), np.int32), pair[:1])),
    ]
    joined = join(views, WIDTH, WIDTH // 2, JoinSettings(match_iou=0.1, least_won=0))
    places = [{place for place, _ in one.members} for one in joined.instances]
    assert sorted(map(len, places)) == [1, 2]
    stuff = tuple(Segment(s.id, "wall", False, 1.0) for s in pair)
    views = [ViewSegments(view.frame, Panoptic(view.said.segment_ids, stuff[: 2 - k]))
             for k, view in enumerate(views)]  # fmt: skip
    assert len(join(views, WIDTH, WIDTH // 2).instances) == 1


def test_a_class_is_voted_by_confidence_and_not_by_number() -> None:
    frame = view_frames(ViewSetConfig(kind="scan", size_px=SIZE), WIDTH, WIDTH // 2)[0]
    ids = np.ones((SIZE, SIZE), np.int32)
    said = (("bed", 0.3), ("bed", 0.3), ("sofa", 0.9))
    views = [
        ViewSegments(frame, Panoptic(ids, (Segment(1, name, True, sure),))) for name, sure in said
    ]
    (one,) = join(views, WIDTH, WIDTH // 2).instances
    assert one.class_name == "sofa" and one.class_share == pytest.approx(0.6, abs=1e-6)
    assert len(one.members) == 3


def test_masks_that_overlap_become_a_partition() -> None:
    masks = np.zeros((4, 8, 8), bool)
    masks[0] = True  # the whole, sure
    masks[1, :3] = True  # a part of it, as sure and smaller: on top
    masks[2, :3, :4] = True  # a part of the part, less sure: covered
    masks[3, 6:, 6:] = True  # surest
    said = as_partition(Entities(masks, np.array([0.8, 0.8, 0.3, 0.9], np.float32)))
    assert [s.id for s in said.segments] == [1, 2, 4]
    assert Counter(said.segment_ids.ravel().tolist()) == {1: 36, 2: 24, 4: 4}
    assert {s.class_name for s in said.segments} == {"unknown"}
    none = as_partition(Entities(np.zeros((0, 8, 8), bool), np.zeros(0, np.float32)))
    assert not none.segments and not none.segment_ids.any()


def test_votes_are_those_of_a_plain_count() -> None:
    rng = np.random.default_rng(0)
    pixels, keys = 200, 4
    plain, votes = np.zeros((keys, pixels)), Votes(pixels, slots=4)
    for _ in range(30):
        at = rng.permutation(pixels)[:120]
        key = rng.integers(keys, size=120).astype(np.int32)
        weight = rng.uniform(0.1, 1, 120).astype(np.float32)
        votes.add(at, key, weight)
        plain[key, at] += weight
    winner, weight = votes.winners()
    assert np.array_equal(winner, plain.argmax(axis=0))
    assert np.allclose(weight, plain.max(axis=0), rtol=1e-5)
    assert np.allclose(votes.given, plain.sum(axis=0), rtol=1e-5)
    without = votes.winners(np.array([True, False, False, False]))[0]
    assert np.array_equal(without, plain[1:].argmax(axis=0) + 1)
    assert (Votes(3).winners()[0] == NOBODY).all()


def test_where_slots_are_few_the_lightest_gives_way() -> None:
    votes, at = Votes(1, slots=2), np.zeros(1, np.int64)
    for key, weight in ((0, 0.5), (1, 0.3), (2, 0.2), (3, 0.9)):
        votes.add(at, np.array([key], np.int32), np.array([weight], np.float32))
        if key == 2:
            assert sorted(votes.keys[:, 0].tolist()) == [0, 1], "a lighter one took a place"
    assert votes.winners()[0].tolist() == [3] and sorted(votes.keys[:, 0].tolist()) == [0, 3]
