"""Where a view's answers land on the sphere: the pixels that it sees, and their places in it.

Answers are gathered, as `panoforge.eval.views.merge` does. Each panorama pixel asks the view at the
place where it has it: there are no holes, and seam and poles are pixels like any others. A
`Landing` is a list of such pixels. Its `border` is the geometric part of confidence. It is 1 in the
middle of the view and falls to almost 0 at its border, where a teacher lacks context.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float32, Int64
from numpy.typing import NDArray

from panoforge.core.geometry.pixels import index_to_place, place_to_index
from panoforge.core.geometry.sphere import pixel_to_direction
from panoforge.core.types import Floats
from panoforge.eval.views.frames import ErpFrame, Projection, centre_weight
from panoforge.label.teachers.base import camera_of


@dataclass(frozen=True)
class Landing:
    """The pixels of some rows of a panorama that one view sees.

    Attributes:
        frame: The view.
        pixels: int64 (P,), flat indices from the first of the rows, ascending within a row.
        places: float32 (P, 2), normalised (x, y) in the view: −1 and 1 are its outer edges.
        border: float32 (P,) in (0, 1].
    """

    frame: Projection
    pixels: Int64[np.ndarray, " pixels"]
    places: Float32[np.ndarray, "pixels 2"]
    border: Float32[np.ndarray, " pixels"]

    def nearest(self, values: NDArray) -> NDArray:
        """A view's array (…, h, w) at the pixels, (…, P), of the nearest of its own pixels."""
        row, column = self.cells(*values.shape[-2:])
        return values[..., row, column]

    def smooth(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """A view's array (h, w) or (h, w, C) at the pixels, bilinear: (P,) or (P, C)."""
        height, width = values.shape[:2]
        x = np.clip(place_to_index(self.places[:, 0], width), 0, width - 1)
        y = np.clip(place_to_index(self.places[:, 1], height), 0, height - 1)
        left, top = x.astype(np.intp), y.astype(np.intp)
        right, below = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
        more = (1,) * (values.ndim - 2)
        across, down = (x - left).reshape(-1, *more), (y - top).reshape(-1, *more)
        upper = values[top, left] + across * (values[top, right] - values[top, left])
        lower = values[below, left] + across * (values[below, right] - values[below, left])
        return (upper + down * (lower - upper)).astype(np.float32)

    @cached_property
    def range_per_depth(self) -> Float32[np.ndarray, " pixels"]:
        """Distance from the camera per depth along the view's axis, at each pixel: 1 or more."""
        tangent = np.tan(np.radians(camera_of(self.frame).fov_deg) / 2)
        plane = self.places.astype(np.float64) * tangent
        return np.sqrt(1 + np.sum(plane * plane, axis=1)).astype(np.float32)

    def cells(self, height: int, width: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """(row, column) of the nearest pixel in a map of the view of any size."""
        x = np.rint(place_to_index(self.places[:, 0], width)).astype(np.intp)
        y = np.rint(place_to_index(self.places[:, 1], height)).astype(np.intp)
        return np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)


def land(
    frame: Projection, width: int, height: int, rows: tuple[int, int] | None = None
) -> Landing:
    """The pixels of a width×height panorama, or of its rows [start, stop), that a view sees."""
    first, stop = rows or (0, height)
    if isinstance(frame, ErpFrame) and frame.pano_width != width:  # its windows are whole pixels
        at = pixel_to_direction(
            np.arange(width)[None, :], np.arange(first, stop)[:, None], width, height
        )
        return land_directions(frame, at.reshape(-1, 3))
    footprint = frame.footprint(width, height, (first, stop))
    if footprint is None:
        nowhere = np.zeros(0, np.int64)
        return Landing(frame, nowhere, np.zeros((0, 2), np.float32), np.zeros(0, np.float32))
    row, column = np.nonzero(footprint.weight > 0)
    pixels = row * width + (column + footprint.column0) % width
    return Landing(frame, pixels, footprint.grid[row, column], footprint.weight[row, column])


def land_directions(frame: Projection, directions: Floats) -> Landing:
    """The same for any directions (N, 3): `pixels` are the places of those that a view sees."""
    x, y, inside = frame.project(directions)
    seen = np.flatnonzero(inside)
    across, down = index_to_place(x[seen], frame.width), index_to_place(y[seen], frame.height)
    border = centre_weight(across, down).astype(np.float32)
    return Landing(frame, seen, np.stack([across, down], axis=1).astype(np.float32), border)
