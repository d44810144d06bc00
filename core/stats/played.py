"""Videos that the statistics page plays: few, small and short enough for one file."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from panoforge.core.numbers import count, counted, number, size
from panoforge.core.report.pictures import jpeg_uri, overlay_ids, shrink_ids, shrink_rgb
from panoforge.core.report.viewer import SphereVideo, VideoFrame, ids_uri, layer_of_ids
from panoforge.core.sample.video import VideoMeta
from panoforge.core.shards.read import Dataset
from panoforge.core.shards.videos import StoredVideo
from panoforge.core.stats.choice import evenly_over_scenes
from panoforge.core.stats.pixels import IDS_LAYER
from panoforge.core.types import Rgb

MAX_FRAMES = 48
MAX_BYTES = 6_000_000  # of one video in the page, as text
WIDTHS = (1024, 768, 512, 384, 256)  # the widest that fits; where none does, fewer frames
_POSTER_WIDTH, _QUALITY = 640, 78


@dataclass(frozen=True)
class PlayedVideo:
    """Data URIs of one video, and the view that they open."""

    key: str
    note: str
    rgb: str
    overlay: str
    sphere: SphereVideo


def played_videos(dataset: Dataset, limit: int) -> list[PlayedVideo]:
    """At most `limit` of a dataset's videos, from different scenes where it has them."""
    table = dataset.videos
    chosen = evenly_over_scenes(table["scene"].to_pylist(), limit)
    return [_played(dataset, dataset.video(table["video"][k].as_py())) for k in sorted(chosen)]


def _played(dataset: Dataset, video: StoredVideo) -> PlayedVideo:
    """One video: its frames, or every so many of them, as wide as the page has room for."""
    meta = video.meta
    step = -(-meta.frames // MAX_FRAMES)
    pictures, maps = [], []
    for key in video.frame_keys[::step]:
        sample = dataset.by_key(key, ["rgb", "instance"])
        pictures.append(shrink_rgb(sample.read("rgb"), WIDTHS[0]))
        maps.append(shrink_ids(sample.read("instance"), WIDTHS[0]))
    frames: list[VideoFrame] = []
    for width in sorted({min(width, meta.width) for width in WIDTHS}, reverse=True):
        frames = [_frame(rgb, ids, width) for rgb, ids in zip(pictures, maps, strict=True)]
        if _bytes(frames) <= MAX_BYTES:
            break
    while _bytes(frames) > MAX_BYTES and len(frames) > 1:
        frames, step = frames[::2], 2 * step
    names = {row.id: f"{row.name} ({row.category.replace('_', ' ')})" for row in meta.instances}
    poster = shrink_rgb(pictures[0], _POSTER_WIDTH)
    return PlayedVideo(
        key=video.key,
        note=_note(meta, frames, step, width),
        rgb=jpeg_uri(poster),
        overlay=jpeg_uri(overlay_ids(poster, shrink_ids(maps[0], poster.shape[1]))),
        sphere=SphereVideo(
            frames[0].image,
            (layer_of_ids(IDS_LAYER, frames[0].ids[0], names, names),),
            later=frames[1:],
            fps=meta.fps,
            step=step,
            frames=meta.frames,
        ),
    )


def _frame(rgb: Rgb, ids: NDArray[np.uint16], width: int) -> VideoFrame:
    picture = jpeg_uri(shrink_rgb(rgb, width), _QUALITY)
    return VideoFrame(picture, (ids_uri(shrink_ids(ids, width)),))


def _bytes(frames: list[VideoFrame]) -> int:
    return sum(len(frame.image) + sum(map(len, frame.ids)) for frame in frames)


def _note(meta: VideoMeta, frames: list[VideoFrame], step: int, width: int) -> str:
    """What the video is, and what of it is here where that is less."""
    moving = sum(track.motion != "still" for track in meta.instances)
    note = (
        f"{counted(meta.frames, 'frame')} at {number(meta.fps)} fps,"
        f" {number(meta.frames / meta.fps)} s, {counted(len(meta.instances), 'id')},"
        f" {count(moving)} of them moving"
    )
    less = []
    if step > 1:
        less.append(f"{count(len(frames))} of {counted(meta.frames, 'frame')}, one in {step}")
    if width < meta.width:
        less.append(f"{width} of {meta.width} pixels wide")
    return f"{note}. Here: {'; '.join([*less, size(_bytes(frames))])}" if less else note
