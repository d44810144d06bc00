"""What is to be labelled: pictures, folders of them, video files, or a dataset of ours.

Each is a `Footage`: frames to be opened when its turn comes. A picture is a video of one frame.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from panoforge.core.errors import DataError
from panoforge.core.foreign.files import read_bytes
from panoforge.core.foreign.listing import SUFFIXES, list_pictures
from panoforge.core.foreign.pictures import decode_picture, panorama_of
from panoforge.core.foreign.videos import VIDEO_SUFFIXES
from panoforge.core.names import frame_key, scene_of_file
from panoforge.core.shards.layout import MANIFEST_NAME
from panoforge.core.shards.read import Dataset
from panoforge.core.types import Labels, Mask, Rgb
from panoforge.eval.interactive.dataset_frames import DatasetFrames
from panoforge.eval.interactive.frames import FileFrames, FolderFrames, Frames


@dataclass(frozen=True)
class OpenFootage:
    """An item's frames; `seen` bool H×W is what a partial sphere shows, None is all."""

    frames: Frames
    seen: Mask | None = None


@dataclass(frozen=True)
class Footage:
    """One picture or video: `scene` begins the keys of its samples."""

    name: str
    is_video: bool
    open: Callable[[], OpenFootage] = field(repr=False)

    @property
    def scene(self) -> str:
        """What its samples are called."""
        return scene_of_file(self.name)

    def key(self, frame: int) -> str:
        """The key of a frame's sample."""
        return frame_key(f"{self.scene}-v0", frame) if self.is_video else f"{self.scene}-c0"


@dataclass
class PictureFrames:
    """A picture as a video of one frame."""

    path: Path
    picture: Rgb
    sha256: str
    fps: float = 0.0

    @classmethod
    def open(cls, path: Path) -> OpenFootage:
        """Read a panorama; a crop is laid onto the sphere by its GPano tags.

        Raises:
            DataError: it is no picture that is read, damaged, or no panorama.
        """
        data = read_bytes(path)
        decoded = decode_picture(data, path.name)
        rgb = panorama_of(decoded, path.name)
        seen = None
        if decoded.placement is not None:
            seen = decoded.on_sphere(np.ones(decoded.rgb.shape[:2], np.uint8)) > 0
        return OpenFootage(cls(path, rgb, hashlib.sha256(data).hexdigest()), seen)

    @property
    def names(self) -> Sequence[str]:
        """Its file's name."""
        return [self.path.name]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.picture.shape[1], self.picture.shape[0]

    def rgb(self, number: int) -> Rgb:
        """The picture."""
        return self.picture

    def labels(self, number: int) -> Labels | None:
        """A file has none."""
        return None

    def again(self) -> "PictureFrames":
        """Nothing is open: it is its own."""
        return self

    def close(self) -> None:
        """Nothing is open."""


def items_of(place: Path, *, video: bool = False) -> list[Footage]:
    """What there is to label at a place, in the order of names.

    Args:
        place: a picture, a video file, a folder of both, or a dataset.
        video: the pictures of the folder are the frames of one video.

    Raises:
        DataError: there is nothing, or two things that cannot be told apart.
    """
    found = list(_found(place, video))
    if not found:
        raise DataError(
            f"{place} holds nothing to label: expected files of {', '.join(SUFFIXES)} or"
            f" {', '.join(VIDEO_SUFFIXES)}, or a dataset"
        )
    scenes: dict[str, str] = {}
    for item in found:
        if (other := scenes.setdefault(item.scene, item.name)) != item.name:
            raise DataError(f"{item.name} and {other} would have the same keys: rename one")
    return found


def _found(place: Path, video: bool) -> list[Footage]:
    if not place.exists():
        raise DataError(f"{place} does not exist: expected a picture, a video, a folder, a dataset")
    if place.is_file():
        return [_file(place)]
    if (place / MANIFEST_NAME).exists():
        return _of_dataset(Dataset.open(place))
    if video:
        return [Footage(f"{place.name}/", True, lambda: OpenFootage(FolderFrames(place)))]
    listing = list_pictures(place, beside=VIDEO_SUFFIXES)
    videos = [path for path in place.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES]
    visible = [path for path in videos if path.is_file() and not path.name.startswith(".")]
    return [_file(path) for path in sorted([*listing.pictures.values(), *visible])]


def _file(path: Path) -> Footage:
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return Footage(path.name, True, lambda: OpenFootage(FileFrames.open(path)))
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(
            f"{path.name} is no picture or video by its name: expected one of"
            f" {', '.join((*SUFFIXES, *VIDEO_SUFFIXES))}"
        )
    return Footage(path.name, False, partial(PictureFrames.open, path))


def _of_dataset(dataset: Dataset) -> list[Footage]:
    videos = [dataset.video(key) for key in dataset.videos["video"].to_pylist()]
    frames = {key for one in videos for key in one.frame_keys}
    stills = [key for key in dataset.keys if key not in frames]
    return [
        *(Footage(key, False, partial(_opened, dataset, (key,), 0.0)) for key in stills),
        *(
            Footage(o.key, True, partial(_opened, dataset, o.frame_keys, o.meta.fps))
            for o in videos
        ),
    ]


def _opened(dataset: Dataset, keys: Sequence[str], fps: float) -> OpenFootage:
    return OpenFootage(DatasetFrames(dataset, keys, fps))
