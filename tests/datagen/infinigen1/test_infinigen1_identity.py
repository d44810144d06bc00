"""What says that two files hold one scene of Infinigen 1, and that a zip of the config reaches it:
in Blender, in a process of its own.
"""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.render
STANDIN = Path(__file__).parents[1] / "antlandscape_standin"

CODE = """
import json, os, sys
from pathlib import Path
import bpy
from panoforge.datagen.config.render import SceneJob
from panoforge.datagen.extensions import extension
from panoforge.datagen.source_settings import Infinigen1Nature
from panoforge.datagen.sources import infinigen1

folder, found = Path(sys.argv[1]), {}

def scene():
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.mesh.primitive_grid_add(location=(1, 2, 3))
    bpy.context.object.name = "sofa"
    bpy.ops.object.empty_add()
    bpy.context.object.name = "seat"

def identity():
    bpy.context.view_layer.update()
    return infinigen1.scene_identity()

scene()
found["first"] = identity()
bpy.ops.wm.save_as_mainfile(filepath=str(folder / "one.blend"), compress=True)
bpy.ops.wm.open_mainfile(filepath=str(folder / "one.blend"))
found["opened"] = identity()
bpy.data.objects["sofa"].data.materials.append(bpy.data.materials.new("red"))
found["recoloured"] = identity()
for name, change in {
    "moved": lambda: setattr(bpy.data.objects["seat"], "location", (0.0, 0.001, 0.0)),
    "turned": lambda: setattr(bpy.data.objects["sofa"], "rotation_euler", (0.0, 0.0, 0.01)),
    "renamed": lambda: setattr(bpy.data.objects["sofa"], "name", "bench"),
    "gone": lambda: bpy.data.objects.remove(bpy.data.objects["seat"]),
    "more vertices": lambda: bpy.data.objects["sofa"].data.vertices.add(1),
}.items():
    scene()
    change()
    found[name] = identity()

class Asked(Exception):
    pass

def asked(order, on_line):
    raise Asked(str(order.given))

def given():
    try:
        infinigen1.make_scene(job, source, 1)
    except Asked as order:
        return str(order)

infinigen1.generated_scene = asked
source = Infinigen1Nature(source="infinigen1.nature", biomes=("desert",))
job = SceneJob(0, "a", source.source, "desert", (1,), 1)
bpy.ops.wm.read_factory_settings(use_empty=True)
found["given"] = [given()]
extension.provide_antlandscape(str(folder / "ant.zip"), folder / "unpacked")
found["given"].append(given())
(folder / "found.json").write_text(json.dumps(found))
sys.stdout.flush()
os._exit(0)
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What one run of CODE found."""
    folder = tmp_path_factory.mktemp("identity")
    with zipfile.ZipFile(folder / "ant.zip", "w") as archive:
        for path in STANDIN.iterdir():
            if path.is_file():
                archive.write(path, f"antlandscape-1.0/{path.name}")
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(folder)], capture_output=True, text=True, timeout=200
    )
    assert (folder / "found.json").is_file(), done.stderr[-3000:]
    return {**json.loads((folder / "found.json").read_text()), "folder": str(folder)}


def test_a_scene_is_its_names_places_and_counts_not_the_bytes_of_its_file(found):
    assert found["first"] == found["opened"] == found["recoloured"]
    others = [found[name] for name in ("moved", "turned", "renamed", "gone", "more vertices")]
    assert len({found["first"], *others}) == 6


def test_a_zip_that_the_config_names_is_shown_to_its_process(found):
    assert found["given"] == ["None", f"{found['folder']}/unpacked"]
