"""Teachers and those who carry masks along, made from a config; heavy imports happen here."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from panoforge.eval.config import EvalConfig, ModelConfig
from panoforge.eval.interactive.following import Following
from panoforge.eval.interactive.following.edges import EdgeFollowing
from panoforge.label.checker import LabelChecker
from panoforge.label.config import AnnotateConfig, FollowChoice
from panoforge.label.teachers.choice import TeacherChoice
from panoforge.label.teachers.loading import load_teacher
from panoforge.label.video.asking import TeacherPanel
from panoforge.label.video.noisy_following import NoisyTruthFollowing
from panoforge.label.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from panoforge.label.video.sam3_tracker import Sam3Tracker


def panel_of(
    entities: Sequence[TeacherChoice],
    panoptic: Sequence[TeacherChoice],
    place: Path,
    config: AnnotateConfig,
) -> TeacherPanel:
    """The teachers of a config.

    Args:
        entities: those that propose masks.
        panoptic: those that name segments.
        place: what is labelled; truth is read from it.
        config: views, and when segments are one.

    Raises:
        ConfigError: truth is asked for, and the place is no dataset.
    """
    vocabulary = load_vocabulary(config.vocabulary)
    return TeacherPanel(
        [load_teacher(one, place) for one in entities],
        [load_teacher(one, place, vocabulary) for one in panoptic],
        config.views,
        config.join,
        LabelChecker(vocabulary, config.checker, len(panoptic)),
    )


def following_of(choice: FollowChoice) -> Following:
    """Who carries masks along."""
    if choice.kind == "noisy_truth":
        return NoisyTruthFollowing(choice.edge_px, choice.lost, choice.drift, choice.seed)
    if choice.kind == "edges":
        return EdgeFollowing()
    if choice.kind == "sam3":
        assert choice.folder is not None  # the config says so
        return sam3_following(sam3_of(choice.folder))
    return _sam2_following(choice.model.model_dump_json())


@lru_cache(maxsize=1)
def _sam2_following(model: str) -> Following:
    """Weights are loaded once in a process."""
    from panoforge.eval.interactive.following.model import ModelFollowing
    from panoforge.eval.predictors.batched_sam2 import BatchedSam2
    from panoforge.eval.predictors.load import load_model

    settings = ModelConfig.model_validate_json(model)
    loaded = load_model(EvalConfig(model=settings))
    words = f"SAM2.1 {settings.size} at {settings.image_size}², {loaded.weights.source}"
    one_by_one = BatchedSam2(loaded.model, encode_batch=1)
    return ModelFollowing(one_by_one, settings.image_size, words)


@lru_cache(maxsize=1)
def sam3_of(folder: Path) -> "Sam3Tracker":
    """SAM3's tracker; weights are loaded once in a process."""
    from panoforge.eval.predictors.load import pick_device
    from panoforge.label.video.sam3_tracker import Sam3Tracker

    return Sam3Tracker.load(folder, pick_device("auto"))


def sam3_following(tracker: "Sam3Tracker") -> Following:
    """The tracker on a view that goes with each object."""
    from panoforge.eval.interactive.following.model import ModelFollowing

    words = f"{tracker.name} at {tracker.size_px}², sha256 {tracker.loaded.digest[:12]}"
    return ModelFollowing(tracker, tracker.size_px, words)
