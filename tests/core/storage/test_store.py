"""The store: the same answers from a folder and from a bucket, whole objects or none, words for
what cannot be reached.
"""

import contextlib
import functools
import http.server
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import buckets
import pytest

from panoforge.core.errors import DataError, StorageError, UsageError
from panoforge.core.shards.layout import read_manifest
from panoforge.core.storage.store import Store


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with buckets.bucket() as url:
        yield url


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, s3: str, tmp_path: Path) -> Store:
    return (
        Store.at(tmp_path / "d")
        if request.param == "folder"
        else Store.at(f"{s3}/{tmp_path.name}/d")
    )


def test_objects_come_back_whole_and_in_parts(store):
    store.put("a/one", b"0123456789")
    assert store.read("a/one") == store.get("a/one") == b"0123456789" and store.size("a/one") == 10
    assert [
        store.read("a/one", *span)
        for span in ((2, 5), (8, 50), (10, 12), (30, 40), (4, 4), (3, None))
    ] == [b"234", b"89", b"", b"", b"", b"3456789"]
    with store.open("a/one") as file:
        assert file.read(4) + file.read() == b"0123456789"
    store.put("a/one", b"new")
    assert store.get("a/one") == b"new" and store.get("a/two") is None
    assert (
        store.put_new("a/two", b"1")
        and not store.put_new("a/two", b"2")
        and store.read("a/two") == b"1"
    )
    assert (
        store.names("a") == ["a/one", "a/two"]
        and store.names("b") == []
        and store.names("") == ["a"]
    )
    store.put("a/b/three", b"12345")
    assert store.sizes() == {"a/b/three": 5, "a/one": 3, "a/two": 1} and store.sizes("a/b") == {
        "a/b/three": 5
    }
    assert store.sizes("nothing") == {}
    store.delete("a/one")
    store.delete("a/one")
    assert store.names("a") == ["a/b", "a/two"]
    assert (store.name, store.below("a").name, store.below("a").parent.url) == ("d", "a", store.url)


def test_many_objects_are_written_at_once_and_replace_what_was_there(store):
    store.put("a/one", b"old")
    files = {"a/one": b"1", "a/b/two": b"22", "c": b""}
    store.put_all(files)
    assert {name: store.read(name) for name in store.sizes()} == files
    for name in ("../out", "a/../../out", "/out"):
        with pytest.raises(DataError, match="refused"):
            store.put_all({"d": b"1", name: b"2"})
    assert set(store.sizes()) == set(files)


def test_a_draft_is_an_object_or_nothing(store):
    with store.draft("big") as draft:
        draft.file.write(b"x" * 3_000_000)
        assert store.sizes() == {}
        assert draft.commit("done") == "big/done"
    with contextlib.suppress(RuntimeError), store.draft("big") as draft:
        draft.file.write(b"y")
        raise RuntimeError
    assert store.sizes() == {"big/done": 3_000_000}
    if store.local:
        assert [path.name for path in (store.local / "big").iterdir()] == ["done"]


@pytest.mark.parametrize(
    "call", [lambda s: s.read("no"), lambda s: s.size("no"), lambda s: s.open("no").__enter__()]
)
def test_what_is_missing_is_named(store, call):
    with pytest.raises(StorageError, match=r"d/no: it does not exist"):
        call(store)


def test_a_listing_sees_what_others_wrote_meanwhile(store):
    other = Store.at(store.url)
    assert store.names("x") == [] and store.sizes("x") == {}
    other.put("x/new", b"1")
    assert store.names("x") == ["x/new"] and store.sizes("x") == {"x/new": 1}


def test_unknown_kinds_of_storage_and_silent_servers_are_explained(monkeypatch):
    with pytest.raises(
        UsageError, match=r"gss:// is no kind of storage that fsspec knows. Did you mean 'gs'"
    ):
        Store.at("gss://bucket/x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, os.environ.get(name, "test"))
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setattr(s3fs.core.S3FileSystem, "retries", 1)
    with pytest.raises(StorageError, match=r"cannot be reached.*AWS_ENDPOINT_URL"):
        Store.at("s3://bucket/x").read("y")
    s3fs.S3FileSystem.clear_instance_cache()


def test_temporaries_are_no_objects(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".tmp-x").write_bytes(b"1")
    store = Store.at(tmp_path)
    assert store.names("a") == [] and store.sizes() == {}
    store.sweep("a")
    assert not list((tmp_path / "a").iterdir())


@pytest.mark.parametrize("url", ["s3://bucket/dataset", "http://127.0.0.1:{port}/dataset"])
def test_a_refused_connection_is_called_that(url, monkeypatch):
    """And not "it does not exist … pano repair"."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]  # bound and not listening: refused
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "x")
        with pytest.raises(StorageError, match="cannot be reached") as told:
            read_manifest(url.format(port=port))
        assert "pano repair" not in str(told.value)


def test_a_server_that_has_no_manifest_is_asked_for_a_dataset(tmp_path):
    """Reached, and the file is not there: then the question is what the folder is."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(StorageError, match="it does not exist"):
            read_manifest(f"http://127.0.0.1:{server.server_port}/dataset")
        server.shutdown()


def test_a_record_without_end_is_not_read(tmp_path):
    """A sparse file of a terabyte is made in an instant."""
    (tmp_path / "job.json").touch()
    os.truncate(tmp_path / "job.json", 1 << 40)
    with pytest.raises(DataError, match=r"job.json: 1099511627776 bytes, more than"):
        Store(str(tmp_path)).get("job.json")
