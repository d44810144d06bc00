"""A Blender extension from the zip file that extensions.blender.org gives. Imports no bpy."""

import io
import tomllib
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from panoforge.core.errors import DataError, UserError
from panoforge.core.foreign.files import read_bytes

MAX_BYTES = 64 << 20
# How a zip shows itself damaged; RuntimeError: it is encrypted, or packed in a way not known here.
_BROKEN = (OSError, ValueError, EOFError, RuntimeError, DataError, zipfile.BadZipFile, zlib.error)


class ExtensionMissing(UserError):
    """An extension is needed, and what the config says of it does not give it."""


def unpack_extension(path: Path, repository: Path, wanted: str | None = None) -> str:
    """Unpack an extension's zip into `repository`, in a folder of its own.

    Args:
        path: The zip.
        repository: Blender's folder for the extensions of one site.
        wanted: The id that the extension must have; None takes any.

    Returns:
        The extension's id, which is the folder's name.

    Raises:
        ExtensionMissing: It is not that extension's zip; says why.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(read_bytes(path, MAX_BYTES))) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
                raise ExtensionMissing(
                    f"{path}: unpacks to more than {MAX_BYTES >> 20} MB, an extension of Blender's"
                    " has less"
                )
            found = _manifest(archive)
            name = found[1].get("id") if found else None
            is_name = isinstance(name, str) and name.isidentifier()
            if found is None or not is_name or (wanted and name != wanted):
                what = (
                    f"a Blender extension with id {wanted!r}" if wanted else "a Blender extension"
                )
                got = repr(name) if found else "no manifest"
                raise ExtensionMissing(
                    f"{path}: expected {what} in its blender_manifest.toml, got {got}. Download its"
                    " zip from extensions.blender.org"
                )
            _extract(archive, found[0], repository / str(name), path)
    except _BROKEN as error:
        raise ExtensionMissing(
            f"{path}: cannot be read as a zip file on this machine: {error}"
        ) from None
    return str(name)


def _extract(archive: zipfile.ZipFile, root: PurePosixPath, folder: Path, path: Path) -> None:
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
