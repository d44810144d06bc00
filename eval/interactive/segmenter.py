"""One panorama, ready to be asked.

Frames sampled and encoded once, then a mask for every set of clicks.

What `pano segment` does once and `pano serve` again and again. A `PanoramaSegmenter` takes the
picture, a config (one method), and a predictor. It goes the very path that scores go
(`panoforge.eval.segmentation.segment`): what is seen here is what is measured there. Objects do
not influence each other, so each is computed alone, and only when its clicks are new.

`KeptFeatures` is SAM2 that keeps the encoder features of the frames it has seen: a click then costs
memory attention and decoder only. With 24 frames of 1024² they take about 0.4 GB in float32.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panoforge.core.errors import UsageError
from panoforge.core.geometry.pixels import pixel_at
from panoforge.core.geometry.sphere import lonlat_to_direction
from panoforge.core.sample.label_maps import instance_stats
from panoforge.core.types import Bools, Mask
from panoforge.eval.config import EvalConfig
from panoforge.eval.interactive.clicks import SphereClick
from panoforge.eval.predictors import FrameInput, Predictor
from panoforge.eval.predictors.batched_sam2 import BatchedSam2
from panoforge.eval.predictors.sam2_video import precision
from panoforge.eval.predictors.truth import GroundTruth
from panoforge.eval.segmentation.prompts import Click, InstancePrompt
from panoforge.eval.segmentation.segment import PanoramaInput, frame_inputs, segment
from panoforge.eval.views.merge import BAND_ROWS
from panoforge.eval.views.methods import get_method

KEPT_MASKS = 64
FRAMES_AT_ONCE = 2


class KeptFeatures(BatchedSam2):
    """SAM2 whose features of `keep(frames)` stay until `forget(frames)`.

    Frames are known by their image array.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self._kept: dict[int, tuple[NDArray[np.uint8], Any]] = {}

    def keep(self, frames: Sequence[FrameInput]) -> None:
        """Encode these frames once, for all predictions on them that follow."""
        import torch

        with torch.inference_mode(), precision(self.model.device):
            self._kept |= {
                id(frame.image): (frame.image, found)
                for frame, found in zip(frames, self._encode(frames), strict=True)
            }

    def forget(self, frames: Sequence[FrameInput]) -> None:
        """Let the features of frames go; those that are not kept do not matter."""
        for frame in frames:
            self._kept.pop(id(frame.image), None)

    def kept_bytes(self, frames: Sequence[FrameInput]) -> int:
        """What features of these frames take."""
        kept = [self._kept[id(f.image)][1] for f in frames if id(f.image) in self._kept]
        return sum(
            tensor.nbytes for one in kept for tensor in (*one.high_res, one.top, one.position)
        )

    def _encode(self, frames: Sequence[FrameInput]) -> list[Any]:
        kept = [self._kept.get(id(frame.image)) for frame in frames]
        new = iter(
            super()._encode(
                [frame for frame, known in zip(frames, kept, strict=True) if known is None]
            )
        )
        return [next(new) if known is None else known[1] for known in kept]


class PanoramaSegmenter:
    """`rgb` uint8 H×W×3; `labels` uint16 H×W where ground truth is the predictor.

    `on_frames` is called with (done, of) while frames are encoded; what it raises ends that. Raises
    UsageError for what cannot be.
    """

    def __init__(
        self,
        rgb: NDArray[np.uint8],
        config: EvalConfig,
        predictor: Predictor,
        labels: NDArray[np.uint16] | None = None,
        on_frames: Callable[[int, int], None] = lambda done, of: None,
    ) -> None:
        if labels is not None and labels.shape != rgb.shape[:2]:
            sizes = [f"{array.shape[1]}×{array.shape[0]}" for array in (labels, rgb)]
            raise UsageError(
                f"the labels are {sizes[0]} and the picture is {sizes[1]}: they must be of one size"
            )
        if isinstance(predictor, GroundTruth) and labels is None:
            raise UsageError(
                "the predictor is ground truth, which needs the labels of the picture: give"
                " --labels FILE"
            )
        self.config, self.predictor, self._truth = config, predictor, labels
        known = np.zeros(rgb.shape[:2], np.uint16) if labels is None else labels
        self.panorama = PanoramaInput("picture", rgb, known)
        self.method = get_method(config.methods[0])
        self._plan = self.method.plan(self.panorama.width, self.panorama.height, config)
        self._inputs = frame_inputs(self.panorama, self._plan)
        self._keep(on_frames)
        self._masks: OrderedDict[tuple[SphereClick, ...], NDArray[np.uint8]] = OrderedDict()

    def _keep(self, on_frames: Callable[[int, int], None]) -> None:
        if not isinstance(self.predictor, KeptFeatures):
            return
        try:
            for start in range(0, len(self._inputs), FRAMES_AT_ONCE):
                on_frames(start, len(self._inputs))
                self.predictor.keep(self._inputs[start : start + FRAMES_AT_ONCE])
        except BaseException:
            self.let_go()
            raise

    def let_go(self) -> None:
        """Drop the features that were kept for this picture."""
        if isinstance(self.predictor, KeptFeatures):
            self.predictor.forget(self._inputs)

    def held_bytes(self) -> int:
        """The picture's, its frames' and their features'."""
        frames = sum(one.image.nbytes + one.labels.nbytes for one in self._inputs)
        own = frames + self.panorama.rgb.nbytes + self.panorama.labels.nbytes
        if isinstance(self.predictor, KeptFeatures):
            own += self.predictor.kept_bytes(self._inputs)
        return own

    def towards(self, lon_deg: float, lat_deg: float) -> None:
        """It is ready for clicks everywhere."""

    @property
    def frames(self) -> int:
        """How many frames the method looks at."""
        return len(self._inputs)

    def warm(self) -> None:
        """Work out where every frame lies on the panorama, and remember it.

        The first mask would otherwise wait for that.
        """
        width, height = self.panorama.width, self.panorama.height
        for row0 in range(0, height, BAND_ROWS):
            for projection in self._plan.projections:
                projection.footprint(width, height, (row0, min(row0 + BAND_ROWS, height)))

    def mask(self, clicks: Sequence[SphereClick]) -> Bools:
        """The mask of one object, bool H×W; empty if no click is on it."""
        wanted = tuple(clicks)
        if not any(click.positive for click in wanted):
            return np.zeros((self.panorama.height, self.panorama.width), bool)
        if wanted not in self._masks:
            self._masks[wanted] = self._segment(self._prompt(wanted))
            if len(self._masks) > KEPT_MASKS:
                self._masks.popitem(last=False)
        self._masks.move_to_end(wanted)
        return self._unpacked(self._masks[wanted])

    def mask_in(self, region: Mask) -> Mask:
        """The mask of the thing that a region, bool H×W, is drawn around.

        A model gets the region's box, wrap-aware, in the frame that sees most of it. Ground truth
        takes the labelled thing of which most lies inside.
        """
        if not region.any():
            return np.zeros_like(region)
        box = instance_stats(region.astype(np.uint16)).box(0)
        size = (self.panorama.width, self.panorama.height)
        prompt = InstancePrompt(1, box=box, size=size)
        if self._truth is not None:
            inside = np.bincount(self._truth[region], minlength=1)
            inside[0] = 0
            if not inside.any():
                raise UsageError("the labels hold nothing in that box: draw it around a thing")
            prompt = replace(prompt, id=int(inside.argmax()))
        return self._unpacked(self._segment(prompt))

    def _segment(self, prompt: InstancePrompt) -> NDArray[np.uint8]:
        """The packed bits of one prompt's mask."""
        return segment(
            self.panorama,
            self._plan,
            self._inputs,
            [prompt],
            self.predictor,
            self.config.merge,
        ).packed[0]

    def _unpacked(self, bits: NDArray[np.uint8]) -> Mask:
        return np.unpackbits(bits, axis=1, count=self.panorama.width).astype(bool)

    def _prompt(self, clicks: Sequence[SphereClick]) -> InstancePrompt:
        points = [self._click(click) for click in clicks]
        prompt = InstancePrompt(1, tuple(points))
        if self._truth is None:
            return prompt
        first = next(point for point in points if point.label == 1)
        there = int(self._truth[first.v, first.u])
        if not there:
            raise UsageError(
                f"the labels hold nothing at {first.lon_deg:.2f}°, {first.lat_deg:.2f}°: click on a"
                " labelled thing"
            )
        return replace(prompt, id=there)

    def _click(self, click: SphereClick) -> Click:
        width, height = self.panorama.width, self.panorama.height
        lon, lat = np.radians(click.lon_deg), np.radians(click.lat_deg)
        u, v = (int(index) for index in pixel_at(lon, lat, width, height))
        return Click(lonlat_to_direction(lon, lat), u, v, int(click.positive))
