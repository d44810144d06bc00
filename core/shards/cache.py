"""A local cache of remote shards: a folder of whole shards with a size cap, for any number of
processes at once.

A shard lies under its content digest, so a cache serves any datasets, a new version of a dataset
never meets bytes of the old one, and a file that is there is right. It is downloaded to
`<digest>.part`, checked against the digest and the size of the manifest, and renamed; a lock on the
part makes everybody else who wants the shard wait for it instead of downloading it again. Room is
made before a byte is fetched, by removing the shards that were used longest ago; a part counts in
full from its beginning, so the folder never grows over the cap. What a killed process left is no
one's lock, and goes when room is made. Locks are `flock`: the folder must be on a local disk, not
on NFS.

A reader holds an open file, so that a shard which is removed meanwhile is still read to its end.
"""

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from panoforge.core.errors import DataError, UsageError
from panoforge.core.shards.layout import ShardEntry
from panoforge.core.storage.atomic import storage_errors
from panoforge.core.storage.store import Store

_CHUNK_BYTES = 8 << 20
_POLL_S = 0.05


class ShardCache:
    """Whole shards in `folder`, at most `max_bytes` of them."""

    def __init__(self, folder: Path | str, max_bytes: int) -> None:
        self.folder, self.max_bytes = Path(folder), max_bytes
        if max_bytes < 1:
            raise UsageError(
                f"a cache of {max_bytes} bytes holds nothing: give it the size of a few shards"
            )
        with storage_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)

    def open(self, entry: ShardEntry, dataset: Store) -> BinaryIO:
        """A shard of `dataset`, open for reading; fetched if it is not here. UsageError when it is
        larger than the cache, DataError when what the dataset holds is not the shard that its
        manifest describes.
        """
        if entry.bytes > self.max_bytes:
            raise UsageError(
                f"{entry.name} has {entry.bytes:,} bytes, the cache {self.folder} is capped at"
                f" {self.max_bytes:,}: a shard is cached whole. Raise the cap, pack smaller shards,"
                " or read without a cache (by byte range)"
            )
        with storage_errors(self.folder):
            return self._opened(entry) or self._fetched(entry, dataset)

    def drop(self, entry: ShardEntry) -> None:
        """Forget a shard, e.g. because the disk under the cache damaged it."""
        self._path(entry).unlink(missing_ok=True)

    def bytes(self) -> int:
        """What the folder holds, parts included, at one moment: nobody makes room meanwhile."""
        with storage_errors(self.folder), _locked(self.folder / ".lock"):
            return sum(status.st_size for _, status in self._files())

    def _path(self, entry: ShardEntry) -> Path:
        return self.folder / f"{entry.sha256}.tar"

    def _opened(self, entry: ShardEntry) -> BinaryIO | None:
        try:
            file = open(self._path(entry), "rb")  # noqa: SIM115
        except FileNotFoundError:
            return None
        os.utime(file.fileno())  # what `_make_room` goes by: access times are often not kept
        return file

    def _fetched(self, entry: ShardEntry, dataset: Store) -> BinaryIO:
        part = self.folder / f"{entry.sha256}.part"
        with _locked(part) as file:
            if found := self._opened(entry):  # somebody else was quicker
                part.unlink(missing_ok=True)
                return found
            try:
                self._make_room(file, part, entry.bytes)
                _download(file, entry, dataset)
                with _locked(
                    self.folder / ".lock"
                ):  # who counts the files must not miss it between its two names
                    os.replace(part, self._path(entry))
            except BaseException:
                part.unlink(missing_ok=True)
                raise
            fcntl.flock(
                file, fcntl.LOCK_UN
            )  # the reader's descriptor below would keep it, and shares the file's position
            file.seek(0)
            return open(os.dup(file.fileno()), "rb")

    def _make_room(self, file: BinaryIO, part: Path, needed: int) -> None:
        """Let the part grow to `needed` bytes once older shards have made way. Others' downloads
        are waited for: they need nothing of us, so they end.
        """
        while True:
            with _locked(self.folder / ".lock"):
                files = [(path, status) for path, status in self._files() if path != part]
                excess = sum(status.st_size for _, status in files) + needed - self.max_bytes
                for path, status in sorted(files, key=lambda found: found[1].st_mtime_ns):
                    if excess > 0 and _removed(path):
                        excess -= status.st_size
                if excess <= 0:
                    os.posix_fallocate(file.fileno(), 0, needed)
                    return
            time.sleep(_POLL_S)

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in self.folder.iterdir():
            if path.suffix in (".tar", ".part"):
                with contextlib.suppress(FileNotFoundError):
                    yield path, path.stat()


def _download(file: BinaryIO, entry: ShardEntry, dataset: Store) -> None:
    digest, size = hashlib.sha256(), 0
    with dataset.open(entry.name) as remote:
        while chunk := remote.read(_CHUNK_BYTES):
            size += len(chunk)
            if size > entry.bytes:
                break
            digest.update(chunk)
            file.write(chunk)
    file.flush()
    if size != entry.bytes or digest.hexdigest() != entry.sha256:
        what = (
            "more"
            if size > entry.bytes
            else f"{size} bytes"
            if size < entry.bytes
            else "another digest"
        )
        raise DataError(
            f"{entry.name}: fetched {what}, the manifest says {entry.bytes} bytes with digest"
            f" {entry.sha256[:12]}…: the shard is damaged or was replaced; `pano verify` says what"
            " is wrong with it"
        )
    os.fsync(file.fileno())


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    """`path`, made if need be, open and locked against other threads and processes."""
    while True:
        with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _same_file(path, file):  # and not one that its last holder renamed or removed
                yield file
                return


def _removed(path: Path) -> bool:
    """Remove a shard, or a part whose lock nobody holds. Removed under the lock: who waits for it
    sees that it is gone.
    """
    with contextlib.suppress(FileNotFoundError, BlockingIOError), open(path, "r+b") as file:
        if path.suffix == ".part":
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
        return True
    return False


def _same_file(path: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
