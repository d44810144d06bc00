"""A labelled video or picture as samples of our format, staged as a renderer stages them.

What is not known is not made up: a camera of ours stands at the origin, visibility is unknown. What
may move has the motion `deforms` (its poses are not known), stuff is `still`. `source_object` says
where an object's label comes from.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from panoforge.core.names import frame_of
from panoforge.core.sample.instance_table import InstanceLabel, instance_table
from panoforge.core.sample.metadata import FrameOfVideo, Pose, SampleMeta
from panoforge.core.sample.video import InstanceTrack, VideoMeta, comings_and_goings
from panoforge.core.storage.runlog import hardware, versions
from panoforge.core.storage.staged import write_staged
from panoforge.core.types import Labels, Rgb
from panoforge.eval.interactive.frames import Frames
from panoforge.label.inputs import Footage
from panoforge.label.video.state import LabelledThing, VideoState, dense

UNKNOWN_POSE = Pose(
    position_m=(0.0, 0.0, 0.0),
    yaw_deg=0.0,
    world_from_pano=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
)
SOURCE = "pano annotate"


@dataclass(frozen=True)
class WrittenVideo:
    """The keys of its samples, its objects, and the new id of each old one."""

    keys: tuple[str, ...]
    things: Sequence[LabelledThing]
    number_of: dict[int, int]


def stage_labels(
    staged: Path,
    footage: Footage,
    frames: Frames,
    state: VideoState,
    *,
    fps: float,
    config_sha256: str,
    notes: Sequence[str],
    shown: Callable[[int, Rgb], Rgb],
) -> WrittenVideo:
    """Stage every labelled frame.

    Args:
        staged: the folder of staged samples.
        footage: what was labelled.
        frames: its frames.
        state: their labels.
        fps: frames a second, where it is a video.
        config_sha256: digest of what it was labelled with.
        notes: what else the metadata are to say.
        shown: the picture that is written in the place of a frame's, e.g. with faces hidden.
    """
    number_of, things = dense(state)
    table = np.zeros(max([0, *number_of]) + 1, np.uint16)
    for old, new in number_of.items():
        table[old] = new
    numbers = sorted(state.frames)
    names = {
        number_of[one.id]: InstanceLabel(
            f"{one.label} {number_of[one.id]}",
            one.label,
            one.how,
            () if one.is_thing else ("structure",),
        )
        for one in things
    }

    def labels(number: int) -> Labels:
        return np.asarray(table[np.minimum(state.read(number), len(table) - 1)])

    video = None
    if footage.is_video:
        counts = [
            np.bincount(labels(number).ravel(), minlength=len(things) + 1) for number in numbers
        ]
        video = _video(state, things, names, np.stack(counts), fps)
    keys = []
    for number in numbers:
        own = labels(number)
        key = footage.key(number)
        place = frame_of(key)
        meta = SampleMeta(
            key=key,
            width=own.shape[1],
            height=own.shape[0],
            source=SOURCE,
            scene=footage.scene,
            seed=0,
            camera=0,
            video=video and FrameOfVideo(frame=number, frames=video.frames, fps=video.fps),
            pose=UNKNOWN_POSE,
            products=("instance.zst", "rgb.jpg"),
            instances=instance_table(own, names),
            notes=tuple(notes),
            config_sha256=config_sha256,
            versions=versions(),
            hardware=hardware(),
        )
        assert (place is None) == (video is None)  # the key says so too
        picture = shown(number, frames.rgb(number))
        write_staged(staged, meta, {"rgb.jpg": picture, "instance.zst": own}, video=video)
        keys.append(key)
    return WrittenVideo(tuple(keys), things, number_of)


def _video(
    state: VideoState,
    things: Sequence[LabelledThing],
    names: dict[int, InstanceLabel],
    counts: np.ndarray,
    fps: float,
) -> VideoMeta:
    """`video.json`: what becomes of each object."""
    tracks = []
    for number, thing in enumerate(things, start=1):
        pixels = tuple(counts[:, number].tolist())
        entered, left = comings_and_goings(pixels)
        own = names[number]
        tracks.append(
            InstanceTrack(
                id=number,
                name=own.name,
                category=own.category,
                source_object=own.source_object,
                flags=own.flags,
                motion="deforms" if thing.is_thing else "still",
                visibility=tuple(None if count else 0.0 for count in pixels),
                pixels=pixels,
                entered=entered,
                left=left,
            )
        )
    height, width = state.shape
    return VideoMeta(
        fps=fps,
        frames=len(counts),
        width=width,
        height=height,
        poses=(UNKNOWN_POSE,) * len(counts),
        instances=tuple(tracks),
    )
