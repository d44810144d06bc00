"""Streams: bit-equal wherever they resume and however they are dealt out; the cache of remote
shards keeps its cap.
"""

import hashlib
import itertools
import json
import multiprocessing
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import buckets
import pytest
import synthetic

from panoforge.core.errors import DataError, StorageError, UsageError
from panoforge.core.shards.cache import ShardCache
from panoforge.core.shards.layout import ShardEntry, read_manifest
from panoforge.core.shards.order import Shuffle
from panoforge.core.shards.read import Dataset
from panoforge.core.shards.stream import Item, Stream
from panoforge.core.shards.write import PackOptions
from panoforge.core.storage.store import Store

SHUFFLE = Shuffle(seed=5, window=2)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Ten samples of 64×32 in five shards or so."""
    options = PackOptions(shard_bytes=16_000, splits=(("train", 1.0),))
    folder = synthetic.dataset(
        tmp_path_factory.mktemp("stream"), scenes=5, cameras=2, width=64, options=options
    )
    assert len(read_manifest(folder).shards) >= 4
    return Dataset.open(folder)


@pytest.fixture(scope="module")
def bucket(dataset: Dataset) -> Iterator[str]:
    """The same dataset behind a real HTTP connection to a local S3 server."""
    with buckets.bucket(dataset=Path(dataset.folder)) as url:
        yield f"{url}/dataset"


def what(item: Item) -> tuple[int, str, str]:
    """Position, key and a digest of all bytes."""
    data = b"".join(item.sample.members[suffix] for suffix in sorted(item.sample.members))
    return item.position, item.sample.key, hashlib.sha256(data).hexdigest()


def two_epochs(dataset: Dataset, **options: object) -> list[tuple[int, str, str]]:
    return list(Stream(dataset, SHUFFLE, epochs=2, build=what, **options))


def test_the_line_is_the_order(dataset: Dataset) -> None:
    line = two_epochs(dataset)
    assert [position for position, *_ in line] == list(range(20))
    assert (
        sorted(key for _, key, _ in line[:10])
        == sorted(key for _, key, _ in line[10:])
        == sorted(dataset.keys)
    )
    assert [key for _, key, _ in line[:10]] != [key for _, key, _ in line[10:]]
    assert two_epochs(dataset, threads=4, ahead=9) == line
    assert [
        item.sample.key for item in Stream(dataset, Shuffle(on=False), epochs=1)
    ] == dataset.keys


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 7])
def test_ranks_read_the_same_line(dataset: Dataset, num_ranks: int) -> None:
    shares = [two_epochs(dataset, rank=rank, num_ranks=num_ranks) for rank in range(num_ranks)]
    assert sorted(item for share in shares for item in share) == two_epochs(dataset)
    assert all(
        position % num_ranks == rank for rank, share in enumerate(shares) for position, *_ in share
    )


@pytest.mark.parametrize("before", [0, 1, 9, 10, 13, 20])
@pytest.mark.parametrize("num_ranks", [1, 3])
def test_a_stream_resumes_bit_equal_with_any_number_of_ranks(
    dataset: Dataset, before: int, num_ranks: int
) -> None:
    line = two_epochs(dataset)
    first = Stream(dataset, SHUFFLE, epochs=2, build=what)
    taking = iter(first)
    assert [next(taking) for _ in range(before)] == line[:before]
    state = json.loads(json.dumps(first.state_dict()))
    rest = []
    for rank in range(num_ranks):
        resumed = Stream(dataset, SHUFFLE, epochs=2, build=what, rank=rank, num_ranks=num_ranks)
        resumed.load_state_dict(state)
        rest += list(resumed)
    assert sorted(rest) == line[before:]


def test_states_of_all_ranks_agree_and_name_what_they_count(dataset: Dataset) -> None:
    streams = [Stream(dataset, SHUFFLE, rank=rank, num_ranks=3) for rank in range(3)]
    for _ in range(2):  # also from a state that was not written by three ranks
        for stream in streams:
            stream.load_state_dict({**streams[0].state_dict(), "position": 4})
            taking = iter(stream)
            assert {next(taking).position, next(taking).position} <= set(range(4, 10))
        assert [stream.state_dict() for stream in streams] == [streams[0].state_dict()] * 3
        assert streams[0].state_dict()["position"] == 10


def test_products_are_read_without_the_rest(dataset: Dataset) -> None:
    whole, some = (
        list(Stream(dataset, SHUFFLE, epochs=1, products=products))
        for products in (None, ("rgb", "instance"))
    )
    for a, b in zip(whole, some, strict=True):
        assert a.position == b.position and a.sample.meta == b.sample.meta
        assert b.sample.members == {
            suffix: a.sample.members[suffix] for suffix in ("instance.zst", "meta.json", "rgb.jpg")
        }
    with pytest.raises(UsageError, match=r"no product 'rbg'\. Did you mean 'rgb'"):
        Stream(dataset, SHUFFLE, products=("rbg",))


def test_a_second_iteration_goes_on(dataset: Dataset) -> None:
    stream, line = Stream(dataset, SHUFFLE, epochs=2, build=what), two_epochs(dataset)
    assert list(itertools.islice(stream, 3)) == line[:3]
    assert list(stream) == line[3:]


def test_foreign_states_are_refused(dataset: Dataset, caps_dataset: Path) -> None:
    state = Stream(dataset, SHUFFLE).state_dict()
    with pytest.raises(UsageError, match=r"another order of samples: seed 5 \(here 6\)"):
        Stream(dataset, Shuffle(seed=6, window=2)).load_state_dict(state)
    with pytest.raises(UsageError, match=r"samples_sha256 \w+ \(here \w+\)"):
        Stream(Dataset.open(caps_dataset), SHUFFLE).load_state_dict(state)
    for bad in ({}, {**state, "position": -1}, {**state, "version": 2}, {**state, "more": 1}):
        with pytest.raises(DataError, match="not the state of a stream"):
            Stream(dataset, SHUFFLE).load_state_dict(bad)
    with pytest.raises(UsageError, match="rank 3 of 3"):
        Stream(dataset, rank=3, num_ranks=3)


def test_damage_comes_out_at_its_place_and_names_its_sample(
    dataset: Dataset, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(str(dataset.folder), tmp_path / "dataset"))
    line = two_epochs(dataset)
    row = dataset.samples.to_pylist()[dataset.keys.index(line[4][1])]
    shard = copy / row["shard"]
    data = bytearray(shard.read_bytes())
    data[row["offset"] + 600] ^= 1
    shard.write_bytes(data)
    taking = iter(Stream(Dataset.open(copy), SHUFFLE, build=what))
    assert [next(taking) for _ in range(4)] == line[:4]
    with pytest.raises(DataError, match=row["key"]):
        next(taking)


KILLED = """
import json, os, sys
from panoforge.core.shards.order import Shuffle
from panoforge.core.shards.read import Dataset
from panoforge.core.shards.stream import Stream
sys.path[:0] = {path!r}
from test_stream import what
stream = Stream(Dataset.open({folder!r}), Shuffle(seed=5, window=2), build=what)
if sys.argv[1:]:
    stream.load_state_dict(json.loads(sys.argv[1]))
for item in stream:
    print(json.dumps([item, stream.state_dict()]), flush=True)
"""


def test_a_killed_reader_resumes_where_it_was(dataset: Dataset) -> None:
    script = KILLED.format(folder=str(dataset.folder), path=sys.path)
    lines: list[list] = []
    state: list[str] = []
    for _ in range(2):
        with subprocess.Popen(
            [sys.executable, "-c", script, *state], stdout=subprocess.PIPE, text=True
        ) as process:
            lines += [json.loads(process.stdout.readline()) for _ in range(7)]
            process.send_signal(signal.SIGKILL)
        state = [json.dumps(lines[-1][1])]
    assert [tuple(item) for item, _ in lines] == two_epochs(dataset)[:14]


# ---- remote shards and their cache


def entries(dataset: Dataset) -> list[ShardEntry]:
    return list(dataset.manifest.shards)


def room_for(dataset: Dataset, shards: int) -> int:
    return shards * max(entry.bytes for entry in entries(dataset))


def test_s3_gives_the_same_line_with_and_without_a_cache(
    dataset: Dataset, bucket: str, tmp_path: Path
) -> None:
    remote = Dataset.open(bucket)
    cache = ShardCache(tmp_path / "cache", room_for(dataset, 2))
    assert two_epochs(remote) == two_epochs(dataset) == two_epochs(remote, cache=cache)
    assert 0 < cache.bytes() <= cache.max_bytes
    assert {path.suffix for path in cache.folder.iterdir()} == {".tar", ""}


class Counting(Store):
    """Counts what is fetched."""

    fetched: list[str] = []

    def open(self, name: str):  # type: ignore[no-untyped-def]
        self.fetched.append(name)
        return super().open(name)


@pytest.fixture
def counting(dataset: Dataset) -> Counting:
    store = Counting(str(dataset.folder))
    store.fetched = []
    return store


def read(cache: ShardCache, entry: ShardEntry, store: Store) -> bytes:
    with cache.open(entry, store) as file:
        return file.read()


def test_the_shard_used_longest_ago_makes_way(
    dataset: Dataset, counting: Counting, tmp_path: Path
) -> None:
    a, b, c, *_ = entries(dataset)
    cache = ShardCache(tmp_path, a.bytes + b.bytes + c.bytes - 1)
    for entry in (a, b, a, c, a, b):
        assert hashlib.sha256(read(cache, entry, counting)).hexdigest() == entry.sha256
        assert cache.bytes() <= cache.max_bytes
        time.sleep(0.02)  # files remember their last use in steps of the clock
    assert counting.fetched == [a.name, b.name, c.name, b.name]


def test_a_file_in_use_is_read_to_its_end_though_it_was_removed(
    dataset: Dataset, counting: Counting, tmp_path: Path
) -> None:
    a, b, *_ = entries(dataset)
    cache = ShardCache(tmp_path, max(a.bytes, b.bytes))
    with cache.open(a, counting) as file:
        read(cache, b, counting)
        assert hashlib.sha256(file.read()).hexdigest() == a.sha256
    assert [path.stem for path in tmp_path.glob("*.tar")] == [b.sha256]


def test_a_shard_larger_than_the_cache_is_refused(
    dataset: Dataset, counting: Counting, tmp_path: Path
) -> None:
    entry = entries(dataset)[0]
    with pytest.raises(
        UsageError,
        match=(
            rf"{entry.name} has {entry.bytes:,} bytes, the cache .* is capped at"
            rf" {entry.bytes - 1:,}.*"
            "Raise the cap, pack smaller shards, or read without a cache"
        ),
    ):
        ShardCache(tmp_path, entry.bytes - 1).open(entry, counting)
    with pytest.raises(UsageError, match="a cache of 0 bytes holds nothing"):
        ShardCache(tmp_path, 0)
    assert counting.fetched == []


@pytest.mark.parametrize("damage", ["flip", "cut", "longer", "gone"])
def test_what_is_not_the_shard_is_not_kept(dataset: Dataset, tmp_path: Path, damage: str) -> None:
    copy, entry = (
        Path(shutil.copytree(str(dataset.folder), tmp_path / "dataset")),
        entries(dataset)[0],
    )
    data = bytearray((copy / entry.name).read_bytes())
    data[700] ^= damage == "flip"
    (copy / entry.name).write_bytes({"cut": data[:-1], "longer": data + b"0"}.get(damage, data))
    if damage == "gone":
        (copy / entry.name).unlink()
    cache = ShardCache(tmp_path / "cache", 10**9)
    words = {
        "flip": "fetched another digest",
        "cut": f"fetched {entry.bytes - 1} bytes",
        "longer": "fetched more",
        "gone": "does not exist",
    }
    with pytest.raises((DataError, StorageError), match=words[damage]):
        cache.open(entry, Store.at(copy))
    assert cache.bytes() == 0


def test_a_copy_that_the_local_disk_damaged_is_fetched_again(
    dataset: Dataset, bucket: str, tmp_path: Path
) -> None:
    cache = ShardCache(tmp_path, 10**9)
    line = two_epochs(Dataset.open(bucket), cache=cache)
    for path in tmp_path.glob("*.tar"):
        path.write_bytes(bytes(path.stat().st_size))
    assert two_epochs(Dataset.open(bucket), cache=cache) == line


class Slow(Counting):
    """Takes a while, so that others come in between."""

    def open(self, name: str):  # type: ignore[no-untyped-def]
        time.sleep(0.2)
        return super().open(name)


def test_threads_that_want_one_shard_fetch_it_once(dataset: Dataset, tmp_path: Path) -> None:
    store, entry, found = Slow(str(dataset.folder)), entries(dataset)[0], []
    store.fetched = []
    caches = [ShardCache(tmp_path, room_for(dataset, 1)) for _ in range(5)]
    threads = [
        threading.Thread(target=lambda cache=cache: found.append(read(cache, entry, store)))
        for cache in caches
    ]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert {hashlib.sha256(data).hexdigest() for data in found} == {entry.sha256} and len(
        found
    ) == 5
    assert store.fetched == [entry.name]
    assert sorted(path.suffix for path in tmp_path.iterdir()) == ["", ".tar"]


def _hammer(folder: str, cache_folder: str, max_bytes: int, seed: int, done) -> None:  # type: ignore[no-untyped-def]
    cache, dataset = ShardCache(cache_folder, max_bytes), Dataset.open(folder)
    shards = [entry for _ in range(8) for entry in entries(dataset)]
    for number in range(len(shards)):
        entry = shards[(number * (seed + 2)) % len(shards)]
        good = hashlib.sha256(read(cache, entry, Store.at(folder))).hexdigest() == entry.sha256
        done.put(good)
    done.put(None)


def test_processes_share_a_cache_that_never_grows_over_its_cap(
    dataset: Dataset, tmp_path: Path
) -> None:
    cap = room_for(dataset, 2)
    context = multiprocessing.get_context("spawn")
    done = context.Queue()
    processes = [
        context.Process(target=_hammer, args=(str(dataset.folder), str(tmp_path), cap, seed, done))
        for seed in range(3)
    ]
    [process.start() for process in processes]
    cache, ended, reads = ShardCache(tmp_path, cap), 0, 0
    while ended < 3:
        assert cache.bytes() <= cap
        good = done.get(timeout=60)
        ended += good is None
        reads += good is True
        assert good is not False
    [process.join() for process in processes]
    assert reads == 3 * 8 * len(entries(dataset)) and not list(tmp_path.glob("*.part"))


def _fetch_and_hang(folder: str, cache_folder: str, ready) -> None:  # type: ignore[no-untyped-def]
    class Hanging(Store):
        def open(self, name: str):  # type: ignore[no-untyped-def]
            ready.set()
            time.sleep(600)

    dataset = Dataset.open(folder)
    ShardCache(cache_folder, 10**9).open(entries(dataset)[0], Hanging(folder))


def test_what_a_killed_process_left_is_taken_over_and_swept(
    dataset: Dataset, counting: Counting, tmp_path: Path
) -> None:
    a, b, *_ = entries(dataset)
    context = multiprocessing.get_context("spawn")
    for wanted in (a, b):  # the shard itself, or room for another
        ready = context.Event()
        process = context.Process(
            target=_fetch_and_hang, args=(str(dataset.folder), str(tmp_path), ready)
        )
        process.start()
        assert ready.wait(60) and [path.stat().st_size for path in tmp_path.glob("*.part")] == [
            a.bytes
        ]
        process.kill()
        process.join()
        assert (
            hashlib.sha256(read(ShardCache(tmp_path, wanted.bytes), wanted, counting)).hexdigest()
            == wanted.sha256
        )
        assert [path.name for path in tmp_path.glob("*.*") if path.suffix] == [
            f"{wanted.sha256}.tar"
        ]
        (tmp_path / f"{wanted.sha256}.tar").unlink()
