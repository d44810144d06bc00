"""360° videos of moving solids (bench.solids), staged in the product's video format.

    stage_videos(folder, count, seed)      staged frames, for pano pack

World A's solids all around a camera that walks and turns: a turn of up to 12° and a step of up to
6 cm a frame. Every other solid moves too, to and fro, by up to 20 cm a frame. Things hide one
another and come back; everything crosses the seam sooner or later, as the camera turns. Everything
is a function of (seed, number).
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.solid_worlds import WORLD_A, draw_scene, unit
from bench.solids import Scene, Solid, shoot
from panoforge.core.geometry.poses import world_from_pano
from panoforge.core.geometry.sphere import pixel_to_direction
from panoforge.core.names import frame_key
from panoforge.core.sample.instance_table import InstanceLabel, instance_table
from panoforge.core.sample.metadata import FrameOfVideo, Pose, SampleMeta
from panoforge.core.sample.video import InstanceTrack, VideoMeta, comings_and_goings
from panoforge.core.storage.staged import write_staged

WIDTH, FRAMES, FPS = 256, 16, 8.0
LANE = 7  # of the random streams: no other world's scenes


def stage_videos(folder: Path, count: int, seed: int) -> None:
    """Stage `count` videos of `FRAMES` frames; those that are there stay."""
    for number in range(count):
        if not (folder / frame_key(f"v-{number:05d}-v0", FRAMES - 1)).exists():
            stage_video(folder, seed, number)


def frames_of(
    seed: int, number: int
) -> tuple[list[Pose], list[NDArray[np.uint8]], list[NDArray[np.uint16]], list[Solid]]:
    """Poses, pictures (uint8 H×W×3) and ids (uint16 H×W, solid k is k + 1) of one video, and its
    solids."""
    rng = np.random.default_rng([seed, LANE, number])
    around = np.stack([unit(v) for v in rng.normal(size=(int(rng.integers(8, 14)), 3))])
    scene = draw_scene(WORLD_A, rng, around)
    reach = rng.uniform(0.3, 1.0, (len(scene.solids), 3)) * rng.choice([-1, 1], (len(around), 3))
    reach[::2] = 0.0  # every other solid stands
    rate = 2 * np.pi / rng.uniform(12, 30, len(around))
    step = unit(rng.normal(size=3)) * rng.uniform(0, 0.06)
    turn_deg = float(rng.uniform(2, 12) * rng.choice([-1, 1]))
    start_deg = float(rng.uniform(0, 360))
    still = pixel_to_direction(
        np.arange(WIDTH)[None, :], np.arange(WIDTH // 2)[:, None], WIDTH, WIDTH // 2
    )
    poses, pictures, ids = [], [], []
    for t in range(FRAMES):
        yaw_deg = start_deg + t * turn_deg
        rotation = world_from_pano(yaw_deg, 0.0, 0.0)
        moved = tuple(
            Solid(s.kind, s.centre + way * np.sin(w * t), s.axes, s.half, s.colours, s.stripes)
            for s, way, w in zip(scene.solids, reach, rate, strict=True)
        )
        now = Scene(moved, scene.below, scene.above, scene.light, scene.ambient)
        index, rgb = shoot(t * step, still @ rotation.T, now)
        a, b, c = (tuple(map(float, row)) for row in rotation)
        poses.append(
            Pose(
                position_m=tuple(map(float, t * step)),
                yaw_deg=yaw_deg % 360,
                world_from_pano=(a, b, c),
            )
        )
        pictures.append(rgb)
        ids.append(index)
    return poses, pictures, ids, list(scene.solids)


def stage_video(folder: Path, seed: int, number: int) -> None:
    """Stage one of them."""
    poses, pictures, ids, solids = frames_of(seed, number)
    seen = sorted(set(np.unique(np.stack(ids)).tolist()) - {0})
    dense = np.zeros(len(solids) + 1, np.uint16)
    dense[seen] = np.arange(1, len(seen) + 1)
    maps = [dense[index] for index in ids]
    names = {int(dense[k]): InstanceLabel(f"s{k}", solids[k - 1].kind, f"s{k}") for k in seen}
    tracks = []
    for id_, label in names.items():
        pixels = tuple(int((one == id_).sum()) for one in maps)
        entered, left = comings_and_goings(pixels)
        tracks.append(
            InstanceTrack(
                id=id_,
                name=label.name,
                category=label.category,
                source_object=label.source_object,
                visibility=tuple(None if count else 0.0 for count in pixels),
                pixels=pixels,
                entered=entered,
                left=left,
            )
        )
    video = VideoMeta(
        fps=FPS,
        frames=FRAMES,
        width=WIDTH,
        height=WIDTH // 2,
        poses=tuple(poses),
        instances=tuple(tracks),
    )
    for t, (rgb, one) in enumerate(zip(pictures, maps, strict=True)):
        arrays: dict[str, NDArray] = {"rgb.png": rgb, "instance.zst": one}
        here = {id_: names[id_] for id_ in set(np.unique(one).tolist()) - {0}}
        meta = SampleMeta(
            key=frame_key(f"v-{number:05d}-v0", t),
            width=WIDTH,
            height=WIDTH // 2,
            source="bench/videos",
            scene=f"v-{number:05d}",
            seed=seed * 10**6 + number,
            camera=0,
            video=FrameOfVideo(frame=t, frames=FRAMES, fps=FPS),
            pose=poses[t],
            products=tuple(sorted(arrays)),
            instances=instance_table(one, here),
            config_sha256="0" * 64,
            versions={"numpy": np.__version__},
        )
        write_staged(folder, meta, arrays, video=video)
