"""A store's objects in a bucket, or behind any other fsspec URL.

Nothing appends and nothing is renamed in place, and listings are never taken from a cache.
"""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from fsspec.spec import AbstractFileSystem

from panoforge.core.names import check_name


class BucketObjects:
    """Objects below `root` of an fsspec file system; messages call it `url`.

    What each method is for says `Store`.
    """

    def __init__(self, fs: AbstractFileSystem, root: str, url: str) -> None:
        self._fs, self._root, self._url = fs, root.rstrip("/"), url

    def put(self, name: str, data: bytes) -> None:
        """Write an object, replacing one of that name."""
        self._fs.pipe_file(self._path(name), data)

    def put_all(self, files: Mapping[str, bytes]) -> None:
        """Write many objects at once."""
        self._fs.pipe({self._path(name): data for name, data in files.items()})

    def put_new(self, name: str, data: bytes) -> bool:
        """Write an object unless there is one of that name; says whether it did."""
        try:
            self._fs.pipe_file(self._path(name), data, mode="create")
        except FileExistsError:
            return False
        return True

    def get(self, name: str) -> bytes:
        """An object's bytes. FileNotFoundError if there is none."""
        return self._fs.cat_file(self._path(name))

    def delete(self, name: str) -> None:
        """Remove an object. FileNotFoundError if there is none."""
        self._fs.rm_file(self._path(name))

    def move(self, name: str, to: str) -> None:
        """Give what is called `name` another name."""
        self._fs.mv(self._path(name), self._path(to))

    def size(self, name: str) -> int:
        """Bytes of an object. FileNotFoundError if there is none."""
        return int(self._fs.size(self._path(name)))

    def read(self, name: str, start: int, stop: int | None) -> bytes:
        """Bytes [start, stop) of an object."""
        if stop is not None and stop <= start:
            return b""
        try:
            return self._fs.cat_file(self._path(name), start=start or None, end=stop)
        except OSError as error:
            if start and "range" in str(error).lower():
                return b""  # past the end: a file gives nothing there, a bucket an error
            raise

    def open(self, name: str) -> BinaryIO:
        """An object as a file, to be read."""
        return self._fs.open(self._path(name), "rb", block_size=8 << 20)

    @contextlib.contextmanager
    def draft(self, folder: str) -> Iterator[BinaryIO]:
        """A temporary file on this machine, gone at the end."""
        with (
            tempfile.TemporaryDirectory(prefix="panoforge-") as scratch,
            open(Path(scratch) / "draft", "xb") as file,
        ):
            yield file

    def commit(self, draft: BinaryIO, name: str) -> None:
        """Send a draft: a multipart upload appears when its last part is there."""
        draft.close()
        self._fs.put_file(draft.name, self._path(name))

    def names(self, folder: str) -> list[str]:
        """What is in `folder`. FileNotFoundError if there is no such folder."""
        paths = self._fs.ls(self._path(folder), detail=False, refresh=True)
        return [path.rstrip("/").rpartition("/")[2] for path in paths]

    def sizes(self, folder: str) -> dict[str, int]:
        """Bytes of every object in and below `folder`, by name."""
        try:
            details = self._fs.find(self._path(folder), detail=True, refresh=True)
        except FileNotFoundError:
            return {}
        cut = len(self._root) + 1
        return {path[cut:]: int(info["size"]) for path, info in details.items()}

    def links_out(self) -> list[str]:
        """None: a bucket has no links."""
        return []

    def sweep(self, folder: str) -> None:
        """Nothing: what was not sent to its end never appeared."""

    def _path(self, name: str) -> str:
        if name:
            check_name(name, f"an object below {self._url}")
        return f"{self._root}/{name}".rstrip("/")
