"""Small things from a library in the places of Infinigen 2's primitive bodies.

A body has found a place that is free and stands on something. So an asset that fits into its box
may stand there, turned as it was, and scaled a little. Of those that fit, any. Where none does, the
place stays empty.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path

import bpy
import numpy as np
from mathutils import Matrix, Vector
from numpy.typing import NDArray

from panoforge.core.categories.table import Categories
from panoforge.datagen.infinigen1.asset_names import asset_name
from panoforge.datagen.scene.scene import Thing

STREAM = 0xC1077E4
SMALLEST, LARGEST = 0.7, 1.25  # of an asset's own size
TALLER = 1.3  # than the body: there was some room above it


@dataclass(frozen=True)
class Asset:
    """A mesh of the library, standing on its origin. `size` (3,) metres."""

    name: str
    mesh: bpy.types.Mesh
    size: NDArray[np.float64]


def load_library(path: Path) -> tuple[tuple[Asset, ...], str]:
    """The assets of a library, appended to the open file, and the digest of the file."""
    with bpy.data.libraries.load(str(path), link=False) as (inside, wanted):
        wanted.objects = sorted(inside.objects)
    assets = []
    for obj in wanted.objects:
        points = np.empty(len(obj.data.vertices) * 3, np.float32)
        obj.data.vertices.foreach_get("co", points)
        size = np.ptp(points.reshape(-1, 3), axis=0).astype(float)
        assets.append(Asset(obj.name, obj.data, size))
        bpy.data.objects.remove(obj)
    with open(path, "rb") as file:
        return tuple(assets), file_digest(file, "sha256").hexdigest()[:16]


def fitting(assets: Sequence[Asset], size: NDArray[np.float64]) -> list[tuple[int, float]]:
    """The assets that fit into a box of `size` (3,), by number, each with its scale."""
    found, room = [], size * (1.0, 1.0, TALLER)
    for number, asset in enumerate(assets):
        scale = min(LARGEST, *(room / np.maximum(asset.size, 1e-6)).tolist())
        if scale >= SMALLEST:
            found.append((number, scale))
    return found


def replace_bodies(
    things: Sequence[Thing], assets: Sequence[Asset], category: str, seed: int
) -> tuple[tuple[Thing, ...], int]:
    """The things with an asset instead of each one of `category`; how many were replaced.

    What finds no asset that fits is left out.
    """
    rng = np.random.default_rng([seed, STREAM])
    found, replaced = list[Thing](), 0
    for thing in things:
        if thing.category != category:
            found.append(thing)
            continue
        body = bpy.data.objects[thing.objects[0]]
        draw = rng.random()
        matrix, size = _standing_box(body)
        if fits := fitting(assets, size):
            number, scale = fits[int(draw * len(fits))]
            found.append(placed(assets[number], matrix @ Matrix.Scale(scale, 4)))
            replaced += 1
    return tuple(found), replaced


def _standing_box(body: bpy.types.Object) -> tuple[Matrix, NDArray[np.float64]]:
    """Where a body stands, and the size of its box.

    The middle of its underside, turned about the vertical as it is; the box is along these axes.
    """
    turn = Matrix.Rotation(body.matrix_world.to_euler().z, 4, "Z")
    corners = np.array(
        [turn.inverted() @ (body.matrix_world @ Vector(corner)) for corner in body.bound_box]
    )
    low, high = corners.min(axis=0), corners.max(axis=0)
    foot = Vector((*((low + high) / 2)[:2].tolist(), float(low[2])))
    return Matrix.Translation(turn @ foot) @ turn, high - low


def placed(asset: Asset, matrix: Matrix) -> Thing:
    """A new object of the asset, as a thing."""
    obj = bpy.data.objects.new(asset.name, asset.mesh)
    bpy.context.scene.collection.objects.link(obj)
    obj.matrix_world = matrix
    category = Categories.load().of(asset_name(asset.name))
    return Thing(obj.name, category.name, (obj.name,), category.flags)
