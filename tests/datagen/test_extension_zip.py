"""A Blender extension's zip from anywhere: unpacked below its folder, or refused in one line."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from panoforge.datagen.extensions.extension_zip import ExtensionMissing, unpack_extension


def made(path: Path, *others: str) -> bytearray:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/blender_manifest.toml", 'id = "abc"\n' + "# words\n" * 100)
        for name in others:
            archive.writestr(name, "x")
    return bytearray(path.read_bytes())


def encrypted(path: Path) -> None:
    data = made(path)
    data[6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)


def damaged(path: Path) -> None:
    data = made(path)
    begin = data.index(b"manifest.toml") + 15
    data[begin : begin + 10] = b"\xff" * 10
    path.write_bytes(data)


BROKEN: dict[str, Callable[[Path], object]] = {
    "encrypted": encrypted,
    "damaged": damaged,
    "cut": lambda path: path.write_bytes(made(path)[:-30]),
    "a pipe": os.mkfifo,
    "not there": lambda path: None,
    "leads out": lambda path: made(path, "a/../../evil"),
    "a file and a folder": lambda path: made(path, "a/x", "a/x/y"),
    "a long name": lambda path: made(path, "a/" + "x" * 300),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_no_extension_is_refused_in_one_line(tmp_path: Path, what: str) -> None:
    zip_ = tmp_path / "a.zip"
    BROKEN[what](zip_)
    with pytest.raises(ExtensionMissing) as refused:
        unpack_extension(zip_, tmp_path / "inside" / "repository", "abc")
    assert len(str(refused.value).splitlines()) == 1
    assert not list(tmp_path.rglob("evil"))


def test_an_extension_is_unpacked(tmp_path: Path) -> None:
    made(tmp_path / "a.zip", "a/code.py", "other/code.py")
    assert unpack_extension(tmp_path / "a.zip", tmp_path / "repository", "abc") == "abc"
    found = sorted(path.name for path in (tmp_path / "repository").rglob("*.*"))
    assert found == ["blender_manifest.toml", "code.py"]
