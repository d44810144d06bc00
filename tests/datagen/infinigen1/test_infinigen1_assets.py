"""The library of Infinigen 1's small things: made once, by a script in its process; what is said
where it is missing. The process is a stand-in; what the real one makes is in docs/gallery.md.
"""

import sys
from pathlib import Path

import pytest

from panoforge.datagen.config.render import RenderConfig
from panoforge.datagen.infinigen1.asset_library import KINDS, library_file, make_library
from panoforge.datagen.infinigen1.overlay import Infinigen1, Infinigen1Missing
from panoforge.scene_sources import missing_here

INTERPRETER = """#!{python}
import pathlib, sys
script, out, count, *kinds = sys.argv[1:]
assert pathlib.Path(script).name == "make_assets.py" and count == "2"
print("WARNING: no font")
print("made CupFactory(0)")
if {fails}:
    raise ValueError("no cups")
pathlib.Path(out).write_text(" ".join(kinds))
"""


def generator(folder: Path, fails: bool = False) -> Infinigen1:
    script = folder / "python"
    script.write_text(INTERPRETER.format(python=sys.executable, fails=fails))
    script.chmod(0o755)
    return Infinigen1(str(script), folder, "1.15.5", {})


def test_a_library_is_made_once_and_says_what_it_makes(tmp_path):
    said: list[str] = []
    place = tmp_path / "assets"
    path = make_library(generator(tmp_path), place, said.append, per_factory=2)
    assert path == library_file(place) and path.read_text().split() == list(KINDS)
    assert said[-1] == "made CupFactory(0)"  # and nothing of its logging
    make_library(generator(tmp_path, fails=True), place, said.append, per_factory=2)
    assert said[-1] == f"the library of assets is in {place}"
    assert not (place / "partial").exists()


def test_a_library_that_fails_is_none_and_its_words_are_passed_on(tmp_path):
    with pytest.raises(Infinigen1Missing, match=r"no library of assets: .* ValueError: no cups"):
        make_library(generator(tmp_path, fails=True), tmp_path / "a", lambda line: None, 2)
    with pytest.raises(Infinigen1Missing, match="infinigen1-assets makes it once"):
        library_file(tmp_path / "a")


@pytest.mark.parametrize(
    "source",
    [
        {"source": "infinigen2.rooms", "clutter": "infinigen1"},
        {"source": "infinigen2.house", "clutter": "infinigen1"},
        {"source": "infinigen1.indoors", "dressed": True},
    ],
)
def test_a_plan_says_that_the_library_is_missing(tmp_path, source):
    config = RenderConfig(sources=({**source, "library": str(tmp_path)},))
    said = [line for line in missing_here(config) if "asset library" in line]
    assert len(said) == 1 and "pano sources install infinigen1-assets" in said[0]
    assert "clutter: primitives or none, dressed: false" in said[0]
