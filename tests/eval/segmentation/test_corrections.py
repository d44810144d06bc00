"""Further clicks: where the answer is most wrong, by a rule that a brute-force search repeats."""

import numpy as np
import pytest
from pydantic import ValidationError

from panoforge.core.geometry.sphere import View, pixel_to_direction
from panoforge.eval.config import EvalConfig
from panoforge.eval.masks import Masks
from panoforge.eval.segmentation.corrections import corrected
from panoforge.eval.segmentation.prompts import click_instances
from panoforge.eval.views.frames import ErpFrame, PerspectiveFrame

WIDTH, HEIGHT = 96, 48
WHOLE = [ErpFrame(0, 0, WIDTH, HEIGHT, WIDTH, HEIGHT)]


def brute(region: np.ndarray) -> tuple[int, int, float]:
    """(column, row, angle) of the pixel of a region farthest from all pixels outside of it."""
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    directions = pixel_to_direction(u, v, WIDTH, HEIGHT)
    cosine = directions[region] @ directions[~region].T
    angle = np.round(np.arccos(np.clip(cosine, -1, 1)).min(axis=1), 9)
    best = int(angle.argmax())
    return int(u[region][best]), int(v[region][best]), float(angle[best])


def answer(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    """A mask of boxes (u0, v0, columns, rows), modulo the width."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    for u0, v0, columns, rows in boxes:
        mask[v0 : v0 + rows, np.arange(u0, u0 + columns) % WIDTH] = True
    return mask


def labels_of(mask: np.ndarray) -> np.ndarray:
    return mask.astype(np.uint16) * 7


@pytest.mark.parametrize(
    ("truth", "found", "label"),
    [
        ((80, 10, 40, 20), (80, 10, 14, 20), 1),  # half of it is missed, over the seam
        ((10, 20, 12, 12), (10, 20, 40, 12), 0),  # far too much
        ((10, 20, 12, 12), (50, 20, 12, 12), 1),  # elsewhere: a tie, what is missed wins
    ],
)
def test_the_click_is_the_most_interior_pixel_of_the_larger_error(
    truth: tuple, found: tuple, label: int
) -> None:
    true, said = answer(truth), answer(found)
    prompts = click_instances(labels_of(true), [7])
    (after,) = corrected(prompts, Masks.of(said[None]), labels_of(true), WHOLE)
    assert after.clicks[0] is prompts[0].clicks[0] and len(after.clicks) == 2
    click, regions = after.clicks[1], {1: true & ~said, 0: said & ~true}
    deepest = {kind: brute(region) for kind, region in regions.items() if region.any()}
    assert click.label == label and (click.u, click.v) == deepest[label][:2]
    assert deepest[label][2] >= max(angle for _, _, angle in deepest.values()) - 1e-9


def test_a_right_answer_is_not_clicked_and_nothing_at_all_is() -> None:
    true = answer((10, 20, 12, 12))
    prompts = click_instances(labels_of(true), [7])
    assert corrected(prompts, Masks.of(true[None]), labels_of(true), WHOLE) == prompts
    nothing = Masks.of(np.zeros((1, HEIGHT, WIDTH), bool))
    (after,) = corrected(prompts, nothing, labels_of(true), WHOLE)
    assert [click.label for click in after.clicks] == [1, 1]


def test_what_no_frame_shows_beside_the_object_is_not_clicked() -> None:
    """A wrong mask behind the camera's back: the missed rest is clicked instead, or nothing."""
    true = answer((42, 18, 12, 12))
    views = [PerspectiveFrame(View(yaw, 0.0, 90.0, 32)) for yaw in (0.0, 90.0, 180.0, -90.0)]
    prompts = click_instances(labels_of(true), [7])
    behind = answer((42, 18, 12, 12), (90, 10, 20, 30))
    assert corrected(prompts, Masks.of(behind[None]), labels_of(true), views) == prompts
    half = answer((42, 18, 6, 12), (90, 10, 20, 30))
    (after,) = corrected(prompts, Masks.of(half[None]), labels_of(true), views)
    assert after.clicks[1].label == 1
    (seen,) = corrected(prompts, Masks.of(behind[None]), labels_of(true), WHOLE)
    assert seen.clicks[1].label == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"corrected": [3], "clicks": 3},
        {"corrected": [3], "kind": "box"},
        {"corrected": [3, 2]},
        {"corrected": [1]},
    ],
)
def test_columns_that_make_no_sense_are_refused(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        EvalConfig.model_validate({"prompts": wrong})
