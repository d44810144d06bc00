"""The markers of a JPEG, found as libjpeg finds them, so that what is counted here is what it does.

The header's size bounds neither the work nor the memory of a decoder. A file of a few kilobytes may
hold thousands of scans, each of which goes over all pixels. A file of several scans keeps the
coefficients of the whole picture. Both are asked here, without decoding anything.
"""

import re
from dataclasses import dataclass

# 0xFF and a code: not 0x00 (a stuffed byte), 0xFF (padding) or 0xD0 to 0xD7 (restarts).
_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])", re.DOTALL)
_START, _END, _SCAN, _ALONE = 0xD8, 0xD9, 0xDA, 0x01
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
END_OF_IMAGE = b"\xff\xd9"


@dataclass(frozen=True)
class JpegMarkers:
    """What the markers say.

    `several` is whether a decoder keeps the coefficients of the whole picture, `whole` whether the
    file goes on to the end of its image.
    """

    components: int
    scans: int
    several: bool
    whole: bool


def jpeg_markers(data: bytes) -> JpegMarkers:
    """Walk the markers of a JPEG's bytes to the end of its image, or of the bytes."""
    components = scans = 0
    several = whole = False
    at = 2
    while found := _MARKER.search(data, at):
        marker, at = found[1][0], found.end()
        if marker == _END:
            whole = True
            break
        if marker in (_START, _ALONE):
            continue
        if marker in _FRAMES:
            components = data[at + 7] if at + 7 < len(data) else 0
            several |= marker in _PROGRESSIVE
        if marker == _SCAN:
            scans += 1
            several |= at + 2 < len(data) and data[at + 2] < components
        at += max(2, int.from_bytes(data[at : at + 2], "big"))
    return JpegMarkers(components, scans, several or scans > 1, whole)


def is_whole_jpeg(data: bytes) -> bool:
    """Whether a JPEG's bytes go on to the end of its image: free where nothing follows it."""
    return data[-2:] == END_OF_IMAGE or jpeg_markers(data).whole
