"""Benchmark `held_out_video`: videos of a dataset of our own, of a split not trained on.

Rendered videos have exact masks whose ids last. Every instance that shows at least `MIN_PIXELS`
pixels in the first frame that it is seen in is followed from there, under its category's name. The
split is `test` unless another is asked for.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from panoforge.core.errors import DataError, UserError
from panoforge.core.foreign.left_out import LeftOut
from panoforge.core.shards.read import Dataset
from panoforge.core.shards.videos import StoredVideo
from panoforge.core.types import Mask, Rgb
from panoforge.eval.benchmarks.base import Benchmark, Opened, PackedFrame, VideoItem

MIN_PIXELS = 64
SPLIT = "test"


def open_videos(root: Path, split: str | None) -> Opened[VideoItem]:
    """The videos of one split of a dataset."""
    try:
        dataset = Dataset.open(root, split or SPLIT)
        keys = dataset.videos["video"].to_pylist()
    except UserError as error:
        raise DataError(f"{root} cannot be read as a dataset: {error}") from None
    if not keys:
        raise DataError(
            f"{root}: its split {split or SPLIT} holds no videos, expected what a render config"
            " with video: makes; panoramas are scored without benchmark="
        )
    digests = dict(zip(dataset.keys, dataset.samples["sha256"].to_pylist(), strict=True))
    items, left_out = list[VideoItem](), LeftOut()
    for video in map(dataset.video, keys):
        followed = [
            row.id
            for row in video.meta.instances
            if next(count for count in row.pixels if count) >= MIN_PIXELS
        ]
        small = len(video.meta.instances) - len(followed)
        left_out += LeftOut.of([("instance that begins too small", video.key)] * small)
        if followed:
            items.append(_item(dataset, video, followed, digests))
    return Opened(items, left_out)


def _item(
    dataset: Dataset, video: StoredVideo, followed: Sequence[int], digests: dict[str, str]
) -> VideoItem:
    images = tuple(
        PackedFrame(key, digests[key], partial(_picture, dataset, key)) for key in video.frame_keys
    )
    masks = tuple(partial(_masks, dataset, key, tuple(followed)) for key in video.frame_keys)
    names = {row.id: row.category for row in video.meta.instances}
    return VideoItem(video.key, images, (), masks, names)


def _picture(dataset: Dataset, key: str) -> Rgb:
    return dataset.by_key(key, ("rgb",)).read("rgb")


def _masks(dataset: Dataset, key: str, followed: Sequence[int]) -> dict[int, Mask]:
    """The masks of a frame's instances; an instance that is not seen has none."""
    labels = dataset.by_key(key, ("instance",)).read("instance")
    there = set(np.unique(labels).tolist())
    return {id_: labels == id_ for id_ in followed if id_ in there}


BENCHMARKS = (
    Benchmark(
        "held_out_video",
        "held-out videos",
        "videos",
        "a dataset of pano pack, of videos (video: in a render config), with a split of its own.",
        "that of the scenes they were rendered from.",
        "    manifest.json, index/ and shards, as pano pack writes them",
        open_videos,
    ),
)
