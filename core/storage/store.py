"""Objects under one fsspec URL, a local folder or a bucket: what datasets, staged panoramas, the
ledger and the lease stand on.

    store = Store.at("s3://bucket/dataset")          # or a local path; AWS_ENDPOINT_URL and the like as botocore reads them
    store.put("manifest.json", data)                 # whole or not at all
    store.read("shards/train-000000-….tar", 512, 900)  # one range request; never more than it asks
    for

Objects have relative names and appear whole or not at all: buckets give that, and on a local disk
`panoforge.core.storage.atomic` does (temporary name, fsync, rename, fsync of the folder). Nothing
appends and nothing is renamed, because buckets can do neither. What is too big for memory is filled
as a `Draft`, a file without a name, and named when it is complete. Listings are never taken from a
cache: others write here too.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Self, TypeAlias

import fsspec
from fsspec.implementations.local import LocalFileSystem

from panoforge.core.errors import StorageError, UsageError, nearest
from panoforge.core.storage.atomic import (
    TEMPORARY_PREFIX,
    fsync_folder,
    storage_errors,
    sweep_temporaries,
    temporary_beside,
    write_bytes_atomic,
)

_NETWORK_PACKAGES = ("botocore", "aiobotocore", "aiohttp", "s3fs", "gcsfs", "google", "urllib3")


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
        with _errors(url):
            self._fs, self._root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        self._local = Path(self._root) if isinstance(self._fs, LocalFileSystem) else None

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
        return Store(f"{self.url}/{name}")

    # ---- whole objects

    def put(self, name: str, data: bytes) -> None:
        """Write an object, replacing one of that name."""
        if self._local is not None:
            write_bytes_atomic(self._local / name, data)
            return
        with _errors(f"{self.url}/{name}"):
            self._fs.pipe_file(self._path(name), data)

    def put_new(self, name: str, data: bytes) -> bool:
        """Write an object unless there is one of that name; says whether it did. Of two writers
        exactly one succeeds.
        """
        if self._local is not None:
            return _link_new(self._local / name, data)
        try:
            with _errors(f"{self.url}/{name}", FileExistsError):
                self._fs.pipe_file(self._path(name), data, mode="create")
        except FileExistsError:
            return False
        return True

    def get(self, name: str) -> bytes | None:
        """An object's bytes; None if there is none."""
        with (
            contextlib.suppress(FileNotFoundError),
            _errors(f"{self.url}/{name}", FileNotFoundError),
        ):
            return (
                (self._local / name).read_bytes()
                if self._local is not None
                else self._fs.cat_file(self._path(name))
            )
        return None

    def delete(self, name: str) -> None:
        """Remove an object; none is fine."""
        with (
            contextlib.suppress(FileNotFoundError),
            _errors(f"{self.url}/{name}", FileNotFoundError),
        ):
            if self._local is not None:
                (self._local / name).unlink()
            else:
                self._fs.rm_file(self._path(name))

    # ---- parts of objects

    def size(self, name: str) -> int:
        """Bytes of an object. StorageError if there is none."""
        with _errors(f"{self.url}/{name}"):
            return (
                (self._local / name).stat().st_size
                if self._local is not None
                else int(self._fs.size(self._path(name)))
            )

    def get_size(self, name: str) -> int | None:
        """Bytes of an object; None if there is none."""
        with (
            contextlib.suppress(FileNotFoundError),
            _errors(f"{self.url}/{name}", FileNotFoundError),
        ):
            return (
                (self._local / name).stat().st_size
                if self._local is not None
                else int(self._fs.size(self._path(name)))
            )
        return None

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """Bytes [start, stop) of an object (to its end where `stop` is None; fewer where it is
        shorter). StorageError if there is none.
        """
        with _errors(f"{self.url}/{name}"):
            if self._local is not None:
                with open(self._local / name, "rb") as file:
                    file.seek(start)
                    return file.read() if stop is None else file.read(stop - start)
            if stop is not None and stop <= start:
                return b""
            try:
                return self._fs.cat_file(self._path(name), start=start or None, end=stop)
            except OSError as error:
                if (
                    start and "range" in str(error).lower()
                ):  # past the end: a file gives nothing there, a bucket an error
                    return b""
                raise

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """An object as a file, to be read from its beginning on. Errors come out as
        StorageError."""
        with _errors(f"{self.url}/{name}"):
            if self._local is not None:
                with open(self._local / name, "rb") as file:
                    yield file
            else:
                with self._fs.open(self._path(name), "rb", block_size=8 << 20) as file:
                    yield file

    # ---- big objects

    @contextlib.contextmanager
    def draft(self, folder: str) -> Iterator["Draft"]:
        """A file without a name, to be filled and then committed as an object of `folder`. Left
        uncommitted it is gone.
        """
        with _errors(f"{self.url}/{folder}"):
            if self._local is None:
                with (
                    tempfile.TemporaryDirectory(prefix="panoforge-") as scratch,
                    open(Path(scratch) / "draft", "xb") as file,
                ):
                    yield Draft(self, folder, Path(file.name), file)
                return
            temporary = temporary_beside(self._local / folder / "draft")
            temporary.parent.mkdir(parents=True, exist_ok=True)
            try:
                with open(temporary, "xb") as file:
                    yield Draft(self, folder, temporary, file)
            finally:
                temporary.unlink(missing_ok=True)

    def _commit(self, draft: Path, name: str) -> None:
        with _errors(f"{self.url}/{name}"):
            if self._local is None:
                self._fs.put_file(
                    str(draft), self._path(name)
                )  # a multipart upload appears when its last part is there
            else:
                os.replace(draft, self._local / name)
                fsync_folder((self._local / name).parent)

    # ---- listings

    def names(self, folder: str) -> list[str]:
        """Names of the objects in `folder` (not below it), sorted; one listing, whatever their
        number.
        """
        with _errors(f"{self.url}/{folder}", FileNotFoundError):
            try:
                if self._local is not None:
                    found = [entry.name for entry in os.scandir(self._local / folder)]
                else:
                    paths = self._fs.ls(self._path(folder), detail=False, refresh=True)
                    found = [path.rstrip("/").rpartition("/")[2] for path in paths]
            except FileNotFoundError:
                return []
        return sorted(
            f"{folder}/{name}" if folder else name
            for name in found
            if name and not name.startswith(TEMPORARY_PREFIX)
        )

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Bytes of every object in and below `folder`, by name, sorted; temporaries left out. Empty
        if there is no such folder. One paged listing of a bucket; one walk of a disk.
        """
        where = f"{self.url}/{folder}".rstrip("/")
        with _errors(where):
            if self._local is not None:
                found = dict(_walk(self._local / folder, folder))
            else:
                try:
                    details = self._fs.find(self._path(folder), detail=True, refresh=True)
                except FileNotFoundError:
                    details = {}
                cut = len(self._root.rstrip("/")) + 1
                found = {path[cut:]: int(info["size"]) for path, info in details.items()}
        return dict(sorted(found.items()))

    def sweep(self, folder: str) -> None:
        """Remove what interrupted writers left in `folder`; only its one writer may call this."""
        if self._local is not None:
            with _errors(f"{self.url}/{folder}"):
                sweep_temporaries(self._local / folder)

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}".rstrip("/")


StoreLike: TypeAlias = str | Path | Store  # what `Store.at` takes: a path, a URL, a store


class Draft:
    """A file that has no name yet. Write to `file`, then `commit` it."""

    def __init__(self, store: Store, folder: str, path: Path, file: BinaryIO) -> None:
        self._store, self._folder, self._path, self.file = store, folder, path, file

    def commit(self, name: str) -> str:
        """Make it durable and give it its name (within its folder); gives the object's full
        name."""
        self.file.flush()
        if self._store.local is not None:
            os.fsync(self.file.fileno())
        self.file.close()
        full = f"{self._folder}/{name}".lstrip("/")  # the folder "" is the store itself
        self._store._commit(self._path, full)
        return full


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, int]]:
    if not folder.is_dir():
        return
    for entry in os.scandir(folder):
        name = f"{prefix}/{entry.name}" if prefix else entry.name
        if entry.name.startswith(TEMPORARY_PREFIX):
            continue
        if entry.is_dir():
            yield from _walk(Path(entry.path), name)
        else:
            yield name, entry.stat().st_size


@contextlib.contextmanager
def _errors(path: str, *answers: type[OSError]) -> Iterator[None]:
    """As `panoforge.core.storage.atomic.storage_errors`, for buckets too; exceptions of the types
    `answers` are the caller's and pass.
    """
    answer: OSError | None = None
    with storage_errors(path):
        try:
            yield
        except answers as error:
            answer = error
        except (OSError, StorageError):
            raise
        except ImportError as error:
            raise StorageError(
                f"{path}: this kind of URL needs a package that is not installed: {error}"
            ) from error
        except Exception as error:
            if type(error).__module__.partition(".")[0] not in _NETWORK_PACKAGES:
                raise
            raise StorageError(
                f"{path}: cannot be reached: {error}. Check the address (AWS_ENDPOINT_URL), the"
                " network and your credentials"
            ) from error
    if answer:
        raise answer


def _link_new(path: Path, data: bytes) -> bool:
    """A whole file under a new name: a hard link fails if the name is taken, where a rename would
    replace.
    """
    temporary = temporary_beside(path)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
            fsync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    return True
