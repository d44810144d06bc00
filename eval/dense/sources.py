"""What is scored: panoramas with maps of every pixel, of a dataset of ours or of a benchmark.

A dataset's semantics are its `semantic` product, or made of ids and their categories where it has
none, mapped to the label set of the config. What has no class there is void: counted, and said.
Normals are turned from the world into the panorama's frame by its pose.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from panoforge.core.categories.class_map import class_map, said
from panoforge.core.categories.class_sets import class_set
from panoforge.core.categories.semantic import semantic_map
from panoforge.core.errors import UsageError
from panoforge.core.sample.metadata import SampleMeta
from panoforge.core.sample.products import PRODUCT_OF_SUFFIX
from panoforge.core.shards.layout import MANIFEST_NAME
from panoforge.core.shards.read import Dataset, Sample
from panoforge.core.storage.store import StoreLike
from panoforge.core.types import Depth, Normals
from panoforge.eval.benchmarks import get_benchmark, open_dense_benchmark
from panoforge.eval.benchmarks.base import Benchmark, DenseAsked
from panoforge.eval.config import EvalConfig
from panoforge.eval.dense_config import DenseConfig
from panoforge.eval.maps import DenseMaps, DenseSample, resized_rgb
from panoforge.eval.panoramas import (
    benchmark_root,
    check_keys,
    describe_dataset,
    listing_digest,
)


class DensePanoramas(Protocol):
    """Panoramas in a fixed order; `name` is what they are called, `sha256` says which they are."""

    name: str
    keys: list[str]
    sha256: str

    def __getitem__(self, index: int) -> DenseSample: ...

    def describe(self, panoramas: int) -> dict[str, Any]:
        """What was scored, as results.json records it."""


def open_dense(config: EvalConfig, dataset: StoreLike) -> DensePanoramas:
    """The panoramas that a config asks for. UsageError where there are none."""
    if config.benchmark is None:
        return DatasetMaps(dataset, config.split, config.dense)
    return BenchmarkMaps(config)


class DatasetMaps:
    """A published dataset of ours, or one split of it."""

    def __init__(self, dataset: StoreLike, split: str | None, dense: DenseConfig) -> None:
        self.data, self.split, self.dense = Dataset.open(dataset, split), split, dense
        if not self.data.keys:
            raise UsageError(
                f"{dataset}: split {split!r} holds no panoramas, so there is nothing to score; the"
                f" dataset's splits are {self.data.manifest.splits}: choose another, or split: null"
                " for all"
            )
        self.keys = list(self.data.keys)
        self.sha256 = hashlib.sha256(self.data.store.read(MANIFEST_NAME)).hexdigest()
        self.name = self.data.store.name

    def __getitem__(self, index: int) -> DenseSample:
        tasks = self.dense.tasks
        products = self._products(self.data.read(index, ()).meta)
        sample = self.data.read(index, ("rgb", *products))
        semantic, void = None, dict[str, int]()
        if "semantic" in tasks:
            ids, mapping = _categories(sample), class_map(self.dense.classes)
            semantic, void = mapping.apply(ids), mapping.void(ids)
        normal = panorama_normals(sample) if "normal" in tasks else None
        depth: Depth | None = None
        if "depth" in tasks:
            depth = sample.read("depth").astype(np.float32)
        truth = DenseMaps(semantic, depth, normal)
        return _at(DenseSample(sample.key, sample.read("rgb"), truth, void), self.dense.height_px)

    def _products(self, meta: SampleMeta) -> list[str]:
        """What is read beside the picture. UsageError where a task's product is not there."""
        found, there = [], {PRODUCT_OF_SUFFIX[suffix] for suffix in meta.products}
        for task in self.dense.tasks:
            product: str = task  # a product each, by that name
            if task == "semantic" and product not in there:
                product = "instance"
            if product not in there:
                raise UsageError(
                    f"{self.name} has no {product} ({meta.key} has {', '.join(sorted(there))}), and"
                    f" dense.tasks asks for {task}: leave it out, or render with"
                    f" products: [rgb, instance, {product}]"
                )
            found.append(product)
        return found

    def describe(self, panoramas: int) -> dict[str, Any]:
        """What was scored, as results.json records it."""
        return describe_dataset(self.data, self.name, self.sha256, self.split, panoramas)


class BenchmarkMaps:
    """The panoramas of a benchmark that has maps."""

    def __init__(self, config: EvalConfig) -> None:
        benchmark, root = get_benchmark(str(config.benchmark)), benchmark_root(config)
        asked = DenseAsked(config.dense.tasks, class_set(config.dense.classes))
        found = open_dense_benchmark(benchmark, root, config.split, asked)
        self.benchmark: Benchmark = benchmark
        self.items, self.left_out = list(found), found.left_out
        self.split, self.name, self.height_px = config.split, benchmark.name, config.dense.height_px
        self.keys = [item.key for item in self.items]
        check_keys(self.keys, root)
        self.sha256 = listing_digest(benchmark.name, self.items)

    def __getitem__(self, index: int) -> DenseSample:
        item = self.items[index]
        rgb, truth = item.read()
        return _at(DenseSample(item.key, rgb, truth), self.height_px)

    def describe(self, panoramas: int) -> dict[str, Any]:
        """What was scored, as results.json records it."""
        return {
            "name": self.name,
            "manifest_sha256": self.sha256,
            "split": self.split,
            "panoramas": panoramas,
            "of": len(self.items),
            "size": ["sizes as published"],
            "licence": self.benchmark.licence,
            "warning": self.benchmark.warning,
            "left_out": str(self.left_out) or None,
        }


def panorama_normals(sample: Sample) -> Normals:
    """The normals of a sample in its panorama's frame, float32 H×W×3."""
    world_from_pano = np.array(sample.meta.pose.world_from_pano, np.float32)
    return sample.read("normal").astype(np.float32) @ world_from_pano  # Rᵀ n, by rows


def void_said(void: Mapping[str, int], pixels: int, classes: str) -> str:
    """What became void, in a sentence."""
    return said(void, pixels, class_set(classes))


def summed(voids: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Void pixels by category over panoramas."""
    found: dict[str, int] = {}
    for void in voids:
        for name, number in void.items():
            found[name] = found.get(name, 0) + number
    return found


def _categories(sample: Sample) -> np.ndarray:
    """Category ids uint16 H×W: the product, or made of the ids' categories."""
    if any(PRODUCT_OF_SUFFIX.get(suffix) == "semantic" for suffix in sample.members):
        return sample.read("semantic")
    return semantic_map(
        sample.read("instance"), {row.id: row.category for row in sample.meta.instances}
    )


def _at(sample: DenseSample, height_px: int | None) -> DenseSample:
    """The sample at the rows that are asked for; `void` stays that of its own size."""
    if height_px is None or sample.rgb.shape[0] == height_px:
        return sample
    truth = sample.truth.resized(height_px)
    return DenseSample(sample.key, resized_rgb(sample.rgb, height_px), truth, sample.void)
