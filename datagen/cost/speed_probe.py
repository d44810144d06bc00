"""How fast this machine renders: a small Cycles render of a room of noisy balls, in seconds.

`python -m panoforge.datagen.cost.speed_probe DEVICE` prints one line of JSON. `measure_speed` runs
it in a process of its own, because bpy may crash, and gives core-seconds per million samples. The
room is like nobody's; what counts is how much slower or faster than on the machine of
`panoforge.datagen.cost.expected_cost` it is.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from panoforge.core.errors import UserError
from panoforge.core.sample.metadata import Pose
from panoforge.datagen.config.render import RenderConfig
from panoforge.datagen.rendering.settings import RenderSettings

WIDTH, SAMPLES = 128, 16
TIMEOUT_S = 600.0  # on a machine that is busy with much else


class NoProbe(UserError):
    """This machine cannot be probed."""


def measure_speed(device: str = "auto") -> float:
    """Core-seconds per million samples of the probe's room; takes about 5 seconds of one core.

    Raises:
        NoProbe: Blender does not run here, or `device` (`render.device`) is a GPU here: what a
            GPU takes was measured nowhere.
    """
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "panoforge.datagen.cost.speed_probe", device],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        found = json.loads(ended.stdout.strip().splitlines()[-1])
        if "core_s_per_msample" in found:
            return float(found["core_s_per_msample"])
        why = f"it renders on {found['device']}, and the probe knows CPUs only"
    except subprocess.TimeoutExpired:
        why = f"no end after {TIMEOUT_S:.0f} s"
    except (json.JSONDecodeError, IndexError, KeyError, TypeError):
        why = (ended.stderr.strip().splitlines() or ["no output"])[-1]
    raise NoProbe(
        f"the probe of this machine's speed gave nothing ({why}): see the bpy line of `pano"
        " doctor`, or calibrate with real scenes: pano render CONFIG --scenes 20 --calibrate"
    )


def _furnish() -> None:
    """A closed room of 6×5×3 m, forty balls, procedural noise on everything, one lamp."""
    import bpy

    def noisy(name: str, scale: float) -> bpy.types.Material:
        made = bpy.data.materials.new(name)
        made.use_nodes = True
        tree = made.node_tree
        noise = tree.nodes.new("ShaderNodeTexNoise")
        noise.inputs["Scale"].default_value = scale
        noise.inputs["Detail"].default_value = 8.0
        shader = tree.nodes["Principled BSDF"]
        tree.links.new(noise.outputs["Color"], shader.inputs["Base Color"])
        tree.links.new(noise.outputs["Fac"], shader.inputs["Roughness"])
        return made

    bpy.ops.wm.read_factory_settings(use_empty=True)
    rng = np.random.default_rng(0)
    bpy.ops.mesh.primitive_cube_add(size=1, scale=(6, 5, 3), location=(0, 0, 1.5))
    bpy.context.object.data.materials.append(noisy("walls", 4.0))
    coats = [noisy(f"coat{number}", 3.0 + number) for number in range(4)]
    for number in range(40):
        place = rng.uniform((-2.6, -2.1, 0.2), (2.6, 2.1, 1.2))
        radius = float(rng.uniform(0.1, 0.35))
        bpy.ops.mesh.primitive_uv_sphere_add(radius=radius, location=place.tolist())
        bpy.context.object.data.materials.append(coats[number % len(coats)])
    bpy.ops.object.light_add(type="AREA", location=(0, 0, 2.9))
    bpy.context.object.data.energy = 200.0


def _probe(wanted: str) -> dict[str, float | str]:
    from panoforge.datagen.rendering.cycles import choose_device, configure
    from panoforge.datagen.rendering.render import place_camera, render_passes

    _furnish()
    device = choose_device(wanted, 1)
    if device != "cpu":
        return {"device": device}
    upright = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    pose = Pose(position_m=(0.0, 0.0, 1.5), yaw_deg=0.0, world_from_pano=upright)
    seconds = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for samples in (1, SAMPLES):  # the first loads the scene and the kernels
            config = RenderConfig(
                width=WIDTH,
                height=WIDTH // 2,
                samples=samples,
                adaptive_threshold=0.0,
                denoise=False,
            )
            settings = RenderSettings.of(config, seed=1)
            configure(settings)
            place_camera(pose, settings)
            seconds = render_passes(settings, Path(folder)).cpu_s["sample"]
    return {"core_s_per_msample": seconds / (SAMPLES * WIDTH * WIDTH / 2 / 1e6)}


if __name__ == "__main__":
    print(json.dumps(_probe(sys.argv[1])), flush=True)
    from panoforge.datagen.defects import exit_now

    exit_now(0)
