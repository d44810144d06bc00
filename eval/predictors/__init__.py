"""Predictors: from frames and clicks to mask logits per frame, behind one interface.

A `Predictor` gets the frames of one panorama and the prompts of every object in the frames that see
them. It yields `FrameLogits` frame by frame, at its own resolution. Frames are images, and true
labels for the predictors that are allowed to look. SAM2 is one; ground truth (the ceiling of
a method's geometry) and nothing at all (the floor) are the other two. A method knows nothing of who
predicts, a predictor nothing of panoramas.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, overload

import numpy as np
import torch
from numpy.typing import NDArray

from panoforge.eval.views.merge import FrameLogits

LOGIT_STRIDE = 4  # SAM2's masks come at a quarter of its input size
BOX_LABELS = np.array([2, 3], np.int32)  # of a box's upper left and lower right corner, as points


@dataclass(frozen=True)
class FrameInput:
    """One frame: `image` uint8 h×w×3, `labels` uint16 h×w (true instance ids at pixel centres)."""

    image: NDArray[np.uint8]
    labels: NDArray[np.uint16]


class ShownFrames(Sequence[FrameInput]):
    """Frames without labels whose images are made when they are asked for.

    A video at 4K would be gigabytes. `image_of` gives the uint8 h×w×3 image of an item.
    """

    def __init__(self, items: Sequence[Any], image_of: Callable[[Any], NDArray[np.uint8]]) -> None:
        self._items, self._image_of = items, image_of

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> FrameInput: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[FrameInput]: ...
    def __getitem__(self, index: int | slice) -> FrameInput | Sequence[FrameInput]:
        if isinstance(index, slice):
            return ShownFrames(self._items[index], self._image_of)
        image = self._image_of(self._items[index])
        return FrameInput(image, np.zeros(image.shape[:2], np.uint16))


@dataclass(frozen=True)
class ObjectPrompt:
    """The prompts of one object, by frame.

    Attributes:
        id: The object's number.
        points: Frame → (K, 2) continuous pixel indices (x, y) and their labels (K,). Index 0 is the
            centre of the first pixel. Label 1 is on the object, 0 is not, 2 and 3 are the upper
            left and lower right corners of its box. Corners come first, as SAM2 wants them.
        masks: Frame → float32 logits h×w over the whole frame, beside the points or instead of
            them.
        shown: Frames that are asked about the object; None is all. Prompted ones are among them.
    """

    id: int
    points: dict[int, tuple[NDArray[np.float64], NDArray[np.int32]]] = field(repr=False)
    masks: dict[int, NDArray[np.float32]] = field(default_factory=dict, repr=False)
    shown: frozenset[int] | None = field(default=None, repr=False)

    def frames(self) -> set[int]:
        """The frames with any prompt."""
        return {*self.points, *self.masks}

    def is_asked(self, frame: int) -> bool:
        """Whether a frame is asked about the object."""
        return self.shown is None or frame in self.shown

    def renumbered(self, number: Mapping[int, int]) -> "ObjectPrompt":
        """The prompt in the frames of `number` alone, frame t as frame `number[t]`."""
        return ObjectPrompt(
            self.id,
            {number[t]: points for t, points in self.points.items() if t in number},
            {number[t]: mask for t, mask in self.masks.items() if t in number},
            None if self.shown is None else frozenset(number[t] for t in self.shown if t in number),
        )

    def repeated(self, length: int, times: int) -> "ObjectPrompt":
        """The prompt in a video of `length` frames that is shown `times` times over."""
        starts = [length * cycle for cycle in range(times)]
        return ObjectPrompt(
            self.id,
            {start + t: points for start in starts for t, points in self.points.items()},
            {start + t: mask for start in starts for t, mask in self.masks.items()},
            None if self.shown is None else frozenset(s + t for s in starts for t in self.shown),
        )


class Predictor(Protocol):
    """`name` goes into the tables.

    `sees_labels`: it is shown the true labels of a look instead of its picture. `full_size`: frames
    of videos are shown to it as they are, and its logits may be of any size.
    """

    name: str
    sees_labels: bool
    full_size: bool

    def predict(
        self, frames: Sequence[FrameInput], prompts: Sequence[ObjectPrompt]
    ) -> Iterator[FrameLogits]:
        """Yield each frame's logits once, in any order. Object k of the logits is `prompts[k]`."""
        ...

    def look(
        self, frames: Sequence[FrameInput], prompts: Sequence[ObjectPrompt]
    ) -> list[torch.Tensor | None]:
        """One object in each picture.

        `frames[k]` shows the object of `prompts[k]`, prompted as frame 0. Float32 logits h×w each;
        None where the object is not found. A mask prompt is a hint here, not an answer.
        """
        ...
