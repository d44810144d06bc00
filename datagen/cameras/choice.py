"""Where to stand: free places in a scene, and the set of them that sees most.

Rays over the whole sphere find them.

A panorama sees everything around it, so a frustum test is not enough. A candidate is free if (1)
nothing is closer than clearance_m; (2) few rays hit back faces of an object whose bounds contain
it; (3) indoors, nearly all rays hit.

Of the free places, the set that shows most is taken, greedily. A thing counts by the square root of
the rays that meet it, from where it shows best among the places taken. Many things count more than
one large one, and one that was shown well adds nothing. Surface that no place saw yet counts a
little, so that cameras spread. By surface alone they go where walls are long, to corners and
corridors, and by the area of things to windows. The sum is monotone and submodular, so greedy is
within 1 − 1/e of the best set (Nemhauser 1978). Everything follows from the seed; the order in
which candidates are evaluated does not matter.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from panoforge.core.geometry.poses import world_from_pano
from panoforge.core.sample.metadata import Pose, Vector
from panoforge.datagen.config.poses import FixedPose
from panoforge.datagen.config.render import CameraSettings, QualitySettings
from panoforge.datagen.geometry.surface import Layer, Surface, fibonacci_directions
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
VOXEL_WEIGHT = 0.01  # of a voxel of new surface, where a thing that one ray meets is 1
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


class _Shown:
    """What the places taken so far show."""

    def __init__(self) -> None:
        self._voxels: set[tuple[int, int, int]] = set()
        self._best: dict[int, float] = {}

    def gain(self, place: Place) -> float:
        """What one more place adds."""
        things = sum(
            max(0.0, rays**0.5 - self._best.get(thing, 0.0)) for thing, rays in place.rays.items()
        )
        return things + VOXEL_WEIGHT * len(place.seen - self._voxels)

    def add(self, place: Place) -> None:
        """Take a place."""
        self._voxels |= place.seen
        for thing, rays in place.rays.items():
            self._best[thing] = max(rays**0.5, self._best.get(thing, 0.0))


def choose_poses(
    surface: Surface,
    regions: Sequence[Region],
    indoor: bool,
    camera: CameraSettings,
    quality: QualitySettings,
    count: int,
    seed: int,
    shell: frozenset[int] = frozenset(),
) -> list[Pose]:
    """Up to `count` poses in the order of preference.

    Raises RejectedScene("no_place") when nowhere is free. A house has a region per room: a room
    that no chosen place sees adds the most, so rooms take turns. `shell` are the numbers of the
    things that make up rooms and ground.
    """
    heading_rng = np.random.default_rng([seed, 2])
    places: list[Place] = []
    refused: Counter[str] = Counter()
    for number, region in enumerate(regions):
        place_rng = np.random.default_rng([seed, 1, number] if number else [seed, 1])
        found, not_free = free_places(
            surface,
            candidates(region, camera, place_rng, surface),
            indoor,
            camera.clearance_m,
            quality,
            shell,
        )
        places += found
        refused.update(not_free)
    if not places:
        raise RejectedScene(
            "no_place", f"none of {CANDIDATES * len(regions)} places is free: {dict(refused)}"
        )
    chosen = (
        greedy_coverage(places, count)
        if camera.choose == "coverage"
        else list(range(min(count, len(places))))
    )
    return [make_pose(places[index], camera, heading_rng) for index in chosen]


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


def greedy_coverage(places: list[Place], count: int) -> list[int]:
    """Indices of up to `count` places, each adding the most to what those before it show.

    Ties go to the larger clearance, then to the lower index.
    """
    shown, left, chosen = _Shown(), list(range(len(places))), list[int]()
    while left and len(chosen) < count:
        best = max(left, key=lambda i: (shown.gain(places[i]), places[i].clearance_m, -i))
        chosen.append(best)
        left.remove(best)
        shown.add(places[best])
    return chosen


def make_pose(place: Place, camera: CameraSettings, rng: np.random.Generator) -> Pose:
    """A pose at `place` with a uniform yaw.

    Where the config asks for it, with a small pitch and roll.
    """
    yaw = float(rng.uniform(-180, 180))
    pitch, roll = (float(angle) for angle in rng.uniform(-camera.tilt_deg, camera.tilt_deg, 2))
    rotation = world_from_pano(yaw, pitch, roll)
    x, y, z = (float(value) for value in place.position)
    return Pose(
        position_m=(x, y, z),
        yaw_deg=yaw,
        pitch_deg=pitch,
        roll_deg=roll,
        world_from_pano=matrix_rows(rotation),
        clearance_m=place.clearance_m,
    )


def fixed_pose(pose: FixedPose, surface: Surface) -> Pose:
    """A pose that the user gave, with the clearance it has."""
    position = (pose.x_m, pose.y_m, pose.z_m)
    clearance = surface.clearance_m(np.array(position))
    return Pose(
        position_m=position,
        yaw_deg=pose.yaw_deg,
        pitch_deg=pose.pitch_deg,
        roll_deg=pose.roll_deg,
        world_from_pano=matrix_rows(world_from_pano(pose.yaw_deg, pose.pitch_deg, pose.roll_deg)),
        clearance_m=clearance if np.isfinite(clearance) else None,
    )


def matrix_rows(matrix: Iterable[Iterable[float]]) -> tuple[Vector, Vector, Vector]:
    """A 3×3 array as plain tuples of rows."""
    a, b, c = ((float(x), float(y), float(z)) for x, y, z in matrix)
    return a, b, c
