"""Benchmark `structured3d`: Structured3D's panoramas with their instance maps.

Zheng et al., ECCV 2020.

Instances are furniture only: walls, floors and ceilings have none (their issue 12), and only `full`
configurations are annotated. 65535 is background. A few published masks are of another size than
their image (errata.txt, issue 63): those are refused by name.

Of every pixel (data_organization.md): semantic.png, NYUv2's 40 labels, 0 = none; depth.png, 16
bits, millimetres, 0 = no reading; normal.png, 8 bits, 128·(1 + n). Normals are read in global
axes, where a panorama looks along −y and z points up; a file that contradicts it is refused.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from panoforge.core.errors import DataError, UsageError
from panoforge.core.foreign.files import found_in
from panoforge.core.foreign.left_out import LeftOut
from panoforge.core.foreign.pictures import read_panorama
from panoforge.core.foreign.planes import read_plane
from panoforge.core.numbers import counted
from panoforge.core.types import Rgb
from panoforge.eval.benchmarks.base import (
    Benchmark,
    DenseAsked,
    DenseItem,
    Opened,
    PanoramaItem,
)
from panoforge.eval.benchmarks.dense_folder import (
    check_facing,
    check_size,
    class_numbers,
    metres,
    unit_vectors,
)
from panoforge.eval.benchmarks.folder import pair_item
from panoforge.eval.maps import DenseMaps
from panoforge.train.settings.mtpano import DenseTask

Item = TypeVar("Item", PanoramaItem, DenseItem)

BACKGROUND = 65535
PICTURE = "rgb_rawlight.png"


PANO_FROM_GLOBAL = np.diag([-1.0, -1.0, 1.0]).astype(np.float32)
DENSE_FILES: dict[DenseTask, str] = {
    "semantic": "semantic.png",
    "depth": "depth.png",
    "normal": "normal.png",
}


def open_rooms(root: Path, split: str | None) -> Opened[PanoramaItem]:
    """The rooms of Structured3D with their instances, scene by scene."""
    return _open(
        root,
        split,
        ("instance.png",),
        lambda key, full: pair_item(key, full / PICTURE, full / "instance.png", (BACKGROUND,)),
    )


def open_dense(root: Path, split: str | None, asked: DenseAsked) -> Opened[DenseItem]:
    """The rooms of Structured3D with their maps, scene by scene."""
    if "semantic" in asked.tasks and asked.classes.column != "nyu40":
        raise UsageError(
            f"structured3d is labelled with the 40 classes of NYUv2, and dense.classes is"
            f" {asked.classes.name}: set it to structured3d"
        )
    files = tuple(DENSE_FILES[task] for task in asked.tasks)

    def item(key: str, full: Path) -> DenseItem:
        truth = tuple(full / name for name in files)
        return DenseItem(key, (full / PICTURE,), truth, partial(_read_dense, full, asked))

    return _open(root, split, files, item)


def _read_dense(full: Path, asked: DenseAsked) -> tuple[Rgb, DenseMaps]:
    rgb = read_panorama(full / PICTURE)
    semantic = depth_m = normal = None
    if "semantic" in asked.tasks:
        path = full / DENSE_FILES["semantic"]
        semantic = class_numbers(read_plane(path), asked.classes, path)
        check_size(semantic, rgb, path)
    if "depth" in asked.tasks:
        path = full / DENSE_FILES["depth"]
        depth_m = metres(read_plane(path), 1000.0, 0)
        check_size(depth_m, rgb, path)
    if "normal" in asked.tasks:
        path = full / DENSE_FILES["normal"]
        stored = read_plane(path, 3).astype(np.float32) / np.float32(128) - 1
        normal = unit_vectors(stored) @ PANO_FROM_GLOBAL.T
        check_size(normal, rgb, path)
        check_facing(normal, path, "global axes with the camera along −y")
    return rgb, DenseMaps(semantic, depth_m, normal)


def _open(
    root: Path, split: str | None, files: Sequence[str], item: Callable[[str, Path], Item]
) -> Opened[Item]:
    """What `item` makes of each room (its key and the folder of its full configuration)."""
    folder = root / split if split else root
    scenes = sorted(p for p in folder.glob("scene_*") if p.is_dir()) if folder.is_dir() else []
    if not scenes:
        raise DataError(
            f"{folder}: expected folders scene_00000, scene_00001, …; found {found_in(folder)}"
        )
    items, other = [], []
    for scene in scenes:
        rooms = sorted(p for p in (scene / "2D_rendering").glob("*") if p.is_dir())
        other += [] if rooms else [("scene without 2D_rendering/<room>", scene.name)]
        for room in rooms:
            key, full = f"{scene.name}_{room.name}", room / "panorama/full"
            missing = [name for name in (PICTURE, *files) if not (full / name).is_file()]
            if missing:
                other.append((f"room without panorama/full/{' and '.join(missing)}", key))
            else:
                items.append(item(key, full))
    if not items:
        raise DataError(
            f"{folder} has {counted(len(scenes), 'scene')}, and none with"
            f" 2D_rendering/<room>/panorama/full/{PICTURE} and {', '.join(files)}: unpack the"
            f" panorama and the annotation archives into one folder. {scenes[0].name} holds"
            f" {found_in(scenes[0])}"
        )
    return Opened(items, LeftOut.of(other))


BENCHMARKS = (
    Benchmark(
        "structured3d",
        "Structured3D panoramas, full configuration",
        "images",
        "structured3d-dataset.org, after agreeing to the terms of use by the form there"
        " (Structured3D_panorama_*.zip).",
        "its terms of use: non-commercial research; no redistribution.",
        "    scene_<number>/2D_rendering/<room>/panorama/full/{rgb_rawlight,instance}.png  "
        " instance: 16 bit, 65535 = background\n    task=dense: semantic.png (NYUv2's 40),"
        " depth.png (16 bit, millimetres), normal.png (128·(1 + n)) beside them",
        open_rooms,
        dense=open_dense,
    ),
)
