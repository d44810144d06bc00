"""The metadata of a video: `video.json` is a `VideoMeta`, a member of its first frame's sample.

A video is consecutive samples of one shard, one for each frame, under the keys
`<scene>-v<video>-f<frame>` with five digits of the frame, from 0. Each is a whole sample with a
`meta.json` of its own, whose `video` says which frame it is. `video.json` holds what is of the
video as a whole: the instance table. Ids are dense from 1 in it and constant, also through absence:
a frame's label map and instance table hold those that are seen there.

Names are not repeated in it, so that a video can be packed under another one.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, ValidationError, model_validator

from panoforge.core.errors import DataError
from panoforge.core.models import Count, FrozenModel, Probability
from panoforge.core.names import MAX_FRAMES
from panoforge.core.numbers import counted
from panoforge.core.sample.metadata import (
    VIDEO_SUFFIX,
    Box3D,
    Fps,
    Length,
    Pose,
    Rotation,
    SampleMeta,
    Vector,
    is_rotation,
)

SCHEMA_VERSION: Literal[1] = 1
MAX_VIDEO_BYTES = 1 << 30
Motion = Literal["still", "rigid", "deforms"]


class ThingPose(FrozenModel):
    """Where a thing is in one frame, against where its scene's source made it.

    A point p of it is now at `world_from_rest` · (p − `center_m` of its track) + `position_m`.
    """

    position_m: Vector
    world_from_rest: Rotation

    @model_validator(mode="after")
    def _is_rotation(self) -> "ThingPose":
        if not is_rotation(self.world_from_rest):
            raise ValueError("world_from_rest is not a rotation")
        return self


class PointTrack(FrozenModel):
    """A point of a thing through a video: where it is in each frame, and whether it is seen."""

    positions_m: tuple[Vector, ...]
    visible: tuple[bool, ...]


class InstanceTrack(FrozenModel):
    """One id of a video, and what becomes of it frame by frame.

    `motion`: `still`, `rigid` (as `poses` say), or `deforms` (it changes its shape: no poses, and
    its flow is unknown). `center_m` is the middle of its upright box where its source made it.
    `poses` and `boxes_3d` have one entry for each frame; one alone is that of all frames; none, if
    there are none to give. `visibility` is that of `InstanceMeta`; 0 where no pixel shows it.
    `entered` lists frames at which it comes into sight (again), `left` those at which it is gone;
    the first frame is neither.
    """

    id: Annotated[int, Field(ge=1, le=65535)]
    name: str
    category: str
    source_object: str
    flags: tuple[str, ...] = ()
    motion: Motion = "still"
    center_m: Vector | None = None
    poses: tuple[ThingPose, ...] = ()
    boxes_3d: tuple[Box3D | None, ...] = ()
    visibility: tuple[Probability | None, ...]
    pixels: tuple[Count, ...]
    entered: tuple[Count, ...]
    left: tuple[Count, ...]
    points: tuple[PointTrack, ...] = ()

    @model_validator(mode="after")
    def _says_what_its_pixels_say(self) -> "InstanceTrack":
        if not any(self.pixels):
            raise ValueError(f"instance {self.id} is seen in no frame")
        if (self.entered, self.left) != comings_and_goings(self.pixels):
            raise ValueError(f"instance {self.id}: entered and left are not those of its pixels")
        if (self.motion == "rigid") != (len(self.poses) > 1):
            raise ValueError(
                f"instance {self.id} is {self.motion} and has {counted(len(self.poses), 'pose')}"
            )
        return self

    def pose(self, frame: int) -> ThingPose | None:
        """Its pose in a frame; None where it has none."""
        return self.poses[min(frame, len(self.poses) - 1)] if self.poses else None

    def box_3d(self, frame: int) -> Box3D | None:
        """Its upright box in a frame; None where it has none."""
        return self.boxes_3d[min(frame, len(self.boxes_3d) - 1)] if self.boxes_3d else None


class VideoMeta(FrozenModel):
    """`video.json`.

    `poses` say where each frame was taken from, as its `meta.json` does.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    fps: Fps
    frames: Annotated[int, Field(ge=1, le=MAX_FRAMES)]
    width: Length
    height: Length
    poses: tuple[Pose, ...]
    instances: tuple[InstanceTrack, ...]

    @model_validator(mode="after")
    def _fits_its_frames(self) -> "VideoMeta":
        if len(self.poses) != self.frames:
            raise ValueError(
                f"{counted(len(self.poses), 'pose')} for {counted(self.frames, 'frame')}"
            )
        if [row.id for row in self.instances] != list(range(1, len(self.instances) + 1)):
            raise ValueError("instance ids are not dense from 1")
        for row in self.instances:
            of_all = (len(row.pixels), len(row.visibility), *map(_points_frames, row.points))
            or_one = (len(row.poses), len(row.boxes_3d))
            if set(of_all) != {self.frames} or not set(or_one) <= {0, 1, self.frames}:
                raise ValueError(f"instance {row.id} has other frames than its video")
        return self


def _points_frames(track: PointTrack) -> int:
    """How many frames a point's track has; −1 where its two halves differ."""
    return len(track.visible) if len(track.visible) == len(track.positions_m) else -1


def comings_and_goings(pixels: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """At which frames a thing comes into sight, and at which it is gone, from its pixels."""
    change = np.diff(np.asarray(pixels) > 0, prepend=False).nonzero()[0][bool(pixels[0]) :]
    seen = np.asarray(pixels)[change] > 0
    return tuple(change[seen].tolist()), tuple(change[~seen].tolist())


def encode_video(video: VideoMeta) -> bytes:
    """Stable JSON bytes, schema version first."""
    return video.model_dump_json().encode() + b"\n"


def decode_video(data: bytes) -> VideoMeta:
    """Parse and validate `video.json`. DataError names the first thing that does not fit."""
    if len(data) > MAX_VIDEO_BYTES:
        raise DataError(f"{VIDEO_SUFFIX} of {len(data)} bytes is over the cap of {MAX_VIDEO_BYTES}")
    try:
        return VideoMeta.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "document"
        raise DataError(
            f"{VIDEO_SUFFIX} does not fit schema version {SCHEMA_VERSION}: {where}: {first['msg']}"
        ) from None


def frame_faults(video: VideoMeta, meta: SampleMeta) -> list[str]:
    """How a frame's metadata contradict its video's; empty where they do not."""
    place = meta.video
    if place is None:
        return ["is no frame of a video"]
    if (place.frames, place.fps) != (video.frames, video.fps):
        return [
            f"says {counted(place.frames, 'frame')} at {place.fps:g} fps, its video"
            f" {video.frames} at {video.fps:g}"
        ]
    if (meta.width, meta.height) != (video.width, video.height):
        return [f"is {meta.width}×{meta.height}, its video {video.width}×{video.height}"]
    faults = []
    if meta.pose != video.poses[place.frame]:
        faults.append(f"its pose is not that of frame {place.frame} of its video")
    said = {row.id: row.pixels[place.frame] for row in video.instances if row.pixels[place.frame]}
    if {row.id: row.pixels for row in meta.instances} != said:
        faults.append(f"its instances are not those of frame {place.frame} of its video")
    tracks = {row.id: row for row in video.instances}
    for row in meta.instances:
        track = tracks.get(row.id)
        if track is not None and (row.name, row.category, row.source_object) != (
            track.name,
            track.category,
            track.source_object,
        ):
            faults.append(f"instance {row.id} is {row.name!r}, in its video {track.name!r}")
    return faults
