"""A camera's walk through free space: smooth in position and rotation, clear of everything.

A path is a B-spline of control points one second apart. They are found by a random walk that goes
back a step where there is no way on. The spline is then checked along its whole length, in steps so
small that no surface between two of them can be nearer than the clearance. Things move meanwhile,
so distances are taken in the frames of that time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from panoforge.core.errors import UserError
from panoforge.core.geometry.poses import world_from_pano
from panoforge.core.sample.metadata import Pose
from panoforge.datagen.cameras.choice import fixed_pose, matrix_rows
from panoforge.datagen.cameras.places import ground_height
from panoforge.datagen.config.poses import FixedPose
from panoforge.datagen.config.render import CameraSettings
from panoforge.datagen.config.video import VideoCamera, VideoSettings
from panoforge.datagen.geometry.surface import Surface
from panoforge.datagen.rendering.quality import RejectedScene
from panoforge.datagen.scene.scene import Region
from panoforge.datagen.video.smooth import b_spline, controls_for, swaying, wandering
from panoforge.datagen.video.world import MovingWorld

INTERVAL_S = 1.0  # between control points
WAYS = 8  # that are tried from a control point before going back
STEPS = 3000  # tried for one walk, and then another one is drawn
WALKS = 12
TURN_DEG = 35.0  # standard deviation from one step to the next
MOST_TURN_DEG = 80.0
FINEST_M = 0.002  # a way whose clearance is not certain at this is refused


class PathBlocked(UserError):
    """A path that was asked for leads through something."""


def poses_of_file(
    rows: Sequence[FixedPose], world: MovingWorld, surface: Surface, names: Callable[[int], str]
) -> list[Pose]:
    """A camera's poses as the user gave them, one a frame.

    PathBlocked where the way from one to the next leads through a thing.
    """
    poses = [fixed_pose(row, surface) for row in rows]
    for frame in range(1, len(poses)):
        start, stop = (np.array(poses[frame + k].position_m) for k in (-1, 0))
        met = world.blocking(start, stop, frame)
        if met is not None:
            raise PathBlocked(
                f"video.camera.poses: the way from frame {frame - 1} to frame {frame} leads through"
                f" {names(met)!r}. A camera goes through free space: give it a way around, or"
                " leave poses out and it finds one"
            )
    return [
        pose.model_copy(update={"clearance_m": _clearance(world, pose, frame)})
        for frame, pose in enumerate(poses)
    ]


def _clearance(world: MovingWorld, pose: Pose, frame: int) -> float | None:
    found = world.nearest(np.array(pose.position_m), frame)[0]
    return float(found) if np.isfinite(found) else None


@dataclass(frozen=True)
class Bounds:
    """Where a walk may lead: a box, and the heights in it.

    `heights(x, y)` gives the lowest and highest z there, or None where one cannot stand.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    heights: Callable[[float, float], tuple[float, float] | None]


def bounds_of(regions: Sequence[Region], camera: CameraSettings, surface: Surface) -> Bounds:
    """The bounds of a scene's regions together."""
    low = np.min([region.low for region in regions], axis=0)
    high = np.max([region.high for region in regions], axis=0)

    def heights(x: float, y: float) -> tuple[float, float] | None:
        found = [
            span
            for region in regions
            if (span := _heights(region, camera, surface, x, y)) is not None
        ]
        return found[0] if found else None

    return Bounds(low, high, heights)


def _heights(
    region: Region, camera: CameraSettings, surface: Surface, x: float, y: float
) -> tuple[float, float] | None:
    floor: float | None = region.floor_z
    if region.ground is not None:
        ceiling = camera.eye_height_m[1]
        floor = ground_height(surface.column(x, y), region.ground, ceiling)
        if floor is None:
            return None
    assert floor is not None
    if camera.placement == "free":
        return floor + camera.clearance_m, region.high[2] - camera.clearance_m
    low, high = (floor + height for height in camera.eye_height_m)
    return low, high if region.ground is not None else min(high, region.high[2])


def walk(
    start: Pose,
    world: MovingWorld,
    bounds: Bounds,
    settings: VideoSettings,
    camera: CameraSettings,
    seed: Sequence[int],
) -> list[Pose]:
    """A pose for every frame, from where `start` stands.

    RejectedScene("no_place") where there is no walk from there that keeps its clearance.
    """
    times_s = np.arange(settings.frames) / settings.fps
    for attempt in range(WALKS):
        rng = np.random.default_rng([*seed, attempt])
        controls = _controls(
            np.array(start.position_m), world, bounds, settings, camera.clearance_m, rng
        )
        if controls is None:
            continue
        points = b_spline(controls, times_s / INTERVAL_S)
        if _is_clear(points, world, camera.clearance_m, settings) and _speeds_fit(points, settings):
            return _posed(points, times_s, world, settings.camera, start.yaw_deg, rng)
    raise RejectedScene(
        "no_place",
        f"none of {WALKS} walks from ({start.position_m[0]:.1f}, {start.position_m[1]:.1f},"
        f" {start.position_m[2]:.1f}) keeps {camera.clearance_m:g} m of clearance at"
        f" {settings.camera.speed_m_s[0]:g} to {settings.camera.speed_m_s[1]:g} m/s for"
        f" {settings.seconds:.1f} s",
    )


def _controls(
    start: NDArray[np.float64],
    world: MovingWorld,
    bounds: Bounds,
    settings: VideoSettings,
    clearance_m: float,
    rng: np.random.Generator,
) -> NDArray[np.float64] | None:
    """Control points (N, 3) of a walk; None if none was found within STEPS."""
    slow, fast = settings.camera.speed_m_s
    wanted = controls_for(settings.seconds, INTERVAL_S)
    path, headings, tried = [start], [rng.uniform(-np.pi, np.pi)], [0]
    for _ in range(STEPS):
        if len(path) == wanted:
            return np.array(path)
        if tried[-1] >= WAYS * (4 if len(path) == 1 else 1):
            if len(path) == 1:
                return None
            for stack in (path, headings, tried):
                stack.pop()
            continue
        tried[-1] += 1
        turn = np.radians(np.clip(rng.normal(0, TURN_DEG), -MOST_TURN_DEG, MOST_TURN_DEG))
        heading = headings[-1] + turn if len(path) > 1 else rng.uniform(-np.pi, np.pi)
        length = rng.uniform(min(1.2 * slow, fast), fast) * INTERVAL_S
        slope = rng.uniform(-0.35, 0.35)
        way = np.array(
            [
                np.sin(heading) * np.cos(slope),
                np.cos(heading) * np.cos(slope),
                np.sin(slope),
            ]
        )
        point = _within(path[-1] + length * way, bounds)
        if point is None or np.linalg.norm(point - path[-1]) > fast * INTERVAL_S:
            continue
        frame = min(int(len(path) * INTERVAL_S * settings.fps), settings.frames - 1)
        if _certain(path[-1], point, partial(_away, world, frame), clearance_m):
            path.append(point)
            headings.append(float(heading))
            tried.append(0)
    return None


def _away(world: MovingWorld, frame: int, point: NDArray[np.float64]) -> float:
    """The distance of a point to the nearest surface in a frame, metres."""
    return world.nearest(point, frame)[0]


def _within(point: NDArray[np.float64], bounds: Bounds) -> NDArray[np.float64] | None:
    """The point at a height that is allowed there; None outside of the bounds."""
    if (point[:2] < bounds.low[:2]).any() or (point[:2] > bounds.high[:2]).any():
        return None
    span = bounds.heights(float(point[0]), float(point[1]))
    if span is None or span[0] > span[1]:
        return None
    return np.array([point[0], point[1], np.clip(point[2], *span)])


def _certain(
    start: NDArray[np.float64],
    stop: NDArray[np.float64],
    nearest: Callable[[NDArray[np.float64]], float],
    clearance_m: float,
) -> bool:
    """Whether no surface is nearer than the clearance anywhere between two points.

    A point whose nearest surface is at d vouches for all within d less the clearance.
    """
    length = float(np.linalg.norm(stop - start))
    at = 0.0
    while True:
        spare = nearest(start + (stop - start) * (at / length if length else 0)) - clearance_m
        if spare < 0:
            return False
        if at >= length:
            return True
        at = min(length, at + max(spare, FINEST_M))


def _is_clear(
    points: NDArray[np.float64], world: MovingWorld, clearance_m: float, settings: VideoSettings
) -> bool:
    """Whether a path keeps its clearance between all frames, with things as in either of them."""
    last = len(points) - 1
    for frame in range(len(points)):
        stop = points[min(frame + 1, last)]
        for when in (frame, min(frame + 1, last)):
            if not _certain(points[frame], stop, partial(_away, world, when), clearance_m):
                return False
    return True


def _speeds_fit(points: NDArray[np.float64], settings: VideoSettings) -> bool:
    """Whether the speed from frame to frame stays within what is asked for."""
    if len(points) < 2:
        return True
    speeds = np.linalg.norm(np.diff(points, axis=0), axis=1) * settings.fps
    slow, fast = settings.camera.speed_m_s
    return bool((speeds >= slow - 1e-9).all() and (speeds <= fast + 1e-9).all())


def _posed(
    points: NDArray[np.float64],
    times_s: NDArray[np.float64],
    world: MovingWorld,
    camera: VideoCamera,
    yaw_deg: float,
    rng: np.random.Generator,
) -> list[Pose]:
    """Poses along a path: the heading wanders, and a shaken camera rolls and pitches."""
    yaw = yaw_deg + wandering(rng, times_s, camera.turn_deg_s)
    pitch, roll = np.zeros((2, len(times_s)))
    if camera.steady == "shaken":
        pitch, roll = (swaying(rng, times_s, camera.shake_deg) for _ in range(2))
    poses = []
    for frame, (x, y, z) in enumerate(points.tolist()):
        angles = ((float(yaw[frame]) + 180) % 360 - 180, float(pitch[frame]), float(roll[frame]))
        nearest = world.nearest(points[frame], frame)[0]
        poses.append(
            Pose(
                position_m=(x, y, z),
                yaw_deg=angles[0],
                pitch_deg=angles[1],
                roll_deg=angles[2],
                world_from_pano=matrix_rows(world_from_pano(*angles)),
                clearance_m=float(nearest) if np.isfinite(nearest) else None,
            )
        )
    return poses
