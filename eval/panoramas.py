"""What is scored: panoramas behind one small interface.

They are those of one of our datasets, or of a benchmark.

`open_panoramas(config, dataset)` takes the benchmark that the config names, else the dataset. What
it gives has keys in a fixed order. A panorama by position has `key`, `read("rgb")`,
`read("instance")` and `meta.instances`. The digest decides whether two results were measured on the
same data: it is of a dataset's manifest, or of what a benchmark's folder holds
(`listing_digest`).
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from panoforge.core.errors import DataError, UsageError
from panoforge.core.foreign.left_out import LeftOut
from panoforge.core.geometry.views import check_panorama_size
from panoforge.core.numbers import counted
from panoforge.core.sample.instance_table import InstanceLabel, instance_table
from panoforge.core.sample.metadata import InstanceMeta
from panoforge.core.shards.layout import MANIFEST_NAME
from panoforge.core.shards.read import Dataset
from panoforge.core.storage.atomic import storage_errors
from panoforge.core.storage.store import StoreLike
from panoforge.eval.benchmarks import get_benchmark, open_benchmark
from panoforge.eval.benchmarks.base import (
    Benchmark,
    DenseItem,
    PackedFrame,
    PanoramaItem,
    TrackItem,
    VideoItem,
)
from panoforge.eval.config import EvalConfig


class ScoredMeta(Protocol):
    """The metadata that scoring reads."""

    @property
    def instances(self) -> Sequence[InstanceMeta]:
        """The instance table."""


class ScoredSample(Protocol):
    """A panorama: `read("rgb")` uint8 H×W×3, `read("instance")` uint16 H×W."""

    @property
    def key(self) -> str:
        """The name of the panorama in results."""

    @property
    def meta(self) -> ScoredMeta:
        """What is known of its instances."""

    def read(self, product: str) -> NDArray:
        """One product, `rgb` or `instance`, as an array."""


class ScoredPanoramas(Protocol):
    """Panoramas in a fixed order; `name` is what they are called, `sha256` says which they are."""

    name: str
    keys: list[str]
    sha256: str

    def __getitem__(self, index: int) -> ScoredSample: ...

    def describe(self, panoramas: int, unseen: LeftOut) -> dict[str, Any]:
        """What was scored, as results.json records it."""


def open_panoramas(config: EvalConfig, dataset: StoreLike) -> ScoredPanoramas:
    """The panoramas that a config asks for. UsageError where there are none."""
    if config.benchmark is None:
        return DatasetPanoramas(dataset, config.split)
    benchmark = get_benchmark(config.benchmark)
    return BenchmarkPanoramas(benchmark, benchmark_root(config), config.split)


def benchmark_root(config: EvalConfig) -> Path:
    """The folder of a config's benchmark.

    UsageError, with what belongs there, where it is not named.
    """
    if config.root is None:
        benchmark = get_benchmark(str(config.benchmark))
        raise UsageError(
            f"benchmark={benchmark.name} needs root=DIR, the folder of the data. {benchmark.about}"
        )
    return config.root


class DatasetPanoramas:
    """A published dataset of ours, or one split of it."""

    def __init__(self, dataset: StoreLike, split: str | None) -> None:
        self.data, self.split = Dataset.open(dataset, split), split
        if not self.data.keys:
            raise UsageError(
                f"{dataset}: split {split!r} holds no panoramas, so there is nothing to score; the"
                f" dataset's splits are {self.data.manifest.splits}: choose another, or split: null"
                " for all"
            )
        self.keys = list(self.data.keys)
        self.sha256 = hashlib.sha256(self.data.store.read(MANIFEST_NAME)).hexdigest()
        self.name = self.data.store.name

    def __getitem__(self, index: int) -> ScoredSample:
        return self.data.read(
            index, ("rgb", "instance")
        )  # depth and normals are nine tenths of the bytes

    def describe(self, panoramas: int, unseen: LeftOut) -> dict[str, Any]:
        """What was scored, as results.json records it."""
        return describe_dataset(self.data, self.name, self.sha256, self.split, panoramas)


@dataclass(frozen=True)
class _Meta:
    instances: tuple[InstanceMeta, ...]


class BenchmarkSample:
    """One panorama of a benchmark, read when it is first asked for and checked.

    DataError for what is no panorama.
    """

    def __init__(self, item: PanoramaItem) -> None:
        self.key = item.key
        self._rgb, self._labels, names, self.left_out = item.read()
        height, width = self._labels.shape
        if self._rgb.shape[:2] != (height, width):
            raise DataError(
                f"{item.key} is {self._rgb.shape[1]}×{self._rgb.shape[0]}, its labels are"
                f" {width}×{height}: bring both to one size, ids by nearest neighbour"
            )
        check_panorama_size(width, height, item.key)
        ids = np.unique(self._labels[self._labels > 0]).tolist()
        known = {
            id_: InstanceLabel(names.get(id_) or str(id_), names.get(id_, ""), "") for id_ in ids
        }
        self.meta = _Meta(instance_table(self._labels, known))

    def read(self, product: str) -> NDArray:
        """One product, `rgb` or `instance`, as an array."""
        return {"rgb": self._rgb, "instance": self._labels}[product]


class BenchmarkPanoramas:
    """The panoramas of an image benchmark."""

    def __init__(self, benchmark: Benchmark, root: Path, split: str | None) -> None:
        items = open_benchmark(benchmark, root, split)
        self.benchmark, self.split, self.name = benchmark, split, benchmark.name
        self.left_out = items.left_out
        self.items = [item for item in items if isinstance(item, PanoramaItem)]
        if len(self.items) != len(items):
            raise TypeError(f"{benchmark.name} holds videos: panoforge.eval.videos.run scores them")
        self.keys = [item.key for item in self.items]
        check_keys(self.keys, root)
        self.sha256 = listing_digest(benchmark.name, items)

    def __getitem__(self, index: int) -> ScoredSample:
        return BenchmarkSample(self.items[index])

    def describe(self, panoramas: int, unseen: LeftOut) -> dict[str, Any]:
        """Facts of the data; `unseen` are objects that were left out when panoramas were read."""
        return {
            "name": self.benchmark.name,
            "manifest_sha256": self.sha256,
            "split": self.split,
            "panoramas": panoramas,
            "of": len(self.items),
            "size": ["sizes as published"],
            "licence": self.benchmark.licence,
            "warning": self.benchmark.warning,
            "left_out": str(self.left_out + unseen) or None,
        }


def check_keys(keys: Sequence[str], root: Path) -> None:
    """DataError unless every key names one item, and a folder."""
    twice = (
        sorted({key for key in keys if keys.count(key) > 1}) if len(set(keys)) < len(keys) else []
    )
    if twice:
        raise DataError(
            f"{root} holds {counted(len(twice), 'name')} twice, first {twice[0]}: results are"
            " kept by name"
        )
    odd = [key for key in keys if "/" in key or key in ("", ".", "..")]
    if odd:
        raise DataError(f"{root}: {odd[0]!r} is no name for a result's folder")


def listing_digest(
    name: str, items: Iterable[PanoramaItem | VideoItem | TrackItem | DenseItem]
) -> str:
    """SHA-256 of what is scored: keys, names and sizes of pictures, names and contents of truth.

    Pictures are compressed and large: another one is of another size. Truth is edited by hand, and
    masks may keep their size.
    """
    digest, contents = hashlib.sha256(name.encode()), cache(_content_sha256)
    for item in items:
        digest.update(f"\n{item.key}".encode())
        for path in item.images:
            if isinstance(path, PackedFrame):
                digest.update(f" {path.name}={path.sha256}".encode())
                continue
            digest.update(f" {path.name}:{path.stat().st_size if path.is_file() else -1}".encode())
        for path in item.truth:  # one file may be that of all panoramas: it is read once
            digest.update(f" {path.name}={contents(path)}".encode())
    return digest.hexdigest()


def _content_sha256(path: Path) -> str:
    """The digest of a file, read in pieces; "" where there is none."""
    if not path.is_file():
        return ""
    with storage_errors(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe_dataset(
    data: Dataset, name: str, sha256: str, split: str | None, panoramas: int
) -> dict[str, Any]:
    """Which of our datasets was scored, as results.json records it."""
    sizes = zip(data.samples["width"].to_pylist(), data.samples["height"].to_pylist(), strict=True)
    return {
        "name": name,
        "manifest_sha256": sha256,
        "split": split,
        "panoramas": panoramas,
        "of": len(data),
        "size": sorted({f"{w}×{h}" for w, h in sizes}),
    }
