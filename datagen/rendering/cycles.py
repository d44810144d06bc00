"""Cycles brought to the settings of a render, whatever a file or another exporter left."""

import math
import socket

import bpy

from panoforge.core.errors import UserError
from panoforge.datagen.rendering.settings import RenderSettings

TILE_PX = 8192  # the largest that Cycles takes; a panorama up to that width is one tile
GPU_KINDS = ("OPTIX", "CUDA", "HIP", "ONEAPI", "METAL")
# importance map of the sky; Cycles' own choice costs 2 s per render and the sun is a lamp of its
# own
WORLD_MAP_PX = 512


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


class DeviceError(UserError):
    """The device that was asked for is not there."""


def choose_device(wanted: str, threads: int) -> str:
    """Set Cycles to the device named, or the best one for `auto`; gives what is used.

    Raises:
        DeviceError: this node has none of that kind. On a CPU it would take a hundred times as
            long, unnoticed.
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
            return f"{kind.lower()}: {found[0].name}"
    if wanted not in ("auto", "cpu"):
        raise DeviceError(
            f"no GPU device of kind {wanted} on node {socket.gethostname()}: device={wanted} was"
            " asked for, so nothing is rendered there. Set device=auto to take what there is, or"
            " see `pano doctor` on that node"
        )
    scene.cycles.device = "CPU"
    return "cpu"


def assign(owner: bpy.types.bpy_struct, **values: object) -> None:
    """Set those properties of `owner` that have another value.

    Blender takes every assignment for a change, and synchronises whatever depends on it for the
    next render. A further view of a furnished bathroom cost 0.17 core-seconds apart from its
    samples; 0.16 of them were for values that had not changed.
    """
    for name, value in values.items():
        old = getattr(owner, name)
        same = (
            math.isclose(old, value, rel_tol=1e-6) if isinstance(value, float) else old == value
        )  # Blender's are 32 bits
        if not same:
            setattr(owner, name, value)


def configure(settings: RenderSettings) -> None:
    """Bring the open scene's render settings to `settings`.

    Covers everything that matters here, whatever was set before.
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
