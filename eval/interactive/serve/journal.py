"""A journal on disk: lines that are only ever added, each whole and on the disk before it counts.

A line is `CRC32 JSON`. `Journal.append` writes it and waits for the disk (fsync). What a crash cut
off in the last line was never acknowledged: it is dropped at the next start, and said. A whole line
that is damaged is another matter: the journal is refused as it is, and nothing is changed.
When the disk is full the file is cut back to its last whole line, and what is on it stays.
"""

import contextlib
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

from panoforge.core.errors import DataError, StorageError
from panoforge.core.storage.atomic import fsync_folder, storage_errors

MAX_JOURNAL_BYTES = 1 << 30
_SUM_CHARS = 8


@dataclass
class Journal:
    """`length` is how many bytes of the file are whole lines; `torn` how many were cut off."""

    path: Path
    length: int = 0
    torn: int = 0

    @classmethod
    def open(cls, path: Path, *, mend: bool = True) -> tuple["Journal", list[bytes]]:
        """The journal and the content of its lines; an absent one is empty.

        `mend` removes what a crash left of a last line.

        Raises:
            DataError: a whole line is damaged.
            StorageError: it cannot be read, or what was cut off cannot be removed.
        """
        with storage_errors(path):
            if not path.exists():
                return cls(path), []
            if path.stat().st_size > MAX_JOURNAL_BYTES:
                raise DataError(f"{path} is over the cap of {MAX_JOURNAL_BYTES >> 20} MiB")
            data = path.read_bytes()
        lines = data.split(b"\n")
        found: list[bytes] = []
        length = 0
        for number, line in enumerate(lines, start=1):
            content = _checked_content(line)
            ended = number < len(lines)
            if content is None or not ended:
                if ended:
                    raise DataError(
                        f"{path}: line {number} of {len(lines) - 1} is damaged, {len(found)} before"
                        " it are whole. Nothing was changed: bring the file back from a copy, or"
                        " cut it before that line"
                    )
                break
            found.append(content)
            length += len(line) + 1
        journal = cls(path, length, len(data) - length)
        if journal.torn and mend:
            with storage_errors(path):
                journal._cut_back()
        return journal, found

    def append(self, content: bytes) -> None:
        """Add a line; when this returns it is on the disk.

        Raises:
            StorageError: it could not be written, or the journal would be larger than is read; it
                is as it was.
        """
        line = b"%08x %s\n" % (zlib.crc32(content), content)
        if self.length + len(line) > MAX_JOURNAL_BYTES:
            raise StorageError(
                f"{self.path} has reached {MAX_JOURNAL_BYTES >> 20} MiB, the most that is read:"
                " save what is there, and import it in a new work folder"
            )
        with storage_errors(self.path):
            new = not self.path.exists()
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o644)
            try:
                os.lseek(descriptor, self.length, os.SEEK_SET)
                _write_all(descriptor, line)
                os.fsync(descriptor)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, self.length)
                raise
            finally:
                os.close(descriptor)
            if new:
                fsync_folder(self.path.parent)
        self.length += len(line)

    def _cut_back(self) -> None:
        descriptor = os.open(self.path, os.O_WRONLY)
        try:
            os.ftruncate(descriptor, self.length)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    """All of `data`, in as many writes as the system needs."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _checked_content(line: bytes) -> bytes | None:
    """What a line says; None if it is damaged."""
    sum_, _, content = line.partition(b" ")
    whole = len(sum_) == _SUM_CHARS and sum_ == b"%08x" % zlib.crc32(content)
    return content if whole else None
