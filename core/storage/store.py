"""Objects under one fsspec URL, a local folder or a bucket: what datasets, staged panoramas, the
ledger and the lease stand on.

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
not a regular file (a pipe, a device, a folder) is refused before it is opened: opening a pipe waits
for ever. Hidden files and what desktops leave behind do not show in listings.
"""

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Self, TypeAlias

import fsspec
from fsspec.implementations.local import LocalFileSystem

from panoforge.core.errors import DataError, StorageError, UsageError, nearest
from panoforge.core.names import check_name, is_litter
from panoforge.core.storage.atomic import (
    fsync_folder,
    storage_errors,
    sweep_temporaries,
    temporary_beside,
    write_all_atomic,
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
        check_name(name, f"a folder below {self.url}")
        return Store(f"{self.url}/{name}")

    # ---- whole objects

    def put(self, name: str, data: bytes) -> None:
        """Write an object, replacing one of that name."""
        if self._local is not None:
            write_bytes_atomic(self._place(name), data)
            return
        with _errors(f"{self.url}/{name}"):
            self._fs.pipe_file(self._path(name), data)

    def put_all(self, files: Mapping[str, bytes]) -> None:
        """Write many objects, each whole or not at all: faster than one `put` after the other."""
        if self._local is not None:
            for name in {name.rpartition("/")[0]: name for name in files}.values():
                self._place(name)  # the folder lies below the root: once for all files in it
            for name in files:
                check_name(name, f"a file below {self.url}")
            write_all_atomic({self._local / name: data for name, data in files.items()})
            return
        with _errors(self.url):
            self._fs.pipe({self._path(name): data for name, data in files.items()})

    def put_new(self, name: str, data: bytes) -> bool:
        """Write an object unless there is one of that name; says whether it did. Of two writers
        exactly one succeeds.
        """
        if self._local is not None:
            return _link_new(self._place(name), data)
        try:
            with _errors(f"{self.url}/{name}", FileExistsError):
                self._fs.pipe_file(self._path(name), data, mode="create")
        except FileExistsError:
            return False
        return True

    def get(self, name: str, max_bytes: int | None = None) -> bytes | None:
        """An object's bytes; None if there is none. DataError if it has more than `max_bytes`."""
        if max_bytes is not None:
            size = self.get_size(name)
            if size is not None and size > max_bytes:
                raise DataError(
                    f"{self.url}/{name}: {size} bytes is over the cap of {max_bytes} for such a"
                    " file: it is not one that panoforge wrote"
                )
        with (
            contextlib.suppress(FileNotFoundError),
            _errors(f"{self.url}/{name}", FileNotFoundError),
        ):
            if self._local is not None:
                return self._regular(name).read_bytes()
            return self._fs.cat_file(self._path(name))
        return None

    def delete(self, name: str) -> None:
        """Remove an object; none is fine."""
        with (
            contextlib.suppress(FileNotFoundError),
            _errors(f"{self.url}/{name}", FileNotFoundError),
        ):
            if self._local is not None:
                self._place(name).unlink()
            else:
                self._fs.rm_file(self._path(name))

    def move(self, name: str, to: str) -> None:
        """Give what is called `name`, whatever its kind, another name, which must be free."""
        with _errors(f"{self.url}/{name}"):
            if self._local is None:
                self._fs.mv(self._path(name), self._path(to))
                return
            old, new = self._place(name), self._place(to)
            new.parent.mkdir(parents=True, exist_ok=True)
            if os.path.lexists(new):
                raise StorageError(f"{new} is there already: move it away first")
            os.rename(old, new)
            fsync_folder(new.parent)
            fsync_folder(old.parent)

    # ---- parts of objects

    def size(self, name: str) -> int:
        """Bytes of an object. StorageError if there is none."""
        with _errors(f"{self.url}/{name}"):
            return self._size(name)

    def get_size(self, name: str) -> int | None:
        """Bytes of an object; None if there is none."""
        with (
            contextlib.suppress(FileNotFoundError),
            _errors(f"{self.url}/{name}", FileNotFoundError),
        ):
            return self._size(name)
        return None

    def _size(self, name: str) -> int:
        if self._local is not None:
            return self._regular(name).stat().st_size
        return int(self._fs.size(self._path(name)))

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """Bytes [start, stop) of an object (to its end where `stop` is None; fewer where it is
        shorter). StorageError if there is none.
        """
        with _errors(f"{self.url}/{name}"):
            if self._local is not None:
                with open(self._regular(name), "rb") as file:
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
        StorageError.
        """
        with _errors(f"{self.url}/{name}"):
            if self._local is not None:
                with open(self._regular(name), "rb") as file:
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
            temporary = temporary_beside(self._place(f"{folder}/draft".lstrip("/")))
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
                place = self._place(name)
                os.replace(draft, place)
                fsync_folder(place.parent)

    # ---- listings

    def names(self, folder: str) -> list[str]:
        """Names of the objects in `folder` (not below it), sorted; one listing, whatever their
        number.
        """
        with _errors(f"{self.url}/{folder}", FileNotFoundError):
            try:
                if self._local is not None:
                    found = [entry.name for entry in os.scandir(self._target(folder))]
                else:
                    paths = self._fs.ls(self._path(folder), detail=False, refresh=True)
                    found = [path.rstrip("/").rpartition("/")[2] for path in paths]
            except FileNotFoundError:
                return []
        return sorted(
            f"{folder}/{name}" if folder else name for name in found if name and not is_litter(name)
        )

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Bytes of every object in and below `folder`, by name, sorted; temporaries and what is no
        regular file left out. Empty if there is no such folder. One paged listing of a
        bucket; one walk of a disk.
        """
        where = f"{self.url}/{folder}".rstrip("/")
        with _errors(where):
            if self._local is not None:
                found = dict(_walk(self._target(folder), folder))
            else:
                try:
                    details = self._fs.find(self._path(folder), detail=True, refresh=True)
                except FileNotFoundError:
                    details = {}
                cut = len(self._root.rstrip("/")) + 1
                found = {path[cut:]: int(info["size"]) for path, info in details.items()}
        return dict(sorted(found.items()))

    def links_out(self) -> list[str]:
        """Names of the symbolic links below the root that lead out of it, sorted."""
        if self._local is None:
            return []
        root, found = os.path.realpath(self._local), []
        for folder, folders, files in os.walk(root):
            for name in (*folders, *files):
                path = os.path.join(folder, name)
                if os.path.islink(path) and not _is_below(os.path.realpath(path), root):
                    found.append(os.path.relpath(path, root))
        return sorted(found)

    def sweep(self, folder: str) -> None:
        """Remove what interrupted writers left in `folder`; only its one writer may call this."""
        if self._local is not None:
            with _errors(f"{self.url}/{folder}"):
                sweep_temporaries(self._target(folder))

    # ---- where names lie

    def _place(self, name: str) -> Path:
        """Where an object is to be made, replaced or removed: its folder lies below the root."""
        assert self._local is not None
        check_name(name, f"a file below {self.url}")
        path = self._local / name
        self._stay_inside(path.parent, name)
        return path

    def _target(self, name: str) -> Path:
        """What a name leads to, links followed; it lies below the root."""
        assert self._local is not None
        if name:
            check_name(name, f"a file below {self.url}")
        path = self._local / name
        self._stay_inside(path, name)
        return path

    def _regular(self, name: str) -> Path:
        """The regular file of that name. FileNotFoundError if there is none."""
        path = self._target(name)
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise DataError(f"{path}: expected a file, it is {_kind(mode)}: remove it")
        return path

    def _stay_inside(self, path: Path, name: str) -> None:
        root, real = os.path.realpath(str(self._local)), os.path.realpath(path)
        if not _is_below(real, root):
            raise DataError(
                f"{self.url}/{name} is refused: a symbolic link leads out of {self.url}, to {real}."
                " Data in a folder must lie in it: replace the link by what it stands for"
            )

    def _path(self, name: str) -> str:
        if name:
            check_name(name, f"an object below {self.url}")
        return f"{self._root.rstrip('/')}/{name}".rstrip("/")


StoreLike: TypeAlias = str | Path | Store  # what `Store.at` takes: a path, a URL, a store


class Draft:
    """A file that has no name yet. Write to `file`, then `commit` it."""

    def __init__(self, store: Store, folder: str, path: Path, file: BinaryIO) -> None:
        self._store, self._folder, self._path, self.file = store, folder, path, file

    def commit(self, name: str) -> str:
        """Make it durable and give it its name (within its folder); gives the object's full
        name.
        """
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
        if is_litter(entry.name):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), name)
        elif entry.is_file():
            yield name, entry.stat().st_size


def _is_below(real: str, root: str) -> bool:
    """Whether a path without links is `root` or lies below it."""
    return real == root or real.startswith(root.rstrip("/") + "/")


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFBLK: "a device",
        stat.S_IFCHR: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "something else")


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
            if _is_refused(error):
                raise _unreachable(path, error.__cause__) from error
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
            raise _unreachable(path, error) from error
    if answer:
        raise answer


def _is_refused(error: OSError) -> bool:
    """Whether "not found" only stands for a server that gave no answer: fsspec's HTTP says so.
    An answer has a status.
    """
    cause = error.__cause__
    from_http = type(cause).__module__.partition(".")[0] == "aiohttp"
    return isinstance(error, FileNotFoundError) and from_http and not hasattr(cause, "status")


def _unreachable(path: str, error: BaseException | None) -> StorageError:
    return StorageError(
        f"{path}: cannot be reached: {error}. Check the address (AWS_ENDPOINT_URL), the network and"
        " your credentials"
    )


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
        except FileNotFoundError:  # another writer swept our temporary, or the folder when it left
            return _link_new(path, data)
        finally:
            temporary.unlink(missing_ok=True)
    return True
