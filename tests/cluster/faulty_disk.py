"""A disk whose N-th change fails: every way in which a writer can be interrupted, one after the other.

`FaultyDisk(n, "error")` lets the n-th call that changes the disk fail with ENOSPC (a write after half its bytes) and all
others work, as on a disk that is full for a moment. `FaultyDisk(n, "kill")` fails it and everything after it with a
BaseException, so that no clean-up is done either: what SIGKILL and a power cut leave. Only this process is affected.
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
    """Use as a context manager. `calls` counts; it is below `n` when nothing had to fail any more."""

    def __init__(self, n: int, how: Literal["error", "kill"]) -> None:
        self._n, self._how, self.calls = n, how, 0
        self._patch = pytest.MonkeyPatch()

    def __enter__(self) -> "FaultyDisk":
        for name in CALLS:
            self._patch.setattr(os, name, self._counted(getattr(os, name)))
        for module in (builtins, io):
            self._patch.setattr(module, "open", self._opener(io.open))
        return self

    def __exit__(self, *_: object) -> None:
        self._patch.undo()

    def hit(self) -> bool:
        """Count a call; whether it is to fail."""
        self.calls += 1
        return self.calls == self._n or (self._how == "kill" and self.calls > self._n)

    def fail(self) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) if self._how == "error" else Killed

    def _counted(self, original: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            if self.hit():
                self.fail()
            return original(*arguments, **named)
        return call

    def _opener(self, original: Any) -> Any:
        def open_file(path: Any, mode: str = "r", *arguments: Any, **named: Any) -> Any:
            file = original(path, mode, *arguments, **named)
            return _Written(file, self) if set(mode) & set("wax+") else file
        return open_file


class _Written:
    """A file whose writes count."""

    def __init__(self, file: Any, disk: FaultyDisk) -> None:
        self._file, self._disk = file, disk

    def write(self, data: Any) -> int:
        if self._disk.hit():
            self._file.write(data[:len(data) // 2])
            self._file.flush()
            self._disk.fail()
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> "_Written":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
