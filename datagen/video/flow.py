"""Exact motion of what pixels show, from depth, the cameras' poses and the things' rigid motion.

A pixel's point is its depth along its ray. It moves with its thing, and its direction from the
other frame's camera is its place there. No vector pass of a renderer takes part: those are of a
moving shutter, of half floats, and of one direction.

Whether the point is seen from there is asked of the other frame first. Where all pixels around the
place show the same thing at the same distance, no other surface is before it. Everywhere else a ray
tells: towards the point, through what stands still and what moves as it is in that frame.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from panoforge.core.geometry.sphere import direction_to_pixel, pixel_to_direction
from panoforge.core.sample.flow import HIDDEN, UNKNOWN, VISIBLE, Flow, shorter_way
from panoforge.core.sample.metadata import Pose
from panoforge.datagen.video.world import MovingWorld

SURE_RELATIVE = 2e-3  # of the distance: the surface around a place is the point's own
REACH = (-1, 0, 1, 2)  # pixels around a place, along either axis


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
    distance = np.where(sky, np.inf, np.linalg.norm(points - to, axis=-1))
    column, row = direction_to_pixel(towards, width, height)
    unknown = np.isin(here.index, list(world.deformers))
    gone = [k for k, mover in world.movers.items() if not mover.present[there.frame]]
    absent = np.isin(here.index, gone)
    state = np.full((height, width), HIDDEN, np.uint8)
    sure = _surely_seen(here.index, distance, column, row, there) & ~unknown & ~absent
    state[sure] = VISIBLE
    ask = ~sure & ~unknown & ~absent
    if ask.any():
        far = to + 1e5 * (towards[ask] @ np.array(there.pose.world_from_pano).T)
        target = np.where(sky[ask][:, None], far, points[ask])
        state[ask] = np.where(world.seen(to, target, there.frame), VISIBLE, HIDDEN)
    state[unknown] = UNKNOWN
    displacement = np.stack([shorter_way(column - u, width), row - v], axis=-1)
    displacement[unknown] = np.nan
    return Flow(displacement.astype(np.float32), state)


def _surely_seen(
    index: NDArray[np.int32],
    distance: NDArray[np.float64],
    column: NDArray[np.float64],
    row: NDArray[np.float64],
    there: FrameView,
) -> NDArray[np.bool_]:
    """Where all pixels around a place show the pixel's own thing, on one surface through it."""
    height, width = index.shape
    left, top = np.floor(column).astype(np.int64), np.floor(row).astype(np.int64)
    sure = (top + REACH[0] >= 0) & (top + REACH[-1] < height)
    rows = {dv: np.clip(top + dv, 0, height - 1) for dv in REACH}
    columns = {du: (left + du) % width for du in REACH}
    nearness: dict[tuple[int, int], NDArray[np.float64]] = {}
    for dv in REACH:
        for du in REACH:
            sure &= there.index[rows[dv], columns[du]] == index
            if dv in (0, 1) and du in (0, 1):
                nearness[du, dv] = 1.0 / there.depth_m[rows[dv], columns[du]].astype(np.float64)
    # Nearness, one over the distance, is all but linear from pixel to pixel on a flat surface.
    right, below = column - left, row - top
    upper = nearness[0, 0] * (1 - right) + nearness[1, 0] * right
    lower = nearness[0, 1] * (1 - right) + nearness[1, 1] * right
    here = upper * (1 - below) + lower * below
    spread = np.ptp(np.stack(list(nearness.values())), axis=0)
    with np.errstate(invalid="ignore"):
        off = np.abs(here * distance - 1)
        flat = spread * distance < 0.2
    same = (off < SURE_RELATIVE) & flat
    return sure & (same | ~np.isfinite(distance))
