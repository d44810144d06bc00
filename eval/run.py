"""`pano eval`: score the configured methods on a dataset, and write results and report.

    run_evaluation(config, dataset, run) → Evaluation(folder, results)

Panoramas are scored one by one (`panoforge.eval.evaluate`); those that an earlier call finished are
taken as they are. At the end the evaluation's folder (`panoforge.eval.folders`) has prompts.json,
results.json and report.html. Benchmarks of videos have a run of their own
(`panoforge.eval.videos.run`), and so have maps of every pixel (`panoforge.eval.dense.run`).
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from panoforge.core.errors import DataError, UsageError
from panoforge.core.foreign.left_out import NOTHING, LeftOut
from panoforge.core.progress import Progress
from panoforge.core.run_layout import REPORT_FILE
from panoforge.core.storage.atomic import (
    sweep_temporaries,
    write_bytes_atomic,
)
from panoforge.core.storage.identity import identity_sha256, point_latest
from panoforge.core.storage.lease import held
from panoforge.core.storage.runlog import hardware, record_stage, versions
from panoforge.core.storage.store import Store, StoreLike
from panoforge.eval.benchmarks import get_benchmark
from panoforge.eval.config import EvalConfig, VideoConfig
from panoforge.eval.dense.run import run_dense
from panoforge.eval.evaluate import (
    LEFT_OUT_NAME,
    PROMPTS_NAME,
    SALIENCY_NAME,
    EvalJob,
    Evaluator,
    evaluate_panoramas,
    fingerprint_of,
)
from panoforge.eval.folders import RESULTS_FILE, Evaluation, evaluation_folder, read_finished
from panoforge.eval.panoramas import ScoredPanoramas, open_panoramas
from panoforge.eval.predictors.roles import ScoredPredictor, WeightsRecord, scored_predictors
from panoforge.eval.reports.page import write_evaluation_report
from panoforge.eval.reports.sap import SAP_TABLE_FILE, as_latex, our_lines
from panoforge.eval.scoring import salient
from panoforge.eval.scoring.results import ROWS_NAME, Row, read_rows
from panoforge.eval.scoring.scores import check_scores, group_scores, scores
from panoforge.eval.segmentation.promptfile import save_prompts
from panoforge.eval.videos.run import run_videos

RESULTS_SCHEMA_VERSION = 2


def run_evaluation(
    config: EvalConfig, dataset: StoreLike, run: Path, evaluator: Evaluator | None = None
) -> Evaluation:
    """Evaluate what a config asks for.

    Args:
        config: the evaluation.
        dataset: a folder, a URL or a store; not read where the config names a benchmark.
        run: the results go to a folder of their own below it (`panoforge.eval.folders`).
        evaluator: who scores the panoramas; by default this process.

    Raises:
        UserError: whatever a user can put right; InUse if another process makes the same results.
    """
    if config.task == "dense":
        return run_dense(config, dataset, run)
    if config.benchmark is not None and get_benchmark(config.benchmark).kind != "images":
        return run_videos(config, run)
    if config.video != VideoConfig():
        raise UsageError(
            f"video.{next(iter(config.video.model_fields_set))} is set, and no video is scored:"
            " leave it out, or set benchmark to one of videos"
        )
    source = open_panoramas(config, dataset)
    predictors, weights = scored_predictors(config)
    fingerprint = fingerprint_of(config, weights, source.sha256)
    asked = {
        "rows": fingerprint,
        "schema": RESULTS_SCHEMA_VERSION,
        "split": config.split,
        "max_panoramas": config.max_panoramas,
    }
    folder = evaluation_folder(run, config, source.name, identity_sha256(asked))
    where = dataset.absolute if isinstance(dataset, Store) else dataset
    job = EvalJob(config, where, folder, fingerprint)
    with held(folder, "pano eval") as lease, record_stage(folder, "eval", config):
        results = _evaluate(job, source, predictors, weights, evaluator)
        lease.check()
        write_bytes_atomic(
            folder / RESULTS_FILE,
            json.dumps(results, indent=1, ensure_ascii=False).encode() + b"\n",
        )
        if results["corrected"]:
            write_bytes_atomic(folder / SAP_TABLE_FILE, as_latex(results).encode() + b"\n")
        write_evaluation_report(folder / REPORT_FILE, results, job.folder, config.report_panoramas)
    point_latest(folder)
    return Evaluation(folder, results)


def _evaluate(
    job: EvalJob,
    source: ScoredPanoramas,
    predictors: Sequence[ScoredPredictor],
    weights: WeightsRecord,
    evaluator: Evaluator | None,
) -> dict[str, Any]:
    """Score what is not scored yet, and put all of it together: the content of results.json."""
    config, keys = job.config, source.keys[: job.config.max_panoramas]
    sweep_temporaries(job.folder)
    todo = [
        index
        for index, key in enumerate(keys)
        if read_rows(job.folder / key / ROWS_NAME, job.fingerprint) is None
    ]
    already = len(keys) - len(todo)
    with Progress("eval", total=len(keys), already=already, unit="panoramas") as progress:
        if evaluator is not None and todo:
            evaluator(job, todo, progress.advance)
        else:
            evaluate_panoramas(job, todo, progress.advance, source, predictors)
    rows = [row for key in keys for row in _finished(job, key)]
    unseen = sum((_unseen(job.folder / key) for key in keys), NOTHING)
    results = _results(config, source.describe(len(keys), unseen), weights, rows)
    check_scores(results["scores"])
    if results["corrected"]:
        results["sap_table"] = [line.record() for line in our_lines(results)]
    if config.benchmark in salient.BENCHMARKS:
        results["saliency"] = salient.mean_scores(
            [entry for key in keys for entry in read_finished(job.folder / key / SALIENCY_NAME)]
        )
    _save_prompts(job.out / PROMPTS_NAME, job.folder, keys, config.protocol_id())
    return results


def _finished(job: EvalJob, key: str) -> list[Row]:
    """The rows of a panorama that has been evaluated."""
    rows = read_rows(job.folder / key / ROWS_NAME, job.fingerprint)
    if rows is None:
        raise DataError(
            f"{job.folder / key} was evaluated and is not there: all workers must write to one"
            " storage"
        )
    return rows


def _results(
    config: EvalConfig, dataset: dict[str, Any], weights: WeightsRecord, rows: Sequence[Row]
) -> dict[str, Any]:
    return {
        "schema_version": RESULTS_SCHEMA_VERSION,
        "format": "panoforge-results",
        "protocol_id": config.protocol_id(),
        "protocol": config.protocol(),
        "model": {
            "predictor": config.predictor,
            "size": config.model.size,
            "image_size": config.model.image_size,
        },
        "weights": asdict(weights),
        "dataset": dataset,
        "versions": versions(),
        "hardware": hardware(),
        **_of_rows([row for row in rows if not row.corrected]),
        "corrected": [
            {"clicks": clicks, **_of_rows([row for row in rows if row.corrected == clicks])}
            for clicks in config.prompts.corrected
        ],
    }


def _of_rows(rows: Sequence[Row]) -> dict[str, Any]:
    return {
        "scores": scores(rows),
        "groups": group_scores(rows),
        "rows": [{**asdict(row), "flags": list(row.flags)} for row in rows],
    }


def _unseen(folder: Path) -> LeftOut:
    """The objects of a panorama that have no pixel in its label map."""
    path = folder / LEFT_OUT_NAME
    if not path.exists():
        return NOTHING
    return read_finished(path, _left_out)


def _left_out(data: bytes) -> LeftOut:
    return LeftOut(tuple((str(kind), int(n), str(first)) for kind, n, first in json.loads(data)))


def _save_prompts(path: Path, folder: Path, keys: Sequence[str], protocol_id: str) -> None:
    """Write prompts.json from the panoramas' own.

    So those of an earlier, interrupted run are in it too.
    """
    save_prompts(
        path, {key: read_finished(folder / key / PROMPTS_NAME) for key in keys}, protocol_id
    )
