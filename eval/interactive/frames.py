"""The frames of a video, by number: of a file, or of a folder of pictures.

Each `Frames` reads by itself, so somebody who scrubs and a propagation do not send one decoder to
and fro: whoever needs frames of their own asks `again`. Nothing is kept but a few frames.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from panoforge.core.errors import DataError
from panoforge.core.foreign.files import read_bytes
from panoforge.core.foreign.idmaps import read_labels
from panoforge.core.foreign.listing import images_in
from panoforge.core.foreign.pictures import decode_panorama
from panoforge.core.foreign.videos import (
    MAX_FRAMES,
    VideoIndex,
    VideoReader,
    index_video,
    video_sha256,
)
from panoforge.core.geometry.views import check_panorama_size
from panoforge.core.types import Labels, Rgb


class Frames(Protocol):
    """A video. `names` are what files about the frames call them."""

    @property
    def names(self) -> Sequence[str]:
        """In order; as many as there are frames."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        ...

    @property
    def fps(self) -> float:
        """Frames a second; 0 where nothing says so."""
        ...

    @property
    def sha256(self) -> str:
        """The digest by which the video is known again."""
        ...

    def rgb(self, number: int) -> Rgb:
        """A frame, uint8 H×W×3."""
        ...

    def labels(self, number: int) -> Labels | None:
        """Its true ids, uint16 H×W, if there are any."""
        ...

    def again(self) -> "Frames":
        """The same frames with a reader of their own."""
        ...

    def close(self) -> None:
        """Let go what is open."""
        ...


@dataclass
class FileFrames:
    """The frames of a video file."""

    path: Path
    index: VideoIndex
    sha256: str

    @classmethod
    def open(cls, path: Path) -> "FileFrames":
        """DataError if it is no video of panoramas."""
        index = index_video(path)
        check_panorama_size(index.width, index.height, path.name)
        return cls(path, index, video_sha256(path))

    def __post_init__(self) -> None:
        self.size, self.fps = (self.index.width, self.index.height), self.index.fps
        self.names = [f"{self.path.stem}/{k:05d}.png" for k in range(len(self.index.times))]
        self._reader = VideoReader(self.path, self.index)

    def rgb(self, number: int) -> Rgb:
        """A frame, decoded."""
        return self._reader.read(number)

    def labels(self, number: int) -> Labels | None:
        """A file has none."""
        return None

    def again(self) -> "FileFrames":
        """With a decoder of its own."""
        return FileFrames(self.path, self.index, self.sha256)

    def close(self) -> None:
        """Let the file go."""
        self._reader.close()


@dataclass
class FolderFrames:
    """A folder of panoramas in the order of their names.

    `true` holds id maps of the same names, as DAVIS has them.
    """

    folder: Path
    true: Path | None = None
    fps: float = 0.0

    def __post_init__(self) -> None:
        self._paths = images_in(self.folder)
        if not self._paths:
            raise DataError(f"{self.folder} holds no pictures, expected the frames of a video")
        if len(self._paths) > MAX_FRAMES:
            raise DataError(f"{self.folder} holds more than {MAX_FRAMES} frames: take fewer")
        self.names = [f"{self.folder.name}/{path.name}" for path in self._paths]

    @cached_property
    def size(self) -> tuple[int, int]:
        """Of the first frame; the others must have it too."""
        height, width = self._read(0).shape[:2]
        return width, height

    @cached_property
    def sha256(self) -> str:
        """Of the names and sizes of all files, and what is in the first: gigabytes are not read."""
        digest = hashlib.sha256(read_bytes(self._paths[0]))
        for path in self._paths:
            digest.update(f"{path.name} {path.stat().st_size}\n".encode())
        return digest.hexdigest()

    def rgb(self, number: int) -> Rgb:
        """A frame, read. DataError if it is of another size than the first."""
        rgb = self._read(number)
        if (rgb.shape[1], rgb.shape[0]) != self.size:
            raise DataError(
                f"{self.names[number]} is {rgb.shape[1]}×{rgb.shape[0]} and the first frame is"
                f" {self.size[0]}×{self.size[1]}: the frames of a video are of one size,"
                " make this one so or take it away"
            )
        return rgb

    def _read(self, number: int) -> Rgb:
        return decode_panorama(read_bytes(self._paths[number]), self.names[number])

    def labels(self, number: int) -> Labels | None:
        """The id map beside it."""
        path = self.true and self.true / f"{self._paths[number].stem}.png"
        return read_labels(path) if path and path.exists() else None

    def again(self) -> "FolderFrames":
        """Reading keeps nothing: it is its own."""
        return self

    def close(self) -> None:
        """Nothing is open."""
