"""Teachers made from a config; heavy imports happen here, when one is named."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from panoforge.core.errors import ConfigError
from panoforge.core.shards.layout import MANIFEST_NAME
from panoforge.core.shards.read import Dataset
from panoforge.label.teachers.choice import TeacherChoice
from panoforge.label.teachers.http import HttpTeacher
from panoforge.label.teachers.noisy import NoisyTruth
from panoforge.label.teachers.truth import TruthTeacher, dataset_truths
from panoforge.label.vocabulary import Vocabulary, load_vocabulary


def load_teacher(choice: TeacherChoice, place: Path, vocabulary: Vocabulary | None = None) -> Any:
    """The teacher that a config names; models are loaded once in a process.

    Args:
        choice: Which one.
        place: What is labelled: truth is read from it.
        vocabulary: What is stuff in the words of a panoptic model; ours without it.

    Raises:
        ConfigError: Truth is asked for, and the place is no dataset; or a library is missing.
        DataError: Its folder or file holds no such model.
    """
    if choice.kind in ("truth", "noisy_truth"):
        if not (place / MANIFEST_NAME).exists():
            raise ConfigError(
                f"teacher {choice.called}: {choice.kind} reads the labels of a dataset of ours, and"
                f" {place} is none: name a model as teacher"
            )
        truth = TruthTeacher(dataset_truths(Dataset.open(place)), name=choice.called)
        return truth if choice.kind == "truth" else NoisyTruth(truth, choice.noise, choice.called)
    if choice.kind == "http":
        return HttpTeacher(choice.address, choice.timeout_s, choice.called, choice.weights)
    loaded = _model(choice)
    if choice.kind == "panoptic":
        words = vocabulary or load_vocabulary()
        return loaded.with_stuff(words.stuff_among(loaded.classes))
    return loaded


@lru_cache(maxsize=8)
def _model(choice: TeacherChoice) -> Any:
    """A model with its weights."""
    from panoforge.eval.predictors.load import pick_device

    if choice.kind == "sam2":
        from panoforge.label.teachers.sam2_masks import Sam2Masks

        if choice.model.checkpoint is None:
            raise ConfigError(
                f"teacher {choice.called}: sam2 needs model.checkpoint, an official SAM2.1 file or"
                " one that pano train exported; random shows that the path runs"
            )
        points = choice.points_per_side
        return Sam2Masks.load(choice.model, "auto", points_per_side=points, name=choice.called)
    from panoforge.label.teachers import moge, transformers_folder

    device, place = pick_device("auto"), choice.folder
    assert place is not None  # the config says so
    if choice.kind == "moge":
        return moge.MogeTeacher.load(place, device, name=choice.called)
    if choice.kind == "depth":
        return transformers_folder.TransformersDepth.load(
            place, device, name=choice.called, unit=choice.unit
        )
    if choice.kind == "classes":
        return transformers_folder.TransformersClasses.load(place, device, name=choice.called)
    if choice.kind == "sam3":
        return transformers_folder.Sam3Words.load(
            place, device, choice.words, name=choice.called, threshold=choice.threshold
        )
    return transformers_folder.TransformersPanoptic.load(
        place, device, name=choice.called, threshold=choice.threshold
    )
