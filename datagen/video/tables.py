"""The instance table of a video, from what was seen of each number in each frame. No bpy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from panoforge.core.numbers import counted
from panoforge.core.sample.instance_table import InstanceLabel
from panoforge.core.sample.metadata import Box3D, Pose, Vector
from panoforge.core.sample.video import (
    InstanceTrack,
    Motion,
    PointTrack,
    ThingPose,
    VideoMeta,
    comings_and_goings,
)
from panoforge.datagen.rendering.quality import RejectedScene

MAX_IDS = 65535


@dataclass(frozen=True)
class ThingMotion:
    """How a number moves: see `InstanceTrack`. Nothing is known of a scatter's own number."""

    motion: Motion = "still"
    centre: NDArray[np.float64] | None = None
    poses: tuple[ThingPose, ...] = ()
    boxes: tuple[Box3D | None, ...] = ()


@dataclass(frozen=True)
class VideoTable:
    """The ids of a video.

    `id_of` (K + 1,) uint16 maps numbers of things and scatters to ids, 0 for what is never seen.
    `numbers` (N,) undoes it: id k is `numbers[k - 1]`.
    """

    id_of: NDArray[np.uint16]
    numbers: tuple[int, ...]
    meta: VideoMeta

    def labels(self, index: NDArray[np.integer]) -> NDArray[np.uint16]:
        """The label map (H, W) of a frame, from its numbers."""
        return self.id_of[index]


def video_table(
    counts: NDArray[np.int64],
    seen: Sequence[Mapping[int, float | None]],
    label_of: Sequence[InstanceLabel],
    motions: Mapping[int, ThingMotion],
    poses: Sequence[Pose],
    fps: float,
    size: tuple[int, int],
    points: Mapping[int, tuple[PointTrack, ...]] = {},
) -> VideoTable:
    """Number what is seen in any frame, and say what becomes of it.

    Args:
        counts: (frames, K + 1) pixels of each number, after small members joined their scatter.
        seen: of each frame, the visibility of the numbers that are seen.
        label_of: (K + 1,) what each number is; the first entry is nobody's.
        motions: of the numbers that move or whose middle is known.
        poses: of the camera, one a frame.
        fps: frames a second.
        size: width and height.
        points: tracked points of numbers.
    """
    numbers = np.flatnonzero(counts.max(axis=0)[1:]) + 1
    if len(numbers) > MAX_IDS:
        raise RejectedScene(
            "too_many_instances",
            f"{counted(len(numbers), 'instance')} in one video: label maps hold {MAX_IDS}",
        )
    id_of = np.zeros(counts.shape[1], np.uint16)
    id_of[numbers] = np.arange(1, len(numbers) + 1)
    rows = [
        _track(
            int(id_of[number]),
            [int(count) for count in counts[:, number]],
            [frame.get(int(number)) for frame in seen],
            label_of[number],
            motions.get(int(number), ThingMotion()),
            points.get(int(number), ()),
        )
        for number in numbers
    ]
    meta = VideoMeta(
        fps=fps,
        frames=len(poses),
        width=size[0],
        height=size[1],
        poses=tuple(poses),
        instances=tuple(rows),
    )
    return VideoTable(id_of, tuple(numbers.tolist()), meta)


def _track(
    id_: int,
    pixels: list[int],
    seen: list[float | None],
    label: InstanceLabel,
    motion: ThingMotion,
    points: tuple[PointTrack, ...],
) -> InstanceTrack:
    entered, left = comings_and_goings(pixels)
    centre: Vector | None = None
    if motion.centre is not None:
        x, y, z = (float(value) for value in motion.centre)
        centre = (x, y, z)
    return InstanceTrack(
        id=id_,
        name=label.name,
        category=label.category,
        source_object=label.source_object,
        flags=label.flags,
        motion=motion.motion,
        center_m=centre,
        poses=motion.poses,
        boxes_3d=motion.boxes,
        visibility=tuple(one if count else 0.0 for one, count in zip(seen, pixels, strict=True)),
        pixels=tuple(pixels),
        entered=entered,
        left=left,
        points=points,
    )
