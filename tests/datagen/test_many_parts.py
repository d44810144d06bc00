"""A thing of thousands of parts, as a tree of leaves: measured by the hulls of its few meshes."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.render

CODE = """
import json
import bpy, numpy as np
from mathutils import Matrix
from panoforge.core.sample.metadata import Pose
from panoforge.datagen.geometry import instances
from panoforge.datagen.geometry.prepared_scene import NUMBER
from panoforge.datagen.geometry.surface import world_triangles

bpy.ops.wm.read_factory_settings(use_empty=True)
bpy.context.scene.unit_settings.scale_length = 0.5
rng = np.random.default_rng(0)
bpy.ops.mesh.primitive_monkey_add()
monkey = bpy.context.object
for number in range(1500):
    copy = monkey.copy()
    bpy.context.collection.objects.link(copy)
    turn = Matrix.Rotation(rng.uniform(0, 6), 4, rng.normal(size=3).tolist())
    copy.matrix_world = (
        Matrix.Translation((rng.normal(size=3) * (1.5, 0.7, 2)).tolist())
        @ turn @ Matrix.Diagonal([*rng.uniform(-0.2, 0.2, 3), 1])
    )
    copy[NUMBER] = 1
bpy.data.objects.remove(monkey)
bpy.ops.mesh.primitive_grid_add(x_subdivisions=20, y_subdivisions=20, size=2, location=(4, 4, 0))
bpy.context.object[NUMBER] = 2
bpy.ops.mesh.primitive_circle_add(vertices=3, fill_type="NGON", location=(-4, 4, 1))
bpy.context.object.rotation_euler = (0.4, 0.2, 1.0)
bpy.context.object[NUMBER] = 3
bpy.context.view_layer.update()

asked, read = [], instances.object_triangles
def counted(obj):
    asked.append(obj.data.session_uid)
    return read(obj)
instances.object_triangles = counted
scene = instances.SceneInstances()
pose = Pose(position_m=(0.0, -4.0, 0.3), yaw_deg=0.0,
            world_from_pano=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)))
labels = np.ones((128, 256), np.uint16)
labels[:, 128:] = 2
off, seen = [], []
every = instances.SceneInstances()
every._may_meet = lambda obj, origin, directions: np.ones(len(directions), bool)
for number in (1, 2, 3):
    points = np.concatenate([world_triangles(obj)[0] for obj in scene.objects[number]])
    whole, own = instances.upright_box(points), scene.box(number)
    off.append(max(
        np.abs(np.array(whole.size_m) - own.size_m).max(),
        np.abs(np.array(whole.center_m) - own.center_m).max(),
    ))
    seen.append([one.visibility(number, 1, labels, pose) for one in (scene, every)])
once = asked.count(scene.objects[1][0].data.session_uid)
scene.moved([1])
scene.box(1)
again = asked.count(scene.objects[1][0].data.session_uid)
print(json.dumps({"off": off, "seen": seen, "meshes": [once, again]}))
"""


def test_many_parts_are_measured_as_if_all_were_laid_out() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, env={**os.environ}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert max(found["off"]) < 1e-5
    assert all(own == every for own, every in found["seen"])
    assert 0 < found["seen"][0][0] < 1
    assert found["meshes"] == [2, 3]  # once for each measurer, and anew when it moved


TOO_MANY = """
import sys
import bpy
sys.path.insert(0, sys.argv[1])
from blender_scenes import cluttered
from panoforge.core.errors import DataError
from panoforge.datagen.scene.scene import Scene
from panoforge.datagen.verify import oracle
bpy.ops.wm.read_factory_settings(use_empty=True)
scene = Scene(tuple(cluttered()), ())
whole = oracle.build_oracle(scene)
oracle.MAX_FACES = 100
try:
    oracle.build_oracle(scene)
except DataError as error:
    print(len(whole.triangles) > 100, error, flush=True)
from panoforge.datagen.defects import exit_now
exit_now(0)
"""


def test_a_scene_of_too_many_faces_is_not_laid_out_for_rays() -> None:
    here = os.path.dirname(__file__)
    done = subprocess.run(
        [sys.executable, "-c", TOO_MANY, here], capture_output=True, text=True, env={**os.environ}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = next(line for line in done.stdout.splitlines() if "the scene has" in line)
    assert said.startswith("True the scene has ") and "triangles, copies counted" in said
    assert said.endswith("at most 100: a video of this scene cannot be checked by rays")
