"""Objects followed by colours, edges and motion, without weights.

What it is: dense optical flow (Kroeger et al. 2016, OpenCV's DIS) carries the mask along from frame
to frame, in a view that goes with the object. There it is cut anew along colours and edges
(GrabCut, Rother et al. 2004); what has none of the colours that the object began with is no part of
it. What it is not: a model. It knows no things, it does not find again
what was hidden, and what looks like the ground behind it is lost. It ends where a mask vanishes or
changes its size or colour at once; correct it there and go on.
"""

from collections.abc import Iterator, Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from panoforge.core.geometry.sphere import View
from panoforge.core.geometry.views import WrappedPanorama, sample_view, wrap_panorama
from panoforge.core.types import Mask
from panoforge.eval.interactive.following.moving_view import MovingView, laid_on
from panoforge.eval.interactive.frames import Frames

VIEW_PX = 320
MAX_CHANGE = 3.0  # of the area, from one frame to the next
MAX_COLOUR = 40  # grey levels that its mean colour may change by, likewise
NEAR_COLOUR, COLOURS = 48.0, 6  # RGB; how far from the nearest of so many colours it may be
BAND = 0.12  # of the object's width: how far its outline may be from where the flow says
_ROUNDS, _SEED = 2, 0


class EdgeFollowing:
    """Frame to frame; each object by itself."""

    words = "optical flow and edges, no model: it does not find again what was hidden"

    def follow(
        self, frames: Frames, order: Sequence[int], masks: Mapping[int, Mask]
    ) -> Iterator[dict[int, Mask]]:
        """As `Following`; an object that is lost is not looked for again."""
        now = wrap_panorama(frames.rgb(order[0]))
        alive = dict(masks)
        colours = {id_: _colours(mask, now) for id_, mask in masks.items()}
        for number in order[1:]:
            last, now = now, wrap_panorama(frames.rgb(number))
            found = {id_: _next(mask, last, now, colours[id_]) for id_, mask in alive.items()}
            alive = {id_: mask for id_, mask in found.items() if mask is not None}
            yield dict(alive)


def _colours(mask: Mask, now: WrappedPanorama) -> NDArray[np.float32]:
    """The few colours of an object, N×3."""
    view = MovingView.around(mask, VIEW_PX).view
    inside = sample_view(wrap_panorama(mask.astype(np.uint8)), view, labels=True) > 0
    pixels = sample_view(now, view)[inside].astype(np.float32)
    pixels = pixels[:: max(1, len(pixels) // 4000)]
    if len(pixels) <= COLOURS:
        return pixels
    cv2.setRNGSeed(_SEED)
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 20, 1.0)
    _, _, middles = cv2.kmeans(pixels, COLOURS, None, stop, 1, cv2.KMEANS_PP_CENTERS)
    return np.asarray(middles)


def _next(
    mask: Mask, last: WrappedPanorama, now: WrappedPanorama, colours: NDArray[np.float32]
) -> Mask | None:
    """The mask on the next frame; None where it is lost."""
    view = MovingView.around(mask, VIEW_PX).view
    was = sample_view(wrap_panorama(mask.astype(np.uint8)), view, labels=True)
    before, after = sample_view(last, view), sample_view(now, view)
    moved = _carried(was, before, after)
    cut = _cut(after, moved, colours)
    area = int(was.sum())
    if not area or not area / MAX_CHANGE <= int(cut.sum()) <= area * MAX_CHANGE:
        return None
    change = before[was > 0].mean(axis=0) - after[cut > 0].mean(axis=0)
    if np.abs(change).max() > MAX_COLOUR:
        return None  # the flow always leads somewhere: what is there is another thing
    return laid_on(cut.astype(np.float32) - np.float32(0.5), view, _outside(mask, view, was))


def _outside(mask: Mask, view: View, was: NDArray[np.uint8]) -> Mask:
    """What stays where the view does not look: the mask, if it reaches there."""
    whole = bool(was[0].any() or was[-1].any() or was[:, 0].any() or was[:, -1].any())
    return mask if whole else np.zeros_like(mask)


def _carried(
    was: NDArray[np.uint8], before: NDArray[np.uint8], after: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """The mask where the flow from the later frame back to the earlier finds it."""
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(
        cv2.cvtColor(after, cv2.COLOR_RGB2GRAY), cv2.cvtColor(before, cv2.COLOR_RGB2GRAY), None
    )
    index = np.arange(was.shape[0], dtype=np.float32)
    return cv2.remap(
        was, index[None] + flow[..., 0], index[:, None] + flow[..., 1], cv2.INTER_NEAREST
    )


def _cut(
    picture: NDArray[np.uint8], moved: NDArray[np.uint8], colours: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """The outline found anew, in a band around where the flow has carried it."""
    if not moved.any():
        return moved
    parts_before, _ = cv2.connectedComponents(moved, connectivity=4)
    away = [np.linalg.norm(picture - colour, axis=2) for colour in colours]
    strange = np.min(away, axis=0) > NEAR_COLOUR
    moved = np.where(strange, np.uint8(0), moved)
    if not moved.any():
        return moved
    band = max(2, round(BAND * np.sqrt(float(moved.sum()))))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * band + 1,) * 2)
    sure, reach = cv2.erode(moved, disc), cv2.dilate(moved, disc)
    trimap = np.where(moved > 0, np.uint8(cv2.GC_PR_FGD), np.uint8(cv2.GC_PR_BGD))
    trimap[(reach == 0) | strange] = cv2.GC_BGD
    trimap[sure > 0] = cv2.GC_FGD
    if not (reach == 0).any():
        return moved
    cv2.setRNGSeed(_SEED)
    model = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(picture, trimap, None, *model, _ROUNDS, cv2.GC_INIT_WITH_MASK)
    found = trimap & 1  # GC_FGD and GC_PR_FGD are odd
    _, parts = cv2.connectedComponents(found, connectivity=4)
    shared = np.bincount(parts[(moved > 0) & (found > 0)], minlength=2)
    shared[0] = 0
    kept = np.argsort(shared)[::-1][: parts_before - 1]  # no more parts than there were
    return np.isin(parts, kept[shared[kept] > 0]).astype(np.uint8)
