"""A few solids in a room, rendered by Blender in a process of its own, for test_panoramas.py.

    python dense_scene.py OUT.npz MATRICES.json WIDTH

renders from one place with each world_from_pano of the JSON list; depth in metres, normals in the
world's axes, and colours without light.
"""

import json
import sys
import tempfile
from pathlib import Path

import bpy
import numpy as np

from panoforge.core.sample.metadata import Pose
from panoforge.datagen.defects import exit_now
from panoforge.datagen.rendering.cycles import choose_device, configure
from panoforge.datagen.rendering.render import place_camera, render_passes
from panoforge.datagen.rendering.settings import RenderSettings


def build() -> None:
    """A room of 6 × 5 × 3 m with a ball, a cone and two boxes."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.context.scene.world = bpy.data.worlds.new("black")
    bpy.ops.mesh.primitive_cube_add(size=1, location=(0.4, 0.2, 0.0), scale=(6, 5, 3))
    for location, turn in (((1.6, 0.8, -0.7), 0.4), ((-1.2, -1.4, 0.3), 1.1)):
        bpy.ops.mesh.primitive_cube_add(size=0.9, location=location, rotation=(0.3, turn, 0.2))
    bpy.ops.mesh.primitive_uv_sphere_add(
        radius=0.6, segments=64, ring_count=32, location=(-1.5, 1.2, -0.5)
    )
    bpy.ops.mesh.primitive_cone_add(vertices=64, location=(0.5, -1.7, -0.8))


def main() -> None:
    out, matrices, width = Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3])
    build()
    settings = RenderSettings.probe(width, 0)
    choose_device("cpu", 1)
    configure(settings)
    arrays = {}
    with tempfile.TemporaryDirectory() as scratch:
        for number, matrix in enumerate(matrices):
            pose = Pose(
                position_m=(0.0, 0.0, 0.0),
                yaw_deg=0.0,
                clearance_m=0.5,
                world_from_pano=tuple(map(tuple, matrix)),
            )
            place_camera(pose, settings)
            passes = render_passes(settings, Path(scratch))
            arrays[f"depth_{number}"], arrays[f"normal_{number}"] = passes.depth_m, passes.normal
    np.savez(out, **arrays)


main()
exit_now(0)
