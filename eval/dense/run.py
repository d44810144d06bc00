"""`pano eval` with `task: dense`: semantics, depth and normals of every pixel, scored.

    run_dense(config, dataset, run) → Evaluation(folder, results)

Panoramas are scored one by one, each committed as one folder (rows and small pictures), so that an
interrupted evaluation goes on where it stopped. At the end the evaluation's folder
(`panoforge.eval.folders`) has results.json and report.html. Beside the predictor that was asked for
stand the ceiling and, where a split is named for it, the mean predictor.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from panoforge.core.categories.class_sets import class_set
from panoforge.core.errors import DataError
from panoforge.core.numbers import counted
from panoforge.core.progress import Progress
from panoforge.core.run_layout import REPORT_FILE
from panoforge.core.storage.atomic import (
    sweep_temporaries,
    write_bytes_atomic,
    write_folder_atomic,
)
from panoforge.core.storage.identity import identity_sha256, point_latest
from panoforge.core.storage.lease import held
from panoforge.core.storage.runlog import hardware, record_stage, versions
from panoforge.core.storage.store import StoreLike
from panoforge.eval.config import EvalConfig
from panoforge.eval.dense.pictures import picture_files, rgb_file
from panoforge.eval.dense.predictors import Ceiling, ScoredMaps, dense_predictors
from panoforge.eval.dense.protocol import (
    DENSE_FORMAT,
    DENSE_SCHEMA_VERSION,
    dense_protocol,
    protocol_id,
)
from panoforge.eval.dense.report import write_dense_report
from panoforge.eval.dense.rows import ROWS_NAME, DenseRow, read_rows, rows_parquet, score_maps
from panoforge.eval.dense.scores import dense_scores, matrix_of, values_by_panorama
from panoforge.eval.dense.sources import DensePanoramas, open_dense, summed, void_said
from panoforge.eval.folders import RESULTS_FILE, Evaluation, evaluation_folder, read_finished
from panoforge.eval.maps import DenseSample, check_prediction
from panoforge.eval.predictors.roles import WeightsRecord
from panoforge.eval.scoring.metrics.places import WHOLE
from panoforge.eval.scoring.metrics.semantics import class_ious

VOID_NAME = "void.json"


@dataclass(frozen=True)
class _Job:
    """One dense evaluation: what is scored, by whom, and where its panoramas' folders go."""

    config: EvalConfig
    source: DensePanoramas
    predictors: Sequence[ScoredMaps]
    folder: Path
    fingerprint: str


def run_dense(config: EvalConfig, dataset: StoreLike, run: Path) -> Evaluation:
    """Score maps; the results go to a folder of their own below `run`.

    Args:
        config: The evaluation, of `task: dense`.
        dataset: A folder, a URL or a store; not read where the config names a benchmark.
        run: Where the results go.

    Raises:
        UserError: Whatever a user can put right; InUse if another process makes the same results.
    """
    source = open_dense(config, dataset)
    predictors, weights = dense_predictors(config, source, dataset)
    protocol = dense_protocol(config.dense)
    fingerprint = identity_sha256(
        {
            "protocol": protocol,
            "weights": (weights.kind, weights.sha256),
            "data": source.sha256,
            "predictors": [(scored.role, scored.predictor.name) for scored in predictors],
            "fit": (config.dense.fit_split, config.dense.fit_panoramas),
        }
    )
    asked = {
        "rows": fingerprint,
        "schema": DENSE_SCHEMA_VERSION,
        "split": config.split,
        "max_panoramas": config.max_panoramas,
    }
    folder = evaluation_folder(run, config, source.name, identity_sha256(asked))
    job = _Job(config, source, predictors, folder / "panoramas", fingerprint)
    with held(folder, "pano eval") as lease, record_stage(folder, "eval", config):
        rows, void = _score_all(job)
        results = _results(job, protocol, weights, rows, void)
        lease.check()
        write_bytes_atomic(
            folder / RESULTS_FILE,
            json.dumps(results, indent=1, ensure_ascii=False).encode() + b"\n",
        )
        write_dense_report(folder / REPORT_FILE, results, job.folder, config.report_panoramas)
    point_latest(folder)
    return Evaluation(folder, results)


def _score_all(job: _Job) -> tuple[list[DenseRow], dict[str, Any]]:
    """The rows of every panorama, those of finished ones from their files; and what is void."""
    keys = job.source.keys[: job.config.max_panoramas]
    sweep_temporaries(job.folder)
    todo = [
        index
        for index, key in enumerate(keys)
        if read_rows(job.folder / key / ROWS_NAME, key, job.fingerprint) is None
    ]
    with Progress("eval", total=len(keys), already=len(keys) - len(todo), unit="panoramas") as bar:
        for index in todo:
            sample = job.source[index]
            write_folder_atomic(job.folder / sample.key, _panorama_files(job, sample))
            bar.advance()
    rows: list[DenseRow] = []
    voids = []
    for key in keys:
        found = read_rows(job.folder / key / ROWS_NAME, key, job.fingerprint)
        if found is None:
            raise DataError(f"{job.folder / key} was scored and is not there: run it again")
        rows += found
        voids.append(read_finished(job.folder / key / VOID_NAME))
    pixels = sum(entry["pixels"] for entry in voids)
    return rows, {"pixels": pixels, "void": summed([entry["void"] for entry in voids])}


def _panorama_files(job: _Job, sample: DenseSample) -> dict[str, bytes]:
    """All that a panorama gives: rows, pictures, and what of it became void."""
    dense, classes = job.config.dense, class_set(job.config.dense.classes)
    rows: list[DenseRow] = []
    files: dict[str, bytes] = {
        "rgb.jpg": rgb_file(sample.rgb),
        **picture_files(sample.truth, "truth"),
    }
    for scored in job.predictors:
        found = scored.predictor.predict(sample)
        if not isinstance(scored.predictor, Ceiling):  # truth may be unknown somewhere
            check_prediction(found, sample.key, scored.predictor.name, sample.truth, classes)
        rows += score_maps(
            sample.key, scored.role, sample.truth, found, len(classes), dense.max_depth_m
        )
        if scored.role == "model":
            files.update(picture_files(found, "model"))
    void = {"pixels": int(np.prod(sample.rgb.shape[:2])), "void": dict(sample.void)}
    return {
        **files,
        VOID_NAME: json.dumps(void).encode(),
        ROWS_NAME: rows_parquet(rows, job.fingerprint),
    }


def _results(
    job: _Job,
    protocol: dict[str, object],
    weights: WeightsRecord,
    rows: Sequence[DenseRow],
    void: Mapping[str, Any],
) -> dict[str, Any]:
    config, keys = job.config, job.source.keys[: job.config.max_panoramas]
    scores = dense_scores(rows)
    if not any(entry["role"] == "model" for entry in scores):
        raise DataError(
            f"nothing was scored: no pixel of {counted(len(keys), 'panorama')} has a truth that"
            " counts. Is dense.max_depth_m too small, or every pixel void?"
        )
    classes = class_set(config.dense.classes)
    data = job.source.describe(len(keys))
    if "semantic" in config.dense.tasks and config.benchmark is None:
        data["void"] = void_said(void["void"], void["pixels"], config.dense.classes)
    return {
        "schema_version": DENSE_SCHEMA_VERSION,
        "format": DENSE_FORMAT,
        "protocol_id": protocol_id(protocol),
        "protocol": protocol,
        "model": {"predictor": config.dense.predictor, "name": job.predictors[0].predictor.name},
        "predictors": {scored.role: scored.predictor.name for scored in job.predictors},
        "weights": asdict(weights),
        "dataset": data,
        "versions": versions(),
        "hardware": hardware(),
        "scores": scores,
        "classes": _by_class(rows, classes.classes),
        "rows": [_record(row) for row in rows if _is_recorded(row)],
    }


def _is_recorded(row: DenseRow) -> bool:
    """Whether `pano compare` wants it."""
    return row.role == "model" and row.place == WHOLE and row.weighting == "pixels"


def _record(row: DenseRow) -> dict[str, Any]:
    """What results.json says of a panorama: a confusion matrix by its entries, other scores."""
    found: dict[str, Any] = {"key": row.key, "task": row.task, "variant": row.variant}
    if row.task == "semantic":
        at = np.flatnonzero(row.sums)
        entries = zip(at.tolist(), row.sums[at].tolist(), strict=True)
        return {**found, "size": len(row.sums), "confusion": [[k, n] for k, n in entries]}
    values = values_by_panorama(row)
    return {
        **found,
        "scores": {name: value if np.isfinite(value) else None for name, value in values.items()},
    }


def _by_class(rows: Sequence[DenseRow], names: Sequence[str]) -> list[dict[str, Any]]:
    """The model's IoU of each class that truth or prediction has, the largest first."""
    own = [row for row in rows if _is_recorded(row) and row.task == "semantic"]
    if not own:
        return []
    matrix = matrix_of(np.sum([row.sums for row in own], axis=0))
    ious, true = class_ious(matrix), matrix.sum(axis=1)
    order = np.argsort(-true, kind="stable")
    return [
        {"class": names[k], "iou": float(ious[k]), "share": float(true[k] / max(true.sum(), 1))}
        for k in order.tolist()
        if np.isfinite(ious[k])
    ]
