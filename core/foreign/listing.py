"""The pictures of a folder, whatever the operating system that packed it.

Hidden files (`._a.jpg`, `.DS_Store`) are no data and are skipped. What else is no picture is left
out and counted. The case of suffixes does not matter. Names are compared in their composed Unicode
form (NFC), because macOS writes é as two characters.
"""

import unicodedata
from dataclasses import dataclass
from pathlib import Path

from panoforge.core.errors import DataError
from panoforge.core.foreign.left_out import NOTHING, LeftOut

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".avif", ".tif", ".tiff", ".bmp")


@dataclass(frozen=True)
class Listing:
    """Pictures by composed stem, in the order of their names, and what else lies there."""

    pictures: dict[str, Path]
    left_out: LeftOut


def composed(name: str) -> str:
    """The name as it is compared: in Unicode's composed form."""
    return unicodedata.normalize("NFC", name)


def list_pictures(folder: Path, beside: tuple[str, ...] = ()) -> Listing:
    """The pictures of a folder; none where there is no folder.

    Files with a suffix of `beside` are somebody else's to read: they are not counted as left out.

    Raises:
        DataError: two pictures have one name but for the suffix or the Unicode form.
    """
    if not folder.is_dir():
        return Listing({}, NOTHING)
    pictures: dict[str, Path] = {}
    others = []
    for path in sorted(p for p in folder.iterdir() if not p.name.startswith(".")):
        if path.suffix.lower() not in SUFFIXES:
            if not path.is_dir() and path.suffix.lower() not in beside:
                others.append(("file whose name is no picture's", path.name))
            continue
        first = pictures.setdefault(composed(path.stem), path)
        if first is not path:
            raise DataError(
                f"{folder} holds {first.name} and {path.name}: pictures are told apart by their"
                " names without suffix, rename one or remove it"
            )
    return Listing(pictures, LeftOut.of(others))


def images_in(folder: Path) -> list[Path]:
    """The pictures of a folder by name; none where there is no folder."""
    return list(list_pictures(folder).pictures.values())
