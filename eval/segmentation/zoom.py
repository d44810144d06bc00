"""Zoom views: every instance of moderate size is seen again (`scan_zoom`).

The view is fitted to what the scan said of it.

SAM2 answers with 256² logits whatever it is shown. In a 90° view a lamp across the room is a
handful of them: ground truth itself, at those logits, loses most of its small instances
(bench/ceiling.py). A view that holds one instance and little else gives it all 256². 360VOTS looks
at bounding fields of view too, one object and frame after the other. Here one panorama's zoom views
are encoded and decoded in batches.

Per instance: merge the scan's logits coarsely, fit the BFoV to the mask
(`panoforge.core.geometry.bfov`), widen it by `margin`, and sample the view. Prompt it with the
instance's own clicks and the scan's logits, as SAM2's mask prompt or as their box. If the scan
found nothing, look around the first click. What a look found may ask for another one (`_next`), a
few times at most:

- a mask that reaches the edge of its view is looked at in a wider one (where the scan saw
  fragments, the fit is too small);
- one that fills little of its view is looked at closer;
- one that is mostly thinner than a logit (`thin`) is looked at in tiles: no single view of 256²
  that holds it can show it.

Then the merge (`panoforge.eval.views.merge`) runs once:

- inside its zoom views' footprints, the densest replaces the scan's mean wherever it has more
  samples per steradian;
- wider than `max_fov_deg`, or empty: keep the scan's mask;
- a zoom view that finds no object takes nothing away: it may refine the scan, not veto it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import cv2
import numpy as np
from numpy.typing import NDArray

from panoforge.core.geometry.bfov import Bfov, around, closer_view, fit_bfov, fit_directions
from panoforge.core.geometry.pixels import (
    edge_to_index,
    index_to_edge,
    index_to_place,
    pixel_places,
    resize_index,
)
from panoforge.core.geometry.views import WrappedPanorama, sample_directions, wrap_panorama
from panoforge.eval.config import MergeConfig, ZoomConfig
from panoforge.eval.predictors import BOX_LABELS, FrameInput, ObjectPrompt, Predictor
from panoforge.eval.segmentation.prompts import InstancePrompt
from panoforge.eval.views.frames import BfovFrame, Projection
from panoforge.eval.views.merge import FrameLogits, Look, merge_bands

COARSE_WIDTH = 1024  # about the resolution of 256² logits over 90°
LOGITS_PX = 256  # of the mask prompt; SAM2 resizes it to its own
AT_ONCE = 16  # looks that are held as pictures at one time
RIM = 0.02  # of a view: a mask that reaches so near to its edge may go on beyond it
WIDER = 2.5


@dataclass(frozen=True)
class _ZoomPlan:
    """What to look at for object `object`.

    - `prior`: float32 LOGITS_PX² logits in the view, None where nothing was found so far.
    - `known`: (K, 3) directions where an earlier look saw it.
    - `last`: a tile, which leads to no further look.
    """

    object: int
    frame: BfovFrame
    prior: NDArray[np.float32] | None
    known: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 3)))
    last: bool = False


def second_looks(
    rgb: WrappedPanorama,
    labels: WrappedPanorama,
    projections: Sequence[Projection],
    said: Sequence[FrameLogits],
    prompts: Sequence[InstancePrompt],
    predictor: Predictor,
    zoom: ZoomConfig,
    *,
    size_px: int,
    merge: MergeConfig,
) -> list[Look]:
    """Look again at the instances that are small enough.

    `said` is what the predictor said of the scan's frames.
    """
    looks = []
    plans: Iterator[_ZoomPlan] = _plan_looks(
        projections, said, prompts, zoom, size_px, (rgb.width, rgb.height), merge
    )
    while batch := list(islice(plans, AT_ONCE)):
        for _ in range(1 + zoom.more_looks):
            found = [
                pair
                for start in range(0, len(batch), AT_ONCE)
                for pair in _look_at(
                    batch[start : start + AT_ONCE], rgb, labels, prompts, predictor, zoom
                )
            ]
            looks += [look for _, look in found]
            batch = [
                new for plan, look in found for new in _next(plan, look, zoom, size_px, merge.clamp)
            ]
    return looks


def _look_at(
    batch: Sequence[_ZoomPlan],
    rgb: WrappedPanorama,
    labels: WrappedPanorama,
    prompts: Sequence[InstancePrompt],
    predictor: Predictor,
    zoom: ZoomConfig,
) -> list[tuple[_ZoomPlan, Look]]:
    """What was found, beside where it was looked for."""
    frames = [_shown(plan.frame, rgb, labels, predictor) for plan in batch]
    objects = [_object_prompt(plan, prompts[plan.object], zoom) for plan in batch]
    said = predictor.look(frames, objects)
    return [
        (plan, Look(plan.object, plan.frame, logits))
        for plan, logits in zip(batch, said, strict=True)
        if logits is not None
    ]


def _shown(
    frame: BfovFrame, rgb: WrappedPanorama, labels: WrappedPanorama, predictor: Predictor
) -> FrameInput:
    """A look's picture, or its labels for who looks at those.

    Sampling is most of what a look costs beside the model.
    """
    if predictor.sees_labels:
        return FrameInput(np.zeros((0, 0, 3), np.uint8), frame.sample(labels, labels=True))
    return FrameInput(frame.sample(rgb), np.zeros((0, 0), np.uint16))


def _next(
    plan: _ZoomPlan, look: Look, zoom: ZoomConfig, size_px: int, clamp: float
) -> list[_ZoomPlan]:
    """What else is to be looked at after a look: a wider view, a closer one, tiles, or nothing.

    Where an earlier look saw the mask is followed as well: an outline that is one in a close view
    is below 0 everywhere in one that holds it whole.
    """
    logits, bfov = look.logits.float().cpu().numpy(), look.frame.bfov
    mask = logits > 0
    region = reaching(logits, zoom.reach_logit, mask | _marked(look, plan.known), wrap=False)
    if plan.last or not region.any():
        return []
    is_thin = thin(logits, region, clamp) >= zoom.thin
    directions, area = _places(look, region)
    whole, rim = region if is_thin else mask, max(1, int(RIM * min(mask.shape)))
    if whole[rim:-rim, rim:-rim].sum() < whole.sum() and (wider := _wider(bfov, zoom)):
        return [_plan(look, wider, size_px, directions)]
    half_pixel = bfov.tan_x / mask.shape[1]
    view = view_of(fit_directions(directions, area, half_pixel=half_pixel, trim=zoom.trim), zoom)
    if view is not None and view.tan_x * view.tan_y < 0.8 * bfov.tan_x * bfov.tan_y:
        return [_plan(look, view, size_px, directions)]
    if not is_thin:
        return []
    counts = [int(np.ceil(fov / zoom.tile_fov_deg)) for fov in bfov.fov_deg]
    v, u = np.nonzero(region)
    cell = v * counts[1] // mask.shape[0] * counts[0] + u * counts[0] // mask.shape[1]
    tiles = [
        view_of(
            fit_directions(directions[cell == c], area[cell == c], half_pixel=half_pixel, trim=0.0),
            zoom,
        )
        for c in np.unique(cell)
    ]
    return [
        _plan(look, tile, size_px, last=True)
        for tile in tiles
        if tile is not None and tile.tan_x * tile.tan_y < 0.6 * bfov.tan_x * bfov.tan_y
    ]


def _wider(bfov: Bfov, zoom: ZoomConfig) -> Bfov | None:
    """The view WIDER times as wide and high, not beyond `max_fov_deg`.

    None where it cannot grow.
    """
    most = float(np.tan(np.radians(zoom.max_fov_deg) / 2)) * zoom.margin
    x, y = (min(WIDER * tangent, most) for tangent in (bfov.tan_x, bfov.tan_y))
    return (
        Bfov(bfov.yaw_deg, bfov.pitch_deg, x, y) if x * y > 1.2 * bfov.tan_x * bfov.tan_y else None
    )


def thin(logits: NDArray[np.floating], region: NDArray[np.bool_], clamp: float) -> float:
    """The share of what is in `region` that lies in places whose logit is not above 0.

    (logit + clamp) / 2 clamp is how much of a place is covered. The share is near 0 for things with
    an inside, and near 1 for outlines thinner than a logit.
    """
    covered = np.clip((logits[region] + clamp) / (2 * clamp), 0, 1)
    return float(covered[covered <= 0.5].sum() / covered.sum()) if covered.size else 0.0


def _places(
    look: Look, region: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unit directions (K, 3) and steradians (K,) of the True places of h×w over a look."""
    height, width = region.shape
    v, u = np.nonzero(region)
    grid = np.stack([index_to_place(u, width), index_to_place(v, height)], axis=-1)
    directions = look.frame.directions(grid[:, 0], grid[:, 1])
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    return directions, 1 / look.frame.density_per_sr(grid.astype(np.float32), region.size).astype(
        np.float64
    )


def _marked(look: Look, directions: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The places h×w of a look that hold one of the directions (K, 3)."""
    marked = np.zeros(look.logits.shape, bool)
    x, y, inside = look.frame.project(directions)
    scale = np.array(marked.shape) / look.frame.size_px
    v, u = (
        np.floor(index_to_edge(place[inside]) * by).astype(int)
        for place, by in ((y, scale[0]), (x, scale[1]))
    )
    marked[v.clip(0, marked.shape[0] - 1), u.clip(0, marked.shape[1] - 1)] = True
    return marked


def _plan(
    look: Look,
    view: Bfov,
    size_px: int,
    known: NDArray[np.float64] | None = None,
    *,
    last: bool = False,
) -> _ZoomPlan:
    """A look at the same object in another view, hinted at by what this one said.

    0 logits, neither yes nor no, beyond it.
    """
    logits, frame = look.logits.float().cpu().numpy(), BfovFrame(view, size_px)
    step = pixel_places(LOGITS_PX)
    x, y, inside = look.frame.project(frame.directions(step[None, :], step[:, None]))
    columns, rows = (
        resize_index(index, look.frame.size_px, logits.shape[1]).astype(np.float32)
        for index in (x, y)
    )
    prior = cv2.remap(logits, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    known = np.zeros((0, 3)) if known is None else known
    return _ZoomPlan(look.object, frame, np.where(inside, prior, 0).astype(np.float32), known, last)


def _plan_looks(
    projections: Sequence[Projection],
    said: Sequence[FrameLogits],
    prompts: Sequence[InstancePrompt],
    zoom: ZoomConfig,
    size_px: int,
    size: tuple[int, int],
    merge: MergeConfig,
) -> Iterator[_ZoomPlan]:
    width = min(COARSE_WIDTH, size[0])
    coarse = _coarse_logits(
        projections, said, len(prompts), width, width * size[1] // size[0], merge
    )
    for k, prompt in enumerate(prompts):
        mask = coarse[k] > 0
        if not mask.any():
            click = next((click for click in prompt.clicks if click.label), None)
            if click is not None:
                yield _ZoomPlan(
                    k,
                    BfovFrame(around((click.lon_deg, click.lat_deg), zoom.lost_fov_deg), size_px),
                    None,
                )
            continue
        view = view_of(fit_bfov(reaching(coarse[k], zoom.reach_logit, mask), trim=zoom.trim), zoom)
        view = view or view_of(fit_bfov(mask, trim=zoom.trim), zoom)
        if view is None:
            continue
        frame = BfovFrame(view, size_px)
        step = pixel_places(LOGITS_PX)
        prior = sample_directions(
            wrap_panorama(coarse[k].astype(np.float32)),
            frame.directions(step[None, :], step[:, None]),
        )
        yield _ZoomPlan(k, frame, prior)


def view_of(bfov: Bfov | None, zoom: ZoomConfig) -> Bfov | None:
    """The view of a second look.

    The BFoV with its margin, at least `min_fov_deg` wide and high, its sides no further apart than
    `max_aspect`. None for instances that are left to the scan.
    """
    return closer_view(
        bfov,
        margin=zoom.margin,
        min_fov_deg=zoom.min_fov_deg,
        max_fov_deg=zoom.max_fov_deg,
        max_aspect=zoom.max_aspect,
    )


def reaching(
    logits: NDArray[np.floating], least: float, known: NDArray[np.bool_], *, wrap: bool = True
) -> NDArray[np.bool_]:
    """Where H×W logits are above `least`, in those pieces that hold some of `known`.

    Pieces are 8-connected; with `wrap` columns are a circle. What is thinner than a logit is below
    0 and yet not nothing.
    """
    count, pieces = cv2.connectedComponents((logits > least).astype(np.uint8), connectivity=8)
    root = np.arange(count)
    if wrap:
        left, right = pieces[:, 0], pieces[:, -1]
        rows = np.arange(len(left))
        for shift in (-1, 0, 1):
            meet = rows[(rows + shift >= 0) & (rows + shift < len(left))]
            for a, b in zip(right[meet].tolist(), left[meet + shift].tolist(), strict=True):
                if a and b:
                    root[root == root[b]] = root[a]
    kept = np.zeros(count, bool)
    kept[root[pieces[known]]] = True
    kept[root[0]] = False
    return kept[root[pieces]]


def _coarse_logits(
    projections: Sequence[Projection],
    said: Sequence[FrameLogits],
    n: int,
    width: int,
    height: int,
    merge: MergeConfig,
) -> NDArray[np.float16]:
    """Merged logits N×H×W at a size that is enough to find things again."""
    out = np.empty((n, height, width), np.float16)
    for row0, band in merge_bands(
        projections, said, n, width, height, rule=merge.rule, clamp=merge.clamp
    ):
        out[:, row0 : row0 + band.shape[1]] = band.half().cpu().numpy()
    return out


def _object_prompt(plan: _ZoomPlan, prompt: InstancePrompt, zoom: ZoomConfig) -> ObjectPrompt:
    """The prompt of a look, as that of frame 0.

    Without a prior, its clicks; where that leaves nothing (a box or a mask has no clicks), the
    prior.
    """
    points, labels = np.zeros((0, 2)), np.zeros(0, np.int32)
    if "click" in zoom.prompt or plan.prior is None:
        x, y, inside = plan.frame.project(
            np.array([click.direction for click in prompt.clicks]).reshape(-1, 3)
        )
        points = np.stack([x, y], axis=-1)[inside]
        labels = np.array([click.label for click in prompt.clicks], np.int32)[inside]
    if "box" in zoom.prompt and plan.prior is not None and (plan.prior > 0).any():
        points = np.concatenate([box_of(plan.prior > 0, plan.frame.size_px), points])
        labels = np.concatenate([BOX_LABELS, labels])
    hinted = "mask" in zoom.prompt or not labels.size
    masks = {0: plan.prior} if hinted and plan.prior is not None else {}
    return ObjectPrompt(prompt.id, {0: (points, labels)} if labels.size else {}, masks)


def box_of(mask: NDArray[np.bool_], size_px: int) -> NDArray[np.float64]:
    """Upper left and lower right corner of a mask over a frame of `size_px`, (2, 2).

    Continuous pixel indices.
    """
    v, u = np.nonzero(mask)
    corners = np.array([[u.min(), v.min()], [u.max() + 1, v.max() + 1]]) / mask.shape[::-1]
    return edge_to_index(corners * size_px)
