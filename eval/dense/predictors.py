"""Who predicts maps: a trained model, the truth at some resolution, or a folder of predictions.

    predictors, weights = dense_predictors(config, source, dataset)

Every row of a result has the role of its predictor. `model` is what was asked for, `ceiling` the
truth at the model's resolution, `floor` the mean predictor where it can be fitted.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from panoforge.core.categories.class_sets import VOID, ClassSet, class_set
from panoforge.core.errors import UsageError
from panoforge.core.numbers import counted
from panoforge.core.storage.store import StoreLike
from panoforge.eval.benchmarks.dense_folder import map_file, read_maps
from panoforge.eval.config import EvalConfig
from panoforge.eval.dense.mean import MeanPredictor
from panoforge.eval.dense.sources import DatasetMaps, DensePanoramas
from panoforge.eval.dense_config import DenseConfig
from panoforge.eval.maps import DenseMaps, DensePredictor, DenseSample
from panoforge.eval.predictors.roles import WeightsRecord
from panoforge.train.settings.mtpano import DenseTask

DenseRole = Literal["model", "ceiling", "floor"]


@dataclass(frozen=True)
class ScoredMaps:
    """A predictor and the role that its rows have in the tables."""

    role: DenseRole
    predictor: DensePredictor


class Ceiling:
    """The truth, by nearest pixel at `height_px` rows and back; None loses nothing."""

    def __init__(self, tasks: tuple[DenseTask, ...], height_px: int | None) -> None:
        self.tasks, self.height_px = tasks, height_px
        self.name = "truth" if height_px is None else f"truth at {2 * height_px}×{height_px}"

    def predict(self, sample: DenseSample) -> DenseMaps:
        """The sample's truth; where the coarse one knows nothing, the fine one."""
        truth = sample.truth
        if self.height_px is None:
            return truth
        coarse = truth.resized(self.height_px).resized(sample.rgb.shape[0])
        semantic, depth_m, normal = coarse.semantic, coarse.depth_m, coarse.normal
        if semantic is not None and truth.semantic is not None:
            semantic = np.where(semantic == VOID, truth.semantic, semantic)
        if depth_m is not None and truth.depth_m is not None:
            depth_m = np.where(np.isfinite(depth_m), depth_m, truth.depth_m)
        if normal is not None and truth.normal is not None:
            there = (normal != 0).any(axis=-1, keepdims=True)
            normal = np.where(there, normal, truth.normal)
        return DenseMaps(semantic, depth_m, normal)


class FolderPredictor:
    """Predictions that others made (`panoforge.eval.benchmarks.dense_folder`), found by key."""

    def __init__(self, folder: Path, tasks: tuple[DenseTask, ...], classes: ClassSet) -> None:
        self.folder, self.tasks, self._classes = folder, tasks, classes
        self.name = f"predictions in {folder.name}"

    def predict(self, sample: DenseSample) -> DenseMaps:
        """The maps of the sample's key."""
        return read_maps(self.folder, sample.key, self.tasks, self._classes)

    def sha256(self, keys: Sequence[str]) -> str:
        """The digest of the files of `keys`. DataError where one is not there."""
        digest = hashlib.sha256()
        for key in keys:
            for task in self.tasks:
                path = map_file(self.folder, task, key)
                with path.open("rb") as file:
                    part = hashlib.file_digest(file, "sha256").hexdigest()
                digest.update(f"{task}/{path.name}={part}\n".encode())
        return digest.hexdigest()


def dense_predictors(
    config: EvalConfig, source: DensePanoramas, dataset: StoreLike
) -> tuple[list[ScoredMaps], WeightsRecord]:
    """The predictor asked for, the ceiling, and the floor where a split is named to fit it on.

    Args:
        config: The evaluation.
        source: What is scored.
        dataset: Where the split for the mean predictor is, if one is asked for.

    Raises:
        UsageError: The model's classes or tasks do not fit, or something is not named.
    """
    dense = config.dense
    classes, height = class_set(dense.classes), dense.ceiling_height_px
    if dense.predictor == "model":
        if dense.checkpoint is None:
            raise UsageError(
                "which weights are scored? Give --checkpoint FILE (dense.checkpoint=FILE), one that"
                " pano train wrote from a config of task: dense. dense.predictor=mean or truth need"
                " none"
            )
        from panoforge.eval.dense.model import DenseModel

        model = DenseModel.load(dense.checkpoint, config.device)
        model.check_fits(dense.tasks, classes)
        scored: DensePredictor = model
        record = model.record
        height = height or model.height_px
    elif dense.predictor == "folder":
        if dense.predictions is None:
            raise UsageError(
                "dense.predictor=folder needs dense.predictions=DIR, with semantic/, depth/ and"
                " normal/ by key"
            )
        found = FolderPredictor(dense.predictions, dense.tasks, classes)
        sha256 = found.sha256(source.keys[: config.max_panoramas])
        scored, record = found, WeightsRecord("folder", found.name, sha256)
    elif dense.predictor == "mean":
        scored, record = _fitted(config, dataset, classes)
    else:
        scored = Ceiling(dense.tasks, height)
        record = WeightsRecord("none", scored.name, None)
    predictors = [ScoredMaps("model", scored), ScoredMaps("ceiling", Ceiling(dense.tasks, height))]
    if dense.fit_split is not None and dense.predictor != "mean":
        predictors.append(ScoredMaps("floor", _fitted(config, dataset, classes)[0]))
    return predictors, record


def _fitted(
    config: EvalConfig, dataset: StoreLike, classes: ClassSet
) -> tuple[MeanPredictor, WeightsRecord]:
    """The mean predictor of a split of the dataset."""
    dense: DenseConfig = config.dense
    if config.benchmark is not None or dense.fit_split is None:
        raise UsageError(
            "the mean predictor is fitted on a split of the dataset: set dense.fit_split (train),"
            " and no benchmark"
        )
    if dense.fit_split == config.split:
        raise UsageError(
            f"dense.fit_split is {dense.fit_split}, and so is split: what is fitted must not be"
            " what is scored. Set one of them to another"
        )
    source = DatasetMaps(dataset, dense.fit_split, dense)
    number = min(len(source.keys), dense.fit_panoramas)
    samples = (source[index] for index in range(number))
    found = MeanPredictor.fit(samples, dense.tasks, classes, dense.max_depth_m)
    said = f"mean of {counted(number, 'panorama')} of {source.name}, split {dense.fit_split}"
    return found, WeightsRecord("mean", said, source.sha256)
