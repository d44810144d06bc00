"""What Infinigen 1's solver says it made: the rooms of a home, and what stands in each.

`solve_state.json` lists rooms, cutters and assets with their relations. An asset belongs to a room
if it is placed against that room, or on something that is. Imports no bpy.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from panoforge.core.errors import DataError
from panoforge.core.foreign.files import read_json
from panoforge.datagen.scene.scene import SceneFailed

MIN_ASSETS = 3  # of a furnished room: a door and a lamp alone are none


@dataclass(frozen=True)
class SolvedRoom:
    """A room as the solver names it (`living-room_0/0`) and how many assets stand in it."""

    name: str
    assets: int

    @property
    def is_furnished(self) -> bool:
        """Whether so many assets stand in it that it is worth a panorama."""
        return self.assets >= MIN_ASSETS


def read_rooms(path: Path) -> tuple[SolvedRoom, ...]:
    """The rooms in a solve_state.json, by name. SceneFailed if the file is not one."""
    try:
        return rooms_of(read_json(path)["objs"])
    except (DataError, OSError, KeyError, TypeError, AttributeError) as error:
        raise SceneFailed(
            f"Infinigen 1 left no readable {path.name}: {type(error).__name__}: {error}"
        ) from None


def rooms_of(objects: Mapping[str, Mapping[str, Any]]) -> tuple[SolvedRoom, ...]:
    """The rooms among the solver's objects."""
    rooms = {name for name, entry in objects.items() if "Semantics(room)" in entry["tags"]}
    parents = {
        name: [relation["target_name"] for relation in entry["relations"]]
        for name, entry in objects.items()
        if name not in rooms
    }
    count = Counter(
        room
        for name, entry in objects.items()
        if name in parents and entry["generator"] is not None
        for room in _rooms_under(name, parents, rooms)
    )
    return tuple(SolvedRoom(name, count[name]) for name in sorted(rooms))


def _rooms_under(name: str, parents: Mapping[str, list[str]], rooms: set[str]) -> set[str]:
    """The rooms that an object is placed in, through all that it stands on."""
    found: set[str] = set()
    left, seen = [name], {name}
    while left:
        for target in parents.get(left.pop(), ()):
            if target in rooms:
                found.add(target)
            elif target not in seen:
                seen.add(target)
                left.append(target)
    return found


def furnished(rooms: tuple[SolvedRoom, ...]) -> tuple[SolvedRoom, ...]:
    """The rooms that cameras may stand in. SceneFailed if there is none."""
    found = tuple(room for room in rooms if room.is_furnished)
    if not found:
        most = max(rooms, key=lambda room: room.assets, default=None)
        best = f"{most.name} has most, {most.assets}" if most else "there is no room"
        raise SceneFailed(
            f"no room is furnished: {MIN_ASSETS} assets are expected, {best}. Another seed is"
            " tried; if none works, take a better profile, or see overrides"
        )
    return found
