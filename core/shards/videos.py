"""Videos in shards: consecutive samples that belong together, and the index's table of them.

A video is whole where all its frames lie one after the other in one shard, from 0 to the last, and
the first one holds `video.json`. Whatever is less is a cut video: it is neither packed nor read.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import pyarrow as pa

from panoforge.core.errors import DataError
from panoforge.core.names import frame_key, frame_of
from panoforge.core.numbers import counted
from panoforge.core.sample.metadata import VIDEO_SUFFIX, SampleMeta
from panoforge.core.sample.video import VideoMeta, decode_video, frame_faults

VIDEO_SCHEMA = pa.schema(
    [
        ("video", pa.string()),  # its key; frame n is the sample `<video>-f<n, five digits>`
        ("split", pa.string()),
        ("shard", pa.string()),
        ("scene", pa.string()),
        ("source", pa.string()),
        ("frames", pa.int32()),
        ("fps", pa.float64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("n_instances", pa.int32()),  # of all frames together
        ("n_moving", pa.int32()),  # of them: those that are not still
    ]
)


def video_row(meta: SampleMeta, video: VideoMeta, split: str, shard: str) -> dict:
    """The row of the video index; `meta` is that of the first frame."""
    place = frame_of(meta.key)
    assert place is not None  # the metadata of a frame say so
    return {
        "video": place[0],
        "split": split,
        "shard": shard,
        "scene": meta.scene,
        "source": meta.source,
        "frames": video.frames,
        "fps": video.fps,
        "width": video.width,
        "height": video.height,
        "n_instances": len(video.instances),
        "n_moving": sum(row.motion != "still" for row in video.instances),
    }


def by_video(keys: Iterable[str]) -> dict[str, list[int]]:
    """The frames that are there of each video, in the order of the keys."""
    found: dict[str, list[int]] = {}
    for key in keys:
        if (place := frame_of(key)) is not None:
            found.setdefault(place[0], []).append(place[1])
    return found


def cut_fault(video: str, frames: Sequence[int], expected: int) -> str | None:
    """Why these frames are not a whole video of `expected` frames, in this order; None if so."""
    missing = sorted(set(range(expected)) - set(frames))
    if missing:
        shown = ", ".join(map(str, missing[:5])) + ("…" if len(missing) > 5 else "")
        return (
            f"video {video} is cut: {len(frames)} of {counted(expected, 'frame')} are there,"
            f" without {shown}"
        )
    if list(frames) != list(range(expected)):
        return f"video {video}: its frames are not those from 0 to {expected - 1} in order"
    return None


@dataclass
class VideoWatch:
    """Follows the samples of one shard in their order, and says where a video is not whole."""

    _key: str = ""
    _video: VideoMeta | None = None
    _next: int = 0

    def faults(self, meta: SampleMeta, video: VideoMeta | None) -> Iterator[str]:
        """What is wrong when this sample comes next; the first frame brings its `video`."""
        place = frame_of(meta.key)
        if self._key and (place is None or place[0] != self._key or place[1] == 0):
            yield from self.end()
        if place is None:
            return
        key, frame = place
        if frame == 0:
            self._key, self._video, self._next = key, video, 0
        if key != self._key or frame != self._next or self._video is None:
            yield f"video {key} is cut: frame {frame} does not follow frame {frame - 1} here"
            self._key = ""
            return
        self._next += 1
        yield from frame_faults(self._video, meta)
        if self._next == self._video.frames:
            self._key = ""

    def end(self) -> Iterator[str]:
        """What is wrong when no further sample comes."""
        if self._key and self._video is not None:
            fault = cut_fault(self._key, range(self._next), self._video.frames)
            self._key = ""
            if fault:
                yield fault


@dataclass(frozen=True)
class StoredVideo:
    """A video of a dataset: its metadata, and the keys of its frames.

    Attributes:
        key: Its name; `frame_keys` are those of its samples, in order.
        meta: `video.json`: frames, frames a second, poses, and what becomes of each instance.
    """

    key: str
    meta: VideoMeta = field(repr=False)

    @cached_property
    def frame_keys(self) -> tuple[str, ...]:
        """The key of each frame's sample."""
        return tuple(frame_key(self.key, frame) for frame in range(self.meta.frames))


def video_of_sample(key: str, members: dict[str, bytes]) -> StoredVideo:
    """The video whose first frame is this sample. DataError if it is none."""
    place = frame_of(key)
    if place is None or VIDEO_SUFFIX not in members:
        raise DataError(f"{key}: is not the first frame of a video, it has no {VIDEO_SUFFIX}")
    try:
        return StoredVideo(place[0], decode_video(members[VIDEO_SUFFIX]))
    except DataError as error:
        raise DataError(f"{key}: {error}") from None
