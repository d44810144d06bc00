"""Durable writes: temporary name, fsync, rename, fsync of the folder.

The only place where panoforge commits a file.

A reader never sees half a file: what has its final name is whole and on the disk, and what does not
is swept away by the next run. Errors of the operating system come out as `StorageError` with what
to do.
"""

import contextlib
import ctypes
import errno
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from panoforge.core.errors import StorageError

TEMPORARY_PREFIX = ".tmp-"
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)  # e.g. exFAT
_SYNCFS = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)  # Linux only


@contextlib.contextmanager
def storage_errors(path: Path | str) -> Iterator[None]:
    """Turn an OSError about `path` into a StorageError that says what to do."""
    advice = {
        errno.ENOSPC: (
            "the disk is full: free some space or choose another folder; nothing half-written was"
            " left behind"
        ),
        errno.EDQUOT: "the disk quota is used up: free some space or choose another folder",
        errno.EACCES: "no permission: choose a folder that you may write to, or change its owner",
        errno.EPERM: "not permitted: choose a folder that you may write to",
        errno.EROFS: "the file system is read-only: choose another folder",
        errno.ENOENT: "it does not exist",
        errno.EEXIST: "a part of this path is a file, not a folder",
        errno.ENOTDIR: "a part of this path is a file, not a folder",
    }
    try:
        yield
    except OSError as error:
        if isinstance(
            error,
            (BlockingIOError, ChildProcessError, ConnectionError, InterruptedError, TimeoutError),
        ):
            raise
        code = error.errno or {FileNotFoundError: errno.ENOENT, PermissionError: errno.EACCES}.get(
            type(error), 0
        )  # buckets
        raise StorageError(f"{path}: {advice.get(code, error.strerror or str(error))}") from error


def fsync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush(folders: Iterable[Path]) -> None:
    """Make all that was written to the file systems of `folders` durable.

    Linux' syncfs says what could not be written; Python has none, and its `os.sync` would not tell.
    """
    disks = dict[int, Path]()
    for folder in folders:
        with storage_errors(folder):
            disks.setdefault(os.stat(folder).st_dev, folder)
    for folder in disks.values():
        with storage_errors(folder):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                if _SYNCFS is None:
                    os.sync()
                elif _SYNCFS(descriptor):
                    code = ctypes.get_errno()
                    raise OSError(code, os.strerror(code))
            finally:
                os.close(descriptor)


def temporary_beside(path: Path) -> Path:
    """A fresh temporary name in the same folder as `path`, so that a rename onto it is atomic."""
    return path.with_name(f"{TEMPORARY_PREFIX}{path.name}-{os.getpid()}-{uuid.uuid4().hex[:8]}")


def write_atomic(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a temporary file, then commit it as `path`.

    On any error the temporary file is removed and whatever stood at `path` before still stands.
    """
    temporary = temporary_beside(path)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "xb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            fsync_folder(path.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_bytes_atomic(path: Path, data: bytes) -> None:
    """Commit `data` as `path`."""
    write_atomic(path, lambda file: file.write(data))


def write_new_atomic(path: Path, data: bytes) -> bool:
    """Commit `data` as `path` unless there is something of that name; says whether it did.

    Of two writers exactly one succeeds: a hard link fails if the name is taken, where a rename
    would replace. Where the file system holds no links, the file is made under its own name.
    """
    temporary = temporary_beside(path)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            _write_whole(temporary, data)
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                return _write_alone(path, data)
            fsync_folder(path.parent)
        except FileNotFoundError:  # another writer swept our temporary, or the folder when it left
            return write_new_atomic(path, data)
        finally:
            temporary.unlink(missing_ok=True)
    return True


def _write_alone(path: Path, data: bytes) -> bool:
    try:
        _write_whole(path, data)
    except FileExistsError:
        return False
    fsync_folder(path.parent)
    return True


def _write_whole(path: Path, data: bytes) -> None:
    """A new file, on the disk."""
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_all_atomic(files: Mapping[Path, bytes]) -> None:
    """Commit many files, each of which appears whole or not at all; all are durable at the end.

    The file system is flushed as a whole, twice: an fsync for each file waits for the disk as many
    times as there are files.
    """
    drafts: dict[Path, Path] = {}
    token = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
    folders = dict.fromkeys(path.parent for path in files)
    try:
        for folder in folders:
            with storage_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
        for path, data in files.items():
            with storage_errors(path):
                drafts[path] = path.with_name(f"{TEMPORARY_PREFIX}{len(drafts)}-{token}")
                with open(drafts[path], "xb") as file:
                    file.write(data)
        _flush(folders)
        for path, draft in drafts.items():
            with storage_errors(path):
                os.replace(draft, path)
        _flush(folders)
    except BaseException:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)
        raise


def write_folder_atomic(path: Path, members: dict[str, bytes]) -> None:
    """Commit a folder of small files as `path` in one rename.

    An existing folder of that name is replaced.
    """
    temporary = temporary_beside(path)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.mkdir()
            for name, data in members.items():
                with open(temporary / name, "xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
            fsync_folder(temporary)
            if path.exists():  # a rename cannot replace a folder that is not empty
                shutil.rmtree(path)
            os.rename(temporary, path)
            fsync_folder(path.parent)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def sweep_temporaries(folder: Path) -> int:
    """Remove what interrupted writers left in `folder` (not below it).

    Call only when no writer is at work there.
    """
    count = 0
    for entry in folder.glob(TEMPORARY_PREFIX + "*") if folder.is_dir() else ():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink(missing_ok=True)
        count += 1
    return count
