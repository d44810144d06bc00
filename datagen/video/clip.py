"""Rendering a scene's videos: plan, render every frame, then number, relate and write them.

A frame's ids depend on all frames, and its flow on the next one. So a first pass renders, and keeps
numbers and depth of each frame on disk, and its colours as they will be stored. A second pass goes
through the frames with two of them in memory. A video is accepted whole or refused whole.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from panoforge.core.numbers import counted
from panoforge.core.sample.instance_table import InstanceLabel
from panoforge.core.sample.label_maps import dense_ids
from panoforge.core.sample.metadata import FrameOfVideo, Pose, SampleMeta
from panoforge.core.sample.products import half_depth
from panoforge.core.sample.video import PointTrack
from panoforge.core.storage.staged import checked_member, write_staged
from panoforge.datagen.config.poses import poses_of
from panoforge.datagen.config.render import RenderConfig
from panoforge.datagen.geometry.instances import SceneInstances, upright_box
from panoforge.datagen.geometry.prepared_scene import PreparedScene
from panoforge.datagen.geometry.rendered_things import RenderedThing
from panoforge.datagen.geometry.scatter_ids import covered_sr, join_table
from panoforge.datagen.geometry.surface import Surface
from panoforge.datagen.messages import Rejection, SceneRequest, StagedPanorama
from panoforge.datagen.rendering import quality
from panoforge.datagen.rendering.passes import Passes
from panoforge.datagen.rendering.quality import RejectedScene
from panoforge.datagen.rendering.render import display_rgb
from panoforge.datagen.rendering.settings import RenderSettings
from panoforge.datagen.scene.scene import Region, Scene
from panoforge.datagen.timing import Timer, say
from panoforge.datagen.video.animation import animated_world
from panoforge.datagen.video.flow import FrameView, flow_between
from panoforge.datagen.video.plan import moving_world
from panoforge.datagen.video.rigid import RigidTrack
from panoforge.datagen.video.tables import ThingMotion, VideoTable, video_table
from panoforge.datagen.video.tracks import tracks_of
from panoforge.datagen.video.walk import PathBlocked, bounds_of, poses_of_file, walk
from panoforge.datagen.video.world import MovingWorld, thing_triangles

WALK_STREAM = 0x3A1C
PROBES = 3  # of materials along a way


class SceneInHand(Protocol):
    """What a scene's videos are made with: `panoforge.datagen.pipeline.SceneAttempt`."""

    request: SceneRequest
    config: RenderConfig
    scene: Scene
    seed: int
    timer: Timer
    folder: Path
    prepared: PreparedScene
    animation: list[float]
    scatter_of: NDArray[np.int64]
    things: tuple[RenderedThing, ...]
    instances: SceneInstances
    surface: Surface

    @property
    def regions(self) -> tuple[Region, ...]:
        """Where cameras may stand."""

    def chosen_poses(self) -> list[Pose]:
        """Poses at free places, the best first."""

    def render(self, pose: Pose, settings: RenderSettings) -> Passes:
        """One render of the scene as it stands."""

    def exact(self, front: Passes, pose: Pose, settings: RenderSettings) -> Passes:
        """`front` with exact ids, depth and normals."""

    def label(self, number: int) -> InstanceLabel:
        """What a thing or a scatter is."""

    def seen_arrays(self, passes: Passes, rgb: NDArray[np.uint8]) -> dict[str, NDArray]:
        """The arrays of what a render shows, by member suffix."""

    def label_arrays(
        self, labels: NDArray[np.uint16], names: Mapping[int, InstanceLabel]
    ) -> dict[str, NDArray]:
        """The arrays of ids, by member suffix."""

    def meta(
        self,
        camera: int,
        pose: Pose,
        labels: NDArray[np.uint16],
        names: dict[int, InstanceLabel],
        timings_s: dict[str, float],
        cpu_s: dict[str, float],
        video: FrameOfVideo | None = None,
    ) -> SampleMeta:
        """The metadata of a panorama, or of a frame of a video."""


@dataclass(frozen=True)
class VideoPlan:
    """What moves in one video, and where its camera is in each frame."""

    world: MovingWorld
    poses: tuple[Pose, ...]


class VideoPlans:
    """The videos that a scene may give, planned one after the other."""

    def __init__(self, attempt: SceneInHand) -> None:
        assert attempt.config.video is not None
        self._attempt, self.settings = attempt, attempt.config.video
        self._rows = poses_of(self.settings.camera.poses, attempt.request.scene.key)
        wanted = self.settings.frames * attempt.request.scene.cameras
        if self.settings.camera.poses and len(self._rows) != wanted:
            raise PathBlocked(
                f"video.camera.poses has one row a frame: scene {attempt.request.scene.key} needs"
                f" {counted(wanted, 'row')}, it has {len(self._rows)}"
            )
        self._starts = [] if self._rows else attempt.chosen_poses()
        self._made: dict[tuple[int, int], VideoPlan] = {}
        self._worlds: dict[int, MovingWorld] = {}  # by video: other ways lead through the same one

    @property
    def tries(self) -> int:
        """How many plans there may be of one video."""
        return 1 if self._rows else max(1, self._attempt.config.camera.tries)

    def plan(self, video: int, attempt: int) -> VideoPlan:
        """The plan of a video, or another one of it. RejectedScene where there is no way."""
        if (video, attempt) not in self._made:
            self._made[video, attempt] = self._planned(video, attempt)
        return self._made[video, attempt]

    def _planned(self, video: int, attempt: int) -> VideoPlan:
        made, config = self._attempt, self._attempt.config
        seed = [made.seed, WALK_STREAM, config.camera.draw, video]
        key = 0 if made.animation else video
        if key not in self._worlds:
            self._worlds[key] = self._world([*seed, 1])
        world = self._worlds[key]
        if self._rows:
            rows = self._rows[video * self.settings.frames :][: self.settings.frames]
            return VideoPlan(world, tuple(poses_of_file(rows, world, made.surface, self._name_of)))
        start = self._starts[(video + attempt * made.request.scene.cameras) % len(self._starts)]
        bounds = bounds_of(made.regions, config.camera, made.surface)
        way = walk(start, world, bounds, self.settings, config.camera, [*seed, 2, attempt])
        return VideoPlan(world, tuple(way))

    def _world(self, seed: list[int]) -> MovingWorld:
        made = self._attempt
        if made.animation:
            return animated_world(made.prepared, made.animation)
        return moving_world(self.settings, made.prepared.things, made.surface, seed)

    def _name_of(self, number: int) -> str:
        return self._attempt.label(number).name

    def probes(self) -> list[Pose]:
        """Poses along the way of the first video that has one, at which materials are probed."""
        last: RejectedScene | None = None
        for attempt in range(self.tries):
            try:
                poses = self.plan(0, attempt).poses
            except RejectedScene as rejected:
                last = rejected
                continue
            return [poses[k] for k in sorted({0, len(poses) // 2, len(poses) - 1})][:PROBES]
        assert last is not None
        raise last


def render_videos(
    attempt: SceneInHand, plans: VideoPlans, rejections: list[Rejection]
) -> list[StagedPanorama]:
    """Render the videos of a scene, each from the first plan that gives a good one.

    Refused ones are added to `rejections`.
    """
    accepted: list[StagedPanorama] = []
    for video in range(attempt.request.scene.cameras):
        for number in range(plans.tries):
            try:
                frames = _video(attempt, plans.plan(video, number), video)
            except RejectedScene as rejected:
                rejections.append(
                    Rejection(
                        seed=attempt.seed,
                        pose=number,
                        reason=rejected.reason,
                        detail=rejected.detail,
                    )
                )
                say(f"rejected way {number} of video {video}: {rejected}")
                continue
            accepted += frames
            say(f"staged video {video}: {counted(len(frames), 'frame')}")
            break
    return accepted


def _video(attempt: SceneInHand, plan: VideoPlan, video: int) -> list[StagedPanorama]:
    with TemporaryDirectory(dir=attempt.folder, prefix="frames-") as folder:
        kept = _RenderedFrames(attempt, plan, Path(folder), video)
        try:
            kept.render()
        finally:
            plan.world.rest()
            attempt.instances.moved(plan.world.movers)
        return kept.write()


class _RenderedFrames:
    """The frames of one video between the two passes."""

    def __init__(self, attempt: SceneInHand, plan: VideoPlan, folder: Path, video: int) -> None:
        assert attempt.config.video is not None
        self.attempt, self.plan, self.folder, self.video = attempt, plan, folder, video
        self.settings = attempt.config.video
        self.visibility: list[dict[int, float | None]] = []
        self.covered = np.zeros(len(attempt.scatter_of))
        self.counts: list[NDArray[np.int64]] = []
        self.timings: list[tuple[dict[str, float], dict[str, float]]] = []
        self.exposure_ev = attempt.config.exposure_ev

    # ---- first pass

    def render(self) -> None:
        """Render every frame. RejectedScene for the first that is not good."""
        for frame, pose in enumerate(self.plan.poses):
            self.plan.world.show(frame)
            self.attempt.instances.moved((*self.plan.world.movers, *self.plan.world.deformers))
            own = Timer()
            settings = RenderSettings.of(
                self.attempt.config,
                self.attempt.seed + self.video * self.settings.frames + frame,
            )
            passes = self.attempt.render(pose, settings)
            with own.measure("write"):
                if self.exposure_ev is None:  # of the first frame: a film has one exposure
                    self.exposure_ev = quality.auto_exposure_ev(passes.linear)
                rgb = display_rgb(
                    settings,
                    self.attempt.config.view_transform,
                    self.attempt.config.look,
                    self.exposure_ev,
                    self.attempt.folder,
                )
            passes = self.attempt.exact(passes, pose, settings)
            with own.measure("write"):
                self._judge(frame, passes, rgb)
                self._keep(frame, passes, rgb)
            with own.measure("describe"):
                self._describe(passes, pose)
            self.timings.append(({**passes.timings_s, **own.seconds}, {**passes.cpu_s, **own.cpu}))
            say(f"frame {frame}: {sum(self.timings[-1][0].values()):.1f} s")

    def _judge(self, frame: int, passes: Passes, rgb: NDArray[np.uint8]) -> None:
        labels, old = dense_ids(passes.index)
        structure = frozenset(
            id_
            for id_, number in enumerate(old, start=1)
            if "structure" in self.attempt.label(int(number)).flags
        )
        try:
            quality.check_panorama(
                quality.RenderedPanorama(
                    passes.linear, rgb, labels, passes.depth_m, structure, self.attempt.scene.indoor
                ),
                self.attempt.config.quality,
            )
        except RejectedScene as rejected:
            raise RejectedScene(rejected.reason, f"frame {frame}: {rejected.detail}") from None

    def _keep(self, frame: int, passes: Passes, rgb: NDArray[np.uint8]) -> None:
        config = self.attempt.config
        np.save(self._path(frame, "index.npy"), passes.index)
        np.save(self._path(frame, "depth.npy"), passes.depth_m)
        for suffix, array in self.attempt.seen_arrays(passes, rgb).items():
            if suffix != "depth.delta.zst":
                member = checked_member(
                    suffix, array, config.width, config.height, jpeg_quality=config.jpeg_quality
                )
                self._path(frame, suffix).write_bytes(member)

    def _describe(self, passes: Passes, pose: Pose) -> None:
        things = len(self.attempt.prepared.things)
        covered = covered_sr(passes.index, len(self.attempt.scatter_of))
        self.covered = np.maximum(self.covered, covered)
        self.counts.append(
            np.bincount(passes.index.ravel(), minlength=len(self.attempt.scatter_of))
        )
        least = self._least_sr
        self.visibility.append(
            {
                number: self.attempt.instances.visibility(number, number, passes.index, pose)
                for number in np.flatnonzero(covered).tolist()
                if 0 < number <= things
                and (not self.attempt.scatter_of[number] or covered[number] >= least)
            }
        )

    @property
    def _least_sr(self) -> float:
        config = self.attempt.config
        return np.inf if config.instances == "per-scatter" else config.min_scattered_sr

    def _path(self, frame: int, name: str) -> Path:
        return self.folder / f"{frame:05d}.{name}"

    # ---- second pass

    def write(self) -> list[StagedPanorama]:
        """Stage every frame."""
        into = join_table(self.covered, self.attempt.scatter_of, self._least_sr)
        table = self._table(into)
        names = {
            id_: self.attempt.label(number) for id_, number in enumerate(table.numbers, start=1)
        }
        own = Timer()
        return [
            self._write(frame, before, here, after, table, into, names, own)
            for frame, (before, here, after) in enumerate(self._triples())
        ]

    def _triples(
        self,
    ) -> Iterator[tuple[FrameView | None, FrameView, FrameView | None]]:
        """Every frame with those around it; three of them are in memory."""
        frames = len(self.plan.poses)
        before, here = None, self._view(0)
        for frame in range(frames):
            after = self._view(frame + 1) if frame + 1 < frames else None
            yield before, here, after
            if after is not None:
                before, here = here, after

    def _view(self, frame: int) -> FrameView:
        return FrameView(
            frame,
            self.plan.poses[frame],
            np.load(self._path(frame, "index.npy")),
            np.load(self._path(frame, "depth.npy")),
        )

    def _table(self, into: NDArray[np.int64]) -> VideoTable:
        config, numbers = self.attempt.config, len(self.attempt.things) + 1
        counts = np.zeros((len(self.counts), numbers), np.int64)
        for frame, found in enumerate(self.counts):
            np.add.at(counts[frame], into, found)
        counts[:, 0] = 0
        visible = np.flatnonzero(counts.max(axis=0))
        nobody = InstanceLabel("", "", "")
        return video_table(
            counts,
            self.visibility,
            [nobody, *(self.attempt.label(number) for number in range(1, numbers))],
            {int(number): self._motion(int(number)) for number in visible},
            self.plan.poses,
            self.settings.fps,
            (config.width, config.height),
            {int(number): self._points(int(number)) for number in visible},
        )

    def _motion(self, number: int) -> ThingMotion:
        if number > len(self.attempt.prepared.things):
            return ThingMotion()
        if number in self.plan.world.deformers:
            return ThingMotion("deforms", boxes=self.plan.world.deformers[number].boxes())
        rest = self.attempt.instances.box(number)
        centre = np.array(rest.center_m)
        if number not in self.plan.world.movers:
            still = RigidTrack.of(centre, [np.eye(4)])
            return ThingMotion("still", centre, still.poses(), (rest,))
        track = self.plan.world.movers[number].track
        points, _ = thing_triangles(self.attempt.instances.objects[number])
        at = [
            upright_box((points - track.centre) @ turn.T + place)
            for turn, place in zip(track.rotations, track.positions, strict=True)
        ]
        poses = track.poses()
        boxes = tuple(at[: len(poses)])
        return ThingMotion("rigid" if len(poses) > 1 else "still", track.centre, poses, boxes)

    def _points(self, number: int) -> tuple[PointTrack, ...]:
        """The tracked points of a thing; none of a scatter, or where none are asked for."""
        if not self.settings.tracks or number > len(self.attempt.prepared.things):
            return ()
        rest = thing_triangles(self.attempt.instances.objects[number])
        return tracks_of(
            number,
            rest,
            self.settings.tracks,
            self.plan.world,
            self.plan.poses,
            self.attempt.seed,
        )

    def _write(
        self,
        frame: int,
        before: FrameView | None,
        here: FrameView,
        after: FrameView | None,
        table: VideoTable,
        into: NDArray[np.int64],
        names: Mapping[int, InstanceLabel],
        own: Timer,
    ) -> StagedPanorama:
        attempt, config = self.attempt, self.attempt.config
        timer = Timer()
        arrays: dict[str, NDArray] = {}
        with timer.measure("flow"):
            for way, there in (("forward", after), ("backward", before)):
                if there is not None and f"flow_{way}" in config.products:
                    flow = flow_between(here, there, self.plan.world)
                    arrays[f"flow_{way}.delta.zst"] = flow.codes()
        with timer.measure("write"):
            labels = table.labels(into[here.index])
            place = FrameOfVideo(frame=frame, frames=self.settings.frames, fps=self.settings.fps)
            arrays |= attempt.label_arrays(labels, names)
            if "depth" in config.products:
                half = config.depth_format == "float16"
                arrays["depth.delta.zst"] = half_depth(here.depth_m) if half else here.depth_m
            seen = {
                id_: self._in_space(names[id_], number, frame, table, id_)
                for id_, number in enumerate(table.numbers, start=1)
            }
            timings_s, cpu_s = (dict(each) for each in self.timings[frame])
            for name, seconds in timer.seconds.items():
                timings_s[name] = timings_s.get(name, 0.0) + seconds
                cpu_s[name] = cpu_s.get(name, 0.0) + timer.cpu[name]
            meta = attempt.meta(
                self.video, self.plan.poses[frame], labels, seen, timings_s, cpu_s, place
            )
            encoded = {
                suffix: self._path(frame, suffix).read_bytes()
                for suffix in meta.products
                if suffix not in arrays
            }
            record = write_staged(
                attempt.request.staged,
                meta,
                arrays,
                video=table.meta,
                encoded=encoded,
                jpeg_quality=config.jpeg_quality,
            )
        for name, seconds in timings_s.items():
            attempt.timer.add(name, seconds, cpu_s[name])
        return StagedPanorama(
            key=meta.key,
            sha256=record.sha256,
            instances=len(meta.instances),
            timings_s=meta.timings_s,
        )

    def _in_space(
        self, label: InstanceLabel, number: int, frame: int, table: VideoTable, id_: int
    ) -> InstanceLabel:
        track = table.meta.instances[id_ - 1]
        return InstanceLabel(
            label.name,
            label.category,
            label.source_object,
            label.flags,
            track.box_3d(frame),
            self.visibility[frame].get(number),
        )
