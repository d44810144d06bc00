"""A disk whose N-th change fails: every way in which a writer can be interrupted, one after the
other.

`FaultyDisk(n, "error")` lets the n-th call that changes the disk fail with ENOSPC, a write after
half its bytes. All others work, as on a disk that is full for a moment. `FaultyDisk(n, "kill")`
fails it and everything after it with a BaseException. So no clean-up is done either: what SIGKILL
leaves. `FaultyDisk(n, "power cut")` moreover empties every file that was not synced until then,
under whatever name it has got. A file system that writes names before data may leave that. Only
this process is affected.
"""

import builtins
import errno
import io
import os
from typing import Any, Literal

import pytest

CALLS = ("fsync", "rename", "replace", "link", "mkdir", "unlink", "rmdir")


class Killed(BaseException):
    """Nothing may catch it."""


class FaultyDisk:
    """Use as a context manager. `calls` counts; it is below `n` when nothing had to fail any
    more."""

    def __init__(self, n: int, how: Literal["error", "kill", "power cut"]) -> None:
        self._n, self._how, self.calls = n, how, 0
        self._patch = pytest.MonkeyPatch()
        self._not_synced: dict[int, int] = {}  # inode → a descriptor of it

    def __enter__(self) -> "FaultyDisk":
        for name in CALLS:
            self._patch.setattr(
                os, name, self._counted(self._synced if name == "fsync" else getattr(os, name))
            )
        for module in (builtins, io):
            self._patch.setattr(module, "open", self._opener(io.open))
        return self

    def __exit__(self, *_: object) -> None:
        self._patch.undo()
        self._forget_files()

    def hit(self) -> bool:
        """Count a call; whether it is to fail."""
        self.calls += 1
        return self.calls == self._n or (self._how != "error" and self.calls > self._n)

    def fail(self) -> None:
        if self._how == "error":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self._how == "power cut":
            self._forget_files(empty=True)
        raise Killed

    def _synced(self, descriptor: int, fsync: Any = os.fsync) -> None:
        fsync(descriptor)
        if (copy := self._not_synced.pop(os.fstat(descriptor).st_ino, None)) is not None:
            os.close(copy)

    def _forget_files(self, *, empty: bool = False) -> None:
        for copy in self._not_synced.values():
            if empty:
                os.ftruncate(copy, 0)
            os.close(copy)
        self._not_synced.clear()

    def _counted(self, original: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            if self.hit():
                self.fail()
            return original(*arguments, **named)

        return call

    def _opener(self, original: Any) -> Any:
        def open_file(path: Any, mode: str = "r", *arguments: Any, **named: Any) -> Any:
            file = original(path, mode, *arguments, **named)
            if not set(mode) & set("wax+"):
                return file
            inode = os.fstat(file.fileno()).st_ino
            if inode not in self._not_synced:
                self._not_synced[inode] = os.dup(file.fileno())
            return _Written(file, self)

        return open_file


class _Written:
    """A file whose writes count."""

    def __init__(self, file: Any, disk: FaultyDisk) -> None:
        self._file, self._disk = file, disk

    def write(self, data: Any) -> int:
        if self._disk.hit():
            self._file.write(data[: len(data) // 2])
            self._file.flush()
            self._disk.fail()
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> "_Written":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
