"""Put the furniture of a generated room in other places.

This is part of making the scene: what is rendered and what judges it by rays both get the moved
one. What may move and where is decided on boxes (`places`); what is in the way is asked of the
meshes of all that stays. Windows, doors and whatever hangs stay. Lamps take their light along.
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
from panoforge.datagen.redraw.places import Move, draw_moves, groups_of
from panoforge.datagen.scene.scene import Region, Scene, Thing

STREAM = 0xF0117
FIXED = frozenset(
    (
        *("wall", "floor", "ceiling", "skirting", "door", "window", "curtain"),
        *("staircase", "column", "ceiling_light"),
    )
)
UNDERFOOT = frozenset(("floor", "rug", "skirting", "terrain"))  # nothing is hit by standing there
LARGEST_M = 4.0  # a kitchen along two walls, or the shell of a room under another name
WALL_M = 0.15  # what is nearer to a wall stands against it
DOOR_M = 0.7  # left free before a door
INSET_M = 0.01  # boxes touch what stands beside them
LIFT_M = 0.04  # and the floor
LIGHT_M = 0.05  # a lamp's light may hang below its shade


@dataclass(frozen=True)
class _Obstacles:
    """What does not move in a room: meshes that a box must not cut, floor, boxes of doors."""

    meshes: BVHTree
    floor: BVHTree
    floor_z: float
    doors: tuple[tuple[NDArray[np.float64], NDArray[np.float64]], ...]
    inner: NDArray[np.float64]  # (N, 3) middles of what stays, which a box must not hold

    def may_stand(self, low: NDArray[np.float64], high: NDArray[np.float64]) -> bool:
        """Whether a box is on the floor, off the doors and free of all that stays."""
        for start, end in self.doors:
            if (np.minimum(high, end + DOOR_M) > np.maximum(low, start - DOOR_M))[:2].all():
                return False
        if ((low < self.inner) & (self.inner < high)).all(axis=1).any():
            return False
        for x in np.linspace(low[0], high[0], 3):
            for y in np.linspace(low[1], high[1], 3):
                start = Vector((x, y, self.floor_z + LIFT_M))
                if self.floor.ray_cast(start, Vector((0, 0, -1)), 2 * LIFT_M)[0] is None:
                    return False
        inset = np.array((INSET_M, INSET_M, 0.0))
        return not self.meshes.overlap(box_tree(low + inset + (0, 0, LIFT_M), high - inset))

    def along(self, low: NDArray[np.float64], high: NDArray[np.float64]) -> tuple[bool, bool]:
        """Whether a box may move along x and along y: not off a wall that it stands against."""
        centre, half = (low + high) / 2, (high - low) / 2
        against = [False, False]
        for axis in (0, 1):
            for sign in (-1.0, 1.0):
                direction = Vector((0.0, 0.0, 0.0))
                direction[axis] = sign
                start = Vector(centre)
                start[axis] = float(centre[axis] + sign * (half[axis] - INSET_M))
                hit = self.meshes.ray_cast(start, direction, WALL_M + INSET_M)
                against[axis] |= hit[0] is not None
        if all(against):  # in a corner: along one of the two walls
            against[0 if half[0] < half[1] else 1] = False
        return not against[0], not against[1]


def redraw_furniture(scene: Scene, seed: int, draw: int) -> int:
    """Move what stands on the floors of a scene, as its source left it; how many things moved."""
    rng = np.random.default_rng([seed, STREAM, draw])
    shapes, moved = thing_shapes(scene.things), 0
    for region in scene.regions:
        moved += _refurnish(region, scene.things, shapes, rng)
    bpy.context.view_layer.update()
    return moved


def _refurnish(
    region: Region,
    things: Sequence[Thing],
    shapes: ThingShapes,
    rng: np.random.Generator,
) -> int:
    low, high = shapes.low, shapes.high
    middle = (low[:, :2] + high[:, :2]) / 2
    inside = ((region.low[:2] <= middle) & (middle <= region.high[:2])).all(axis=1)
    small = (high - low).max(axis=1) < LARGEST_M
    loose = np.array([_is_loose(thing) for thing in things], bool)
    groups = groups_of(low, high, inside & small & loose, region.floor_z)
    obstacles = _obstacles(region, things, shapes, {k for group in groups for k in group})
    boxes = [(low[group].min(axis=0), high[group].max(axis=0)) for group in groups]
    along = [obstacles.along(*box) for box in boxes]
    moved = 0
    moves = draw_moves(boxes, along, obstacles.may_stand, rng)
    for group, box, move in zip(groups, boxes, moves, strict=True):
        if move is not None:
            names = {name for k in group for name in things[k].objects}
            own = [bpy.data.objects[name] for name in sorted(names)]
            _apply(move, [*own, *lights_in(*box)])
            low[group] = high[group] = np.nan  # the next room leaves them alone
            moved += len(group)
    return moved


def _is_loose(thing: Thing) -> bool:
    return "structure" not in thing.flags and thing.category not in FIXED | UNDERFOOT


def _obstacles(
    region: Region,
    things: Sequence[Thing],
    shapes: ThingShapes,
    moving: set[int],
) -> _Obstacles:
    low, high = shapes.low, shapes.high
    near = shapes.near(region.low, region.high, 1.0, but=moving)
    solid = [k for k in near if things[k].category not in UNDERFOOT]
    inner = [(low[k] + high[k]) / 2 for k in solid if _is_loose(things[k])]
    return _Obstacles(
        shapes.tree(solid),
        shapes.tree(k for k in near if things[k].category == "floor"),
        region.floor_z,
        tuple((low[k], high[k]) for k in near if things[k].category == "door"),
        np.array(inner, float).reshape(-1, 3),
    )


def lights_in(low: NDArray[np.float64], high: NDArray[np.float64]) -> list[bpy.types.Object]:
    """The lights of lamps that are in the box."""
    found = []
    for obj in bpy.context.scene.objects:
        if obj.type == "LIGHT" and obj.data.type != "SUN":
            place = np.array(obj.matrix_world.translation) * metres_per_unit()
            if ((low - LIGHT_M <= place) & (place <= high + LIGHT_M)).all():
                found.append(obj)
    return found


def _apply(move: Move, objects: Sequence[bpy.types.Object]) -> None:
    """Move objects, and what is parented below them. Metres to the units of the file."""
    matrix = Matrix(move.matrix().tolist())
    matrix.translation /= metres_per_unit()
    for obj in objects:
        above = obj.parent
        while above is not None and above not in objects:
            above = above.parent
        if above is None:
            obj.matrix_world = matrix @ obj.matrix_world
