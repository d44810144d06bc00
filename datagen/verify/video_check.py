"""A video's frames as the judge sees them: the scene as its source made it, its things in motion.

Things that the renderer moved are put where `video.json` says they were: were they rendered
elsewhere, ids and depth of that frame would disagree. The animation of a .blend file is played by
Blender.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from panoforge.core.names import frame_key
from panoforge.core.sample.flow import Flow
from panoforge.core.sample.video import VideoMeta, decode_video
from panoforge.core.storage.staged import read_staged
from panoforge.datagen.geometry.part_motion import scene_frames, set_frame
from panoforge.datagen.scene.scene import Scene
from panoforge.datagen.verify.flow_judge import FlowReport, Moment, judge_flow
from panoforge.datagen.verify.oracle import Oracle, build_oracle
from panoforge.datagen.verify.ray_judge import RayReport, judge
from panoforge.datagen.verify.request import (
    VerifyRequest,
    check_identity,
    drawn_pixels,
    read_panorama,
)

MOST_FRAMES = 8  # of a video that are looked at: each takes a BVH of the scene


def looked_at(frames: int) -> list[int]:
    """Which frames of a video are checked: all of a short one, else its beginning and its end."""
    if frames <= MOST_FRAMES:
        return list(range(frames))
    half = MOST_FRAMES // 2
    return [*range(half), *range(frames - half, frames)]


class MovingOracle:
    """The oracle of each frame of a video; the last two are kept."""

    def __init__(
        self, rest: Oracle | None, video: VideoMeta, at_frame: Callable[[int], Oracle] | None = None
    ) -> None:
        self._rest, self._video, self._at_frame = rest, video, at_frame
        self._kept: dict[int, Moment] = {}

    def frame(self, frame: int) -> Moment:
        """The scene of a frame."""
        if frame not in self._kept:
            self._kept = {k: kept for k, kept in self._kept.items() if abs(k - frame) == 1}
            oracle = self._at_frame(frame) if self._at_frame else self._posed(frame)
            self._kept[frame] = Moment(oracle, self._video.poses[frame])
        return self._kept[frame]

    def _posed(self, frame: int) -> Oracle:
        assert self._rest is not None
        rest = self._rest
        owner_of = np.full(len(rest.points), -1)
        owner_of[rest.triangles.ravel()] = np.repeat(rest.owner, 3)
        number_of = {thing.source: number for number, thing in enumerate(rest.things)}
        points = rest.points.copy()
        for track in self._video.instances:
            pose = track.pose(frame)
            if track.source_object not in number_of or pose is None or track.center_m is None:
                continue
            mine = owner_of == number_of[track.source_object]
            turn = np.array(pose.world_from_rest)
            points[mine] = (points[mine] - track.center_m) @ turn.T + pose.position_m
        return rest.moved(points)


def deforming(video: VideoMeta) -> frozenset[str]:
    """The sources of what changes its shape."""
    return frozenset(row.source_object for row in video.instances if row.motion == "deforms")


def _played(
    request: VerifyRequest, scene: Scene, video: VideoMeta
) -> Callable[[int], Oracle] | None:
    """What makes the oracle of a frame where a file's animation is played."""
    if request.render.video is None or not request.render.video.animation:
        return None
    frames = scene_frames(video.frames, video.fps)

    def at_frame(frame: int) -> Oracle:
        set_frame(frames[frame])
        return build_oracle(scene)

    return at_frame


def check_videos(
    request: VerifyRequest, scene: Scene, rest: Oracle, videos: Mapping[str, Sequence[int]]
) -> list[dict]:
    """One report per frame that is looked at, as plain data: its ids, its depth and its flows."""
    reports = []
    for key, staged in videos.items():
        members = read_staged(request.staged, frame_key(key, 0))[1]
        video = decode_video(members["video.json"])
        frames = looked_at(video.frames)
        each = max(1, -(-request.rays * len(staged) // len(frames)))
        moving = MovingOracle(rest, video, _played(request, scene, video))
        found: dict[int, RayReport] = {}
        flows: dict[int, FlowReport] = {frame: FlowReport() for frame in frames}
        for frame in frames:
            meta, arrays = read_panorama(request.staged, frame_key(key, frame))
            check_identity(meta, scene)
            pixels = drawn_pixels(meta, each)
            found[frame] = judge(
                moving.frame(frame).oracle,
                meta,
                arrays["instance"],
                arrays.get("depth"),
                pixels,
                displacement=request.render.displacement == "true",
            )
            if frame - 1 not in frames:
                continue
            for way, here, there in (("forward", frame - 1, frame), ("backward", frame, frame - 1)):
                meta, arrays = read_panorama(request.staged, frame_key(key, here))
                if f"flow_{way}" in arrays:
                    judge_flow(
                        moving.frame(here),
                        moving.frame(there),
                        meta,
                        arrays["instance"],
                        Flow.of_codes(arrays[f"flow_{way}"]),
                        drawn_pixels(meta, each),
                        deforming(video),
                        flows[here],
                    )
        for frame in frames:
            found[frame].flow = vars(flows[frame])
            reports.append(vars(found[frame]))
    return reports
