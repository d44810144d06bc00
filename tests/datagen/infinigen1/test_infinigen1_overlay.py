"""What is there of Infinigen 1, said in one line with the way out: nothing, half of it, another's
folder, other pins, files that somebody removed, no pip, another major version.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest

from panoforge.datagen.infinigen1 import overlay
from panoforge.datagen.infinigen1.overlay import (
    REQUIREMENTS,
    Infinigen1Missing,
    fault_of,
    install,
    own_environment,
)


def whole(folder: Path) -> Path:
    """What an installation leaves, without the wheels."""
    site = folder / "site"
    for name in ("infinigen_examples", "gin.dist-info"):
        (site / name).mkdir(parents=True)
    digest = overlay._requirements_digest()
    mark = {"requirements": digest, "packages": ["gin.dist-info"], "version": "1.15.5"}
    (site / "panoforge.json").write_text(json.dumps(mark))
    return site


def test_a_whole_overlay_runs_on_our_interpreter_from_its_own_folder(tmp_path, monkeypatch):
    site = whole(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "/other")
    assert fault_of(tmp_path) == ""
    found = overlay.overlay(tmp_path)
    assert found.folder == site and found.version == "1.15.5"
    assert found.environment["PYTHONPATH"].split(os.pathsep) == [str(site), "/other"]


def test_what_is_not_whole_is_told_apart(tmp_path):
    assert "is not installed in" in fault_of(tmp_path)
    (tmp_path / "site.partial").mkdir()
    assert "is half-installed" in fault_of(tmp_path)
    assert f"pano sources install infinigen1 --to {tmp_path} again" in fault_of(tmp_path)
    site = whole(tmp_path)
    (site / "gin.dist-info").rmdir()
    assert "lacks gin.dist-info, files were removed" in fault_of(tmp_path)
    mark = json.loads((site / "panoforge.json").read_text())
    (site / "panoforge.json").write_text(json.dumps({**mark, "requirements": "older"}))
    assert "was made from other pins" in fault_of(tmp_path)
    for mark in ("[1]", "3", "{"):
        (site / "panoforge.json").write_text(mark)
        assert "is no overlay that" in fault_of(tmp_path)
    os.truncate(site / "panoforge.json", 1 << 40)
    assert "is no overlay that" in fault_of(tmp_path)
    (site / "panoforge.json").unlink()
    assert "is no overlay that pano sources install infinigen1 made" in fault_of(tmp_path)
    with pytest.raises(Infinigen1Missing, match="is no overlay"):
        overlay.overlay(tmp_path)


def test_an_installation_counts_only_after_its_check(tmp_path, monkeypatch):
    """Interrupted, it is half-installed; again, it is whole; again, nothing is done."""
    calls = []

    def wheels(target: Path) -> None:
        calls.append(target)
        for name in ("infinigen_examples", "gin.dist-info"):
            (target / name).mkdir(parents=True)

    def interrupted(generator: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(overlay, "_pip", wheels)
    with pytest.raises(KeyboardInterrupt):
        install(tmp_path / "new", interrupted, print)
    assert "half-installed" in fault_of(tmp_path / "new")
    checked, said = [], []
    install(tmp_path / "new", checked.append, said.append)
    assert fault_of(tmp_path / "new") == "" and [one.folder.name for one in checked] == [
        "site.partial"
    ]
    install(tmp_path / "new", checked.append, said.append)
    assert len(calls) == 2 and len(checked) == 1 and "is installed" in said[-1]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["site"]


def test_a_folder_of_somebody_elses_is_left_alone(tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "theirs.txt").touch()
    with pytest.raises(Infinigen1Missing, match="name another folder with --to"):
        install(tmp_path, lambda generator: None, print)
    assert (tmp_path / "site" / "theirs.txt").is_file()


def test_the_installers_own_words_are_passed_on(tmp_path, monkeypatch):
    def fails(command: list[str], **rest: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "ERROR: No matching distribution\nbye\n")

    monkeypatch.setattr(overlay.subprocess, "run", fails)
    with pytest.raises(Infinigen1Missing, match="could not be installed: ERROR: No matching"):
        install(tmp_path, lambda generator: None, print)
    monkeypatch.setattr(overlay, "find_spec", lambda name: None if name == "pip" else object())
    monkeypatch.setattr(overlay.shutil, "which", lambda name: None)
    with pytest.raises(Infinigen1Missing, match=r"no pip and there is no uv: .* -m ensurepip"):
        install(tmp_path, lambda generator: None, print)


def test_an_environment_of_the_users_must_hold_the_right_major_version(tmp_path):
    python = tmp_path / "python"
    for answer, said in (
        ("""echo '["2.0.0", "/x"]'""", "got: 2.0.0"),
        ("echo no package infinigen_examples >&2; exit 1", "got: no package infinigen_examples"),
    ):
        python.write_text(f"#!/bin/sh\n{answer}\n")
        python.chmod(0o755)
        with pytest.raises(Infinigen1Missing, match=said):
            own_environment(str(python))
    with pytest.raises(Infinigen1Missing, match="is no executable on this machine"):
        own_environment("/nowhere/python")


def test_the_lock_holds_wheels_with_digests_and_neither_bpy_nor_numpy():
    lines = REQUIREMENTS.read_text().splitlines()
    pins = [line.split()[0] for line in lines if line and line[0] not in "# "]
    assert "infinigen==1.15.5" in pins and all("==" in pin for pin in pins)
    assert not {"bpy", "numpy"} & {pin.partition("==")[0] for pin in pins}
    assert sum(line.endswith("\\") for line in lines) >= len(pins)
