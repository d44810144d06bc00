"""The two predictors that need no model: ground truth, the ceiling, and nothing, the floor.

Ground truth takes the labels sampled in a frame and calls them logits (±10). What it loses on the
way through a method is the loss of the method's geometry alone. With `logit_size_px` its masks are
first averaged down to the resolution of SAM2's own logits, as a perfect model would give them. No
SAM2 can beat that ceiling.
"""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from panoforge.eval.predictors import FrameInput, ObjectPrompt
from panoforge.eval.views.merge import FrameLogits

LOGIT = 10.0


class GroundTruth:
    """The labels of each frame as logits.

    At the frame's resolution, or at `logit_size_px` squared.
    """

    sees_labels, full_size = True, False

    def __init__(self, logit_size_px: int | None = None) -> None:
        self.logit_size_px = logit_size_px
        self.name = (
            "ground truth" if logit_size_px is None else f"ground truth at {logit_size_px}² logits"
        )

    def predict(
        self, frames: Sequence[FrameInput], prompts: Sequence[ObjectPrompt]
    ) -> Iterator[FrameLogits]:
        """The true masks as logits, of each frame's objects that it shows."""
        ids = np.array([prompt.id for prompt in prompts], np.int64)
        for index, frame in enumerate(frames):
            asked = np.array([prompt.is_asked(index) for prompt in prompts], bool)  # of none, too
            there = np.bincount(frame.labels.ravel(), minlength=65536)[ids] > 0
            seen = np.flatnonzero(there & asked)
            yield FrameLogits(index, seen, torch.from_numpy(self._logits(frame, ids[seen])))

    def look(
        self, frames: Sequence[FrameInput], prompts: Sequence[ObjectPrompt]
    ) -> list[torch.Tensor | None]:
        """The true mask of each prompt's instance in its frame, as logits."""
        logits = (
            self._logits(frame, np.array([prompt.id]))
            for frame, prompt in zip(frames, prompts, strict=True)
        )
        return [torch.from_numpy(own[0]) if (own > -LOGIT).any() else None for own in logits]

    def _logits(self, frame: FrameInput, ids: NDArray[np.int64]) -> NDArray[np.int8 | np.float32]:
        """K×h×w, int8 at the frame's own resolution."""
        masks = frame.labels[None] == ids[:, None, None]
        if not self.logit_size_px:
            return np.where(masks, np.int8(LOGIT), np.int8(-LOGIT))
        size = (self.logit_size_px, self.logit_size_px)
        small = [
            cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
            for mask in masks
        ]
        return np.array(small, np.float32).reshape(-1, *size) * np.float32(2 * LOGIT) - np.float32(
            LOGIT
        )


class Empty:
    """Nothing, everywhere."""

    name, sees_labels, full_size = "empty", False, False

    def predict(
        self, frames: Sequence[FrameInput], prompts: Sequence[ObjectPrompt]
    ) -> Iterator[FrameLogits]:
        """No objects in any frame."""
        for index in range(len(frames)):
            yield FrameLogits(index, np.zeros(0, np.int64), torch.zeros(0, 1, 1))

    def look(
        self, frames: Sequence[FrameInput], prompts: Sequence[ObjectPrompt]
    ) -> list[torch.Tensor | None]:
        """No mask in any frame."""
        return [None] * len(frames)
