"""Frames that are not asked about an object, since they lie too far from what it was prompted with.

An option (`scan.reach_deg`), not SAP's. It saves most of the work on panoramas of many objects. An
object that reaches further than that from its prompts is cut off there.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from panoforge.core.geometry.sphere import view_pixel_to_direction, view_rotation
from panoforge.core.types import Floats
from panoforge.eval.predictors import ObjectPrompt
from panoforge.eval.views.frames import PerspectiveFrame, Projection

MASK_SAMPLES = 500  # of a mask's pixels that are looked at


def within_reach(
    objects: Sequence[ObjectPrompt], projections: Sequence[Projection], reach_deg: float
) -> list[ObjectPrompt]:
    """The prompts, each with the frames that come near enough to be asked.

    Args:
        objects: prompts as the frames see them.
        projections: the frames. Where one is no perspective view, all are asked.
        reach_deg: most degrees between what an object was prompted with (clicks on it, corners,
            pixels of a mask) and the circle that a view contains. Prompted frames are always asked.

    Returns:
        The same prompts with `shown` set.
    """
    views = [p.view for p in projections if isinstance(p, PerspectiveFrame)]
    if len(views) != len(projections):
        return list(objects)
    axes = np.array([view_rotation(view)[:, 2] for view in views])
    half_deg = np.array([view.fov_deg for view in views]) / 2
    shown = []
    for prompt in objects:
        places = [
            view_pixel_to_direction(*_places(prompt, t), views[t]) for t in sorted(prompt.frames())
        ]
        directions = np.concatenate([np.zeros((0, 3)), *places])
        directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
        cosine = (directions @ axes.T).max(axis=0, initial=-1)
        near = np.degrees(np.arccos(np.clip(cosine, -1, 1))) <= half_deg + reach_deg
        near[sorted(prompt.frames())] = True
        shown.append(replace(prompt, shown=frozenset(np.flatnonzero(near).tolist())))
    return shown


def _places(prompt: ObjectPrompt, frame: int) -> tuple[Floats, Floats]:
    """Pixel columns and rows (K,) of what is known of an object in a frame."""
    if frame in prompt.points:
        points, labels = prompt.points[frame]
        on = points[labels != 0]
        return on[:, 0], on[:, 1]
    v, u = np.nonzero(prompt.masks[frame] > 0)
    some = slice(None, None, max(1, v.size // MASK_SAMPLES))
    return u[some].astype(np.float64), v[some].astype(np.float64)
