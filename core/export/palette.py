"""PNG files with a palette, which OpenCV cannot write."""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from panoforge.core.report.pictures import id_colours

MAX_PALETTE_IDS = 255  # 0 is the background


def palette_png(indices: NDArray[np.uint8]) -> bytes:
    """A PNG of 8-bit palette indices H×W, coloured like the ids of our reports."""
    height, width = indices.shape
    raw = np.concatenate(
        [np.zeros((height, 1), np.uint8), indices], axis=1
    ).tobytes()  # every row: filter 0, then its bytes
    colours = id_colours()[:256].copy()
    colours[0] = 0

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0))
        + chunk(b"PLTE", colours.tobytes())
        + chunk(b"IDAT", zlib.compress(raw, 6))
        + chunk(b"IEND", b"")
    )
