"""Blender's extension A.N.T. Landscape (`antlandscape`), without which Infinigen 2 makes no
landscape and no boulder.

Blender 4.2 no longer ships it: it is fetched from extensions.blender.org, which a closed cluster
cannot reach. So a config may name a zip file of it, as that site gives it. The zip is unpacked into
the job's own folder and shown to Blender as its repository for this process only. Nothing is
installed on the node, and workers on one node do not race for it.
"""

import tomllib
import zipfile
from pathlib import Path, PurePosixPath

import bpy

from panoforge.core.errors import UserError

NAME = "antlandscape"
MODULE = f"bl_ext.blender_org.{NAME}"
MAX_BYTES = 64 << 20


class ExtensionMissing(UserError):
    """The extension is needed, and what the config says of it does not give it."""


def antlandscape_available() -> bool:
    """Whether Blender can load the extension without going online."""
    import addon_utils

    return any(module.__name__ == MODULE for module in addon_utils.modules(refresh=True))


def provide_antlandscape(how: str, folder: Path) -> bool:
    """Make the extension loadable as the config's `antlandscape` says: `installed` (as it is),
    `online`, or a zip's path. Returns whether it is loadable afterwards. ExtensionMissing if a zip
    or the site that was named does not give it.
    """
    if how == "online" and not antlandscape_available():
        _fetch()
    elif how not in ("installed", "online"):
        unpack(Path(how), folder / NAME)
        repositories = bpy.context.preferences.extensions.repos
        blender_org = next(repo for repo in repositories if repo.module == "blender_org")
        blender_org.use_custom_directory, blender_org.custom_directory = True, str(folder)
    available = antlandscape_available()
    if how != "installed" and not available:
        raise ExtensionMissing(
            f"antlandscape: {how}: Blender does not find the extension afterwards; is it made for"
            " 4.2?"
        )
    return available


def unpack(path: Path, folder: Path) -> None:
    """Unpack the extension's zip into `folder`. ExtensionMissing, saying why, unless it is that
    extension's zip.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
                raise ExtensionMissing(
                    f"{path}: unpacks to more than {MAX_BYTES >> 20} MB, the extension has less"
                    " than one"
                )
            manifest = _manifest(archive)
            if manifest is None or manifest[1].get("id") != NAME:
                raise ExtensionMissing(
                    f"{path}: expected a Blender extension with id {NAME!r} in its"
                    " blender_manifest.toml, got"
                    f" {'no manifest' if manifest is None else repr(manifest[1].get('id'))}."
                    " Download the zip of A.N.T. Landscape from extensions.blender.org"
                )
            root = manifest[0]
            for entry in archive.infolist():
                inside = PurePosixPath(entry.filename)
                if entry.is_dir() or not inside.is_relative_to(root):
                    continue
                if inside.is_absolute() or ".." in inside.parts:
                    raise ExtensionMissing(
                        f"{path}: holds the name {entry.filename!r}, which leads out of its folder"
                    )
                target = folder.joinpath(*inside.relative_to(root).parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(entry))
    except (OSError, zipfile.BadZipFile) as error:
        raise ExtensionMissing(
            f"antlandscape: {path}: cannot be read as a zip file on this machine: {error}"
        ) from None


def _manifest(archive: zipfile.ZipFile) -> tuple[PurePosixPath, dict] | None:
    """The folder inside the zip that holds the extension, and its manifest."""
    names = [
        PurePosixPath(name)
        for name in archive.namelist()
        if PurePosixPath(name).name == "blender_manifest.toml"
    ]
    for name in sorted(names, key=lambda name: len(name.parts)):
        try:
            return name.parent, tomllib.loads(archive.read(str(name)).decode())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError):
            return None
    return None


def _fetch() -> None:
    """Let Blender fetch and install it, as Infinigen itself does."""
    from procfunc.ops.addons import require_blender_addon

    try:
        require_blender_addon(NAME, allow_online=True)
    except ValueError as error:
        raise ExtensionMissing(
            "antlandscape: online: Blender could not fetch it from extensions.blender.org:"
            f" {error}. Name a zip file of it instead (antlandscape=PATH)"
        ) from None
