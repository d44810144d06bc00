"""Small videos with known answers: a cap goes around the sphere, over the seam, behind another.

The camera stands still and turns, so that flow follows from directions alone.
"""

from pathlib import Path

import numpy as np

from panoforge.core.geometry.poses import world_from_pano
from panoforge.core.geometry.sphere import (
    angle_between,
    direction_to_pixel,
    lonlat_to_direction,
    pixel_to_direction,
)
from panoforge.core.names import frame_key
from panoforge.core.sample.flow import HIDDEN, VISIBLE, Flow, shorter_way
from panoforge.core.sample.instance_table import InstanceLabel, instance_table
from panoforge.core.sample.metadata import FrameOfVideo, Pose, SampleMeta
from panoforge.core.sample.video import (
    InstanceTrack,
    ThingPose,
    VideoMeta,
    comings_and_goings,
)
from panoforge.core.shards.write import PackOptions, pack
from panoforge.core.storage.staged import write_staged

FPS, TURN_DEG, STEP_DEG, RADIUS = 10.0, 4.0, 12.0, 0.25
WALL, STILL, MOVING = 1, 2, 3
NAMES = {WALL: "wall", STILL: "pillar", MOVING: "ball"}
DISTANCE_M = {WALL: 4.0, STILL: 2.0, MOVING: 3.0}
RIGHT = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def pose(frame: int) -> Pose:
    """Where a frame was taken from: one place, and a turn."""
    yaw = TURN_DEG * frame
    a, b, c = (tuple(map(float, row)) for row in world_from_pano(yaw, 0.0, 0.0))
    return Pose(position_m=(0.0, 0.0, 1.5), yaw_deg=yaw, world_from_pano=(a, b, c))


def centre(frame: int) -> np.ndarray:
    """The direction of the ball, in the world."""
    return lonlat_to_direction(np.radians(140 + STEP_DEG * frame), 0.1)


def labels(frame: int, width: int, frames: int) -> np.ndarray:
    """Ids of a frame: a wall, a pillar on it that hides the ball on its way."""
    height = width // 2
    ways = pixel_to_direction(np.arange(width)[None], np.arange(height)[:, None], width, height)
    world = ways @ np.array(pose(frame).world_from_pano).T
    ids = np.full((height, width), WALL, np.uint16)
    ids[angle_between(world, centre(frame)) < RADIUS] = MOVING
    hiding = lonlat_to_direction(np.radians(140 + STEP_DEG * (frames // 2)), 0.1)
    ids[angle_between(world, hiding) < 1.5 * RADIUS] = STILL
    return ids


def stage_video(
    staged: Path, scene: int, video: int = 0, frames: int = 5, width: int = 128
) -> list[str]:
    """Stage one such video and return the keys of its frames."""
    height = width // 2
    maps = [labels(frame, width, frames) for frame in range(frames)]
    pixels = {id_: tuple(int((ids == id_).sum()) for ids in maps) for id_ in NAMES}
    turns = [np.array(pose(frame).world_from_pano) for frame in range(frames)]
    tracks = []
    for id_, name in NAMES.items():
        entered, left = comings_and_goings(pixels[id_])
        poses = [ThingPose(position_m=(0.0, 0.0, 0.0), world_from_rest=RIGHT)]
        if id_ == MOVING:
            places = (centre(frame) * DISTANCE_M[MOVING] for frame in range(frames))
            poses = [
                ThingPose(position_m=tuple(map(float, place)), world_from_rest=RIGHT)
                for place in places
            ]
        tracks.append(
            InstanceTrack(
                id=id_,
                name=name,
                category=name,
                source_object=name,
                motion="rigid" if id_ == MOVING and frames > 1 else "still",
                poses=tuple(poses[:frames]),
                visibility=tuple(0.5 if count else 0.0 for count in pixels[id_]),
                pixels=pixels[id_],
                entered=entered,
                left=left,
            )
        )
    meta_of_video = VideoMeta(
        fps=FPS,
        frames=frames,
        width=width,
        height=height,
        poses=tuple(pose(frame) for frame in range(frames)),
        instances=tuple(tracks),
    )
    keys = []
    for frame, ids in enumerate(maps):
        depth = np.vectorize(DISTANCE_M.__getitem__)(ids).astype(np.float32)
        rng = np.random.default_rng([scene, video])  # one texture: frames differ by their motion
        rgb = rng.integers(0, 255, (4, 3)).astype(np.uint8)[ids] + np.uint8(frame)
        arrays = {"rgb.jpg": rgb, "instance.zst": ids, "depth.delta.zst": depth}
        for way, step in (("forward", 1), ("backward", -1)):
            if 0 <= frame + step < frames:
                flow = _flow(ids, maps[frame + step], turns, frame, step)
                arrays[f"flow_{way}.delta.zst"] = flow.codes()
        meta = SampleMeta(
            key=frame_key(f"turns-{scene:06d}-v{video}", frame),
            width=width,
            height=height,
            source="synthetic/turns",
            scene=f"turns-{scene:06d}",
            seed=scene,
            camera=video,
            video=FrameOfVideo(frame=frame, frames=frames, fps=FPS),
            pose=meta_of_video.poses[frame],
            products=tuple(sorted(arrays)),
            instances=instance_table(ids, {i: InstanceLabel(n, n, n) for i, n in NAMES.items()}),
            config_sha256="0" * 64,
            versions={"panoforge": "test"},
        )
        write_staged(staged, meta, arrays, video=meta_of_video)
        keys.append(meta.key)
    return keys


def _flow(
    ids: np.ndarray, others: np.ndarray, turns: list[np.ndarray], frame: int, step: int
) -> Flow:
    """The flow of a frame; the ball goes around the vertical, and is what is hidden."""
    height, width = ids.shape
    u, v = np.arange(width)[None], np.arange(height)[:, None]
    world = pixel_to_direction(u, v, width, height) @ turns[frame].T
    moved = world @ world_from_pano(STEP_DEG * step, 0.0, 0.0).T
    there = np.where((ids == MOVING)[..., None], moved, world) @ turns[frame + step]
    column, row = direction_to_pixel(there, width, height)
    at = others[
        np.clip(np.rint(row).astype(int), 0, height - 1), np.rint(column).astype(int) % width
    ]
    displacement = np.stack([shorter_way(column - u, width), row - v], axis=-1)
    state = np.where(at == ids, VISIBLE, HIDDEN).astype(np.uint8)
    return Flow(displacement.astype(np.float32), state)


def dataset_of_videos(
    folder: Path,
    scenes: int = 3,
    videos: int = 1,
    frames: int = 5,
    width: int = 128,
    options: PackOptions = PackOptions(),
) -> Path:
    """A published dataset of such videos at `folder`/dataset."""
    for scene in range(scenes):
        for video in range(videos):
            stage_video(folder / "staged", scene, video, frames, width)
    pack(folder / "staged", folder / "dataset", options)
    return folder / "dataset"
