"""The parts of a panorama that dense tasks are scored on: the seam, bands of latitude, distances.

A place is named, and given as a bool H×W mask. Their names and bounds are part of a protocol
(`PLACES`).
"""

from collections.abc import Iterator

import numpy as np

from panoforge.core.geometry.pixels import index_to_place, row_lat
from panoforge.core.types import Bools, Depth

WHOLE = "everywhere"
SEAM = "at the seam"
SEAM_SHARE = 1 / 32  # of the width, both sides together
LATITUDES_DEG = (30.0, 60.0)
DISTANCES_M = (2.0, 5.0)
LATITUDES = ("below 30°", "30° to 60°", "above 60°")
DISTANCES = ("nearer than 2 m", "2 m to 5 m", "farther than 5 m")
PLACES = (WHOLE, SEAM, *LATITUDES, *DISTANCES)


def places(height: int, width: int, depth_m: Depth | None) -> Iterator[tuple[str, Bools]]:
    """The places of a panorama by name, bool H×W each, in the order of `PLACES`.

    Args:
        height: Rows.
        width: Columns.
        depth_m: True distances H×W, where they are known: without them there are no places by
            distance. What is infinitely far (sky), or has no distance (NaN), is in none of those.
    """
    whole = np.ones((height, width), bool)
    yield WHOLE, whole
    across = np.abs(index_to_place(np.arange(width), width))
    yield SEAM, whole & (across > 1 - SEAM_SHARE)
    lat_deg = np.abs(np.degrees(row_lat(np.arange(height), height)))[:, None]
    low, high = LATITUDES_DEG
    bands = (lat_deg < low, (lat_deg >= low) & (lat_deg < high), lat_deg >= high)
    for name, band in zip(LATITUDES, bands, strict=True):
        yield name, whole & band
    if depth_m is None:
        return
    near, far = DISTANCES_M
    with np.errstate(invalid="ignore"):
        zones = (
            depth_m < near,
            (depth_m >= near) & (depth_m < far),
            (depth_m >= far) & np.isfinite(depth_m),
        )
    yield from zip(DISTANCES, zones, strict=True)
