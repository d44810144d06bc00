"""What a benchmark is to evaluation.

Its items (panoramas, videos, tracks), and what it says of itself.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from panoforge.core.categories.class_sets import ClassSet
from panoforge.core.foreign.left_out import NOTHING, LeftOut
from panoforge.core.types import Labels, Mask, Rgb
from panoforge.eval.maps import DenseMaps
from panoforge.train.settings.mtpano import DenseTask

Item = TypeVar("Item")


@dataclass(frozen=True)
class Opened(Sequence[Item], Generic[Item]):
    """The items that were found, and what was left out in finding them."""

    items: Sequence[Item]
    left_out: LeftOut = NOTHING

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        return self.items[index]


class Pixels(NamedTuple):
    """What a panorama holds: rgb uint8 H×W×3, and ids uint16 H×W, dense from 1.

    `names` maps ids to categories, where they are named. `left_out` are objects without a pixel.
    """

    rgb: Rgb
    labels: Labels
    names: Mapping[int, str]
    left_out: LeftOut = NOTHING


@dataclass(frozen=True)
class PanoramaItem:
    """One panorama: its picture, if it is there, and the files that say what is in it."""

    key: str
    images: tuple[Path, ...]
    truth: tuple[Path, ...]
    read: Callable[[], Pixels] = field(repr=False)


@dataclass(frozen=True)
class PackedFrame:
    """A frame in a dataset's shards: `sha256` is of its sample, `read` gives uint8 RGB."""

    name: str
    sha256: str
    read: Callable[[], Rgb] = field(repr=False, compare=False)

    @property
    def stem(self) -> str:
        """Its name without a suffix."""
        return Path(self.name).stem


FrameFile = Path | PackedFrame


@dataclass(frozen=True)
class VideoItem:
    """One video: its images in order, and the masks of its objects.

    `masks[t]` reads the objects' bool H×W masks of frame t by id, or is None where the frame is not
    annotated. `truth` are the files that masks come from. `names` says what objects are, id →
    label, where the data say it.
    """

    key: str
    images: tuple[FrameFile, ...]
    truth: tuple[Path, ...]
    masks: tuple[Callable[[], dict[int, Mask]] | None, ...] = field(repr=False)
    names: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TrackItem:
    """One sequence of 360VOT.

    Boxes (N, 4) x1, y1, w, h in pixels and BFoVs (N, 5) clon, clat, fov_h, fov_v, rotation in
    degrees, frame by frame; `present` (N,) bool. `labels` is the file that says so. The rotated
    bounds, (N, 5) each, are None where the file has none: boxes cx, cy, w, h, rotation.
    """

    key: str
    labels: Path
    images: tuple[Path, ...]
    boxes: NDArray[np.float64]
    bfovs: NDArray[np.float64]
    present: NDArray[np.bool_]
    rotated_boxes: NDArray[np.float64] | None = None
    rotated_bfovs: NDArray[np.float64] | None = None

    @property
    def truth(self) -> tuple[Path, ...]:
        """The files that say where the object is."""
        return (self.labels,)


@dataclass(frozen=True)
class DenseItem:
    """One panorama with maps of every pixel.

    `read` gives the picture and the maps of the tasks that the benchmark was opened for.
    """

    key: str
    images: tuple[Path, ...]
    truth: tuple[Path, ...]
    read: Callable[[], tuple[Rgb, DenseMaps]] = field(repr=False)


@dataclass(frozen=True)
class DenseAsked:
    """What is asked of a benchmark's maps: for which tasks, in which label set."""

    tasks: tuple[DenseTask, ...]
    classes: ClassSet


Items = Sequence[PanoramaItem] | Sequence[VideoItem] | Sequence[TrackItem]


@dataclass(frozen=True)
class Benchmark:
    """`open(root, split)` gives the items in a fixed order, or DataError (`wrong_layout`).

    `warning`, if any, goes into every result. `dense` opens the same data for `task: dense`; None
    where they have no maps.
    """

    name: str
    title: str
    kind: str  # "images", "videos" or "tracks"
    source: str
    licence: str
    layout: str
    open: Callable[[Path, str | None], Items]
    warning: str | None = None
    dense: Callable[[Path, str | None, DenseAsked], Sequence[DenseItem]] | None = None

    @property
    def about(self) -> str:
        """Where to get the benchmark, its licence and the layout that is read."""
        return (
            f"{self.title}. Where to get it: {self.source} Licence: {self.licence}"
            f" Layout:\n{self.layout}"
        )
