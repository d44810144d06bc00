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
from panoforge.datagen.poses import FixedPose, read_poses
from panoforge.datagen.source_settings import AnySource, BlendSource, RoomsSource, SourceSettings

__all__ = [
    "BlendSource",
    "CameraSettings",
    "QualitySettings",
    "RenderConfig",
    "RoomsSource",
    "SceneJob",
    "plan_scene",
    "plan_scenes",
    "scene_seed",
    "source_of",
]

# How each rendered product is stored. rgb has two forms and is settled by `rgb_format`.
PRODUCT_SUFFIXES = {
    "instance": "instance.zst",
    "depth": "depth.zst",
    "normal": "normal.zst",
    "semantic": "semantic.zst",
    "albedo": "albedo.jpg",
}
ProductName = Literal["rgb", "instance", "depth", "normal", "semantic", "albedo"]


class CameraSettings(FrozenModel):
    """Where a panorama may be taken from. Lengths in metres, angles in degrees."""

    placement: Literal["eye_height", "free"] = (
        "eye_height"  # free: anywhere between floor and ceiling
    )
    eye_height_m: tuple[float, float] = (
        1.3,
        1.7,
    )  # uniform; a standing or sitting person, as in real captures
    clearance_m: Annotated[float, Field(gt=0)] = 0.35  # nearer surfaces fill a third of the sphere
    tilt_deg: Annotated[float, Field(ge=0, le=45)] = 0.0  # largest pitch and roll, uniform
    # Instead of choosing: poses, or the .json or .csv file that holds them (datagen/poses.py).
    poses: Annotated[tuple[FixedPose, ...], BeforeValidator(read_poses)] = ()
    tries: Annotated[int, Field(ge=1, le=100)] = 6  # poses rendered before a scene is given up
    choose: Literal["random", "coverage"] = (
        "coverage"  # of the free places: any, or the set that sees most
    )


class QualitySettings(FrozenModel):
    """When a panorama is refused. Fractions are of the sphere (cos φ-weighted), luminances are
    linear scene values.
    """

    min_instances: Annotated[int, Field(ge=0)] = 8
    min_instance_sr: float = (
        1e-4  # what counts as a visible instance: about 4×4 pixels of a 1024×512 panorama
    )
    max_single_instance: float = (
        0.6  # one thing (not a wall, floor or ceiling) fills more than this: too close to it
    )
    near_m: float = 0.08
    max_near: float = 0.05
    # share of rays that meet a thing around the camera from behind: it is inside that thing
    max_backfacing: float = 0.02
    min_mean_luminance: float = 1e-4  # linear, before exposure: below it the lights are off
    max_clipped: float = 0.35  # share of pixels that are pure white after the view transform
    min_spread: float = 3.0  # standard deviation of 8-bit luma: below it the picture is flat
    max_magenta: float = 0.001  # Cycles paints missing shaders pure magenta


class RenderConfig(FrozenModel):
    """The `render:` section of a config."""

    sources: Annotated[tuple[SourceSettings, ...], Field(min_length=1)] = (
        RoomsSource(source="infinigen2.rooms"),
    )
    # Blender's extension for Infinigen's landscapes: installed, online, or a zip file's path
    antlandscape: str = "installed"
    scenes: Annotated[int, Field(ge=1, le=10_000_000)] = 1
    cameras_per_scene: Annotated[int, Field(ge=1, le=64)] = 2
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    width: Annotated[int, Field(ge=64, multiple_of=2)] = 4096
    height: Annotated[int, Field(ge=32)] = 2048
    samples: Annotated[int, Field(ge=1, le=65536)] = 64
    adaptive_threshold: Annotated[float, Field(ge=0, le=1)] = (
        0.02  # noise at which a pixel stops; 0 never stops
    )
    max_bounces: Annotated[int, Field(ge=0, le=64)] = 4
    denoise: bool = True
    denoise_quality: Literal["HIGH", "BALANCED", "FAST"] = "HIGH"
    view_transform: Literal["AgX", "Filmic", "Standard"] = "AgX"
    look: str = "AgX - Medium High Contrast"
    exposure_ev: float | None = None  # None: set per panorama from its own luminance
    products: tuple[ProductName, ...] = ("rgb", "instance", "depth", "normal")
    rgb_format: Literal["jpg", "png"] = "jpg"
    jpeg_quality: Annotated[int, Field(ge=50, le=100)] = 95
    rle: bool = False  # COCO RLE of every instance in the metadata
    subdivision_cap: Annotated[int, Field(ge=0, le=6)] = 2
    displacement: Literal["off", "bump", "true"] = (
        "off"  # of materials; see datagen/materials.py for what each costs
    )
    secondary_materials: Literal["flat", "full"] = (
        "flat"  # what diffusely bounced light sees of a material
    )
    glass: Literal["solid", "see-through"] = (
        "solid"  # what ids, depth and normals show where one looks through glass
    )
    device: Literal["auto", "cpu", "cuda", "optix", "hip", "oneapi", "metal"] = "auto"
    threads: Annotated[int, Field(ge=0, le=1024)] = 0  # 0: all cores
    time_limit_s: Annotated[float, Field(gt=0)] = (
        3600.0  # per scene; the parent process enforces it
    )
    scene_tries: Annotated[int, Field(ge=1, le=10)] = (
        2  # seeds tried before a scene counts as rejected
    )
    camera: CameraSettings = CameraSettings()
    quality: QualitySettings = QualitySettings()

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
        if self.camera.eye_height_m[0] > self.camera.eye_height_m[1]:
            raise ValueError(
                f"camera.eye_height_m is (lowest, highest), got {self.camera.eye_height_m}"
            )
        return self

    @property
    def product_suffixes(self) -> tuple[str, ...]:
        """Member names of the products asked for, sorted, as the sample's metadata lists them."""
        suffixes = {"rgb": f"rgb.{self.rgb_format}", **PRODUCT_SUFFIXES}
        return tuple(sorted(suffixes[name] for name in set(self.products)))


@dataclass(frozen=True)
class SceneJob:
    """One scene to make. `seeds` are tried in order; `cameras` panoramas are taken of the first
    good one.
    """

    index: int
    key: str
    source: str  # e.g. infinigen2.rooms
    variant: str  # e.g. kitchen, or a path for source blend
    seeds: tuple[int, ...]
    cameras: int
    entry: int = 0  # which of the config's sources

    def sample_key(self, camera: int) -> str:
        """Key of the panorama of one camera; the keys of a scene sort by camera."""
        return f"{self.key}-c{camera}"


def scene_seed(seed: int, index: int, attempt: int) -> int:
    """The seed of a scene: 63 bits drawn from (run seed, scene index, attempt).

    No two scenes share an RNG stream, nor do runs with other seeds.
    """
    low, high = np.random.SeedSequence([seed, index, attempt]).generate_state(2, np.uint32)
    return (int(high) << 32 | int(low)) >> 1


def plan_scenes(config: RenderConfig) -> list[SceneJob]:
    """The scenes of a run: sources and their variants taken in turn. Scene i depends on `seed`,
    `sources` and i only.
    """
    return [plan_scene(config, index) for index in range(config.scenes)]


def plan_scene(config: RenderConfig, index: int) -> SceneJob:
    """Scene `index` of a run, without those before it: a resumed run of 183,440 scenes plans only
    what is missing.
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
    )


def source_of(config: RenderConfig, job: SceneJob) -> AnySource:
    """The entry of the config that `job` was planned from."""
    return config.sources[job.entry]
