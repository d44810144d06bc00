"""Panoramic videos: the mask of an object in its first annotated frame is the prompt, its masks in all later ones are scored.

`run_videos(config, out)` is `pano eval` for benchmarks of kind `videos`. Every frame is shown to the model as method `direct`
shows a panorama, the video predictor carries the masks (`eval.propagate`), and J, F, J&F and their spherical forms are means over
the annotated frames after the first of each object, then over objects, as DAVIS and SA-V average. For 360VOTS the boxes and BFoVs
around the masks are scored too, as its tracking half is (`eval.tracks`). Scores come in two modes:
`official`, as the toolkits compute them (the seam is an edge), to stand beside published numbers, and `seam-aware`. Ground truth
at the model's resolution, its frames shrunk and its masks enlarged again, is scored on the same path: the ceiling.

A video's scores are one file, written when it is done, so an interrupted run goes on where it stopped.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, overload

import cv2
import numpy as np
from numpy.typing import NDArray

from eval.benchmarks import Benchmark, VideoItem, get_benchmark, open_benchmark
from eval.config import EvalConfig
from eval.metrics import jaccard
from eval.metrics.boundary import boundary_f
from eval.metrics.sphere import boundary_f_sphere, jaccard_sphere
from eval.metrics.stats import bootstrap_mean
from eval.predictors import FrameInput, ObjectPrompt, Predictor
from eval.source import benchmark_root, check_keys, listing_digest
from eval.tracks import Track
from pano.errors import DataError, UsageError
from pano.progress import Progress
from pano.runlog import hardware, versions
from pano.storage import storage_errors, write_bytes_atomic
from train.sources.files import read_image

VIDEO_PROTOCOL_VERSION = 2
TRACKED = ("360vos",)
SCORES = ("j", "f", "j_seam", "f_seam", "j_sphere", "f_sphere")

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class ObjectScores:
    """One object of one video under one role: means over `frames` scored frames, each in [0, 1]."""

    video: str
    object: int
    role: str
    frames: int
    j: float
    f: float
    j_seam: float
    f_seam: float
    j_sphere: float
    f_sphere: float
    tracking: dict[str, float] = field(default_factory=dict)  # of 360VOTS, `eval.tracks`


class _Frames(Sequence[FrameInput]):
    """The images of a video as frames, read and shrunk when they are asked for: a video at 4K would be gigabytes."""

    def __init__(self, images: Sequence[Path], size_px: int) -> None:
        self.images, self.size_px = images, size_px

    def __len__(self) -> int:
        return len(self.images)

    @overload
    def __getitem__(self, index: int) -> FrameInput: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[FrameInput]: ...
    def __getitem__(self, index: int | slice) -> FrameInput | Sequence[FrameInput]:
        if isinstance(index, slice):
            return _Frames(self.images[index], self.size_px)
        image = cv2.resize(read_image(self.images[index]), (self.size_px, self.size_px), interpolation=cv2.INTER_AREA)
        return FrameInput(image, np.zeros(image.shape[:2], np.uint16))


def run_videos(config: EvalConfig, out: Path) -> dict[str, Any]:
    """Score a video benchmark; returns what is written to out/results.json."""
    from eval.run import contestants_of

    benchmark = get_benchmark(str(config.benchmark))
    if config.predictor == "ground_truth":
        raise UsageError(f"benchmark={benchmark.name} scores videos, where ground truth is in every result as the ceiling: "
                         "predictor: sam2 or empty")
    root = benchmark_root(config)
    videos = [item for item in open_benchmark(benchmark, root, config.split) if isinstance(item, VideoItem)]
    check_keys([video.key for video in videos], root)
    data_sha256 = listing_digest(benchmark.name, videos)
    scored = videos[: config.max_panoramas]
    contestants, weights = contestants_of(config)
    protocol = {"version": VIDEO_PROTOCOL_VERSION, "prompt": "mask of the first annotated frame", "method": "direct",
                "image_size": config.model.image_size, "average": "annotated frames after the first, then objects"}
    asked = {"protocol": protocol, "weights": asdict(weights), "data": data_sha256, "predictor": config.predictor}
    fingerprint = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    rows: list[ObjectScores] = []
    with Progress("eval", total=len(scored), unit="videos") as progress:
        for video in scored:
            path = out / "videos" / f"{video.key}.json"
            found = _read(path, fingerprint)
            if found is None:
                found = score_video(video, contestants[0].predictor, config.model.image_size, tracked=benchmark.name in TRACKED)
                _write(path, fingerprint, found)
            rows += found
            progress.advance()
    protocol_id = "vos-" + hashlib.sha256(json.dumps(protocol, sort_keys=True).encode()).hexdigest()[:10]
    results = {
        "schema_version": 1, "format": "panoforge-video-results", "protocol_id": protocol_id, "protocol": protocol,
        "model": {"predictor": config.predictor, "size": config.model.size, "image_size": config.model.image_size},
        "weights": asdict(weights), "dataset": _describe(benchmark, config, data_sha256, len(scored), len(videos)),
        "versions": versions(), "hardware": hardware(), "scores": summary(rows), "rows": [asdict(row) for row in rows],
    }
    write_bytes_atomic(out / "results.json", json.dumps(results, indent=1, ensure_ascii=False).encode() + b"\n")
    from eval.video_report import write_video_report

    write_video_report(out / "report.html", results)
    return results


def _describe(benchmark: Benchmark, config: EvalConfig, sha256: str, videos: int, of: int) -> dict[str, Any]:
    return {"name": benchmark.name, "manifest_sha256": sha256, "split": config.split, "videos": videos, "of": of,
            "licence": benchmark.licence, "warning": benchmark.warning}


def score_video(video: VideoItem, predictor: Predictor, image_size: int, *, tracked: bool = False) -> list[ObjectScores]:
    """The scores of every object of a video, of the model and of the ceiling; with `tracked` those of their boxes too."""
    first = first_masks(video)
    ids = sorted(first)
    frames = _Frames(video.images, image_size)
    prompts = [ObjectPrompt(id_, {}, {first[id_][0]: shrink(first[id_][1], image_size) * 20 - 10}) for id_ in ids]
    found: dict[tuple[str, int], list[tuple[float, ...]]] = {}
    tracks: dict[tuple[str, int], Track] = {}
    for said in predictor.predict(frames, prompts):
        read = video.masks[said.frame]
        true = read() if read is not None else {}
        shape = next((mask.shape for mask in true.values()), None)
        if read is None or (shape is None and not true):
            shape = read_image(video.images[said.frame]).shape[:2] if read is not None else None
        if shape is None:
            continue
        logits = dict(zip(said.objects.tolist(), said.logits.cpu().numpy(), strict=True))
        for k, id_ in enumerate(ids):
            if said.frame <= first[id_][0]:
                continue
            mask = true.get(id_, np.zeros(shape, bool))
            predicted = enlarge(logits[k], shape) if k in logits else np.zeros(shape, bool)
            native = enlarge(shrink(mask, image_size // 4) * 20 - 10, shape)
            for role, answer in (("model", predicted), ("ceiling", native)):
                found.setdefault((role, id_), []).append(_scores(answer, mask))
                if tracked:
                    tracks.setdefault((role, id_), Track(shape[1], shape[0])).add(answer, mask)
    return [ObjectScores(video.key, id_, role, len(values), *np.mean(values, axis=0).tolist(),
                         tracking=tracks[role, id_].scores() if tracked else {})
            for (role, id_), values in found.items()]


def first_masks(video: VideoItem) -> dict[int, tuple[int, Bools]]:
    """For each object the first annotated frame that has it, and its mask there."""
    first: dict[int, tuple[int, Bools]] = {}
    for t, read in enumerate(video.masks):
        for id_, mask in (read() if read is not None else {}).items():
            if mask.any():
                first.setdefault(id_, (t, mask))
    if not first:
        raise DataError(f"{video.key} has no object in any annotated frame, so there is nothing to follow")
    return first


def shrink(mask: Bools, size_px: int) -> NDArray[np.float32]:
    """A mask as shares of covered area, size_px²."""
    return cv2.resize(mask.astype(np.float32), (size_px, size_px), interpolation=cv2.INTER_AREA)


def enlarge(logits: NDArray[np.float32], shape: tuple[int, int]) -> Bools:
    """Logits over a whole frame → its mask, H×W."""
    return cv2.resize(logits, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR) > 0


def _scores(predicted: Bools, true: Bools) -> tuple[float, ...]:
    j = jaccard(predicted, true)
    return (j, boundary_f(predicted, true, "official"), j, boundary_f(predicted, true, "seam-aware"),
            jaccard_sphere(predicted, true), boundary_f_sphere(predicted, true))


def summary(rows: Sequence[ObjectScores]) -> list[dict[str, Any]]:
    """One entry per role: means over objects, J&F, and its bootstrap interval over videos."""
    return list(_summaries(rows))


def _summaries(rows: Sequence[ObjectScores]) -> Iterator[dict[str, Any]]:
    for role in dict.fromkeys(row.role for row in rows):
        some = [row for row in rows if row.role == role]
        both = bootstrap_mean([(row.j + row.f) / 2 for row in some], [row.video for row in some])
        yield {"role": role, "objects": len(some), "videos": len({row.video for row in some}), "j_and_f": both.value,
               "j_and_f_low": both.low, "j_and_f_high": both.high,
               **{name: float(np.mean([getattr(row, name) for row in some])) for name in SCORES}, "tracking": _tracking(some)}


def _tracking(rows: Sequence[ObjectScores]) -> dict[str, float]:
    """Means of the tracking scores over the objects that have them."""
    names = dict.fromkeys(name for row in rows for name in row.tracking)
    return {name: float(np.mean([row.tracking[name] for row in rows if name in row.tracking])) for name in names}


def _read(path: Path, fingerprint: str) -> list[ObjectScores] | None:
    """A finished video's scores, or None if they are not there or of something else."""
    if not path.exists():
        return None
    with storage_errors(path):
        document = json.loads(path.read_bytes())
    return [ObjectScores(**row) for row in document["rows"]] if document.get("fingerprint") == fingerprint else None


def _write(path: Path, fingerprint: str, rows: Sequence[ObjectScores]) -> None:
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomic(path, json.dumps({"fingerprint": fingerprint, "rows": [asdict(row) for row in rows]}).encode())
