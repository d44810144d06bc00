"""A picture as the page looks at it: JPEG tiles in levels, each half as wide as the next.

The coarsest level is at most `COARSE_PX` wide and comes first, so that a picture is there at once;
the viewer then asks for the tiles it shows. Pixels are decoded once, cut and let go: an opened
picture of 8192×4096 takes some 10 MB, not 100.
"""

from dataclasses import dataclass

import cv2
import simplejpeg

from panoforge.core.types import Rgb

TILE_PX, COARSE_PX, QUALITY = 1024, 2048, 88


@dataclass(frozen=True)
class Pyramid:
    """`levels` are (width, height), the coarsest first; `tiles` by (level, column, row)."""

    levels: tuple[tuple[int, int], ...]
    tiles: dict[tuple[int, int, int], bytes]

    @property
    def size_bytes(self) -> int:
        """What it takes in memory."""
        return sum(map(len, self.tiles.values()))


def cut_tiles(rgb: Rgb) -> Pyramid:
    """The pyramid of a panorama, uint8 H×W×3."""
    pictures = [rgb]
    while pictures[0].shape[1] > COARSE_PX:
        height, width = pictures[0].shape[:2]
        half = ((width + 1) // 2, (height + 1) // 2)
        pictures.insert(0, cv2.resize(pictures[0], half, interpolation=cv2.INTER_AREA))
    tiles = {
        (level, x // TILE_PX, y // TILE_PX): _jpeg(
            picture[y : y + TILE_PX, x : x + TILE_PX],
        )
        for level, picture in enumerate(pictures)
        for y in range(0, picture.shape[0], TILE_PX)
        for x in range(0, picture.shape[1], TILE_PX)
    }
    return Pyramid(tuple((p.shape[1], p.shape[0]) for p in pictures), tiles)


def _jpeg(rgb: Rgb) -> bytes:
    return simplejpeg.encode_jpeg(
        rgb.copy(order="C"), quality=QUALITY, colorsubsampling="422", fastdct=True
    )
