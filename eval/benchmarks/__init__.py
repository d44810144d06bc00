"""Benchmarks: other people's panoramas and panoramic videos as something that can be scored.

One file each, found by `get_benchmark`.

A benchmark says where its data come from, what their licence allows and how they lie on disk. That
is `about`, printed when a folder is not as expected. It opens a folder as

- `images`: panoramas with instance id maps, one `PanoramaItem` each. They go the same path as our
  own datasets (`panoforge.eval.run`);
- `videos`: panoramic videos with object masks, one `VideoItem` each. The mask of an object in its
  first annotated frame is the prompt, J&F of the others the score (`panoforge.eval.videos.run`);
- `tracks`: panoramic videos with boxes, one `TrackItem` each. The first box is the prompt, boxes
  are scored (`panoforge.eval.videos.boxes`).

Nothing is downloaded: no benchmark here allows it without its authors' forms or terms. `pano eval
CONFIG benchmark=NAME root=DIR`.
"""

from pathlib import Path
from typing import Any

from panoforge.core.errors import DataError, UsageError
from panoforge.eval.benchmarks import (
    folder,
    held_out_video,
    hunyuanworld,
    leader360v,
    panovos,
    pavsod,
    stanford2d3d,
    structured3d,
    vots360,
)
from panoforge.eval.benchmarks.base import Benchmark, DenseAsked, DenseItem, Opened


def get_benchmark(name: str) -> Benchmark:
    """The benchmark called `name` (config validation has already refused unknown names)."""
    modules = (
        folder,
        held_out_video,
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


def open_benchmark(benchmark: Benchmark, root: Path, split: str | None) -> Opened[Any]:
    """Its items, and what was left out. DataError with the expected layout if there are none."""
    try:
        items = benchmark.open(root, split)
    except DataError as error:
        raise DataError(f"{error}\n{benchmark.about}") from error
    if not items:
        raise DataError(f"{root} holds nothing of {benchmark.name}.\n{benchmark.about}")
    return items if isinstance(items, Opened) else Opened(items)


WITH_MAPS = ("folder", "stanford2d3d", "structured3d")


def open_dense_benchmark(
    benchmark: Benchmark, root: Path, split: str | None, asked: DenseAsked
) -> Opened[DenseItem]:
    """Its panoramas with maps.

    UsageError where it has none; DataError with the expected layout if there are none in `root`.
    """
    if benchmark.dense is None:
        raise UsageError(
            f"benchmark={benchmark.name} has no maps of every pixel, which task: dense scores:"
            f" choose one that has, {', '.join(WITH_MAPS)}"
        )
    try:
        items = benchmark.dense(root, split, asked)
    except DataError as error:
        raise DataError(f"{error}\n{benchmark.about}") from error
    if not items:
        raise DataError(f"{root} holds nothing of {benchmark.name}.\n{benchmark.about}")
    return items if isinstance(items, Opened) else Opened(items)
