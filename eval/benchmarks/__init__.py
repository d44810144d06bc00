"""Benchmarks: other people's panoramas and panoramic videos as something that can be scored. One
file each, found by `get_benchmark`.

A benchmark says where its data come from, what their licence allows and how they lie on disk
(`about`, printed when a folder is not as expected), and opens a folder as

- `images`   panoramas with instance id maps: the same path as our own datasets (`panoforge.eval.run`), one `PanoramaItem` each;
- `videos`   panoramic videos with object masks (`panoforge.eval.videos.run`): the mask of an object in its first annotated frame is the prompt,
             J&F of the others the score, as the benchmarks have it; one `VideoItem` each;
- `tracks`   panoramic videos with boxes (`panoforge.eval.videos.boxes`): the first box is the prompt, boxes are scored; one `TrackItem` each.

Nothing is downloaded: no benchmark here allows it without its authors' forms or terms. `pano eval
CONFIG benchmark=NAME root=DIR`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from panoforge.core.errors import DataError
from panoforge.core.types import Labels, Rgb


@dataclass(frozen=True)
class PanoramaItem:
    """One panorama. `read` gives rgb uint8 H×W×3 and ids uint16 H×W, dense from 1; `names` id →
    category, for what is named.
    """

    key: str
    read: Callable[[], tuple[Rgb, Labels, dict[int, str]]] = field(repr=False)


@dataclass(frozen=True)
class VideoItem:
    """One video: `images` in order, and `masks[t]`, which reads the objects' bool H×W masks of
    frame t by id, or None where the frame is not annotated.
    """

    key: str
    images: tuple[Path, ...]
    masks: tuple[Callable[[], dict[int, NDArray[np.bool_]]] | None, ...] = field(repr=False)


@dataclass(frozen=True)
class TrackItem:
    """One sequence of 360VOT: boxes (N, 4) x1, y1, w, h in pixels and BFoVs (N, 5) clon, clat,
    fov_h, fov_v, rotation in degrees, frame by frame; `present` (N,) bool. `labels` is the file
    that says so.
    """

    key: str
    labels: Path
    images: tuple[Path, ...]
    boxes: NDArray[np.float64]
    bfovs: NDArray[np.float64]
    present: NDArray[np.bool_]


Items = Sequence[PanoramaItem] | Sequence[VideoItem] | Sequence[TrackItem]


@dataclass(frozen=True)
class Benchmark:
    """`open(root, split)` gives the items in a fixed order, or DataError (`wrong_layout`).
    `warning`, if any, goes into every result.
    """

    name: str
    title: str
    kind: str  # "images", "videos" or "tracks"
    source: str
    licence: str
    layout: str
    open: Callable[[Path, str | None], Items]
    warning: str | None = None

    @property
    def about(self) -> str:
        return (
            f"{self.title}. Where to get it: {self.source} Licence: {self.licence}"
            f" Layout:\n{self.layout}"
        )


def get_benchmark(name: str) -> Benchmark:
    """The benchmark called `name` (config validation has already refused unknown names)."""
    from panoforge.eval.benchmarks import (
        folder,
        hunyuanworld,
        leader360v,
        panovos,
        pavsod,
        stanford2d3d,
        structured3d,
        vots360,
    )

    modules = (
        folder,
        hunyuanworld,
        leader360v,
        panovos,
        pavsod,
        stanford2d3d,
        structured3d,
        vots360,
    )
    return {benchmark.name: benchmark for module in modules for benchmark in module.BENCHMARKS}[
        name
    ]


def open_benchmark(benchmark: Benchmark, root: Path, split: str | None) -> Items:
    """Its items. DataError with the expected layout if there are none."""
    try:
        items = benchmark.open(root, split)
    except DataError as error:
        raise DataError(f"{error}\n{benchmark.about}") from error
    if not items:
        raise DataError(f"{root} holds nothing of {benchmark.name}.\n{benchmark.about}")
    return items
