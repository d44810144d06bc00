# %% [markdown]
# # Render your .blend
#
# A file of yours becomes panoramas with ids, depth and normals. Where there is no `my.blend`, a
# small one is made here: a floor, a table, a chair and a sofa.

# %%
from pathlib import Path

import panoforge

BLEND = Path("my.blend")
if not BLEND.exists():
    import bpy

    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.mesh.primitive_plane_add(size=10)
    bpy.context.object.name = "Floor"
    for name, place in (
        ("Table", (2, 0, 0.5)),
        ("Chair", (-1.5, 1.5, 0.5)),
        ("Sofa", (0, -2, 0.5)),
    ):
        bpy.ops.mesh.primitive_cube_add(size=1, location=place)
        bpy.context.object.name = name
    bpy.ops.object.light_add(type="SUN", location=(0, 0, 5))
    bpy.ops.wm.save_as_mainfile(filepath=str(BLEND.absolute()))

# %% [markdown]
# Names say what things are: `Table` is a table. Cameras stand on the ground, at eye height, a third
# of a metre from everything.

# %%
Path("blend.yaml").write_text(
    """
run: runs/mine
sources: [{source: blend, paths: [my.blend]}]
cameras_per_scene: 1
width: 256
height: 128
samples: 4
quality: {min_instances: 2}
"""
)
run = panoforge.render("blend.yaml")
print(run.panoramas, "panoramas;", run.count("failed"), "failed;", run.reasons)

# %%
import subprocess
import sys

pano = [sys.executable, "-m", "panoforge"]
subprocess.run([*pano, "pack", "runs/mine", "splits={train: 1.0}"], check=True)
for thing in panoforge.open_dataset("runs/mine/dataset")[0].meta.instances:
    print(thing.id, thing.name, thing.category, f"{thing.area_sr:.3f} sr")
