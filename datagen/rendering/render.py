"""One Cycles render per panorama gives everything: colour, instance ids, depth along the ray, world
normals, albedo.

Ids are the Object Index pass of the beauty render itself. Cycles writes that pass, and depth, at
sample 0 only, which it fires through the pixel centre whatever the pixel filter is: an exact,
alias-free label map at no extra cost, where the usual second render costs as much as the picture.
`pass_alpha_threshold = 0` makes it the first geometry hit even where a surface is transparent. The
passes are float32, so they travel in a full-float EXR (half floats end at 2048 ids).

The camera is Cycles' equirectangular one, aligned with `panoforge.core.geometry.sphere`: it looks
along the panorama's forward, longitude 0 at the image centre. Depth of a panoramic Cycles camera is
the distance along the ray. Normals are world-space shading normals averaged over the pixel,
normalised here. Denoised frames are rendered a few columns wider than the full circle (the
equirectangular range simply runs on) and cropped, so that the denoiser sees across the seam.
"""

import contextlib
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import bpy
import numpy as np
import OpenEXR
from mathutils import Matrix
from numpy.typing import NDArray

from panoforge.core.sample.metadata import Pose
from panoforge.datagen.config import RenderConfig
from panoforge.datagen.quality import RejectedScene

SKY_DEPTH_M = 1e9  # Cycles writes 1e10 where a ray meets nothing
TILE_PX = 8192  # the largest that Cycles takes; a panorama up to that width is one tile
GPU_KINDS = ("OPTIX", "CUDA", "HIP", "ONEAPI", "METAL")
# importance map of the sky; Cycles' own choice costs 2 s per render and the sun is a lamp of its
# own
WORLD_MAP_PX = 512
# the most a dielectric's clear layer reflects; what is more is metal, which is beside the diffuse
# colour, not above
LAYER = 0.08
SEAM_FRACTION = 64  # the denoiser sees this part of the width beyond either end


# What a .blend from elsewhere, or another exporter in this process, may have left otherwise:
# Cycles' own defaults. One sample as the least of an adaptive render, as Infinigen's exporters left
# it, raised our error at 128 samples from 4.4 to 4.5 (of 255).
PLAIN = {
    "adaptive_min_samples": 0,
    "sampling_pattern": "AUTOMATIC",
    "light_sampling_threshold": 0.01,
    "use_guiding": False,
    "scrambling_distance": 1.0,
    "auto_scrambling_distance": False,
    "direct_light_sampling_type": "MULTIPLE_IMPORTANCE_SAMPLING",
    "min_light_bounces": 0,
    "min_transparent_bounces": 0,
    "blur_glossy": 1.0,
    "use_camera_cull": False,
    "use_distance_cull": False,
    "texture_limit_render": "OFF",
    "feature_set": "SUPPORTED",
    "use_layer_samples": "USE",
}


class RenderFailed(Exception):
    """Cycles said that something is wrong: a shader did not compile, a texture is missing, memory
    ran out.
    """


@dataclass(frozen=True)
class Passes:
    """One render: `linear` float32 H×W×3 scene-referred colour, `index` int32 H×W pass index (0 =
    nothing), `depth_m` float32 H×W (+inf = nothing), `normal` float32 H×W×3 world frame (0 =
    nothing), `albedo` float32 H×W×3 linear, `material` int32 H×W, `diffuse` as `albedo`: its
    diffuse part (`unlayered`). `timings_s` has sync, sample and save.
    """

    linear: NDArray[np.float32]
    index: NDArray[np.int32]
    depth_m: NDArray[np.float32]
    normal: NDArray[np.float32]
    albedo: NDArray[np.float32] | None
    material: NDArray[np.int32] | None
    diffuse: NDArray[np.float32] | None = None
    timings_s: dict[str, float] = field(default_factory=dict)
    cpu_s: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RenderSettings:
    """What one render needs to know. A probe is the same with other figures. `alpha_threshold`: a
    surface less opaque than this leaves the data passes to what is behind it.
    """

    width: int
    height: int
    samples: int
    adaptive_threshold: float
    max_bounces: int
    denoise: bool
    denoise_quality: str
    albedo: bool
    material_index: bool
    seed: int
    alpha_threshold: float = 0.0
    diffuse: bool = False

    @property
    def seam_px(self) -> int:
        """Extra columns on either side, for the denoiser."""
        return self.width // SEAM_FRACTION if self.denoise else 0

    @staticmethod
    def of(config: RenderConfig, seed: int) -> "RenderSettings":
        """The settings of the final render."""
        return RenderSettings(
            config.width,
            config.height,
            config.samples,
            config.adaptive_threshold,
            config.max_bounces,
            config.denoise,
            config.denoise_quality,
            "albedo" in config.products,
            config.glass == "see-through",
            seed % 2**31,
        )

    @staticmethod
    def probe(width: int, seed: int) -> "RenderSettings":
        """One sample, no bounce: what a material's colour is, and what is seen from a place."""
        return RenderSettings(
            width, width // 2, 1, 0.0, 0, False, "FAST", True, True, seed % 2**31, diffuse=True
        )


def choose_device(wanted: str, threads: int) -> tuple[str, str | None]:
    """Set Cycles to the device named, or the best one for `auto`. Returns (what is used, warning or
    None).
    """
    scene = bpy.context.scene
    scene.render.threads_mode = "FIXED" if threads else "AUTO"
    if threads:
        scene.render.threads = threads
    preferences = bpy.context.preferences.addons["cycles"].preferences
    kinds = {"auto": GPU_KINDS, "cpu": ()}.get(wanted, (wanted.upper(),))
    for kind in kinds:
        try:
            preferences.compute_device_type = kind
        except TypeError:  # this build of Blender does not know that kind
            continue
        preferences.refresh_devices()
        found = [device for device in preferences.devices if device.type == kind]
        if found:
            for device in preferences.devices:
                device.use = device.type == kind
            scene.cycles.device = "GPU"
            return f"{kind.lower()}: {found[0].name}", None
    scene.cycles.device = "CPU"
    warning = (
        None
        if wanted in ("auto", "cpu")
        else f"device {wanted} was asked for and none was found: rendering on the CPU"
    )
    return "cpu", warning


def assign(owner: bpy.types.bpy_struct, **values: object) -> None:
    """Set those properties of `owner` that have another value. Blender takes every assignment for a
    change, and evaluates and synchronises for the next render whatever depends on it: of 0.17
    core-seconds that a further view of a furnished bathroom cost apart from its samples, 0.16 were
    for values that had not changed.
    """
    for name, value in values.items():
        old = getattr(owner, name)
        same = (
            math.isclose(old, value, rel_tol=1e-6) if isinstance(value, float) else old == value
        )  # Blender's are 32 bits
        if not same:
            setattr(owner, name, value)


def configure(settings: RenderSettings) -> None:
    """Bring the open scene's render settings to `settings`. Covers everything that matters here,
    whatever was set before.
    """
    scene, render = bpy.context.scene, bpy.context.scene.render
    assign(scene, use_nodes=False)
    assign(
        render,
        engine="CYCLES",
        resolution_x=settings.width + 2 * settings.seam_px,
        resolution_y=settings.height,
        pixel_aspect_x=1.0,
        pixel_aspect_y=1.0,
        film_transparent=False,
        use_persistent_data=True,
        dither_intensity=0.0,
        use_border=False,
        use_motion_blur=False,
        use_simplify=False,
        use_sequencer=False,
        use_compositing=False,
        use_multiview=False,
        use_freestyle=False,
    )
    assign(
        render.image_settings, file_format="OPEN_EXR_MULTILAYER", color_depth="32", exr_codec="NONE"
    )
    _configure_cycles(settings, scene.cycles)
    # Properties of add-ons, as Cycles is one, tell nobody that they changed; any of Blender's own,
    # assigned after them, does.
    render.resolution_percentage = 100
    if scene.world is not None:
        assign(scene.world.cycles, sampling_method="MANUAL", sample_map_resolution=WORLD_MAP_PX)
    _configure_layer(settings)


def _configure_cycles(settings: RenderSettings, cycles: bpy.types.PropertyGroup) -> None:
    assign(
        cycles,
        samples=settings.samples,
        use_adaptive_sampling=settings.adaptive_threshold > 0,
        adaptive_threshold=settings.adaptive_threshold,
        time_limit=0.0,
        seed=settings.seed,
        sample_offset=0,
        use_fast_gi=False,
        shading_system=False,
        max_bounces=settings.max_bounces,
        diffuse_bounces=settings.max_bounces,
        glossy_bounces=settings.max_bounces,
        transparent_max_bounces=8,
        volume_bounces=0,
        transmission_bounces=max(settings.max_bounces, 4) if settings.max_bounces else 0,
        caustics_reflective=False,
        caustics_refractive=False,
        sample_clamp_direct=0.0,
        sample_clamp_indirect=10.0,
        use_light_tree=True,
        film_exposure=1.0,
        pixel_filter_type="BLACKMAN_HARRIS",
        filter_width=1.5,
        use_auto_tile=True,
        tile_size=TILE_PX,
        use_denoising=settings.denoise,
        **PLAIN,
    )
    if settings.denoise:
        assign(
            cycles,
            denoiser="OPENIMAGEDENOISE",
            denoising_input_passes="RGB_ALBEDO_NORMAL",
            denoising_prefilter="ACCURATE",
            denoising_quality=settings.denoise_quality,
        )


def _configure_layer(settings: RenderSettings) -> None:
    layer, albedo = bpy.context.view_layer, settings.albedo
    for other in bpy.context.scene.view_layers:
        assign(other, use=other == layer)
    assign(
        layer,
        material_override=None,
        samples=0,
        pass_alpha_threshold=settings.alpha_threshold,
        use_pass_combined=True,
        use_pass_z=True,
        use_pass_object_index=True,
        use_pass_normal=True,
        use_pass_diffuse_color=albedo,
        use_pass_glossy_color=albedo,
        use_pass_transmission_color=albedo,
        use_pass_material_index=settings.material_index,
        use_pass_mist=False,
        use_pass_position=False,
        use_pass_vector=False,
    )


def place_camera(pose: Pose, settings: RenderSettings) -> None:
    """Make the panorama camera, or move it, to `pose`."""
    name = "panoforge.camera"
    camera = bpy.data.objects.get(name)
    if camera is None:
        camera = bpy.data.objects.new(name, bpy.data.cameras.new(name))
        bpy.context.scene.collection.objects.link(camera)
    reach = float(np.pi * (1 + 2 * settings.seam_px / settings.width))
    assign(
        camera.data,
        type="PANO",
        panorama_type="EQUIRECTANGULAR",
        longitude_min=-reach,
        longitude_max=reach,
        latitude_min=-np.pi / 2,
        latitude_max=np.pi / 2,
        clip_start=1e-3,
        clip_end=1e5,
    )
    assign(camera.data.dof, use_dof=False)
    # A Blender camera looks along its own -Z with +Y up; the panorama frame is x right, y forward,
    # z up.
    blender_from_pano = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(pose.world_from_pano) @ blender_from_pano
    matrix[:3, 3] = pose.position_m
    camera.matrix_world = Matrix(matrix.tolist())
    assign(bpy.context.scene, camera=camera)


def render_passes(settings: RenderSettings, folder: Path) -> Passes:
    """Render the open scene through its camera. `folder` takes the EXR for as long as it is read.
    Raises RenderFailed, and RejectedScene("cycles_error") when Cycles complains on its output about
    a shader or a texture.
    """
    path = folder / "passes.exr"
    assign(bpy.context.scene.render, filepath=str(path))
    with phase_clock() as clock, _cycles_complaints():
        bpy.ops.render.render(write_still=True)
    if not path.is_file():
        raise RenderFailed("Cycles wrote no image: see the log of this scene")
    channels = read_exr(path)
    path.unlink()
    return _passes_of(channels, settings, clock)


@contextlib.contextmanager
def _cycles_complaints() -> Iterator[None]:
    """Refuse a render during which Cycles or Blender wrote an error. Shaders that do not compile,
    or outgrow the SVM's stack, render as something else without any other sign; Infinigen 2 reads
    the output for that, and so its check is used.
    """
    from infinigen2 import context
    from infinigen2.exporters.render_error_check import CyclesShaderError, detect_cycles_errors

    mode, context.globals.error_mode_cycles_shader = (
        context.globals.error_mode_cycles_shader,
        "error",
    )
    try:
        with detect_cycles_errors(replay=True):
            yield
    except CyclesShaderError as error:
        raise RejectedScene("cycles_error", " | ".join(str(error).splitlines())[:500]) from None
    finally:
        context.globals.error_mode_cycles_shader = mode


class PhaseClock:
    """Seconds of a render by phase: on the clock, and of the processor."""

    def __init__(self) -> None:
        self.wall: dict[str, float] = {}
        self.cpu: dict[str, float] = {}


@contextlib.contextmanager
def phase_clock() -> Iterator[PhaseClock]:
    """Time from start to the first sample (sync), to the last (sample), to the end (save). Reads
    Cycles' own status line, which reports the last sample only after the denoiser has run: `sample`
    includes it.
    """
    clock = PhaseClock()

    def now() -> tuple[float, float]:
        return time.perf_counter(), time.process_time()

    marks = {"start": now()}

    def on_status(*arguments: object) -> None:
        status = arguments[0] if arguments and isinstance(arguments[0], str) else ""
        if "Sample " in status:
            marks.setdefault("first", now())
            marks["last"] = now()

    bpy.app.handlers.render_stats.append(on_status)
    try:
        yield clock
    finally:
        bpy.app.handlers.render_stats.remove(on_status)
        end = now()
        first, last = marks.get("first", end), marks.get("last", end)
        for which, found in enumerate((clock.wall, clock.cpu)):
            start = marks["start"][which]
            found.update(
                sync=first[which] - start,
                sample=last[which] - first[which],
                save=end[which] - last[which],
            )


def read_exr(path: Path) -> dict[str, NDArray]:
    """Channels of Blender's multi-layer EXR by `Pass.Component`, e.g. `IndexOB.X`, each H×W
    float32.
    """
    with OpenEXR.File(str(path), separate_channels=True) as file:
        found = {
            ".".join(name.rsplit(".", 2)[1:]): channel.pixels
            for name, channel in file.channels().items()
            if "." in name
        }
    wrong = sorted(name for name, pixels in found.items() if pixels.dtype != np.float32)
    if wrong:
        raise RenderFailed(
            f"the EXR holds {wrong} as half floats, ids above 2048 would be wrong: expected full"
            " floats"
        )
    return found


def _passes_of(channels: dict[str, NDArray], settings: RenderSettings, clock: PhaseClock) -> Passes:
    crop = slice(settings.seam_px, settings.seam_px + settings.width)

    def get(name: str, components: str = "") -> NDArray:
        if components:
            return np.stack(
                [channels[f"{name}.{component}"][:, crop] for component in components], axis=-1
            )
        return channels[name][:, crop]

    depth = get("Depth.Z").copy()
    depth[depth >= SKY_DEPTH_M] = np.inf
    albedo = None
    if settings.albedo:
        albedo = np.clip(
            get("DiffCol", "RGB") + get("GlossCol", "RGB") + get("TransCol", "RGB"), 0, 1
        )
    return Passes(
        linear=get("Combined", "RGB"),
        index=whole_numbers(get("IndexOB.X"), "Object Index"),
        depth_m=depth,
        normal=unit_normals(get("Normal", "XYZ"), depth),
        albedo=albedo,
        material=(
            whole_numbers(get("IndexMA.X"), "Material Index") if settings.material_index else None
        ),
        diffuse=(
            unlayered(get("DiffCol", "RGB"), get("GlossCol", "RGB")) if settings.diffuse else None
        ),
        timings_s=clock.wall,
        cpu_s=clock.cpu,
    )


def unlayered(diffuse: NDArray[np.float32], glossy: NDArray[np.float32]) -> NDArray[np.float32]:
    """The diffuse colour that a diffusely bounced ray meets, where there are no caustics: Cycles
    leaves a surface's clear layer away then, which for the camera has taken its own share
    (`glossy`, some 4 % of a dielectric) of what is below it.
    """
    return np.clip(diffuse / (1 - np.clip(glossy, 0, LAYER)), 0, 1)


def whole_numbers(values: NDArray[np.float32], what: str) -> NDArray[np.int32]:
    """Float ids → int32. RenderFailed if any is not a whole number: then something averaged
    them."""
    rounded = np.rint(values)
    if not (values == rounded).all():
        raise RenderFailed(
            f"the {what} pass holds {int((values != rounded).sum())} values between ids: it was"
            " filtered"
        )
    return rounded.astype(np.int32)


def unit_normals(normal: NDArray[np.float32], depth_m: NDArray[np.float32]) -> NDArray[np.float32]:
    """Normalise H×W×3 normals; zero where there is no geometry or where the average cancelled
    out."""
    length = np.linalg.norm(normal, axis=-1, keepdims=True)
    unit = np.divide(normal, length, out=np.zeros_like(normal), where=length > 1e-6)
    return np.where(np.isfinite(depth_m)[..., None], unit, 0)


def display_rgb(
    settings: RenderSettings, view_transform: str, look: str, exposure_ev: float, folder: Path
) -> NDArray[np.uint8]:
    """The last render through Blender's own view transform: uint8 H×W×3 sRGB."""
    import cv2

    scene, view = bpy.context.scene, bpy.context.scene.view_settings
    assign(view, view_transform=view_transform)  # first: it decides which looks there are
    assign(view, look=look if look in _looks(view) else "None", exposure=exposure_ev, gamma=1.0)
    image = scene.render.image_settings
    assign(image, file_format="PNG", color_mode="RGB", color_depth="8", compression=0)
    path = folder / "display.png"
    bpy.data.images["Render Result"].save_render(str(path), scene=scene)
    assign(image, file_format="OPEN_EXR_MULTILAYER", color_depth="32", exr_codec="NONE")
    pixels = cv2.imread(os.fspath(path), cv2.IMREAD_COLOR)
    path.unlink()
    return np.ascontiguousarray(
        pixels[:, settings.seam_px : settings.seam_px + settings.width, ::-1]
    )


def _looks(view: bpy.types.ColorManagedViewSettings) -> set[str]:
    return {item.identifier for item in view.bl_rna.properties["look"].enum_items}
