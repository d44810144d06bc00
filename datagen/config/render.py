"""What a render run asks for, and the list of scenes that follows from it. Imports no bpy.

`RenderConfig` is the `render:` part of a config file, validated here and nowhere else.
`plan_scenes` turns it into one `SceneJob` per scene. It is a pure function: a laptop, the head of a
cluster and a test plan the same list. Scene 7 is the same scene whether 8 or 80,000 are asked for.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import BeforeValidator, Field, model_validator

from panoforge.core.geometry.views import MAX_PANORAMA_WIDTH
from panoforge.core.models import FrozenModel
from panoforge.core.names import frame_key
from panoforge.core.numbers import counted
from panoforge.core.sample.products import FLOWS
from panoforge.core.storage.location import PathText
from panoforge.datagen.config.poses import FixedPose, read_poses
from panoforge.datagen.config.video import VideoSettings
from panoforge.datagen.source_settings import (
    AnySource,
    BlendSource,
    RoomsSource,
    SceneSourceSettings,
)

__all__ = [
    "BlendSource",
    "CameraSettings",
    "LightSettings",
    "QualitySettings",
    "RedrawSettings",
    "RenderConfig",
    "RoomsSource",
    "SceneJob",
    "plan_scene",
    "plan_scenes",
    "scene_seed",
    "source_of",
]

# How each rendered product is stored. rgb and normal have two forms, which the config settles.
PRODUCT_SUFFIXES = {
    "instance": "instance.zst",
    "depth": "depth.delta.zst",
    "semantic": "semantic.zst",
    "albedo": "albedo.jpg",
    **{name: f"{name}.delta.zst" for name in FLOWS},
}
ProductName = Literal[
    "rgb", "instance", "depth", "normal", "semantic", "albedo", "flow_forward", "flow_backward"
]


class CameraSettings(FrozenModel):
    """Where a panorama may be taken from. Lengths in metres, angles in degrees."""

    placement: Annotated[
        Literal["eye_height", "free"],
        Field(
            description="Where a camera stands: at eye height, or anywhere from floor to ceiling."
        ),
    ] = "eye_height"
    eye_height_m: Annotated[
        tuple[float, float],
        Field(description="Lowest and highest eye height, uniform: a standing or sitting person."),
    ] = (1.3, 1.7)
    clearance_m: Annotated[
        float,
        Field(
            gt=0,
            description="Least distance to any surface; nearer ones fill a third of the sphere.",
        ),
    ] = 0.35
    tilt_deg: Annotated[
        float, Field(ge=0, le=45, description="Largest pitch and roll, uniform.")
    ] = 0.0
    poses: Annotated[
        tuple[FixedPose, ...],
        BeforeValidator(read_poses),
        Field(
            description="Poses instead of choosing them, or the .json or .csv file that holds them."
        ),
    ] = ()
    draw: Annotated[
        int,
        Field(ge=0, description="Which draw of places; another number: others in the same scenes."),
    ] = 0
    tries: Annotated[
        int, Field(ge=1, le=100, description="Poses rendered before a scene is given up.")
    ] = 6
    choose: Annotated[
        Literal["random", "coverage"],
        Field(description="Which of the free places are taken: any, or the set that sees most."),
    ] = "coverage"


class LightSettings(FrozenModel):
    """Other light than the scene was made with. Angles in degrees."""

    sun_elevation_deg: Annotated[
        Annotated[float, Field(ge=-10, le=90)] | None,
        Field(description="Height of the sun above the horizon; null leaves it where it is."),
    ] = None
    lamps: Annotated[
        Literal["as-made", "off"], Field(description="Lamps as the scene has them, or all off.")
    ] = "as-made"


class RedrawSettings(FrozenModel):
    """What is drawn anew in a scene that was generated once.

    0 leaves it as it was made, every other number is another draw.
    """

    materials: Annotated[
        int, Field(ge=0, description="Which draw of colours of materials; 0: as made.")
    ] = 0
    furniture: Annotated[
        int, Field(ge=0, description="Which draw of places of furniture, indoors; 0: as made.")
    ] = 0


MIN_INSTANCES_INDOORS, MIN_INSTANCES_OUTDOORS = 8, 2


class QualitySettings(FrozenModel):
    """When a panorama is refused.

    Fractions are of the sphere (cos φ-weighted), luminances are linear scene values.
    """

    min_instances: Annotated[
        Annotated[int, Field(ge=0)] | None,
        Field(
            description="Visible instances that a panorama must have; null: 8 indoors, and 2 in a"
            " landscape: the ground and a thing."
        ),
    ] = None
    min_instance_sr: Annotated[
        float,
        Field(
            description="Solid angle from which an instance is visible; about 4×4 px of 1024×512."
        ),
    ] = 1e-4
    max_single_instance: Annotated[
        float,
        Field(
            description="Share of the sphere above which one thing, no wall or floor, is too close."
        ),
    ] = 0.6
    near_m: Annotated[float, Field(description="Distance below which a pixel is near.")] = 0.08
    max_near: Annotated[float, Field(description="Largest share of near pixels.")] = 0.05
    max_backfacing: Annotated[
        float,
        Field(description="Largest share of rays that meet a thing around the camera from behind."),
    ] = 0.02
    min_mean_luminance: Annotated[
        float,
        Field(
            description="Least mean luminance, linear, before exposure; below it the light is off."
        ),
    ] = 1e-4
    max_clipped: Annotated[
        float, Field(description="Largest share of pure white pixels after the view transform.")
    ] = 0.35
    min_spread: Annotated[
        float,
        Field(description="Least standard deviation of 8-bit luma: below it the picture is flat."),
    ] = 3.0
    max_magenta: Annotated[
        float,
        Field(
            description="Largest share of magenta, which Cycles paints where a shader is missing."
        ),
    ] = 0.001

    def least_instances(self, indoor: bool) -> int:
        """How many instances a panorama must show."""
        if self.min_instances is not None:
            return self.min_instances
        return MIN_INSTANCES_INDOORS if indoor else MIN_INSTANCES_OUTDOORS


class RenderConfig(FrozenModel):
    """The `render:` section of a config."""

    sources: Annotated[
        tuple[SceneSourceSettings, ...],
        Field(
            min_length=1,
            description="Where scenes come from, taken in turn; pano sources lists them.",
        ),
    ] = (RoomsSource(source="infinigen2.rooms"),)
    antlandscape: Annotated[
        PathText,
        Field(description="Blender's extension for landscapes: installed, online, or a zip file."),
    ] = "installed"
    scenes: Annotated[int, Field(ge=1, le=10_000_000, description="How many scenes are made.")] = 1
    cameras_per_scene: Annotated[
        int, Field(ge=1, le=64, description="Panoramas of each scene.")
    ] = 2
    seed: Annotated[int, Field(ge=0, lt=2**63, description="Decides every scene of the run.")] = 0
    width: Annotated[
        int, Field(ge=64, multiple_of=2, description="Width of a panorama in pixels.")
    ] = 4096
    height: Annotated[int, Field(ge=32, description="Height, half the width.")] = 2048
    samples: Annotated[
        int,
        Field(
            ge=1,
            le=65536,
            description="Samples of each pixel at most, which adaptive_threshold may end.",
        ),
    ] = 64
    adaptive_threshold: Annotated[
        float,
        Field(ge=0, le=1, description="Noise at which a pixel stops being sampled; 0 never stops."),
    ] = 0.02
    max_bounces: Annotated[
        int, Field(ge=0, le=64, description="Bounces of light at most, diffuse and glossy alike.")
    ] = 4
    denoise: Annotated[
        bool, Field(description="Denoise the colours; labels are never touched.")
    ] = True
    denoise_quality: Annotated[
        Literal["HIGH", "BALANCED", "FAST"],
        Field(description="How well it denoises: HIGH is slowest."),
    ] = "HIGH"
    view_transform: Annotated[
        Literal["AgX", "Filmic", "Standard"], Field(description="Blender's view transform.")
    ] = "AgX"
    look: Annotated[str, Field(description="Blender's look on top of it.")] = (
        "AgX - Medium High Contrast"
    )
    exposure_ev: Annotated[
        float | None,
        Field(description="Exposure; null sets it per panorama from its own luminance."),
    ] = None
    products: Annotated[
        tuple[ProductName, ...],
        Field(description="What is stored: rgb, instance, depth, normal, semantic, albedo."),
    ] = ("rgb", "instance", "depth", "normal")
    rgb_format: Annotated[
        Literal["jpg", "png"], Field(description="File format of the colours.")
    ] = "jpg"
    depth_format: Annotated[
        Literal["float32", "float16"],
        Field(description="Depth as rendered, or to 0.05 % of the distance at a fifth of it."),
    ] = "float32"
    normal_format: Annotated[
        Literal["octahedral", "float16"],
        Field(description="Normals to 0.05°, or as float16 (0.02°) at up to several times that."),
    ] = "octahedral"
    jpeg_quality: Annotated[int, Field(ge=50, le=100, description="Quality of JPEG files.")] = 95
    rle: Annotated[
        bool, Field(description="Store every instance as COCO RLE in the metadata too.")
    ] = False
    subdivision_cap: Annotated[
        int, Field(ge=0, le=6, description="Most levels of subdivision of a surface.")
    ] = 2
    displacement: Annotated[
        Literal["off", "bump", "true"],
        Field(description="Displacement of materials: none, by normals only, or of the surface."),
    ] = "off"
    secondary_materials: Annotated[
        Literal["flat", "full"],
        Field(description="What diffusely bounced light sees of a material."),
    ] = "flat"
    instances: Annotated[
        Literal["each", "per-scatter"],
        Field(description="Whether instances have ids of their own, or one per scatter."),
    ] = "each"
    min_scattered_sr: Annotated[
        float,
        Field(
            ge=0,
            description="Solid angle below which an instance shares its scatter's id; 0: never.",
        ),
    ] = 1e-4
    glass: Annotated[
        Literal["solid", "see-through"],
        Field(description="Whether ids, depth and normals show a pane or what is behind it."),
    ] = "solid"
    device: Annotated[
        Literal["auto", "cpu", "cuda", "optix", "hip", "oneapi", "metal"],
        Field(description="Where Cycles renders."),
    ] = "auto"
    threads: Annotated[
        int, Field(ge=0, le=1024, description="CPU threads of a scene; 0 takes ray.cpus_per_scene.")
    ] = 0
    time_limit_s: Annotated[float, Field(gt=0, description="Seconds that a scene may take.")] = (
        3600.0
    )
    scene_tries: Annotated[
        int, Field(ge=1, le=10, description="Seeds tried before a scene counts as rejected.")
    ] = 2
    camera: Annotated[CameraSettings, Field(description="Where panoramas are taken from.")] = (
        CameraSettings()
    )
    light: Annotated[
        LightSettings, Field(description="Other light than the scene was made with.")
    ] = LightSettings()
    redraw: Annotated[
        RedrawSettings, Field(description="Other colours and places in the same scenes.")
    ] = RedrawSettings()
    quality: Annotated[QualitySettings, Field(description="When a panorama is refused.")] = (
        QualitySettings()
    )
    video: Annotated[
        VideoSettings | None, Field(description="Videos instead of panoramas; null makes stills.")
    ] = None

    @model_validator(mode="after")
    def _consistent(self) -> "RenderConfig":
        if self.width > MAX_PANORAMA_WIDTH:
            raise ValueError(
                f"width {self.width} is over {MAX_PANORAMA_WIDTH}, the widest that views can be"
                " sampled from: nothing here could read a wider panorama. Set a smaller width"
            )
        if self.width != 2 * self.height:
            raise ValueError(
                f"a full panorama is twice as wide as high, got {self.width}×{self.height}: "
                f"set width={2 * self.height} or height={self.width // 2}"
            )
        missing = {"rgb", "instance"} - set(self.products)
        if missing:
            raise ValueError(
                f"products must include rgb and instance (a sample is not one without them), "
                f"missing {sorted(missing)}"
            )
        self._check_video()
        if self.camera.eye_height_m[0] > self.camera.eye_height_m[1]:
            raise ValueError(
                f"camera.eye_height_m is (lowest, highest), got {self.camera.eye_height_m}"
            )
        return self

    def _check_video(self) -> None:
        """ValueError for what of a video's settings would be ignored, or could not be right."""
        flows = sorted(set(self.products) & set(FLOWS))
        if self.video is None:
            if flows:
                raise ValueError(
                    f"{', '.join(flows)} leads from frame to frame: set video, or leave it out of"
                    " products"
                )
            return
        ignored = [
            name
            for name, given in (("poses", self.camera.poses), ("tilt_deg", self.camera.tilt_deg))
            if given
        ]
        if ignored:
            raise ValueError(
                f"camera.{ignored[0]} would be ignored: video.camera says how the camera of a"
                " video goes"
            )
        if self.glass == "see-through":
            raise ValueError(
                "glass=see-through is not there for videos yet: what is seen through a pane moves"
                " otherwise than the pane. Set glass=solid"
            )
        if flows and self.displacement == "true":
            raise ValueError(
                "displacement=true moves surfaces where no ray can see them, so flow could not say"
                " what is hidden: set displacement=bump or off, or leave the flows out of products"
            )
        blend = [isinstance(source, BlendSource) for source in self.sources]
        if self.video.animation and not all(blend):
            raise ValueError("video.animation plays .blend files: take sources of kind blend only")
        if self.video.animation and self.video.objects:
            raise ValueError(
                "video.objects moves what stands still, and video.animation what the file moves:"
                " take one of the two away"
            )
        poses = self.video.camera.poses
        of_all = sum(pose.scene is None for pose in poses)
        wanted = self.video.frames * self.cameras_per_scene
        if poses and of_all == len(poses) and of_all != wanted:
            raise ValueError(
                f"video.camera.poses has one row a frame, so it needs {counted(wanted, 'row')}"
                f" ({counted(self.cameras_per_scene, 'video')} of"
                f" {counted(self.video.frames, 'frame')}), it has {len(poses)}"
            )

    @property
    def panoramas_per_scene(self) -> int:
        """How many samples a scene gives: its panoramas, or the frames of its videos."""
        return self.cameras_per_scene * (self.video.frames if self.video else 1)

    @property
    def product_suffixes(self) -> tuple[str, ...]:
        """Member names of the products asked for, sorted, as the sample's metadata lists them."""
        suffixes = {
            "rgb": f"rgb.{self.rgb_format}",
            "normal": {"octahedral": "normal.oct.zst", "float16": "normal.delta.zst"}[
                self.normal_format
            ],
            **PRODUCT_SUFFIXES,
        }
        return tuple(sorted(suffixes[name] for name in set(self.products)))

    def frame_suffixes(self, frame: int) -> tuple[str, ...]:
        """The same of a frame of a video: no flow leads before the first or behind the last."""
        last = self.video.frames - 1 if self.video else 0
        ends = {"flow_backward.delta.zst": 0, "flow_forward.delta.zst": last}
        return tuple(suffix for suffix in self.product_suffixes if ends.get(suffix) != frame)


@dataclass(frozen=True)
class SceneJob:
    """One scene to make.

    `seeds` are tried in order; `cameras` panoramas are taken of the first good one.
    """

    index: int
    key: str
    source: str  # e.g. infinigen2.rooms
    variant: str  # e.g. kitchen, or a path for source blend
    seeds: tuple[int, ...]
    cameras: int
    entry: int = 0  # which of the config's sources
    frames: int = 0  # of each video; 0: panoramas

    def sample_key(self, camera: int, frame: int = 0) -> str:
        """Key of the panorama of one camera, or of a frame of a video; a scene's sort by these."""
        return frame_key(f"{self.key}-v{camera}", frame) if self.frames else f"{self.key}-c{camera}"

    @property
    def sample_keys(self) -> list[str]:
        """Keys of all that is made of the scene."""
        return [
            self.sample_key(camera, frame)
            for camera in range(self.cameras)
            for frame in range(max(1, self.frames))
        ]


def scene_seed(seed: int, index: int, attempt: int) -> int:
    """The seed of a scene: 63 bits drawn from (run seed, scene index, attempt).

    No two scenes share an RNG stream, nor do runs with other seeds.
    """
    low, high = np.random.SeedSequence([seed, index, attempt]).generate_state(2, np.uint32)
    return (int(high) << 32 | int(low)) >> 1


def plan_scenes(config: RenderConfig) -> list[SceneJob]:
    """The scenes of a run: sources and their variants taken in turn.

    Scene i depends on `seed`, `sources` and i only.
    """
    return [plan_scene(config, index) for index in range(config.scenes)]


def plan_scene(config: RenderConfig, index: int) -> SceneJob:
    """Scene `index` of a run, without those before it.

    A resumed run of 183,440 scenes plans only what is missing.
    """
    kinds = [
        (entry, variant)
        for entry, source in enumerate(config.sources)
        for variant in source.variants
    ]
    return _scene_job(config, index, *kinds[index % len(kinds)])


def _scene_job(config: RenderConfig, index: int, entry: int, variant: str) -> SceneJob:
    source = config.sources[entry]
    seeds = tuple(scene_seed(config.seed, index, attempt) for attempt in range(config.scene_tries))
    return SceneJob(
        index,
        f"{source.slug(variant)}-{index:08d}",
        source.source,
        variant,
        seeds,
        config.cameras_per_scene,
        entry,
        config.video.frames if config.video else 0,
    )


def source_of(config: RenderConfig, job: SceneJob) -> AnySource:
    """The entry of the config that `job` was planned from."""
    return config.sources[job.entry]
