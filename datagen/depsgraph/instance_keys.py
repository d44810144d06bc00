"""Which parts of a scene are one instance.

Pure, so that the renderer and its judge agree on names and on nothing else.

An object is one thing, with its hair and all other components of its own. Of what is instanced,
the parts that hang from one root within one placing are one thing: a chair's seat and legs, where
the legs' parent is the seat. Blender's persistent id says which placing. Its innermost number
counts members of a collection, or points of a scatter. Where the same object comes twice under the
same outer numbers, it counted points: then each point is a placing of its own.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

_LIBRARY = re.compile(r" \[[^\[\]]*\]$")


def name_of(key: str) -> str:
    """The name of an object, from its key: without its library."""
    return _LIBRARY.sub("", key)


@dataclass(frozen=True)
class PartKey:
    """Where a part stands in its scene.

    Args:
        owner: key of the object in the scene: the instancer, or the object itself.
        source: key of the object that it is a copy of; the owner, where it is no copy of any.
        root: key of what the source hangs from by parents within a collection that both are in.
        ids: Blender's persistent id, the innermost first; empty for what is no instance.
        data: address of the evaluated data, equal for copies of one geometry.
    """

    owner: str
    source: str
    root: str
    ids: tuple[int, ...]
    data: int

    @property
    def is_own(self) -> bool:
        """Whether it is the object's own geometry: itself, or a further component of it."""
        return not self.ids or (self.source == self.owner and len(self.ids) == 1)


@dataclass(frozen=True)
class InstanceKey:
    """One instance: an object of the scene (no `root`), or a placing of `root` by an instancer."""

    owner: str
    root: str = ""
    ids: tuple[int, ...] = ()

    def __str__(self) -> str:
        if not self.root:
            return self.owner
        return f"{self.owner}/{self.root}#{'.'.join(map(str, self.ids))}"

    @property
    def scatter(self) -> str:
        """The key of everything that the instancer places; empty for what is placed by none."""
        return f"{self.owner}/*" if self.root else ""


def instance_keys(parts: Sequence[PartKey]) -> list[InstanceKey]:
    """The instance that each part belongs to, in order."""
    again = Counter((part.owner, part.ids[1:], part.source, part.data) for part in set(parts))
    keys = []
    for part in parts:
        if part.is_own:
            keys.append(InstanceKey(part.owner))
            continue
        placed_alone = again[part.owner, part.ids[1:], part.source, part.data] == 1
        keys.append(InstanceKey(part.owner, part.root, part.ids[1:] if placed_alone else part.ids))
    return keys
