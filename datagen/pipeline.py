"""From a job to staged panoramas, inside a render process.

Generate, prepare, choose poses, render, judge, write.

The order is chosen by cost. Geometry is realised and materials are simplified once per scene. Rays
judge places before anything is rendered. Cycles keeps its scene between cameras.
Randomness comes from the scene's seed through named child streams, so a panorama depends neither on
how many are made nor on their order.
"""

import os
import platform
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import bpy
import numpy as np
from numpy.typing import NDArray

from panoforge.core.categories.semantic import semantic_map
from panoforge.core.errors import UserError
from panoforge.core.numbers import counted
from panoforge.core.sample.instance_table import InstanceLabel, instance_table
from panoforge.core.sample.label_maps import dense_ids
from panoforge.core.sample.metadata import FrameOfVideo, Pose, SampleMeta
from panoforge.core.sample.products import half_depth
from panoforge.core.storage.staged import write_staged
from panoforge.datagen.cameras import choice, places
from panoforge.datagen.config.poses import poses_of
from panoforge.datagen.config.render import RenderConfig
from panoforge.datagen.extensions.extension import provide_antlandscape
from panoforge.datagen.geometry import materials, prepared_scene
from panoforge.datagen.geometry.instances import SceneInstances
from panoforge.datagen.geometry.part_motion import scene_frames, set_frame
from panoforge.datagen.geometry.scatter_ids import joined, numbered_scatters
from panoforge.datagen.geometry.surface import Surface, scene_surface
from panoforge.datagen.messages import Rejection, SceneRequest, SceneResult, StagedPanorama
from panoforge.datagen.redraw import lighting
from panoforge.datagen.redraw.colours import redraw_colours
from panoforge.datagen.redraw.making import make_redrawn
from panoforge.datagen.rendering import glass, quality
from panoforge.datagen.rendering.cycles import choose_device, configure
from panoforge.datagen.rendering.labels import exact_labels
from panoforge.datagen.rendering.passes import Passes
from panoforge.datagen.rendering.quality import RejectedScene
from panoforge.datagen.rendering.render import display_rgb, place_camera, render_passes
from panoforge.datagen.rendering.settings import RenderSettings
from panoforge.datagen.scene.scene import Region, Scene, SceneFailed
from panoforge.datagen.timing import Timer, cpu_seconds, peak_memory_mb, say
from panoforge.datagen.video.clip import VideoPlans, render_videos

PROBE_WIDTH = 256
CAMERA_STREAM = 0xCA3E7A
SHARED = ("generate", "prepare", "probe")  # phases that all panoramas of a scene share


def render_scene(request: SceneRequest, timer: Timer, folder: Path) -> SceneResult:
    """Try the seeds of the job in order until one gives panoramas."""
    rejections: list[Rejection] = []
    panoramas: list[StagedPanorama] = []
    device, notes = "", tuple[str, ...]()
    for seed in request.scene.seeds:
        try:
            attempt = SceneAttempt(request, seed, timer, folder)
            device, notes = attempt.device, attempt.notes
            panoramas = attempt.panoramas(rejections)
        except RejectedScene as rejected:
            rejections.append(
                Rejection(seed=seed, pose=None, reason=rejected.reason, detail=rejected.detail)
            )
            say(f"rejected seed {seed}: {rejected}")
        if panoramas:
            break
    return SceneResult(
        key=request.scene.key,
        outcome="done" if panoramas else "rejected",
        panoramas=tuple(panoramas),
        rejections=tuple(rejections),
        timings_s=timer.seconds,
        cpu_s=cpu_seconds(),
        cpu_by_phase_s=timer.cpu,
        peak_memory_mb=peak_memory_mb(),
        device=device,
        notes=notes,
    )


class NothingRenders(UserError):
    """A scene without any geometry that renders."""


class SceneAttempt:
    """One seed of a scene: generated, prepared and ready to be rendered from several poses."""

    def __init__(self, request: SceneRequest, seed: int, timer: Timer, folder: Path):
        self.request, self.config, self.seed, self.timer, self.folder = (
            request,
            request.render,
            seed,
            timer,
            folder,
        )
        self.scene = self._generate()
        with timer.phase("prepare"):
            self.animation = self._animation()
            self.prepared = prepared_scene.prepare(
                self.scene, self.config.subdivision_cap, self.animation
            )
            self.scatter_of, scatters = numbered_scatters(
                self.prepared.things, self.prepared.scatters
            )
            self.things = (*self.prepared.things, *scatters)
            materials.set_displacement(self.config.displacement)
            lighting.relight(self.config.light, self.prepared.things)
            if draw := self.config.redraw.materials:
                redraw_colours(self.prepared.things, self.seed, draw)
            self.instances = SceneInstances()
            self.surface: Surface = scene_surface()
            if not self.surface.triangles:
                raise NothingRenders(
                    f"{request.scene.variant}: nothing in its scene {bpy.context.scene.name!r}"
                    " renders (no mesh, curve, text, hair, point cloud or instance that a camera"
                    " sees). Is the right scene active, and are its collections shown in renders?"
                )
            self.videos = VideoPlans(self) if self.config.video else None
            self.poses: list[Pose] = self.videos.probes() if self.videos else self._poses()
            self.panes = self._panes() if self.config.glass == "see-through" else {}
        self.device = choose_device(self.config.device, self.config.threads)
        self.notes = self.scene.notes + self.prepared.notes
        say(
            f"{counted(len(self.prepared.things), 'thing')},"
            f" {counted(self.surface.triangles, 'triangle')},"
            f" {counted(len(self.poses), 'pose')}, {self.device}"
        )
        if self.config.secondary_materials == "flat":
            self._flatten_materials()

    def _generate(self) -> Scene:
        bpy.ops.wm.read_factory_settings(use_empty=True)
        choose_device(self.config.device, self.config.threads)  # before minutes of generation
        with self.timer.phase("generate"):
            provide_antlandscape(self.config.antlandscape, self.folder / "extensions")
            try:
                return make_redrawn(self.config, self.request.scene, self.seed)
            except SceneFailed as failed:
                raise RejectedScene("generator", str(failed)) from failed

    def _animation(self) -> list[float]:
        """The frames of a file's own animation that its video shows; none without one."""
        video = self.config.video
        if video is None or not video.animation:
            return []
        frames = scene_frames(video.frames, video.fps)
        set_frame(frames[0])
        return frames

    @property
    def regions(self) -> tuple[Region, ...]:
        """Where cameras may stand."""
        return self.scene.regions or (places.anywhere(self.surface),)

    def _poses(self) -> list[Pose]:
        fixed = poses_of(self.config.camera.poses, self.request.scene.key)
        if fixed:
            return [choice.fixed_pose(pose, self.surface) for pose in fixed]
        return self.chosen_poses()

    def chosen_poses(self) -> list[Pose]:
        """Poses at free places, the best first: as many as are asked for, and some to spare."""
        draw = self.config.camera.draw
        entropy = [self.seed, CAMERA_STREAM, *([draw] if draw else [])]
        stream = np.random.SeedSequence(entropy).generate_state(1, np.uint64)
        count = self.request.scene.cameras + self.config.camera.tries
        return choice.choose_poses(
            self.surface,
            self.regions,
            self.scene.indoor,
            self.config.camera,
            self.config.quality,
            count,
            int(stream[0]),
            frozenset(
                number
                for number, thing in enumerate(self.prepared.things, start=1)
                if "structure" in thing.flags
            ),
        )

    def _flatten_materials(self) -> None:
        """Flatten materials to their mean diffuse colour where diffusely bounced light sees them.

        The colour is measured by a small probe where each camera will stand.
        """
        with self.timer.phase("probe"):
            settings = RenderSettings.probe(PROBE_WIDTH, self.seed)
            names = materials.index_materials()
            probes = [self.render(pose, settings) for pose in self._probed()]
            colours = materials.mean_colours(
                names,
                np.concatenate([probe.material for probe in probes]),
                np.concatenate([probe.diffuse for probe in probes]),
            )
            changed = materials.flatten_secondary(colours)
        say(
            f"{changed} of {counted(len(names), 'material')} are flat to bounced light,"
            f" {len(colours)} of them"
            " measured"
        )

    def _probed(self) -> list[Pose]:
        """Where the probes are taken: where cameras will stand, or along a video's way."""
        return self.poses if self.videos else self.poses[: self.request.scene.cameras]

    def render(self, pose: Pose, settings: RenderSettings) -> Passes:
        """One render of the scene as it stands."""
        configure(settings)
        place_camera(pose, settings)
        return render_passes(settings, self.folder)

    def exact(self, front: Passes, pose: Pose, settings: RenderSettings) -> Passes:
        """`front` with exact ids, depth and normals."""
        return exact_labels(front, lambda quick: self.render(pose, quick), settings, self.prepared)

    def _panes(self) -> dict[str, int]:
        """The glass materials and their pass index."""
        order = materials.index_materials()
        return {name: order.index(name) + 1 for name in glass.glass_materials()}

    def _behind_glass(self, pose: Pose, settings: RenderSettings, front: Passes) -> Passes:
        """`front` with what is behind panes filled in.

        Only where the config asks for that and a pane is seen.
        """
        if front.material is None or not np.isin(front.material, list(self.panes.values())).any():
            return front
        with glass.removed(list(self.panes)):
            return glass.merge(
                front,
                self._seen_behind(pose, glass.behind_settings(settings)),
                list(self.panes.values()),
            )

    def _seen_behind(self, pose: Pose, settings: RenderSettings) -> Passes:
        return self.exact(self.render(pose, settings), pose, settings)

    def panoramas(self, rejections: list[Rejection]) -> list[StagedPanorama]:
        """Render pose after pose until enough panoramas are accepted.

        Refused ones are added to `rejections`.
        """
        accepted: list[StagedPanorama] = []
        if self.videos is not None:
            return render_videos(self, self.videos, rejections)
        for number, pose in enumerate(self.poses):
            if len(accepted) == self.request.scene.cameras:
                break
            try:
                accepted.append(self._panorama(pose, len(accepted)))
                say(f"staged {accepted[-1].key}: {counted(accepted[-1].instances, 'instance')}")
            except RejectedScene as rejected:
                rejections.append(
                    Rejection(
                        seed=self.seed, pose=number, reason=rejected.reason, detail=rejected.detail
                    )
                )
                say(f"rejected pose {number}: {rejected}")
        return accepted

    def _panorama(self, pose: Pose, camera: int) -> StagedPanorama:
        settings = RenderSettings.of(self.config, self.seed + camera)
        passes, own = self.render(pose, settings), Timer()
        try:
            with own.measure("write"):
                ev = self.config.exposure_ev
                ev = quality.auto_exposure_ev(passes.linear) if ev is None else ev
                rgb = display_rgb(
                    settings, self.config.view_transform, self.config.look, ev, self.folder
                )
            passes = self._behind_glass(pose, settings, self.exact(passes, pose, settings))
            say(", ".join(f"{name} {seconds:.1f} s" for name, seconds in passes.timings_s.items()))
            with own.measure("write"):
                labels, old = dense_ids(self._with_ids(passes.index))
                things = {id_: self.label(int(index)) for id_, index in enumerate(old, start=1)}
                structure = frozenset(
                    id_ for id_, label in things.items() if "structure" in label.flags
                )
                quality.check_panorama(
                    quality.RenderedPanorama(
                        passes.linear, rgb, labels, passes.depth_m, structure, self.scene.indoor
                    ),
                    self.config.quality,
                )
            with own.measure("describe"):
                names = {
                    id_: self._in_space(label, int(old[id_ - 1]), id_, labels, pose)
                    for id_, label in things.items()
                }
            with own.measure("write"):
                arrays = self._arrays(passes, rgb, labels, names)
                meta = self.meta(
                    camera,
                    pose,
                    labels,
                    names,
                    {**passes.timings_s, **own.seconds},
                    {**passes.cpu_s, **own.cpu},
                )
                record = write_staged(
                    self.request.staged, meta, arrays, jpeg_quality=self.config.jpeg_quality
                )
        finally:
            for name, seconds in [*passes.timings_s.items(), *own.seconds.items()]:
                self.timer.add(name, seconds, {**passes.cpu_s, **own.cpu}[name])
        return StagedPanorama(
            key=meta.key,
            sha256=record.sha256,
            instances=len(meta.instances),
            timings_s=meta.timings_s,
        )

    def _in_space(
        self, label: InstanceLabel, index: int, id_: int, labels: NDArray[np.uint16], pose: Pose
    ) -> InstanceLabel:
        """`label` with the instance's box and visibility. A scatter's own id has neither."""
        if index > len(self.prepared.things):
            return label
        return replace(
            label,
            box_3d=self.instances.box(index),
            visibility=self.instances.visibility(index, id_, labels, pose),
        )

    def _with_ids(self, index: NDArray[np.int32]) -> NDArray[np.int32]:
        """The number of the thing, or of the scatter, whose id each pixel carries."""
        least = np.inf if self.config.instances == "per-scatter" else self.config.min_scattered_sr
        return joined(index, self.scatter_of, least)

    def label(self, number: int) -> InstanceLabel:
        """What a thing or a scatter is, by its number."""
        thing = self.things[number - 1]
        return InstanceLabel(thing.name, thing.category, thing.source, thing.flags)

    def _arrays(
        self,
        passes: Passes,
        rgb: NDArray[np.uint8],
        labels: NDArray[np.uint16],
        names: dict[int, InstanceLabel],
    ) -> dict[str, NDArray]:
        """The arrays of the products asked for, by member suffix."""
        arrays = self.seen_arrays(passes, rgb) | self.label_arrays(labels, names)
        return {suffix: arrays[suffix] for suffix in self.config.product_suffixes}

    def label_arrays(
        self, labels: NDArray[np.uint16], names: Mapping[int, InstanceLabel]
    ) -> dict[str, NDArray]:
        """The arrays of ids, by member suffix."""
        arrays: dict[str, NDArray] = {"instance.zst": labels}
        if "semantic" in self.config.products:
            arrays["semantic.zst"] = semantic_map(
                labels, {id_: label.category for id_, label in names.items()}
            )
        return arrays

    def seen_arrays(self, passes: Passes, rgb: NDArray[np.uint8]) -> dict[str, NDArray]:
        """The arrays of what a render shows, by member suffix."""
        arrays: dict[str, NDArray] = {
            f"rgb.{self.config.rgb_format}": rgb,
            "depth.delta.zst": (
                half_depth(passes.depth_m)
                if self.config.depth_format == "float16"
                else passes.depth_m
            ),
            "normal.oct.zst": passes.normal,
            "normal.delta.zst": passes.normal.astype(np.float16),
        }
        if passes.albedo is not None:
            arrays["albedo.jpg"] = encode_srgb(passes.albedo)
        wanted = self.config.product_suffixes
        return {suffix: array for suffix, array in arrays.items() if suffix in wanted}

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
        job, config = self.request.scene, self.config
        made = len(job.sample_keys)
        shared = {name: self.timer.seconds.get(name, 0.0) / made for name in SHARED}
        shared_cpu = {name: self.timer.cpu.get(name, 0.0) / made for name in SHARED}
        frame = video.frame if video else 0
        return SampleMeta(
            key=job.sample_key(camera, frame),
            width=config.width,
            height=config.height,
            source=f"{job.source}/{Path(job.variant).stem}",
            scene=job.key,
            seed=self.seed,
            camera=camera,
            video=video,
            pose=pose,
            products=config.product_suffixes if video is None else config.frame_suffixes(frame),
            instances=instance_table(labels, names, rle=config.rle),
            notes=self.notes,
            config_sha256=self.request.config_sha256,
            versions=versions(config, self.scene),
            timings_s={**shared, **timings_s},
            cpu_s={**shared_cpu, **cpu_s},
            peak_memory_mb=peak_memory_mb(),
            hardware={
                "device": self.device,
                "cpus": str(os.cpu_count()),
                "machine": platform.machine(),
                "threads": str(config.threads or os.cpu_count()),
            },
        )


def versions(config: RenderConfig, scene: Scene) -> dict[str, str]:
    """What made the pixels."""
    return {"panoforge": version("panoforge"), "bpy": version("bpy"), **scene.versions}


def encode_srgb(linear: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Linear 0-1 colour → 8-bit sRGB (IEC 61966-2-1)."""
    encoded = np.where(
        linear <= 0.0031308,
        12.92 * linear,
        1.055 * np.power(np.maximum(linear, 1e-9), 1 / 2.4) - 0.055,
    )
    return np.rint(np.clip(encoded, 0, 1) * 255).astype(np.uint8)
