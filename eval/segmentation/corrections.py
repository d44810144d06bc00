"""Further clicks, where an answer is most wrong: the second and third of SAP's “3 clicks”.

SAP does not say how its further clicks are drawn. Ours are those of SAM2's own evaluation
(sam2_utils.get_next_point, method “center”), on the sphere instead of on a picture:

1. What the answer missed and what it has too much are two regions of the panorama.
2. In each, the most interior pixel is found: the one with the largest angular distance to any pixel
   outside of the region (`panoforge.eval.segmentation.prompts.interior`).
3. The farther of the two is clicked; what is missed wins a tie. A click on what is missed says “on
   the object”, the other “not on it”.
4. Too much is clicked only if a frame shows it together with a click on the object. Any other frame
   would be told what the object is not, and nothing else.

Where nothing is wrong, or nothing can be clicked, the prompt stays as it is. Then the method is run
again from the beginning with all clicks. Everything is deterministic.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from panoforge.core.geometry.sphere import pixel_to_direction
from panoforge.core.sample.label_maps import instance_stats
from panoforge.eval.masks import Masks
from panoforge.eval.segmentation.prompts import Click, InstancePrompt, interior
from panoforge.eval.views.frames import Projection

MISSED, TOO_MUCH = 1, 2


def corrected(
    prompts: Sequence[InstancePrompt],
    masks: Masks,
    labels: NDArray[np.uint16],
    projections: Sequence[Projection],
) -> list[InstancePrompt]:
    """The prompts with one more click each.

    Args:
        prompts: K prompts by clicks.
        masks: the K answers to them.
        labels: H×W, the true ids.
        projections: the frames that the method shows.
    """
    return [
        _with_click(prompt, _errors(masks[k], labels == prompt.id), projections)
        for k, prompt in enumerate(prompts)
    ]


def _errors(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> NDArray[np.uint16]:
    """H×W: MISSED, TOO_MUCH, or 0."""
    return (MISSED * (truth & ~found) + TOO_MUCH * (found & ~truth)).astype(np.uint16)


def _with_click(
    prompt: InstancePrompt, errors: NDArray[np.uint16], projections: Sequence[Projection]
) -> InstancePrompt:
    stats = instance_stats(errors)
    height, width = errors.shape
    found: list[tuple[float, int, Click]] = []
    for index, kind in enumerate(stats.ids.tolist()):
        u, v, distance = interior(errors == kind, stats.box(index))
        click = Click(pixel_to_direction(u, v, width, height), u, v, int(kind == MISSED))
        if click.label or _seen_with_the_object(click, prompt, projections):
            found.append((distance, click.label, click))
    if not found:
        return prompt
    return replace(prompt, clicks=(*prompt.clicks, max(found, key=lambda entry: entry[:2])[2]))


def _seen_with_the_object(
    click: Click, prompt: InstancePrompt, projections: Sequence[Projection]
) -> bool:
    on_it = np.array([own.direction for own in prompt.clicks if own.label])
    return any(
        bool(projection.project(click.direction)[2]) and projection.project(on_it)[2].any()
        for projection in projections
    )
