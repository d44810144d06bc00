"""Ground and rocks for outdoor scenes that need no extension.

Fractal terrain and stones cut by planes.

Infinigen 2 makes both through Blender's extension A.N.T. Landscape. Where that is missing, these
stand in: shapes made here from numpy arrays, materials Infinigen's own. Both are functions of their
generator alone.
"""

import bpy
import numpy as np
from numpy.typing import NDArray

GROUND_M = 120.0
CELLS = 240  # along one side: half a metre each
OCTAVES = 6


def height_map(
    rng: np.random.Generator, relief_m: float, cells: int = CELLS
) -> NDArray[np.float64]:
    """Heights in metres, (cells + 1, cells + 1): fractional Brownian motion (Musgrave 1994).

    Octaves of smoothed lattice noise, each half as high and twice as fine. They are flattened
    towards the middle, where the cameras stand.
    """
    heights = np.zeros((cells + 1, cells + 1))
    for octave in range(OCTAVES):
        knots = 3 * 2**octave
        lattice = rng.uniform(-1, 1, (knots + 2, knots + 2))
        at = np.linspace(0, knots, cells + 1)
        low = np.floor(at).astype(int)
        t = at - low
        t = t * t * (3 - 2 * t)
        rows = lattice[low] * (1 - t)[:, None] + lattice[low + 1] * t[:, None]
        heights += 0.5**octave * (rows[:, low] * (1 - t) + rows[:, low + 1] * t)
    side = np.linspace(-1, 1, cells + 1)
    distance = np.hypot(side[:, None], side[None, :])
    return relief_m * (heights - heights[cells // 2, cells // 2]) * np.clip(0.25 + distance, 0, 1)


def ground(rng: np.random.Generator, relief_m: float) -> bpy.types.Object:
    """A square of fractal terrain, GROUND_M on a side, centred on the origin; with UVs."""
    heights = height_map(rng, relief_m)
    side = np.linspace(-GROUND_M / 2, GROUND_M / 2, CELLS + 1)
    x, y = np.meshgrid(side, side, indexing="ij")
    points = np.stack([x, y, heights], axis=-1).reshape(-1, 3)
    corner = (np.arange(CELLS)[:, None] * (CELLS + 1) + np.arange(CELLS)).ravel()
    quads = np.stack([corner, corner + CELLS + 1, corner + CELLS + 2, corner + 1], axis=1)
    return _object("landscape", points, quads, uv=points[:, :2] / 4.0)


def rock(rng: np.random.Generator, radius_m: float) -> bpy.types.Object:
    """A stone: a fine sphere cut by random planes, squashed, a little rough.

    The planes give it facets and edges.
    """
    import bmesh

    shape = bmesh.new()
    bmesh.ops.create_icosphere(shape, subdivisions=4, radius=1.0)
    points = np.array([vertex.co for vertex in shape.verts])
    faces = np.array([[vertex.index for vertex in face.verts] for face in shape.faces])
    shape.free()
    normals = rng.normal(size=(14, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    facing = points @ normals.T
    reach = np.where(
        facing > 1e-3, rng.uniform(0.6, 1.0, 14) / np.maximum(facing, 1e-3), np.inf
    ).min(axis=1)
    waves = np.cos(points @ rng.normal(0, 7, (3, 8)) + rng.uniform(0, 2 * np.pi, 8)).mean(axis=1)
    points = points * (np.minimum(reach, 1.0) * (1 + 0.03 * waves))[:, None]
    points *= radius_m * np.array([1.0, rng.uniform(0.6, 1.0), rng.uniform(0.4, 0.8)])
    return _object("rock_rand", points, faces, uv=points[:, :2])


def _object(name: str, points: NDArray, faces: NDArray, uv: NDArray) -> bpy.types.Object:
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata(points.tolist(), [], faces.tolist())
    layer = mesh.uv_layers.new(name="UVMap")
    layer.data.foreach_set("uv", uv[faces.ravel()].astype(np.float32).ravel())
    obj = bpy.data.objects.new(name, mesh)
    bpy.context.scene.collection.objects.link(obj)
    return obj
