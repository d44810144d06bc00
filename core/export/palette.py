"""PNG files with a palette, which OpenCV cannot write."""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from panoforge.core.report.pictures import id_colours
from panoforge.core.types import Mask

MAX_PALETTE_IDS = 255  # 0 is the background


def palette_png(indices: NDArray[np.uint8]) -> bytes:
    """A PNG of 8-bit palette indices H×W, coloured like the ids of our reports."""
    return _png(indices, indices.shape[1], 8, 6)


def mask_png(mask: Mask) -> bytes:
    """The same of two values, 0 and 1, as one bit a pixel: an eighth to pack and to unpack."""
    return _png(np.packbits(mask, axis=1), mask.shape[1], 1, 1)


def _png(rows: NDArray[np.uint8], width: int, bits: int, level: int) -> bytes:
    """The file of packed rows."""
    height = len(rows)
    raw = np.pad(rows, ((0, 0), (1, 0))).tobytes()  # every row: filter 0, then its bytes
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
        + chunk(b"IDAT", zlib.compress(raw, level))
        + chunk(b"IEND", b"")
    )
