"""Three landscapes of our own as .blend files: `python docs/_site/landscape.py lake lake.blend`.

For the gallery, and as an example of what a file of yours may look like. Everything is made by
numpy and a seed: a terrain of layered sines, trees and rocks of a few shapes, a sky. Each tree is
an object with a name that says what it is, so each has an id of its own.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np

Colour = tuple[float, float, float]
SIDE_M, STEPS = 360.0, 240


@dataclass(frozen=True)
class Land:
    """What tells one landscape from another. Colours are linear RGB."""

    seed: int
    low: Colour
    high: Colour
    relief_m: float
    water_m: float | None
    trees: int
    rocks: int
    tree: str
    leaves: tuple[Colour, ...]
    stone: Colour
    sun_elevation_deg: float
    sun_rotation_deg: float


LANDS = {
    "lake": Land(
        3, (0.10, 0.16, 0.03), (0.14, 0.13, 0.08), 9.0, -1.6, 330, 60, "pine",
        ((0.02, 0.07, 0.02), (0.03, 0.10, 0.03), (0.06, 0.12, 0.03)), (0.2, 0.19, 0.17), 34, 60,
    ),
    "autumn": Land(
        8, (0.16, 0.13, 0.04), (0.12, 0.08, 0.03), 8.0, None, 260, 40, "round",
        ((0.3, 0.08, 0.015), (0.34, 0.17, 0.02), (0.2, 0.03, 0.015), (0.13, 0.14, 0.03)),
        (0.18, 0.16, 0.14), 24, 200,
    ),
    "snow": Land(
        14, (0.82, 0.85, 0.9), (0.7, 0.74, 0.8), 14.0, None, 300, 70, "pine",
        ((0.03, 0.07, 0.05), (0.05, 0.10, 0.07), (0.55, 0.6, 0.63)), (0.25, 0.25, 0.27), 14, 310,
    ),
}  # fmt: skip


def height_m(x: np.ndarray, y: np.ndarray, land: Land) -> np.ndarray:
    """The ground, in metres: hills that grow with the distance, a hollow in the middle."""
    rng = np.random.default_rng(land.seed)
    z = np.zeros_like(x)
    for octave in range(7):
        length, strength = 130.0 / 1.9**octave, land.relief_m / 2.05**octave
        for _ in range(3):
            turn, phase = rng.uniform(0, 2 * np.pi, 2)
            z += (
                strength
                / 3
                * np.sin(2 * np.pi * (x * np.cos(turn) + y * np.sin(turn)) / length + phase)
            )
    far = np.clip(np.hypot(x, y) / (SIDE_M / 2), 0, 1)
    lake = 0.0 if land.water_m is None else 4.0 * np.exp(-(x**2 + (y - 30) ** 2) / (2 * 15**2))
    return z * (0.12 + 1.6 * far**1.5) + 30 * far**2 - 0.8 - lake


def material(name: str, colour: Colour, roughness: float = 0.9) -> bpy.types.Material:
    """A plain surface whose colour varies a little from place to place."""
    made = bpy.data.materials.new(name)
    made.use_nodes = True
    tree = made.node_tree
    surface = tree.nodes["Principled BSDF"]
    surface.inputs["Roughness"].default_value = roughness
    noise = tree.nodes.new("ShaderNodeTexNoise")
    noise.inputs["Scale"].default_value = 1.7
    noise.inputs["Detail"].default_value = 6
    ramp = tree.nodes.new("ShaderNodeValToRGB")
    ramp.color_ramp.elements[0].color = (*(0.55 * one for one in colour), 1)
    ramp.color_ramp.elements[1].color = (*(min(1, 1.35 * one) for one in colour), 1)
    ramp.color_ramp.elements[0].position, ramp.color_ramp.elements[1].position = 0.3, 0.7
    where = tree.nodes.new("ShaderNodeNewGeometry")
    tree.links.new(where.outputs["Position"], noise.inputs["Vector"])
    tree.links.new(noise.outputs["Fac"], ramp.inputs["Fac"])
    tree.links.new(ramp.outputs["Color"], surface.inputs["Base Color"])
    return made


def mesh(name: str, points: np.ndarray, faces: list, *, smooth: bool = False) -> bpy.types.Mesh:
    """A mesh of points (N, 3) in metres."""
    made = bpy.data.meshes.new(name)
    made.from_pydata(points.tolist(), [], faces)
    made.polygons.foreach_set("use_smooth", [smooth] * len(made.polygons))
    made.update()
    return made


def place(
    name: str, of: bpy.types.Mesh, at: tuple = (0, 0, 0), size: float = 1, turn: float = 0
) -> None:
    """An object of a mesh; copies share it."""
    made = bpy.data.objects.new(name, of)
    made.location, made.scale, made.rotation_euler = at, (size, size, size), (0, 0, turn)
    bpy.context.collection.objects.link(made)


def ground(land: Land) -> None:
    """The terrain, lower places in one colour and steep or high ones in another."""
    axis = np.linspace(-SIDE_M / 2, SIDE_M / 2, STEPS)
    x, y = np.meshgrid(axis, axis)
    points = np.stack([x, y, height_m(x, y, land)], -1).reshape(-1, 3)
    i = np.arange(STEPS * STEPS).reshape(STEPS, STEPS)
    faces = np.stack([i[:-1, :-1], i[:-1, 1:], i[1:, 1:], i[1:, :-1]], -1).reshape(-1, 4).tolist()
    made = mesh("Terrain", points, faces, smooth=True)
    made.materials.append(material("low", land.low))
    made.materials.append(material("high", land.high))
    steep = np.empty(3 * len(made.polygons))
    made.polygons.foreach_get("normal", steep)
    made.polygons.foreach_set("material_index", (steep[2::3] < 0.93).astype(np.int32))
    place("Terrain", made)
    if land.water_m is not None:
        half = SIDE_M / 2
        corners = np.array([[-half, -half, 0], [half, -half, 0], [half, half, 0], [-half, half, 0]])
        water = mesh("Water", corners, [(0, 1, 2, 3)])
        water.materials.append(material("water", (0.01, 0.03, 0.04), 0.06))
        place("Water", water, (0, 0, land.water_m))


def ring(radius: float, z: float, sides: int, rng: np.random.Generator, rough: float) -> np.ndarray:
    """Points around the axis at a height, (sides, 3)."""
    turn = np.arange(sides) / sides * 2 * np.pi
    r = radius * (1 + rng.uniform(-rough, rough, sides))
    return np.stack([r * np.cos(turn), r * np.sin(turn), np.full(sides, z)], -1)


def lathe(rings: list[np.ndarray]) -> tuple[np.ndarray, list]:
    """Rings of equally many points, joined; both ends are closed."""
    sides, points = len(rings[0]), np.concatenate(rings)
    faces = [
        (
            k * sides + j,
            k * sides + (j + 1) % sides,
            (k + 1) * sides + (j + 1) % sides,
            (k + 1) * sides + j,
        )
        for k in range(0, (len(rings) - 1) * sides, sides)
        for j in range(sides)
    ]
    last = (len(rings) - 1) * sides
    return points, [*faces, tuple(range(sides))[::-1], tuple(range(last, last + sides))]


def tree_mesh(
    number: int, land: Land, rng: np.random.Generator, bark: bpy.types.Material
) -> bpy.types.Mesh:
    """A tree 1 m high: a trunk, and a pine's skirts or a round crown of several balls."""
    parts = [lathe([ring(0.022, 0, 7, rng, 0.1), ring(0.012, 0.45, 7, rng, 0.1)])]
    if land.tree == "pine":
        levels = int(rng.integers(6, 9))
        for k in range(levels):
            t = k / levels
            wide, z = 0.24 * (1 - t) ** 0.9 + 0.02, 0.14 + 0.82 * t
            low = ring(wide, z, 17, rng, 0.25)
            middle = ring(wide * 0.5, z + 0.09, 17, rng, 0.1)
            tip = ring(0.004, z + 0.2 * (1 - 0.5 * t), 17, rng, 0)
            parts.append(lathe([low, middle, tip]))
    else:
        for _ in range(9):
            x, y = rng.normal(0, 0.13, 2)
            z, r = rng.uniform(0.45, 0.85), rng.uniform(0.12, 0.2)
            heights = np.linspace(0.15, np.pi - 0.15, 8)
            rows = [ring(r * np.sin(a), z - r * np.cos(a), 14, rng, 0.12) for a in heights]
            parts.append(lathe([row + np.array([x, y, 0]) for row in rows]))
    points, faces, start, kinds = [], [], 0, []
    for k, (p, f) in enumerate(parts):
        points.append(p)
        faces += [tuple(i + start for i in one) for one in f]
        kinds += [int(k > 0)] * len(f)
        start += len(p)
    made = mesh(f"tree{number}", np.concatenate(points), faces)
    made.materials.append(bark)
    made.materials.append(material(f"leaves{number}", land.leaves[number % len(land.leaves)]))
    made.polygons.foreach_set("material_index", np.array(kinds, np.int32))
    return made


def rock_mesh(
    number: int, land: Land, rng: np.random.Generator, stone: bpy.types.Material
) -> bpy.types.Mesh:
    """A rough ball of about 2 m."""
    heights = np.linspace(0.2, np.pi - 0.2, 7)
    rows = [ring(np.sin(a), -0.7 * np.cos(a), 12, rng, 0.28) for a in heights]
    points, faces = lathe(rows)
    made = mesh(f"rock{number}", points * rng.uniform(0.7, 1.2, 3), faces)
    made.materials.append(stone)
    return made


def grow(land: Land) -> None:
    """Trees and rocks where it is dry and not steep, none in the clearing where cameras stand."""
    rng = np.random.default_rng(land.seed + 1)
    bark, stone = material("bark", (0.09, 0.05, 0.03)), material("stone", land.stone)
    trees = [tree_mesh(k, land, rng, bark) for k in range(2 * len(land.leaves))]
    rocks = [rock_mesh(k, land, rng, stone) for k in range(5)]
    for number in range(land.trees + land.rocks):
        is_tree = number < land.trees
        for _ in range(60):
            far = (10.0 if is_tree else 3.5) + 130 * rng.uniform() ** 1.3
            turn = rng.uniform(0, 2 * np.pi)
            x, y = far * np.cos(turn), far * np.sin(turn)
            z = float(height_m(np.array(x), np.array(y), land))
            slope = abs(float(height_m(np.array(x + 1.0), np.array(y), land)) - z)
            if (land.water_m is None or z > land.water_m + 0.25) and slope < 0.8:
                break
        if is_tree:
            place("Tree", trees[number % len(trees)], (x, y, z - 0.1), rng.uniform(3.5, 8.5), turn)
        else:
            place("Boulder", rocks[number % len(rocks)], (x, y, z), rng.uniform(0.2, 1.1), turn)


def sky(land: Land) -> None:
    """Blender's physical sky with its sun."""
    world = bpy.data.worlds.new("sky")
    world.use_nodes = True
    nodes = world.node_tree
    air = nodes.nodes.new("ShaderNodeTexSky")
    air.sky_type = "NISHITA"
    air.sun_elevation = np.radians(land.sun_elevation_deg)
    air.sun_rotation = np.radians(land.sun_rotation_deg)
    air.sun_intensity, air.altitude, air.dust_density = 0.5, 800, 0.6
    nodes.links.new(air.outputs["Color"], nodes.nodes["Background"].inputs["Color"])
    nodes.nodes["Background"].inputs["Strength"].default_value = 0.17
    bpy.context.scene.world = world


def make(name: str, path: Path) -> None:
    """Write one of the landscapes."""
    land = LANDS[name]
    bpy.ops.wm.read_factory_settings(use_empty=True)
    ground(land)
    grow(land)
    sky(land)
    bpy.ops.wm.save_as_mainfile(filepath=str(path.absolute()))


if __name__ == "__main__":
    make(sys.argv[1], Path(sys.argv[2]))
