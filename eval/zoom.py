"""A second look: every instance of moderate size is seen again in a view fitted to what the scan said of it (`scan_zoom`).

SAM2 answers with 256² logits whatever it is shown, so in a 90° view a lamp across the room is a handful of them: ground truth
itself, brought down to those logits, loses most of its small instances (bench/ceiling.py). A view that holds one instance and
little else gives that instance all 256². 360VOTS looks at bounding fields of view too, one object and frame after the other;
here one panorama's looks are encoded and decoded in batches.

Per instance: merge the scan's logits coarsely, fit the BFoV to the mask (`eval.fit`), widen it by `margin`, sample the view, and
prompt it with the instance's own clicks and with the scan's logits as SAM2's mask prompt (or their box, as configured). If the
scan found nothing, look around the first click, and once more at what that look found. Then the merge (`eval.merge`) runs once,
and the rule of it is

- inside a look's footprint the look replaces the scan's mean at every pixel where it has more samples per steradian;
- everywhere else, and for instances wider than `max_fov_deg` or narrower than nothing, the scan stands;
- a look that finds no object takes nothing away: it may refine what the scan said, not veto it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import cv2
import numpy as np
from numpy.typing import NDArray

from eval.config import ZoomConfig
from eval.fit import Bfov, around, fit_bfov, fit_directions
from eval.frames import BfovFrame, Projection
from eval.merge import FrameLogits, Look, merge_bands
from eval.predictors import FrameInput, ObjectPrompt, Predictor
from eval.prompts import InstancePrompt
from pano.views import WrappedPanorama, sample_directions, wrap_panorama

COARSE_WIDTH = 1024  # about the resolution of 256² logits over 90°
LOGITS_PX = 256  # of the mask prompt; SAM2 resizes it to its own
AT_ONCE = 16  # looks that are held as pictures at one time


@dataclass(frozen=True)
class _Plan:
    """What to look at for object `object`: `prior` float32 LOGITS_PX² logits in the view, None where the scan found nothing."""

    object: int
    frame: BfovFrame
    prior: NDArray[np.float32] | None


def second_looks(
    rgb: WrappedPanorama, labels: WrappedPanorama, projections: Sequence[Projection], said: Sequence[FrameLogits],
    prompts: Sequence[InstancePrompt], predictor: Predictor, zoom: ZoomConfig, *, size_px: int, clamp: float,
) -> list[Look]:
    """Look again at the instances that are small enough; `said` is what the predictor said of the scan's frames."""
    looks = []
    plans: Iterator[_Plan] = _plan_looks(projections, said, prompts, zoom, size_px, (rgb.width, rgb.height), clamp)
    while batch := list(islice(plans, AT_ONCE)):
        found = _look_at(batch, rgb, labels, prompts, predictor, zoom)
        looks += found
        lost = {plan.object for plan in batch if plan.prior is None}
        closer = [plan for look in found if look.object in lost and (plan := _closer(look, zoom, size_px))]
        looks += _look_at(closer, rgb, labels, prompts, predictor, zoom)
    return looks


def _look_at(
    batch: Sequence[_Plan], rgb: WrappedPanorama, labels: WrappedPanorama, prompts: Sequence[InstancePrompt],
    predictor: Predictor, zoom: ZoomConfig,
) -> list[Look]:
    frames = [FrameInput(plan.frame.sample(rgb), plan.frame.sample(labels, labels=True)) for plan in batch]
    objects = [_object_prompt(plan, prompts[plan.object], zoom) for plan in batch]
    said = predictor.look(frames, objects)
    return [Look(plan.object, plan.frame, logits) for plan, logits in zip(batch, said, strict=True) if logits is not None]


def _closer(look: Look, zoom: ZoomConfig, size_px: int) -> _Plan | None:
    """A look fitted to what a look around a click found, if that can be seen any closer."""
    logits = look.logits.float().cpu().numpy()
    v, u = np.nonzero(logits > 0)
    if not v.size:
        return None
    height, width = logits.shape
    grid = np.stack([(u + 0.5) / width * 2 - 1, (v + 0.5) / height * 2 - 1], axis=-1)
    directions = look.frame.directions(grid[:, 0], grid[:, 1])
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    area = 1 / look.frame.density_per_sr(grid.astype(np.float32), logits.size).astype(np.float64)
    fitted = fit_directions(directions, area, half_pixel=look.frame.bfov.tan_x / width, trim=zoom.trim)
    view = view_of(fitted, zoom)
    if view is None or view.tan_x * view.tan_y > 0.8 * look.frame.bfov.tan_x * look.frame.bfov.tan_y:
        return None
    frame = BfovFrame(view, size_px)
    step = (np.arange(LOGITS_PX) + 0.5) / LOGITS_PX * 2 - 1
    x, y, inside = look.frame.project(frame.directions(step[None, :], step[:, None]))
    scale = width / look.frame.size_px
    columns, rows = (((place + 0.5) * scale - 0.5).astype(np.float32) for place in (x, y))
    prior = cv2.remap(logits, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return _Plan(look.object, frame, np.where(inside, prior, logits.min()).astype(np.float32))


def _plan_looks(
    projections: Sequence[Projection], said: Sequence[FrameLogits], prompts: Sequence[InstancePrompt], zoom: ZoomConfig,
    size_px: int, size: tuple[int, int], clamp: float,
) -> Iterator[_Plan]:
    width = min(COARSE_WIDTH, size[0])
    coarse = _coarse_logits(projections, said, len(prompts), width, width * size[1] // size[0], clamp)
    for k, prompt in enumerate(prompts):
        mask = coarse[k] > 0
        if not mask.any():
            click = next((click for click in prompt.clicks if click.label), None)
            if click is not None:
                yield _Plan(k, BfovFrame(around((click.lon_deg, click.lat_deg), zoom.lost_fov_deg), size_px), None)
            continue
        view = view_of(fit_bfov(mask, trim=zoom.trim), zoom)
        if view is None:
            continue
        frame = BfovFrame(view, size_px)
        step = (np.arange(LOGITS_PX) + 0.5) / LOGITS_PX * 2 - 1
        prior = sample_directions(wrap_panorama(coarse[k].astype(np.float32)), frame.directions(step[None, :], step[:, None]))
        yield _Plan(k, frame, prior)


def view_of(bfov: Bfov | None, zoom: ZoomConfig) -> Bfov | None:
    """The view of a second look: the BFoV with its margin, at least `min_fov_deg` wide and high, its sides no further apart than
    `max_aspect`. None for instances that are left to the scan."""
    if bfov is None or max(bfov.fov_deg) > zoom.max_fov_deg:
        return None
    least = float(np.tan(np.radians(zoom.min_fov_deg) / 2))
    x, y = (max(tangent * zoom.margin, least) for tangent in (bfov.tan_x, bfov.tan_y))
    return Bfov(bfov.yaw_deg, bfov.pitch_deg, max(x, y / zoom.max_aspect), max(y, x / zoom.max_aspect))


def _coarse_logits(
    projections: Sequence[Projection], said: Sequence[FrameLogits], n: int, width: int, height: int, clamp: float
) -> NDArray[np.float16]:
    """Merged logits N×H×W at a size that is enough to find things again."""
    out = np.empty((n, height, width), np.float16)
    for row0, band in merge_bands(projections, said, n, width, height, clamp=clamp):
        out[:, row0 : row0 + band.shape[1]] = band.half().cpu().numpy()
    return out


def _object_prompt(plan: _Plan, prompt: InstancePrompt, zoom: ZoomConfig) -> ObjectPrompt:
    """The prompt of a look, as that of frame 0. Without a prior, or without anything else, its clicks."""
    points, labels = np.zeros((0, 2)), np.zeros(0, np.int32)
    if "click" in zoom.prompt or plan.prior is None:
        x, y, inside = plan.frame.project(np.array([click.direction for click in prompt.clicks]).reshape(-1, 3))
        points = np.stack([x, y], axis=-1)[inside]
        labels = np.array([click.label for click in prompt.clicks], np.int32)[inside]
    if "box" in zoom.prompt and plan.prior is not None and (plan.prior > 0).any():
        points = np.concatenate([box_of(plan.prior > 0, plan.frame.size_px), points])
        labels = np.concatenate([np.array([2, 3], np.int32), labels])
    masks = {0: plan.prior} if "mask" in zoom.prompt and plan.prior is not None else {}
    return ObjectPrompt(prompt.id, {0: (points, labels)} if labels.size else {}, masks)


def box_of(mask: NDArray[np.bool_], size_px: int) -> NDArray[np.float64]:
    """Upper left and lower right corner of a mask over a frame of `size_px`, as continuous pixel indices, (2, 2)."""
    v, u = np.nonzero(mask)
    corners = np.array([[u.min(), v.min()], [u.max() + 1, v.max() + 1]]) / mask.shape[::-1]
    return corners * size_px - 0.5
