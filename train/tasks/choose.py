"""The task that a config asks for, with its model, its data and its first weights."""

from panoforge.core.categories.class_sets import class_set
from panoforge.core.shards.read import Dataset
from panoforge.train.config import TrainConfig
from panoforge.train.data.dense_source import PanoramaSource, held_out_panoramas
from panoforge.train.data.loader import ClipSource
from panoforge.train.model.build import build_model
from panoforge.train.model.checkpoint_io import Weights
from panoforge.train.model.mtpano.build import build_mtpano
from panoforge.train.tasks.base import Task
from panoforge.train.tasks.mtpano import MtpanoTask
from panoforge.train.tasks.sam2 import Sam2Task
from panoforge.train.validate import validation_source


def open_task(config: TrainConfig, data: Dataset, held_out: Dataset | None) -> tuple[Task, Weights]:
    """SAM2 on clips, or with a `dense` section MTPano on panoramas."""
    if config.dense is None:
        source = ClipSource(data, config)
        model, weights = build_model(config.model, config.prompt, seed=config.seed)
        shown = None if held_out is None else validation_source(held_out, config)
        return Sam2Task(config, model, source, shown), weights
    panoramas = PanoramaSource(data, config)
    mtpano, weights = build_mtpano(
        config.dense.model,
        len(class_set(config.dense.model.classes)),
        checkpoint=config.dense.checkpoint,
        seed=config.seed,
    )
    kept = None if held_out is None else held_out_panoramas(held_out, config)
    return MtpanoTask(config, mtpano, panoramas, kept), weights
