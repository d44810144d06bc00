"""Make a library of small things: run by an Infinigen 1, never imported.

    python make_assets.py OUT.blend PER_FACTORY MODULE:FACTORY...

Every asset becomes one plain mesh object, standing on its origin, modifiers applied, of MOST_FACES
at most: some come with a million, for a thing of a few pixels. A factory or a seed that fails is
printed and left out. The file is written if anything came out.
"""

import importlib
import os
import sys
import traceback

import bpy
import numpy as np
from infinigen.core import init
from infinigen.core.util import blender as butil
from infinigen.core.util.math import FixedSeed

MOST_FACES = 20_000


def spawn(module: str, factory: str, seed: int) -> bpy.types.Object:
    """One asset, as Infinigen makes it for a room."""
    made = getattr(importlib.import_module(f"infinigen.assets.objects.{module}"), factory)(seed)
    asset = made.spawn_asset(seed)
    made.finalize_assets(asset)
    return asset


def as_one_mesh(asset: bpy.types.Object, name: str) -> bpy.types.Object:
    """All meshes of an asset in one object of that name, its origin below its middle."""
    bpy.context.view_layer.update()
    parts = [obj for obj in (asset, *asset.children_recursive) if obj.type == "MESH"]
    depsgraph = bpy.context.evaluated_depsgraph_get()
    copies = []
    for part in parts:
        evaluated = part.evaluated_get(depsgraph)
        mesh = bpy.data.meshes.new_from_object(evaluated, depsgraph=depsgraph)
        mesh.transform(part.matrix_world)
        copies.append(bpy.data.objects.new(name, mesh))
        bpy.context.scene.collection.objects.link(copies[-1])
    one = butil.join_objects(copies) if len(copies) > 1 else copies[0]
    points = np.array([vertex.co for vertex in one.data.vertices])
    low, high = points.min(axis=0), points.max(axis=0)
    middle = (low + high) / 2
    one.data.transform(
        ((1, 0, 0, -middle[0]), (0, 1, 0, -middle[1]), (0, 0, 1, -low[2]), (0, 0, 0, 1))
    )
    thin_out(one)
    one.name = one.data.name = name
    return one


def thin_out(obj: bpy.types.Object) -> None:
    """Give the object's mesh MOST_FACES at most."""
    if len(obj.data.polygons) <= MOST_FACES:
        return
    modifier = obj.modifiers.new("thin", "DECIMATE")
    modifier.use_collapse_triangulate = True
    triangles = sum(len(polygon.vertices) - 2 for polygon in obj.data.polygons)
    modifier.ratio = MOST_FACES / triangles
    depsgraph = bpy.context.evaluated_depsgraph_get()
    thin = bpy.data.meshes.new_from_object(obj.evaluated_get(depsgraph), depsgraph=depsgraph)
    obj.modifiers.clear()
    obj.data = thin


def main(arguments: list[str]) -> int:
    """Make what is asked for and save it."""
    out, count, kinds = arguments[0], int(arguments[1]), arguments[2:]
    init.apply_gin_configs(
        ["infinigen_examples/configs_indoor", "infinigen_examples/configs_nature"],
        configs=["base_indoors.gin"],
        overrides=[],
        skip_unknown=True,
    )
    butil.clear_scene()
    kept = []
    for kind in kinds:
        module, factory = kind.split(":")
        for seed in range(count):
            try:
                with FixedSeed(seed):
                    kept.append(as_one_mesh(spawn(module, factory, seed), f"{factory}({seed})"))
                print(f"made {kept[-1].name}", flush=True)
            except Exception:
                traceback.print_exc()
                print(f"left out {factory}({seed})", flush=True)
    bpy.data.batch_remove([obj for obj in bpy.data.objects if obj not in kept])
    bpy.data.orphans_purge(do_recursive=True)
    if kept:
        bpy.ops.wm.save_as_mainfile(filepath=out, compress=True)
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)  # bpy may crash while the interpreter shuts down, after good work
