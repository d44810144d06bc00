"""Masks for a benchmark's server: videos are followed whose first frame alone has masks.

PanoVOS keeps the masks of its val and test videos and scores them on CodaLab. Its layout is that of
YouTube-VOS and DAVIS, and so is what is written for it:

    submission/Annotations/<video>/<frame>.png    palette PNG, pixel = object, 0 = nothing

one for every frame, at the frame's size, with the numbers of the first frame's mask. That frame is
the given mask. Where masks overlap, the larger logit has the pixel. A video's folder is moved into
place when it is whole; `check_submission` reads all of it again.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from panoforge.core.errors import DataError
from panoforge.core.export.palette import palette_png
from panoforge.core.foreign.idmaps import read_labels
from panoforge.core.numbers import counted
from panoforge.core.progress import Progress
from panoforge.core.storage.atomic import storage_errors, write_bytes_atomic
from panoforge.core.types import Labels
from panoforge.eval.benchmarks.base import TrackItem, VideoItem
from panoforge.eval.predictors import Predictor
from panoforge.eval.videos.objects import enlarge_logits, first_masks, prompted, read_frame

FOLDER = Path("submission/Annotations")
MOST_OBJECTS = 255  # a palette PNG has no more numbers


def is_submission(videos: Sequence[VideoItem | TrackItem]) -> bool:
    """Whether only first frames have masks, so that somebody else scores."""
    return bool(videos) and all(
        isinstance(v, VideoItem) and sum(read is not None for read in v.masks) == 1 for v in videos
    )


def write_submission(
    videos: Sequence[VideoItem], predictor: Predictor, image_size: int, folder: Path
) -> None:
    """The masks of every video that is not there yet, below `folder`, and the check of all."""
    with Progress("eval", total=len(videos), unit="videos") as progress:
        for video in videos:
            if not (folder / FOLDER / video.key).is_dir():
                _write_video(video, predictor, image_size, folder / FOLDER / video.key)
            progress.advance()
    check_submission(videos, folder)


def _write_video(video: VideoItem, predictor: Predictor, image_size: int, out: Path) -> None:
    first = first_masks(video)
    if max(first) > MOST_OBJECTS:
        raise DataError(
            f"{video.key} has an object numbered {max(first)}: a palette PNG has numbers up to"
            f" {MOST_OBJECTS}, which is all that the server reads"
        )
    partial = out.with_name(f"{out.name}.partial")
    with storage_errors(out):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    ids = sorted(first)
    frames, prompts = prompted(video, first, predictor, image_size)
    begun = min(t for t, _ in first.values())
    given = _given(video, begun)
    for said in predictor.predict(frames, prompts):
        shape = read_frame(video.images[said.frame]).shape[:2]
        labels = np.zeros(shape, np.uint8)
        best = np.zeros(shape, np.float32)  # a logit above it has the pixel
        for k, logits in zip(said.objects.tolist(), said.logits.cpu().numpy(), strict=True):
            own = enlarge_logits(logits, shape)
            labels[own > best] = ids[k]
            best = np.maximum(best, own)
        if said.frame == begun:
            labels = given.astype(np.uint8)
        path = partial / f"{video.images[said.frame].stem}.png"
        write_bytes_atomic(path, palette_png(labels))
    with storage_errors(out):
        partial.rename(out)


def _given(video: VideoItem, frame: int) -> Labels:
    """The first frame's masks as a label map."""
    read = video.masks[frame]
    assert read is not None
    masks = read()
    labels = np.zeros(next(iter(masks.values())).shape, np.uint16)
    for id_, mask in masks.items():
        labels[mask] = id_
    return labels


def check_submission(videos: Sequence[VideoItem], folder: Path) -> None:
    """Read what was written as the server will.

    Raises:
        DataError: a frame is missing or too many, has another size than its picture, or a number
            that the first frame has not. Or the first frame is not the given mask.
    """
    for video in videos:
        out = folder / FOLDER / video.key
        names = {f"{image.stem}.png" for image in video.images}
        there = {path.name for path in out.iterdir()} if out.is_dir() else set()
        if names != there:
            odd = sorted(names ^ there)
            raise DataError(
                f"{out}: expected {counted(len(names), 'mask')}, found {len(there)} (first"
                f" that differs: {odd[0]}): remove this folder and run again"
            )
        first = first_masks(video)
        begun = min(t for t, _ in first.values())
        for t, image in enumerate(video.images):
            labels = read_labels(out / f"{image.stem}.png")
            expected = read_frame(image).shape[:2]
            strange = set(np.unique(labels).tolist()) - {0, *first}
            same = t != begun or np.array_equal(labels, _given(video, begun))
            if labels.shape != expected or strange or not same:
                raise DataError(
                    f"{out / image.stem}.png: expected {expected[1]}×{expected[0]} with the numbers"
                    f" {sorted(first)}{' of the given mask' if t == begun else ''}, found"
                    f" {labels.shape[1]}×{labels.shape[0]} with {sorted(strange) or 'others'}:"
                    f" remove {out} and run again"
                )
