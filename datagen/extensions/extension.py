"""Blender's extension A.N.T.

Landscape (`antlandscape`), without which Infinigen 2 makes no landscape and no boulder.

Blender 4.2 no longer ships it: it is fetched from extensions.blender.org, which a closed cluster
cannot reach. So a config may name a zip file of it, as that site gives it. The zip is unpacked into
the job's own folder and shown to Blender as its repository for this process only. Nothing is
installed on the node, and workers on one node do not race for it.
"""

from pathlib import Path

import bpy

from panoforge.datagen.extensions.extension_zip import ExtensionMissing, unpack_extension

NAME = "antlandscape"
MODULE = f"bl_ext.blender_org.{NAME}"


def antlandscape_available() -> bool:
    """Whether Blender can load the extension without going online."""
    import addon_utils

    return any(module.__name__ == MODULE for module in addon_utils.modules(refresh=True))


def provide_antlandscape(how: str, folder: Path) -> bool:
    """Make the extension loadable as the config's `antlandscape` says.

    `installed` (as it is), `online`, or a zip's path. Returns whether it is loadable afterwards.
    ExtensionMissing if a zip or the site that was named does not give it.
    """
    if how == "online" and not antlandscape_available():
        _fetch()
    elif how not in ("installed", "online"):
        unpack_extension(Path(how), folder, wanted=NAME)
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


def given_repository() -> Path | None:
    """The folder that a zip was unpacked in for this process; None if none was named."""
    repositories = bpy.context.preferences.extensions.repos
    for repository in repositories:
        if repository.module == "blender_org" and repository.use_custom_directory:
            return Path(repository.custom_directory)
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
