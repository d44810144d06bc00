"""Durable writes: the old or the new file, never half of one, whatever fails; and errors that say
what to do.
"""

import errno
import os

import pytest

from panoforge.core.errors import StorageError
from panoforge.core.storage.atomic import sweep_temporaries, write_bytes_atomic, write_folder_atomic


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, "disk is full: free some space"),
        (errno.EACCES, "no permission"),
        (errno.EROFS, "read-only"),
        (errno.EDQUOT, "quota"),
    ],
)
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failing_write_leaves_the_old_file(tmp_path, monkeypatch, call, code, advice):
    path = tmp_path / "file.json"
    path.write_bytes(b"old")

    def fail(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(StorageError, match=advice) as caught:
        write_bytes_atomic(path, b"new")
    assert str(path) in str(caught.value) and caught.value.exit_code == 1
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.json"]


def test_a_path_through_a_file_is_explained(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="a part of this path is a file"):
        write_bytes_atomic(tmp_path / "file" / "x", b"")


def test_a_folder_is_replaced_whole(tmp_path):
    write_folder_atomic(tmp_path / "s", {"a": b"1", "b": b"2"})
    write_folder_atomic(tmp_path / "s", {"c": b"3"})
    assert [p.name for p in (tmp_path / "s").iterdir()] == ["c"]


def test_leftovers_are_swept(tmp_path):
    (tmp_path / ".tmp-x-1").mkdir()
    (tmp_path / ".tmp-y-2").write_text("")
    (tmp_path / "keep").write_text("")
    assert sweep_temporaries(tmp_path) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["keep"]
