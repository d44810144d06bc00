"""stdout and stderr that never stop a command: any character, a reader that went away, a full disk.

Work that is done must not crash on the words about it. What cannot be written is dropped; `failure`
says so to `main`, and to loops that write for ever.
"""

import errno
import io
import os
import sys
from typing import Any


class _Outlet(io.RawIOBase):
    """A file descriptor that takes everything, and remembers the first thing that went wrong."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.failure: OSError | None = None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: Any, /) -> int:
        if self.failure is None:
            try:
                return os.write(self._descriptor, data)
            except OSError as error:
                self.failure = error
        return len(data)


_outlets: dict[str, _Outlet] = {}


def open_streams() -> None:
    """Put such streams in the place of this process's own; those of a test stay."""
    while (free := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass  # a descriptor that was closed: nothing that is opened later may take its number
    os.close(free)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        own, now = getattr(sys, f"__{name}__"), getattr(sys, name)
        if now is not own or name in _outlets:
            continue
        _outlets[name] = outlet = _Outlet(descriptor)
        stream = io.TextIOWrapper(
            io.BufferedWriter(outlet),
            encoding=own.encoding if own is not None else "utf-8",
            errors="backslashreplace",
            line_buffering=name == "stderr" or outlet.isatty(),
        )
        setattr(sys, name, stream)


def failure(name: str = "stdout") -> OSError | None:
    """Why a stream takes nothing any more; None while it does."""
    return _outlets[name].failure if name in _outlets else None


def last_words() -> str:
    """What to say about stdout at the end; empty where all was written, or nobody read on."""
    sys.stdout.flush()
    found = failure()
    if found is None or found.errno == errno.EPIPE:
        return ""
    return f"stdout cannot be written: {found.strerror}. What was to be printed is lost"
