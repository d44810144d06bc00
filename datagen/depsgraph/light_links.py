"""Lamps that light some objects only.

A lamp names collections of them, and so must it still when these objects are others.
"""

from collections.abc import Sequence

import bpy

LINKS = ("receiver_collection", "blocker_collection")


def link_lights(placed: Sequence[tuple[bpy.types.Object, bpy.types.Object]]) -> None:
    """Give objects the light links of what they stand for.

    Of each pair (object, what it stands for), the first joins the second's collections of light
    links, with the second's state there. It also gets the second's own links.
    """
    collections: dict[str, bpy.types.Collection] = {}
    for obj, original in placed:
        for name in LINKS:
            linked = getattr(original.light_linking, name)
            if linked is not None:
                collections[linked.name_full] = linked
                if obj != original:
                    setattr(obj.light_linking, name, linked)
    for collection in collections.values():
        states = {
            member.as_pointer(): entry.light_linking.link_state
            for member, entry in zip(collection.objects, collection.collection_objects, strict=True)
        }
        everything = {member.as_pointer() for member in collection.all_objects}
        for obj, original in placed:
            if obj == original or original.as_pointer() not in everything:
                continue
            collection.objects.link(obj)
            state = states.get(original.as_pointer(), "INCLUDE")
            collection.collection_objects[-1].light_linking.link_state = state
