"""Maps of a panorama as small picture files, lossless, and back: what its report is made of.

{role}.semantic.png   16 bits: class + 1, 0 = void
{role}.depth.png      16 bits: millimetres, 0 = sky or unknown, 65535 = that far or farther
{role}.normal.png     8 bits by channel: (v + 1)·127.5; 128 128 128 = none
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from panoforge.core.categories.class_sets import VOID
from panoforge.core.foreign.planes import read_plane
from panoforge.core.report.maps import NO_NORMAL, normal_colours
from panoforge.core.report.pictures import shrink_ids, shrink_rgb
from panoforge.core.sample.products import decode_product, encode_product
from panoforge.core.types import Depth, Labels, Rgb
from panoforge.eval.folders import read_finished
from panoforge.eval.maps import TASKS, DenseMaps, nearest_pixels

PICTURE_WIDTH = 1024


def class_ids(semantic: np.ndarray) -> Labels:
    """Classes as ids from 1, uint16 H×W; void is 0."""
    return np.where(semantic == VOID, 0, semantic.astype(np.uint16) + 1).astype(np.uint16)


def millimetres(depth_m: Depth) -> Labels:
    """Depth as uint16 millimetres; sky and unknown are 0."""
    known = np.isfinite(depth_m)
    return np.where(
        known, np.clip(np.rint(np.where(known, depth_m, 0) * 1000), 1, 65535), 0
    ).astype(np.uint16)


def picture_files(maps: DenseMaps, role: str, width: int = PICTURE_WIDTH) -> Mapping[str, bytes]:
    """The files of some maps by name, at most `width` pixels wide."""
    found: dict[str, bytes] = {}
    if maps.semantic is not None:
        ids = shrink_ids(class_ids(maps.semantic), width)
        found[f"{role}.semantic.png"] = encode_product("instance.png", ids)
    if maps.depth_m is not None:
        small = shrink_ids(millimetres(maps.depth_m), width)
        found[f"{role}.depth.png"] = encode_product("instance.png", small)
    if maps.normal is not None:
        normal = maps.normal
        if normal.shape[1] > width:
            normal = nearest_pixels(normal, width // 2)
        found[f"{role}.normal.png"] = encode_product("rgb.png", normal_colours(normal))
    return found


def rgb_file(rgb: Rgb, width: int = PICTURE_WIDTH) -> bytes:
    """The picture, at most `width` pixels wide."""
    return encode_product("rgb.jpg", shrink_rgb(rgb, width))


def read_rgb(folder: Path) -> Rgb:
    """The picture of a finished panorama. DataError where it was damaged since."""
    return read_finished(folder / "rgb.jpg", partial(decode_product, "rgb.jpg"))


def read_maps_of(folder: Path, role: str) -> DenseMaps:
    """The maps of a finished panorama, depth in whole millimetres. DataError where damaged."""
    found = {}
    for task in TASKS:
        path = folder / f"{role}.{task}.png"
        if path.is_file():
            found[task] = read_plane(path, 3 if task == "normal" else 0)
    semantic = depth_m = normal = None
    if "semantic" in found:
        ids = found["semantic"]
        semantic = np.where(ids == 0, VOID, ids - 1).astype(np.uint8)
    if "depth" in found:
        depth_m = found["depth"].astype(np.float32) / np.float32(1000)
        depth_m[found["depth"] == 0] = np.inf
    if "normal" in found:
        stored = found["normal"]
        vectors = stored.astype(np.float32) / np.float32(127.5) - 1
        vectors[(stored == NO_NORMAL).all(axis=-1)] = 0
        normal = vectors
    return DenseMaps(semantic, depth_m, normal)
