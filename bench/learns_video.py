"""Which of PanoSAM2's parts help on 360° video? A small SAM2, videos made here, its protocol
written down before it was run.

    python -m bench.learns_video --pretrained FILE --out FOLDER [--quick]

FILE is the stand-in for SAM2's weights of bench.reproduce_sap (`pretrain_videos`), a SAM2.1 of 4 M
parameters. Its encoder is frozen. Videos are of bench.video_worlds: a walking, turning camera, half
of the solids move. Each row is fine-tuned from FILE for the same number of steps on the same clips:
8 whole frames, the first one's mask given, three seeds. `pano eval benchmark=held_out_video` then
follows every thing of other scenes from its first mask.

    vanilla       FILE as it is              whole frames, BFoV search, a scan of each frame
    plain         whole frames, plain SAM2   whole frames, BFoV search, with views that objects
                                             share, distractor-aware memory
    decoder       + convolutions that wrap and the previous mask
    distortion    + the distortion-guided loss
    memory        + long-short memory: all of PanoSAM2     the same, and SAM2's memory
    scans         trained on scan_of_video instead          a scan of each frame

**Expected** (arXiv 2604.07901): each part adds; +6.7 J&F on PanoVOS and +5.6 on 360VOTS in all.
BFoV search gains at the seam and the poles. **Scores**: J&F, and J and F on the sphere, of each
thing, a mean over seeds. Intervals are 95 % bootstrap intervals over videos; differences to `plain`
are paired.
By what crosses the seam, is beyond 45° of latitude, or is gone for a while. Nothing was tuned on
the held-out videos. Every stage is resumed where it was.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import machine, use_one_thread
from bench.learns import ENCODER_IS_FROZEN, SMALL, WEIGHTS_ARE_THERE
from bench.sap_recipes import IMAGE_PX, merged
from panoforge.eval.scoring.metrics.stats import bootstrap_mean, paired_test

SCAN = {"overlap": 0.0, "fov_deg": 90.0}  # fewest views: a scan of each frame costs V times a frame
# Ways to look at videos: a search, or another memory than the weights learnt with.
WAYS: dict[str, dict[str, Any]] = {
    "whole": {"search": "whole"},
    "bfov": {"search": "bfov"},
    "bfov_shared": {"search": "bfov", "share": 3.0},
    "scan": {"search": "scan"},
    "sam2": {"memory": "sam2"},
    "distractor_aware": {"memory": "distractor_aware"},
}
SPHERE = ("j_sphere", "f_sphere")
GROUPS = ("all", "seam", "pole", "gone", "rest")


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    videos: int
    held_out: int
    steps: int
    seeds: int


QUICK, FULL = Size(24, 6, 60, 1), Size(120, 24, 400, 3)


@dataclass(frozen=True)
class Row:
    """How a model is trained, None for not at all, and which of WAYS it looks at videos in."""

    name: str
    changes: Mapping[str, Any] | None
    searches: tuple[str, ...] = ("whole",)
    kind: str = "video"
    once: bool = False  # by the first seed alone


PARTS = {"decoder": True, "previous_mask": True}
DISTORTION = {"weight_min": 0.5, "weight_max": 2.0, "decay": 1.0}
ROWS = (
    Row("vanilla", None, ("whole", "bfov", "scan")),
    Row("plain", {}, ("whole", "bfov", "bfov_shared", "distractor_aware")),
    Row("decoder", {"model": {"panosam2": PARTS}}),
    Row("distortion", {"model": {"panosam2": PARTS}, "loss": {"distortion": DISTORTION}}),
    Row(
        "memory",
        {"model": {"panosam2": {**PARTS, "memory": True}}, "loss": {"distortion": DISTORTION}},
        ("whole", "bfov", "bfov_shared", "sam2", "distractor_aware"),
    ),
    # After one seed 37 points below whole frames, far from any interval: not run again.
    Row("scans", {}, ("scan",), kind="scan_of_video", once=True),
)


@dataclass
class Found:
    """Scores of every thing of the held-out videos by one way, one list a seed."""

    videos: list[str] = field(default_factory=list)
    objects: list[int] = field(default_factory=list)
    scores: dict[str, list[list[float]]] = field(default_factory=dict)

    def mean(self, score: str) -> np.ndarray:
        """(N,) means over seeds."""
        return np.mean(self.scores[score], axis=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--pretrained", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    use_one_thread()
    print(json.dumps(run(args.out, args.pretrained, QUICK if args.quick else FULL)))


def run(out: Path, pretrained: Path, size: Size) -> dict[str, Any]:
    """All rows below `out`; gives the JSON line and writes table.json and table.txt."""
    dataset = make_dataset(out, size)
    groups = groups_of(dataset)
    found: dict[str, Found] = {}
    for seed, row in order(size):
        weights = train(out, dataset, pretrained, size, row, seed)
        for search in row.searches:
            rows = evaluate(out / "eval" / row.name / f"{seed}-{search}", dataset, weights, search)
            add(found.setdefault(f"{row.name}, {search}", Found()), rows)
        table = tabulate(found, groups)
        (out / "table.json").write_text(json.dumps(table, indent=1))
        (out / "table.txt").write_text(as_text(table) + "\n")
    return {"bench": "learns_video", "size": vars(size), "table": table, "machine": machine()}


def order(size: Size) -> list[tuple[int, Row]]:
    """Every row by one seed, then by the next: stopped early, all rows have been compared."""
    return [
        (seed, row)
        for seed in range(size.seeds)
        for row in ROWS
        if seed == 0 or not (row.once or row.changes is None)
    ]


def make_dataset(out: Path, size: Size) -> Path:
    """The videos, unless they are there; whole scenes are held out."""
    from bench.video_worlds import stage_videos
    from panoforge.core.shards.write import PackOptions, pack

    dataset, staged = out / "dataset", out / "staged"
    if not (dataset / "manifest.json").exists():
        stage_videos(staged, size.videos + size.held_out, 0)
        share = size.held_out / (size.videos + size.held_out)
        pack(staged, dataset, PackOptions(splits=(("train", 1 - share), ("test", share))))
    return dataset


def recipe(pretrained: Path, size: Size, row: Row, seed: int) -> dict[str, Any]:
    """PanoSAM2's training as far as this size allows: the first frame's mask is given, the encoder
    is frozen."""
    whole = {"frames_are": "panorama", "turn_deg": 0.0}
    views = {"overlap": SCAN["overlap"], "fov_deg": SCAN["fov_deg"]}
    base = merged(
        SMALL,
        model={
            **WEIGHTS_ARE_THERE,
            "image_size": IMAGE_PX,
            "frozen": ["image_encoder"],
            "checkpoint": str(pretrained),
        },
        clip={
            "frames": 8,
            "max_objects": 2,
            "min_area_sr": 0.02,
            **(whole if row.kind == "video" else views),
        },
        prompt={"points": 0.0, "box": 0.0},
        # Views of panoramas alone are to be asked for: SAP's run without a mixture forgot pictures.
        mixture={
            "own" if row.kind == "video" else "panoramas-only": {"kind": row.kind, "weight": 1}
        },
        loss={"objectness": 1.0},
        optim={
            **ENCODER_IS_FROZEN,
            "lr": 1e-4,
            "warmup_steps": 10,
            "final_lr_ratio": 0.05,
            "weight_decay": 0.01,
        },
        steps=size.steps,
        clips_per_step=2,
        clips_per_forward=1,
        checkpoint_every=20,
        keep_last_k=1,
        log_every=20,
        torch_threads=1,
        loader_threads=1,
        seed=seed,
    )
    return merged(base, **dict(row.changes or {}))


def train(out: Path, dataset: Path, pretrained: Path, size: Size, row: Row, seed: int) -> Path:
    """`pano train`; FILE itself where a row trains nothing."""
    from panoforge.train.config import TrainConfig
    from panoforge.train.run import run_training

    if row.changes is None:
        return pretrained
    config = TrainConfig.model_validate(recipe(pretrained, size, row, seed))
    return run_training(config, dataset, out / "runs" / f"{row.name}-{seed}")


def evaluate(out: Path, dataset: Path, weights: Path, search: str) -> list[dict[str, Any]]:
    """`pano eval` on the held-out videos: a line for each thing and role."""
    from panoforge.eval.config import EvalConfig
    from panoforge.eval.run import run_evaluation

    asked: dict[str, Any] = {
        "benchmark": "held_out_video",
        "root": str(dataset),
        "split": "test",
        "model": {"size": "micro", "image_size": IMAGE_PX, "checkpoint": str(weights)},
        "video": WAYS[search],
        "device": "cpu",
    }
    if search == "scan":
        asked["scan"] = SCAN
    rows: list[dict[str, Any]] = run_evaluation(
        EvalConfig.model_validate(asked), dataset, out
    ).results["rows"]
    return rows


def add(found: Found, rows: Sequence[Mapping[str, Any]]) -> None:
    """One seed's scores of the model."""
    said = [row for row in rows if row["role"] == "model"]
    names = [row["video"] for row in said], [row["object"] for row in said]
    assert not found.videos or names == (found.videos, found.objects)
    found.videos, found.objects = names
    for score in ("j", "f", "j_sphere", "f_sphere"):
        found.scores.setdefault(score, []).append([row[score] for row in said])


def groups_of(dataset: Path) -> dict[tuple[str, int], set[str]]:
    """Which groups each thing of the held-out videos is in."""
    from panoforge.core.geometry.pixels import row_lat
    from panoforge.core.shards.read import Dataset

    opened = Dataset.open(dataset, "test")
    groups: dict[tuple[str, int], set[str]] = {}
    for key in opened.videos["video"].to_pylist():
        video = opened.video(key)
        maps = [opened.by_key(frame, ("instance",)).read("instance") for frame in video.frame_keys]
        height = maps[0].shape[0]
        lat_deg = np.degrees(row_lat(np.arange(height), height))
        for track in video.meta.instances:
            seen = [one == track.id for one in maps if (one == track.id).any()]
            own = set()
            if any(mask[:, 0].any() and mask[:, -1].any() for mask in seen):
                own.add("seam")
            rows = np.concatenate([np.nonzero(mask)[0] for mask in seen])
            if abs(float(lat_deg[rows].mean())) > 45:
                own.add("pole")
            if any(0 in track.pixels[at:] for at, count in enumerate(track.pixels) if count):
                own.add("gone")
            groups[key, track.id] = {"all", *(own or {"rest"})}
    return groups


def tabulate(
    found: Mapping[str, Found], groups: Mapping[tuple[str, int], set[str]]
) -> list[dict[str, Any]]:
    """A line for each way: J&F by group with its interval, and paired to plain, whole frames."""
    lines = []
    plain = found.get("plain, whole")
    for name, own in found.items():
        jf = (own.mean("j") + own.mean("f")) / 2
        line: dict[str, Any] = {"row": name, "seeds": len(own.scores["j"])}
        for group in GROUPS:
            some = np.array(
                [group in groups[at] for at in zip(own.videos, own.objects, strict=True)]
            )
            videos = [video for video, is_in in zip(own.videos, some, strict=True) if is_in]
            if videos:
                interval = bootstrap_mean(jf[some], videos)
                line[group] = [interval.value, interval.low, interval.high, len(videos)]
        for score in SPHERE:
            interval = bootstrap_mean(own.mean(score), own.videos)
            line[score] = [interval.value, interval.low, interval.high, len(own.videos)]
        if plain is not None and own is not plain:
            reference = (plain.mean("j") + plain.mean("f")) / 2
            tested = paired_test(reference, jf, own.videos)
            at = tested.difference
            line["to_plain"] = [at.value, at.low, at.high, tested.p_value]
        lines.append(line)
    return lines


def as_text(table: Sequence[Mapping[str, Any]]) -> str:
    """The table for people: J&F in per cent."""
    heads = ("row", *GROUPS, *SPHERE, "to plain")
    rows: list[tuple[str, ...]] = [heads]
    for line in table:
        cells = [f"{100 * line[g][0]:.1f}" if g in line else "–" for g in (*GROUPS, *SPHERE)]
        to = line.get("to_plain")
        told = "–" if not to else f"{100 * to[0]:+.1f}"
        if to and to[1] is not None:
            told += f" [{100 * to[1]:+.1f}, {100 * to[2]:+.1f}]"
        rows.append((str(line["row"]), *cells, told))
    widths = [max(len(row[k]) for row in rows) for k in range(len(heads))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


if __name__ == "__main__":
    main()
