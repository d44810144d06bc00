"""The parts of A3360V, each by itself: proposals, shifted prompts, coverage, MCR's cases."""

import numpy as np
import pytest
from turning_caps import HIDDEN, POLE, SEAM, WALL, CapFrames, ids_of

from panoforge.label.outlines import grown
from panoforge.label.video.continuity import ContinuityRules, Known, SeenProposal, decide
from panoforge.label.video.coverage import coverage_of
from panoforge.label.video.masks import areas_sr, colours_of, ious, middle_deg, shifted
from panoforge.label.video.noisy_following import NoisyTruthFollowing
from panoforge.label.video.proposals import CandidateRules, Proposal, checked, label_candidates
from panoforge.label.video.shifting import ShiftRules, most_agreed, refined, shifts_of

RULES = CandidateRules()
WIDTH = 256
IDS = ids_of(0, WIDTH)
BALL = IDS == SEAM


def said(mask: np.ndarray, teacher: str, sure: float = 0.9, label: str | None = None) -> Proposal:
    return Proposal(mask, teacher, sure, label)


def test_shares_are_of_solid_angle_and_a_mask_on_the_seam_is_one() -> None:
    top = np.zeros((64, 128), bool)
    top[:32] = True
    assert areas_sr([top])[0] == pytest.approx(2 * np.pi)
    polar, wide = np.zeros((64, 128), bool), np.zeros((64, 128), bool)
    polar[:16], wide[:32] = True, True  # a quarter of the rows, 1 − sin 45° of the half sphere
    assert ious([polar], [wide])[0, 0] == pytest.approx(1 - np.sqrt(0.5), abs=1e-6)
    assert BALL[:, 0].any() and BALL[:, -1].any()
    assert middle_deg(BALL)[0] == pytest.approx(178, abs=1)
    moved = shifted(BALL, 20, 0)
    assert moved.sum() == BALL.sum() and middle_deg(moved)[0] == pytest.approx(-154, abs=1.5)


def test_what_passes_a_pole_is_gone_and_does_not_come_back_at_the_other() -> None:
    lamp = IDS == POLE
    assert not shifted(lamp, 0, -40)[-40:].any()
    assert shifted(lamp, 0, 5).sum() == lamp.sum() and not shifted(lamp, 0, 5)[:5].any()


def test_teachers_that_mean_one_thing_are_one_candidate_with_the_mask_of_most() -> None:
    masks = [BALL, grown(BALL, 2), grown(BALL, -2)]
    found = checked([said(mask, f"t{k}") for k, mask in enumerate(masks)], 3, RULES)
    assert len(found) == 1 and found[0].teachers == ("t0", "t1", "t2")
    assert np.array_equal(found[0].mask, BALL)  # each pixel that two of three have
    assert found[0].confidence == pytest.approx(0.9)


def test_two_masks_of_one_teacher_are_two_things_however_alike() -> None:
    found = checked([said(BALL, "t0"), said(grown(BALL, 1), "t0")], 1, RULES)
    assert [one.teachers for one in found] != [("t0", "t0")]


def test_a_piece_and_a_union_that_others_contradict_are_dropped() -> None:
    left = BALL & (np.arange(WIDTH) >= 250)
    dog = IDS == HIDDEN
    both = BALL | dog
    assert ious([left], [BALL])[0, 0] < 0.5  # else it would be the ball, seen badly
    assert max(ious([both], [BALL, dog])[0]) >= 0.5  # and this is
    both = grown(both | (IDS == POLE), 1)  # a rim is left of it beside the three
    assert max(ious([both], [BALL, dog])[0]) < 0.5
    truth = [said(mask, teacher) for teacher in ("a", "b") for mask in (BALL, dog, IDS == POLE)]
    assert len(checked([*truth, said(left, "c")], 3, RULES)) == 3  # a piece of it
    assert len(checked([*truth, said(both, "c")], 3, RULES)) == 3  # three of them as one
    alone = checked([said(left, "c"), said(dog, "c")], 3, RULES)
    assert len(alone) == 2 and alone[0].confidence == pytest.approx(0.3)  # nobody contradicts


def test_unsure_and_tiny_proposals_are_left_out() -> None:
    dot = np.zeros_like(BALL)
    dot[60, 60] = True  # 1 pixel of 256×128 is 64 of 2048×1024
    assert checked([said(BALL, "a", 0.1), said(dot, "b")], 2, RULES) == []
    assert len(checked([said(BALL, "a", 0.2)], 2, RULES)) == 1


def test_each_panoptic_teacher_speaks_by_the_segment_that_covers_most() -> None:
    found = checked([said(BALL, "a")], 1, RULES)
    half = BALL & (np.arange(WIDTH) < 128)
    named = [
        said(BALL, "coco", label="ball"),
        said(IDS == WALL, "coco", label="wall"),
        said(half, "ade", label="balloon"),
    ]
    share = half.sum() / BALL.sum()
    assert label_candidates(found, named, share + 0.1)[0].labels == (("coco", "ball"),)
    both = label_candidates(found, named, share - 0.1)[0].labels
    assert both == (("ade", "balloon"), ("coco", "ball"))


def test_the_answer_that_most_prompts_lead_to_is_kept() -> None:
    other = IDS == HIDDEN
    answers = [other, BALL, grown(BALL, 1), grown(BALL, 2)]
    assert most_agreed(answers, 0.5) == (2, 3)  # the middle one of the three that agree
    assert most_agreed([other], 0.5) == (0, 1)
    assert most_agreed([BALL, grown(BALL, 3)], 0.99)[1] == 1


def test_prompts_are_shifted_by_a_part_of_their_box() -> None:
    assert shifts_of(BALL, 0.1)[0] == (0, 0)
    columns = {x for x, _ in shifts_of(BALL, 0.25)}
    assert max(columns) == round(0.25 * np.ptp(np.flatnonzero(np.roll(BALL, 60, 1).any(0))) + 0.25)


def test_sdr_finds_the_thing_from_a_bad_mask_and_keeps_what_no_answer_fits() -> None:
    frames, truth = CapFrames(count=2, width=WIDTH), NoisyTruthFollowing()
    bad = shifted(grown(BALL, -3), 4, 2)
    found = refined(truth, frames, 0, {7: bad}, ShiftRules())[7]
    assert found.taken and found.votes == found.asked == 5 and np.array_equal(found.mask, BALL)
    sliver = np.zeros_like(BALL)
    sliver[60, 100:103] = True  # the wall answers, which is another thing
    kept = refined(truth, frames, 0, {1: sliver}, ShiftRules())[1]
    assert not kept.taken and np.array_equal(kept.mask, sliver)


def test_coverage_is_of_the_sphere_and_slivers_are_no_blanks() -> None:
    labels = np.where(BALL, 0, IDS).astype(np.uint16)
    found = coverage_of(labels, 0.002)
    assert found.share == pytest.approx(1 - areas_sr([BALL])[0] / (4 * np.pi))
    assert len(found.blanks) == 1 and found.blanks[0].border
    assert abs(found.blanks[0].at_deg[0]) == pytest.approx(178, abs=1.5)
    assert not coverage_of(labels, 0.1).blanks  # tolerated
    outline = grown(BALL, 1) & ~BALL
    assert not coverage_of(np.where(outline, 0, IDS).astype(np.uint16), 1e-4).blanks


def test_of_a_partial_sphere_only_what_is_seen_counts() -> None:
    seen = np.zeros_like(BALL)
    seen[32:96] = True
    labels = np.where(seen, IDS, 0).astype(np.uint16)
    assert coverage_of(labels, 0.002).share < 0.8
    assert (
        coverage_of(labels, 0.002, seen).share == 1 and not coverage_of(labels, 0.002, seen).blanks
    )


def test_cases_of_continuity() -> None:
    rgb = CapFrames(count=1, width=WIDTH).rgb(0)
    colours = {id_: colours_of(rgb, np.equal(IDS, id_)) for id_ in (SEAM, HIDDEN, WALL)}
    half = BALL & (np.arange(WIDTH) >= 128)
    dog = IDS == HIDDEN

    def case(known: list[Known], label: str, **rules: float) -> tuple[str, int | None, bool]:
        own = SeenProposal(BALL, label, colours[SEAM])
        one = decide([own], known, BALL & ~half, ContinuityRules(**rules))[0]
        return one.case, one.id, one.returns

    here = Known(4, "ball", half, colours[SEAM])
    assert case([here], "ball") == ("existing", 4, False)
    assert case([here], "dog") == ("new", None, False)  # on it, and another thing
    assert case([here], "unknown") == ("existing", 4, False)
    lost = Known(5, "ball", shifted(BALL, 10, 0), colours[SEAM], gone=3)
    assert case([lost], "ball") == ("existing", 5, True)
    assert case([lost], "cat") == ("new", None, False)
    assert case([lost], "ball", speed_deg=2.0) == ("new", None, False)  # 14° away after 3 frames
    strange = Known(6, "ball", BALL, colours[HIDDEN], gone=3)
    assert case([strange], "ball") == ("new", None, False)
    nothing = decide([SeenProposal(dog, "dog", colours[HIDDEN])], [here], BALL, ContinuityRules())
    assert nothing[0].case == "covered"
    twice = [
        SeenProposal(BALL, "ball", colours[SEAM]),
        SeenProposal(shifted(BALL, 9, 0), "ball", colours[SEAM]),
    ]
    found = decide(twice, [lost], np.ones_like(BALL), ContinuityRules())
    assert [one.case for one in found] == ["existing", "new"]  # it comes back once
