"""The gallery: every picture has its command and is there, nothing else is, and it stays small."""

import re
import shlex
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from repository import ROOT
from test_docs import faults_of

sys.path.insert(0, str(ROOT / "docs/_site"))
import gallery
from gallery_pictures import DATA, PICTURES, Picture

MAX_BYTES = 6_000_000
KINDS = ("ids", "depth", "normals", "video", "flow", "points", "serve", "report")


def test_the_page_is_what_the_recipes_say() -> None:
    assert gallery.PAGE.read_text(encoding="utf-8") == gallery.page(), "run `make style`"


def test_every_picture_is_there_with_its_command_and_nothing_else_is() -> None:
    text = gallery.PAGE.read_text(encoding="utf-8")
    shown = re.findall(r"!\[([^\]]+)\]\(gallery/([^)]+)\)\n\n\1: `([^`]+)`\n", text)
    assert {(name, command) for _, name, command in shown} == {
        (picture.name, picture.command) for picture in PICTURES.values()
    }
    assert len(shown) == text.count("](gallery/") >= 24
    assert {path.name for path in gallery.GALLERY.iterdir()} == set(PICTURES)
    assert all(any(kind in name for name in PICTURES) for kind in KINDS)
    assert sum(path.stat().st_size for path in gallery.GALLERY.iterdir()) <= MAX_BYTES
    for name in PICTURES:
        pixels = cv2.imread(str(gallery.GALLERY / name))
        assert pixels is not None and pixels.shape[1] >= 512, name


def test_every_command_is_one() -> None:
    commands = {one.command for one in PICTURES.values()}
    commands |= {command for data in DATA.values() for command in data.commands}
    for command in commands:
        words = shlex.split(command)
        if words[0] == "pano":
            assert not faults_of(words), command
        else:
            path = words[2].replace(".", "/") + ".py" if words[1] == "-m" else words[1]
            assert words[0] == "python" and (ROOT / path).is_file(), command
    assert {picture.data for picture in PICTURES.values()} == set(DATA)


def test_a_picture_is_made_by_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """One for real: the ids of the room that the package brings."""
    place = tmp_path / "gallery"
    monkeypatch.setattr(gallery, "GALLERY", place)
    out = tmp_path / "look"
    made = out / "kitchen.ids.png"
    command = f"pano preview core/room/dataset --out {out}"
    picture = Picture("kitchen.png", "ids", "package", command, str(made))
    monkeypatch.setattr(gallery, "file_of", lambda one: Path(one.file))
    gallery.run.cache_clear()
    gallery.make(picture)
    assert f"$ {command}" in capfd.readouterr().out
    assert (place / "kitchen.png").read_bytes() == made.read_bytes()
    assert cv2.imread(str(place / "kitchen.png")).shape == (512, 1024, 3)


def test_a_large_picture_is_kept_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "GALLERY", tmp_path)
    noise = np.random.default_rng(0).integers(0, 255, (256, 512, 3), np.uint8)
    noise = cv2.resize(noise, (1024, 512), interpolation=cv2.INTER_LINEAR)
    gallery.keep(cv2.imencode(".png", noise)[1].tobytes(), "noise.jpg")
    assert (tmp_path / "noise.jpg").stat().st_size <= gallery.MAX_BYTES
