"""Other places for furniture: which things move together, and where they may go. Imports no bpy.

Boxes are axis-aligned, (K, 3) lowest and highest corners in metres. What stands on the floor moves,
and takes along what stands on it and what it reaches over, as a table its chairs. What stands
against a wall slides along it. What stands free goes anywhere, and turns.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ON_M = 0.03  # as near as this, a thing stands on what is below it
REACH_M = 0.02  # footprints that overlap by more belong together
TRIES = 40
FARTHEST_M = 4.0
LEAST_M = 0.3  # a shorter way is not worth a new place


@dataclass(frozen=True)
class Move:
    """A turn by `quarters` of a circle about a vertical axis through `pivot`, and then a way."""

    quarters: int
    pivot: tuple[float, float]
    way: tuple[float, float]

    def matrix(self) -> NDArray[np.float64]:
        """World from world, (4, 4)."""
        cos, sin = [(1, 0), (0, 1), (-1, 0), (0, -1)][self.quarters]
        turn = np.array([[cos, -sin], [sin, cos]], float)
        found = np.eye(4)
        found[:2, :2] = turn
        found[:2, 3] = np.array(self.pivot) - turn @ np.array(self.pivot) + self.way
        return found

    def box(
        self, low: NDArray[np.float64], high: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The box (3,), (3,) after the move."""
        matrix = self.matrix()
        ends = np.stack([matrix[:3, :3] @ end + matrix[:3, 3] for end in (low, high)])
        return ends.min(axis=0), ends.max(axis=0)


def groups_of(
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    movable: NDArray[np.bool_],
    floor_z: float,
) -> list[list[int]]:
    """Which boxes move together, by number.

    Those on the floor, those that they reach over, and what stands on them. The order is that of
    the least number.
    """
    standing = [k for k in np.flatnonzero(movable) if abs(low[k, 2] - floor_z) <= ON_M]
    group_of = {k: k for k in standing}
    for a in standing:
        for b in standing:
            shared = np.minimum(high[a, :2], high[b, :2]) - np.maximum(low[a, :2], low[b, :2])
            if a < b and (shared > REACH_M).all() and group_of[a] != group_of[b]:
                old, new = group_of[b], group_of[a]
                group_of = {k: new if group == old else group for k, group in group_of.items()}
    for rider in sorted(np.flatnonzero(movable), key=lambda k: low[k, 2]):
        if rider in group_of:
            continue
        centre = (low[rider, :2] + high[rider, :2]) / 2
        below = [
            k
            for k in group_of
            if (low[k, :2] <= centre).all()
            and (centre <= high[k, :2]).all()
            and low[k, 2] <= low[rider, 2] <= high[k, 2] + ON_M
        ]
        if below:
            size = [np.prod(high[k, :2] - low[k, :2]) for k in below]
            group_of[rider] = group_of[below[int(np.argmin(size))]]
    found: dict[int, list[int]] = {}
    for k in sorted(group_of):
        found.setdefault(group_of[k], []).append(int(k))
    return sorted(found.values())


def draw_moves(
    groups: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
    along: Sequence[tuple[bool, bool]],
    may_stand: Callable[[NDArray[np.float64], NDArray[np.float64]], bool],
    rng: np.random.Generator,
) -> list[Move | None]:
    """A new place for each group, one after the other in a drawn order; None: it stays.

    Args:
        groups: The box of each group.
        along: Whether it may move along x, and along y. Both: it stands free, and may turn too.
        may_stand: Whether a box is free of all that does not move, on the floor, off the doors.
        rng: Decides the order, the ways and the turns.
    """
    boxes, moves = list(groups), list[Move | None]([None] * len(groups))
    for number in rng.permutation(len(boxes)).tolist():
        low, high = boxes[number]
        others = [box for other, box in enumerate(boxes) if other != number]
        for _ in range(TRIES):
            way = rng.uniform(-FARTHEST_M, FARTHEST_M, 2) * along[number]
            quarters = int(rng.integers(4)) if all(along[number]) else 0
            move = Move(
                quarters,
                tuple(((low + high) / 2)[:2].tolist()),
                (float(way[0]), float(way[1])),
            )
            new = move.box(low, high)
            if np.hypot(*way) < LEAST_M or any(_meet(new, other) for other in others):
                continue
            if may_stand(*new):
                boxes[number], moves[number] = new, move
                break
    return moves


def _meet(
    one: tuple[NDArray[np.float64], NDArray[np.float64]],
    other: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> bool:
    return bool((np.minimum(one[1], other[1]) > np.maximum(one[0], other[0])).all())
