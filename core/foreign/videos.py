"""Frames of a video file by number, exactly: FFmpeg by PyAV.

The packets are walked once, without decoding: that gives every frame's time stamp and the frames
that decoding can begin at. A frame is found by its own stamp. So numbers are exact where rates vary
and frames are stored out of order. OpenCV, which is there too, counts by the rate.

Only containers of files are opened (MP4, MOV, Matroska, WebM, AVI), by what is in them. A playlist
under the name of a video would make FFmpeg read other files and addresses. Frames are turned as the
file asks for, in quarters of a circle: phones film on their side.
"""

import hashlib
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from panoforge.core.errors import DataError
from panoforge.core.foreign.files import refuse_special
from panoforge.core.foreign.pictures import MAX_PIXELS
from panoforge.core.storage.atomic import storage_errors
from panoforge.core.types import Rgb

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
MAX_FRAMES = 20_000
KEPT_BYTES = 128 * 10**6  # of frames that were passed on the way: for one step back
_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi",
}


@dataclass(frozen=True)
class VideoIndex:
    """`times` are the frames' time stamps in order, `starts` those that decoding can begin at.

    `width` and `height` are of the frames as they are shown, after turning.
    """

    width: int
    height: int
    fps: float
    times: tuple[int, ...]
    starts: tuple[int, ...]


def index_video(path: Path) -> VideoIndex:
    """What a video file holds, without decoding it.

    Raises:
        DataError: it is none, damaged, without time stamps, or over the caps.
    """
    with _opened(path) as container:
        stream = _stream(container, path)
        times, starts = set(), set()
        for packet in _packets(container, stream, path):
            if not packet.size or packet.is_discard:
                continue
            if packet.pts is None:
                raise DataError(
                    f"{path.name} has frames without time stamps: write it anew, e.g. ffmpeg -i"
                    f" {path.name} -c:v libx264 new.mp4"
                )
            times.add(packet.pts)
            if packet.is_keyframe:
                starts.add(packet.pts)
            if len(times) > MAX_FRAMES:
                raise DataError(
                    f"{path.name} has more than {MAX_FRAMES} frames: cut it into pieces, or take"
                    " every n-th frame"
                )
        if not times or not starts:
            raise DataError(
                f"{path.name} holds no frame that can be decoded: copy it again, or write it anew,"
                f" e.g. ffmpeg -i {path.name} -c:v libx264 new.mp4"
            )
        width, height = stream.codec_context.width, stream.codec_context.height
        if not 0 < width * height <= MAX_PIXELS:
            raise DataError(
                f"{path.name} claims {width}×{height} pixels: outside of the cap of {MAX_PIXELS}:"
                " make it smaller"
            )
        if _quarters(_first_frame(container, stream, min(starts), path)) % 2:
            width, height = height, width
        rate = stream.average_rate
        return VideoIndex(
            width,
            height,
            float(rate) if rate else 0.0,
            tuple(sorted(times)),
            tuple(sorted(starts)),
        )


def video_sha256(path: Path) -> str:
    """The digest of a file, read in pieces. DataError for a pipe or a device."""
    refuse_special(path)
    with storage_errors(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class VideoReader:
    """The frames of a file. Safe for threads, one frame at a time; close it."""

    def __init__(self, path: Path, index: VideoIndex) -> None:
        self.path, self.index = path, index
        self._number = {time: k for k, time in enumerate(index.times)}
        self._lock = threading.Lock()
        self._container: Any = None
        self._decoded: Iterator[Any] = iter(())
        self._at: int | None = None  # the frame that was decoded last
        self._kept: OrderedDict[int, Rgb] = OrderedDict()
        self._keep = max(1, KEPT_BYTES // (3 * index.width * index.height))

    def read(self, number: int) -> Rgb:
        """A frame, uint8 H×W×3. DataError if it cannot be decoded."""
        with self._lock:
            if number not in self._kept:
                self._decode_to(number)
            self._kept.move_to_end(number)
            return self._kept[number]

    def close(self) -> None:
        """Let the file go; reading opens it again."""
        with self._lock:
            if self._container is not None:
                self._container.close()
            self._container, self._at, self._decoded = None, None, iter(())
            self._kept.clear()

    def _decode_to(self, number: int) -> None:
        try:
            if self._container is None:
                self._container = _opened(self.path)
                _stream(self._container, self.path)
            self._go_before(number)
            for frame in self._decoded:
                k = self._number.get(frame.pts)
                if k is None:  # before the place where decoding began, or not shown
                    continue
                self._at = k
                if number - self._keep < k <= number:
                    self._kept[k] = self._shown(frame, k)
                    self._kept.move_to_end(k)
                if k >= number:
                    break
        except DataError:
            raise
        except Exception as error:  # FFmpeg's own, and Python's where it meets odd values
            self._at = None
            raise DataError(
                f"{self.path.name}: frame {number} cannot be decoded ({_said(error)}): the file is"
                " damaged, copy it again or cut it before that frame"
            ) from None
        finally:
            while len(self._kept) > self._keep:
                self._kept.popitem(last=False)
        if number not in self._kept:
            self._at = None
            raise DataError(
                f"{self.path.name}: frame {number} is missing: the file is damaged, copy it again"
                " or cut it before that frame"
            )

    def _shown(self, frame: Any, number: int) -> Rgb:
        """A frame's pixels as they are shown. Its size is asked first: any frame has its own."""
        quarters = _quarters(frame)
        width, height = (frame.height, frame.width) if quarters % 2 else (frame.width, frame.height)
        if (width, height) != (self.index.width, self.index.height):
            raise DataError(
                f"{self.path.name}: frame {number} is {width}×{height}, its video"
                f" {self.index.width}×{self.index.height}: write it anew, in one size"
            )
        return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), quarters))

    def _go_before(self, number: int) -> None:
        """Begin to decode where the frame is reached soonest."""
        times, starts = self.index.times, self.index.starts
        start = starts[max(0, bisect_right(starts, times[number]) - 1)]
        if self._at is not None and self._at < number and times[self._at] >= start:
            return
        stream = self._container.streams.video[0]
        self._container.seek(start, stream=stream, backward=True, any_frame=False)
        self._decoded = self._container.decode(stream)


def _opened(path: Path) -> Any:
    import av

    refuse_special(path)
    try:
        return av.open(str(path), options=_OPTIONS)
    except Exception as error:
        raise DataError(
            f"{path.name} cannot be opened as a video ({_said(error)}): expected a file of"
            f" {', '.join(VIDEO_SUFFIXES)}"
        ) from None


def _packets(container: Any, stream: Any, path: Path) -> Iterator[Any]:
    """The packets of a stream; one that cannot be read ends in a DataError."""
    try:
        yield from container.demux(stream)
    except Exception as error:  # FFmpeg's own: a packet of a claimed gigabyte is a MemoryError
        raise DataError(
            f"{path.name}: its packets cannot be read ({_said(error)}): the file is damaged, copy"
            " it again"
        ) from None


def _first_frame(container: Any, stream: Any, start: int, path: Path) -> Any:
    """A decoded frame: only frames say how they are turned."""
    try:
        container.seek(start, stream=stream, backward=True, any_frame=False)
        return next(container.decode(stream))
    except Exception as error:  # StopIteration too: no packet gave a frame
        raise DataError(
            f"{path.name}: its first frame cannot be decoded ({_said(error)}): the file is damaged,"
            " copy it again"
        ) from None


def _quarters(frame: Any) -> int:
    """By how many quarters of a circle a frame is shown turned, counter-clockwise."""
    return round(frame.rotation / 90) % 4


def _stream(container: Any, path: Path) -> Any:
    if not container.streams.video:
        raise DataError(
            f"{path.name} holds no video stream, only sound or data: give the file of the pictures"
        )
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise DataError(
            f"{path.name} holds video of a kind that no decoder here knows: write it anew, e.g."
            f" ffmpeg -i {path.name} -c:v libx264 new.mp4"
        )
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}  # frames may claim any size
    return stream


def _said(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0][:100]
