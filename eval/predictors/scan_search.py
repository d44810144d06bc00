"""A scan of each frame of a video: SAP's way through a panorama, again and again.

Frame t of the video is seen as the V views of a scan, and the video predictor is shown all of them
in order, T × V views. So what it remembers of a thing is mostly of the frame before. A mask prompt
of frame t goes into each view of t that sees some of it. Views of t that see none of it are not
asked: it is known that it is not there. The views' answers are merged into one mask over the
panorama (`panoforge.eval.views.merge`), frame by frame.

It costs V times what whole frames cost; in return each view is a picture like those that SAM2 was
trained on, without seam and poles.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from panoforge.core.errors import UsageError
from panoforge.core.geometry.scan import ScanSpec, scan_views
from panoforge.core.geometry.views import WrappedPanorama, wrap_panorama
from panoforge.eval.config import EvalConfig, MergeRule, ScanConfig
from panoforge.eval.predictors import FrameInput, ObjectPrompt, Predictor, ShownFrames
from panoforge.eval.views.frames import PerspectiveFrame
from panoforge.eval.views.merge import FrameLogits, merge_bands


@dataclass(frozen=True)
class FrameScan:
    """The views of each frame, in order, and how their answers become one."""

    views: tuple[PerspectiveFrame, ...]
    rule: MergeRule = "mean"
    clamp: float = 10.0


def frame_scan(config: EvalConfig) -> FrameScan:
    """The scan that an evaluation asks for.

    Raises:
        UsageError: it asks for what a scan of video frames does not read.
    """
    scan = config.scan
    for key in ("cycles", "reach_deg"):
        if getattr(scan, key) != ScanConfig.model_fields[key].default:
            raise UsageError(
                f"scan.{key} is {getattr(scan, key)}, and a scan of each frame of a video does not"
                f" read it: leave scan.{key} out"
            )
    spec = ScanSpec(scan.fov_deg, scan.overlap, config.view_size_px)
    views = scan_views(spec, scan.yaw0_deg, scan.trajectory)
    return FrameScan(tuple(map(PerspectiveFrame, views)), config.merge.rule, config.merge.clamp)


class ScanOfFrames:
    """Shows a predictor of videos each frame as a scan. Prompts are masks over whole panoramas.

    It is shown panoramas at their own size (`full_size`), and gives logits over them.
    """

    sees_labels, full_size = False, True

    def __init__(self, inner: Predictor, scan: FrameScan) -> None:
        self.inner, self.scan = inner, scan
        self.name = f"{inner.name} + scan of each frame"

    def predict(
        self, frames: Sequence[FrameInput], prompts: Sequence[ObjectPrompt]
    ) -> Iterator[FrameLogits]:
        """Logits H×W of each frame's objects, in the order of the frames."""
        views = self.scan.views
        shown = _ViewsOf(frames, views)
        said: list[FrameLogits] = []
        within = [self._in_views(prompt, len(frames)) for prompt in prompts]
        for one in self.inner.predict(
            ShownFrames(range(len(frames) * len(views)), shown.picture), within
        ):
            frame, view = divmod(one.frame, len(views))
            if said and view == 0:
                raise AssertionError("a predictor of videos answers in the order of the frames")
            said.append(FrameLogits(view, one.objects, one.logits))
            if view == len(views) - 1:
                yield self._merged(frame, said, len(prompts), shown.shape)
                said = []

    def look(
        self, frames: Sequence[FrameInput], prompts: Sequence[ObjectPrompt]
    ) -> list[torch.Tensor | None]:
        """As the predictor within: pictures are no video."""
        return self.inner.look(frames, prompts)

    def _in_views(self, prompt: ObjectPrompt, n_frames: int) -> ObjectPrompt:
        """The prompt in those views that see some of its masks; nothing is asked before them."""
        if prompt.points or not prompt.masks:
            raise UsageError(
                f"object {prompt.id}: a scan of each frame begins with masks, found clicks: set"
                " video.search to whole"
            )
        count, masks = len(self.scan.views), {}
        for frame, logits in prompt.masks.items():
            whole = wrap_panorama(logits.astype(np.float32))
            for number, view in enumerate(self.scan.views):
                own = view.sample(whole)
                if (own > 0).any():
                    masks[frame * count + number] = own
        if not masks:
            raise UsageError(f"object {prompt.id}: its mask is empty: prompt it where it is seen")
        told = {frame * count + number for frame in prompt.masks for number in range(count)}
        later = set(range(min(prompt.masks) * count, n_frames * count)) - told
        return ObjectPrompt(prompt.id, {}, masks, frozenset(later | set(masks)))

    def _merged(
        self, frame: int, said: Sequence[FrameLogits], objects: int, shape: tuple[int, int]
    ) -> FrameLogits:
        """What the views of one frame say, over the panorama; what none holds is absent."""
        there = np.unique(np.concatenate([one.objects for one in said]))
        if not len(there):
            return FrameLogits(frame, there.astype(np.int64), torch.zeros((0, 1, 1)))
        own = [
            FrameLogits(one.frame, np.searchsorted(there, one.objects), one.logits) for one in said
        ]
        height, width = shape
        bands = merge_bands(
            self.scan.views,
            own,
            len(there),
            width,
            height,
            rule=self.scan.rule,
            clamp=self.scan.clamp,
        )
        return FrameLogits(frame, there, torch.cat([band for _, band in bands], dim=1))


class _ViewsOf:
    """The views of frames by one number; a panorama is read and laid out once for all its views."""

    def __init__(self, frames: Sequence[FrameInput], views: tuple[PerspectiveFrame, ...]) -> None:
        self.frames, self.views = frames, views
        self._number = -1
        self._panorama: WrappedPanorama | None = None
        self.shape = (0, 0)

    def picture(self, number: int) -> np.ndarray:
        frame, view = divmod(number, len(self.views))
        if frame != self._number:
            image = self.frames[frame].image
            self.shape = (image.shape[0], image.shape[1])
            self._number, self._panorama = frame, wrap_panorama(image)
        assert self._panorama is not None
        return self.views[view].sample(self._panorama)
