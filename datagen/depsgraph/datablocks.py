"""Datablocks by name and library: two linked files may each hold an object `Cube`."""

import bpy

from panoforge.core.errors import UserError
from panoforge.datagen.depsgraph.instance_keys import name_of


class AmbiguousDatablocks(UserError):
    """Two datablocks whose keys are the same text."""


def key_of(datablock: bpy.types.ID) -> str:
    """`Cube` of the open file itself, `Cube [props.blend]` of a library by Blender's name for it.

    A name of the file itself that looks like the second has ` []` behind it. Of an evaluated
    datablock: the key of its original.
    """
    original = datablock.original
    if original.library is not None:
        library = original.library.name.replace("[", "(").replace("]", ")")
        return f"{original.name} [{library}]"
    return f"{original.name} []" if name_of(original.name) != original.name else original.name


def check_distinct() -> None:
    """AmbiguousDatablocks if two objects of libraries have one key."""
    seen: set[str] = set()
    for obj in bpy.data.objects:
        if (key := key_of(obj)) in seen:
            raise AmbiguousDatablocks(
                f"two objects go by {key!r}: their libraries' names differ only in the kind of"
                " brackets. Rename one of the libraries"
            )
        seen.add(key)
