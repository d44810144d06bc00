"""Maps of a folder: the form to bring your own truth in, or predictions that others made.

    semantic/NAME.png   8 bits, class k of the label set as k + 1, 0 = void  (or .npy, the same)
    depth/NAME.png      16 bits, millimetres along the ray, 0 = unknown
    depth/NAME.npy      metres along the ray, +inf = sky, NaN = unknown  (or .exr)
    normal/NAME.png     8 bits, (v/255)·2 − 1 by channel; 128 128 128 = none
    normal/NAME.npy     H×W×3, zero vector = none  (or .exr)

Normals are in the panorama's frame: x right, y forward to the middle of the picture, z up.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from panoforge.core.categories.class_sets import VOID, ClassSet
from panoforge.core.errors import DataError
from panoforge.core.foreign.planes import PLANE_SUFFIXES, read_plane
from panoforge.core.geometry.sphere import pixel_to_direction
from panoforge.core.types import Depth, Normals, Rgb
from panoforge.eval.maps import DenseMaps
from panoforge.train.settings.mtpano import DenseTask

SHORTEST = 0.5  # a shorter vector is no direction but a colour for nothing
FACING_SHARE = 0.9


def map_file(folder: Path, task: DenseTask, name: str) -> Path:
    """The file of one map.

    DataError where there is none, or two.
    """
    found = [
        path
        for path in (folder / task / f"{name}{suffix}" for suffix in PLANE_SUFFIXES)
        if path.is_file()
    ]
    if len(found) != 1:
        what = f"{len(found)} of them" if found else "none"
        raise DataError(
            f"{folder / task}: expected one of {name}{{{','.join(PLANE_SUFFIXES)}}}, found {what}"
        )
    return found[0]


def read_maps(folder: Path, name: str, tasks: Sequence[DenseTask], classes: ClassSet) -> DenseMaps:
    """The maps of one panorama for `tasks`. DataError for what does not fit the layout."""
    readers = {
        "semantic": lambda path: class_numbers(read_plane(path), classes, path),
        "depth": depth_of,
        "normal": normal_of,
    }
    found = {task: readers[task](map_file(folder, task, name)) for task in tasks}
    return DenseMaps(found.get("semantic"), found.get("depth"), found.get("normal"))


def class_numbers(stored: NDArray, classes: ClassSet, path: Path) -> NDArray[np.uint8]:
    """Stored ids H×W, 0 for void, as numbers of classes. DataError for an id beyond the set."""
    if stored.dtype.kind not in "iu":
        raise DataError(f"{path}: expected whole numbers, class k as k + 1, got {stored.dtype}")
    most, least = int(stored.max(initial=0)), int(stored.min(initial=0))
    if most >= len(classes) + classes.first_id or least < 0:
        raise DataError(
            f"{path} has id {most if most > 0 else least}, and {classes.title} are numbered"
            f" {classes.first_id} to {len(classes)}: it is of another"
            " label set, name it in dense.classes"
        )
    return np.where(stored == 0, VOID, stored - classes.first_id).astype(np.uint8)


def depth_of(path: Path) -> Depth:
    """Metres float32 H×W of a depth file, NaN where unknown."""
    stored = read_plane(path)
    if path.suffix.lower() == ".png":
        return metres(stored, 1000.0, 0)
    return stored.astype(np.float32)


def metres(stored: NDArray, per_metre: float, unknown: int) -> Depth:
    """Stored units H×W as metres float32, NaN where they are `unknown`."""
    found = stored.astype(np.float32) / np.float32(per_metre)
    found[stored == unknown] = np.nan
    return found


def normal_of(path: Path) -> Normals:
    """Unit vectors float32 H×W×3 of a normal file, zero where there is none."""
    stored = read_plane(path, 3)
    if path.suffix.lower() == ".png":
        return unit_vectors(stored.astype(np.float32) / np.float32(127.5) - 1)
    return unit_vectors(stored.astype(np.float32))


def unit_vectors(vectors: NDArray[np.float32]) -> Normals:
    """Vectors H×W×3 at length 1; those shorter than `SHORTEST` are none. NaN stays."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    found = np.where(length >= SHORTEST, vectors / np.where(length > 0, length, 1), 0)
    return np.where(np.isnan(length), np.nan, found).astype(np.float32)


def check_facing(normal: Normals, path: Path, frame: str) -> None:
    """DataError unless nearly all normals of a panorama look back at the camera.

    What a camera sees faces it: normals that do not are of another frame than was thought.
    """
    height, width = normal.shape[:2]
    rays = pixel_to_direction(np.arange(width)[None], np.arange(height)[:, None], width, height)
    known = (normal != 0).any(axis=-1)
    facing = np.count_nonzero(np.sum(normal * rays, axis=-1)[known] < 0)
    share = facing / max(np.count_nonzero(known), 1)
    if known.any() and share < FACING_SHARE:
        raise DataError(
            f"{path}: only {100 * share:.0f} % of its normals face the camera, read as {frame}:"
            " they are in another frame, and no score would mean anything. Leave normal out of"
            " dense.tasks, or bring them as benchmark=folder in the panorama's frame"
        )


def check_size(array: NDArray, rgb: Rgb, path: Path) -> None:
    """DataError unless a map has its picture's size."""
    if array.shape[:2] != rgb.shape[:2]:
        raise DataError(
            f"{path} is {array.shape[1]}×{array.shape[0]}, its picture"
            f" {rgb.shape[1]}×{rgb.shape[0]}: bring both to one size, ids by nearest neighbour"
        )
