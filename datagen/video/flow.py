"""Exact motion of what pixels show, from depth, the cameras' poses and the things' rigid motion.

A pixel's point is its depth along its ray. It moves with its thing, and its direction from the
other frame's camera is its place there. No vector pass of a renderer takes part: those are of a
moving shutter, of half floats, and of one direction.

Whether the point is seen from there a ray tells: towards it, through what stands still and what
moves, as it is in that frame. The other frame's pixels could not: a lamp's wire passes between
them. That is two rays a pixel and frame, some 5 µs each (bench/video_cost.py).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from panoforge.core.geometry.sphere import direction_to_pixel, pixel_to_direction
from panoforge.core.sample.flow import HIDDEN, UNKNOWN, VISIBLE, Flow, shorter_way
from panoforge.core.sample.metadata import Pose
from panoforge.datagen.video.world import MovingWorld

SKY_M = 1e5
SAME_THERE_M = 9e-4  # less than a millimetre, which is what is promised


@dataclass(frozen=True)
class FrameView:
    """What a frame shows: numbers of things int32 (H, W), depth float32 (H, W) in metres."""

    frame: int
    pose: Pose
    index: NDArray[np.int32]
    depth_m: NDArray[np.float32]


def flow_between(here: FrameView, there: FrameView, world: MovingWorld) -> Flow:
    """Where the pixels of `here` lie in `there`, and which of them are seen there."""
    height, width = here.index.shape
    u, v = np.arange(width), np.arange(height)[:, None]
    ways = pixel_to_direction(u[None, :], v, width, height) @ np.array(here.pose.world_from_pano).T
    at, to = np.array(here.pose.position_m), np.array(there.pose.position_m)
    sky = ~np.isfinite(here.depth_m)
    points = at + np.where(sky, 1.0, here.depth_m)[..., None].astype(np.float64) * ways
    for number, mover in world.movers.items():
        mine = here.index == number
        if mine.any():
            points[mine] = mover.track.moved(points[mine], here.frame, there.frame)
    towards = np.where(sky[..., None], ways, points - to) @ np.array(there.pose.world_from_pano)
    column, row = direction_to_pixel(towards, width, height)
    unknown = np.isin(here.index, list(world.deformers))
    gone = [k for k, mover in world.movers.items() if not mover.present[there.frame]]
    ask = ~unknown & ~np.isin(here.index, gone)
    target = np.where(sky[..., None], to + SKY_M * ways, points)[ask]
    seen = world.seen(to, target, there.frame)
    doubt = ~seen & ~sky[ask]
    seen[doubt] = _exactly_seen(world, here, there, ways[ask][doubt], here.index[ask][doubt])
    state = np.full((height, width), HIDDEN, np.uint8)
    state[ask] = np.where(seen, VISIBLE, HIDDEN)
    state[unknown] = UNKNOWN
    displacement = np.stack([shorter_way(column - u, width), row - v], axis=-1)
    displacement[unknown] = np.nan
    return Flow(displacement.astype(np.float32), state)


def _exactly_seen(
    world: MovingWorld,
    here: FrameView,
    there: FrameView,
    ways: NDArray[np.float64],
    numbers: NDArray[np.int32],
) -> NDArray[np.bool_]:
    """Whether the points that rays (N, 3) of one frame meet are seen in the other, (N,).

    By the triangles themselves: depth as rendered is single precision, and where a surface is met
    at a grazing angle that is enough to put a point behind it.
    """
    at, to = np.array(here.pose.position_m), np.array(there.pose.position_m)
    seen = np.zeros(len(ways), bool)
    for place, (way, number) in enumerate(zip(ways, numbers.tolist(), strict=True)):
        met = world.first_hit(at, way, np.inf, here.frame)
        if met is None or met[1] != number:
            continue
        point = at + met[0] * way
        if number in world.movers:
            track = world.movers[number].track
            point = track.moved(point[None], here.frame, there.frame)[0]
        length = float(np.linalg.norm(point - to))
        again = world.first_hit(to, (point - to) / length, length + SAME_THERE_M, there.frame)
        seen[place] = again is not None and (
            again[1] == number and again[0] >= length - SAME_THERE_M
        )
    return seen
