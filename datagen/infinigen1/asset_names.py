"""What names of Infinigen 1 say: which object is a helper, and what an asset is. Imports no bpy."""

import re

_HELPERS = re.compile(r"placeholder|cutter|^camrig|^CameraRigs|bbox|^atmosphere|^koleclouds", re.I)
_FACTORY = re.compile(r"^(?P<name>[A-Za-z0-9]+?)Factory\(.*$")
_ROOM_PART = re.compile(r"^(?P<room>[A-Za-z-]+_\d+/\d+)\.(?P<part>[a-z_]+)")
# What its fine task, or a camera, made of a terrain's mesh: the same ground.
_STAGE = re.compile(r"_(fine|unapplied)$|\.(in|outof)view_\w+$")
_SEEDS = re.compile(r"\(.*$")


def is_helper(object_name: str) -> bool:
    """Whether an object is one of the generator's tools.

    Cutters, placeholders, camera rigs, and the shells that hold the air and the clouds.
    """
    return bool(_HELPERS.search(object_name))


def asset_name(object_name: str) -> str:
    """`SofaFactory(309).spawn_asset(17)` → `sofa`.

    `scatter:BushFactory(1)…` → `bush`; `chopped_tree(5, 0, 1)` → `chopped_tree`;
    `living-room_0/0.wall` → `room_wall`; `OpaqueTerrain_fine` → `opaqueterrain`; anything else as
    it is, without `scatter:`.
    """
    name = _STAGE.sub("", object_name.removeprefix("scatter:"))
    if match := _FACTORY.match(name):
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", match["name"]).lower()
    if match := _ROOM_PART.match(name):
        return f"room_{match['part']}"
    return _SEEDS.sub("", name).lower()
