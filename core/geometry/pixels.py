"""The pixel convention, in one place: indices, edges, places, and the angles of rows and columns.

An *index* counts pixel centres: the centre of pixel 0 is 0.0. An *edge* counts from the outer edge
of pixel 0, so n pixels span [0, n]. A *place* runs from −1 to 1 across a frame. In a panorama of
W×H pixels, column index u and row index v look at

    λ = ((u + 0.5)/W − 0.5)·2π        φ = (0.5 − (v + 0.5)/H)·π

All functions take and give numbers or arrays of any shape, in the precision of what they are given.
`tests/core/geometry/test_one_home.py` looks for copies elsewhere.
"""

from typing import Any

import numpy as np

from panoforge.core.types import Floats, Ints


def index_to_edge(index: Any) -> Any:
    """The centre of a pixel by its distance from the outer edge of the first one."""
    return index + 0.5


def edge_to_index(edge: Any) -> Any:
    """Undo `index_to_edge`."""
    return edge - 0.5


def index_to_place(index: Any, size: int, start: int = 0) -> Any:
    """Indices → places in [−1, 1] over `size` pixels that begin with index `start`."""
    return (index + 0.5 - start) / size * 2 - 1


def place_to_edge(place: Any, size: int) -> Any:
    """Places in [−1, 1] → edges in [0, size]."""
    return (place + 1) / 2 * size


def place_to_index(place: Any, size: int) -> Any:
    """Places in [−1, 1] → indices of a frame of `size` pixels."""
    return place_to_edge(place, size) - 0.5


def pixel_places(size: int) -> Floats:
    """The places of the `size` pixel centres across a frame, (size,)."""
    return index_to_place(np.arange(size), size)


def middle_index(size: int) -> float:
    """The index of the middle of `size` pixels."""
    return 0.5 * size - 0.5


def resize_index(index: Any, old: Any, new: Any) -> Any:
    """Indices of a picture of `old` pixels → of the same picture at `new` pixels."""
    return (index + 0.5) / old * new - 0.5


def column_lon(u: Any, width: int) -> Any:
    """Column indices → longitude in radians."""
    return ((u + 0.5) / width - 0.5) * 2 * np.pi


def row_lat(v: Any, height: int) -> Any:
    """Row indices → latitude in radians."""
    return (0.5 - (v + 0.5) / height) * np.pi


def edge_lat(edge: Any, height: int) -> Any:
    """Row edges → latitude in radians."""
    return (0.5 - edge / height) * np.pi


def lon_edge(lon: Any, width: int) -> Any:
    """Longitude in radians → column edges, in [0, W) for λ in [−π, π)."""
    return (lon / (2 * np.pi) + 0.5) * width


def lat_edge(lat: Any, height: int) -> Any:
    """Latitude in radians → row edges, in [0, H]."""
    return (0.5 - lat / np.pi) * height


def pixel_at(lon: Any, lat: Any, width: int, height: int) -> tuple[Ints, Ints]:
    """The pixel (column, row) that a direction in radians falls into."""
    column = np.floor(lon_edge(lon, width)).astype(np.int64) % width
    return column, np.clip(np.floor(lat_edge(lat, height)).astype(np.int64), 0, height - 1)


def whole_columns(yaw_deg: float, width: int) -> tuple[int, float]:
    """A yaw as a shift by whole columns, and the fraction of a column that is left.

    As good as whole counts as whole: angles are sums of degrees in float64.
    """
    shift = yaw_deg / 360.0 * width
    whole = round(shift)
    return whole, 0.0 if abs(shift - whole) < 1e-6 else shift - whole
