"""Benchmark `leader360v`: Leader360V (2025), LabelMe JSON beside every frame.

That is the form which its annotation tool A3360V writes.

The released layout of the whole data set is not published yet (its page holds demos); this reads
work-dir/<video>/<second>/ of the tool, and the same without the folders of seconds. An object is a
`group_id`, or a label where a shape has none. Labels are brought to the first of their names; one
that is not in its list stays as it is, and is counted.
"""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from panoforge.core.errors import DataError
from panoforge.core.foreign.files import found_in
from panoforge.core.foreign.labelme import LabelmeFile, Shape, read_labelme
from panoforge.core.foreign.left_out import NOTHING, LeftOut
from panoforge.core.foreign.listing import composed, list_pictures
from panoforge.core.types import Mask
from panoforge.eval.benchmarks.base import Benchmark, Opened, VideoItem
from panoforge.eval.benchmarks.leader360v_labels import canonical

FRAME = re.compile(r"frame_([0-9]{1,18})")


def open_videos(root: Path, split: str | None) -> Opened[VideoItem]:
    """The videos of Leader360V."""
    folder = root / split if split else root
    items, left_out = [], NOTHING
    for video in sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []:
        found, others = _frames(video)
        left_out += others.inside(video.name)
        images = tuple(found[number] for number in sorted(found))
        labels = [image.with_suffix(".json") for image in images]
        files = {path: read_labelme(path) for path in labels if path.is_file()}
        if len(files) < 2:
            left_out += LeftOut.of([("video without two annotated frames", video.name)])
            continue
        left_out += sum((file.left_out for file in files.values()), NOTHING)
        ids = _object_ids(list(files.values()))
        masks = tuple(partial(_read, path, ids) if path in files else None for path in labels)
        names = {ids[_name(s)]: s.label for file in files.values() for s in file.shapes}
        unknown = sorted({label for label in names.values() if canonical(label) is None})
        left_out += LeftOut.of(("label that is none of its list", label) for label in unknown)
        names = {id_: canonical(label) or label for id_, label in names.items()}
        items.append(VideoItem(video.name, images, tuple(files), masks, names))
    if not items:
        raise DataError(
            f"{folder}: expected <video>/[<second>/]frame_<n>.png with frame_<n>.json (LabelMe) in"
            f" at least two frames; found {found_in(folder)}"
        )
    return Opened(items, left_out)


def _frames(video: Path) -> tuple[dict[int, Path], LeftOut]:
    """The pictures of a video by their numbers, and what lies there beside them."""
    found: dict[int, Path] = {}
    left_out, seconds = NOTHING, sorted(p for p in video.rglob("*") if p.is_dir())
    for folder in (video, *seconds):
        listing = list_pictures(folder, beside=(".json",))
        left_out += listing.left_out
        for path in listing.pictures.values():
            match = FRAME.fullmatch(path.stem)
            if match is None:
                left_out += LeftOut.of([("picture whose name is not frame_<n>", path.name)])
            elif found.setdefault(int(match[1]), path) is not path:
                raise DataError(
                    f"{video} has frame {match[1]} twice: {found[int(match[1])]} and {path}:"
                    " take one of them away"
                )
        alone = {composed(p.stem) for p in folder.glob("*.json")} - set(listing.pictures)
        left_out += LeftOut.of(
            ("annotations without a picture", f"{s}.json") for s in sorted(alone)
        )
    return found, left_out


def _object_ids(files: Sequence[LabelmeFile]) -> dict[str, int]:
    """Every object of a video by its name, numbered by name: group ids first, as numbers."""
    names = {_name(shape) for file in files for shape in file.shapes}
    ordered = sorted(
        names, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name)
    )
    return {name: k + 1 for k, name in enumerate(ordered)}


def _name(shape: Shape) -> str:
    return shape.label if shape.group is None else shape.group


def _read(path: Path, ids: dict[str, int]) -> dict[int, Mask]:
    """The masks of one frame by object id. Read anew: a video's shapes would fill the memory."""
    file = read_labelme(path)
    masks: dict[int, Mask] = {}
    for shape in file.shapes:
        id_, mask = ids[_name(shape)], file.mask(shape)
        masks[id_] = masks[id_] | mask if id_ in masks else mask
    return masks


BENCHMARKS = (
    Benchmark(
        "leader360v",
        "Leader360V",
        "videos",
        "huggingface.co/datasets/Leader360V/Leader360V (demos so far).",
        "see its page; research.",
        "    <video>/[<second>/]frame_<n>.png with frame_<n>.json   LabelMe 5: shapes"
        " (polygon, rle, …) with label and group_id",
        open_videos,
    ),
)
