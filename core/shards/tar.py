"""Canonical tar bytes: the one way in which a sample is laid out in a shard.

Headers are plain ustar with everything that could vary fixed (mtime 0, owner 0, mode 0644). So a
sample's bytes are a pure function of its members, and a reader can rebuild the header that must
stand there and compare it bit for bit.
"""

import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from panoforge.core.errors import DataError
from panoforge.core.names import check_key, check_name

BLOCK = 512
TRAILER = bytes(
    2 * BLOCK
)  # a tar ends with two zero blocks; no record padding, so that sizes are exact
MAX_MEMBER_BYTES = (1 << 33) - 1  # ustar's 11 octal digits


@dataclass(frozen=True)
class Member:
    """Where a member's data lies.

    `offset` from the start of its sample (or shard), `length` in bytes. The CRC-32 (zlib's) is for
    readers of one member instead of the whole sample.
    """

    suffix: str
    offset: int
    length: int
    crc32: int


def header(name: str, size: int) -> bytes:
    """The canonical 512-byte header of a member.

    ValueError when name or size do not fit plain ustar.
    """
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
    """A sample's bytes in a shard, and where each member's data lies in them.

    Members are in suffix order.
    """
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


def parse_header(block: bytes | memoryview) -> tuple[str, str, int] | None:
    """(key, suffix, size) of a canonical header with a sample's name; None for other 512 bytes."""
    raw = bytes(block)
    name, size = raw[:100].rstrip(b"\0"), raw[124:135]
    if raw[257:262] != b"ustar" or not size.isdigit() or b"." not in name:
        return None
    try:
        text, length = name.decode("ascii"), int(size, 8)
        if header(text, length) != raw:
            return None
        key, _, suffix = text.partition(".")
        return check_key(key), check_name(suffix), length
    except (ValueError, DataError):
        return None


def walk(file: BinaryIO, max_bytes: int) -> Iterator[tuple[str, int, bytes, list[Member]]]:
    """The samples of a shard by its headers alone, without an index.

    Each is (key, offset in the shard, its bytes, its members). DataError at the first byte that
    `sample_bytes` and the end of a tar would not have put there, or where a sample would be over
    `max_bytes`.
    """
    begin = at = 0
    held: list[bytes] = []
    members: list[Member] = []
    key = ""
    while (block := file.read(BLOCK)) != TRAILER[:BLOCK]:
        parsed = parse_header(block)
        if parsed is None:
            raise DataError(f"byte {at}: expected a tar header or the end of the tar")
        if parsed[0] != key and members:
            yield key, begin, b"".join(held), members
            begin, held, members = at, [], []
        key, suffix, size = parsed
        if at - begin + BLOCK + padded(size) > max_bytes:
            raise DataError(f"byte {at}: sample {key} is over the cap of {max_bytes} bytes")
        data = file.read(padded(size))
        if len(data) != padded(size) or data[size:].strip(b"\0"):
            raise DataError(f"byte {at}: {key}.{suffix} is cut, or not padded with zeros")
        members.append(
            Member(suffix, at - begin + BLOCK, size, zlib.crc32(memoryview(data)[:size]))
        )
        held += [block, data]
        at += BLOCK + len(data)
    if members:
        yield key, begin, b"".join(held), members
    if file.read(BLOCK + 1) != TRAILER[BLOCK:]:
        raise DataError(
            f"byte {at}: expected the {len(TRAILER)} zero bytes that end a tar, and nothing behind"
            " them"
        )
