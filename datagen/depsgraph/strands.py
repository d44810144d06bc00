"""Curves and points as Cycles takes them: hair strands with a radius at every point, and balls.

Read from evaluated Blender data, written to new Blender data, or turned into triangles for rays.
Particle hair becomes curves by the formulas of Cycles' own reading of it
(intern/cycles/blender/curves.cpp, Blender 4.2). There is one strand per child, or per parent where
there are no children. Its radius falls from root to tip by the system's shape.
"""

from dataclasses import dataclass

import bpy
import numpy as np
from numpy.typing import NDArray

from panoforge.datagen.depsgraph.parts import hair_systems

DEFAULT_CURVE_RADIUS = 0.005  # Cycles' own where curves carry none
DEFAULT_POINT_RADIUS = 0.01
SMOOTHING = 4  # steps between two points of a strand, which Cycles joins by a smooth curve


@dataclass(frozen=True)
class Strands:
    """Hair, in object space.

    `points` (N, 3) and `radius` (N,) are those of all strands in a row, `counts` (S,) how many each
    has. `uv` (S, 2) says where on its surface a strand grows, `material` (S,) which slot it has.
    """

    points: NDArray[np.float64]
    radius: NDArray[np.float64]
    counts: NDArray[np.int64]
    uv: NDArray[np.float64]
    material: NDArray[np.int32]


def particle_strands(obj: bpy.types.Object) -> Strands | None:
    """The particle hair of an evaluated object; None if it has no strand of any length."""
    inverse = np.linalg.inv(np.array(obj.matrix_world))
    points, radii, counts, uvs, materials = [], [], [], [], []
    for modifier in (m for m in obj.modifiers if m.type == "PARTICLE_SYSTEM"):
        system = modifier.particle_system
        if system not in hair_systems(obj):
            continue
        settings = system.settings
        parents, children = len(system.particles), len(system.child_particles)
        first = parents if settings.child_type != "NONE" and children else 0
        steps = 2**settings.render_step + 1
        steps += settings.kink_extra_steps if settings.kink == "SPIRAL" else 0
        for number in range(first, parents + children):
            world = np.array(
                [system.co_hair(obj, particle_no=number, step=step) for step in range(steps)]
            )
            strand = world @ inverse[:3, :3].T + inverse[:3, 3]
            along = np.concatenate(
                [[0.0], np.cumsum(np.linalg.norm(np.diff(strand, axis=0), axis=1))]
            )
            if along[-1] == 0:
                continue
            points.append(strand)
            radii.append(strand_radius(along / along[-1], settings))
            counts.append(steps)
            uvs.append(_uv(system, modifier, number, parents, obj))
            materials.append(max(settings.material - 1, 0))
    if not counts:
        return None
    return Strands(
        np.concatenate(points),
        np.concatenate(radii),
        np.array(counts, np.int64),
        np.array(uvs, float),
        np.array(materials, np.int32),
    )


def strand_radius(
    along: NDArray[np.float64], settings: bpy.types.ParticleSettings
) -> NDArray[np.float64]:
    """Radius (N,) at the shares `along` (N,) of a strand's length (Cycles' `shaperadius`)."""
    root, tip = (
        0.5 * settings.radius_scale * end for end in (settings.root_radius, settings.tip_radius)
    )
    left, shape = 1 - along, settings.shape
    power = 1 + shape if shape < 0 else 1 / (1 - shape) if shape < 1 else np.inf
    radius = left**power * (root - tip) + tip
    if settings.use_close_tip:
        radius[-1] = 0.0
    return radius


def _uv(
    system: bpy.types.ParticleSystem,
    modifier: bpy.types.ParticleSystemModifier,
    number: int,
    parents: int,
    obj: bpy.types.Object,
) -> tuple[float, float]:
    if not obj.data.uv_layers:
        return (0.0, 0.0)
    particle = system.particles[min(number, parents - 1)] if parents else None
    if particle is None:
        return (0.0, 0.0)
    u, v = system.uv_on_emitter(modifier, particle=particle, particle_no=number, uv_no=0)
    return float(u), float(v)


def curves_of(strands: Strands, name: str) -> bpy.types.Curves:
    """New hair curves of `strands`, without materials."""
    curves = bpy.data.hair_curves.new(name)
    curves.add_curves(strands.counts.tolist())
    curves.attributes["position"].data.foreach_set(
        "vector", strands.points.astype(np.float32).ravel()
    )
    radius = curves.attributes.get("radius") or curves.attributes.new("radius", "FLOAT", "POINT")
    radius.data.foreach_set("value", strands.radius.astype(np.float32))
    uv = curves.attributes.new("surface_uv_coordinate", "FLOAT2", "CURVE")
    uv.data.foreach_set("vector", strands.uv.astype(np.float32).ravel())
    return curves


def read_curves(curves: bpy.types.Curves) -> Strands:
    """The strands of hair curves."""
    points = np.empty((len(curves.points), 3), np.float32)
    curves.points.foreach_get("position", points.ravel())
    radius = np.full(len(points), DEFAULT_CURVE_RADIUS, np.float32)
    if "radius" in curves.attributes:
        curves.attributes["radius"].data.foreach_get("value", radius)
    offsets = np.array([curve.first_point_index for curve in curves.curves] + [len(points)])
    count = len(curves.curves)
    return Strands(
        points.astype(float),
        radius.astype(float),
        np.diff(offsets).astype(np.int64),
        np.zeros((count, 2)),
        np.zeros(count, np.int32),
    )


def read_points(cloud: bpy.types.PointCloud) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centres (N, 3) and radii (N,) of a point cloud."""
    centres = np.empty((len(cloud.points), 3), np.float32)
    cloud.attributes["position"].data.foreach_get("vector", centres.ravel())
    radius = np.full(len(centres), DEFAULT_POINT_RADIUS, np.float32)
    if "radius" in cloud.attributes:
        cloud.attributes["radius"].data.foreach_get("value", radius)
    return centres.astype(float), radius.astype(float)


def tubes(strands: Strands, sides: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Triangles around strands: (V, 3) vertices, (T, 3) indices.

    Between points a strand follows the Catmull-Rom spline that Cycles draws; a tube of `sides` has
    a strand's mean width.
    """
    sampled = [
        _smooth(points, radius)
        for points, radius in zip(
            np.split(strands.points, np.cumsum(strands.counts)[:-1]),
            np.split(strands.radius, np.cumsum(strands.counts)[:-1]),
            strict=True,
        )
        if len(points) > 1
    ]
    if not sampled:
        return np.zeros((0, 3)), np.zeros((0, 3), np.int64)
    turn = 2 * np.pi * np.arange(sides) / sides
    widen = np.sqrt(1 / np.cos(np.pi / sides))  # between the circles inside and around
    vertices, faces, offset = [], [], 0
    for centre, radius in sampled:
        tangent = np.gradient(centre, axis=0)
        tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-12)
        helper = np.eye(3)[np.abs(tangent).argmin(axis=1)]
        across = np.cross(tangent, helper)
        across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-12)
        upward = np.cross(tangent, across)
        ring = np.cos(turn)[:, None] * across[:, None] + np.sin(turn)[:, None] * upward[:, None]
        vertices.append((centre[:, None] + widen * radius[:, None, None] * ring).reshape(-1, 3))
        low = (np.arange(len(centre) - 1)[:, None] * sides + np.arange(sides)).ravel()
        beside = (
            np.arange(len(centre) - 1)[:, None] * sides + (np.arange(sides) + 1) % sides
        ).ravel()
        quads = np.stack([low, beside, beside + sides, low, beside + sides, low + sides], axis=1)
        faces.append(quads.reshape(-1, 3) + offset)
        offset += len(centre) * sides
    return np.concatenate(vertices), np.concatenate(faces)


def _smooth(
    points: NDArray[np.float64], radius: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A Catmull-Rom spline through the points, SMOOTHING steps between two; radii likewise."""
    both = np.concatenate([points, radius[:, None]], axis=1)
    padded = np.concatenate([both[:1], both, both[-1:]])
    t = np.arange(SMOOTHING)[:, None] / SMOOTHING
    a, b, c, d = (padded[i : len(padded) - 3 + i, None] for i in range(4))
    spline = 0.5 * (
        2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3
    )
    line = np.concatenate([spline.reshape(-1, 4), both[-1:]])
    return line[:, :3], np.maximum(line[:, 3], 0)


def balls(
    centres: NDArray[np.float64], radius: NDArray[np.float64], subdivisions: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Triangles of an icosphere around each point: (V, 3) vertices, (T, 3) indices."""
    import bmesh

    shape = bmesh.new()
    bmesh.ops.create_icosphere(shape, subdivisions=subdivisions, radius=1.0)
    unit = np.array([vertex.co for vertex in shape.verts])
    faces = np.array([[vertex.index for vertex in face.verts] for face in shape.faces])
    shape.free()
    vertices = centres[:, None] + radius[:, None, None] * unit
    indices = faces[None] + np.arange(len(centres))[:, None, None] * len(unit)
    return vertices.reshape(-1, 3), indices.reshape(-1, 3).astype(np.int64)
