"""A library of small things of Infinigen 1, made once, that rooms are filled from.

Infinigen 2's own small things are primitive bodies. Infinigen 1 makes books, cups and bowls at
seconds each, and takes minutes to find them places. So the assets are made once. They stand where
Infinigen 2 put its bodies (`clutter`), and on furniture of Infinigen 1 (`dressing`). Imports no
bpy.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

from panoforge.core.storage.atomic import storage_errors
from panoforge.core.storage.lease import held
from panoforge.datagen.infinigen1.command import GeneratorStep
from panoforge.datagen.infinigen1.overlay import Infinigen1, Infinigen1Missing, default_folder
from panoforge.datagen.infinigen1.process import run_step
from panoforge.datagen.scene.scene import SceneFailed

INSTALL = "pano sources install infinigen1-assets"
SCRIPT = Path(__file__).with_name("make_assets.py")
FILE = "scene.blend"
PER_FACTORY = 4
TIMEOUT_S = 7200.0
KINDS = (  # what stands on shelves and tables: module and factory
    *(f"tableware:{name}Factory" for name in ("Bottle", "Bowl", "Can", "Cup", "FoodBag")),
    *(f"tableware:{name}Factory" for name in ("FoodBox", "Jar", "Pan", "Pot", "Wineglass")),
    *(f"table_decorations:{name}Factory" for name in ("BookStack", "BookColumn", "Vase")),
)


def default_library() -> Path:
    """The library's folder if nobody says otherwise: beside the overlay, in the user's cache."""
    return default_folder().with_name(f"{default_folder().name}-assets")


def library_file(folder: Path | None = None) -> Path:
    """The library's .blend. Infinigen1Missing with the way out if it is not there."""
    path = (folder or default_library()) / FILE
    if not path.is_file():
        raise Infinigen1Missing(
            f"the asset library is asked for, and {path.parent} has none: {INSTALL} makes it once."
            " Or do without: clutter: primitives or none, dressed: false"
        )
    return path


def make_library(
    generator: Infinigen1, folder: Path, say: Callable[[str], None], per_factory: int = PER_FACTORY
) -> Path:
    """Make the library, unless it is there.

    Infinigen1Missing, in the generator's own words, if nothing comes out.
    """
    with storage_errors(folder), held(folder, INSTALL):
        if (folder / FILE).is_file():
            say(f"the library of assets is in {folder}")
            return folder / FILE
        partial = folder / "partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        say(f"making {per_factory} of each of {len(KINDS)} kinds of assets in {folder}")
        arguments = (str(SCRIPT), str(partial / FILE), str(per_factory), *KINDS)
        try:
            run_step(generator, GeneratorStep(arguments, partial), TIMEOUT_S, {}, _told(say))
        except SceneFailed as failed:
            raise Infinigen1Missing(f"no library of assets: {failed}") from None
        (partial / FILE).rename(folder / FILE)
        shutil.rmtree(partial, ignore_errors=True)
    return folder / FILE


def _told(say: Callable[[str], None]) -> Callable[[str], None]:
    """Passes on what the script says of each asset, and nothing of what Infinigen logs."""

    def on_line(line: str) -> None:
        if line.startswith(("made ", "left out ")):
            say(line)

    return on_line
