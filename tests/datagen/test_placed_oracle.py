"""Rays through a scene of copies meet what they meet where all copies are laid out."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.render

SETUP = """
import json, sys, time
import bpy, numpy as np
from mathutils import Matrix
sys.path.insert(0, sys.argv[1])
from blender_scenes import cluttered
from panoforge.datagen.scene.scene import Scene
from panoforge.datagen.verify import oracle
from panoforge.datagen.verify.placed_oracle import GROUP, placed
from panoforge.datagen.verify.scene_shapes import NOTHING, read_shapes

bpy.ops.wm.read_factory_settings(use_empty=True)
rng = np.random.default_rng(0)

def copies_of(mesh, count, spread, matrix):
    for number in range(count):
        copy = bpy.data.objects.new(f"{mesh.name}.copy{number}", mesh)
        bpy.context.collection.objects.link(copy)
        copy.matrix_world = Matrix.Translation(rng.uniform(-spread, spread, 3).tolist()) @ matrix()

def turned(*scale):
    turn = Matrix.Rotation(rng.uniform(0, 6), 4, rng.normal(size=3).tolist())
    return turn @ Matrix.Diagonal([*scale, 1])

def ready():
    from panoforge.datagen.defects import exit_now
    sys.stdout.flush()
    exit_now(0)
"""

SAME = (
    SETUP
    + """
cluttered()
bpy.context.scene.unit_settings.scale_length = 0.5
bpy.ops.mesh.primitive_monkey_add(location=(0, 0, -50))
monkey = bpy.context.object.data
red = bpy.data.materials.new("red")
red.use_nodes = True
glass = red.node_tree.nodes.new("ShaderNodeBsdfGlass")
red.node_tree.links.new(glass.outputs[0], red.node_tree.nodes["Material Output"].inputs["Surface"])
copies_of(monkey, 200, 4, lambda: turned(*rng.uniform(-0.3, 0.3, 3)))   # mirrored, sheared by turns
copies_of(monkey, 40, 4, lambda: turned(0.4, 0.4, 0.0))                 # flat
copies_of(monkey, 40, 4, lambda: turned(0.3, 0.3, 0.001))               # nearly flat
copies = [one for one in bpy.data.objects if one.data == monkey and ".copy" in one.name]
for number, copy in enumerate(copies):
    if number % 3 == 0:                                                 # a material of the object's
        if not monkey.materials:
            monkey.materials.append(None)
        copy.material_slots[0].link = "OBJECT"
        copy.material_slots[0].material = red
monkey.calc_loop_triangles()
clear = len(copies[::3]) * len(monkey.loop_triangles) + 4                # and two panes
curve = bpy.data.hair_curves.new("hair")
curve.add_curves([5] * 50)
curve.position_data.foreach_set("vector", rng.uniform(-2, 2, 50 * 5 * 3).astype(np.float32))
hair = bpy.data.objects.new("hair", curve)
bpy.context.collection.objects.link(hair)
bpy.ops.mesh.primitive_plane_add(size=12, location=(0, 0, -4))
bpy.context.view_layer.update()

read = read_shapes(Scene((), (), rest="each"))
whole, parts = oracle.laid_out(read), placed(read)
assert len(parts.groups) > 4 and max(map(len, parts.groups)) <= GROUP
assert len(read.shapes) < len(read.placings) / 2                         # copies are shared
assert read.triangles == len(whole.triangles) == parts.first[-1]
assert whole.transparent.sum() == clear
names = ("owner_of", "is_transparent", "is_displaced", "is_strand")
off, other, hits, ties, near_off, kinds = 0.0, [], 0, 0, 0, {n: 0 for n in names}
for origin in ((0.1, 0.2, 0.3), (3.0, -2.0, 1.0), (-200.0, 150.0, 90.0)):
    far = np.linalg.norm(origin) > 100
    ways = rng.normal(size=(3000, 3)) if not far else rng.uniform(-2, 2, (3000, 3)) - origin
    for way in ways / np.linalg.norm(ways, axis=1, keepdims=True):
        (a, d), (b, e) = whole.cast(origin, way.tolist()), parts.cast(origin, way.tolist())
        if (a == NOTHING) != (b == NOTHING):
            other.append(["nothing", list(origin), d, e])
            continue
        if a == NOTHING:
            continue
        hits += 1
        said = [[getattr(one, name)(t) for name in names] for one, t in ((whole, a), (parts, b))]
        if said[0] != said[1]:
            ties += bool(abs(d - e) <= 2e-4 * d)
            other += [] if abs(d - e) <= 2e-4 * d else [[*said, d, e]]
            continue
        off = max(off, abs(d - e) / d)
        for name, value in zip(names[1:], said[0][1:]):
            kinds[name] += bool(value)
        if hits % 10 == 0 and not far:
            point = (np.array(origin) + way * d).tolist()
            found = [{one.owner_of(t) for t in one.near(point, 0.05)} for one in (whole, parts)]
            near_off += found[0] != found[1]
for owner in {whole.owner_of(t) for t in range(0, len(whole.triangles), 50)} | {NOTHING}:
    assert whole.has_displaced(owner) == parts.has_displaced(owner)
print(json.dumps({"off": off, "other": other, "hits": hits, "ties": ties, "kinds": kinds,
                  "near_off": near_off}))
ready()
"""
)

MANY = (
    SETUP
    + """
bpy.ops.mesh.primitive_uv_sphere_add(segments=128, ring_count=64, radius=1.0)
ball = bpy.context.object.data
bpy.data.objects.remove(bpy.context.object)
copies_of(ball, 2000, 50, lambda: Matrix.Scale(rng.uniform(0.5, 2), 4))
bpy.context.view_layer.update()
begin = time.process_time()
scene = oracle.build_ray_scene(Scene((), (), rest="each"))
kind = type(scene).__name__
balls = [o for o in bpy.data.objects if o.type == "MESH"]
centres = np.array([o.matrix_world.translation for o in balls])
radii = np.array([o.matrix_world.to_scale()[0] for o in balls])
name_of = [t.source for t in scene.things]
right = wrong = 0
for way in rng.normal(size=(2000, 3)):
    way = way / np.linalg.norm(way)
    along = centres @ way
    inside = radii**2 - ((centres - along[:, None] * way) ** 2).sum(axis=1)
    edge = np.abs(np.sqrt(np.maximum(0, radii**2 - inside)) - radii) < 0.01 * radii
    first = np.where((inside > 0) & (along > 0), along - np.sqrt(np.maximum(inside, 0)), np.inf)
    nearest = int(first.argmin())
    triangle, distance = scene.cast((0, 0, 0), way.tolist())
    if edge[along > 0].any() and (edge & (first <= distance + 1)).any() or first.min() < 0:
        continue
    if not np.isfinite(first.min()):
        ok = triangle == NOTHING
    else:
        ok = triangle != NOTHING and name_of[scene.owner_of(triangle)] == balls[nearest].name
        ok = ok and abs(distance - first[nearest]) < 0.01 * radii[nearest]
    right, wrong = right + bool(ok), wrong + (not ok)
print(json.dumps({"kind": kind, "right": right, "wrong": wrong,
                  "cpu_s": time.process_time() - begin}))
ready()
"""
)


def said_by(code: str) -> dict:
    here = os.path.dirname(__file__)
    done = subprocess.run(
        [sys.executable, "-c", code, here], capture_output=True, text=True, env={**os.environ}
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))


def test_copies_are_met_as_if_all_were_laid_out() -> None:
    """Turned, mirrored, sheared and flat copies, glass on some, hair; near by and from afar."""
    found = said_by(SAME)
    print(found)
    assert found["hits"] > 3000 and not found["other"]
    assert found["ties"] < 0.01 * found["hits"] and found["off"] < 2e-4
    assert found["near_off"] == 0
    assert found["kinds"]["is_transparent"] > 50 and found["kinds"]["is_strand"] > 20


def test_a_scene_of_tens_of_millions_of_triangles_is_checked() -> None:
    """2,000 balls of 16,000 triangles each, against where spheres are."""
    found = said_by(MANY)
    print(found)
    assert found["kind"] == "PlacedOracle"
    assert found["right"] > 500 and not found["wrong"]
