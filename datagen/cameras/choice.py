"""Which of the free places: the set of them that shows most, and the poses there.

The set is taken greedily. A thing counts by the square root of the rays that meet it, from where it
shows best among the places taken. Many things count more than one large one, and one that was shown
well adds nothing. Surface that no place saw yet counts a little, so that cameras spread. By surface
alone they go where walls are long, to corners and corridors, and by the area of things to windows.
The sum is monotone and submodular, so greedy is within 1 − 1/e of the best set (Nemhauser 1978).
Everything follows from the seed; the order in which candidates are evaluated does not matter.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from panoforge.core.geometry.poses import world_from_pano
from panoforge.core.sample.metadata import Pose, Vector
from panoforge.datagen.cameras.places import CANDIDATES, Place, candidates, free_places
from panoforge.datagen.config.poses import FixedPose
from panoforge.datagen.config.render import CameraSettings, QualitySettings
from panoforge.datagen.geometry.surface import Surface
from panoforge.datagen.rendering.quality import RejectedScene
from panoforge.datagen.scene.scene import Region

VOXEL_WEIGHT = 0.01  # of a voxel of new surface, where a thing that one ray meets is 1


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
