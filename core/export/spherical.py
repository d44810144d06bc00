"""What tells a player that an MP4 is a 360° video: Google's Spherical Video metadata, V1 and V2.

V1 is a `uuid` box with RDF/XML at the end of the track; V2 are the boxes `st3d` and `sv3d` in the
sample description. Players and sites read the one or the other, so both are written.
Source: the Spherical Video RFC, versions 1 and 2; boxes are those of ISO/IEC 14496-12.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from panoforge.core import __version__

_V1_UUID = UUID("ffcc8263-f855-4a93-8814-587a02521fdd").bytes
_V1_XML = (
    '<?xml version="1.0"?><rdf:SphericalVideo'
    ' xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
    ' xmlns:GSpherical="http://ns.google.com/videos/1.0/spherical/">'
    "<GSpherical:Spherical>true</GSpherical:Spherical>"
    "<GSpherical:Stitched>true</GSpherical:Stitched>"
    f"<GSpherical:StitchingSoftware>panoforge {__version__}</GSpherical:StitchingSoftware>"
    "<GSpherical:ProjectionType>equirectangular</GSpherical:ProjectionType>"
    "</rdf:SphericalVideo>"
).encode()
# The way to the sample description of the video.
_WAY = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")
_OFFSETS = {b"stco": ">I", b"co64": ">Q"}


@dataclass(frozen=True)
class _Mp4Box:
    """Where a box lies: `start` with its head, `body` without, up to `end`."""

    kind: bytes
    start: int
    body: int
    end: int


def with_spherical_metadata(mp4: bytes) -> bytes:
    """The same MP4, said to be a whole equirectangular panorama, seen with one eye.

    Its index comes first, so that a browser begins at once.

    Args:
        mp4: a file with one track, of video, whose index (`moov`) comes last.

    Raises:
        ValueError: it is none.
    """
    way = _way_to_description(mp4)
    (entry,) = _boxes(mp4, way[-1].body + 8, way[-1].end)
    inner, outer = _v2(), _box(b"uuid", _V1_UUID + _V1_XML)
    trak, moov = way[1], way[0]
    added = len(inner) + len(outer)
    first = next(box for box in _boxes(mp4, 0, len(mp4)) if box.kind == b"mdat")
    if first.start > moov.start:
        raise ValueError("expected the moov box behind the mdat box")
    body = bytearray(
        mp4[moov.start : entry.end]
        + inner
        + mp4[entry.end : trak.end]
        + outer
        + mp4[trak.end : moov.end]
    )
    for box, more in ((moov, added), (trak, added), *((b, len(inner)) for b in (*way[2:], entry))):
        place = box.start - moov.start
        struct.pack_into(">I", body, place, box.end - box.start + more)
    _move_chunks(body, len(body))
    return mp4[: first.start] + bytes(body) + mp4[first.start : moov.start] + mp4[moov.end :]


def _v2() -> bytes:
    """`st3d` (mono) and `sv3d` (equirectangular, whole, not turned)."""
    mono = _box(b"st3d", bytes(4) + b"\0")
    source = _box(b"svhd", bytes(4) + f"panoforge {__version__}".encode() + b"\0")
    projection = _box(b"proj", _box(b"prhd", bytes(4 + 12)) + _box(b"equi", bytes(4 + 16)))
    return mono + _box(b"sv3d", source + projection)


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + kind + body


def _boxes(data: bytes | bytearray, start: int, end: int) -> Iterator[_Mp4Box]:
    """The boxes between two places."""
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        head = 8
        if size == 1:  # the 64-bit size of a large mdat
            (size,) = struct.unpack_from(">Q", data, start + 8)
            head = 16
        elif size == 0:
            size = end - start
        if size < head or start + size > end:
            raise ValueError(f"box {kind!r} of {size} bytes does not fit into its parent")
        yield _Mp4Box(kind, start, start + head, start + size)
        start += size


def _way_to_description(mp4: bytes) -> list[_Mp4Box]:
    """The boxes from `moov` down to the `stsd` of the only track."""
    way: list[_Mp4Box] = []
    start, end = 0, len(mp4)
    for kind in _WAY:
        found = [box for box in _boxes(mp4, start, end) if box.kind == kind]
        if len(found) != 1:
            raise ValueError(f"expected one {kind.decode()} box, found {len(found)}")
        way.append(found[0])
        start, end = found[0].body, found[0].end
    return way


def _move_chunks(moov: bytearray, by: int) -> None:
    """Correct where chunks of frames lie, once something stands before them."""
    start, end = 0, len(moov)
    for kind in _WAY[:-1]:
        (box,) = (box for box in _boxes(moov, start, end) if box.kind == kind)
        start, end = box.body, box.end
    for box in _boxes(moov, start, end):
        if box.kind in _OFFSETS:
            (count,) = struct.unpack_from(">I", moov, box.body + 4)
            form = f">{count}{_OFFSETS[box.kind][1]}"
            places = struct.unpack_from(form, moov, box.body + 8)
            struct.pack_into(form, moov, box.body + 8, *(place + by for place in places))
