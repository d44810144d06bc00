"""Statistics of videos, from their `video.json` alone: lengths, motion, absences, time-lines.

One video's metadata are in memory at a time. What is kept of each are its numbers, and the
time-lines of a few.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from panoforge.core.geometry.sphere import angle_between
from panoforge.core.sample.video import InstanceTrack, VideoMeta
from panoforge.core.shards.read import Dataset
from panoforge.core.stats.choice import evenly_over_scenes
from panoforge.core.stats.model import Absences, Distribution, IdSeen, TimeLine, VideoStats
from panoforge.core.stats.tables import distribution
from panoforge.core.types import Floats

TIMELINES, TIMELINE_IDS = 3, 24
_DIGITS = 4  # of degrees, metres and seconds: what is less is rounding


def video_statistics(dataset: Dataset) -> VideoStats | None:
    """All statistics of a dataset's videos; None where it has none.

    Raises:
        DataError: the metadata of a video are damaged.
    """
    table = dataset.videos
    if not table.num_rows:
        return None
    drawn = evenly_over_scenes(table["scene"].to_pylist(), TIMELINES)
    seen = _Seen()
    for number, key in enumerate(table["video"].to_pylist()):
        seen.add(key, dataset.video(key).meta, with_timeline=number in drawn)
    frames, fps = np.asarray(table["frames"]), np.asarray(table["fps"])
    moving = np.asarray(table["n_moving"])
    rates = Counter(f"{rate:g}" for rate in fps.tolist())
    return VideoStats(
        videos=table.num_rows,
        frames=distribution(frames, "frames", least=1),
        seconds=distribution(frames / fps, "s"),
        fps=dict(rates.most_common()),
        ids=seen.counts["ids"],
        moving=int(moving.sum()),
        deforming=seen.counts["deforming"],
        moving_per_video=distribution(moving, "things", least=0),
        camera_turn_deg=_distribution(seen.camera_turn_deg, "deg"),
        camera_step_m=_distribution(seen.camera_step_m, "m"),
        thing_deg=_distribution(seen.thing_deg, "deg"),
        absences=Absences(
            ids=seen.counts["ids"],
            always_seen=seen.counts["always_seen"],
            with_absence=seen.counts["with_absence"],
            late=seen.counts["late"],
            lost=seen.counts["lost"],
            frames=_distribution(seen.absence_frames, "frames"),
            seconds=_distribution(seen.absence_s, "s"),
        ),
        timelines=tuple(seen.timelines),
    )


@dataclass
class _Seen:
    """What the videos so far have."""

    counts: Counter[str] = field(default_factory=Counter)
    camera_turn_deg: list[Floats] = field(default_factory=list)
    camera_step_m: list[Floats] = field(default_factory=list)
    thing_deg: list[Floats] = field(default_factory=list)
    absence_frames: list[NDArray] = field(default_factory=list)
    absence_s: list[NDArray] = field(default_factory=list)
    timelines: list[TimeLine] = field(default_factory=list)

    def add(self, key: str, video: VideoMeta, *, with_timeline: bool) -> None:
        position = np.array([pose.position_m for pose in video.poses])
        turn = np.array([pose.world_from_pano for pose in video.poses])
        self.camera_turn_deg.append(turns_deg(turn))
        self.camera_step_m.append(np.linalg.norm(np.diff(position, axis=0), axis=1))
        for track in video.instances:
            runs = seen_runs(track.pixels)
            gone = np.array([b[0] - a[1] for a, b in pairwise(runs)], int)
            self.absence_frames.append(gone)
            self.absence_s.append(gone / video.fps)
            self.counts += what_becomes(track)
            if track.motion != "still":
                self.thing_deg.append(across_deg(track, position, turn))
        if with_timeline:
            self.timelines.append(timeline(key, video))


def turns_deg(rotations: Floats) -> Floats:
    """Angles in degrees between rotations (n, 3, 3) that follow each other: n − 1.

    From the chord (‖A − B‖ = 2√2 sin φ/2), which is exact for small ones, as an arc cosine is not.
    """
    chord = np.linalg.norm(np.diff(rotations, axis=0), axis=(1, 2)) / (2 * np.sqrt(2))
    return np.degrees(2 * np.arcsin(np.minimum(chord, 1)))


def across_deg(track: InstanceTrack, position_m: Floats, world_from_pano: Floats) -> Floats:
    """How far a thing's middle goes across the panorama from each frame to the next, in degrees.

    Args:
        track: the thing: where it has poses they say where it is, else its boxes.
        position_m: where the camera is in each frame, (n, 3).
        world_from_pano: how it is turned, (n, 3, 3).

    Returns:
        One angle for each two frames that both show it, where both say where it is.
    """
    middles = [_middle(track, frame) for frame in range(len(position_m))]
    known = np.array([middle is not None for middle in middles])
    world = np.array([middle or (np.nan,) * 3 for middle in middles]) - position_m
    distance = np.linalg.norm(world, axis=1, keepdims=True)
    known &= (np.asarray(track.pixels) > 0) & (distance[:, 0] > 0)
    ways = np.einsum("nji,nj->ni", world_from_pano, world / np.where(distance > 0, distance, 1))
    both = known[1:] & known[:-1]
    return np.degrees(angle_between(ways[1:][both], ways[:-1][both]))


def _middle(track: InstanceTrack, frame: int) -> tuple[float, float, float] | None:
    if pose := track.pose(frame):
        return pose.position_m
    box = track.box_3d(frame)
    return box.center_m if box else None


def seen_runs(pixels: Sequence[int]) -> list[tuple[int, int]]:
    """The stretches of frames that show a thing, as (first, one past the last)."""
    seen = np.concatenate([[0], np.asarray(pixels) > 0, [0]])
    edges = np.flatnonzero(np.diff(seen)).reshape(-1, 2)
    return [(int(first), int(end)) for first, end in edges]


def what_becomes(track: InstanceTrack) -> Counter[str]:
    """An id, counted under each of what is true of it."""
    runs, frames = seen_runs(track.pixels), len(track.pixels)
    return Counter(
        ids=1,
        always_seen=int(runs == [(0, frames)]),
        with_absence=int(len(runs) > 1),
        late=int(runs[0][0] > 0),
        lost=int(runs[-1][1] < frames),
        deforming=int(track.motion == "deforms"),
    )


def timeline(key: str, video: VideoMeta) -> TimeLine:
    """When the ids of a video are seen: things that move first, then what comes and goes most."""
    rows = [
        IdSeen(
            id=track.id,
            name=track.name,
            moves=track.motion != "still",
            seen=tuple(seen_runs(track.pixels)),
        )
        for track in video.instances
    ]
    # one stretch over all frames has two ends at the ends of the video and says nothing
    rows.sort(key=lambda row: (not row.moves, row.seen == ((0, video.frames),), -len(row.seen)))
    return TimeLine(
        video=key,
        frames=video.frames,
        fps=video.fps,
        ids=len(rows),
        rows=tuple(rows[:TIMELINE_IDS]),
    )


def _distribution(parts: list[NDArray], unit: str) -> Distribution | None:
    values = np.concatenate(parts) if parts else np.zeros(0)
    if np.issubdtype(values.dtype, np.floating):
        values = values.round(_DIGITS)
    return distribution(values, unit, least=1) if values.size else None
