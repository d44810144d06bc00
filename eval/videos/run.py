"""Panoramic videos: an object is prompted once, and followed through the rest.

The prompt is in the first frame that shows it.

`run_videos(config, run)` is `pano eval` for benchmarks of kind `videos` and `tracks`. Every frame
is shown to the model as method `direct` shows a panorama, the video predictor carries the masks
(`panoforge.eval.predictors.batched_sam2`). Of `videos` the mask is the prompt. J, F, J&F and their
spherical forms are means over the annotated frames after each object's first, then over objects, as
DAVIS and SA-V average (`panoforge.eval.videos.objects`). For 360VOS the boxes and BFoVs around the
masks are scored too. Of `tracks` the box is the prompt and the boxes around the masks
are scored (`panoforge.eval.videos.boxes`). Scores come in two modes: `official`, as the toolkits
compute them (the seam is an edge), to stand beside published numbers, and `seam-aware`. Ground
truth at the model's resolution is scored on the same path: the ceiling.

Videos whose first frame alone has masks are followed for the benchmark's own server
(`panoforge.eval.videos.submission`).

A video's scores are one file, written when it is done, so an interrupted run goes on where it
stopped.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from panoforge.core.errors import DataError, UsageError
from panoforge.core.foreign.files import read_bytes
from panoforge.core.foreign.left_out import LeftOut
from panoforge.core.numbers import counted
from panoforge.core.progress import Progress
from panoforge.core.run_layout import REPORT_FILE
from panoforge.core.storage.atomic import storage_errors, write_bytes_atomic
from panoforge.core.storage.identity import identity_sha256, point_latest
from panoforge.core.storage.lease import held
from panoforge.core.storage.runlog import hardware, record_stage, versions
from panoforge.eval.benchmarks import get_benchmark, open_benchmark
from panoforge.eval.benchmarks.base import Benchmark, TrackItem, VideoItem
from panoforge.eval.config import EvalConfig
from panoforge.eval.folders import RESULTS_FILE, Evaluation, evaluation_folder
from panoforge.eval.panoramas import benchmark_root, check_keys, listing_digest
from panoforge.eval.predictors import Predictor
from panoforge.eval.predictors.roles import scored_predictors
from panoforge.eval.scoring.metrics.stats import bootstrap_mean
from panoforge.eval.videos.boxes import score_boxes
from panoforge.eval.videos.objects import SCORES, ObjectScores, ScoredVideo, score_video
from panoforge.eval.videos.report import write_video_report
from panoforge.eval.videos.submission import FOLDER as SUBMISSION
from panoforge.eval.videos.submission import is_submission, write_submission

VIDEO_PROTOCOL_VERSION = 3
TRACKED = ("360vos",)


def run_videos(config: EvalConfig, run: Path) -> Evaluation:
    """Score a video benchmark; the results go to a folder of their own below `run`."""
    benchmark = get_benchmark(str(config.benchmark))
    if config.predictor == "ground_truth":
        raise UsageError(
            f"benchmark={benchmark.name} scores videos, where ground truth is in every result as"
            " the ceiling: predictor: sam2 or empty"
        )
    if config.predictor == "file":
        raise UsageError(
            f"benchmark={benchmark.name} scores videos, and predictor: file has masks of panoramas:"
            " predictor: sam2 or empty"
        )
    root = benchmark_root(config)
    opened = open_benchmark(benchmark, root, config.split)
    videos = [item for item in opened if isinstance(item, VideoItem | TrackItem)]
    check_keys([video.key for video in videos], root)
    data_sha256 = listing_digest(benchmark.name, videos)
    scored = videos[: config.max_panoramas]
    predictors, weights = scored_predictors(config)
    protocol = _protocol(benchmark, config.model.image_size) | config.video.protocol(
        config.scan, config.merge
    )
    fingerprint = identity_sha256(
        {
            "protocol": protocol,
            "weights": (weights.kind, weights.sha256),
            "data": data_sha256,
            "predictor": config.predictor,
            "model_size": config.model.size,
        }
    )
    asked = {"rows": fingerprint, "split": config.split, "max_panoramas": config.max_panoramas}
    folder = evaluation_folder(run, config, benchmark.name, identity_sha256(asked))
    with held(folder, "pano eval") as lease, record_stage(folder, "eval", config):
        submits = is_submission(scored)
        if submits:
            masked = [video for video in scored if isinstance(video, VideoItem)]
            write_submission(masked, predictors[0].predictor, config.model.image_size, folder)
            rows, bare = list[ObjectScores](), LeftOut()
        else:
            rows, bare = _score_all(
                folder, scored, predictors[0].predictor, config, benchmark, fingerprint
            )
        summaries = summary(rows)
        if not submits:
            check_summaries(summaries, bare)
        results = {
            "schema_version": 1,
            "format": "panoforge-video-results",
            "protocol_id": f"vos-{identity_sha256(protocol)[:10]}",
            "protocol": protocol,
            "model": {
                "predictor": config.predictor,
                "size": config.model.size,
                "image_size": config.model.image_size,
            },
            "weights": asdict(weights),
            "dataset": {
                **_describe(benchmark, config, data_sha256, len(scored), len(videos)),
                "left_out": str(opened.left_out + bare) or None,
            },
            "versions": versions(),
            "hardware": hardware(),
            "submission": str(SUBMISSION) if submits else None,
            "scores": summaries,
            "labels": by_label(rows),
            "rows": [asdict(row) for row in rows],
        }
        lease.check()
        write_bytes_atomic(
            folder / RESULTS_FILE,
            json.dumps(results, indent=1, ensure_ascii=False).encode() + b"\n",
        )
        write_video_report(folder / REPORT_FILE, results)
    point_latest(folder)
    return Evaluation(folder, results)


def _score_all(
    folder: Path,
    videos: Sequence[VideoItem | TrackItem],
    predictor: Predictor,
    config: EvalConfig,
    benchmark: Benchmark,
    fingerprint: str,
) -> ScoredVideo:
    """The scores of every video, those of finished ones from their files."""
    rows, left_out = list[ObjectScores](), LeftOut()
    with Progress("eval", total=len(videos), unit="videos") as progress:
        for video in videos:
            path = folder / "videos" / f"{video.key}.json"
            found = _read(path, fingerprint)
            if found is None:
                found = _score(video, predictor, config.model.image_size, benchmark)
                _write(path, fingerprint, found)
            rows, left_out = [*rows, *found.rows], left_out + found.left_out
            progress.advance()
    return ScoredVideo(rows, left_out)


def _protocol(benchmark: Benchmark, image_size: int) -> dict[str, Any]:
    common = {"version": VIDEO_PROTOCOL_VERSION, "method": "direct", "image_size": image_size}
    if benchmark.kind == "tracks":
        return {
            **common,
            "prompt": "box of the first frame that has the object",
            "average": "frames, then sequences",
        }
    return {
        **common,
        "prompt": "mask of the first annotated frame",
        "average": "annotated frames after the first, then objects",
    }


def _score(
    item: VideoItem | TrackItem, predictor: Predictor, image_size: int, benchmark: Benchmark
) -> ScoredVideo:
    if isinstance(item, TrackItem):
        return score_boxes(item, predictor, image_size)
    rows, left_out = score_video(item, predictor, image_size, tracked=benchmark.name in TRACKED)
    named = [replace(row, label=item.names.get(row.object, "")) for row in rows]
    return ScoredVideo(named, left_out)


def _describe(
    benchmark: Benchmark, config: EvalConfig, sha256: str, videos: int, of: int
) -> dict[str, Any]:
    return {
        "name": benchmark.name,
        "manifest_sha256": sha256,
        "split": config.split,
        "videos": videos,
        "of": of,
        "licence": benchmark.licence,
        "warning": benchmark.warning,
    }


def check_summaries(found: Sequence[Mapping[str, Any]], left_out: LeftOut) -> None:
    """DataError if nothing was scored, or ground truth itself scores 0.

    `found` as `summary` gives it, `left_out` the objects that nothing could be scored of. Where
    ground truth scores 0 at the model's resolution, the score beside it would measure nothing.
    """
    if not found:
        raise DataError(
            "nothing was scored: no object is in an annotated frame before the last one"
            f" ({left_out or 'there are no objects'}). Are there masks of more than one frame?"
        )
    ceiling = next(entry for entry in found if entry["role"] == "ceiling")
    reached = [ceiling["j"], ceiling["tracking"].get("s_dual")]
    if not any(reached):
        raise DataError(
            "the ceiling is 0: at the model's resolution (a quarter of model.image_size) nothing is"
            f" left of the ground truth of the {counted(ceiling['objects'], 'object')}, so a score"
            " would say nothing. Raise model.image_size, or leave out objects that are smaller than"
            " a pixel there"
        )


def summary(rows: Sequence[ObjectScores]) -> list[dict[str, Any]]:
    """One entry per role.

    Means over objects, J&F, and its bootstrap interval over videos; None for what was not scored.
    """
    return list(_summaries(rows))


def _summaries(rows: Sequence[ObjectScores]) -> Iterator[dict[str, Any]]:
    for role in dict.fromkeys(row.role for row in rows):
        some = [row for row in rows if row.role == role]
        both = [
            ((row.j + row.f) / 2, row.video)
            for row in some
            if row.j is not None and row.f is not None
        ]
        mean = bootstrap_mean(*map(list, zip(*both, strict=True))) if both else None
        yield {
            "role": role,
            "objects": len(some),
            "videos": len({row.video for row in some}),
            "j_and_f": mean and mean.value,
            "j_and_f_low": mean and mean.low,
            "j_and_f_high": mean and mean.high,
            **{name: _mean([getattr(row, name) for row in some]) for name in SCORES},
            "tracking": _tracking(some),
        }


def by_label(rows: Sequence[ObjectScores]) -> list[dict[str, Any]]:
    """The model's mean J&F of the objects of each label, the most frequent first."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row.role == "model" and row.label and row.j is not None and row.f is not None:
            found.setdefault(row.label, []).append((row.j + row.f) / 2)
    ordered = sorted(found.items(), key=lambda entry: (-len(entry[1]), entry[0]))
    return [
        {"label": label, "objects": len(values), "j_and_f": float(np.mean(values))}
        for label, values in ordered
    ]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _tracking(rows: Sequence[ObjectScores]) -> dict[str, float]:
    """Means of the tracking scores over the objects that have them."""
    names = dict.fromkeys(name for row in rows for name in row.tracking)
    return {
        name: float(np.mean([row.tracking[name] for row in rows if name in row.tracking]))
        for name in names
    }


def _read(path: Path, fingerprint: str) -> ScoredVideo | None:
    """A finished video's scores, or None if they are not there or of something else."""
    if not path.exists():
        return None
    try:  # a damaged file, or one of another version: the video is scored again
        document = json.loads(read_bytes(path))
        if document["fingerprint"] != fingerprint:
            return None
        kinds = tuple((kind, count, first) for kind, count, first in document["left_out"])
        return ScoredVideo([ObjectScores(**row) for row in document["rows"]], LeftOut(kinds))
    except (DataError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _write(path: Path, fingerprint: str, found: ScoredVideo) -> None:
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "fingerprint": fingerprint,
        "rows": [asdict(row) for row in found.rows],
        "left_out": found.left_out.kinds,
    }
    write_bytes_atomic(path, json.dumps(document).encode())
