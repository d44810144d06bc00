"""Shapes that are drawn on the sphere, as masks of a panorama: strokes, polygons; parts of a mask.

The seam and the poles are places like any other. A stroke is everything within an angle of a path
of great-circle arcs, swept by caps. A cap meets each row of pixels in one interval of columns:

    |λ − λ₀| ≤ acos((cos r − sin φ·sin φ₀) / (cos φ·cos φ₀))

A polygon's sides are great-circle arcs, shorter than half a circle. A meridian crosses each side at
most once, at tan φ = (tan φₐ·sin(λᵦ − λ) + tan φᵦ·sin(λ − λₐ)) / sin(λᵦ − λₐ). Counting crossings
from the north pole down says which side a pixel is on; the smaller side is the inside. A pixel
belongs to a shape if its centre does.
"""

from collections.abc import Iterator
from itertools import pairwise

import cv2
import numpy as np
from jaxtyping import Int32

from panoforge.core.geometry.pixels import edge_to_index, lat_edge, lon_edge, pixel_at, row_lat
from panoforge.core.geometry.sphere import (
    angle_between,
    direction_to_lonlat,
    lonlat_to_direction,
    row_area_sr,
)
from panoforge.core.types import Floats, Ints, LonLatPath, Mask

SCALLOP_PX = 0.1  # by how much the outline between two caps of a stroke may fall short
_GRID = 65536.0  # columns are rounded to so many parts, so that sums of them are exact
_MAX_LAT = np.radians(90 - 1e-7)  # a corner at a pole has no meridian of its own


def fill_stroke(path: LonLatPath, radius: float, width: int, height: int) -> Mask:
    """All pixels whose centre is within an angle of a path, and those that the path's points hit.

    Args:
        path: The points, joined by great-circle arcs.
        radius: The angle, radians, below π/2.
        width, height: Of the panorama, pixels.

    Returns:
        The mask, bool H×W.
    """
    pixel = np.pi / height
    sagitta = min(SCALLOP_PX * pixel, radius)
    spacing = max(2 * np.sqrt(sagitta * (2 * radius - sagitta)), pixel / 8)
    lon, lat = direction_to_lonlat(_along(path, float(spacing)))
    top = edge_to_index(lat_edge(np.minimum(lat + radius, np.pi / 2), height))
    first = np.ceil(top).astype(np.int64)
    rows = first[:, None] + np.arange(int(np.ceil(2 * radius / pixel)) + 2)
    phi = row_lat(rows, height)
    inside = (rows >= 0) & (rows < height) & (np.abs(phi - lat[:, None]) <= radius)
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine = (np.cos(radius) - np.sin(phi) * np.sin(lat)[:, None]) / (
            np.cos(phi) * np.cos(lat)[:, None]
        )
    half = np.arccos(np.clip(np.nan_to_num(cosine, nan=-1.0), -1, 1)) / (2 * np.pi) * width
    middle = lon_edge(lon, width)[:, None]
    low = np.ceil(edge_to_index(middle - half)).astype(np.int64)
    count = np.minimum(np.floor(edge_to_index(middle + half)).astype(np.int64) - low + 1, width)
    count[cosine <= -1] = width
    wanted = inside & (count > 0)
    mask = _fill_intervals(rows[wanted], low[wanted], count[wanted], width, height)
    u, v = pixel_at(path[:, 0], path[:, 1], width, height)
    mask[v, u] = True
    return mask


def _along(path: LonLatPath, spacing: float) -> Floats:
    """Directions along a path, at most `spacing` radians apart, (M, 3)."""
    corners = lonlat_to_direction(path[:, 0], path[:, 1])
    pieces = [corners[:1]]
    for start, stop in pairwise(corners):
        angle = float(angle_between(start, stop))
        steps = int(np.ceil(angle / spacing))
        if not steps or np.pi - angle < 1e-9:  # no one arc leads to the antipode
            pieces.append(stop[None])
            continue
        share = np.arange(1, steps + 1)[:, None] / steps
        arc = np.sin((1 - share) * angle) * start + np.sin(share * angle) * stop
        pieces.append(arc / np.sin(angle))
    return np.concatenate(pieces)


def _fill_intervals(rows: Ints, low: Ints, count: Ints, width: int, height: int) -> Mask:
    """The mask of intervals of columns that begin at `low` (of any turn) and may cross the seam."""
    mask = np.zeros((height, width), bool)
    if not rows.size:
        return mask
    low = low % width
    over = np.maximum(low + count - width, 0)  # columns past the seam
    wraps = over > 0
    rows = np.concatenate([rows, rows[wraps]])
    starts = np.concatenate([low, np.zeros(int(wraps.sum()), np.int64)])
    stops = np.concatenate([low + count - over, over[wraps]])
    v0, v1 = int(rows.min()), int(rows.max()) + 1
    ends = np.zeros((v1 - v0, width + 1), np.int32)
    np.add.at(ends, (rows - v0, starts), 1)
    np.add.at(ends, (rows - v0, stops), -1)
    np.greater(np.cumsum(ends[:, :-1], axis=1, out=ends[:, :-1]), 0, out=mask[v0:v1])
    return mask


def fill_polygon(corners: LonLatPath, width: int, height: int) -> Mask:
    """The pixels inside a polygon on the sphere, on the side that is the smaller one.

    Args:
        corners: Three or more; neighbours are not antipodes of each other.
        width, height: Of the panorama, pixels.

    Returns:
        The mask, bool H×W. A polygon that crosses itself is filled by the even-odd rule.
    """
    sides = list(_crossings(corners, width, height))
    v0 = min((int(rows.min()) for _, rows in sides), default=height)
    v1 = max((int(rows.max()) for _, rows in sides), default=height)
    mask = np.zeros((height, width), bool)
    if v0 >= height:
        return mask
    crossed = np.zeros((min(v1, height - 1) - v0 + 2, width), bool)
    for columns, rows in sides:
        crossed[rows - v0, columns] ^= True  # the columns of one side are distinct
    for row in range(1, len(crossed)):
        crossed[row] ^= crossed[row - 1]
    last = min(v1, height - 1) + 1
    mask[v0:last] = crossed[: last - v0]
    mask[last:] = crossed[last - v0 - 1]
    area = float(np.count_nonzero(mask, axis=1) @ row_area_sr(width, height))
    return ~mask if area > 2 * np.pi else mask


def _crossings(corners: LonLatPath, width: int, height: int) -> Iterator[tuple[Ints, Ints]]:
    """For each side: the columns whose meridian it crosses, and the first row below that."""
    index = np.round(edge_to_index(lon_edge(corners[:, 0], width)) * _GRID) / _GRID
    lat = np.clip(corners[:, 1], -_MAX_LAT, _MAX_LAT)
    for k in range(len(corners)):
        start, stop = index[k - 1], index[k]
        stop += width * np.round((start - stop) / width)  # the short way around
        low, high = sorted((start, stop))
        columns = np.arange(np.ceil(low), np.ceil(high))
        if not columns.size:
            continue
        if high - low == width / 2:
            stop += np.sign(start - stop) / _GRID  # over a pole: a hair beside it
        to_lon = 2 * np.pi / width
        slope = np.tan(lat[k - 1]) * np.sin((stop - columns) * to_lon)
        slope += np.tan(lat[k]) * np.sin((columns - start) * to_lon)
        phi = np.arctan(slope / np.sin((stop - start) * to_lon))
        below = np.floor(edge_to_index(lat_edge(phi, height))).astype(np.int64) + 1
        yield columns.astype(np.int64) % width, np.clip(below, 0, height)


def sphere_parts(mask: Mask) -> tuple[Int32[np.ndarray, "height width"], int]:
    """The connected parts of a mask (8 neighbours), across the seam and over the poles.

    Returns:
        A map with 0 outside and 1 … n on the parts, the largest first; and n.
    """
    width = mask.shape[1]
    count, pieces = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    parent = np.arange(count)

    def root(k: int) -> int:
        while parent[k] != k:
            k = int(parent[k])
        return k

    last, first = pieces[:, -1], pieces[:, 0]
    seam = [(last, first), (last[1:], first[:-1]), (last[:-1], first[1:])]
    poles = [(pieces[row], np.roll(pieces[row], width // 2)) for row in (0, -1)]
    for a, b in (*seam, *poles):
        both = (a > 0) & (b > 0)
        for one, other in np.unique(np.stack([a[both], b[both]], axis=1), axis=0).tolist():
            parent[root(one)] = root(other)
    roots = np.array([root(k) for k in range(count)])
    sizes = np.bincount(roots[pieces.ravel()], minlength=count)
    sizes[0] = 0
    order = [int(k) for k in np.argsort(-sizes, kind="stable") if sizes[k]]
    number = np.zeros(count, np.int32)
    number[order] = np.arange(1, len(order) + 1)
    return number[roots][pieces], len(order)
