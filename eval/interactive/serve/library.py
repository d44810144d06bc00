"""The pictures and videos that are worked on, and where the work lies.

A place is a folder of pictures and videos, a dataset, what `pano annotate` has written, or one of
them; pictures and videos can also be dropped onto the page. A video is a file, or a folder of
frames: one in a place, or in its `JPEGImages`, with the true ids in `Annotations` as DAVIS has
them. Each has a folder of its own in the work folder, named by what it is called. Its journal lies
there, and the picture itself if it was dropped. Nothing is ever written to where the pictures come
from. Whole pictures are read again when they are needed, never kept.
"""

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from panoforge.core.errors import DataError, UsageError
from panoforge.core.foreign.files import read_bytes
from panoforge.core.foreign.listing import SUFFIXES, images_in, list_pictures
from panoforge.core.foreign.pictures import DecodedPicture, decode_picture, panorama_of
from panoforge.core.foreign.videos import VIDEO_SUFFIXES
from panoforge.core.geometry.sphere import row_area_sr
from panoforge.core.names import slug
from panoforge.core.sample.revisions import Revision
from panoforge.core.shards.layout import MANIFEST_NAME
from panoforge.core.shards.read import Dataset
from panoforge.core.storage.atomic import storage_errors, write_bytes_atomic
from panoforge.core.types import Labels, Rgb
from panoforge.eval.interactive.frames import FileFrames, FolderFrames, Frames
from panoforge.eval.interactive.serve.labelled import LabelledItem, LabelledPlace

JOURNAL, UPLOADS = "journal.jsonl", "picture"


@dataclass(frozen=True)
class Listed360:
    """One picture: `name` is what it is called, `read` gives the bytes of its file.

    Or a video, which `video` opens. `found` are labels of `pano annotate` that it begins with.
    """

    id: str
    name: str
    folder: Path
    read: Callable[[], bytes]
    labels: Callable[[], Labels] | None = None
    video: Callable[[], Frames] | None = None
    found: LabelledItem | None = None

    @property
    def journal(self) -> Path:
        """Where the work on it is written."""
        return self.folder / JOURNAL

    @property
    def entries(self) -> Mapping[str, Revision]:
        """What is to be looked at on it, by the digests of entries."""
        return self.found.entries if self.found else {}


@dataclass(frozen=True)
class Decoded:
    """A whole panorama, and `on_sphere`, which lays masks of the file's size where it lies.

    `notice` says in words that only a part of it is in the file.
    """

    rgb: Rgb
    sha256: str
    on_sphere: Callable
    notice: str = ""


def id_of(name: str) -> str:
    """The id of a picture: its name in plain letters, and a digest of it."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    return f"{slug(Path(name).stem)}-{digest}"


class Library:
    """The pictures by id, in order. `digest` tells this work from that on another place.

    `place` is None if all are dropped onto the page; `video`: the place itself is a folder of
    frames.
    """

    def __init__(
        self,
        place: Path | None,
        work: Path,
        labels: Labels | None = None,
        *,
        video: bool = False,
    ) -> None:
        self.place, self.work, self._labels, self._video = place, work, labels, video
        self.digest = hashlib.sha256(
            str(work.absolute()).encode("utf-8", "surrogatepass")
        ).hexdigest()
        self.left_out = ""
        self._pictures: dict[str, Listed360] = {}
        if place is not None and LabelledPlace.is_one(place):
            self._add_labelled(LabelledPlace.open(place))
        else:
            for name, read, true in self._found():
                self._add(name, read, true)
            for name, open_ in self._videos():
                self._add_video(name, open_)
        for folder in sorted(work.glob("pictures/*/")):
            for path in sorted(folder.glob(f"{UPLOADS}/*")):
                self._add_upload(path)
        if place is not None and not self._pictures:
            raise DataError(
                f"{place} holds no pictures: expected files of {', '.join(SUFFIXES)} or"
                f" {', '.join(VIDEO_SUFFIXES)}, folders of frames, or a dataset"
            )

    def _found(self) -> list[tuple[str, Callable[[], bytes], Callable[[], Labels] | None]]:
        place = self.place
        if place is None or self._video or is_video(place):
            return []
        if place.is_file():
            if place.suffix.lower() not in SUFFIXES:
                raise DataError(
                    f"{place} is no picture by its name: expected one of {', '.join(SUFFIXES)}, a"
                    " folder or a dataset. Masks are imported on the page"
                )
            labels = self._labels
            return [
                (place.name, partial(read_bytes, place), None if labels is None else lambda: labels)
            ]
        if not place.is_dir():
            raise DataError(f"{place} does not exist: expected a picture, a folder or a dataset")
        if (place / MANIFEST_NAME).exists():
            dataset = Dataset.open(place)
            return [
                (key, partial(_sample_picture, dataset, key), partial(_sample_labels, dataset, key))
                for key in dataset.keys
            ]
        listing = list_pictures(place, beside=VIDEO_SUFFIXES)
        self.left_out = str(listing.left_out)
        return [(path.name, partial(read_bytes, path), None) for path in listing.pictures.values()]

    def _videos(self) -> list[tuple[str, Callable[[], Frames]]]:
        place = self.place
        if place is None or (place.is_dir() and (place / MANIFEST_NAME).exists()):
            return []
        if self._video:
            return [(place.name, partial(FolderFrames, place))]
        if is_video(place):
            return [(place.name, partial(FileFrames.open, place))]
        if not place.is_dir():
            return []
        paths = sorted(path for path in place.iterdir() if not path.name.startswith("."))
        files = [(path.name, partial(FileFrames.open, path)) for path in paths if is_video(path)]
        frames, true = place / "JPEGImages", place / "Annotations"
        inside = frames if frames.is_dir() else place
        folders: list[tuple[str, Callable[[], Frames]]] = [
            (f"{path.name}/", partial(FolderFrames, path, true / path.name))
            for path in sorted(inside.iterdir())
            if path.is_dir() and not path.name.startswith(".") and images_in(path)
        ]
        return [*files, *folders]

    def _add_labelled(self, labelled: LabelledPlace) -> None:
        self.left_out = labelled.left_out
        for one in labelled.items:
            if one.is_video:
                self._add_video(one.key, one.frames, one)
            else:
                read = partial(_sample_picture, one.dataset, one.key)
                self._add(one.key, read, partial(_sample_labels, one.dataset, one.key), one)

    def _add_video(
        self, name: str, open_: Callable[[], Frames], found: LabelledItem | None = None
    ) -> Listed360:
        id_ = id_of(name)
        folder = self.work / "pictures" / id_
        listed = Listed360(id_, name, folder, partial(_no_bytes, name), video=open_, found=found)
        self._pictures[id_] = listed
        return listed

    def _add_upload(self, path: Path) -> Listed360:
        if is_video(path):
            return self._add_video(path.name, partial(FileFrames.open, path))
        return self._add(path.name, partial(read_bytes, path), None)

    def _add(
        self,
        name: str,
        read: Callable[[], bytes],
        labels: Callable[[], Labels] | None,
        found: LabelledItem | None = None,
    ) -> Listed360:
        id_ = id_of(name)
        picture = Listed360(id_, name, self.work / "pictures" / id_, read, labels, found=found)
        self._pictures[id_] = picture
        return picture

    def __iter__(self) -> Iterator[Listed360]:
        return iter(list(self._pictures.values()))

    def __len__(self) -> int:
        return len(self._pictures)

    def get(self, id_: str) -> Listed360:
        """UsageError if there is no such picture."""
        if id_ not in self._pictures:
            raise UsageError(f"there is no picture {id_[:80]!r} here")
        return self._pictures[id_]

    def upload(self, data: bytes, name: str) -> Listed360:
        """Take in a dropped picture; one that is there already by name and bytes is that one.

        Raises:
            DataError: it is no panorama, or another picture has that name.
        """
        name = upload_name(name)
        known = self._pictures.get(id_of(name))
        path = self.work / "pictures" / id_of(name) / UPLOADS / name
        if known is not None:
            there = read_bytes(path) if known.video and path.exists() else known.read()
            if there == data:
                return known
            raise DataError(
                f"a picture called {name} is here already, and it is another one: rename yours"
            )
        if is_video(path):
            _check_video(data, name)
        else:
            decode(data, name)
        write_bytes_atomic(path, data)
        return self._add_upload(path)


def is_video(path: Path) -> bool:
    """Whether a name is that of a video, and no folder, pipe or device has it."""
    return path.suffix.lower() in VIDEO_SUFFIXES and (path.is_file() or not path.exists())


def _check_video(data: bytes, name: str) -> None:
    """DataError if dropped bytes are no video of panoramas."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        with storage_errors(path):
            path.write_bytes(data)
        FileFrames.open(path).close()


def _no_bytes(name: str) -> bytes:
    raise DataError(f"{name} is a video here already: rename yours")


def upload_name(name: str) -> str:
    """The file name of a dropped picture: its last part, without what file systems refuse."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1].strip(" .") or "panorama"
    return "".join("_" if c in ':*?"<>|' or ord(c) < 32 else c for c in last)[:120]


def decode(data: bytes, name: str) -> Decoded:
    """A file's bytes as a whole panorama. DataError if it is none."""
    picture = decode_picture(data, name)
    rgb = panorama_of(picture, name)
    return Decoded(rgb, hashlib.sha256(data).hexdigest(), picture.on_sphere, _part_of(picture))


def _part_of(picture: DecodedPicture) -> str:
    """What is said of a crop that its tags place; empty for a whole panorama."""
    if picture.placement is None:
        return ""
    covered = picture.on_sphere(np.ones(picture.rgb.shape[:2], bool))
    height, width = covered.shape
    share = float(covered.sum(axis=1) @ row_area_sr(width, height)) / (4 * np.pi)
    if share > 0.999:
        return ""
    return (
        f"this is a part of a panorama, {100 * share:.0f} % of the sphere, and lies where its GPano"
        " tags place it; around it all is black"
    )


def _sample_picture(dataset: Dataset, key: str) -> bytes:
    sample = dataset.by_key(key, ["rgb"])
    return sample.members[sample.suffix("rgb")]


def _sample_labels(dataset: Dataset, key: str) -> Labels:
    return dataset.by_key(key, ["instance"]).read("instance")
