"""BFoV search: each object is looked for in a view fitted to its last mask (360VOTS, Xu et al.).

The region of an object in a frame is the bounding field of view of its mask in the frame before,
`margin` times as wide (`panoforge.core.geometry.bfov`). It is fitted on the sphere, so it knows no
seam and no pole. The panorama is projected into it at the model's size, SAM2 predicts there, and
the answer goes back to the panorama. An object that is lost is looked for in a region `widening`
times as wide each frame, and in the whole panorama where no flat view is wide enough.

All objects of a frame are encoded together and tracked together, as many at a time as attend to
equally much; a picture is read once for all of them. Objects that lie close together may share a
view (`panoforge.eval.predictors.shared_views`). Memories are those of `BatchedSam2`, of the views
that an object was seen in.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panoforge.core.errors import UsageError
from panoforge.core.geometry.bfov import Bfov, closer_view, fit_bfov, fit_directions, places_within
from panoforge.core.geometry.pixels import pixel_places, place_to_index
from panoforge.core.geometry.views import WrappedPanorama, sample_directions, wrap_panorama
from panoforge.core.types import Mask, Rgb
from panoforge.eval.predictors import FrameInput, ObjectPrompt
from panoforge.eval.predictors.batched_sam2 import BatchedSam2
from panoforge.eval.predictors.object_memory import ObjectMemory, batches, recalled
from panoforge.eval.predictors.sam2_modules import EncodedFrame
from panoforge.eval.predictors.sam2_video import precision
from panoforge.eval.predictors.shared_views import share_views
from panoforge.eval.views.merge import FrameLogits

OUTSIDE = -10.0  # logit of what a region does not see
FIT_PIXELS = 20_000  # of a mask are enough to bound it to a fraction of a degree


@dataclass(frozen=True)
class Search:
    """How regions follow masks."""

    margin: float = 2.0
    min_fov_deg: float = 20.0
    max_fov_deg: float = 130.0
    max_aspect: float = 2.0
    trim: float = 0.002
    widening: float = 1.5
    share: float = 1.0  # a shared view is at most so many times as wide as an object's own


class BfovSam2:
    """BFoV search with a `BatchedSam2`. Prompts are masks over the whole panorama, one an object.

    It is shown panoramas at their own size (`full_size`), and gives logits over them.
    """

    sees_labels, full_size = False, True

    def __init__(self, sam2: BatchedSam2, search: Search = Search()) -> None:
        self.sam2, self.search = sam2, search
        self.name = f"{sam2.name} + BFoV search"

    @torch.inference_mode()
    def predict(
        self, frames: Sequence[FrameInput], prompts: Sequence[ObjectPrompt]
    ) -> Iterator[FrameLogits]:
        """Logits H×W of each frame's objects, in the order of the frames."""
        first = [_first_frame(prompt) for prompt in prompts]
        looked: dict[int, Bfov | None] = {}
        memories = [ObjectMemory() for _ in prompts]
        regions: dict[int, Bfov | None] = {}
        for t in range(len(frames)):
            begun = [k for k, start in enumerate(first) if start <= t]
            image = frames[t].image
            said: dict[int, Tensor | None] = {}
            if begun:
                for k in (k for k in begun if first[k] == t):
                    regions[k] = self.region(prompts[k].masks[t] > 0)
                looked = self._looked({k: regions[k] for k in begun})
                views = self._views(image, list(dict.fromkeys(looked.values())))
                with precision(self.sam2.model.device):
                    features = dict(
                        zip(views, self.sam2._encode(list(views.values())), strict=True)
                    )
                    encoded = {k: features[looked[k]] for k in begun}
                    said = self._said(t, len(frames), encoded, views, looked, prompts, memories)
            yield self._on_panorama(t, image.shape[:2], said, looked, regions)

    def look(
        self, frames: Sequence[FrameInput], prompts: Sequence[ObjectPrompt]
    ) -> list[Tensor | None]:
        """As BatchedSam2: pictures are no video."""
        return self.sam2.look(frames, prompts)

    def region(self, mask: Mask) -> Bfov | None:
        """Where to look for an object that had this mask, bool H×W; None is everywhere."""
        fit = fit_bfov(mask, trim=self.search.trim, max_pixels=FIT_PIXELS)
        return self._around(fit)

    def _around(self, fit: Bfov | None) -> Bfov | None:
        search = self.search
        view = closer_view(
            fit,
            margin=search.margin,
            min_fov_deg=search.min_fov_deg,
            max_fov_deg=search.max_fov_deg,
            max_aspect=search.max_aspect,
        )
        return view if view is not None and max(view.fov_deg) <= search.max_fov_deg else None

    def followed(
        self, region: Bfov | None, logits: Tensor | None, *, seen_in: Bfov | None
    ) -> Bfov | None:
        """The next region after this one, from what was said in a view, h×w logits."""
        found = None if logits is None else (logits > 0).cpu().numpy()
        if found is None or not found.any():
            return None if region is None else self._wider(region)
        if seen_in is None:  # said of the whole panorama, squeezed
            return self.region(found)
        v, u = np.nonzero(found)
        height, width = found.shape
        x, y = pixel_places(width)[u], pixel_places(height)[v]
        rays = seen_in.directions(x, y)
        length = np.linalg.norm(rays, axis=-1)
        fit = fit_directions(
            rays / length[:, None],
            length**-3,
            half_pixel=float(np.arctan(seen_in.tan_x / width)),
            trim=self.search.trim,
        )
        return self._around(fit)

    def _wider(self, region: Bfov) -> Bfov | None:
        by = self.search.widening
        wide = Bfov(region.yaw_deg, region.pitch_deg, region.tan_x * by, region.tan_y * by)
        return wide if max(wide.fov_deg) <= self.search.max_fov_deg else None

    def _looked(self, regions: dict[int, Bfov | None]) -> dict[int, Bfov | None]:
        """The view of each object: its own region, or one that it shares."""
        if self.search.share == 1:
            return regions
        return share_views(regions, self.search.share, self.search.max_fov_deg)

    def _views(self, image: Rgb, regions: Sequence[Bfov | None]) -> dict[Bfov | None, FrameInput]:
        """What each region sees, at the model's size."""
        size = self.sam2.model.image_size
        wrapped = wrap_panorama(image)
        labels = np.zeros((size, size), np.uint16)
        return {
            region: FrameInput(view_of(wrapped, image, region, size), labels) for region in regions
        }

    def _said(
        self,
        t: int,
        n_frames: int,
        encoded: dict[int, EncodedFrame],
        views: dict[Bfov | None, FrameInput],
        looked: dict[int, Bfov | None],
        prompts: Sequence[ObjectPrompt],
        memories: list[ObjectMemory],
    ) -> dict[int, Tensor | None]:
        """What is said of each object, in its own region."""
        sam2 = self.sam2
        said: dict[int, Tensor | None] = {}
        for k, features in encoded.items():
            if t not in prompts[k].masks:
                continue
            mask = view_of_mask(prompts[k].masks[t], looked[k], sam2.model.image_size)
            own = ObjectPrompt(prompts[k].id, {}, {t: mask})
            with sam2._previous_masks([]):
                one = sam2._condition(t, views[looked[k]], features, [own], [memories[k]])
            said[k] = one[0]
        others = [k for k in encoded if k not in said]
        attended = {k: recalled(sam2.policy, memories[k], t, encoded[k].top) for k in others}
        for batch, recalls in batches(attended, sam2.max_batch):
            features = stacked([encoded[k] for k in batch])
            said |= sam2._track(t, n_frames, features, batch, recalls, memories)
        return said

    def _on_panorama(
        self,
        t: int,
        shape: tuple[int, ...],
        said: dict[int, Tensor | None],
        looked: dict[int, Bfov | None],
        regions: dict[int, Bfov | None],
    ) -> FrameLogits:
        """A frame's logits on the panorama; regions move on to what was found in the views."""
        found: dict[int, NDArray[np.float32]] = {}
        for k, logits in sorted(said.items()):
            if logits is not None:
                own = logits.float().cpu().numpy()
                found[k] = on_panorama(own, looked[k], (shape[0], shape[1]))
            regions[k] = self.followed(regions[k], logits, seen_in=looked[k])
        stack = np.stack(list(found.values())) if found else np.zeros((0, 1, 1), np.float32)
        return FrameLogits(t, np.array(list(found), np.int64), torch.from_numpy(stack))


def _first_frame(prompt: ObjectPrompt) -> int:
    if len(prompt.masks) != 1 or prompt.points:
        raise UsageError(
            f"object {prompt.id}: BFoV search begins with one mask, found prompts in frames"
            f" {sorted(prompt.frames())}: set video.search to whole"
        )
    return next(iter(prompt.masks))


def stacked(features: Sequence[EncodedFrame]) -> EncodedFrame:
    """Frames as one batch: of each object its own."""
    return EncodedFrame(
        [torch.cat(level) for level in zip(*(own.high_res for own in features), strict=True)],
        torch.cat([own.top for own in features], dim=1),
        torch.cat([own.position for own in features], dim=1),
        features[0].size,
    )


def view_of(panorama: WrappedPanorama, image: Rgb, region: Bfov | None, size_px: int) -> Rgb:
    """What a region sees of a panorama, size×size; None is all of it, squeezed."""
    if region is None:
        return cv2.resize(image, (size_px, size_px), interpolation=cv2.INTER_AREA)
    place = pixel_places(size_px)
    return sample_directions(panorama, region.directions(place[None, :], place[:, None]))


def view_of_mask(
    logits: NDArray[np.float32], region: Bfov | None, size_px: int
) -> NDArray[np.float32]:
    """A mask's logits over the panorama as a region sees them, size×size."""
    if region is None:
        return cv2.resize(logits, (size_px, size_px), interpolation=cv2.INTER_AREA)
    place = pixel_places(size_px)
    rays = region.directions(place[None, :], place[:, None])
    return sample_directions(wrap_panorama(logits.astype(np.float32)), rays)


def on_panorama(
    logits: NDArray[np.float32], region: Bfov | None, shape: tuple[int, int]
) -> NDArray[np.float32]:
    """Logits h×w said in a region, on the panorama H×W: bilinear; OUTSIDE where it does not see."""
    height, width = shape
    if region is None:
        return cv2.resize(logits, (width, height), interpolation=cv2.INTER_LINEAR)
    out = np.full(shape, OUTSIDE, np.float32)
    rows, columns, x, y = places_within(region, width, height)
    sees = (np.abs(x) < 1) & (np.abs(y) < 1)
    h, w = logits.shape
    seen = cv2.remap(
        logits,
        place_to_index(np.where(sees, x, 0), w).astype(np.float32),
        place_to_index(np.where(sees, y, 0), h).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    out[np.ix_(rows, columns)] = np.where(sees, seen, OUTSIDE)
    return out
