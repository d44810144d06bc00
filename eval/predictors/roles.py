"""Who is scored in which role: the predictor that was asked for, the two ceilings and the floor.

    predictors, weights = scored_predictors(config)

Every row of a result has the role of the predictor that it comes from
(`panoforge.eval.scoring.results`), so the ceilings and the floor stand beside every score.
"""

from dataclasses import dataclass
from typing import Any

from panoforge.core.errors import UsageError
from panoforge.eval.config import EvalConfig, VideoConfig
from panoforge.eval.predictors import LOGIT_STRIDE, Predictor
from panoforge.eval.predictors.truth import Empty, GroundTruth
from panoforge.eval.scoring.results import Role


@dataclass(frozen=True)
class WeightsRecord:
    """Which weights were scored.

    `kind`: none (no model), random, or checkpoint; `steps` of ours, where known.
    """

    kind: str
    source: str
    sha256: str | None
    steps: int | None = None


@dataclass(frozen=True)
class ScoredPredictor:
    """A predictor and the role that its rows have in the tables."""

    role: Role
    predictor: Predictor


def scored_predictors(config: EvalConfig) -> tuple[list[ScoredPredictor], WeightsRecord]:
    """The predictor asked for, then the ceilings and the floor.

    UsageError for a SAM2 without weights: scoring random ones must be asked for.
    """
    native = config.model.image_size // LOGIT_STRIDE
    bounds = [
        ScoredPredictor("ceiling", GroundTruth()),
        ScoredPredictor("logit ceiling", GroundTruth(native)),
        ScoredPredictor("floor", Empty()),
    ]
    if config.predictor == "ground_truth":
        return [ScoredPredictor("model", GroundTruth()), *bounds], WeightsRecord(
            "none", "ground truth", None
        )
    if config.predictor == "empty":
        return [ScoredPredictor("model", Empty()), *bounds], WeightsRecord("none", "no masks", None)
    if config.predictions is not None:
        from panoforge.eval.predictors.by_file import MasksOfFile

        given = MasksOfFile(config.predictions)
        record = WeightsRecord("file", given.path.name, given.sha256)
        return [ScoredPredictor("model", given), *bounds], record
    if config.model.checkpoint is None:
        raise UsageError(
            "which weights are scored? Give --checkpoint FILE (model.checkpoint=FILE), an official"
            " SAM2.1 file or one that pano train exported. model.checkpoint=random scores random"
            " weights, which shows the path and says nothing about SAM2"
        )
    from panoforge.eval.predictors.load import load_model

    loaded = load_model(config)
    kind = "random" if loaded.weights.random else "checkpoint"
    record = WeightsRecord(kind, loaded.weights.source, loaded.weights.sha256, loaded.trained_steps)
    predictor = video_predictor(loaded.model, config.video, config)
    return [ScoredPredictor("model", predictor), *bounds], record


def video_predictor(model: Any, video: VideoConfig, config: EvalConfig | None = None) -> Predictor:
    """A model behind the memory and the search that a config asks for.

    `config` says how frames are scanned (`search: scan`). UsageError where it asks for a memory
    that the model does not have.
    """
    from panoforge.eval.predictors.batched_sam2 import BatchedSam2
    from panoforge.eval.predictors.bfov_search import BfovSam2, Search
    from panoforge.eval.predictors.scan_search import ScanOfFrames, frame_scan

    if video.memory == "panosam2" and "memory" not in getattr(model, "panosam2", {}):
        raise UsageError(
            "video.memory is panosam2, and these weights have no long-short memory: train with"
            " model.panosam2.memory, or leave video.memory out"
        )
    sam2 = BatchedSam2(model, memory=video.memory, offload=video.offload)
    if video.search == "bfov":
        return BfovSam2(sam2, Search(margin=video.margin, share=video.share))
    if video.search == "scan":
        return ScanOfFrames(sam2, frame_scan(config or EvalConfig()))
    return sam2
