"""Panoramas of our shards as a line of positions, and the mixture of several such datasets.

A `DenseShards` gives panoramas with their truth, each a function of (seed, position). What the
tasks need is looked up in the dataset's index when it is opened. So a dataset without a product
that is asked for, or with pictures that are no whole panoramas, is refused before the first step.
"""

from dataclasses import replace

import numpy as np

from panoforge.core.categories.class_map import ClassMap, class_map
from panoforge.core.errors import DataError, UsageError
from panoforge.core.foreign.left_out import NOTHING
from panoforge.core.sample.products import PRODUCT_OF_SUFFIX
from panoforge.core.shards.read import Dataset
from panoforge.train.config import TrainConfig
from panoforge.train.data.dense_batch import DenseBatch, collate_panoramas
from panoforge.train.data.loader import ClipSource
from panoforge.train.data.mixture import Mixture, whole_weights
from panoforge.train.data.panoramas import (
    DensePanorama,
    PanoramaPlan,
    build_panorama,
    panorama_plan,
    products_for,
    seen_in_one_view,
)
from panoforge.train.data.sources import Source
from panoforge.train.data.sources.draw import source_seed
from panoforge.train.data.sources.shards import data_sha256
from panoforge.train.settings.dense import (
    AugmentSettings,
    DenseSettings,
    DenseSourceSettings,
    DepthSupervision,
)

ALONE = "shards"  # the only source of a run without a mixture
PLAIN = AugmentSettings(turn=False, mirror=0.0, colour_jitter=0.0, grayscale=0.0)


class DenseShards:
    """One dataset's panoramas.

    Args:
        name: of the source, for messages.
        dataset: one split of it.
        settings: the run's dense section.
        seed: of the source's own draws.
        supervision: how its depth is learnt from.
        merged_positions: random_view: so many first positions learn from the merged map.
    """

    left_out = NOTHING

    def __init__(
        self,
        name: str,
        dataset: Dataset,
        settings: DenseSettings,
        seed: int,
        supervision: DepthSupervision,
        merged_positions: int = 0,
    ) -> None:
        self.name, self.dataset, self.settings, self.seed = name, dataset, settings, seed
        self.supervision, self.merged_positions = supervision, merged_positions
        self.classes: ClassMap = class_map(settings.model.classes)
        self.products = check_dataset(dataset, settings)

    def __len__(self) -> int:
        return len(self.dataset)

    def plan(self, position: int) -> PanoramaPlan:
        """The panorama at `position`, before any pixel."""
        return panorama_plan(self.settings.augment, self.seed, position, len(self))

    def key(self, position: int) -> str:
        """The key of the panorama that is drawn at `position`."""
        return self.dataset.key(self.plan(position).sample)

    def clip(self, position: int) -> DensePanorama:
        """The panorama at `position`, a pure function of seed and position."""
        plan, settings = self.plan(position), self.settings
        model = settings.model
        found = build_panorama(
            self.dataset.read(plan.sample, self.products),
            plan,
            settings.augment,
            model.tasks,
            self.classes,
            model.height_px,
        )
        one_view = self.supervision == "random_view" and position >= self.merged_positions
        if one_view and found.depth_m is not None:
            return seen_in_one_view(found, plan, settings.view_fov_deg)
        return replace(found, fit_depth=settings.loss.scale_shift)

    def sha256(self) -> str:
        """Digest of which samples there are."""
        return data_sha256(self.dataset)


def check_dataset(dataset: Dataset, settings: DenseSettings) -> tuple[str, ...]:
    """The products to read of each sample.

    UsageError where the split is empty or a task has none to learn from, DataError where a shape is
    wrong.
    """
    if not len(dataset):
        raise UsageError(f"{dataset.folder} has no panorama in this split: name another")
    width, height = (dataset.samples[side].to_numpy() for side in ("width", "height"))
    wrong = np.flatnonzero(width != 2 * height)
    if wrong.size:
        at = int(wrong[0])
        raise DataError(
            f"{dataset.folder}: {dataset.key(at)} is {width[at]}×{height[at]}, and dense tasks"
            " learn from whole panoramas, twice as wide as high: leave it out of the dataset"
        )
    kinds: dict[tuple[str, ...], int] = {}
    for number, members in enumerate(dataset.samples["members"].to_pylist()):
        kinds.setdefault(tuple(m["suffix"] for m in members), number)
    wanted: set[str] = set()
    for suffixes, number in kinds.items():
        names = {PRODUCT_OF_SUFFIX[s] for s in suffixes if s in PRODUCT_OF_SUFFIX}
        try:
            wanted |= set(products_for(settings.model.tasks, names))
        except DataError as error:
            raise UsageError(f"{dataset.folder}: {dataset.key(number)} {error}") from None
    return tuple(sorted(wanted))


def open_dense_mixture(config: TrainConfig, dataset: Dataset) -> Mixture:
    """The sources of a run: those of `dense.mixture`, or the run's dataset alone."""
    settings = config.dense
    assert settings is not None
    entries = settings.mixture or {ALONE: DenseSourceSettings(weight=1)}
    weights = whole_weights({name: entry.weight for name, entry in entries.items()})
    period = sum(weights.values())
    sources: list[Source] = [
        DenseShards(
            name,
            _dataset_of(entry, config, dataset),
            settings,
            config.seed if len(entries) == 1 else source_seed(config.seed, name),
            entry.depth_supervision or settings.depth_supervision,
            # Its share of the panoramas of the first steps.
            settings.merged_steps * config.clips_per_step * weights[name] // period,
        )
        for name, entry in entries.items()
    ]
    return Mixture(sources, [weights[name] for name in entries], config.clips_per_forward)


def _dataset_of(entry: DenseSourceSettings, config: TrainConfig, dataset: Dataset) -> Dataset:
    """An entry's dataset, and its split."""
    if entry.dataset is None and entry.split in (None, config.split):
        return dataset
    return Dataset.open(entry.dataset or dataset.folder, entry.split)


class PanoramaSource(ClipSource):
    """Batches of panoramas by position."""

    def open_mixture(self) -> Mixture:
        """The run's datasets."""
        return open_dense_mixture(self.config, self.dataset)

    def joined(self, clips: list) -> DenseBatch:
        """One batch of the panoramas."""
        assert self.config.dense is not None
        model = self.config.dense.model
        return collate_panoramas(clips, model.auxiliary if model.streams else ())


def held_out_panoramas(dataset: Dataset, config: TrainConfig) -> PanoramaSource:
    """Held-out panoramas as they are: not turned and not changed, in one order for every seed.

    A damaged one stops the run: a mean over fewer would be another curve.
    """
    assert config.dense is not None
    dense = config.dense.model_copy(
        update={"augment": PLAIN, "mixture": {}, "depth_supervision": "solved"}
    )
    return PanoramaSource(
        dataset, config.model_copy(update={"dense": dense, "seed": 0, "max_bad_samples": 0})
    )
