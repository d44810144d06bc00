"""Sources `infinigen1.indoors` and `infinigen1.nature`: Infinigen 1.x by its own command, in its
own environment.

Infinigen 1 and 2 pin different versions of Blender's module, so the generator runs in the
interpreter that the config names, and only the .blend that it saves comes back. The commands are
those of its documentation (docs/HelloRoom.md and docs/HelloWorld.md): indoors one task, nature a
coarse and a fine one; each leaves `scene.blend` in its output folder.

Names tell what things are: `SofaFactory(3098452).spawn_asset(17)` is a sofa, `living-room_0/0.wall`
the wall of a room. Scattered geometry belongs to its instancer. Placeholders, cutters and hidden
copies do not render and are no things. What belongs below another object is part of it. Infinigen 1
is not the same run to run on all platforms, as its documentation says. The seed is passed on, and
the digest of the scene goes into the metadata's versions.
"""

import hashlib
import re
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

import bpy
import numpy as np
from mathutils import Vector

from panoforge.core.errors import UserError
from panoforge.datagen.categories import Categories
from panoforge.datagen.config import SceneJob
from panoforge.datagen.geometry import RENDERABLE
from panoforge.datagen.scene import Region, Scene, SceneFailed, Thing
from panoforge.datagen.source_settings import Infinigen1Source
from panoforge.datagen.sources.blend import bounds, open_blend

DEFAULT_CONFIGS = {
    "indoors": ("fast_solve.gin", "singleroom.gin"),
    "nature": ("simple.gin",),
}
DEFAULT_OVERRIDES = {
    "indoors": ("compose_indoors.terrain_enabled=False",),
    "nature": (),
}
SEED_RANGE = 2**31  # its command parses seeds as C ints
NOT_THINGS = re.compile(
    r"placeholder|spawn_placeholder|cutter|^camrig|^CameraRigs|bbox|\.exterior$", re.I
)
_FACTORY = re.compile(r"^(?P<name>[A-Za-z0-9]+?)Factory\(.*$")
_ROOM_PART = re.compile(r"^(?P<room>[A-Za-z-]+_\d+/\d+)\.(?P<part>[a-z_]+)")
_TAIL_LINES = 5
_VERSION_PROBE = """
import importlib.metadata, importlib.util
if importlib.util.find_spec("infinigen_examples") is None:
    raise SystemExit("no package infinigen_examples")
print(importlib.metadata.version("infinigen"))
"""


class Infinigen1Missing(UserError):
    """The environment that the config names cannot run Infinigen 1."""


def make_scene(job: SceneJob, source: Infinigen1Source, seed: int) -> Scene:
    """Run the generator and open what it saved. SceneFailed if it fails or saves nothing,
    Infinigen1Missing if it is not there at all.
    """
    kind = source.source.split(".")[1]
    check_environment(source)
    with tempfile.TemporaryDirectory(prefix="infinigen1-") as name:
        folder = Path(name)
        for command, output in commands(source, seed % SEED_RANGE, folder):
            _run(command, source.timeout_s)
            if not (output / "scene.blend").is_file():
                raise SceneFailed(
                    f"Infinigen 1 ended well and left no scene.blend in its {output.name} folder"
                )
        digest = hashlib.sha256((output / "scene.blend").read_bytes()).hexdigest()[:16]
        open_blend(output / "scene.blend")
    things = things_of_infinigen1()
    if not things:
        raise SceneFailed("the .blend of Infinigen 1 holds nothing that renders")
    indoor = kind == "indoors"
    return Scene(
        things=things,
        regions=_rooms() if indoor else (bounds(),),
        indoor=indoor,
        versions={"infinigen1": installed_version(source.python), "infinigen1_scene": digest},
    )


def check_environment(source: Infinigen1Source) -> None:
    """Infinigen1Missing unless the interpreter is there and imports Infinigen 1."""
    if shutil.which(source.python) is None:
        raise Infinigen1Missing(
            f"{source.source}: python={source.python} is no executable on this machine. It names"
            " the interpreter of an environment with Infinigen 1.x; make one as its"
            " docs/Installation.md says"
        )
    installed_version(source.python)


def installed_version(python: str) -> str:
    """The version of Infinigen in the environment of `python`. Infinigen1Missing if there is
    none.
    """
    try:
        done = subprocess.run(
            [python, "-c", _VERSION_PROBE], capture_output=True, text=True, timeout=120, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Infinigen1Missing(f"python={python} does not run: {error}") from None
    if done.returncode or not done.stdout.strip().startswith("1."):
        found = done.stdout.strip() or (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise Infinigen1Missing(
            f"python={python}: expected Infinigen 1.x with its package infinigen_examples, got:"
            f" {found}"
        )
    return done.stdout.strip()


def commands(source: Infinigen1Source, seed: int, folder: Path) -> list[tuple[list[str], Path]]:
    """The commands to run in order, each with the folder that its scene.blend appears in."""
    kind = source.source.split(".")[1]
    configs = ["-g", *(source.configs or DEFAULT_CONFIGS[kind])]
    overrides = source.overrides or DEFAULT_OVERRIDES[kind]
    rest = [*configs, *(["-p", *overrides] if overrides else [])]
    start = [
        source.python,
        "-m",
        f"infinigen_examples.generate_{kind}",
        "--seed",
        str(seed),
        "--task",
    ]
    coarse, fine = folder / "coarse", folder / "fine"
    steps = [([*start, "coarse", "--output_folder", str(coarse), *rest], coarse)]
    if kind == "nature":
        folders = ["--input_folder", str(coarse), "--output_folder", str(fine)]
        steps.append(([*start, "populate", "fine_terrain", *folders, *rest], fine))
    return steps


def _run(command: list[str], timeout_s: float) -> None:
    """Its lines go to this process's log, so that the parent sees progress. SceneFailed with its
    last words.
    """
    tail: list[str] = []
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    alarm = threading.Timer(timeout_s, process.kill)
    alarm.start()
    try:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            tail = [*tail, line.strip()][-_TAIL_LINES:]
        code = process.wait()
    finally:
        late = not alarm.is_alive()
        alarm.cancel()
        process.kill()
    if code:
        why = f"did not end within {timeout_s:.0f} s" if late else f"ended with code {code}"
        raise SceneFailed(f"Infinigen 1 {why}: {' | '.join(tail)}")


def things_of_infinigen1() -> tuple[Thing, ...]:
    """What the open file holds: one thing per asset, per scattering instancer and per room part."""
    categories, owners = Categories.load(), dict[str, list[str]]()
    shown = {obj.name: obj for obj in bpy.context.view_layer.objects if is_shown(obj)}
    for name, obj in sorted(shown.items()):
        top = obj
        while top.parent is not None and top.parent.name in shown:
            top = top.parent
        owners.setdefault(top.name, []).append(name)
    things = []
    for top, parts in sorted(owners.items()):
        category = categories.of(asset_name(top))
        things.append(
            Thing(
                top, category.name, (top, *[part for part in parts if part != top]), category.flags
            )
        )
    return tuple(things)


def is_shown(obj: bpy.types.Object) -> bool:
    """Whether the object renders and is not one of the generator's helpers."""
    renders = obj.type in RENDERABLE or obj.instance_type == "COLLECTION"
    return renders and not obj.hide_render and not NOT_THINGS.search(obj.name)


def asset_name(object_name: str) -> str:
    """`SofaFactory(309).spawn_asset(17)` → `sofa`; `BookStackFactory(1)…` → `book_stack`;
    `living-room_0/0.wall` → `room_wall`; anything else as it is.
    """
    if match := _FACTORY.match(object_name):
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", match["name"]).lower()
    if match := _ROOM_PART.match(object_name):
        return f"room_{match['part']}"
    return object_name.lower()


def _rooms() -> tuple[Region, ...]:
    """A region above the floor of each room; the whole building if no floor is named as one."""
    found = []
    for obj in sorted(bpy.context.view_layer.objects, key=lambda obj: obj.name):
        match = _ROOM_PART.match(obj.name)
        if match and match["part"] == "floor" and is_shown(obj):
            corners = np.array([obj.matrix_world @ Vector(corner) for corner in obj.bound_box])
            (x0, y0, _), (x1, y1, z) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
            found.append(Region((x0 + 0.3, y0 + 0.3, z), (x1 - 0.3, y1 - 0.3, z + 2.6), z))
    return tuple(found) or (bounds(),)
