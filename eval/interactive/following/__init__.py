"""From a mask on one frame of a video to its masks on the frames after it.

Or on those before it, for a video that is walked backwards.

    moving_view   the perspective view that goes with an object: seam and poles are places like any
    model         SAM2, as a video predictor, on such a view
    edges         colours, edges and optical flow, without weights
    truth         labels, where the frames have them

A `Following` is a generator: frames are read when they are asked for and let go, so how long a
video is does not matter to memory.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from panoforge.core.types import Mask
from panoforge.eval.interactive.frames import Frames


class Following(Protocol):
    """`words` say what it is."""

    words: str

    def follow(
        self, frames: Frames, order: Sequence[int], masks: Mapping[int, Mask]
    ) -> Iterator[dict[int, Mask]]:
        """Follow objects through a video.

        Args:
            frames: the video.
            order: the numbers of the frames; the first is where the masks are.
            masks: by object, bool H×W.

        Yields:
            For each frame of `order` but the first, the objects that are found on it.

        Raises:
            UsageError: it cannot follow in this video.
        """
        ...
