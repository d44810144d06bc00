"""The pictures that are worked on, and where the work lies.

A place is a folder of pictures, a dataset, or one picture; pictures can also be dropped onto the
page. Each has a folder of its own in the work folder, named by what it is called. Its journal lies
there, and the picture itself if it was dropped. Nothing is ever written to where the pictures come
from. Whole pictures are read again when they are needed, never kept.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from panoforge.core.errors import DataError, UsageError
from panoforge.core.foreign.files import read_bytes
from panoforge.core.foreign.listing import SUFFIXES, list_pictures
from panoforge.core.foreign.pictures import decode_picture, panorama_of
from panoforge.core.names import slug
from panoforge.core.shards.layout import MANIFEST_NAME
from panoforge.core.shards.read import Dataset
from panoforge.core.storage.atomic import write_bytes_atomic
from panoforge.core.types import Labels, Rgb

JOURNAL, UPLOADS = "journal.jsonl", "picture"


@dataclass(frozen=True)
class Listed360:
    """One picture: `name` is what it is called, `read` gives the bytes of its file."""

    id: str
    name: str
    folder: Path
    read: Callable[[], bytes]
    labels: Callable[[], Labels] | None = None

    @property
    def journal(self) -> Path:
        """Where the work on it is written."""
        return self.folder / JOURNAL


@dataclass(frozen=True)
class Decoded:
    """A whole panorama, and `on_sphere`, which lays masks of the file's size where it lies."""

    rgb: Rgb
    sha256: str
    on_sphere: Callable


def id_of(name: str) -> str:
    """The id of a picture: its name in plain letters, and a digest of it."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    return f"{slug(Path(name).stem)}-{digest}"


class Library:
    """The pictures by id, in order. `place` is None if all are dropped onto the page."""

    def __init__(self, place: Path | None, work: Path, labels: Labels | None = None) -> None:
        self.place, self.work, self._labels = place, work, labels
        self.left_out = ""
        self._pictures: dict[str, Listed360] = {}
        for name, read, true in self._found():
            self._add(name, read, true)
        for folder in sorted(work.glob("pictures/*/")):
            for path in sorted(folder.glob(f"{UPLOADS}/*")):
                self._add(path.name, partial(read_bytes, path), None)

    def _found(self) -> list[tuple[str, Callable[[], bytes], Callable[[], Labels] | None]]:
        place = self.place
        if place is None:
            return []
        if place.is_file():
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
        listing = list_pictures(place)
        if not listing.pictures:
            raise DataError(
                f"{place} holds no pictures: expected files of {', '.join(SUFFIXES)}, or a dataset"
            )
        self.left_out = str(listing.left_out)
        return [(path.name, partial(read_bytes, path), None) for path in listing.pictures.values()]

    def _add(
        self, name: str, read: Callable[[], bytes], labels: Callable[[], Labels] | None
    ) -> Listed360:
        id_ = id_of(name)
        picture = Listed360(id_, name, self.work / "pictures" / id_, read, labels)
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
        if known is not None:
            if known.read() == data:
                return known
            raise DataError(
                f"a picture called {name} is here already, and it is another one: rename yours"
            )
        decode(data, name)
        folder = self.work / "pictures" / id_of(name)
        write_bytes_atomic(folder / UPLOADS / name, data)
        return self._add(name, partial(read_bytes, folder / UPLOADS / name), None)


def upload_name(name: str) -> str:
    """The file name of a dropped picture: its last part, without what file systems refuse."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1].strip(" .") or "panorama"
    return "".join("_" if c in ':*?"<>|' or ord(c) < 32 else c for c in last)[:120]


def decode(data: bytes, name: str) -> Decoded:
    """A file's bytes as a whole panorama. DataError if it is none."""
    picture = decode_picture(data, name)
    rgb = panorama_of(picture, name)
    return Decoded(rgb, hashlib.sha256(data).hexdigest(), picture.on_sphere)


def _sample_picture(dataset: Dataset, key: str) -> bytes:
    sample = dataset.by_key(key, ["rgb"])
    return sample.members[sample.suffix("rgb")]


def _sample_labels(dataset: Dataset, key: str) -> Labels:
    return dataset.by_key(key, ["instance"]).read("instance")
