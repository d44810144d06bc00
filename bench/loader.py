"""Reading samples into a null consumer: training's source of panoramas against webdataset, litdata,
mosaicml-streaming and spdl, with the same decode.

One dataset of 4096×2048 panoramas (a rendered label map, pictures, depth), written in each peer's
own format by its own writer. All read it shuffled, whole samples, in one process; each sample's
colour and label map are decoded by the same function. Ours reads the members that are decoded and
no others, and compares them with their checksums; the peers read whole samples and check nothing.
First asserted: every reader gives every sample once, with the same bytes.

spdl has no format: its pipeline reads a folder a sample in one thread, in an order that we shuffle.
From a bucket instead: `bench.loader_s3`.

Resuming at 90 % of an epoch of 800 small panoramas (512×256): seconds until the first batch.
webdataset has no state and must skip. That takes as long as the epoch is; the others load theirs.
"""

import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.common import (
    Outcome,
    Peer,
    arguments,
    finish,
    interleave,
    median,
    spread,
    use_one_thread,
    version,
)
from bench.maps import picture, room_labels
from panoforge.core.sample.instance_table import InstanceLabel, instance_table
from panoforge.core.sample.label_maps import instance_stats
from panoforge.core.sample.metadata import Pose, SampleMeta
from panoforge.core.sample.products import decode_product
from panoforge.core.shards.read import Dataset
from panoforge.core.shards.write import PackOptions, pack
from panoforge.core.storage.staged import write_staged
from panoforge.train.config import TrainConfig
from panoforge.train.data.sources.shards import Shards

SUFFIXES = ("depth.delta.zst", "instance.zst", "meta.json", "rgb.jpg")
SHARD_BYTES = 64 << 20  # what the peers' writers take for a good size
MANY = 800
TARGETS = {"webdataset": 1, "litdata": 1, "mosaicml-streaming": 1, "spdl": 1}
Members = dict[str, bytes]


def make_dataset(folder: Path, samples: int, width: int) -> Dataset:
    """`samples` panoramas of width×width/2: the room's label map turned by another yaw each,
    pictures of noise over gradients.
    """
    step = 4096 // width
    labels, rgb = room_labels()[::step, ::step], picture(width // 2, width)
    rough = (
        np.random.default_rng(0).integers(0, 64, labels.shape).astype(np.float32) / 1024
    )  # zstd keeps about 1 byte a pixel
    for number in range(samples):
        turn = 7 * number * width // (8 * samples)
        turned = np.ascontiguousarray(np.roll(labels, turn, axis=1))
        ids = instance_stats(turned).ids.tolist()
        dense = np.zeros(65536, np.uint16)
        dense[ids] = np.arange(1, len(ids) + 1)
        turned = dense[turned]
        names = {i: InstanceLabel(f"thing_{i}", "thing", "thing") for i in range(1, len(ids) + 1)}
        arrays = {
            "rgb.jpg": np.roll(rgb, turn, axis=1),
            "instance.zst": turned,
            "depth.delta.zst": 1 + turned % 97 + rough,
        }
        write_staged(
            folder / "staged",
            _meta(f"room-{number:04d}", turned, tuple(sorted(arrays)), names),
            arrays,
        )
    pack(folder / "staged", folder / "ours", PackOptions(SHARD_BYTES, (("train", 1.0),)))
    shutil.rmtree(folder / "staged")
    return Dataset.open(folder / "ours")


def _meta(
    key: str, labels: NDArray[np.uint16], products: tuple[str, ...], names: dict[int, InstanceLabel]
) -> SampleMeta:
    pose = Pose(
        position_m=(0.0, 0.0, 1.5),
        yaw_deg=0.0,
        world_from_pano=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    )
    return SampleMeta(
        key=key,
        width=labels.shape[1],
        height=labels.shape[0],
        source="bench",
        scene=key,
        seed=0,
        camera=0,
        pose=pose,
        products=products,
        instances=instance_table(labels, names),
        config_sha256="0" * 64,
        versions={},
    )


def decode(members: Members) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """What every reader's sample goes through."""
    return decode_product("rgb.jpg", members["rgb.jpg"]), decode_product(
        "instance.zst", members["instance.zst"]
    )


class Ours:
    """panoforge.train.data.sources.shards: what `pano train` reads, in its order."""

    name = "ours"

    def __init__(self, dataset: Dataset, folder: Path) -> None:
        self.dataset, self.config = dataset, TrainConfig(seed=1)

    def epoch(self) -> Iterator[Members]:
        source = Shards("shards", self.dataset, self.config)
        for position in range(len(source)):
            yield source.sample(source.plan(position)).members

    def resume(self, done: int) -> Members:
        source = Shards("shards", self.dataset, self.config)
        return source.sample(source.plan(done)).members


class WebDataset:
    """webdataset on our own shards, which are its format; shards and a buffer are shuffled, as its
    guide has it.
    """

    name = "webdataset"

    def __init__(self, dataset: Dataset, folder: Path) -> None:
        self.urls = [str(Path(dataset.folder) / entry.name) for entry in dataset.manifest.shards]

    def epoch(self, buffer: int = 16) -> Iterator[Members]:
        import webdataset

        return iter(
            webdataset.WebDataset(
                self.urls, shardshuffle=len(self.urls), seed=1, empty_check=False
            ).shuffle(buffer)
        )

    def resume(self, done: int) -> Members:
        return next(islice(self.epoch(), done, None))


class LitData:
    """litdata.StreamingDataset on what litdata.optimize wrote."""

    name = "litdata"

    def __init__(self, dataset: Dataset, folder: Path) -> None:
        from litdata.streaming import Cache

        self.folder = folder / "litdata"
        self.folder.mkdir()
        cache = Cache(str(self.folder), chunk_bytes=SHARD_BYTES)
        for index in range(len(dataset)):
            cache[index] = {suffix: dataset[index].members[suffix] for suffix in SUFFIXES}
        cache.done()
        cache.merge()

    def _open(self) -> Any:
        from litdata import StreamingDataset

        return StreamingDataset(str(self.folder), shuffle=True, seed=1)

    def epoch(self) -> Iterator[Members]:
        return iter(self._open())

    def resume(self, done: int) -> Members:
        dataset = self._open()
        dataset.load_state_dict(dataset.state_dict(done, num_workers=0, batch_size=1))
        return next(iter(dataset))


class Mosaic:
    """mosaicml's streaming.StreamingDataset on what its MDSWriter wrote."""

    name = "mosaicml-streaming"

    def __init__(self, dataset: Dataset, folder: Path) -> None:
        from streaming import MDSWriter

        self.folder = folder / "mosaic"
        with MDSWriter(
            out=str(self.folder), columns=dict.fromkeys(SUFFIXES, "bytes"), size_limit=SHARD_BYTES
        ) as writer:
            for index in range(len(dataset)):
                writer.write({suffix: dataset[index].members[suffix] for suffix in SUFFIXES})

    def _open(self) -> Any:
        from streaming import StreamingDataset

        return StreamingDataset(local=str(self.folder), shuffle=True, shuffle_seed=1, batch_size=1)

    def epoch(self) -> Iterator[Members]:
        return iter(self._open())

    def resume(self, done: int) -> Members:
        dataset = self._open()
        dataset.load_state_dict(
            {
                "epoch": 0,
                "sample_in_epoch": done,
                "shuffle_seed": 1,
                "num_canonical_nodes": 1,
                "initial_physical_nodes": 1,
            }
        )
        return next(iter(dataset))


class Spdl:
    """spdl's pipeline with one thread, on a folder of files a sample."""

    name = "spdl"

    def __init__(self, dataset: Dataset, folder: Path) -> None:
        self.folders = []
        for index in range(len(dataset)):
            place = folder / "spdl" / f"{index:05d}"
            place.mkdir(parents=True)
            for suffix in SUFFIXES:
                (place / suffix).write_bytes(dataset[index].members[suffix])
            self.folders.append(place)

    def _from(self, done: int) -> Iterator[Members]:
        from spdl.pipeline import PipelineBuilder

        order = np.random.default_rng(1).permutation(len(self.folders))[done:]
        pipeline = (
            PipelineBuilder()
            .add_source([self.folders[index] for index in order])
            .pipe(lambda place: {suffix: (place / suffix).read_bytes() for suffix in SUFFIXES})
            .add_sink(3)
            .build(num_threads=1)
        )
        with pipeline.auto_stop():
            yield from pipeline

    def epoch(self) -> Iterator[Members]:
        return self._from(0)

    def resume(self, done: int) -> Members:
        return next(self._from(done))


READERS = (Ours, WebDataset, LitData, Mosaic, Spdl)


def read_all(samples: Iterable[Members]) -> int:
    """The null consumer."""
    return sum(decode(members) is not None for members in samples)


def read_epoch(reader: Any) -> int:
    """An epoch of a reader into the null consumer."""
    return read_all(reader.epoch())


def count_epoch(reader: Any) -> int:
    """An epoch of a reader, nothing decoded."""
    return sum(1 for _ in reader.epoch())


def check_equal(readers: list, truth: dict[bytes, bytes]) -> None:
    """Every reader gives every sample once, with the same bytes, and resumes somewhere in the
    dataset.
    """
    for reader in readers:
        seen = {
            bytes(members["meta.json"]): bytes(members["rgb.jpg"]) + bytes(members["instance.zst"])
            for members in reader.epoch()
        }
        assert seen == truth, reader.name
        assert bytes(reader.resume(len(truth) * 9 // 10)["meta.json"]) in truth, reader.name


def seconds_to_first(readers: list, done: int, repeats: int) -> dict[str, float]:
    """Median wall seconds until the first batch (one decoded sample) after `done` samples of an
    epoch, of a reader just opened.
    """
    seconds: dict[str, list[float]] = {reader.name: [] for reader in readers}
    for _ in range(repeats):
        for reader in readers:
            begin = time.perf_counter()
            decode(reader.resume(done))
            seconds[reader.name].append(time.perf_counter() - begin)
    return {name: median(values) for name, values in seconds.items()}


def main() -> None:
    args = arguments(__doc__).parse_args()
    use_one_thread()
    samples, width = (16, 2048) if args.quick else (40, 4096)
    with tempfile.TemporaryDirectory(prefix="bench-loader-") as folder:
        dataset = make_dataset(Path(folder), samples, width)
        readers = [reader(dataset, Path(folder)) for reader in READERS]
        whole = [dataset[index].members for index in range(samples)]
        check_equal(
            readers,
            {
                members["meta.json"]: members["rgb.jpg"] + members["instance.zst"]
                for members in whole
            },
        )
        sizes = {
            suffix: sum(len(members[suffix]) for members in whole) // samples for suffix in SUFFIXES
        }
        del whole
        seconds = interleave(
            {reader.name: partial(read_epoch, reader) for reader in readers},
            repeats=5,
        )
        unread = interleave(
            {reader.name: partial(count_epoch, reader) for reader in readers},
            repeats=5,
        )
    with tempfile.TemporaryDirectory(prefix="bench-loader-") as folder:
        dataset = make_dataset(Path(folder), MANY, 512)
        readers = [reader(dataset, Path(folder)) for reader in READERS]
        done = MANY * 9 // 10
        first = seconds_to_first(readers, done, 5)
    for name, values in seconds.items():
        print(
            f"{name}: an epoch {spread(values)} ms, without decoding {spread(unread[name])} ms,"
            f" first after {done} small ones: {1e3 * first[name]:.1f} ms"
        )
    peers = [(reader, TARGETS[reader.name]) for reader in readers[1:]]
    finish(
        Outcome(
            "loader",
            ours=1e3 * median(seconds["ours"]) / samples,
            unit="ms CPU/sample",
            n=len(seconds["ours"]),
            facts={
                "samples": samples,
                "width": width,
                "bytes": sizes,
                "undecoded_ms_per_sample": {
                    name: round(1e3 * median(values) / samples, 3)
                    for name, values in unread.items()
                },
                "resume_ms": {name: round(1e3 * value, 2) for name, value in first.items()},
            },
            peers=(
                *(
                    Peer(version(reader.name), 1e3 * median(seconds[reader.name]) / samples, target)
                    for reader, target in peers
                ),
                Peer(
                    "webdataset, first batch after resuming at 90 %",
                    1e3 * first["webdataset"],
                    20,
                    ours=1e3 * first["ours"],
                    unit="ms",
                ),
            ),
        ),
        args,
    )


if __name__ == "__main__":
    main()
