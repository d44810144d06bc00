"""PNG files with a palette, which OpenCV cannot write."""

import struct
import zlib
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from panoforge.core.report.pictures import id_colours
from panoforge.core.types import Labels

MAX_PALETTE_IDS = 255  # 0 is the background


def palette_png(indices: NDArray[np.uint8]) -> bytes:
    """A PNG of 8-bit palette indices H×W, coloured like the ids of our reports."""
    return _png(indices, indices.shape[1], 8, 6)


def mask_png(labels: Labels, id_: int, box: tuple[float, float, float, float]) -> bytes:
    """The same of two values, 1 where `labels` is `id_`, as one bit a pixel.

    Nothing outside of `box` (x, y, width, height) is looked at: all rows above and below come from
    what is kept of rows of zeros.
    """
    height, width = labels.shape
    x, y, columns, rows = (int(value) for value in box)
    first = x // 8
    packed = np.zeros((rows, _row_bytes(width)), np.uint8)
    bits = np.packbits(labels[y : y + rows, 8 * first : x + columns] == id_, axis=1)
    packed[:, 1 + first : 1 + first + bits.shape[1]] = bits
    above, below = y * packed.shape[1], (height - y - rows) * packed.shape[1]
    middle = zlib.compressobj(1, wbits=-15)
    check = zlib.adler32(packed.data, _adler_of_zeros(above))
    data = [
        b"\x78\x01",
        _deflated_zeros(above),
        middle.compress(packed.data),
        middle.flush(zlib.Z_SYNC_FLUSH),
        _deflated_zeros(below, last=True),
        struct.pack(">I", _adler_of_zeros(below, check)),
    ]
    return _file(width, height, 1, b"".join(data))


@lru_cache(maxsize=4)
def empty_mask_png(height: int, width: int) -> bytes:
    """The same of nothing."""
    return mask_png(np.zeros((height, width), np.uint16), 1, (0, 0, 0, 0))


def _row_bytes(width: int) -> int:
    """Of a row of bits: its filter, 0, before them."""
    return 1 + -(-width // 8)


@lru_cache(maxsize=8192)
def _deflated_zeros(count: int, *, last: bool = False) -> bytes:
    """A piece of a raw deflate stream (RFC 1951), ending on a byte: streams of pieces join."""
    deflate = zlib.compressobj(1, wbits=-15)
    return deflate.compress(bytes(count)) + deflate.flush(
        zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH
    )


def _adler_of_zeros(count: int, check: int = 1) -> int:
    """Adler-32 (RFC 1950) of what has `check`, and `count` zeros behind it.

    A zero leaves the sum of bytes as it is, and the sum of sums grows by that each time.
    """
    low, high = check & 0xFFFF, check >> 16
    return (high + count * low) % 65521 << 16 | low


def _png(rows: NDArray[np.uint8], width: int, bits: int, level: int) -> bytes:
    """The file of packed rows."""
    raw = np.pad(rows, ((0, 0), (1, 0))).tobytes()  # every row: filter 0, then its bytes
    return _file(width, len(rows), bits, zlib.compress(raw, level))


def _file(width: int, height: int, bits: int, data: bytes) -> bytes:
    """The file of a zlib stream of all rows."""
    colours = id_colours()[: 1 << bits].copy()
    colours[0] = 0

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 3, 0, 0, 0))
        + chunk(b"PLTE", colours.tobytes())
        + chunk(b"IDAT", data)
        + chunk(b"IEND", b"")
    )
