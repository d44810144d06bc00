"""SDR's second half: mask prompts are shifted, and the answer that most prompts lead to is kept.

Equation 2 of Leader360V: of all answers M the one whose IoU with most of the answers to the shifted
prompts is over τ. Where several have as many, the one that is nearest to the others. The prompt is
first answered as it is (the coarse prediction), and that answer is what is shifted.

Whoever carries masks through videos answers: a mask carried onto its own frame is SAM2's answer to
a mask prompt there, through its memory.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from pydantic import Field

from panoforge.core.models import FrozenModel, Probability
from panoforge.core.types import Mask
from panoforge.eval.interactive.following import Following
from panoforge.eval.interactive.frames import Frames
from panoforge.label.video.masks import box_of, ious, shifted

AT_ONCE = 8  # objects whose prompts and answers are in memory


class ShiftRules(FrozenModel):
    """How prompts are shifted, and which answer is taken; A3360V's values."""

    share: Probability = Field(
        0.1, description="Share of an object's box that prompts are shifted by."
    )
    agree_iou: Probability = Field(0.5, description="IoU above which two answers agree.")
    match_iou: Probability = Field(
        0.3, description="An answer with a lower IoU with its prompt is not taken."
    )


@dataclass(frozen=True)
class Refined:
    """A mask after SDR. `votes` of `asked` prompts agree; `taken`: it is the model's answer."""

    mask: Mask = field(repr=False)
    votes: int
    asked: int
    taken: bool


def shifts_of(mask: Mask, share: float) -> list[tuple[int, int]]:
    """Where prompts are moved to, (columns, rows): not at all, and by a part of the box."""
    box = box_of(mask)
    columns, rows = max(1, round(share * box.width)), max(1, round(share * box.height))
    return [(0, 0), (columns, 0), (-columns, 0), (0, rows), (0, -rows)]


def most_agreed(answers: Sequence[Mask], agree_iou: float) -> tuple[int, int]:
    """The place of the answer that most others agree with, and how many do (itself too).

    Args:
        answers: bool H×W each; at least one.
        agree_iou: τ of equation 2.
    """
    same = ious(answers, answers)
    np.fill_diagonal(same, 1.0)
    votes = (same > agree_iou).sum(axis=1)
    order = np.lexsort((np.arange(len(answers)), -same.sum(axis=1), -votes))
    return int(order[0]), int(votes[order[0]])


def refined(
    following: Following,
    frames: Frames,
    number: int,
    masks: Mapping[int, Mask],
    rules: ShiftRules,
) -> dict[int, Refined]:
    """Masks of one frame after SDR.

    Args:
        following: who answers mask prompts.
        frames: the video.
        number: the frame.
        masks: by key, bool H×W, none empty.
        rules: how far prompts are shifted, and what counts as the same answer.

    Returns:
        For each key its refined mask: the given one where no answer fits it.
    """
    keys = list(masks)
    found: dict[int, Refined] = {}
    for start in range(0, len(keys), AT_ONCE):
        some = {key: masks[key] for key in keys[start : start + AT_ONCE]}
        found |= _refined(following, frames, number, some, rules)
    return found


def _refined(
    following: Following, frames: Frames, number: int, masks: Mapping[int, Mask], rules: ShiftRules
) -> dict[int, Refined]:
    coarse = _answers(following, frames, number, masks)
    prompts: dict[int, Mask] = {}
    owner: dict[int, int] = {}
    for key, mask in masks.items():
        first = coarse.get(key, mask)
        for columns, rows in shifts_of(first, rules.share):
            prompt = shifted(first, columns, rows)
            if prompt.any():
                owner[len(prompts)] = key
                prompts[len(prompts)] = prompt
    said = _answers(following, frames, number, prompts)
    found = {}
    for key, mask in masks.items():
        answers = [said[k] for k, own in owner.items() if own == key and k in said]
        asked = sum(own == key for own in owner.values())
        found[key] = _chosen(mask, answers, asked, rules)
    return found


def _chosen(mask: Mask, answers: Sequence[Mask], asked: int, rules: ShiftRules) -> Refined:
    if answers:
        place, votes = most_agreed(answers, rules.agree_iou)
        if ious([mask], [answers[place]])[0, 0] >= rules.match_iou:
            return Refined(answers[place], votes, asked, True)
    return Refined(mask, 0, asked, False)


def _answers(
    following: Following, frames: Frames, number: int, prompts: Mapping[int, Mask]
) -> dict[int, Mask]:
    """What is found on a frame for prompts on that very frame; empty masks are none."""
    if not prompts:
        return {}
    said = next(iter(following.follow(frames, [number, number], prompts)))
    return {key: mask for key, mask in said.items() if mask.any()}
