"""Small immutable objects under one fsspec URL: what the ledger and the lease stand on.

A folder on disk or a bucket, the same five operations: `put`, `put_new` (only if nobody has), `get`, `names`, `delete`. An
object appears whole or not at all: buckets give that, and on a local disk `pano.storage` does (temporary, fsync, rename).
Nothing appends and nothing is renamed, because buckets can do neither.
"""

import contextlib
import os
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from pano.storage import TEMPORARY_PREFIX, fsync_folder, storage_errors, temporary_beside, write_bytes_atomic


class Store:
    """Objects below `url`, named by relative paths such as `attempts/00000007-001.json`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._fs, self._root = fsspec.core.url_to_fs(url)
        self._local = Path(self._root) if isinstance(self._fs, LocalFileSystem) else None

    def put(self, name: str, data: bytes) -> None:
        """Write an object, replacing one of that name."""
        if self._local is not None:
            write_bytes_atomic(self._local / name, data)
            return
        with storage_errors(f"{self.url}/{name}"):
            self._fs.pipe_file(self._path(name), data)

    def put_new(self, name: str, data: bytes) -> bool:
        """Write an object unless there is one of that name; says whether it did. Of two writers exactly one succeeds."""
        if self._local is not None:
            return _link_new(self._local / name, data)
        try:
            self._fs.pipe_file(self._path(name), data, mode="create")
        except FileExistsError:
            return False
        return True

    def get(self, name: str) -> bytes | None:
        """An object's bytes; None if there is none."""
        with contextlib.suppress(FileNotFoundError), storage_errors_but_missing(f"{self.url}/{name}"):
            return (self._local / name).read_bytes() if self._local is not None else self._fs.cat_file(self._path(name))
        return None

    def names(self, folder: str) -> list[str]:
        """Names of the objects in `folder` (not below it), sorted; one listing, whatever their number."""
        with storage_errors_but_missing(f"{self.url}/{folder}"):
            try:
                if self._local is not None:
                    found = [entry.name for entry in os.scandir(self._local / folder)]
                else:
                    paths = self._fs.ls(self._path(folder), detail=False, refresh=True)
                    found = [path.rstrip("/").rpartition("/")[2] for path in paths]
            except FileNotFoundError:
                return []
        return sorted(f"{folder}/{name}" for name in found if not name.startswith(TEMPORARY_PREFIX))

    def delete(self, name: str) -> None:
        """Remove an object; none is fine."""
        with contextlib.suppress(FileNotFoundError), storage_errors_but_missing(f"{self.url}/{name}"):
            if self._local is not None:
                (self._local / name).unlink()
            else:
                self._fs.rm_file(self._path(name))

    def sweep(self, folder: str) -> None:
        """Remove what interrupted writers left in `folder`; only its one writer may call this."""
        if self._local is not None and (self._local / folder).is_dir():
            for entry in os.scandir(self._local / folder):
                if entry.name.startswith(TEMPORARY_PREFIX):
                    Path(entry.path).unlink(missing_ok=True)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"


@contextlib.contextmanager
def storage_errors_but_missing(path: str):
    """As `pano.storage.storage_errors`, but let FileNotFoundError through: here it is an answer."""
    missing: FileNotFoundError | None = None
    with storage_errors(path):
        try:
            yield
        except FileNotFoundError as error:
            missing = error
    if missing:
        raise missing


def _link_new(path: Path, data: bytes) -> bool:
    """A whole file under a new name: a hard link fails if the name is taken, where a rename would replace."""
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
