"""Datasets in a bucket, over a real HTTP connection: packed, verified, queried, read, and never
more bytes than are needed.
"""

import contextlib
import shutil
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import buckets
import numpy as np
import pytest
import synthetic

from panoforge.cli import main
from panoforge.core.errors import DataError, StorageError
from panoforge.core.shards.layout import MANIFEST_NAME, read_manifest
from panoforge.core.shards.query import extract, find
from panoforge.core.shards.read import Dataset
from panoforge.core.shards.verify import verify
from panoforge.core.shards.write import PackOptions, pack, publish
from panoforge.core.storage.store import Store

OPTIONS = PackOptions(shard_bytes=150_000, splits=(("train", 0.6), ("val", 0.4)))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    synthetic.dataset(folder, scenes=6, cameras=2, options=OPTIONS)
    return folder


@pytest.fixture(scope="module")
def s3(run: Path) -> Iterator[str]:
    """A bucket that holds the run's staged panoramas and its dataset."""
    with buckets.bucket(staged=run / "staged", dataset=run / "dataset") as url:
        yield url


@pytest.fixture
def traffic(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Bytes that the S3 server gave away, by object: counted where the server answers, not where we
    ask.
    """
    from moto.s3.responses import S3Response

    sent: dict[str, int] = {}
    lock, real = threading.Lock(), S3Response.key_response

    def counting(self, request, full_url, headers):
        answer = real(self, request, full_url, headers)
        if request.method == "GET":
            key = self.parse_key_name()
            with lock:
                sent[key] = sent.get(key, 0) + len(answer[2])
        return answer

    monkeypatch.setattr(S3Response, "key_response", counting)
    return sent


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def objects_of(url: str) -> dict[str, bytes]:
    store = Store.at(url)
    return {name: store.read(name) for name in store.sizes()}


@pytest.mark.parametrize("source", ["disk", "bucket"])
def test_packing_into_a_bucket_gives_the_bytes_of_a_folder(run, s3, source):
    staged = run / "staged" if source == "disk" else f"{s3}/staged"
    pack(staged, f"{s3}/packed-{source}", OPTIONS)
    assert objects_of(f"{s3}/packed-{source}") == files_of(run / "dataset")
    pack(staged, f"{s3}/packed-{source}", OPTIONS)
    assert objects_of(f"{s3}/packed-{source}") == files_of(run / "dataset")


def test_packing_from_a_bucket_to_a_folder_is_the_same(run, s3, tmp_path):
    pack(f"{s3}/staged", tmp_path / "dataset", OPTIONS)
    assert files_of(tmp_path / "dataset") == files_of(run / "dataset")


def test_publishing_into_a_bucket_as_scenes_come_in(run, s3):
    sizes = []
    for number in range(7):
        manifest = publish(f"{s3}/staged", f"{s3}/published", OPTIONS, before=f"caps-{number:06d}")
        sizes.append(manifest.samples if manifest else 0)
    assert sizes == sorted(sizes) and 0 < sizes[-1] < 12 and verify(f"{s3}/published").faults == ()
    publish(f"{s3}/staged", f"{s3}/published", OPTIONS, final=True)
    assert objects_of(f"{s3}/published") == files_of(run / "dataset")


@pytest.mark.real
def test_the_manifest_comes_last_and_the_old_state_stays_valid(run, s3, tmp_path, monkeypatch):
    """Every write of a second publication fails in turn; the bucket always holds a whole dataset,
    the old or the new.
    """
    shutil.copytree(run / "staged", tmp_path / "staged")
    synthetic.stage(tmp_path / "staged", 9, 0)
    import s3fs

    states, real = set(), s3fs.S3FileSystem._call_s3
    for n in range(1, 20):
        url = f"{s3}/fails-{n}"
        pack(run / "staged", url, OPTIONS)
        calls = 0

        async def failing(self, method, *args, n=n, **kwargs):
            nonlocal calls
            calls += method in ("put_object", "delete_object", "delete_objects")
            if calls == n:
                raise PermissionError("denied by the test")
            return await real(self, method, *args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(s3fs.S3FileSystem, "_call_s3", failing)
            failed = False
            with contextlib.suppress(StorageError):
                failed = True
                pack(tmp_path / "staged", url, OPTIONS)
                failed = False
        report = verify(url)
        assert report.faults == ()
        states.add(report.samples)
        if not failed:
            break
        pack(tmp_path / "staged", url, OPTIONS)
        assert verify(url).samples == 13 and len(Store.at(url).names("index")) == 2
    assert states == {12, 13} and not failed and n > 4


@pytest.fixture
def stalls(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[tuple[str, str]]]:
    """Methods and parts of keys that the server answers after 20 s.

    The client waits one, and asks once more.
    """
    import fsspec
    import s3fs
    from moto.s3.responses import S3Response
    from werkzeug.serving import WSGIRequestHandler

    slow: set[tuple[str, str]] = set()
    awake, real = threading.Event(), S3Response.key_response

    def stalling(self, request, full_url, headers):
        if any(request.method == method and part in full_url for method, part in slow):
            awake.wait(20)
        return real(self, request, full_url, headers)

    monkeypatch.setattr(S3Response, "key_response", stalling)
    # http.server and werkzeug each answer 100 to a PUT that asks whether it may go on. The second
    # may come after the body and then stops the client's clock for good; S3 answers one.
    monkeypatch.setattr(WSGIRequestHandler, "handle_expect_100", lambda self: True)
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    options = {"config_kwargs": {"read_timeout": 1, "retries": {"max_attempts": 1}}}
    monkeypatch.setitem(fsspec.config.conf, "s3", options)
    s3fs.S3FileSystem.clear_instance_cache()
    yield slow
    awake.set()
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize("method", ["PUT", "GET"])
def test_a_bucket_that_answers_slowly_is_said_in_a_line_and_nothing_is_half_there(
    run, s3, stalls, method
):
    """A stalled server while a dataset is packed into a bucket, or read from it."""
    url = f"{s3}/slow-{method.lower()}"
    if method == "GET":
        pack(run / "staged", url, OPTIONS)
    stalls.add((method, "/shards/" if method == "PUT" else "/slow-get/"))
    begin = time.monotonic()
    work = partial(pack, run / "staged", url, OPTIONS) if method == "PUT" else partial(verify, url)
    with pytest.raises(StorageError, match=r"slow-.*: cannot be reached: .*imeout") as said:
        work()
    assert "\n" not in str(said.value) and time.monotonic() - begin < 90
    stalls.clear()
    if method == "PUT":
        assert MANIFEST_NAME not in Store.at(url).sizes()
        pack(run / "staged", url, OPTIONS)
    assert verify(url).faults == () and verify(url).samples == 12


def test_a_sample_is_read_by_its_byte_range_alone(s3, run, traffic):
    remote, local = Dataset.open(f"{s3}/dataset"), Dataset.open(run / "dataset")
    traffic.clear()
    row = local.samples.slice(3, 1).to_pylist()[0]
    one, other = remote[3], local[3]
    assert one.members == other.members and np.array_equal(
        one.read("instance", (7, 20)), other.read("instance")[7:20]
    )
    assert traffic == {f"dataset/{row['shard']}": row["length"]}
    assert row["length"] < read_manifest(run / "dataset").shards[0].bytes / 2


def test_a_query_reads_the_index_and_its_extraction_just_those_samples(
    s3, run, traffic, tmp_path, capfd
):
    with pytest.raises(SystemExit) as end:
        main(
            [
                "query",
                f"{s3}/dataset",
                "seed == 4 and camera == 1",
                "--extract",
                str(tmp_path / "out"),
            ]
        )
    assert not end.value.code and capfd.readouterr().out.split() == ["caps-000004-c1"]
    local = Dataset.open(run / "dataset")
    extracted = {p.name.partition(".")[2]: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    assert extracted == local.by_key("caps-000004-c1").members
    (row,) = (row for row in local.samples.to_pylist() if row["key"] == "caps-000004-c1")
    shards = {key: count for key, count in traffic.items() if "/shards/" in key}
    assert shards == {f"dataset/{row['shard']}": row["length"]}
    total = sum(entry.bytes for entry in local.manifest.shards)
    assert sum(traffic.values()) < total / 4


def test_an_extraction_of_products_into_a_bucket_reads_their_bytes(s3, run, traffic):
    opened = Dataset.open(f"{s3}/dataset")
    keys = find(opened, "seed == 2").keys
    traffic.clear()
    written = extract(opened, keys, f"{s3}/extracted", ("instance",))
    sizes = Store.at(f"{s3}/extracted").sizes()
    assert sorted(sizes) == sorted(written) and len(written) == 4
    rows = [row for row in opened.samples.to_pylist() if row["key"] in keys]
    least = sum(
        m["length"]
        for row in rows
        for m in row["members"]
        if m["suffix"] in ("instance.zst", "meta.json")
    )
    assert (
        sum(sizes.values()) == least <= sum(traffic.values()) < least + 2048
    )  # what lies between them is a header
    assert sum(traffic.values()) < sum(row["length"] for row in rows) / 2


def test_verify_by_command_finds_what_is_wrong_in_a_bucket(s3, run, capfd):
    store = Store.at(f"{s3}/damaged")
    for name, data in files_of(run / "dataset").items():
        store.put(name, data)
    with pytest.raises(SystemExit) as end:
        main(["verify", store.url, "--deep"])
    assert not end.value.code and "12 samples, 0 faults" in capfd.readouterr().out
    row = Dataset.open(store).samples.to_pylist()[5]
    data = bytearray(store.read(row["shard"]))
    data[row["offset"] + 2000] ^= 1
    store.put(row["shard"], bytes(data))
    with pytest.raises(SystemExit) as end:
        main(["verify", store.url])
    assert (
        end.value.code == 1
        and f"{row['key']}: its bytes do not have the digest" in capfd.readouterr().out
    )
    with pytest.raises(DataError, match=row["key"]):
        Dataset.open(store).by_key(row["key"])
    store.put(row["shard"], bytes(data[: row["offset"] + 700]))
    assert {fault.sample for fault in verify(store).faults} >= {row["key"]}
    with pytest.raises(DataError, match="truncated"):
        Dataset.open(store).by_key(row["key"])


def test_statistics_and_packing_by_command(s3, run, tmp_path, capfd):
    with pytest.raises(SystemExit) as end:
        main(["stats", f"{s3}/dataset", "--out", str(tmp_path)])
    assert not end.value.code and '"panoramas": 12' in (tmp_path / "report.json").read_text()
    with pytest.raises(SystemExit) as end:
        main(
            [
                "pack",
                s3,
                "--to",
                f"{s3}/bycommand",
                "shard_bytes=150000",
                "splits={train: 0.6, val: 0.4}",
            ]
        )
    assert (
        not end.value.code
        and f"12 panoramas with 96 instances, 3 shards: {s3}/bycommand" in capfd.readouterr().out
    )
    assert objects_of(f"{s3}/bycommand") == files_of(run / "dataset")


def test_a_bucket_without_a_dataset_and_a_half_copied_panorama(s3):
    with pytest.raises(StorageError, match=f"nothing/{MANIFEST_NAME}: it does not exist"):
        Dataset.open(f"{s3}/nothing")
    with pytest.raises(DataError, match="nothing to pack"):
        pack(f"{s3}/nothing", f"{s3}/target")
    Store.at(s3).put("half/caps-000001-c0/rgb.jpg", b"x")
    with pytest.raises(DataError, match="nothing to pack"):  # without its meta.json it is not there
        pack(f"{s3}/half", f"{s3}/target")
