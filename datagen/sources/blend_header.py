"""Which Blender saved a file, read from its first bytes. Imports no bpy."""

import gzip
import re
from pathlib import Path

import zstandard

HEADER_BYTES = 17
_OLD_HEADER = re.compile(rb"BLENDER[-_][vV](\d)(\d\d)")  # up to 4.x: BLENDER-v402
_NEW_HEADER = re.compile(rb"BLENDER\d\d-\d\d[vV](\d\d)(\d\d)")  # from 5.0 on: BLENDER17-01v0500


def saved_by(path: Path) -> tuple[int, int] | None:
    """(major, minor) of the Blender that saved the file, plain or compressed.

    None if it is no .blend.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4)
            file.seek(0)
            if start[:2] == b"\x1f\x8b":
                header = gzip.GzipFile(fileobj=file).read(HEADER_BYTES)
            elif start == b"\x28\xb5\x2f\xfd":
                header = zstandard.ZstdDecompressor().stream_reader(file).read(HEADER_BYTES)
            else:
                header = file.read(HEADER_BYTES)
    except (OSError, EOFError, zstandard.ZstdError):
        return None
    found = _OLD_HEADER.match(header) or _NEW_HEADER.match(header)
    return (int(found[1]), int(found[2])) if found else None
