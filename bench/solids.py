"""Solids cast along rays: the pictures and exact masks of bench.reproduce_sap, in numpy alone.

    ids, rgb = shoot(origin, directions, scene)

A scene is some convex solids before a backdrop. A solid is the part of space inside all of its
faces (planes), or a ball, or a cylinder; each is made in its own frame, scaled, turned and moved.
The first solid hit along the ray through a pixel's centre is the pixel's id, as in the product's
own label maps; there is no anti-aliasing. Any set of rays will do, so panoramas and perspective
frames come from one function.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
AMBIENT = 0.55


def _prism(sides: int) -> Floats:
    """Unit normals of an upright prism's faces."""
    angle = np.arange(sides) * 2 * np.pi / sides
    around = np.stack([np.cos(angle), np.sin(angle), np.zeros(sides)], axis=1)
    return np.concatenate([around, [[0, 0, 1], [0, 0, -1]]])


def _pyramid() -> Floats:
    around = np.array([[1, 0, 0.5], [-1, 0, 0.5], [0, 1, 0.5], [0, -1, 0.5]]) / np.sqrt(1.25)
    return np.concatenate([around, [[0, 0, -1]]])


# Faces n·x ≤ c of the unit solids: (normals K×3, c).
FACES: Mapping[str, tuple[Floats, float]] = {
    "box": (_prism(4), 1.0),
    "pyramid": (_pyramid(), 0.6),
    "wedge": (_prism(3), 0.6),
    "hexagon": (_prism(6), 0.9),
    "octahedron": (
        np.array([[a, b, c] for a in (1, -1) for b in (1, -1) for c in (1, -1)]) / np.sqrt(3),
        0.7,
    ),
}
KINDS = ("ball", "cylinder", *FACES)


@dataclass(frozen=True)
class Solid:
    """One instance. `axes` (3, 3): its own frame in the world, columns. `half` (3,): its half sizes
    in metres. `colours` (2, 3) in [0, 1]. `stripes` per unit of its own frame; 0 is one colour.
    """

    kind: str
    centre: Floats
    axes: Floats
    half: Floats
    colours: Floats
    stripes: float = 0.0


@dataclass(frozen=True)
class Scene:
    """Solids before a backdrop that runs from `below` to `above`, under one distant light."""

    solids: tuple[Solid, ...]
    below: Floats
    above: Floats
    light: Floats
    ambient: float = AMBIENT


def shoot(
    origin: Floats, directions: Floats, scene: Scene
) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """Ids (solid k is k + 1, 0 the backdrop) and sRGB colours along unit `directions` S×3."""
    found = trace(origin, directions, scene)
    return found.ids, found.rgb


@dataclass(frozen=True)
class Traced:
    """What is along rays S×3: ids uint16 S, sRGB uint8 S×3, metres S (inf: the backdrop), unit
    normals S×3 (0: the backdrop).
    """

    ids: NDArray[np.uint16]
    rgb: NDArray[np.uint8]
    depth_m: Floats
    normal: Floats


def trace(origin: Floats, directions: Floats, scene: Scene) -> Traced:
    """`shoot`, with depth and normals."""
    shape, rays = directions.shape[:-1], directions.reshape(-1, 3)
    height = 0.5 + 0.5 * rays[:, 2:]
    colour = scene.below * (1 - height) + scene.above * height
    depth = np.full(len(rays), np.inf)
    ids, normals = np.zeros(len(rays), np.uint16), np.zeros((len(rays), 3))
    for number, solid in enumerate(scene.solids, 1):
        some = _near(solid, origin, rays)
        hit, normal, place = _hit(solid, origin, rays[some])
        closer = hit < depth[some]
        which = some[closer]
        depth[which], ids[which], normals[which] = hit[closer], number, normal[closer]
        colour[which] = _shaded(solid, normal[closer], place[closer], scene)
    rgb = np.clip(np.round(colour * 255), 0, 255).astype(np.uint8)
    return Traced(
        ids.reshape(shape),
        rgb.reshape(*shape, 3),
        depth.reshape(shape),
        normals.reshape(*shape, 3),
    )


def _near(solid: Solid, origin: Floats, rays: Floats) -> NDArray[np.int64]:
    """The rays that meet the ball around a solid."""
    towards, radius = solid.centre - origin, 1.8 * float(np.linalg.norm(solid.half))
    distance = float(np.linalg.norm(towards))
    if distance <= radius:
        return np.arange(len(rays))
    least = np.sqrt(1 - (radius / distance) ** 2)
    return np.flatnonzero(rays @ (towards / distance) >= least)


def _hit(solid: Solid, origin: Floats, rays: Floats) -> tuple[Floats, Floats, Floats]:
    """Distances (inf: missed, or from inside), unit normals and places in the solid's own frame."""
    into = solid.axes / solid.half
    start, step = (origin - solid.centre) @ into, rays @ into
    normal: Floats | None = None
    if solid.kind in FACES:
        near, far, normal = _through_faces(start, step, *FACES[solid.kind])
    else:
        near, far = _through_round(start, step, flat=solid.kind == "cylinder")
    hit: Floats = np.where((near < far) & (near > 1e-6), near, np.inf)
    reached: Floats = np.nan_to_num(hit, posinf=0.0)
    place: Floats = start + reached[:, None] * step
    if normal is None:
        normal = place * (
            np.array([1.0, 1.0, 1.0]) if solid.kind == "ball" else np.array([1.0, 1.0, 0.0])
        )
        if solid.kind == "cylinder":
            caps = np.abs(place[:, 2]) > 1 - 1e-6
            normal[caps] = np.sign(place[caps, 2:]) * np.array([0.0, 0.0, 1.0])
    outward: Floats = normal @ into.T
    outward /= np.maximum(np.linalg.norm(outward, axis=1, keepdims=True), 1e-12)
    return hit, outward, place


def _through_faces(
    start: Floats, step: Floats, normals: Floats, limit: float
) -> tuple[Floats, Floats, Floats]:
    """Where rays enter and leave a convex body, and the normal of the face they enter by."""
    slope, left = step @ normals.T, limit - normals @ start
    with np.errstate(divide="ignore", invalid="ignore"):
        at = left / slope
    entering = np.where(slope < 0, at, -np.inf)
    leaving = np.where(slope > 0, at, np.inf)
    outside = ((slope == 0) & (left < 0)).any(axis=1)
    near = np.where(outside, np.inf, entering.max(axis=1))
    faces: Floats = normals[entering.argmax(axis=1)]
    return near, leaving.min(axis=1), faces


def _through_round(start: Floats, step: Floats, *, flat: bool) -> tuple[Floats, Floats]:
    """The same for the unit ball, or the cylinder of radius 1 between z = −1 and 1."""
    axes = slice(0, 2) if flat else slice(0, 3)
    a = (step[:, axes] ** 2).sum(axis=1)
    b = step[:, axes] @ start[axes]
    root = b**2 - a * ((start[axes] ** 2).sum() - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        half = np.sqrt(np.where(root > 0, root, np.nan))
        near, far = (-b - half) / a, (-b + half) / a
        if flat:
            caps = np.stack([(-1 - start[2]) / step[:, 2], (1 - start[2]) / step[:, 2]])
            near, far = np.maximum(near, caps.min(axis=0)), np.minimum(far, caps.max(axis=0))
    missed = np.isnan(near) | np.isnan(far)
    return np.where(missed, np.inf, near), np.where(missed, -np.inf, far)


def _shaded(solid: Solid, normal: Floats, place: Floats, scene: Scene) -> Floats:
    """Lambert, and stripes across the solid's own z."""
    albedo = np.broadcast_to(solid.colours[0], place.shape)
    if solid.stripes:
        second = np.sin(np.pi * solid.stripes * (place[:, 2] + 0.3 * place[:, 0])) > 0
        albedo = np.where(second[:, None], solid.colours[1], albedo)
    lit = np.clip(normal @ scene.light, 0, None)[:, None]
    return albedo * (scene.ambient + (1 - scene.ambient) * lit)
