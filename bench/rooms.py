"""What the render benchmarks work on: one furnished room of Infinigen 2 in this process, ours and
Infinigen's way to render it.

`furnished` makes a room and gives its things, an oracle of it as the source made it, and a pose.
`ours` renders it as the worker does, `ours_window` a window of it. `infinigen_ground_truth` and
`infinigen_beauty` call Infinigen 2's own exporters on the same prepared objects and the same
equirectangular camera. Import this in a process of its own: it fills Blender.
"""

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

from panoforge.core.sample.metadata import Pose
from panoforge.datagen.cameras import choice
from panoforge.datagen.config.render import (
    CameraSettings,
    QualitySettings,
    RenderConfig,
    plan_scene,
)
from panoforge.datagen.geometry import prepared_scene
from panoforge.datagen.geometry.surface import scene_surface
from panoforge.datagen.rendering.cycles import configure
from panoforge.datagen.rendering.passes import Passes, read_exr
from panoforge.datagen.rendering.render import place_camera, render_passes
from panoforge.datagen.rendering.settings import RenderSettings
from panoforge.datagen.scene.scene import Thing
from panoforge.datagen.sources.base import make_scene
from panoforge.datagen.verify.oracle import Oracle, build_oracle

SEED = 7


@dataclass(frozen=True)
class Room:
    """A prepared room: what its pass indices mean (thing k has index k + 1), where to stand, and
    its independent judge. `prepare_s` is what preparing it took, in core-seconds (realised
    geometry, poses).
    """

    name: str
    things: tuple[Thing, ...]
    poses: tuple[Pose, ...]
    oracle: Oracle | None
    prepare_s: float


def furnished(
    name: str = "bathroom",
    seed: int = SEED,
    *,
    with_oracle: bool = False,
    subdivision_cap: int = 2,
    views: int = 3,
) -> Room:
    """Make the room in the open Blender, realised and indexed, with its materials as Infinigen made
    them.
    """
    config = RenderConfig(sources=({"source": "infinigen2.rooms", "rooms": (name,)},))
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = make_scene(plan_scene(config, 0), config.sources[0], seed)
    if with_oracle:
        from panoforge.datagen.defects import cap_subdivision

        cap_subdivision(bpy.data.objects, subdivision_cap)
    oracle = build_oracle(scene) if with_oracle else None
    begin = time.process_time()
    prepared_scene.prepare(scene, subdivision_cap)
    poses = choice.choose_poses(
        scene_surface(), scene.regions, True, CameraSettings(), QualitySettings(), views, seed
    )
    return Room(name, scene.things, tuple(poses), oracle, time.process_time() - begin)


def bare() -> Room:
    """A lamp and a ball in a box, for rehearsals: made in no time."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.mesh.primitive_cube_add(size=4)
    bpy.ops.mesh.primitive_uv_sphere_add(radius=0.5, location=(0, 1.2, 0))
    things = []
    for index, obj in enumerate(bpy.context.scene.objects, start=1):
        obj.pass_index = index
        material = bpy.data.materials.new(obj.name)
        material.use_nodes = True
        obj.data.materials.append(material)
        things.append(Thing(obj.name, "object", (obj.name,)))
    bpy.ops.object.light_add(type="POINT", location=(0, 0, 1.5))
    bpy.context.object.data.energy = 100
    axes = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    pose = Pose(position_m=(0, -1, 0), yaw_deg=0, clearance_m=1, world_from_pano=axes)
    return Room("box", tuple(things), (pose,), None, 0.0)


def settings(width: int, samples: int, **changes: Any) -> RenderSettings:
    """Ours, without denoiser and bounces unless asked for."""
    plain = RenderSettings.of(
        RenderConfig(
            width=width,
            height=width // 2,
            samples=samples,
            denoise=False,
            adaptive_threshold=0.0,
            max_bounces=0,
        ),
        seed=1,
    )
    return replace(plain, **changes)


def ours(config: RenderSettings, pose: Pose, folder: Path) -> Passes:
    """One render as the worker does it."""
    configure(config)
    place_camera(pose, config)
    return render_passes(config, folder)


@dataclass(frozen=True)
class Window:
    """A part of a large panorama, at the size its pixels have there: `width` × `height` pixels
    around a direction.
    """

    lon_deg: float
    lat_deg: float
    width: int
    height: int

    def border(self, config: RenderSettings) -> None:
        """Let Blender render this part only, of a frame as `config` has it."""
        scene, wide = bpy.context.scene.render, config.width + 2 * config.seam_px
        left = int((self.lon_deg / 360 + 0.5) * config.width) - self.width // 2 + config.seam_px
        low = int((self.lat_deg / 180 + 0.5) * config.height) - self.height // 2
        inside = 0.01  # of a pixel: Blender rounds down
        scene.use_border, scene.use_crop_to_border = True, True
        scene.border_min_x, scene.border_max_x = (
            (left + inside) / wide,
            (left + self.width + inside) / wide,
        )
        scene.border_min_y, scene.border_max_y = (
            (low + inside) / config.height,
            (low + self.height + inside) / config.height,
        )


def ours_window(
    config: RenderSettings, pose: Pose, window: Window, folder: Path
) -> NDArray[np.float32]:
    """Linear colour (h, w, 3) of a window, rendered as the worker renders the whole."""
    configure(config)
    place_camera(pose, config)
    window.border(config)
    path = folder / "window.exr"
    bpy.context.scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True)
    channels = read_exr(path)
    path.unlink()
    return np.stack([channels[f"Combined.{name}"] for name in "RGB"], axis=-1)


def infinigen_ground_truth(
    room: Room, pose: Pose, width: int, folder: Path, *, device: str = "CPU"
) -> NDArray[np.int32]:
    """Object indices (H, W) by Infinigen 2's `render_cycles_ground_truth` with its own settings, as
    pass indices of `room`.
    """
    import OpenEXR
    import procfunc as pf
    from infinigen2.exporters.render_cycles import render_cycles_ground_truth
    from infinigen2.exporters.util.format import ExportType, RenderPass

    objects = _hand_over(pose, width)
    own = {obj.name: obj.pass_index for obj in bpy.data.objects}
    wanted = RenderPass(ExportType.OBJECT_INDEX, Path("index.exr"), np.float32)
    found = render_cycles_ground_truth(
        objects=[pf.MeshObject(obj) for obj in objects],
        camera=pf.CameraObject(bpy.context.scene.camera),
        output_folder=folder,
        render_passes=[wanted],
        resolution=(width, width // 2),
        device_type=device,
    )
    table = json.loads(found[ExportType.OBJECT_INDEX_TABLE][0].read_text())
    with OpenEXR.File(str(found[ExportType.OBJECT_INDEX][0]), separate_channels=True) as file:
        values = next(iter(file.channels().values())).pixels
    for obj in bpy.data.objects:
        obj.pass_index = own.get(obj.name, 0)
    of_table = np.array([own.get(name, 0) for name in table], np.int32)
    return of_table[np.clip(np.rint(values).astype(int), 0, len(table) - 1)]


def infinigen_beauty(
    pose: Pose,
    width: int,
    folder: Path,
    *,
    samples: tuple[int, int] = (32, 256),
    window: Window | None = None,
    device: str = "CPU",
) -> NDArray[np.float32]:
    """Linear denoised colour (H, W, 3), or of a window of it, by Infinigen 2's `render_cycles`;
    `samples` (least, most), its own by default.
    """
    import OpenEXR
    import procfunc as pf
    from infinigen2.exporters.render_cycles import render_cycles
    from infinigen2.exporters.util.format import ExportType, RenderPass

    objects = _hand_over(pose, width)
    if window is not None:
        window.border(settings(width, 1))
    lights = [pf.LightObject(obj) for obj in bpy.context.scene.objects if obj.type == "LIGHT"]
    wanted = RenderPass(ExportType.IMAGE_DENOISED_HDR, Path("image.exr"), np.float32)
    found = render_cycles(
        objects=[pf.MeshObject(obj) for obj in objects],
        lights=lights,
        camera=pf.CameraObject(bpy.context.scene.camera),
        output_folder=folder,
        render_passes=[wanted],
        resolution=(width, width // 2),
        device_type=device,
        min_samples=samples[0],
        max_samples=samples[1],
        fail_for_black_frame_thresh=None,
    )
    with OpenEXR.File(str(found[ExportType.IMAGE_DENOISED_HDR][0]), separate_channels=True) as file:
        channels = {
            name.rpartition(".")[2]: channel.pixels for name, channel in file.channels().items()
        }
    return np.stack([channels[name] for name in "RGB"], axis=-1)


def _hand_over(pose: Pose, width: int) -> list[bpy.types.Object]:
    """Blender as a fresh process would leave it to Infinigen's exporters, but for the camera, which
    is ours.
    """
    from infinigen2 import context

    for name in vars(context.globals):
        if name.startswith("error_mode_"):
            setattr(context.globals, name, "ignore")
    plain = settings(width, 1)
    configure(plain)
    place_camera(pose, plain)
    layer, scene = bpy.context.view_layer, bpy.context.scene
    for obj in [
        obj for obj in scene.objects if obj.parent is not None
    ]:  # its exporters refuse objects with children
        world = obj.matrix_world.copy()
        obj.parent = None
        obj.matrix_world = world
    layer.update()
    layer.name, layer.pass_alpha_threshold = "ViewLayer", 0.5
    for name in (
        "use_pass_z",
        "use_pass_object_index",
        "use_pass_normal",
        "use_pass_material_index",
    ):
        setattr(layer, name, False)
    scene.render.use_persistent_data, scene.use_nodes, scene.render.use_compositing = (
        False,
        True,
        True,
    )
    scene.cycles.use_adaptive_sampling, scene.cycles.tile_size = True, 2048
    return [obj for obj in scene.objects if obj.type == "MESH" and not obj.hide_render]
