"""A clip of windows of the equirectangular picture itself (`clip.frames_are: patches`).

SAP's ablation in which nothing is projected.

The windows are those that `erp_patches` shows (`panoforge.core.geometry.patches`), of a panorama
turned to the plan's yaw. Like a scan's views they close to a loop, are shown from the plan's start
on, and carry a click into every window that sees it.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from panoforge.core.geometry.patches import PatchWindow, patch_windows
from panoforge.core.geometry.pixels import resize_index, whole_columns
from panoforge.core.geometry.sphere import row_area_sr
from panoforge.core.shards.read import Sample
from panoforge.core.types import Floats
from panoforge.train.data.clips import (
    add_clicks,
    choose_objects,
    nothing_seen,
    panorama_arrays,
    weighted_count,
)
from panoforge.train.data.plan import ClipPlan
from panoforge.train.data.sources.draw import Draw, as_planned, make_clip
from panoforge.train.settings.clips import ClipSettings

if TYPE_CHECKING:
    from training.utils.data_utils import VideoDatapoint

    from panoforge.train.data.clicks import PixelXY


def patch_clip(
    sample: Sample, plan: ClipPlan, settings: ClipSettings, size_px: int, *, clicks: bool = False
) -> "VideoDatapoint":
    """The clip of `plan`.

    Windows of `sample` at size_px×size_px; with `clicks`, one for each of its objects.
    """
    rgb, labels = panorama_arrays(sample)
    height, width = labels.shape
    shift = whole_columns(plan.yaw0_deg, width)[0]
    rgb, labels = np.roll(rgb, -shift, axis=1), np.roll(labels, -shift, axis=1)
    windows = patch_windows(width, height)
    windows = windows[::-1] if plan.reverse else windows
    windows = windows[plan.start % len(windows) :] + windows[: plan.start % len(windows)]
    first, ids = _first_window(labels, windows, plan, settings, sample.key)
    rotated = windows[first:] + windows[:first]
    shown = (rotated + rotated)[: settings.frames]
    seen = [_cut(labels, window) for window in shown]
    clip = make_clip(
        plan.position,
        [_cut(rgb, window) for window in shown],
        {i: [ids_of_window == i for ids_of_window in seen] for i in ids},
        Draw(plan.object_seed, as_planned(settings, plan), size_px, min_share=0.0),
        np.random.default_rng(plan.colour_seed),
    )
    if clicks:
        from panoforge.train.data.clicks import drawn_clicks

        def places(click: "PixelXY") -> Iterator[Floats]:
            return followed(click, shown, size_px, width)

        add_clicks(clip.frames, plan, lambda masks, rng: drawn_clicks(masks, rng, places))
    return clip


def followed(
    click: "PixelXY", windows: tuple[PatchWindow, ...], size_px: int, width: int
) -> Iterator[Floats]:
    """A place in the first window, shown at size_px×size_px, in each of the others.

    NaN where it is outside.
    """
    x, y = (resize_index(place, size_px, windows[0].side) for place in click)
    u, v = windows[0].left + x, windows[0].top + y
    for window in windows[1:]:
        yield resize_index(window.places(u, v, width), window.side, size_px)


def _cut(array: NDArray, window: PatchWindow) -> NDArray:
    """What a window shows of a panorama."""
    rows = array[window.top : window.top + window.side]
    return rows[:, window.columns(array.shape[1])]


def _first_window(
    labels: NDArray[np.uint16],
    windows: tuple[PatchWindow, ...],
    plan: ClipPlan,
    settings: ClipSettings,
    key: str,
) -> tuple[int, list[int]]:
    """Where in `windows` the clip begins, and the ids it follows."""
    height, width = labels.shape
    row_sr = row_area_sr(width, height)
    for index, window in enumerate(windows):
        weights = np.repeat(row_sr[window.top : window.top + window.side], window.side)
        areas = weighted_count(_cut(labels, window), weights)
        ids = choose_objects(areas, settings, np.random.default_rng(plan.object_seed))
        if ids:
            return index, ids
    raise nothing_seen(key, "window", settings)
