"""Objects under one fsspec URL, a local folder or a bucket.

Datasets, staged panoramas, the ledger and the lease stand on them.

    store = Store.at("s3://bucket/dataset")          # or a local path; AWS_… as botocore has them
    store.put("manifest.json", data)                 # whole or not at all
    store.read("shards/train-000000-….tar", 512, 900)  # one range request; never more than it asks
    for

Objects have relative names and appear whole or not at all: buckets give that, and on a local disk
`panoforge.core.storage.atomic` does (temporary name, fsync, rename, fsync of the folder). Nothing
appends and nothing is renamed, because buckets can do neither. What is too big for memory is filled
as a `Draft`, a file without a name, and named when it is complete. Listings are never taken from a
cache: others write here too.

A store never leaves its root: names are checked (`panoforge.core.names`), and a path that a
symbolic link leads outside is refused. So it is for reads, writes, deletes and listings. What is
not a regular file is refused before it is opened. Hidden files and what desktops leave behind do
not show in listings.
"""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Self, TypeAlias

import fsspec
from fsspec.implementations.local import LocalFileSystem

from panoforge.core.errors import DataError, UsageError, nearest
from panoforge.core.names import check_name, is_litter
from panoforge.core.storage.bucket_objects import BucketObjects
from panoforge.core.storage.folder_objects import FolderObjects
from panoforge.core.storage.url_errors import url_errors


class Store:
    """Objects below `url`, named by relative paths such as `attempts/00000007-001.json`."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/") or url
        protocol = fsspec.utils.get_protocol(url)
        if protocol not in fsspec.available_protocols():
            known = sorted(fsspec.available_protocols())
            raise UsageError(
                f"{url}: {protocol}:// is no kind of storage that fsspec"
                f" knows.{nearest(protocol, known)}"
            )
        with url_errors(url):
            fs, self._root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        is_folder = isinstance(fs, LocalFileSystem)
        self._local = Path(self._root) if is_folder else None
        self._objects: FolderObjects | BucketObjects = (
            FolderObjects(Path(self._root), self.url)
            if is_folder
            else BucketObjects(fs, self._root, self.url)
        )

    @classmethod
    def at(cls, location: "StoreLike") -> "Store":
        """The store at a path or URL; a store is returned as it is."""
        return location if isinstance(location, Store) else cls(str(location))

    @property
    def local(self) -> Path | None:
        """The folder, where this is one."""
        return self._local

    @property
    def absolute(self) -> str:
        """The URL, or the folder's absolute path: what another process needs."""
        return self.url if self._local is None else str(self._local.absolute())

    @property
    def name(self) -> str:
        """The last part of the URL."""
        return self._root.rstrip("/").rpartition("/")[2]

    @property
    def parent(self) -> "Store":
        """The store one level up."""
        if self._local is not None:
            return Store(str(self._local.absolute().parent))
        return Store(self.url.rpartition("/")[0])

    def __str__(self) -> str:
        return self.url

    def __reduce__(self) -> tuple[type[Self], tuple[str]]:
        return type(self), (self.absolute,)  # a task takes the URL along, never a connection

    def below(self, name: str) -> "Store":
        """The store of the folder `name`."""
        check_name(name, f"a folder below {self.url}")
        return Store(f"{self.url}/{name}")

    # ---- whole objects

    def put(self, name: str, data: bytes) -> None:
        """Write an object, replacing one of that name."""
        with self._errors(name):
            self._objects.put(name, data)

    def put_all(self, files: Mapping[str, bytes]) -> None:
        """Write many objects, each whole or not at all: faster than one `put` after the other."""
        with url_errors(self.url):
            self._objects.put_all(files)

    def put_new(self, name: str, data: bytes) -> bool:
        """Write an object unless there is one of that name; says whether it did.

        Of two writers exactly one succeeds.
        """
        with self._errors(name):
            return self._objects.put_new(name, data)

    def get(self, name: str, max_bytes: int | None = None) -> bytes | None:
        """An object's bytes; None if there is none. DataError if it has more than `max_bytes`."""
        if max_bytes is not None:
            size = self.get_size(name)
            if size is not None and size > max_bytes:
                raise DataError(
                    f"{self.url}/{name}: {size} bytes is over the cap of {max_bytes} for such a"
                    " file: it is not one that panoforge wrote"
                )
        with self._none_is_fine(name):
            return self._objects.get(name)
        return None

    def delete(self, name: str) -> None:
        """Remove an object; none is fine."""
        with self._none_is_fine(name):
            self._objects.delete(name)

    def move(self, name: str, to: str) -> None:
        """Give what is called `name`, whatever its kind, another name, which must be free."""
        with self._errors(name):
            self._objects.move(name, to)

    # ---- parts of objects

    def size(self, name: str) -> int:
        """Bytes of an object. StorageError if there is none."""
        with self._errors(name):
            return self._objects.size(name)

    def get_size(self, name: str) -> int | None:
        """Bytes of an object; None if there is none."""
        with self._none_is_fine(name):
            return self._objects.size(name)
        return None

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """Bytes [start, stop) of an object: to its end where `stop` is None.

        Fewer where it is shorter. StorageError if there is none.
        """
        with self._errors(name):
            return self._objects.read(name, start, stop)

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """An object as a file, to be read from its beginning on.

        Errors come out as StorageError.
        """
        with self._errors(name), self._objects.open(name) as file:
            yield file

    # ---- big objects

    @contextlib.contextmanager
    def draft(self, folder: str) -> Iterator["Draft"]:
        """A file without a name, to be filled and then committed as an object of `folder`.

        Left uncommitted it is gone.
        """
        with self._errors(folder), self._objects.draft(folder) as file:
            yield Draft(self, folder, file)

    def _commit(self, draft: BinaryIO, name: str) -> None:
        with self._errors(name):
            self._objects.commit(draft, name)

    # ---- listings

    def names(self, folder: str) -> list[str]:
        """Names of the objects in `folder` (not below it), sorted.

        One listing, whatever their number.
        """
        with self._errors(folder):
            try:
                found = self._objects.names(folder)
            except FileNotFoundError:
                return []
        return sorted(
            f"{folder}/{name}" if folder else name for name in found if name and not is_litter(name)
        )

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Bytes of every object in and below `folder`, by name, sorted.

        Temporaries and what is no regular file are left out. Empty if there is no such folder. One
        paged listing of a bucket; one walk of a disk.
        """
        with url_errors(f"{self.url}/{folder}".rstrip("/")):
            return dict(sorted(self._objects.sizes(folder).items()))

    def links_out(self) -> list[str]:
        """Names of the symbolic links below the root that lead out of it, sorted."""
        return self._objects.links_out()

    def sweep(self, folder: str) -> None:
        """Remove what interrupted writers left in `folder`; only its one writer may call this."""
        with self._errors(folder):
            self._objects.sweep(folder)

    # ---- errors

    def _errors(self, name: str) -> contextlib.AbstractContextManager[None]:
        return url_errors(f"{self.url}/{name}")

    @contextlib.contextmanager
    def _none_is_fine(self, name: str) -> Iterator[None]:
        with (
            contextlib.suppress(FileNotFoundError),
            url_errors(f"{self.url}/{name}", FileNotFoundError),
        ):
            yield


StoreLike: TypeAlias = str | Path | Store  # what `Store.at` takes: a path, a URL, a store


class Draft:
    """A file that has no name yet. Write to `file`, then `commit` it."""

    def __init__(self, store: Store, folder: str, file: BinaryIO) -> None:
        self._store, self._folder, self.file = store, folder, file

    def commit(self, name: str) -> str:
        """Make it durable and give it its name, within its folder; gives the object's full name."""
        full = f"{self._folder}/{name}".lstrip("/")  # the folder "" is the store itself
        self._store._commit(self.file, full)
        return full
