"""One panorama after the other: every method, every role, and what a panorama gives as one folder.

    evaluate_panoramas(job, positions, on_done) → job.folder/KEY/ for each

Per panorama: draw the instances, prompt each (or take both from a prompts file). Then, for every
method, run the predictor, the ceiling (ground truth through the same path; once more at the
resolution of the model's logits) and the floor (nothing). The folder of a panorama is committed in
one rename (`panoforge.eval.scoring.results`), so an interrupted evaluation goes on where it
stopped. `panoforge.eval.run` plans the job and puts the folders together.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from panoforge.core.errors import DataError
from panoforge.core.report.pictures import shrink_ids, shrink_rgb
from panoforge.core.sample.metadata import InstanceMeta
from panoforge.core.sample.products import encode_product
from panoforge.core.storage.atomic import write_folder_atomic
from panoforge.core.storage.identity import identity_sha256
from panoforge.eval.config import EvalConfig
from panoforge.eval.masks import Masks
from panoforge.eval.panoramas import (
    BenchmarkSample,
    ScoredPanoramas,
    ScoredSample,
    open_panoramas,
)
from panoforge.eval.predictors import FrameInput
from panoforge.eval.predictors.by_file import MasksOfFile
from panoforge.eval.predictors.roles import ScoredPredictor, WeightsRecord, scored_predictors
from panoforge.eval.scoring import salient
from panoforge.eval.scoring.metrics import best_overlaps, iou, row_counts
from panoforge.eval.scoring.metrics.boundary import f_measure, match_instances
from panoforge.eval.scoring.metrics.sphere import row_weight_sr
from panoforge.eval.scoring.results import ROWS_NAME, Row, rows_parquet
from panoforge.eval.segmentation.corrections import corrected
from panoforge.eval.segmentation.promptfile import PromptFile, panorama_entry
from panoforge.eval.segmentation.prompts import (
    InstancePrompt,
    click_instances,
    project_prompts,
    prompt_instances,
)
from panoforge.eval.segmentation.segment import PanoramaInput, frame_inputs, segment
from panoforge.eval.views.methods import get_method
from panoforge.eval.views.methods.base import Method, Plan

PROMPTS_NAME = "prompts.json"
SALIENCY_NAME = "saliency.json"
LEFT_OUT_NAME = "left_out.json"
PICTURE_WIDTH = 1600


@dataclass(frozen=True)
class EvalJob:
    """An evaluation as its workers see it.

    `dataset` is where the panoramas are, `out` the evaluation's own folder; `fingerprint` says what
    the rows in it must be of.
    """

    config: EvalConfig
    dataset: Path | str
    out: Path
    fingerprint: str

    @property
    def folder(self) -> Path:
        """Where the results of each panorama go."""
        return self.out / "panoramas"


# Evaluates the panoramas at some positions of a job's source, in any order and anywhere, and calls
# back after each: when it returns, `job.folder` holds them all. The result does not depend on who
# does it (panoforge.cluster.ray.evaluation has one over Ray).
Evaluator = Callable[[EvalJob, Sequence[int], Callable[[], None]], None]


def fingerprint_of(config: EvalConfig, weights: WeightsRecord, data_sha256: str) -> str:
    """What a panorama's rows depend on."""
    asked: dict[str, object] = {
        "protocol": config.protocol(),
        "methods": config.methods,
        "predictor": config.predictor,
        "model_size": config.model.size,
        "weights": (weights.kind, weights.sha256),  # wherever they were read from
        "data": data_sha256,
    }
    if config.benchmark in salient.BENCHMARKS:
        asked["saliency"] = (salient.OFFICIAL, salient.SEAM_AWARE)
    return identity_sha256(asked)


def evaluate_panoramas(
    job: EvalJob,
    positions: Sequence[int],
    on_done: Callable[[], None],
    source: ScoredPanoramas | None = None,
    predictors: Sequence[ScoredPredictor] | None = None,
) -> None:
    """Evaluate here.

    What is not given, panoramas or predictors, is opened and loaded. DataError for weights or data
    that have changed since the job was planned.
    """
    source = source or open_panoramas(job.config, job.dataset)
    if predictors is None:
        predictors, weights = scored_predictors(job.config)
        if fingerprint_of(job.config, weights, source.sha256) != job.fingerprint:
            raise DataError(
                "the weights or the data that this worker finds are not those that the evaluation"
                " was started with: all workers must see the same files"
            )
    given = PromptFile(job.config.prompts.file) if job.config.prompts.file else None
    for position in positions:
        rows, files = evaluate_sample(job.config, source[position], predictors, given)
        write_folder_atomic(
            job.folder / source.keys[position],
            {**files, ROWS_NAME: rows_parquet(rows, job.fingerprint)},
        )
        on_done()


def choose_instances(
    config: EvalConfig, meta: Sequence[InstanceMeta], key: str
) -> list[InstanceMeta]:
    """The instances of a panorama that are scored, by ascending id.

    Large enough, not flagged away, and at most `max_per_panorama`, drawn by seed and key.
    """
    rules = config.instances
    kept = [
        row
        for row in meta
        if row.pixels >= rules.min_pixels
        and row.area_sr >= rules.min_area_sr
        and not set(row.flags) & set(rules.skip_flags)
    ]
    if rules.max_per_panorama is None or len(kept) <= rules.max_per_panorama:
        return kept
    entropy = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
    chosen = np.random.default_rng([config.seed, entropy]).choice(
        len(kept), rules.max_per_panorama, replace=False
    )
    return [kept[index] for index in sorted(chosen)]


def evaluate_sample(
    config: EvalConfig,
    sample: ScoredSample,
    predictors: Sequence[ScoredPredictor],
    given: PromptFile | None = None,
) -> tuple[list[Row], dict[str, bytes]]:
    """All rows of one panorama, and its other files by name: pictures and prompts."""
    panorama = PanoramaInput(sample.key, sample.read("rgb"), sample.read("instance"))
    if given is not None:
        prompts = given.prompts(sample.key, panorama.labels)
        by_id = {row.id: row for row in sample.meta.instances}
        instances = [by_id[prompt.id] for prompt in prompts]
    else:
        instances = choose_instances(config, sample.meta.instances, sample.key)
        ids = [row.id for row in instances]
        prompts = prompt_instances(panorama.labels, ids, config.prompts.kind, config.prompts.clicks)
    places = click_instances(panorama.labels, [row.id for row in instances])
    scored = np.where(
        np.isin(panorama.labels, [row.id for row in instances]), panorama.labels, 0
    ).astype(np.uint16)
    entry = panorama_entry(prompts, panorama.width, panorama.height)
    files = {
        PROMPTS_NAME: json.dumps(entry).encode(),
        "rgb.jpg": encode_product("rgb.jpg", shrink_rgb(panorama.rgb, PICTURE_WIDTH)),
        "truth.png": encode_product("instance.png", shrink_ids(scored, PICTURE_WIDTH)),
    }
    if isinstance(sample, BenchmarkSample) and sample.left_out:
        files[LEFT_OUT_NAME] = json.dumps(sample.left_out.kinds).encode()
    rows, saliency = [], []
    for name in config.methods:
        method = get_method(name)
        plan = method.plan(panorama.width, panorama.height, config)
        inputs = frame_inputs(panorama, plan)
        for candidate in predictors:
            turn = _Turn(config, panorama, method, plan, inputs, instances, places, candidate)
            new, labels = turn.score(prompts)
            rows += new
            if config.benchmark in salient.BENCHMARKS:
                saliency.append(
                    {
                        "method": name,
                        "role": candidate.role,
                        **salient.salient_scores(labels > 0, scored > 0),
                    }
                )
            if candidate.role == "model":
                files[f"{name}.png"] = encode_product(
                    "instance.png", shrink_ids(labels, PICTURE_WIDTH)
                )
    if config.benchmark in salient.BENCHMARKS:
        files[SALIENCY_NAME] = json.dumps(saliency).encode()
    return rows, files


@dataclass(frozen=True)
class _Turn:
    """One method and one predictor on one panorama.

    `places`: one click for each instance, whatever it is prompted with.
    """

    config: EvalConfig
    panorama: PanoramaInput
    method: Method
    plan: Plan
    inputs: Sequence[FrameInput]
    instances: Sequence[InstanceMeta]
    places: Sequence[InstancePrompt]
    candidate: ScoredPredictor

    def score(self, prompts: Sequence[InstancePrompt]) -> tuple[list[Row], np.ndarray]:
        """The rows, and the instance map (uint16 H×W) of the first answer.

        The model is scored again after clicks that correct it, where the config asks for that.
        """
        masks = self._masks(prompts)
        ids = np.array([0, *(prompt.id for prompt in prompts)], np.uint16)
        predicted, rows = ids[masks.labels], _rows(self, prompts, masks, 0)
        columns = self.config.prompts.corrected if self.candidate.role == "model" else ()
        for clicks in range(2, max(columns, default=1) + 1):
            prompts = corrected(prompts, masks, self.panorama.labels, self.plan.projections)
            masks = self._masks(prompts)
            rows += _rows(self, prompts, masks, clicks) if clicks in columns else []
        return rows, predicted

    def _masks(self, prompts: Sequence[InstancePrompt]) -> Masks:
        given = self.candidate.predictor
        if isinstance(given, MasksOfFile):
            ids = [prompt.id for prompt in prompts]
            return given.masks(self.panorama.key, ids, self.panorama.height, self.panorama.width)
        return segment(
            self.panorama,
            self.plan,
            self.inputs,
            prompts,
            self.candidate.predictor,
            self.config.merge,
        )


def _rows(turn: _Turn, prompts: Sequence[InstancePrompt], masks: Masks, clicks: int) -> list[Row]:
    """The rows of the masks that some prompts gave; `clicks` is `Row.corrected`."""
    panorama = turn.panorama
    ids = [prompt.id for prompt in prompts]
    counts, sphere = (
        row_counts(masks, panorama.labels, ids),
        row_weight_sr(panorama.height, panorama.width),
    )
    plain, weighted, on_sphere = (
        iou(counts),
        iou(counts, cos_weighted=True),
        iou(counts, row_weight=sphere),
    )
    outlines = list(match_instances(masks, panorama.labels, ids))
    best, overlap = best_overlaps(masks, panorama.labels, ids)
    frames = [len(seen.frames()) for seen in project_prompts(prompts, turn.plan.projections)]
    rows = []
    for k, (meta, place) in enumerate(zip(turn.instances, turn.places, strict=True)):
        click = place.clicks[0]
        rows.append(
            Row(
                key=panorama.key,
                method=turn.method.name,
                role=turn.candidate.role,
                predictor=turn.candidate.predictor.name,
                id=meta.id,
                category=meta.category,
                flags=meta.flags,
                pixels=meta.pixels,
                area_sr=meta.area_sr,
                view_pixels=meta.area_sr * turn.config.view_px_per_radian**2,
                lon_deg=click.lon_deg,
                lat_deg=click.lat_deg,
                u=click.u,
                v=click.v,
                frames=frames[k],
                predicted_pixels=int(counts.predicted[k].sum()),
                both_pixels=int(counts.both[k].sum()),
                iou=float(plain[k]),
                iou_cos=float(weighted[k]),
                boundary_f=f_measure(outlines[k]),
                j_sphere=float(on_sphere[k]),
                f_sphere=f_measure(outlines[k], sphere),
                score=float(masks.scores[k]),
                best_id=int(best[k]),
                best_iou=float(overlap[k]),
                corrected=clicks,
            )
        )
    return rows
