"""Straight sticks on the sphere, turned, and their bounds."""

import numpy as np

from panoforge.core.geometry.sphere import lonlat_to_direction, pixel_to_direction
from panoforge.core.geometry.tracking_boxes import TrackingBoxes, bounds_of
from panoforge.core.sample.label_maps import instance_stats
from panoforge.core.types import Mask

WIDTH, HEIGHT = 720, 360


def directions() -> np.ndarray:
    return pixel_to_direction(np.arange(WIDTH)[None], np.arange(HEIGHT)[:, None], WIDTH, HEIGHT)


def stick(
    lon_deg: float, lat_deg: float, turn_deg: float, long_deg: float, wide_deg: float
) -> Mask:
    """A straight stick: turned anticlockwise by `turn_deg` from the horizon, seen from inside."""
    lon, lat, turn = np.radians([lon_deg, lat_deg, turn_deg])
    ahead = lonlat_to_direction(lon, lat)
    east = lonlat_to_direction(lon + np.pi / 2, 0.0)
    north = lonlat_to_direction(lon, lat + np.pi / 2)
    along = np.cos(turn) * east + np.sin(turn) * north
    across = np.cos(turn) * north - np.sin(turn) * east
    ways = directions()
    forward = ways @ ahead
    x, y = (ways @ along) / forward, (ways @ across) / forward
    half = np.tan(np.radians([long_deg, wide_deg]) / 2)
    return (forward > 0) & (np.abs(x) < half[0]) & (np.abs(y) < half[1])


def bounds(mask: Mask) -> TrackingBoxes:
    """As the export asks: the part of the panorama in the box on the cylinder."""
    stats = instance_stats(mask.astype(np.uint16))
    u0, v0, width, height = (int(x[0]) for x in (stats.u0, stats.v0, stats.width, stats.height))
    part = mask[v0 : v0 + height][:, np.arange(u0, u0 + width) % WIDTH]
    return bounds_of(part, u0, v0, WIDTH, HEIGHT)
