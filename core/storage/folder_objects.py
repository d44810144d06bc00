"""A store's objects as files of a local folder, which no name and no link leads out of.

Each appears whole or not at all (`panoforge.core.storage.atomic`). What is not a regular file (a
pipe, a device, a folder) is refused before it is opened: opening a pipe waits for ever.
"""

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from panoforge.core.errors import DataError, StorageError
from panoforge.core.names import check_name, is_litter
from panoforge.core.storage.atomic import (
    fsync_folder,
    sweep_temporaries,
    temporary_beside,
    write_all_atomic,
    write_bytes_atomic,
    write_new_atomic,
)

MAX_WHOLE_BYTES = 2 << 30  # of a record or an index; a sparse file of any size costs nothing


class FolderObjects:
    """Files below `root`, which messages call `url`. What each method is for says `Store`."""

    def __init__(self, root: Path, url: str) -> None:
        self.root, self._url = root, url

    def put(self, name: str, data: bytes) -> None:
        """Write a file, replacing one of that name."""
        write_bytes_atomic(self._place(name), data)

    def put_all(self, files: Mapping[str, bytes]) -> None:
        """Write many files."""
        for name in {name.rpartition("/")[0]: name for name in files}.values():
            self._place(name)  # the folder lies below the root: once for all files in it
        for name in files:
            check_name(name, f"a file below {self._url}")
        write_all_atomic({self.root / name: data for name, data in files.items()})

    def put_new(self, name: str, data: bytes) -> bool:
        """Write a file unless there is one of that name; says whether it did."""
        return write_new_atomic(self._place(name), data)

    def get(self, name: str) -> bytes:
        """A file's bytes. FileNotFoundError if there is none."""
        path = self._regular(name)
        if (size := path.stat().st_size) > MAX_WHOLE_BYTES:
            raise DataError(
                f"{path}: {size} bytes, more than {MAX_WHOLE_BYTES} are never read at once: it is"
                " not one that panoforge wrote"
            )
        return path.read_bytes()

    def delete(self, name: str) -> None:
        """Remove a file. FileNotFoundError if there is none."""
        self._place(name).unlink()

    def move(self, name: str, to: str) -> None:
        """Give what is called `name` another name, which must be free."""
        old, new = self._place(name), self._place(to)
        new.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(new):
            raise StorageError(f"{new} is there already: move it away first")
        os.rename(old, new)
        fsync_folder(new.parent)
        fsync_folder(old.parent)

    def size(self, name: str) -> int:
        """Bytes of a file. FileNotFoundError if there is none."""
        return self._regular(name).stat().st_size

    def read(self, name: str, start: int, stop: int | None) -> bytes:
        """Bytes [start, stop) of a file."""
        with open(self._regular(name), "rb") as file:
            file.seek(start)
            return file.read() if stop is None else file.read(stop - start)

    def open(self, name: str) -> BinaryIO:
        """A file, to be read."""
        return open(self._regular(name), "rb")

    @contextlib.contextmanager
    def draft(self, folder: str) -> Iterator[BinaryIO]:
        """A temporary file in `folder`, gone at the end unless it was committed."""
        temporary = temporary_beside(self._place(f"{folder}/draft".lstrip("/")))
        temporary.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "xb") as file:
                yield file
        finally:
            temporary.unlink(missing_ok=True)

    def commit(self, draft: BinaryIO, name: str) -> None:
        """Make a draft durable and give it its name."""
        draft.flush()
        os.fsync(draft.fileno())
        draft.close()
        place = self._place(name)
        os.replace(draft.name, place)
        fsync_folder(place.parent)

    def names(self, folder: str) -> list[str]:
        """What is in `folder`, its folders too. FileNotFoundError if there is no such folder."""
        return [entry.name for entry in os.scandir(self._target(folder))]

    def sizes(self, folder: str) -> dict[str, int]:
        """Bytes of every regular file in and below `folder`, by name."""
        return dict(_walk(self._target(folder), folder))

    def links_out(self) -> list[str]:
        """Names of the symbolic links below the root that lead out of it, sorted."""
        root, found = os.path.realpath(self.root), []
        for folder, folders, files in os.walk(root):
            for name in (*folders, *files):
                path = os.path.join(folder, name)
                if os.path.islink(path) and not _is_below(os.path.realpath(path), root):
                    found.append(os.path.relpath(path, root))
        return sorted(found)

    def sweep(self, folder: str) -> None:
        """Remove what interrupted writers left in `folder`."""
        sweep_temporaries(self._target(folder))

    def _place(self, name: str) -> Path:
        """Where a file is to be made, replaced or removed: its folder lies below the root."""
        check_name(name, f"a file below {self._url}")
        path = self.root / name
        self._stay_inside(path.parent, name)
        return path

    def _target(self, name: str) -> Path:
        """What a name leads to, links followed; it lies below the root."""
        if name:
            check_name(name, f"a file below {self._url}")
        path = self.root / name
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
        root, real = os.path.realpath(str(self.root)), os.path.realpath(path)
        if not _is_below(real, root):
            raise DataError(
                f"{self._url}/{name} is refused: a symbolic link leads out of {self._url}, to"
                f" {real}. Data in a folder must lie in it: replace the link by what it stands for"
            )


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
