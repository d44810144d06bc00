"""Panoramas that a small network can learn from: flat-coloured solids around the camera, rendered
by Blender, in its own process.

    python -m bench.learns_scenes FOLDER COUNT [SEED]    stages COUNT panoramas below FOLDER

They are 512×256. Each has 6 to 10 cubes, balls, cones and cylinders of one colour each. They stand
at any angle, 2 to 4 m away all around (also above and below), before a backdrop of one colour. They
are what `panoforge.datagen.rendering.render`'s probe gives: one Cycles sample, the albedo as the
picture and the ids of the first hits, so pictures and masks agree to the pixel. Objects and the
material stay, only their places and colours change: tens of milliseconds a panorama.
"""

import sys
import tempfile
from pathlib import Path

import bpy
import numpy as np

from panoforge.core.sample.instance_table import InstanceLabel, instance_table
from panoforge.core.sample.label_maps import dense_ids
from panoforge.core.sample.metadata import Pose, SampleMeta
from panoforge.core.storage.staged import write_staged
from panoforge.datagen.defects import exit_now
from panoforge.datagen.rendering.cycles import choose_device, configure
from panoforge.datagen.rendering.passes import Passes
from panoforge.datagen.rendering.render import place_camera, render_passes
from panoforge.datagen.rendering.settings import RenderSettings

WIDTH = 512
SOLIDS = 10
BACKDROP_M = 40.0
CONTRAST = 0.25  # RGB distance of two colours, at least, from solid to backdrop
POSE = Pose(
    position_m=(0.0, 0.0, 0.0),
    yaw_deg=0.0,
    clearance_m=1.0,
    world_from_pano=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
)


def main() -> None:
    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    stage = Stage()
    settings = RenderSettings.probe(WIDTH, seed)
    choose_device("cpu", 1)
    configure(settings)
    place_camera(POSE, settings)
    with tempfile.TemporaryDirectory() as scratch:
        for scene in range(count):
            kinds = stage.arrange(np.random.default_rng([seed, scene]))
            write(folder, scene, seed, kinds, render_passes(settings, Path(scratch)))


class Stage:
    """The open Blender file with its solids and backdrop."""

    def __init__(self) -> None:
        bpy.ops.wm.read_factory_settings(use_empty=True)
        bpy.context.scene.world = bpy.data.worlds.new("black")
        self.meshes = [
            self.mesh(name, make)
            for name, make in (
                ("cube", lambda: bpy.ops.mesh.primitive_cube_add(size=1.6)),
                (
                    "ball",
                    lambda: bpy.ops.mesh.primitive_uv_sphere_add(
                        radius=1.0, segments=48, ring_count=24
                    ),
                ),
                (
                    "cone",
                    lambda: bpy.ops.mesh.primitive_cone_add(radius1=1.0, depth=2.0, vertices=48),
                ),
                (
                    "cylinder",
                    lambda: bpy.ops.mesh.primitive_cylinder_add(radius=0.8, depth=1.8, vertices=48),
                ),
            )
        ]
        self.backdrop = self.object(self.meshes[1], 0)
        self.backdrop.scale = (BACKDROP_M,) * 3
        self.solids = [self.object(self.meshes[0], index + 1) for index in range(SOLIDS)]

    def mesh(self, name: str, make: object) -> bpy.types.Mesh:
        """A primitive whose material takes the object's colour."""
        make()  # type: ignore[operator]
        made = bpy.context.object
        mesh = made.data
        mesh.name = name
        mesh.materials.append(bpy.data.materials.get("flat") or flat_material())
        bpy.data.objects.remove(made)
        return mesh

    def object(self, mesh: bpy.types.Mesh, index: int) -> bpy.types.Object:
        made = bpy.data.objects.new(f"solid{index}", mesh)
        made.pass_index = index
        bpy.context.scene.collection.objects.link(made)
        return made

    def arrange(self, rng: np.random.Generator) -> list[str]:
        """A new panorama; the kind of each solid, those hidden included."""
        backdrop = rng.uniform(0, 1, 3)
        self.backdrop.color = (*linear(backdrop), 1.0)
        shown = int(rng.integers(6, SOLIDS + 1))
        for index, solid in enumerate(self.solids):
            direction = rng.normal(size=3)
            solid.location = direction / np.linalg.norm(direction) * rng.uniform(2.0, 4.0)
            solid.rotation_euler = rng.uniform(0, 2 * np.pi, 3)
            solid.scale = (rng.uniform(0.4, 1.1),) * 3
            solid.data = self.meshes[int(rng.integers(len(self.meshes)))]
            colour = rng.uniform(0, 1, 3)
            while np.linalg.norm(colour - backdrop) < CONTRAST:
                colour = rng.uniform(0, 1, 3)
            solid.color = (*linear(colour), 1.0)
            solid.hide_render = index >= shown
        return [solid.data.name for solid in self.solids]


def flat_material() -> bpy.types.Material:
    """Diffuse in the object's own colour: its albedo is flat, whatever the light."""
    material = bpy.data.materials.new("flat")
    material.use_nodes = True
    nodes = material.node_tree.nodes
    nodes.clear()
    colour, diffuse, out = (
        nodes.new(f"ShaderNode{kind}") for kind in ("ObjectInfo", "BsdfDiffuse", "OutputMaterial")
    )
    material.node_tree.links.new(colour.outputs["Color"], diffuse.inputs["Color"])
    material.node_tree.links.new(diffuse.outputs[0], out.inputs["Surface"])
    return material


def linear(srgb: np.ndarray) -> np.ndarray:
    """sRGB in [0, 1] → linear."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def srgb(values: np.ndarray) -> np.ndarray:
    """Linear in [0, 1] → sRGB uint8."""
    shown = np.where(
        values <= 0.0031308, values * 12.92, 1.055 * np.clip(values, 0, 1) ** (1 / 2.4) - 0.055
    )
    return np.round(shown * 255).astype(np.uint8)


def write(folder: Path, scene: int, seed: int, kinds: list[str], passes: Passes) -> None:
    """Stage one panorama."""
    assert passes.albedo is not None
    labels, originals = dense_ids(passes.index.astype(np.uint16))
    names = {
        dense + 1: InstanceLabel(f"solid{original}", kinds[original - 1], f"solid{original}")
        for dense, original in enumerate(int(i) for i in originals if i > 0)
    }
    arrays = {"rgb.png": srgb(passes.albedo), "instance.zst": labels}
    name = f"solids-{scene:06d}"
    write_staged(
        folder,
        SampleMeta(
            key=f"{name}-c0",
            width=WIDTH,
            height=WIDTH // 2,
            source="bench/solids",
            scene=name,
            seed=seed * 10**6 + scene,
            camera=0,
            pose=POSE,
            products=tuple(sorted(arrays)),
            instances=instance_table(labels, names),
            config_sha256="0" * 64,
            versions={"bpy": bpy.app.version_string},
        ),
        arrays,
    )


if __name__ == "__main__":
    main()
    exit_now(0)
