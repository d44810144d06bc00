"""Opening somebody's .blend: what is refused, and what is missing.

A file is read before Blender opens it: Blender 4.2 opens newer files and drops what it does not
know.
"""

import re
from pathlib import Path

import bpy

from panoforge.core.errors import UserError
from panoforge.datagen.sources.blend_header import saved_by


class UnusableBlend(UserError):
    """A .blend file that cannot or must not be rendered."""


def open_blend(path: Path) -> None:
    """Open the file with scripts off.

    UnusableBlend if it is missing, newer than this Blender, does not open, asks to run scripts, or
    links libraries that are not there.
    """
    if not path.is_file():
        raise UnusableBlend(
            f"{path}: no such file on the machine that renders; give a path that all render"
            " nodes see"
        )
    version, ours = saved_by(path), bpy.app.version[:2]
    if version is not None and version > ours:
        raise UnusableBlend(
            f"{path}: saved by Blender {version[0]}.{version[1]}, this is {ours[0]}.{ours[1]}: what"
            " it does not know it would drop without a word. Save a copy with Blender"
            f" {ours[0]}.{ours[1]} or older"
        )
    try:
        bpy.ops.wm.open_mainfile(filepath=str(path), load_ui=False, use_scripts=False)
    except RuntimeError as error:
        raise UnusableBlend(
            f"{path}: Blender {bpy.app.version_string} cannot open it:"
            f" {' '.join(str(error).split())}"
        ) from None
    _check_scripts(path)
    _check_libraries(path)


def _check_scripts(path: Path) -> None:
    auto_run = sorted(text.name for text in bpy.data.texts if text.use_module)
    if auto_run:
        raise UnusableBlend(
            f"{path}: holds scripts that ask to run on opening ({', '.join(auto_run)}). Files from"
            " others must not run code on render nodes: clear Register on these texts and save the"
            " file again"
        )


def _check_libraries(path: Path) -> None:
    """A library that is not there leaves empty objects where its own were."""
    missing = sorted(
        library.filepath
        for library in bpy.data.libraries
        if library.packed_file is None and not Path(bpy.path.abspath(library.filepath)).is_file()
    )
    if missing:
        raise UnusableBlend(
            f"{path}: links libraries that are not there: {', '.join(missing)}. Put them there, or"
            " make everything local (Object > Relations > Make Local > All) and save the file again"
        )


def missing_files() -> tuple[str, ...]:
    """Files that the open one names and that are not there.

    Pictures come out magenta, fonts as another, caches as nothing.
    """
    libraries = {bpy.path.abspath(library.filepath) for library in bpy.data.libraries}
    missing = []
    for name in bpy.utils.blend_paths(absolute=True, packed=False, local=False):
        path = Path(name)
        tiled = "<UDIM>" in name or "<UVTILE>" in name
        there = any(path.parent.glob(re.sub("<.*?>", "*", path.name))) if tiled else path.exists()
        if not there and name not in libraries and name:
            missing.append(name)
    return tuple(sorted(set(missing)))
