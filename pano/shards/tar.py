"""Canonical tar bytes: the one way in which a sample is laid out in a shard.

Headers are plain ustar with everything that could vary fixed (mtime 0, owner 0, mode 0644), so a sample's bytes are a
pure function of its members, and a reader can rebuild the header that must stand there and compare it bit for bit.
"""

import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

BLOCK = 512
TRAILER = bytes(2 * BLOCK)  # a tar ends with two zero blocks; no record padding, so that sizes are exact
MAX_MEMBER_BYTES = (1 << 33) - 1  # ustar's 11 octal digits


@dataclass(frozen=True)
class Member:
    """Where a member's data lies: `offset` from the start of its sample (or shard), `length` in bytes; and their CRC-32
    (zlib's; None where an older index has none), for who reads a member and not the whole sample."""

    suffix: str
    offset: int
    length: int
    crc32: int | None = None


def header(name: str, size: int) -> bytes:
    """The canonical 512-byte header of a member. ValueError when name or size do not fit plain ustar."""
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o644, 0
    block = info.tobuf(format=tarfile.USTAR_FORMAT, encoding="ascii", errors="strict")
    if len(block) != BLOCK or size > MAX_MEMBER_BYTES:
        raise ValueError(f"member {name} of {size} bytes does not fit a plain tar header")
    return block


def padded(size: int) -> int:
    """`size` rounded up to whole blocks."""
    return -(-size // BLOCK) * BLOCK


def sample_bytes(key: str, members: Mapping[str, bytes]) -> tuple[bytes, list[Member]]:
    """A sample's bytes in a shard (members in suffix order), and where each member's data lies in them."""
    parts: list[bytes] = []
    places: list[Member] = []
    offset = 0
    for suffix in sorted(members):
        data = members[suffix]
        parts += [header(f"{key}.{suffix}", len(data)), data, bytes(padded(len(data)) - len(data))]
        places.append(Member(suffix, offset + BLOCK, len(data), zlib.crc32(data)))
        offset += BLOCK + padded(len(data))
    return b"".join(parts), places


def sample_length(sizes: Mapping[str, int]) -> int:
    """How many bytes `sample_bytes` gives for members of these sizes."""
    return sum(BLOCK + padded(size) for size in sizes.values())
