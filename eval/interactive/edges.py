"""Masks that follow colours and edges, without weights.

What `pano serve` has before anybody has a checkpoint.

What it is: GrabCut (Rother et al. 2004, OpenCV's) on a perspective view around the clicks or the
box, so that seam and poles are places like any other. It parts what is coloured like the inside
from what is coloured like the rest, along strong edges. What it is not: a model. It does not know
what things are, it sees one view of 90° at 288², and a thing of several colours takes several
clicks, or a box.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from panoforge.core.geometry.pixels import edge_to_index, index_to_edge
from panoforge.core.geometry.sphere import (
    View,
    angle_between,
    direction_to_lonlat,
    direction_to_view_pixel,
    lonlat_to_direction,
    pixel_to_direction,
)
from panoforge.core.geometry.views import sample_view, wrap_panorama
from panoforge.core.types import Floats, Mask, Rgb
from panoforge.eval.interactive.clicks import SphereClick

VIEW_PX, VIEW_DEG, WORK_PX = 288, 90.0, 2048
REACH_DEG = 25.0  # how far from a click it looks for the thing
TOUCH_DEG = 1.0  # what surely belongs to a click
GROUP_DEG = 30.0  # clicks that one view holds
_ROUNDS, _SEED, _ROWS = 3, 0, 64
_DEEP = 0.6  # of the greatest distance from a box's outline


class EdgeFollower:
    """One panorama, uint8 H×W×3, ready to be asked."""

    words = "colours and edges (GrabCut), no model: one view around the clicks, no idea of things"

    def __init__(self, rgb: Rgb) -> None:
        self._height, self._width = rgb.shape[:2]
        small = rgb
        if self._width > WORK_PX:
            small = cv2.resize(rgb, (WORK_PX, WORK_PX // 2), interpolation=cv2.INTER_AREA)
        self._small = wrap_panorama(np.ascontiguousarray(small))

    def held_bytes(self) -> int:
        """The picture's, at the size that is worked on."""
        return self._small.data.nbytes

    def mask(self, clicks: Sequence[SphereClick]) -> Mask:
        """The mask of clicks, bool H×W; empty if none is on the thing."""
        on = [_direction(click) for click in clicks if click.positive]
        off = [_direction(click) for click in clicks if not click.positive]
        soft = self._nothing()
        for group in _groups(on):
            view = _view_at(np.mean(group, axis=0))
            trimap = np.full((VIEW_PX, VIEW_PX), cv2.GC_BGD, np.uint8)
            for reach, value, places in (
                (REACH_DEG, cv2.GC_PR_BGD, group),
                (REACH_DEG / 2, cv2.GC_PR_FGD, group),
                (TOUCH_DEG, cv2.GC_BGD, off),
                (TOUCH_DEG, cv2.GC_FGD, group),
            ):
                _dab(trimap, places, view, reach, value)
            np.maximum(soft, self._laid_back(self._cut(trimap, view, group), view), out=soft)
        return self._whole(soft)

    def mask_in(self, region: Mask) -> Mask:
        """The mask of what a region, bool H×W, is drawn around."""
        v, u = np.nonzero(region[:: max(1, self._height // 256), :: max(1, self._width // 512)])
        v, u = v * max(1, self._height // 256), u * max(1, self._width // 512)
        if not v.size:
            return np.zeros_like(region)
        directions = pixel_to_direction(u, v, self._width, self._height)
        view = _view_at(directions.mean(axis=0))
        inside = sample_view(
            wrap_panorama(_shrunk(region, self._small.width)), view, labels=True
        ).astype(bool)
        trimap = np.where(inside, np.uint8(cv2.GC_PR_FGD), np.uint8(cv2.GC_BGD))
        if not inside.any() or inside.all():
            return np.zeros_like(region)
        found = self._cut(trimap.copy(), view, ())
        if not found.any():  # nothing stands out: what is deep inside is the thing then
            depth = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, 3)
            trimap[depth >= _DEEP * depth.max()] = cv2.GC_FGD
            found = self._cut(trimap, view, ())
        return self._whole(self._laid_back(found, view))

    def towards(self, lon_deg: float, lat_deg: float) -> None:
        """It is ready for clicks everywhere."""

    def let_go(self) -> None:
        """Nothing is kept elsewhere."""

    def _cut(self, trimap: np.ndarray, view: View, on: Sequence[Floats]) -> Mask:
        """The foreground of the view; only the parts that a click is on, if there are clicks."""
        cv2.setRNGSeed(_SEED)
        picture = sample_view(self._small, view)
        cv2.grabCut(
            picture,
            trimap,
            None,
            np.zeros((1, 65)),
            np.zeros((1, 65)),
            _ROUNDS,
            cv2.GC_INIT_WITH_MASK,
        )
        mask = (trimap & 1).astype(np.uint8)  # GC_FGD and GC_PR_FGD are odd
        if not on:
            return mask.astype(bool)
        _, parts = cv2.connectedComponents(mask, connectivity=4)
        x, y, inside = direction_to_view_pixel(np.array(on), view)
        clicked = parts[np.rint(y[inside]).astype(int), np.rint(x[inside]).astype(int)]
        return np.isin(parts, clicked[clicked > 0])

    def _laid_back(self, mask: Mask, view: View) -> np.ndarray:
        """A view's mask on the small panorama, float32: how much of each pixel it covers."""
        soft = self._nothing()
        height, width = soft.shape
        source = mask.astype(np.float32)
        for v0 in range(0, height, _ROWS):
            rows = np.arange(v0, min(v0 + _ROWS, height))[:, None]
            directions = pixel_to_direction(np.arange(width)[None], rows, width, height)
            x, y, inside = direction_to_view_pixel(directions, view)
            if inside.any():
                seen = cv2.remap(
                    source, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR
                )
                soft[v0 : v0 + _ROWS] = np.where(inside, seen, 0)
        return soft

    def _nothing(self) -> np.ndarray:
        return np.zeros((self._small.height, self._small.width), np.float32)

    def _whole(self, soft: np.ndarray) -> Mask:
        """The mask of the panorama's own size."""
        if soft.shape == (self._height, self._width):
            return soft > 1 / 2
        wrapped = np.concatenate([soft[:, -2:], soft, soft[:, :2]], axis=1)
        scale_x, scale_y = self._width / soft.shape[1], self._height / soft.shape[0]
        u = index_to_edge(np.arange(self._width)) / scale_x + 2
        v = index_to_edge(np.arange(self._height)) / scale_y
        out = np.empty((self._height, self._width), bool)
        columns = np.broadcast_to(_indices(u)[None], (1, self._width))
        for v0 in range(0, self._height, 512):
            rows = _indices(v[v0 : v0 + 512])[:, None]
            grid = np.broadcast_arrays(columns, rows)
            found = cv2.remap(
                wrapped,
                np.ascontiguousarray(grid[0]),
                np.ascontiguousarray(grid[1]),
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )
            out[v0 : v0 + 512] = found > 1 / 2
        return out


def _indices(edges: Floats) -> np.ndarray:
    return edge_to_index(edges).astype(np.float32)


def _direction(click: SphereClick) -> Floats:
    return lonlat_to_direction(np.radians(click.lon_deg), np.radians(click.lat_deg))


def _groups(directions: Sequence[Floats]) -> list[list[Floats]]:
    """Clicks that are near each other, together."""
    groups: list[list[Floats]] = []
    for direction in directions:
        for group in groups:
            if np.degrees(angle_between(group[0], direction)) <= GROUP_DEG:
                group.append(direction)
                break
        else:
            groups.append([direction])
    return groups


def _view_at(direction: Floats) -> View:
    """The view that has a direction in its middle."""
    lon, lat = direction_to_lonlat(direction / np.linalg.norm(direction))
    return View(float(np.degrees(lon)), float(np.degrees(lat)), VIEW_DEG, VIEW_PX)


def _dab(
    trimap: np.ndarray, places: Sequence[Floats], view: View, radius_deg: float, value: int
) -> None:
    """Put a value around places, where the view sees them.

    On the sphere it would be no circle; a beginning for GrabCut need not be one.
    """
    radius = int(np.ceil(np.tan(np.radians(radius_deg)) * view.focal_px))
    for place in places:
        x, y, inside = direction_to_view_pixel(place, view)
        if inside:
            cv2.circle(trimap, (round(float(x)), round(float(y))), radius, value, cv2.FILLED)


def _shrunk(region: Mask, width: int) -> np.ndarray:
    if region.shape[1] == width:
        return region.astype(np.uint8)
    size = (width, width // 2)
    return cv2.resize(region.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
