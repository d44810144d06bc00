"""The size that the header of a PNG, JPEG or WebP claims, read before anything is decoded.

JPEG headers are read by the decoder's own parser (libjpeg-turbo), so no padding or stray marker
makes the two disagree. A PNG's chunks are walked: one that claims more bytes than the file has is
refused here, because a decoder would allocate them. WebP is here because its decoder allocates the
canvas when a file is opened. Files that were cut are refused too: it costs nothing to ask. So are
JPEGs that would keep their decoder busy, or make it keep over a gigabyte. Every decoder of ours
asks here first: of strangers' pictures, and of a dataset's members.
"""

import simplejpeg

from panoforge.core.errors import DataError
from panoforge.core.jpeg_markers import is_whole_jpeg, jpeg_markers
from panoforge.core.numbers import counted

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_SCANS, MAX_SCANNED_PIXELS = 64, 1 << 31  # of a JPEG; programs write about ten scans
MAX_DECODING_BYTES = 1 << 30  # what a JPEG's decoder may keep


def image_size(data: bytes) -> tuple[int, int]:
    """The (width, height) in pixels that a PNG or JPEG claims, as stored.

    Raises:
        DataError: the bytes are neither, the header is damaged, the file was cut, or decoding it
            would take longer or more memory than a picture may.
    """
    if data[:8] == PNG_SIGNATURE:
        return _png_size(data)
    if data[:2] == b"\xff\xd8":
        try:
            height, width, _, subsampling = simplejpeg.decode_jpeg_header(data, strict=False)
        except (ValueError, KeyError) as error:  # KeyError: of a colour space it has no name for
            raise DataError(
                f"the JPEG's header cannot be read ({error}): the file is truncated or damaged"
            ) from None
        if not is_whole_jpeg(data):
            raise DataError(
                f"the JPEG's {len(data)} bytes end before its image does: the file is truncated or"
                " damaged"
            )
        _check_decoding(data, width, height, subsampling)
        return width, height
    raise DataError("this is neither a PNG nor a JPEG")


def _check_decoding(data: bytes, width: int, height: int, subsampling: str) -> None:
    """DataError for a JPEG that would keep its decoder busy, or take more memory than 1 GiB."""
    found = jpeg_markers(data)
    most = min(MAX_SCANS, MAX_SCANNED_PIXELS // max(1, width * height))
    if found.scans > most:
        raise DataError(
            f"the JPEG goes over its {width}×{height} pixels in {counted(found.scans, 'scan')}, at"
            f" most {most} are read: save it anew"
        )
    # Two bytes a coefficient; 4:4:4 at worst, where the header says nothing of less.
    share = {"420": 0.5, "422": 2 / 3, "440": 2 / 3, "411": 0.5}.get(subsampling, 1.0)
    pixel_bytes = 2 * found.components * share + (4 + 3 if found.components == 4 else 3)
    if found.several and width * height * pixel_bytes > MAX_DECODING_BYTES:
        raise DataError(
            f"the JPEG is a progressive one of {width}×{height} pixels: to decode it would take"
            f" {width * height * pixel_bytes / 1e9:.1f} GB, save it as a baseline JPEG or as PNG"
        )


def _png_size(data: bytes) -> tuple[int, int]:
    if data[12:16] != b"IHDR" or len(data) < 33:
        raise DataError("the PNG's header is damaged")
    at, kind = 8, b""
    while kind != b"IEND":
        claimed, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if at + 12 > len(data):
            raise DataError(
                f"the PNG's {len(data)} bytes end before its image does: the file is truncated or"
                " damaged"
            )
        if claimed > len(data) - at - 12:
            raise DataError(
                f"a PNG chunk {kind!r} claims {claimed} bytes and {len(data) - at - 12} are left:"
                " the file is truncated or damaged"
            )
        at += 12 + claimed
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def webp_size(data: bytes) -> tuple[int, int]:
    """The (width, height) in pixels of a WebP's canvas. DataError if the header is damaged."""
    kind, first = data[12:16], data[20:30]
    if len(first) == 10 and kind == b"VP8X":
        return 1 + int.from_bytes(first[4:7], "little"), 1 + int.from_bytes(first[7:10], "little")
    if len(first) == 10 and kind == b"VP8L" and first[:1] == b"\x2f":
        bits = int.from_bytes(first[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if len(first) == 10 and kind == b"VP8 " and first[3:6] == b"\x9d\x01\x2a":
        sides = int.from_bytes(first[6:8], "little"), int.from_bytes(first[8:10], "little")
        return sides[0] & 0x3FFF, sides[1] & 0x3FFF
    raise DataError("the WebP's header is damaged")
