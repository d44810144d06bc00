"""`pano eval`: score the configured methods on a dataset, and write results and report.

    run_evaluation(config, dataset, out) → the content of out/results.json

Panoramas are scored one by one (`panoforge.eval.evaluate`), those that an earlier call finished are
taken as they are. At the end: prompts.json, results.json, report.html. Benchmarks of videos have a
run of their own (`panoforge.eval.videos.run`).
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from panoforge.core.errors import DataError
from panoforge.core.progress import Progress
from panoforge.core.storage.atomic import (
    storage_errors,
    sweep_temporaries,
    write_bytes_atomic,
)
from panoforge.core.storage.runlog import hardware, versions
from panoforge.eval.benchmarks import get_benchmark
from panoforge.eval.config import EvalConfig
from panoforge.eval.evaluate import (
    PROMPTS_NAME,
    SALIENCY_NAME,
    EvalJob,
    Evaluator,
    evaluate_panoramas,
    fingerprint_of,
)
from panoforge.eval.panoramas import open_panoramas
from panoforge.eval.predictors.roles import WeightsRecord, contestants_of
from panoforge.eval.reports.page import write_evaluation_report
from panoforge.eval.scoring import salient
from panoforge.eval.scoring.results import ROWS_NAME, Row, read_rows
from panoforge.eval.scoring.scores import check_ceilings, group_scores, scores
from panoforge.eval.segmentation.promptfile import save_prompts
from panoforge.eval.videos.run import run_videos

RESULTS_SCHEMA_VERSION = 2


def run_evaluation(
    config: EvalConfig, dataset: Path, out: Path, evaluator: Evaluator | None = None
) -> dict[str, Any]:
    """Evaluate, in this process unless `evaluator` does it elsewhere; returns what is written to
    out/results.json. UserError for anything that a user can put right.
    """
    if config.benchmark is not None and get_benchmark(config.benchmark).kind != "images":
        return run_videos(config, out)
    source = open_panoramas(config, dataset)
    keys = source.keys[: config.max_panoramas]
    contestants, weights = contestants_of(config)
    job = EvalJob(config, dataset, out, fingerprint_of(config, weights, source.sha256))
    sweep_temporaries(job.folder)
    todo = [
        index
        for index, key in enumerate(keys)
        if read_rows(job.folder / key / ROWS_NAME, job.fingerprint) is None
    ]
    with Progress("eval", total=len(keys), unit="panoramas") as progress:
        for _ in range(len(keys) - len(todo)):
            progress.advance()
        if evaluator is not None and todo:
            evaluator(job, todo, progress.advance)
        else:
            evaluate_panoramas(job, todo, progress.advance, source, contestants)
    rows = [row for key in keys for row in _finished(job, key)]
    results = _results(config, source.describe(len(keys)), weights, rows)
    check_ceilings(results["scores"])
    if config.benchmark in salient.BENCHMARKS:
        results["saliency"] = salient.mean_scores(
            [entry for key in keys for entry in _read_json(job.folder / key / SALIENCY_NAME)]
        )
    _save_prompts(out / PROMPTS_NAME, job.folder, keys, config.protocol_id())
    write_bytes_atomic(
        out / "results.json", json.dumps(results, indent=1, ensure_ascii=False).encode() + b"\n"
    )
    write_evaluation_report(out / "report.html", results, job.folder, config.report_panoramas)
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
        "scores": scores(rows),
        "groups": group_scores(rows),
        "rows": [{**asdict(row), "flags": list(row.flags)} for row in rows],
    }


def _save_prompts(path: Path, folder: Path, keys: Sequence[str], protocol_id: str) -> None:
    """prompts.json from the panoramas' own, so that those of an earlier, interrupted run are in it
    too.
    """
    save_prompts(path, {key: _read_json(folder / key / PROMPTS_NAME) for key in keys}, protocol_id)


def _read_json(path: Path) -> Any:
    with storage_errors(path):
        return json.loads(path.read_bytes())
