"""Benchmarks `360vos` and `360vot`: the two halves of 360VOTS (Xu et al., 2025).

`360vos` is videos with binary masks, `360vot` videos with bounding fields of view and boxes in
label.json. There the prompt is the box of the first frame that has the object, and the boxes around
the masks are scored. Their number and the toolkit's numbers:
`panoforge.eval.scoring.metrics.tracking`, `panoforge.eval.scoring.metrics.bfov`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panoforge.core.errors import DataError
from panoforge.core.foreign.files import found_in, read_bytes, read_json
from panoforge.core.foreign.left_out import LeftOut
from panoforge.core.foreign.listing import list_pictures
from panoforge.core.numbers import counted
from panoforge.core.types import Floats
from panoforge.eval.benchmarks.base import Benchmark, Opened, TrackItem, VideoItem
from panoforge.eval.benchmarks.panovos import video_item
from panoforge.eval.scoring.metrics.rotated_box import upright
from panoforge.train.data.sources.vos import find_videos

BOX = ("cx", "cy", "w", "h", "rotation")
BFOV = ("clon", "clat", "fov_h", "fov_v", "rotation")
LEAKAGE = (
    "97 of the 170 training clips of 360VOS are test clips of 360VOT, and 5 more come from the same"
    " videos: a model trained on the one must not be scored on the other."
)


def open_videos(root: Path, split: str | None) -> Opened[VideoItem]:
    """The videos of 360VOTS that have more than one frame."""
    _, videos, left_out = find_videos(root, split)
    still = [video.name for video in videos if len(video.frames) == 1]
    left_out += LeftOut.of(("video with a mask for one frame only", name) for name in still)
    return Opened([video_item(video) for video in videos if len(video.frames) > 1], left_out)


def open_tracks(root: Path, split: str | None = None) -> Opened[TrackItem]:
    """The sequences of 360VOT, for `panoforge.eval.scoring.metrics.tracking`."""
    folder = root / split if split else root
    folders = (
        sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
        if folder.is_dir()
        else []
    )
    sequences = [path for path in folders if (path / "label.json").is_file()]
    if not sequences:
        raise DataError(
            f"{folder}: expected <sequence>/label.json with <sequence>/image/; found"
            f" {found_in(folder)}"
        )
    left_out = LeftOut.of(
        ("folder without label.json", path.name) for path in folders if path not in sequences
    )
    found = [_track(sequence) for sequence in sequences]
    return Opened([track for track, _ in found], sum((others for _, others in found), left_out))


def _track(sequence: Path) -> tuple[TrackItem, LeftOut]:
    path, listing = sequence / "label.json", list_pictures(sequence / "image")
    document, images = read_json(path), {p.name: p for p in listing.pictures.values()}
    try:  # numbers may be anything that JSON has
        names = sorted(document)
        boxes = _numbers(document, names, "bbox", BOX[:4])
        found = upright(boxes)
        views = _numbers(document, names, "bfov", BFOV)
        turned = [
            _numbers(document, names, kind, parts)
            if all(kind in document[name] for name in names)
            else None
            for kind, parts in (("rbbox", BOX), ("rbfov", BFOV))
        ]
    except (LookupError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise DataError(
            f"{path} is not a label file of 360VOT ({type(error).__name__} {error}): expected "
            '{"000000.jpg": {"bfov": {…}, "bbox": {…}}, …}'
        ) from error
    missing, unnamed = sorted(set(names) - images.keys()), sorted(images.keys() - set(names))
    if missing or unnamed:
        lacks = (
            f"image/ lacks {counted(len(missing), 'frame')} of label.json, first {missing[0]}"
            if missing
            else f"label.json lacks {counted(len(unnamed), 'picture')} of image/, first"
            f" {unnamed[0]}"
        )
        raise DataError(
            f"{sequence}: label.json has {counted(len(names), 'entry', 'entries')}, image/"
            f" {counted(len(images), 'picture')}, and each frame needs both: {lacks}. Download or"
            " export the sequence again, or leave it out"
        )
    track = TrackItem(
        sequence.name,
        path,
        tuple(images[name] for name in names),
        found,
        views,
        (found[:, 2] > 0) & (found[:, 3] > 0),
        *turned,
    )
    return track, listing.left_out.inside(sequence.name)


def _numbers(document: Any, names: Sequence[str], kind: str, parts: Sequence[str]) -> Floats:
    """The numbers of one kind of bound, frame by frame, (N, 5)."""
    rows = [[document[name][kind][part] for part in parts] for name in names]
    found = np.array(rows, np.float64).reshape(-1, len(parts))
    if not np.isfinite(found).all():
        raise ValueError("a number is not finite")
    return found


def read_tracker(path: Path, frames: int, columns: int) -> NDArray[np.float64]:
    """A tracker's result file of the toolkit, results/<tracker>/<sequence>.txt.

    A line per frame, numbers by comma or blank.
    """
    try:
        rows = [
            [float(cell) for cell in line.replace(",", " ").split()]
            for line in read_bytes(path).decode().splitlines()
            if line.strip()
        ]
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} is not a tracker's result ({error}): expected {columns} numbers a line"
        ) from error
    if len(rows) != frames or any(len(row) != columns for row in rows):
        raise DataError(
            f"{path} has {counted(len(rows), 'line')}, expected {frames} of {columns} numbers:"
            " one per frame"
            " of the sequence"
        )
    return np.array(rows, np.float64)


_SOURCE = (
    "huggingface.co/datasets/xuyzshaun/360VOTS (one zip per sequence); toolkit"
    " github.com/HuajianUP/360VOT."
)
_LICENCE = "for research; see the data set's page."
BENCHMARKS = (
    Benchmark(
        "360vos",
        "360VOTS, segmentation (360VOS)",
        "videos",
        _SOURCE,
        _LICENCE,
        "    [<split>/]<sequence>/image/<frame>.jpg with"
        " [<split>/]<sequence>/mask/<frame>[_<object>].png   binary PNG",
        open_videos,
        warning=LEAKAGE,
    ),
    Benchmark(
        "360vot",
        "360VOTS, tracking (360VOT)",
        "tracks",
        _SOURCE,
        _LICENCE,
        "    [<split>/]<sequence>/image/<frame>.jpg with [<split>/]<sequence>/label.json   boxes"
        " and bounding fields of view",
        open_tracks,
        warning=LEAKAGE,
    ),
)
