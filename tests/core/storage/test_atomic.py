"""Durable writes: the old or the new file, never half of one, whatever fails; and errors that say
what to do.
"""

import errno
import os

import pytest

from panoforge.core.errors import StorageError
from panoforge.core.storage import atomic
from panoforge.core.storage.atomic import (
    sweep_temporaries,
    write_all_atomic,
    write_bytes_atomic,
    write_folder_atomic,
)


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


@pytest.mark.parametrize("call", ["replace", "stat"])
def test_of_many_files_that_fail_none_is_half_written(tmp_path, monkeypatch, call):
    (tmp_path / "a").write_bytes(b"old")
    real, calls = getattr(os, call), []

    def fail_late(*args, **kwargs):
        calls.append(args)
        if len(calls) > (call == "replace"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail_late)
        with pytest.raises(StorageError, match="disk is full: free some space"):
            write_all_atomic({tmp_path / name: b"new" for name in "ab"})
    left = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert left == {"a": b"new" if call == "replace" else b"old"}


def test_a_disk_that_cannot_take_what_was_written_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "_SYNCFS", lambda descriptor: -1)
    monkeypatch.setattr(atomic.ctypes, "get_errno", lambda: errno.EIO)
    with pytest.raises(StorageError, match="Input/output error"):
        write_all_atomic({tmp_path / "a": b"new"})
    assert list(tmp_path.iterdir()) == []


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
