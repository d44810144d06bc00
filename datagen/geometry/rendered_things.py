"""The things of a scene as they are rendered.

What its source names, and every instance placed by what scatters. Pure: the renderer and its judge
take the same names from the same parts.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from panoforge.datagen.depsgraph.instance_keys import InstanceKey, name_of
from panoforge.datagen.scene.scene import Scene, Thing

NAMED_IN_NOTES = 5


@dataclass(frozen=True)
class RenderedThing:
    """One instance of a scene.

    `source` identifies it within its scene; `scatter` identifies the scatter that it is one of,
    empty for a thing that stands alone.
    """

    name: str
    category: str
    flags: tuple[str, ...]
    source: str
    scatter: str = ""


@dataclass(frozen=True)
class ThingTable:
    """The things of a scene in the order of their numbers (from 1).

    With the number of each instance, and the keys of objects that render and are left out.
    """

    things: tuple[RenderedThing, ...]
    number: dict[InstanceKey, int]
    left_out: tuple[str, ...]

    def scatters(self) -> dict[str, RenderedThing]:
        """Each scatter as one thing, under its key: its category is that of most of its members."""
        members: dict[str, list[RenderedThing]] = {}
        for thing in self.things:
            if thing.scatter:
                members.setdefault(thing.scatter, []).append(thing)
        return {key: _as_one(key, found) for key, found in members.items()}


def thing_table(scene: Scene, keys: Sequence[InstanceKey]) -> ThingTable:
    """Number what the instances `keys` of the scene's parts are.

    First the scene's own things, in their order, whether anything of them renders or not.
    """
    owner_of = {key: number for number, thing in enumerate(scene.things) for key in thing.objects}
    things = [_itself(thing) for thing in scene.things]
    number: dict[InstanceKey, int] = {}
    by_source = {thing.source: place for place, thing in enumerate(things, start=1)}
    left_out: dict[str, None] = {}
    ordered = sorted(
        dict.fromkeys(keys),
        key=lambda key: (owner_of.get(key.owner, len(scene.things)), key.owner, key.root, key.ids),
    )
    for key in ordered:
        owner = scene.things[owner_of[key.owner]] if key.owner in owner_of else None
        if owner is None and scene.rest == "hide":
            left_out[key.owner] = None
            continue
        owner = owner or _by_name(scene, key.owner)
        thing = _placed(scene, owner, key) if key.root and owner.scatters else _itself(owner)
        if thing.source not in by_source:
            things.append(thing)
            by_source[thing.source] = len(things)
        number[key] = by_source[thing.source]
    return ThingTable(tuple(things), number, tuple(left_out))


def _itself(thing: Thing) -> RenderedThing:
    return RenderedThing(thing.name, thing.category, thing.flags, thing.objects[0])


def _by_name(scene: Scene, key: str) -> Thing:
    name = name_of(key)
    category = scene.categorise(name)
    return Thing(name, category.name, (key,), category.flags, scatters=True)


def _placed(scene: Scene, owner: Thing, key: InstanceKey) -> RenderedThing:
    """A placing of `key.root`, named after it.

    Geometry that no object holds is the instancer's, and what has no category of its own has the
    instancer's.
    """
    name = owner.name if key.root == key.owner else name_of(key.root)
    category = scene.categorise(name)
    if key.root == key.owner or not category.id:
        known = not owner.category.startswith("unknown:")
        if key.root == key.owner or known:
            return RenderedThing(name, owner.category, owner.flags, str(key), key.scatter)
    return RenderedThing(name, category.name, category.flags, str(key), key.scatter)


def _as_one(key: str, members: Sequence[RenderedThing]) -> RenderedThing:
    (category, flags), _ = Counter((one.category, one.flags) for one in members).most_common(1)[0]
    return RenderedThing(
        name_of(key.removesuffix("/*")).removeprefix("scatter:"), category, flags, key
    )


def some(names: Sequence[str]) -> str:
    """A list for a note: the first few names, and how many more there are."""
    shown, more = ", ".join(map(repr, names[:NAMED_IN_NOTES])), len(names) - NAMED_IN_NOTES
    return f"{shown} and {more} more" if more > 0 else shown
