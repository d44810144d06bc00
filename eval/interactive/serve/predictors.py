"""What answers clicks and boxes on the page, for several pictures, within a bound of memory.

A picture that is clicked on needs its frames sampled and, for SAM2, encoded. That is got ready
once, and the pictures asked about last are kept, as many as `MAX_READY_BYTES` hold. All of this
runs in the one thread of `worker`. `progress` may be read from anywhere.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from panoforge.core.errors import UsageError
from panoforge.core.types import Labels, Mask, Rgb
from panoforge.eval.interactive.clicks import SphereClick
from panoforge.eval.interactive.edges import EdgeFollower
from panoforge.eval.interactive.following import Following
from panoforge.eval.interactive.serve.edits import Wanted, polygon_mask
from panoforge.eval.interactive.serve.worker import Cancel
from panoforge.eval.interactive.true_ids import TrueIds

MAX_READY_BYTES = 2 << 30  # ten of 8192×4096 with a view or two, forty of 4096×2048

Steps = Callable[[int, int], None]


class Answering(Protocol):
    """One panorama that can be asked."""

    def mask(self, clicks: Sequence[SphereClick]) -> Mask:
        """The mask of one object, bool H×W."""
        ...

    def mask_in(self, region: Mask) -> Mask:
        """The mask of what a region, bool H×W, is drawn around."""
        ...

    def towards(self, lon_deg: float, lat_deg: float) -> None:
        """Get ready for clicks on what is seen there."""
        ...

    def held_bytes(self) -> int:
        """What is kept for the picture."""
        ...

    def let_go(self) -> None:
        """Drop what is kept for the picture."""
        ...


Build = Callable[[Rgb, Labels | None, Steps], Answering]


def edges_build(rgb: Rgb, labels: Labels | None, steps: Steps) -> Answering:
    """Colours and edges, no weights."""
    return EdgeFollower(rgb)


def sample_build(rgb: Rgb, labels: Labels | None, steps: Steps) -> Answering:
    """True ids where they are known, as they are of the sample room; else colours and edges."""
    return EdgeFollower(rgb) if labels is None else TrueIds(labels)


class Predictors:
    """`words` say what answers; `open_` gives a picture's pixels and, if there are, true labels.

    `following` carries masks through videos.
    """

    def __init__(self, build: Build, words: str, following: Following, method: str = "") -> None:
        self._build, self.words, self.method = build, words, method
        self.following = following
        self._ready: OrderedDict[str, tuple[Answering, tuple[int, int]]] = OrderedDict()
        self.progress: dict[str, tuple[int, int]] = {}

    def is_ready(self, picture: str) -> bool:
        """Whether a click on the picture is answered at once."""
        return picture in self._ready

    def get_ready(
        self, picture: str, open_: Callable[[], tuple[Rgb, Labels | None]], cancel: Cancel
    ) -> Answering:
        """The picture, ready to be asked; Cancelling if it is not wanted any more."""
        if picture in self._ready:
            self._ready.move_to_end(picture)
            return self._ready[picture][0]

        def steps(done: int, of: int) -> None:
            self.progress[picture] = (done, of)
            cancel.check()

        try:
            steps(0, 1)
            rgb, labels = open_()
            cancel.check()
            built = self._build(rgb, labels, steps)
            self._ready[picture] = built, (rgb.shape[0], rgb.shape[1])
        finally:
            self.progress.pop(picture, None)
        self._make_room()
        return built

    def _make_room(self) -> None:
        """Let the pictures go that were asked about longest ago; never the last one."""
        held = [one.held_bytes() for one, _ in self._ready.values()]
        while len(held) > 1 and sum(held) > MAX_READY_BYTES:
            held.pop(0)
            _, (oldest, _) = self._ready.popitem(last=False)
            oldest.let_go()

    def answer(
        self,
        picture: str,
        open_: Callable[[], tuple[Rgb, Labels | None]],
        wanted: Wanted,
        cancel: Cancel,
    ) -> Mask:
        """The mask of clicks, or of what a box is around."""
        asked = self.get_ready(picture, open_, cancel)
        cancel.check()
        if wanted.corners:
            height, width = self._ready[picture][1]
            region = polygon_mask(wanted.corners, width, height)
            if not region.any():
                raise UsageError("the box is smaller than a pixel: draw it larger")
            found = asked.mask_in(region)
            self._make_room()  # a click may have kept another view
            return found
        clicks = [SphereClick(c.lon_deg, c.lat_deg, c.positive) for c in wanted.clicks]
        found = np.asarray(asked.mask(clicks))
        self._make_room()
        return found
