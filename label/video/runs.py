"""Objects carried through a video side by side, each from the frame that it begins at.

A run is a `Following` that has begun with one object's mask and goes on frame by frame. It is not
begun anew at keyframes, so its memory reaches back to where it began, through absence too. An
object whose mask is corrected begins a new run there.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from panoforge.core.types import Labels, Mask, Rgb
from panoforge.eval.interactive.following import Following
from panoforge.eval.interactive.frames import Frames


class KeptFrames:
    """The same frames, the last few kept: every run asks for them."""

    def __init__(self, frames: Frames, keep: int = 3) -> None:
        self._frames, self._keep = frames, keep
        self._rgb: OrderedDict[int, Rgb] = OrderedDict()
        self._labels: OrderedDict[int, Labels | None] = OrderedDict()

    @property
    def names(self) -> Sequence[str]:
        """As the frames have them."""
        return self._frames.names

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self._frames.size

    @property
    def fps(self) -> float:
        """Frames a second; 0 where nothing says so."""
        return self._frames.fps

    @property
    def sha256(self) -> str:
        """The digest by which the video is known again."""
        return self._frames.sha256

    def rgb(self, number: int) -> Rgb:
        """A frame, uint8 H×W×3."""
        if number not in self._rgb:
            self._rgb[number] = self._frames.rgb(number)
            while len(self._rgb) > self._keep:
                self._rgb.popitem(last=False)
        return self._rgb[number]

    def labels(self, number: int) -> Labels | None:
        """Its true ids, uint16 H×W, if there are any."""
        if number not in self._labels:
            self._labels[number] = self._frames.labels(number)
            while len(self._labels) > self._keep:
                self._labels.popitem(last=False)
        return self._labels[number]

    def again(self) -> "KeptFrames":
        """With a reader of their own."""
        return KeptFrames(self._frames.again(), self._keep)

    def close(self) -> None:
        """Let go what is open."""
        self._rgb.clear()
        self._labels.clear()
        self._frames.close()


@dataclass
class LockStep:
    """The runs of a video by object; `step` moves all of them on by a frame."""

    following: Following
    frames: Frames
    _runs: dict[int, Iterator[dict[int, Mask]]] = field(default_factory=dict, repr=False)
    _now: dict[int, Mask] = field(default_factory=dict, repr=False)

    def begin(self, number: int, masks: Mapping[int, Mask]) -> None:
        """Begin with objects as they are on frame `number`; their older runs end."""
        order = range(number, len(self.frames.names))
        for id_, mask in masks.items():
            self._runs[id_] = self.following.follow(self.frames, order, {id_: mask})
            self._now[id_] = mask

    def end(self, id_: int) -> None:
        """An object is not followed any more."""
        self._runs.pop(id_, None)
        self._now.pop(id_, None)

    def now(self) -> dict[int, Mask]:
        """What each run said last, as far as it found its object; masks may overlap."""
        return dict(self._now)

    def step(self) -> dict[int, Mask]:
        """What is found on the next frame, by object; who is not there is left out."""
        found: dict[int, Mask] = {}
        for id_, run in self._runs.items():
            said = next(run, {})
            if id_ in said and said[id_].any():
                found[id_] = said[id_]
        self._now = dict(found)
        return found


def carried_back(
    following: Following, frames: Frames, number: int, first: int, masks: Mapping[int, Mask]
) -> Iterator[tuple[int, dict[int, Mask]]]:
    """Objects of frame `number` on the frames before it, back to `first`, the latest first."""
    order = list(range(number, first - 1, -1))
    if len(order) < 2 or not masks:
        return
    yield from zip(order[1:], following.follow(frames, order, masks), strict=False)
