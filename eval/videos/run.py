"""Panoramic videos: an object is prompted in the first frame that shows it, and followed through
the rest.

`run_videos(config, out)` is `pano eval` for benchmarks of kind `videos` and `tracks`. Every frame
is shown to the model as method `direct` shows a panorama, the video predictor carries the masks
(`panoforge.eval.predictors.batched_sam2`). Of `videos` the mask is the prompt, and J, F, J&F and
their spherical forms are means over the annotated frames after the first of each object, then over
objects, as DAVIS and SA-V average (`panoforge.eval.videos.objects`); for 360VOS the boxes and BFoVs
around the masks are scored too. Of `tracks` the box is the prompt and the boxes around the masks
are scored (`panoforge.eval.videos.boxes`). Scores come in two modes: `official`, as the toolkits
compute them (the seam is an edge), to stand beside published numbers, and `seam-aware`. Ground
truth at the model's resolution is scored on the same path: the ceiling.

A video's scores are one file, written when it is done, so an interrupted run goes on where it
stopped.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from panoforge.core.errors import UsageError
from panoforge.core.progress import Progress
from panoforge.core.storage.atomic import storage_errors, write_bytes_atomic
from panoforge.core.storage.runlog import hardware, versions
from panoforge.eval.benchmarks import get_benchmark, open_benchmark
from panoforge.eval.benchmarks.base import Benchmark, TrackItem, VideoItem
from panoforge.eval.config import EvalConfig
from panoforge.eval.panoramas import benchmark_root, check_keys, listing_digest
from panoforge.eval.predictors import Predictor
from panoforge.eval.predictors.roles import contestants_of
from panoforge.eval.scoring.metrics.stats import bootstrap_mean
from panoforge.eval.videos.boxes import score_boxes
from panoforge.eval.videos.objects import SCORES, ObjectScores, score_video
from panoforge.eval.videos.report import write_video_report

VIDEO_PROTOCOL_VERSION = 2
TRACKED = ("360vos",)


def run_videos(config: EvalConfig, out: Path) -> dict[str, Any]:
    """Score a video benchmark; returns what is written to out/results.json."""
    benchmark = get_benchmark(str(config.benchmark))
    if config.predictor == "ground_truth":
        raise UsageError(
            f"benchmark={benchmark.name} scores videos, where ground truth is in every result as"
            " the ceiling: predictor: sam2 or empty"
        )
    root = benchmark_root(config)
    videos = [
        item
        for item in open_benchmark(benchmark, root, config.split)
        if isinstance(item, VideoItem | TrackItem)
    ]
    check_keys([video.key for video in videos], root)
    data_sha256 = listing_digest(benchmark.name, videos)
    scored = videos[: config.max_panoramas]
    contestants, weights = contestants_of(config)
    protocol = _protocol(benchmark, config.model.image_size)
    asked = {
        "protocol": protocol,
        "weights": asdict(weights),
        "data": data_sha256,
        "predictor": config.predictor,
    }
    fingerprint = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    rows: list[ObjectScores] = []
    with Progress("eval", total=len(scored), unit="videos") as progress:
        for video in scored:
            path = out / "videos" / f"{video.key}.json"
            found = _read(path, fingerprint)
            if found is None:
                found = _score(video, contestants[0].predictor, config.model.image_size, benchmark)
                _write(path, fingerprint, found)
            rows += found
            progress.advance()
    protocol_id = (
        "vos-" + hashlib.sha256(json.dumps(protocol, sort_keys=True).encode()).hexdigest()[:10]
    )
    results = {
        "schema_version": 1,
        "format": "panoforge-video-results",
        "protocol_id": protocol_id,
        "protocol": protocol,
        "model": {
            "predictor": config.predictor,
            "size": config.model.size,
            "image_size": config.model.image_size,
        },
        "weights": asdict(weights),
        "dataset": _describe(benchmark, config, data_sha256, len(scored), len(videos)),
        "versions": versions(),
        "hardware": hardware(),
        "scores": summary(rows),
        "rows": [asdict(row) for row in rows],
    }
    write_bytes_atomic(
        out / "results.json", json.dumps(results, indent=1, ensure_ascii=False).encode() + b"\n"
    )
    write_video_report(out / "report.html", results)
    return results


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
) -> list[ObjectScores]:
    if isinstance(item, TrackItem):
        return score_boxes(item, predictor, image_size)
    return score_video(item, predictor, image_size, tracked=benchmark.name in TRACKED)


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


def summary(rows: Sequence[ObjectScores]) -> list[dict[str, Any]]:
    """One entry per role: means over objects, J&F, and its bootstrap interval over videos; None for
    what was not scored.
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


def _read(path: Path, fingerprint: str) -> list[ObjectScores] | None:
    """A finished video's scores, or None if they are not there or of something else."""
    if not path.exists():
        return None
    with storage_errors(path):
        document = json.loads(path.read_bytes())
    return (
        [ObjectScores(**row) for row in document["rows"]]
        if document.get("fingerprint") == fingerprint
        else None
    )


def _write(path: Path, fingerprint: str, rows: Sequence[ObjectScores]) -> None:
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomic(
        path,
        json.dumps({"fingerprint": fingerprint, "rows": [asdict(row) for row in rows]}).encode(),
    )
