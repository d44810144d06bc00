"""Benchmark `leader360v`: Leader360V (2025) in the form that its annotation tool A3360V writes,
LabelMe JSON beside every frame.

The released layout of the whole data set is not published yet (its page holds demos); this reads
work-dir/<video>/<second>/ of the tool, and the same without the folders of seconds. An object is a
`group_id`, or a label where a shape has none.
"""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panoforge.core.errors import DataError
from panoforge.core.foreign.files import found_in, read_json
from panoforge.eval.benchmarks.base import Benchmark, VideoItem
from panoforge.eval.benchmarks.idmaps import fill_polygons

FRAME = re.compile(r"frame_(\d+)\.(png|jpg)")


def open_videos(root: Path, split: str | None) -> Sequence[VideoItem]:
    folder = root / split if split else root
    items = []
    for video in sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []:
        found = {
            int(match[1]): path
            for path in video.rglob("frame_*")
            if (match := FRAME.fullmatch(path.name))
        }
        images = tuple(found[number] for number in sorted(found))
        labels = [image.with_suffix(".json") for image in images]
        ids = _object_ids([path for path in labels if path.is_file()])
        masks = tuple(partial(_read, path, ids) if path.is_file() else None for path in labels)
        if sum(mask is not None for mask in masks) > 1:
            items.append(VideoItem(video.name, images, masks))
    if not items:
        raise DataError(
            f"{folder}: expected <video>/[<second>/]frame_<n>.png with frame_<n>.json (LabelMe) in"
            f" at least two frames; found {found_in(folder)}"
        )
    return items


def _object_ids(paths: Sequence[Path]) -> dict[str, int]:
    """Every object of a video by its name, numbered by name: group ids first, as numbers."""
    names = {_name(shape, path) for path in paths for shape in _shapes(path)}
    ordered = sorted(
        names, key=lambda name: (not name.isdigit(), int(name) if name.isdigit() else 0, name)
    )
    return {name: k + 1 for k, name in enumerate(ordered)}


def _shapes(path: Path) -> list[dict[str, Any]]:
    document = read_json(path)
    if not isinstance(document, dict) or not isinstance(document.get("shapes"), list):
        raise DataError(f"{path} is not LabelMe JSON: expected shapes")
    return [
        shape for shape in document["shapes"] if shape.get("shape_type", "polygon") == "polygon"
    ]


def _name(shape: dict[str, Any], path: Path) -> str:
    name = shape.get("label") if shape.get("group_id") is None else shape["group_id"]
    if name is None:
        raise DataError(f"{path}: a shape has neither group_id nor label")
    return str(name)


def _read(path: Path, ids: dict[str, int]) -> dict[int, NDArray[np.bool_]]:
    document = read_json(path)
    try:
        height, width = int(document["imageHeight"]), int(document["imageWidth"])
    except (KeyError, TypeError, ValueError) as error:
        said = f"{type(error).__name__} {error}"
        raise DataError(
            f"{path} is not LabelMe JSON ({said}): expected imageHeight and imageWidth"
        ) from error
    if not 0 < width * height < 1 << 27:
        raise DataError(f"{path} claims {width}×{height} pixels")
    masks: dict[int, NDArray[np.bool_]] = {}
    for shape in _shapes(path):
        id_ = ids[_name(shape, path)]
        mask = fill_polygons([shape.get("points")], height, width, str(path))
        masks[id_] = masks[id_] | mask if id_ in masks else mask
    return masks


BENCHMARKS = (
    Benchmark(
        "leader360v",
        "Leader360V",
        "videos",
        "huggingface.co/datasets/Leader360V/Leader360V (demos so far).",
        "see its page; research.",
        "    <video>/[<second>/]frame_<n>.png with frame_<n>.json   LabelMe 5: polygons with label"
        " and group_id",
        open_videos,
    ),
)
