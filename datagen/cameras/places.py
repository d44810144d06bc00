"""Where a camera may stand: places of a region, and which of them are free.

Rays over the whole sphere tell. A panorama sees everything around it, so a frustum test is not
enough. A candidate is free if (1) nothing is closer than clearance_m; (2) few rays hit back faces
of an object whose bounds contain it; (3) indoors, nearly all rays hit.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from panoforge.core.geometry.sphere import fibonacci_directions
from panoforge.datagen.config.render import CameraSettings, QualitySettings
from panoforge.datagen.geometry.surface import Layer, Surface
from panoforge.datagen.rendering.quality import RejectedScene
from panoforge.datagen.scene.scene import Region

CANDIDATES = 96
STEP_M = 0.3  # a floor's slab may lie so far above the ground that a file has below its house
GROUND_DRAWS = 8  # how often a place is drawn per candidate: an L-shaped room fills half its box
RAYS = 640
VOXEL_M = 0.25
MAX_BACKFACING_ANYWHERE = (
    0.3  # beyond it the camera is outside of the room, or in a hollow of many things
)
MIN_ENCLOSED = 0.9  # share of rays that end on a surface, indoors


@dataclass(frozen=True)
class Place:
    """A free place.

    `position` (3,) in metres, the voxels of surface that it sees, and how many of its RAYS meet
    each thing, by number.
    """

    position: NDArray[np.float64]
    clearance_m: float
    seen: frozenset[tuple[int, int, int]]
    rays: Mapping[int, int]


def candidates(
    region: Region, camera: CameraSettings, rng: np.random.Generator, surface: Surface
) -> NDArray[np.float64]:
    """(N, 3) points in the region: at eye height above its floor, or anywhere in it for `free`.

    CANDIDATES of them, or as many as lie above the region's ground.
    """
    if region.ground is None:
        low, high = _heights(region, camera, region.floor_z)
        return _spread(region, low, high, rng.random((CANDIDATES, 3)))
    points: list[NDArray[np.float64]] = []
    for draw in rng.random((GROUND_DRAWS * CANDIDATES, 3)):
        x, y, _ = _spread(region, 0.0, 0.0, draw[None])[0]
        ground = ground_height(surface.column(x, y), region.ground, camera.eye_height_m[1])
        if ground is not None:
            points.append(_spread(region, *_heights(region, camera, ground), draw[None])[0])
        if len(points) == CANDIDATES:
            break
    return np.array(points).reshape(-1, 3)


def _heights(region: Region, camera: CameraSettings, floor_z: float) -> tuple[float, float]:
    """The lowest and highest z of a camera above a floor there, metres."""
    ceiling = region.high[2]
    if camera.placement == "free":
        return floor_z + camera.clearance_m, ceiling - camera.clearance_m
    lowest, highest = (floor_z + height for height in camera.eye_height_m)
    return lowest, highest if region.ground is not None else min(highest, ceiling)


def _spread(region: Region, bottom: float, top: float, draws: NDArray) -> NDArray[np.float64]:
    """Draws (N, 3) from the unit cube, spread over the region from `bottom` to `top`."""
    low, high = np.array([*region.low[:2], bottom]), np.array([*region.high[:2], top])
    spread: NDArray[np.float64] = low + draws * np.maximum(high - low, 0)
    return spread


def ground_height(
    column: Sequence[Layer], ground: tuple[int, ...], headroom_m: float
) -> float | None:
    """The height that one stands at on a plumb line; None if not above the ground.

    Args:
        column: What the line meets, from the top down.
        ground: The things that are ground: the highest layer of them counts. Empty: the lowest
            layer that faces up, if any does, with `headroom_m` free above it. What is more than a
            step above the lowest such layer is furniture or a roof: nobody stands there.
        headroom_m: Metres.
    """
    if ground:
        return next((layer.z_m for layer in column if layer.index in ground), None)
    above, free = np.inf, []
    for layer in column:
        if above - layer.z_m > headroom_m:
            free.append(layer)
        above = layer.z_m
    # Normals of others' files may be wrong: then every layer may be a floor.
    floors = [layer for layer in column if layer.faces_up] or list(column)
    found = min((layer.z_m for layer in free if layer in floors), default=None)
    if found is None or found - min(layer.z_m for layer in floors) > STEP_M:
        return None
    return found


def anywhere(surface: Surface) -> Region:
    """The box around everything that a camera can see; whatever faces up is its ground.

    RejectedScene if there is nothing.
    """
    seen = np.isfinite(surface.low).all(axis=1)
    if not seen.any():
        raise RejectedScene("no_place", "nothing in the scene can be seen by a camera")
    x0, y0, z0 = (float(value) for value in surface.low[seen].min(axis=0))
    x1, y1, z1 = (float(value) for value in surface.high[seen].max(axis=0))
    return Region((x0, y0, z0), (x1, y1, z1), z0, ground=())


def free_places(
    surface: Surface,
    points: NDArray,
    indoor: bool,
    clearance_m: float,
    quality: QualitySettings,
    shell: frozenset[int] = frozenset(),
) -> tuple[list[Place], dict[str, int]]:
    """The free ones of `points` (N, 3), in order, and how many were refused for what."""
    directions = fibonacci_directions(RAYS)
    places, refused = [], {"clearance": 0, "inside": 0, "open": 0}
    for point in points:
        clearance = surface.clearance_m(point)
        if clearance < clearance_m:
            refused["clearance"] += 1
            continue
        hits = surface.cast(point, directions)
        within = hits.backface & surface.around(point)[hits.index]
        if within.mean() > quality.max_backfacing or hits.backface.mean() > MAX_BACKFACING_ANYWHERE:
            refused["inside"] += 1
        elif indoor and (hits.index > 0).mean() < MIN_ENCLOSED:
            refused["open"] += 1
        else:
            met = np.isfinite(hits.distance_m)
            voxels = np.floor(
                (point + directions[met] * hits.distance_m[met, None]) / VOXEL_M
            ).astype(int)
            met_things = hits.index[met & ~np.isin(hits.index, list(shell))]
            places.append(
                Place(
                    point,
                    clearance,
                    frozenset(map(tuple, voxels.tolist())),
                    dict(sorted(Counter(met_things.tolist()).items())),
                )
            )
    return places, refused
