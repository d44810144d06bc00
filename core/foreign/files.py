"""Bytes and JSON of foreign files: kind and size are asked first, every fault names its file."""

import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from panoforge.core.errors import DataError
from panoforge.core.storage.atomic import storage_errors

MAX_FILE_BYTES = 256 << 20
MAX_NAME_CHARS = 1024


def refuse_special(path: Path) -> None:
    """DataError for a pipe, a device or a socket: opening one may wait for ever."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise DataError(f"{path} is no file: expected a regular file, not a pipe or a device")


def own_path(path: Path, root: Path) -> Path:
    """`path` as a part of the folder `root`, whether it exists or not.

    Raises:
        DataError: it is a link that leads out of the folder, or a pipe or a device: whoever made
            the folder may have put it there.
    """
    try:
        real = path.resolve()
    except (OSError, RuntimeError) as error:  # links in a circle
        raise DataError(
            f"{path} is a link that leads nowhere ({error}): put the file itself in its place"
        ) from None
    if not real.is_relative_to(root.resolve()):
        raise DataError(
            f"{path} is a link that leads out of {root}, to {real}: nothing is read or written"
            " there. Put what it leads to in its place, or name that folder itself"
        )
    refuse_special(path)
    return path


def read_bytes(path: Path, limit: int = MAX_FILE_BYTES) -> bytes:
    """The bytes of a regular file of at most `limit` bytes.

    Raises:
        DataError: there is no such file, it is something else (a folder, a pipe), or too large.
    """
    try:
        there = path.exists()
    except (OSError, ValueError) as error:  # a name too long, or with a NUL
        raise DataError(f"{str(path)[:200]!r} is no file name ({error})") from None
    if not there:
        raise DataError(f"{path} does not exist: expected a file, look for a slip in its path")
    if not path.is_file():
        raise DataError(f"{path} is no file: expected a regular file, not a folder or a pipe")
    with storage_errors(path):
        if path.stat().st_size > limit:
            raise DataError(
                f"{path} is over the cap of {limit >> 20} MiB: it is damaged, or not of this"
                " dataset: get it again, or take it out"
            )
        return path.read_bytes()


def read_json(path: Path, limit: int = MAX_FILE_BYTES) -> Any:
    """A JSON file's content, with or without a byte order mark."""
    try:
        return json.loads(read_bytes(path, limit).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({error}): download it again") from None


def inside(root: Path, name: str) -> Path:
    """root/name, for a name that a file gives; a Windows path's backslashes are slashes.

    Raises:
        DataError: the name is empty or leads out of the folder.
    """
    relative = PurePosixPath(name.replace("\\", "/"))
    if (
        not relative.name
        or relative.is_absolute()
        or ".." in relative.parts
        or "\x00" in name
        or len(name) > MAX_NAME_CHARS
        or not _encodable(name)
    ):
        raise DataError(
            f"file_name {name[:100]!r} leads out of {root}, or is no file name: an annotation file"
            " names images below its own folder only"
        )
    return root / relative


def _encodable(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def some(names: Sequence[str]) -> str:
    """A few names for a message: what was found in a folder."""
    return ", ".join(sorted(names)[:5]) + (" …" if len(names) > 5 else "") if names else "nothing"


def found_in(folder: Path) -> str:
    """What a folder holds, for a message."""
    return some([p.name for p in folder.iterdir()]) if folder.is_dir() else "no such folder"
