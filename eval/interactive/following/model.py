"""Objects followed by SAM2 as the video predictor that it is.

Each object has a video of its own: the view that goes with it. Its mask on the first frame is the
prompt; memory does the rest. Frames are encoded one after the other and let go.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from panoforge.core.geometry.views import sample_view, wrap_panorama
from panoforge.core.types import Mask
from panoforge.eval.interactive.following.moving_view import MovingView, laid_on
from panoforge.eval.interactive.frames import Frames
from panoforge.eval.predictors import ObjectPrompt, Predictor, ShownFrames

ROOM, MIN_FOV_DEG = 2.5, 70.0  # where it may be found again after it was hidden
_SURE = np.float32(10)  # the logit of a mask that is given


class ModelFollowing:
    """Follows objects with `predictor`, which looks at `size_px`.

    It must read frame t only when frame t − 1 has been answered (SAM2 that encodes one at a time).
    """

    def __init__(self, predictor: Predictor, size_px: int, words: str) -> None:
        self._predictor, self._size_px, self.words = predictor, size_px, words

    def follow(
        self, frames: Frames, order: Sequence[int], masks: Mapping[int, Mask]
    ) -> Iterator[dict[int, Mask]]:
        """As `Following`; an object that is hidden may be found again."""
        runs = {id_: self._one(frames, order, mask) for id_, mask in masks.items()}
        for _ in order[1:]:
            found = {id_: next(run) for id_, run in runs.items()}
            yield {id_: mask for id_, mask in found.items() if mask is not None}

    def _one(self, frames: Frames, order: Sequence[int], mask: Mask) -> Iterator[Mask | None]:
        camera = MovingView.around(mask, self._size_px, room=ROOM, min_fov_deg=MIN_FOV_DEG)
        video = ShownFrames(
            order, lambda frame: sample_view(wrap_panorama(frames.rgb(frame)), camera.view)
        )
        first = wrap_panorama(mask.astype(np.uint8))
        given = sample_view(first, camera.view, labels=True).astype(np.float32)
        prompt = ObjectPrompt(1, {}, {0: _SURE * (2 * given - 1)})
        for said in self._predictor.predict(video, [prompt]):
            if said.frame == 0:
                continue
            there = None
            if len(said.objects):
                logits = said.logits[0].cpu().numpy().astype(np.float32)
                there = laid_on(logits, camera.view, np.zeros_like(mask))
                camera.go_with(there)
            yield there if there is not None and there.any() else None
