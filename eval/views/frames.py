"""Frames: the pieces of a panorama that a model sees.

And the way back from panorama pixels into them.

A method (`panoforge.eval.views.methods`) is a list of frames. Each is a `Projection`: it samples
the frame from a panorama, projects directions into it (prompts), and gives its `Footprint` on a
band of panorama rows. That is, for each pixel the place in the frame to read from, and a weight
that falls off from the frame's centre. Merging gathers through footprints
(`panoforge.eval.views.merge`); nothing is scattered from frame to panorama, so there are no holes.

Places in a frame are *normalised*: −1 and +1 are the outer edges of the first and last pixel. So
they hold for the image and for logits of any resolution. A perspective footprint depends on pitch
and fov only; yaw is a shift along the row, as in `panoforge.core.geometry.views`. A scan of 24
views builds 3 sets of footprints, once per panorama size.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from panoforge.core.geometry.bfov import Bfov
from panoforge.core.geometry.pixels import (
    edge_to_index,
    index_to_edge,
    index_to_place,
    lat_edge,
    lon_edge,
    pixel_places,
    place_to_index,
    whole_columns,
)
from panoforge.core.geometry.sphere import (
    View,
    direction_to_lonlat,
    direction_to_pixel,
    direction_to_view_pixel,
    pixel_to_direction,
    view_rotation,
)
from panoforge.core.geometry.views import WrappedPanorama, sample_directions, sample_view
from panoforge.core.types import Floats

# what the border of a frame still counts, so that a pixel seen by one frame only is never 0/0
EDGE_WEIGHT = 1e-3


@dataclass(frozen=True)
class Footprint:
    """A frame on one band of panorama rows.

    `grid` float32 rows×columns×2: normalised (x, y) in the frame; `weight` float32 rows×columns, 0
    where the frame does not see the pixel. Columns start at `column0` and wrap. Read-only.
    """

    column0: int
    grid: NDArray[np.float32]
    weight: NDArray[np.float32]

    def pieces(self, width: int) -> list[tuple[slice, slice]]:
        """(panorama columns, own columns) without wrapping: one piece, or two across the seam."""
        columns = self.weight.shape[1]
        first = min(columns, width - self.column0)
        pieces = [(slice(self.column0, self.column0 + first), slice(0, first))]
        if first < columns:
            pieces.append((slice(0, columns - first), slice(first, columns)))
        return pieces


class Projection(Protocol):
    """One frame of a method. Sizes are those of the sampled image."""

    @property
    def height(self) -> int:
        """Rows of the frame."""

    @property
    def width(self) -> int:
        """Columns of the frame."""

    def sample(self, panorama: WrappedPanorama, *, labels: bool = False) -> NDArray:
        """The frame: height×width[×C], the panorama's dtype; `labels=True` never interpolates."""
        ...

    def project(self, direction: ArrayLike) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """Directions of shape S+(3,) → continuous pixel indices (x, y) in the frame.

        And whether it sees them.
        """
        ...

    def footprint(self, width: int, height: int, rows: tuple[int, int]) -> Footprint | None:
        """The frame on rows [start, stop) of a width×height panorama.

        None if it sees nothing there.
        """
        ...


def centre_weight(x: Floats, y: Floats) -> Floats:
    """Weight of normalised places.

    1 at the frame's centre, falling linearly along both axes to EDGE_WEIGHT. The middle of a view
    is its least distorted part and the one where the model has context on all sides.
    """
    return EDGE_WEIGHT + (1 - EDGE_WEIGHT) * np.clip(1 - np.abs(x), 0, 1) * np.clip(
        1 - np.abs(y), 0, 1
    )


@dataclass(frozen=True)
class PerspectiveFrame:
    """A square perspective view."""

    view: View

    @property
    def height(self) -> int:
        """Rows of the frame."""
        return self.view.size_px

    @property
    def width(self) -> int:
        """Columns of the frame."""
        return self.view.size_px

    def sample(self, panorama: WrappedPanorama, *, labels: bool = False) -> NDArray:
        """What the frame shows of a panorama: colours, or ids without mixing."""
        return sample_view(panorama, self.view, labels=labels)

    def project(self, direction: ArrayLike) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """Pixel columns and rows of directions, and which of them the frame shows."""
        return direction_to_view_pixel(direction, self.view)

    def density_per_sr(self, grid: NDArray[np.float32], pixels: int) -> NDArray[np.float32]:
        """Pixels of the frame per steradian, at the places of `grid`."""
        tangent = float(np.tan(np.radians(self.view.fov_deg) / 2))
        return tangent_density(grid, tangent, tangent, pixels)

    def footprint(self, width: int, height: int, rows: tuple[int, int]) -> Footprint | None:
        """Which pixels of these rows of a panorama the frame covers, and where it has them."""
        whole, fraction = whole_columns(self.view.yaw_deg, width)
        at_zero = _perspective_footprint(
            self.view.pitch_deg, self.view.fov_deg, fraction, width, height, *rows
        )
        if at_zero is None:
            return None
        return Footprint((at_zero.column0 + whole) % width, at_zero.grid, at_zero.weight)


@lru_cache(maxsize=4096)
def _perspective_footprint(
    pitch_deg: float,
    fov_deg: float,
    fraction: float,
    width: int,
    height: int,
    start: int,
    stop: int,
) -> Footprint | None:
    """The footprint of a view that is turned by `fraction` of a column.

    Its yaw is that much to the right of straight ahead.
    """
    directions = pixel_to_direction(
        np.arange(width)[None, :] - fraction, np.arange(start, stop)[:, None], width, height
    )
    right, down, forward = np.moveaxis(
        directions @ view_rotation(View(0.0, pitch_deg, fov_deg, 1)), -1, 0
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = 1 / (forward * np.tan(np.radians(fov_deg) / 2))
        x, y = right * scale, down * scale
        inside = (forward > 1e-9) & (np.abs(x) <= 1 + 1e-9) & (np.abs(y) <= 1 + 1e-9)
    seen = np.flatnonzero(inside.any(axis=0))
    if not seen.size:
        return None
    columns = slice(int(seen[0]), int(seen[-1]) + 1)
    inside = inside[:, columns]
    x, y = (np.where(inside, a[:, columns], 0.0) for a in (x, y))
    return _footprint(columns.start, x, y, np.where(inside, centre_weight(x, y), 0.0))


@dataclass(frozen=True)
class BfovFrame:
    """A view fitted to a bounding field of view and squeezed into a square of `size_px`.

    What a second look sees (`panoforge.eval.segmentation.zoom`). Its footprint is computed where it
    is used and not kept: no two instances share one.
    """

    bfov: Bfov
    size_px: int

    @property
    def height(self) -> int:
        """Rows of the frame."""
        return self.size_px

    @property
    def width(self) -> int:
        """Columns of the frame."""
        return self.size_px

    def sample(self, panorama: WrappedPanorama, *, labels: bool = False) -> NDArray:
        """What the frame shows of a panorama: colours, or ids without mixing."""
        step = pixel_places(self.size_px)
        return sample_directions(
            panorama, self.directions(step[None, :], step[:, None]), labels=labels
        )

    def directions(self, x: ArrayLike, y: ArrayLike) -> Floats:
        """Normalised places in the frame → directions, not normalised."""
        return self.bfov.directions(x, y)

    def project(self, direction: ArrayLike) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """Pixel columns and rows of directions, and which of them the frame shows."""
        x, y, inside = self._place(np.asarray(direction, np.float64))
        return place_to_index(x, self.size_px), place_to_index(y, self.size_px), inside

    def _place(self, direction: Floats) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        x, y = self.bfov.places(direction)
        with np.errstate(invalid="ignore"):
            return x, y, (np.abs(x) <= 1 + 1e-9) & (np.abs(y) <= 1 + 1e-9)

    @lru_cache(maxsize=4096)  # noqa: B019
    def extent(self, width: int, height: int) -> tuple[int, int, int, int]:
        """The box of panorama pixels around it.

        First row, end row, first column, number of columns (modulo W). Latitude and longitude are
        extreme on the border, unless a pole is inside.
        """
        step = np.linspace(-1, 1, 65)
        edges = [(step, np.full(65, side)) for side in (-1.0, 1.0)] + [
            (np.full(65, side), step) for side in (-1.0, 1.0)
        ]
        lon, lat = direction_to_lonlat(np.concatenate([self.directions(x, y) for x, y in edges]))
        poles = [bool(self._place(np.array([0.0, 0.0, sign]))[2]) for sign in (1.0, -1.0)]
        low, high = float(lat.min()), float(lat.max())
        slack = (
            2 + (high - low) / np.pi * height / 100
        )  # between two points of the border it may bulge a little
        top = 0 if poles[0] else max(0, int(np.floor(lat_edge(high, height) - slack)))
        bottom = height if poles[1] else min(height, int(np.ceil(lat_edge(low, height) + slack)))
        aside = np.mod(lon - np.radians(self.bfov.yaw_deg) + np.pi, 2 * np.pi) - np.pi
        slack_columns = 2 + (aside.max() - aside.min()) / (2 * np.pi) * width / 100
        left = lon_edge(np.radians(self.bfov.yaw_deg) + aside.min(), width)
        first = int(np.floor(left - slack_columns))
        columns = (
            int(np.ceil((aside.max() - aside.min()) / (2 * np.pi) * width + 2 * slack_columns)) + 1
        )
        return (
            (top, bottom, 0, width)
            if any(poles) or columns >= width
            else (top, bottom, first % width, columns)
        )

    def footprint(self, width: int, height: int, rows: tuple[int, int]) -> Footprint | None:
        """Which pixels of these rows of a panorama the frame covers, and where it has them."""
        top, bottom, first, columns = self.extent(width, height)
        if max(rows[0], top) >= min(rows[1], bottom):
            return None
        u, v = np.arange(first, first + columns)[None, :], np.arange(*rows)[:, None]
        x, y, inside = self._place(pixel_to_direction(u, v, width, height))
        if not inside.any():
            return None
        x, y = (np.where(inside, place, 0.0) for place in (x, y))
        return _footprint(first, x, y, np.where(inside, centre_weight(x, y), 0.0))

    def density_per_sr(self, grid: NDArray[np.float32], pixels: int) -> NDArray[np.float32]:
        """Pixels of the frame per steradian, at the places of `grid`."""
        return tangent_density(grid, self.bfov.tan_x, self.bfov.tan_y, pixels)


def tangent_density(
    grid: NDArray[np.float32], tan_x: float, tan_y: float, pixels: int
) -> NDArray[np.float32]:
    """Samples per steradian at normalised places of a flat view, sampled `pixels` times in all.

    A piece dX·dY of its plane covers dX·dY/(1 + X² + Y²)^³ᐟ² steradians: samples are sparsest in
    the middle.
    """
    x, y = grid[..., 0] * np.float32(tan_x), grid[..., 1] * np.float32(tan_y)
    return np.float32(pixels / (4 * tan_x * tan_y)) * (1 + x * x + y * y) ** np.float32(1.5)


@dataclass(frozen=True)
class ErpFrame:
    """A window of the panorama itself.

    Columns [u0, u0 + columns) modulo W, rows [v0, v0 + rows), with `pad` black rows above and below
    (letterbox).
    """

    u0: int
    v0: int
    columns: int
    rows: int
    pano_width: int
    pano_height: int
    pad: int = 0

    @property
    def height(self) -> int:
        """Rows of the frame, with those that pad it."""
        return self.rows + 2 * self.pad

    @property
    def width(self) -> int:
        """Columns of the frame."""
        return self.columns

    def sample(self, panorama: WrappedPanorama, *, labels: bool = False) -> NDArray:
        """What the frame shows of a panorama: a window of its pixels."""
        pole_rows = (panorama.data.shape[0] - panorama.height) // 2
        window = panorama.data[
            pole_rows + self.v0 : pole_rows + self.v0 + self.rows, self.u0 : self.u0 + self.columns
        ]
        padding = [(self.pad, self.pad), (0, 0)] + [(0, 0)] * (window.ndim - 2)
        return np.pad(window, padding) if self.pad else np.ascontiguousarray(window)

    def project(self, direction: ArrayLike) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """Pixel columns and rows of directions, and which of them the frame shows."""
        u, v = direction_to_pixel(direction, self.pano_width, self.pano_height)
        x = edge_to_index(np.mod(index_to_edge(u - self.u0), self.pano_width))
        y = v - self.v0
        last = edge_to_index(self.columns), edge_to_index(self.rows)
        inside = (x <= last[0]) & (y >= edge_to_index(0)) & (y <= last[1])
        return x, y + self.pad, inside

    def footprint(self, width: int, height: int, rows: tuple[int, int]) -> Footprint | None:
        """Which pixels of these rows of a panorama the frame covers, and where it has them."""
        start, stop = max(rows[0], self.v0), min(rows[1], self.v0 + self.rows)
        if start >= stop:
            return None
        band = np.arange(*rows)
        x = pixel_places(self.columns)
        y = index_to_place(band - self.v0 + self.pad, self.height)
        x, y = np.meshgrid(x, y)
        seen = ((band >= start) & (band < stop))[:, None]
        return _footprint(self.u0, x, y, np.where(seen, centre_weight(x, y), 0.0))


def _footprint(column0: int, x: Floats, y: Floats, weight: Floats) -> Footprint:
    grid = np.stack([x, y], axis=-1).astype(np.float32)
    weight = weight.astype(np.float32)
    grid.flags.writeable = weight.flags.writeable = False
    return Footprint(column0, grid, weight)
