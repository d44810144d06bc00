"""What is said of every pixel of a panorama: its class, its distance, its surface's direction.

`DenseMaps` is the truth and a prediction alike. A `DensePredictor` makes one of a picture.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from panoforge.core.categories.class_sets import VOID, ClassSet
from panoforge.core.errors import DataError
from panoforge.core.geometry.pixels import resize_index
from panoforge.core.numbers import counted
from panoforge.core.report.pictures import shrink_rgb
from panoforge.core.types import Depth, Normals, Rgb
from panoforge.train.settings.mtpano import DenseTask

TASKS: tuple[DenseTask, ...] = ("semantic", "depth", "normal")


@dataclass(frozen=True)
class DenseMaps:
    """Maps of one panorama, all H×W; None where a task is not answered.

    Attributes:
        semantic: uint8 numbers of a label set's classes, 255 where none is.
        depth_m: float32 metres along the ray; +inf is sky, NaN (of truths only) unknown.
        normal: float32 H×W×3 unit vectors in the panorama's frame (x right, y forward to the
            middle of the picture, z up); the zero vector where there is none.
    """

    semantic: NDArray[np.uint8] | None = None
    depth_m: Depth | None = None
    normal: Normals | None = None

    def of(self, task: DenseTask) -> NDArray | None:
        """The map of a task."""
        return {"semantic": self.semantic, "depth": self.depth_m, "normal": self.normal}[task]

    def resized(self, height: int) -> "DenseMaps":
        """All maps at `height` × 2·`height`, each pixel that of the nearest place: never mixed."""
        return replace(
            self,
            semantic=None if self.semantic is None else nearest_pixels(self.semantic, height),
            depth_m=None if self.depth_m is None else nearest_pixels(self.depth_m, height),
            normal=None if self.normal is None else nearest_pixels(self.normal, height),
        )


@dataclass(frozen=True)
class DenseSample:
    """A panorama: its picture uint8 H×W×3, its truth, and what became void of it.

    `void` has pixels by category, at the data's own size.
    """

    key: str
    rgb: Rgb
    truth: DenseMaps
    void: Mapping[str, int] = field(default_factory=dict)


class DensePredictor(Protocol):
    """`name` goes into the tables, `tasks` are what it answers."""

    name: str
    tasks: tuple[DenseTask, ...]

    def predict(self, sample: DenseSample) -> DenseMaps:
        """The maps of a panorama, at its size. The ceiling alone looks at the truth."""
        ...


def nearest_pixels(array: NDArray, height: int) -> NDArray:
    """H×W[×C] at another size, by nearest pixel."""
    if array.shape[0] == height:
        return array
    return cv2.resize(array, (2 * height, height), interpolation=cv2.INTER_NEAREST_EXACT)


def smooth_pixels(array: NDArray[np.float32], height: int) -> NDArray[np.float32]:
    """Float H×W[×C] at another size, bilinear; across the seam too. Infinity must not be in it."""
    low, wide = array.shape[:2]
    if low == height:
        return array
    u = resize_index(np.arange(2 * height, dtype=np.float32), 2 * height, wide)
    v = np.clip(resize_index(np.arange(height, dtype=np.float32), height, low), 0, low - 1)
    across, down = np.meshgrid(u.astype(np.float32), v.astype(np.float32))
    return cv2.remap(array, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


def resized_rgb(rgb: Rgb, height: int) -> Rgb:
    """A panorama at `height` × 2·`height`: averaged over areas, or smoothly enlarged."""
    if rgb.shape[0] >= height:
        return shrink_rgb(rgb, 2 * height)
    return cv2.resize(rgb, (2 * height, height), interpolation=cv2.INTER_LINEAR)


def check_prediction(
    maps: DenseMaps, key: str, name: str, truth: DenseMaps, classes: ClassSet
) -> None:
    """DataError unless `maps` answer what `truth` has, at its size, in numbers that can be scored.

    Args:
        maps: The prediction of a predictor called `name` for the panorama `key`.
        key: The panorama.
        name: The predictor.
        truth: What it is scored against; tasks that it lacks are not looked at.
        classes: The label set of its semantic map.
    """
    for task in TASKS:
        true, found = truth.of(task), maps.of(task)
        if true is None:
            continue
        if found is None:
            raise DataError(
                f"{key}: {name} gives no {task}, which is scored: leave it out of dense.tasks"
            )
        if found.shape != true.shape:
            raise DataError(
                f"{key}: the {task} of {name} is {_size(found)}, its panorama {_size(true)}: write"
                " it at the panorama's size"
            )
    _check_numbers(maps, f"{key}: {name}", truth, classes)


def _check_numbers(maps: DenseMaps, what: str, truth: DenseMaps, classes: ClassSet) -> None:
    semantic, depth, normal = maps.semantic, maps.depth_m, maps.normal
    if truth.semantic is not None and semantic is not None:
        beyond = semantic[(semantic >= len(classes)) & (semantic != VOID)]
        if beyond.size:
            raise DataError(
                f"{what} says class {int(beyond[0])} at {counted(beyond.size, 'pixel')}, and"
                f" {classes.title} are {len(classes)}: its classes are of another set"
            )
    if truth.depth_m is not None and depth is not None:
        wrong = np.isnan(depth) | (depth < 0)
        if wrong.any():
            raise DataError(
                f"{what} says NaN or a negative depth at {counted(int(wrong.sum()), 'pixel')}:"
                " expected metres along the ray, +inf for sky"
            )
    if truth.normal is not None and normal is not None and not np.isfinite(normal).all():
        raise DataError(
            f"{what} says NaN or infinity for normals at"
            f" {counted(int((~np.isfinite(normal)).any(axis=-1).sum()), 'pixel')}: expected unit"
            " vectors, zero where there is none"
        )


def _size(array: NDArray) -> str:
    return f"{array.shape[1]}×{array.shape[0]}" if array.ndim > 1 else str(array.shape)
