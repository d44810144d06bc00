"""Copies that share a BVH: the same hits, distances and nearest points as all laid out."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.render

CODE = """
import json, math, sys
import bpy, numpy as np
from mathutils import Matrix
from panoforge.datagen.geometry.prepared_scene import NUMBER
from panoforge.datagen.geometry.shared_bvh import SharedBvh
from panoforge.datagen.geometry.surface import scene_surface

bpy.ops.wm.read_factory_settings(use_empty=True)
bpy.context.scene.unit_settings.scale_length = 0.5
bpy.ops.mesh.primitive_monkey_add()
monkey = bpy.context.object
rng = np.random.default_rng(0)
for number in range(2, 42):
    copy = monkey.copy()
    bpy.context.collection.objects.link(copy)
    turn = Matrix.Rotation(rng.uniform(0, 6), 4, rng.normal(size=3).tolist())
    scale = [rng.uniform(0.3, 2)] * 3
    if number % 4 == 0:
        scale[0] *= -1  # mirrored
    if number % 5 == 0:
        scale[2] *= 1.7  # no similar copy: laid out
    copy.matrix_world = (
        Matrix.Translation(rng.uniform(-9, 9, 3).tolist()) @ turn @ Matrix.Diagonal([*scale, 1])
    )
    copy[NUMBER] = number
bpy.ops.mesh.primitive_plane_add(size=30, location=(0, 0, -10))
bpy.context.object[NUMBER] = 1
bpy.data.objects.remove(monkey)
bpy.context.view_layer.update()
flat, shared = scene_surface(), scene_surface(most=100)
assert isinstance(shared.tree, SharedBvh) and not isinstance(flat.tree, SharedBvh)
found = {"triangles": [flat.triangles, shared.triangles], "hits": 0, "copies": len(shared.owner)}
for _ in range(12):
    origin = rng.uniform(-5, 5, 3)
    ways = rng.normal(size=(300, 3))
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    ways[:6] = np.concatenate([np.eye(3), -np.eye(3)])
    a, b = flat.cast(origin, ways), shared.cast(origin, ways)
    found["hits"] += int(np.isfinite(a.distance_m).sum())
    there = np.isfinite(a.distance_m)
    assert (there == np.isfinite(b.distance_m)).all()
    assert np.abs(a.distance_m[there] - b.distance_m[there]).max() < 1e-4
    # two surfaces that meet in a line may be told apart otherwise
    assert (a.index == b.index).mean() > 0.995 and (a.backface == b.backface).mean() > 0.995
    assert abs(flat.clearance_m(origin) - shared.clearance_m(origin)) < 1e-4
    one, other = flat.column(*origin[:2]), shared.column(*origin[:2])
    assert [layer.index for layer in one] == [layer.index for layer in other]
    assert [layer.faces_up for layer in one] == [layer.faces_up for layer in other]
met = 0
bpy.ops.mesh.primitive_ico_sphere_add(radius=1.0)
ball = bpy.context.object.data
corners = np.array([v.co for v in ball.vertices])
faces = np.array([p.vertices for p in ball.polygons])
for _ in range(60):
    points = corners * rng.uniform(0.3, 2) + rng.uniform(-9, 9, 3)
    one, other = flat.touched(points, faces), shared.touched(points, faces)
    assert one == other, (one, other)
    met += len(one)
found["met"] = met
assert (shared.low <= flat.low + 1e-5).all() and (shared.high >= flat.high - 1e-5).all()
assert shared.tree.ray_cast((0, 0, 0), (0, 0, -1), 0.01).distance is None
print(json.dumps(found))
"""


def test_copies_that_share_a_bvh_answer_as_if_they_were_laid_out() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, env={**os.environ}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["hits"] > 1000 and found["triangles"][0] == found["triangles"][1] == 40 * 968 + 2
    assert found["met"] > 10
    assert found["copies"] == 8 * 968 + 2 + 32  # eight are no similar copies
