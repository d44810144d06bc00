"""A generator's process: what it is given, and how its end is told, with real processes."""

import json
import os
import sys
import zipfile
from pathlib import Path

import pytest

from panoforge.datagen.extensions.extension_zip import ExtensionMissing
from panoforge.datagen.infinigen1.command import GeneratorStep
from panoforge.datagen.infinigen1.overlay import Infinigen1
from panoforge.datagen.infinigen1.process import extension_environment, last_words, run_step
from panoforge.datagen.infinigen1.solved import SolvedRoom, furnished, read_rooms, rooms_of
from panoforge.datagen.scene.scene import SceneFailed


def run(tmp_path: Path, code: str, timeout_s: float = 30) -> list[str]:
    """What a generator that runs `code` writes."""
    said: list[str] = []
    generator = Infinigen1(sys.executable, tmp_path, "1.15.5", {"OVERLAY": "yes"})
    step = GeneratorStep(("-c", code), tmp_path / "coarse")
    run_step(generator, step, timeout_s, {"EXTRA": "too"}, said.append)
    return said


def test_it_runs_in_its_own_folder_with_fixed_hashes(tmp_path):
    code = """
import os, pathlib
pathlib.Path("coarse").mkdir()
pathlib.Path("coarse/scene.blend").touch()
print(os.environ["PYTHONHASHSEED"], os.environ["OVERLAY"], os.environ["EXTRA"])
"""
    assert run(tmp_path, code) == ["0 yes too"]
    assert (tmp_path / "coarse" / "scene.blend").is_file()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            "print('solving'); raise ValueError('no room')",
            "ended with code 1: ValueError: no room$",
        ),
        ("import os; print('one'); os.abort()", "was killed by signal 6: one$"),
        ("print('done')", "left no scene.blend in its coarse folder"),
    ],
)
def test_its_end_is_told_in_its_own_last_words(tmp_path, code, said):
    with pytest.raises(SceneFailed, match=said):
        run(tmp_path, code)


def test_a_generator_that_hangs_is_ended_and_its_last_line_told(tmp_path):
    code = "import time; print('it=7/12', flush=True); time.sleep(60)"
    with pytest.raises(
        SceneFailed,
        match=r"did not end within timeout_s=3 \(raise it, or .*\), its last line: it=7/12",
    ):
        run(tmp_path, code, timeout_s=3)


def test_last_words_are_the_error_and_not_what_is_printed_behind_it():
    assert last_words(["a", "bpy.Oops.Error: x", "", "Writing log"]) == "bpy.Oops.Error: x"
    assert last_words(["100%|███| 5/5", ""]) == "100%|███| 5/5" and last_words([]) == ""


def test_what_blender_says_of_its_memory_is_not_why_it_failed(tmp_path):
    """Met with real Infinigen 1: bpy prints a leak as an error after the traceback."""
    leak = "Error: Not freed memory blocks: 52, total unfreed memory 0.000198 MB"
    assert last_words(["ValueError: no room", leak]) == "ValueError: no room"
    assert last_words(["it=7/12", leak]) == "it=7/12"
    fails = f"import atexit; atexit.register(print, {leak!r})\ndef solve(): assert 1 > 2\nsolve()"
    with pytest.raises(SceneFailed, match=r"code 1: AssertionError in solve \(<string>:2\)$"):
        run(tmp_path, fails)


def test_extensions_from_zips_are_shown_to_it(tmp_path):
    given = tmp_path / "given"
    (given / "antlandscape").mkdir(parents=True)
    path = tmp_path / "meshes.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("inner/blender_manifest.toml", 'id = "extra_mesh_objects"\n')
        archive.writestr("inner/__init__.py", "")
    assert extension_environment([], None, tmp_path / "none") == {}
    shown = extension_environment([path], given, tmp_path / "all")
    repository = Path(shown["BLENDER_USER_EXTENSIONS"]) / "blender_org"
    assert sorted(folder.name for folder in repository.iterdir()) == [
        "antlandscape",
        "extra_mesh_objects",
    ]
    assert (repository / "extra_mesh_objects" / "__init__.py").is_file()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("blender_manifest.toml", 'id = "../../evil"\n')
    with pytest.raises(ExtensionMissing, match="expected a Blender extension"):
        extension_environment([path], None, tmp_path / "bad")


def test_rooms_own_what_stands_in_them_and_on_it(tmp_path):
    def entry(room: bool, *targets: str, asset: bool = True) -> dict:
        return {
            "generator": "<not-serialized>" if asset and not room else None,
            "relations": [{"target_name": target} for target in targets],
            "tags": ["Semantics(room)"] if room else [],
        }

    rooms = rooms_of(
        {
            "kitchen_0/0": entry(True, "hall_0/0"),
            "hall_0/0": entry(True, "kitchen_0/0"),
            "sofa": entry(False, "kitchen_0/0"),
            "shelf": entry(False, "kitchen_0/0", "sofa"),
            "book": entry(False, "shelf", "sofa"),
            "door": entry(False, "hall_0/0", asset=False),  # a cutter
        }
    )
    assert rooms == (SolvedRoom("hall_0/0", 0), SolvedRoom("kitchen_0/0", 3))
    assert [room.name for room in furnished(rooms)] == ["kitchen_0/0"]
    with pytest.raises(SceneFailed, match="3 assets are expected, a has most, 2"):
        furnished((SolvedRoom("a", 2), SolvedRoom("b", 0)))
    (tmp_path / "solve_state.json").write_text(json.dumps({"objs": {"a": {}}}))
    with pytest.raises(SceneFailed, match=r"left no readable solve_state\.json: KeyError"):
        read_rooms(tmp_path / "solve_state.json")
    os.truncate(tmp_path / "solve_state.json", 1 << 40)
    with pytest.raises(SceneFailed, match="is over the cap of 256 MiB"):
        read_rooms(tmp_path / "solve_state.json")
