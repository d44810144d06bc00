"""Square windows slid over the equirectangular picture itself: SAP's ablation without a camera.

Each is half as high as the panorama and overlaps its neighbours by half, in the order of the scan:
up one column, down the next. So a panorama twice as wide as high has as many windows as SAP's scan
has views, 24. Distortion stays, the seam does not.
"""

from dataclasses import dataclass

import numpy as np

from panoforge.core.geometry.pixels import edge_to_index, index_to_edge
from panoforge.core.types import Floats

PATCHES = 24  # of any panorama: 8 columns, 3 rows


@dataclass(frozen=True)
class PatchWindow:
    """Columns [left, left + side) modulo the panorama's width, rows [top, top + side)."""

    left: int
    top: int
    side: int

    def columns(self, width: int) -> slice | np.ndarray:
        """Its columns of a panorama of `width`, as an index."""
        return np.arange(self.left, self.left + self.side) % width

    def places(self, u: float, v: float, width: int) -> Floats:
        """Pixel index (x, y) in the window of a panorama's pixel (u, v); NaN outside."""
        x = edge_to_index(np.mod(index_to_edge(u - self.left), width))
        y = v - self.top
        last = edge_to_index(self.side)
        inside = x <= last and edge_to_index(0) <= y <= last
        return np.array([x, y] if inside else [np.nan, np.nan])


def patch_windows(width: int, height: int) -> tuple[PatchWindow, ...]:
    """The windows of a panorama in the order in which they are shown."""
    side = height // 2
    columns = -(-2 * width // side)
    tops = sorted({height - side, (height - side) // 2, 0}, reverse=True)
    return tuple(
        PatchWindow(round(k * width / columns) % width, top, side)
        for k in range(columns)
        for top in (tops if k % 2 == 0 else tops[::-1])
    )
