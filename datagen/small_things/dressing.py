"""Small things from a library on the furniture of a scene.

Infinigen 1 takes seconds to find a place for every cup, so rooms that it solves fast have empty
shelves. Here a place is found by rays, on a surface of the furniture that faces up. It has room
above it, is held from below at its corners, and is free of all meshes near it. No more is placed
than FILL of the footprint, so that shelves are used and not stuffed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import bpy
import numpy as np
from mathutils import Matrix, Vector
from mathutils.bvhtree import BVHTree
from numpy.typing import NDArray

from panoforge.datagen.depsgraph.units import metres_per_unit
from panoforge.datagen.geometry.thing_shapes import ThingShapes, box_tree, thing_shapes
from panoforge.datagen.scene.scene import Thing
from panoforge.datagen.small_things.clutter import Asset, placed

STREAM = 0xD4E55
SUPPORTS = frozenset(("shelf", "table", "desk", "cabinet", "countertop"))
FILL = 0.3  # of the footprint of the furniture, over all its levels together
DRAWS_PER_M2 = 120  # places that are looked at
MOST = 40  # things on one piece of furniture
LEAST_ROOM_M = 0.06  # above a surface; less is a gap
OPEN_M = 0.5  # room that is taken above a surface under the open
HELD_M = 0.004  # how far a surface may be below a corner
GAP_M = 0.003  # between a thing and what is beside it
SCALES = (0.85, 1.15)


@dataclass(frozen=True)
class Spot:
    """A point on a surface that faces up, metres, and the room above it."""

    x: float
    y: float
    z: float
    room_m: float


def spots_below(tree: BVHTree, x: float, y: float, top: float) -> list[Spot]:
    """The surfaces of one piece of furniture that face up on a plumb line, from the top down."""
    found, above, z = list[Spot](), top + OPEN_M, top + GAP_M
    while True:
        hit, normal, _, _ = tree.ray_cast(Vector((x, y, z)), Vector((0, 0, -1)))
        if hit is None:
            return found
        if normal.z > 0.95 and above - hit.z >= LEAST_ROOM_M:
            found.append(Spot(x, y, float(hit.z), float(above - hit.z)))
        above, z = float(hit.z), float(hit.z) - 1e-3


def dress(things: Sequence[Thing], assets: Sequence[Asset], seed: int) -> tuple[Thing, ...]:
    """Put assets on the furniture among `things`, as their source left them; the new things."""
    shapes, added = thing_shapes(things), list[Thing]()
    for number, thing in enumerate(things):
        if thing.category in SUPPORTS and number in shapes.of:
            rng = np.random.default_rng([seed, STREAM, number])
            added += _dress_one(number, shapes, assets, rng)
    return tuple(added)


def _dress_one(
    number: int, shapes: ThingShapes, assets: Sequence[Asset], rng: np.random.Generator
) -> list[Thing]:
    low, high = shapes.low[number], shapes.high[number]
    own = shapes.tree([number])
    around = shapes.near(low.tolist(), high.tolist(), 0.1, but={number})
    others = shapes.tree(
        k for k in around if (shapes.low[k] < high + OPEN_M).all() and (shapes.high[k] > low).all()
    )
    area = float(np.prod(high[:2] - low[:2]))
    added, boxes, used = list[Thing](), list[tuple[NDArray, NDArray]](), 0.0
    for _ in range(int(area * DRAWS_PER_M2) + 10):
        x, y = rng.uniform(low[:2], high[:2]).tolist()
        spots = spots_below(own, x, y, float(high[2]))
        draws = rng.random(4)
        if not spots or used >= FILL * area or len(added) == MOST:
            continue
        spot = spots[int(draws[0] * len(spots))]
        asset = assets[int(draws[1] * len(assets))]
        scale = SCALES[0] + float(draws[2]) * (SCALES[1] - SCALES[0])
        quarter = int(draws[3] * 4)
        size = asset.size * scale
        size = size[[1, 0, 2]] if quarter % 2 else size
        box = (
            np.array((x - size[0] / 2, y - size[1] / 2, spot.z)),
            np.array((x + size[0] / 2, y + size[1] / 2, spot.z + size[2])),
        )
        if size[2] + GAP_M < spot.room_m and _is_free(box, own, others, boxes):
            matrix = Matrix.Translation((x, y, spot.z)) @ Matrix.Rotation(
                quarter * np.pi / 2, 4, "Z"
            )
            matrix.translation /= metres_per_unit()
            added.append(placed(asset, matrix @ Matrix.Scale(scale / metres_per_unit(), 4)))
            boxes.append(box)
            used += float(np.prod(size[:2]))
    bpy.context.view_layer.update()
    return added


def _is_free(
    box: tuple[NDArray[np.float64], NDArray[np.float64]],
    own: BVHTree,
    others: BVHTree,
    boxes: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
) -> bool:
    """Whether a thing may stand there: held at its corners, and through nothing."""
    low, high = box
    for taken_low, taken_high in boxes:
        if (np.minimum(high, taken_high) > np.maximum(low, taken_low) - GAP_M).all():
            return False
    for x in (low[0], high[0]):
        for y in (low[1], high[1]):
            start = Vector((x, y, low[2] + HELD_M))
            if own.ray_cast(start, Vector((0, 0, -1)), 2 * HELD_M)[0] is None:
                return False
    lifted = box_tree(low + np.array((0.0, 0.0, GAP_M)), high)
    return not own.overlap(lifted) and not others.overlap(lifted)
