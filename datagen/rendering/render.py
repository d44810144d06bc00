"""One Cycles render per panorama gives everything.

Colour, instance ids, depth along the ray, world normals, albedo.

Ids are the Object Index pass of the beauty render itself. Cycles writes that pass, and depth, at
sample 0 only, which it fires through the pixel centre whatever the pixel filter is. That is an
exact, alias-free label map at no extra cost; the usual second render costs as much as the picture.
`pass_alpha_threshold = 0` makes it the first geometry hit even where a surface is transparent. The
passes are float32, so they travel in a full-float EXR (half floats end at 2048 ids).

The camera is Cycles' equirectangular one, aligned with `panoforge.core.geometry.sphere`: it looks
along the panorama's forward, longitude 0 at the image centre. Depth of a panoramic Cycles camera is
the distance along the ray. Normals are world-space shading normals averaged over the pixel,
normalised here. Denoised frames are rendered a few columns wider than the full circle (the
equirectangular range simply runs on) and cropped, so that the denoiser sees across the seam.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import bpy
import cv2
import numpy as np
from mathutils import Matrix
from numpy.typing import NDArray

from panoforge.core.sample.metadata import Pose
from panoforge.datagen.depsgraph.units import metres_per_unit
from panoforge.datagen.rendering.cycles import assign
from panoforge.datagen.rendering.passes import Passes, RenderFailed, passes_of, read_exr
from panoforge.datagen.rendering.quality import RejectedScene
from panoforge.datagen.rendering.settings import RenderSettings
from panoforge.datagen.timing import phase_clock

NEAREST_M, FARTHEST_M = 1e-3, 1e5


def place_camera(pose: Pose, settings: RenderSettings) -> None:
    """Make the panorama camera, or move it, to `pose`."""
    name = "panoforge.camera"
    camera = bpy.data.objects.get(name)
    if camera is None:
        camera = bpy.data.objects.new(name, bpy.data.cameras.new(name))
        bpy.context.scene.collection.objects.link(camera)
    unit = metres_per_unit()
    reach = float(np.pi * (1 + 2 * settings.seam_px / settings.width))
    assign(
        camera.data,
        type="PANO",
        panorama_type="EQUIRECTANGULAR",
        longitude_min=-reach,
        longitude_max=reach,
        latitude_min=-np.pi / 2,
        latitude_max=np.pi / 2,
        clip_start=NEAREST_M / unit,
        clip_end=FARTHEST_M / unit,
    )
    assign(camera.data.dof, use_dof=False)
    # A Blender camera looks along its own -Z with +Y up; the panorama frame is x right, y forward,
    # z up.
    blender_from_pano = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(pose.world_from_pano) @ blender_from_pano
    matrix[:3, 3] = np.array(pose.position_m) / unit
    camera.matrix_world = Matrix(matrix.tolist())
    assign(bpy.context.scene, camera=camera)


def render_passes(settings: RenderSettings, folder: Path) -> Passes:
    """Render the open scene through its camera.

    `folder` takes the EXR for as long as it is read. Raises RenderFailed, and
    RejectedScene("cycles_error") when Cycles complains on its output about a shader or a texture.
    """
    path = folder / "passes.exr"
    assign(bpy.context.scene.render, filepath=str(path))
    with phase_clock() as clock, _cycles_complaints():
        bpy.ops.render.render(write_still=True)
    if not path.is_file():
        raise RenderFailed("Cycles wrote no image: see the log of this scene")
    channels = read_exr(path)
    path.unlink()
    return passes_of(channels, settings, clock, metres_per_unit())


@contextlib.contextmanager
def _cycles_complaints() -> Iterator[None]:
    """Refuse a render during which Cycles or Blender wrote an error.

    Shaders that do not compile, or outgrow the SVM's stack, render as something else without any
    other sign. Infinigen 2 reads the output for that, so its check is used.
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


def display_rgb(
    settings: RenderSettings, view_transform: str, look: str, exposure_ev: float, folder: Path
) -> NDArray[np.uint8]:
    """The last render through Blender's own view transform: uint8 H×W×3 sRGB."""
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
