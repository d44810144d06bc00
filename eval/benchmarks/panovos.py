"""Benchmark `panovos`: PanoVOS (Yan et al., ECCV 2024), 150 panoramic videos with object masks.

The val and test sets are published with the mask of the first frame only and are scored on CodaLab
(competition 15928). Of them the masks for that server are written
(`panoforge.eval.videos.submission`). The train split, or a split whose masks you have, is scored.
"""

from functools import partial
from pathlib import Path

from panoforge.core.errors import DataError
from panoforge.core.foreign.listing import images_in
from panoforge.core.numbers import counted
from panoforge.eval.benchmarks.base import Benchmark, Opened, VideoItem
from panoforge.train.data.sources.vos import Video, find_videos, read_masks


def open_videos(root: Path, split: str | None) -> Opened[VideoItem]:
    """The videos of PanoVOS."""
    folder, videos, left_out = find_videos(root, split)
    still = [video.name for video in videos if len(video.frames) == 1]
    if still and len(still) < len(videos):
        raise DataError(
            f"{folder}: {counted(len(still), 'video')} of {len(videos)} with a mask for one frame"
            f" only (first: {still[0]}): a split is scored here, or on CodaLab (competition 15928),"
            " not half. Give one split (split: train, val or test)"
        )
    return Opened([video_item(video) for video in videos], left_out)


def video_item(video: Video) -> VideoItem:
    """All frames of a video, annotated ones with their masks."""
    annotated = dict(video.frames)
    images = tuple(images_in(video.frames[0][0].parent))
    masks = tuple(
        partial(read_masks, annotated[image]) if image in annotated else None for image in images
    )
    truth = tuple(path for _, files in video.frames for _, path in files)
    return VideoItem(video.name, images, truth, masks)


BENCHMARKS = (
    Benchmark(
        "panovos",
        "PanoVOS",
        "videos",
        "github.com/shilinyan99/PanoVOS (Google Drive links for train, valid and test).",
        "CC BY-NC-SA 4.0.",
        "    <split>/JPEGImages/<video>/<frame>.jpg with <split>/Annotations/<video>/<frame>.png  "
        " palette PNG, pixel = object",
        open_videos,
    ),
)
