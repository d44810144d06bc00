"""Which parts of MTPano help? Trained from random weights on panoramas made here, scored on
held-out ones.

    python -m bench.learns_dense --out FOLDER               hours of one core, goes on where it was
    python -m bench.learns_dense --out FOLDER --quick       a tenth of the steps, one seed
    python -m bench.learns_dense --out FOLDER --toy         minutes: shows that it runs
    python -m bench.learns_dense --out FOLDER --supervision truth and teachers' depth, full model
    python -m bench.learns_dense --out FOLDER --only full,plain --seeds 0     part of the work
    python -m bench.learns_dense --out FOLDER --table       what is there as a table

**Protocol, fixed before the first run.** There are 400 rooms to train on and 80 held-out ones of
another seed (bench.dense_worlds: 256×128, exact depth, normals and categories). Classes are
NYU-40's, eight of which occur: all of ours, 161, were half of a step's seconds. `--also DATASET`
adds a published dataset with depth and normals, such as Infinigen rooms; a half of the panoramas is
of it then. All variants have one backbone, one recipe and the same panoramas in the same order;
they differ by one switch:

    full            MTPano's parts, all
    no_truncation   gradients of the other group's tasks come through the bridge
    no_auxiliary    no image gradient, distance to edges or point map
    no_mixers       no ERP token mixers
    no_azimuth      azimuth: none, the variant that is equivariant; not in the paper
    plain           three DPT heads on the backbone, nothing between
    plain_local     the same with azimuth: none. Added after the first seed: the backbone knows no
                    longitude, so heads that say normals in the world's axes cannot learn them.
                    This is the fair peer in normals
    mean            no network: of each row of the training panoramas the most frequent class, the
                    mean of log depth, the mean normal (of the camera's axes)

Steps, batch, size and rates: `RECIPE`. Weights are those of the last step: nothing is chosen on
held-out rooms. Scores pool all pixels of the held-out rooms by solid angle: mIoU over the classes
(higher is better), AbsRel of depth (lower), mean angle of normals (lower). Three seeds of weights
and order. An interval is the central 95 % of 2,000 bootstrap draws of seeds and rooms together;
differences are paired by seed and room. The expectation is MTPano's: full is best in all three.
`ok` says that full beats `mean` in all three, interval and all. Everything else is reported as it
comes, with no claim where an interval holds 0. Figures at the seam are AbsRel and degrees in the
eight columns around it, over those of all columns. What lies there may be harder: bench.dense_seam
tells that from the seam. `turned` is what a turn of the picture by a quarter changes in a room's
results, turned back: degrees of its normals, on average, and its depth, relatively.

The supervision rows train `full` on other depth; classes and normals are the truth's in all rows:

    full              exact depth: the same models as above
    merged_25 … 100   what 24 views say, each in a scale and shift of its own, merged
                      (bench.dense_supervision)
    random_view       one view a panorama, in a scale and shift of its own: alike at any noise
    solved_25 … 100   the views of merged_*, scales and shifts solved for by panoforge.label
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.common import machine, use_one_thread
from bench.dense_supervision import NOISY, said_of
from bench.dense_worlds import stage_rooms

TRAIN_SEED, HELD_OUT_SEED = 0, 1
ROOMS, HELD_OUT = 400, 80
SEEDS = (0, 1, 2)
DRAWS = 2000
SEAM_COLUMNS = 8
VARIANTS: dict[str, dict[str, Any]] = {
    "full": {},
    "no_truncation": {"truncation": False},
    "no_auxiliary": {"auxiliary": []},
    "no_mixers": {"mixers": False},
    "no_azimuth": {"azimuth": "none"},
    "plain": {"streams": False},
    "plain_local": {"streams": False, "azimuth": "none"},
}
RECIPE: dict[str, Any] = {
    "steps": 1000,
    "clips_per_step": 8,
    "clips_per_forward": 8,
    "optim": {
        "optimizer": "adamw",
        "lr": 5e-4,
        "encoder_lr": 5e-4,
        "weight_decay": 0.01,
        "schedule": "poly",
        "warmup_steps": 100,
        "grad_clip": 1.0,
    },
    "checkpoint_every": 250,
    "checkpoint_every_s": 900,
    "keep_last_k": 1,
    "log_every": 50,
    "torch_threads": 1,
    "loader_threads": 1,
}
MODEL: dict[str, Any] = {
    "height_px": 128,
    "classes": "nyu40",
    "channels": 16,
    "backbone": {"patch_px": 16, "width": 144, "depth": 6, "heads": 6},
}
METRICS = ("miou", "abs_rel", "normal_deg")
HIGHER = ("miou",)


@dataclass(frozen=True)
class Scored:
    """Held-out scores of one trained model, by room.

    `confusion` (rooms, K, K + 1). `depth` and `normal` (rooms, 2): sums of weighted errors, and of
    weights. `seam` (2, 2): the same of the seam's columns alone, depth and normals. `turned` (2,):
    degrees and relative depth that a quarter turn changes.
    """

    confusion: NDArray[np.float64]
    depth: NDArray[np.float64]
    normal: NDArray[np.float64]
    seam: NDArray[np.float64]
    turned: NDArray[np.float64]

    def metric(self, name: str, times: NDArray[np.int64] | None = None) -> float:
        """A pooled score, each room counted so many times (once)."""
        from panoforge.eval.scoring.metrics.semantics import semantic_scores

        times = np.ones(len(self.depth), np.int64) if times is None else times
        if name == "miou":
            return semantic_scores(np.tensordot(times, self.confusion, 1))["miou"]
        error, weight = times @ (self.depth if name == "abs_rel" else self.normal)
        return float(error / weight)

    def metrics(self) -> dict[str, float]:
        """The three pooled scores."""
        return {name: self.metric(name) for name in METRICS}

    def at_the_seam(self) -> tuple[float, float]:
        """AbsRel and degrees of the seam's columns over those of all columns."""
        whole = self.metrics()
        depth, normal = self.seam
        return (
            float(depth[0] / depth[1] / whole["abs_rel"]),
            float(normal[0] / normal[1] / whole["normal_deg"]),
        )

    def save(self, path: Path) -> None:
        np.savez(path, **vars(self))

    @staticmethod
    def load(path: Path) -> "Scored":
        with np.load(path) as found:
            return Scored(*(found[name] for name in Scored.__dataclass_fields__))


@dataclass(frozen=True)
class Said:
    """One panorama's predictions."""

    semantic: NDArray[np.uint8]
    depth_m: NDArray[np.float32]
    normal: NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--supervision", action="store_true")
    parser.add_argument("--only", help="variants, by comma")
    parser.add_argument("--seeds", help="seeds, by comma")
    parser.add_argument("--also", type=Path, help="a dataset to train on too")
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    use_one_thread()
    work = Work(args)
    if not args.table:
        work.run()
    print(work.table())
    print(json.dumps({**work.summary(), "machine": machine()}))


class Work:
    """What is to be trained and scored below one folder, and what is there."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.out, self.also = args.out, args.also
        size = "toy" if args.toy else "quick" if args.quick else "full"
        self.folder = self.out / size
        steps = {"toy": 6, "quick": RECIPE["steps"] // 10, "full": RECIPE["steps"]}[size]
        self.recipe = {**RECIPE, "steps": steps}
        if args.toy:
            self.recipe |= {"clips_per_step": 2, "clips_per_forward": 2}
            self.recipe["optim"] = {**RECIPE["optim"], "warmup_steps": 2}
        self.rooms, self.held_out = (16, 4) if args.toy else (ROOMS, HELD_OUT)
        known = supervision_rows() if args.supervision else dict.fromkeys(VARIANTS, "truth")
        chosen = args.only.split(",") if args.only else list(known)
        if strangers := set(chosen) - set(known):
            sys.exit(f"--only: {sorted(strangers)} are none of {list(known)}")
        self.rows = {name: known[name] for name in chosen}
        seeds = (0,) if size != "full" and not args.seeds else SEEDS
        self.seeds = tuple(map(int, args.seeds.split(","))) if args.seeds else seeds

    def run(self) -> None:
        """Train and score what is not yet scored."""
        for row in self.rows:
            for seed in self.seeds:
                if not self.scores(row, seed).exists():
                    self.train_and_score(row, seed)
        if not (self.folder / "mean.npz").exists():
            score_mean(self.dataset("truth"), self.settings("full", 0)).save(
                self.folder / "mean.npz"
            )

    def scores(self, row: str, seed: int) -> Path:
        """Where a model's scores lie once it is scored."""
        return self.folder / f"{row}-{seed}.npz"

    def settings(self, row: str, seed: int) -> Any:
        """The training config of a row."""
        from panoforge.train.config import TrainConfig

        supervision = self.rows.get(row, "truth")
        dense: dict[str, Any] = {"model": {**MODEL, **VARIANTS.get(row, {})}}
        if supervision == "random_view":
            dense |= {"depth_supervision": "random_view", "merged_steps": 0}
        if self.also:
            dense["mixture"] = {
                "rooms": {"weight": 1},
                "also": {"weight": 1, "dataset": str(self.also), "split": "train"},
            }
        return TrainConfig.model_validate({**self.recipe, "dense": dense, "seed": seed})

    def dataset(self, supervision: str) -> Path:
        """The published rooms whose training split has such depth; made where it is not there."""
        name = "truth" if supervision == "random_view" else supervision
        return make_dataset(self.folder / "data" / name, name, self.rooms, self.held_out)

    def train_and_score(self, row: str, seed: int) -> None:
        """One model, through pano train's own function, then its scores and its costs."""
        from panoforge.train.log import read_metrics
        from panoforge.train.run import run_training

        dataset, config = self.dataset(self.rows[row]), self.settings(row, seed)
        begin, run = time.process_time(), self.folder / "runs" / f"{row}-{seed}"
        weights = run_training(config, dataset / "train", run)
        cpu_s = time.process_time() - begin
        steps = read_metrics(run / "metrics.jsonl")
        facts = {
            "row": row,
            "seed": seed,
            "cpu_s_of_the_last_call": round(cpu_s, 1),
            "wall_s": round(sum(step["seconds"] for step in steps), 1),
            "parameters": json.loads((run / "train.json").read_text())["parameters"],
            "loss": steps[-1]["loss"],
        }
        score_model(weights, self.dataset("truth"), config).save(self.scores(row, seed))
        (self.folder / f"{row}-{seed}.json").write_text(json.dumps(facts))
        print(json.dumps({**facts, **Scored.load(self.scores(row, seed)).metrics()}), flush=True)

    def loaded(self) -> dict[str, list[Scored]]:
        """All scores that are there, by row; in the order of seeds."""
        found = {
            row: [Scored.load(p) for s in self.seeds if (p := self.scores(row, s)).exists()]
            for row in self.rows
        }
        if (self.folder / "mean.npz").exists():
            mean = Scored.load(self.folder / "mean.npz")
            found["mean"] = [mean] * max(1, *(len(scores) for scores in found.values()), 1)
        return {row: scores for row, scores in found.items() if scores}

    def table(self) -> str:
        """Scores of each row, and its difference to the first one, with intervals."""
        found = self.loaded()
        first = next(iter(found))
        head = "| row | seeds | mIoU | AbsRel | normals, ° | seam: depth, normals |"
        head += " turned: normals, depth | params |"
        lines = [head, "|" + "---|" * 8]
        for row, scores in found.items():
            cells = [interval(scores, metric) for metric in METRICS]
            seam = np.mean([score.at_the_seam() for score in scores], axis=0)
            turned = np.mean([score.turned for score in scores], axis=0)
            facts = self.folder / f"{row}-{self.seeds[0]}.json"
            size = json.loads(facts.read_text())["parameters"] if facts.exists() else 0
            seeds = len(scores) if row != "mean" else "–"
            lines.append(
                f"| {row} | {seeds} | {' | '.join(cells)} | {seam[0]:.2f}, {seam[1]:.2f} |"
                f" {turned[0]:.1f}°, {turned[1]:.1%} | {size / 1e6:.2f} M |"
            )
        lines += ["", f"| {first} minus | mIoU | AbsRel | normals, ° |", "|---|---|---|---|"]
        for row, scores in found.items():
            if row != first:
                cells = [interval(found[first], metric, scores) for metric in METRICS]
                lines.append(f"| {row} | {' | '.join(cells)} |")
        return "\n".join(lines)

    def summary(self) -> dict[str, Any]:
        """The JSON line."""
        found = self.loaded()
        ok = None
        if "full" in found and "mean" in found:
            ok = True
            for metric in METRICS:
                low, high = bounds(found["full"], metric, found["mean"])
                ok = ok and (low > 0 if metric in HIGHER else high < 0)
        return {
            "bench": "learns_dense",
            "ok": ok,
            "n": self.held_out,
            "seeds": {row: len(scores) for row, scores in found.items()},
            "scores": {
                row: {
                    metric: round(float(np.mean([s.metrics()[metric] for s in scores])), 4)
                    for metric in METRICS
                }
                for row, scores in found.items()
            },
        }


def supervision_rows() -> dict[str, str]:
    """The rows of the question about supervision, and the depth that each learns from."""
    return {"full": "truth", **{name: name for name in (*NOISY, "random_view")}}


def make_dataset(folder: Path, supervision: str, rooms: int, held_out: int) -> Path:
    """Rooms to train on and held-out ones, published: `folder`/train and `folder`/val."""
    from panoforge.core.shards.write import PackOptions, pack

    parts = {"train": (rooms, TRAIN_SEED), "val": (held_out, HELD_OUT_SEED)}
    for split, (count, seed) in parts.items():
        if not (folder / split / "manifest.json").exists():
            staged = folder / "staged" / split
            change = said_of(supervision) if split == "train" else None
            stage_rooms(staged, count, seed, change=change)
            pack(staged, folder / split, PackOptions(splits=((split, 1.0),)))
    return folder


def room_sums(said: Any, panorama: Any, classes: int) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """One room's confusion, sums of depth and of normals, and those of the seam's columns.

    `said` and `panorama` have `semantic` uint8 H×W, `depth_m` H×W and `normal` H×W×3.
    """
    from panoforge.core.geometry.sphere import row_area_sr
    from panoforge.eval.scoring.metrics.normals import angles_deg
    from panoforge.eval.scoring.metrics.semantics import confusion

    height, width = panorama.depth_m.shape
    rows = row_area_sr(width, height)
    weights = np.broadcast_to(rows[:, None], (height, width))
    table = confusion(panorama.semantic, said.semantic, classes, row_weight=rows)
    off = np.abs(said.depth_m - panorama.depth_m) / panorama.depth_m
    degrees = angles_deg(panorama.normal.reshape(-1, 3), said.normal.reshape(-1, 3))
    degrees = degrees.reshape(height, width)
    half = SEAM_COLUMNS // 2
    seam = np.r_[0:half, width - half : width]

    def sums(errors: NDArray, columns: Any = slice(None)) -> NDArray[np.float64]:
        w = weights[:, columns]
        return np.array([(errors[:, columns] * w).sum(), w.sum()])

    return table, sums(off), sums(degrees), np.stack([sums(off, seam), sums(degrees, seam)])


def gathered(
    parts: list[tuple[NDArray, NDArray, NDArray, NDArray]],
    turned: NDArray[np.float64] | None = None,
) -> Scored:
    """All rooms' sums."""
    tables, depth, normal, seam = zip(*parts, strict=True)
    sums = np.stack(tables), np.stack(depth), np.stack(normal), np.sum(seam, axis=0)
    return Scored(*sums, np.zeros(2) if turned is None else turned)


def quarter_turn(model: Any, room: Any, said: Said) -> NDArray[np.float64]:
    """Mean degrees of normals and mean relative depth that a turn by a quarter changes."""
    from panoforge.eval.scoring.metrics.normals import angles_deg
    from panoforge.train.data.sources.whole import about_vertical

    columns = room.depth_m.shape[1] // 4
    moved = predicted(model, np.roll(room.rgb, columns, axis=1))
    # What was ahead is a quarter further right now: back by as much.
    normal = np.roll(moved.normal, -columns, axis=1) @ about_vertical(90.0)
    depth_m = np.roll(moved.depth_m, -columns, axis=1)
    degrees = angles_deg(said.normal.reshape(-1, 3), normal.reshape(-1, 3))
    return np.array([degrees.mean(), (np.abs(depth_m - said.depth_m) / said.depth_m).mean()])


def held_out_rooms(dataset: Path, config: Any) -> list[Any]:
    """The held-out panoramas with their truth, as they are, in the order of the dataset."""
    from panoforge.core.categories.class_map import class_map
    from panoforge.core.shards.read import Dataset
    from panoforge.train.data.dense_source import PLAIN
    from panoforge.train.data.panoramas import PanoramaPlan, build_panorama

    data, model = Dataset.open(dataset / "val", "val"), config.dense.model
    still = PanoramaPlan(0, 0, 0.0, 0.0, 0.0, False, 0, 0.0, 0.0)
    classes = class_map(model.classes)
    return [
        build_panorama(data.read(i), still, PLAIN, model.tasks, classes, model.height_px)
        for i in range(len(data))
    ]


def score_model(weights: Path, dataset: Path, config: Any) -> Scored:
    """The held-out scores of a trained model, rebuilt from its file."""
    from panoforge.train.model.mtpano.build import load_dense

    model, parts, turned = load_dense(weights), [], []
    for room in held_out_rooms(dataset, config):
        said = predicted(model, room.rgb)
        parts.append(room_sums(said, room, model.classes))
        turned.append(quarter_turn(model, room, said))
    return gathered(parts, np.mean(turned, axis=0))


def predicted(model: Any, rgb: NDArray[np.float32]) -> Said:
    """The model's predictions of a picture H×W×3."""
    import torch

    with torch.no_grad():
        out = model(torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))[None])
    return Said(
        out.semantic[0].argmax(dim=0).byte().numpy(),
        out.depth_m[0].numpy(),
        out.normal[0].numpy().transpose(1, 2, 0),
    )


def score_mean(dataset: Path, config: Any) -> Scored:
    """The held-out scores of what is most frequent, or the mean, in each row of training rooms."""
    from panoforge.core.categories.class_sets import class_set
    from panoforge.core.shards.read import Dataset
    from panoforge.train.data.dense_source import PanoramaSource

    data = Dataset.open(dataset / "train", "train")
    source = PanoramaSource(data, config)
    classes, height = len(class_set(config.dense.model.classes)), config.dense.model.height_px
    counts, log_depth = np.zeros((height, classes)), np.zeros(height)
    normal = np.zeros((height, 3))
    for position in range(len(data)):  # one epoch, augmented as for the networks
        batch: Any = source.batch((position,))
        ids = batch.semantic[0].numpy()
        for row in range(height):
            counts[row] += np.bincount(ids[row][ids[row] < classes], minlength=classes)
        log_depth += np.log(batch.depth_m[0].numpy()).mean(axis=1)
        normal += batch.normal[0].numpy().mean(axis=2).T
    shape = (height, 2 * height)
    said = Said(
        np.broadcast_to(counts.argmax(axis=1).astype(np.uint8)[:, None], shape),
        np.broadcast_to(np.exp(log_depth / len(data)).astype(np.float32)[:, None], shape),
        np.broadcast_to(normal[:, None].astype(np.float32), (*shape, 3)),
    )
    rooms = held_out_rooms(dataset, config)
    return gathered([room_sums(said, room, classes) for room in rooms])


def draws(scores: list[Scored], metric: str, other: list[Scored] | None) -> NDArray[np.float64]:
    """Bootstrap draws of a score, or of the paired difference to `other`'s."""
    rng = np.random.default_rng(0)
    count, rooms = len(scores), len(scores[0].depth)
    found = np.empty(DRAWS)
    for draw in range(DRAWS):
        seeds = rng.integers(count, size=count)
        times = np.bincount(rng.integers(rooms, size=rooms), minlength=rooms)
        values = [
            scores[s].metric(metric, times)
            - (other[min(s, len(other) - 1)].metric(metric, times) if other else 0.0)
            for s in seeds
        ]
        found[draw] = np.mean(values)
    return found


def bounds(
    scores: list[Scored], metric: str, other: list[Scored] | None = None
) -> tuple[float, float]:
    """The central 95 % of the draws."""
    low, high = np.percentile(draws(scores, metric, other), [2.5, 97.5])
    return float(low), float(high)


def interval(scores: list[Scored], metric: str, other: list[Scored] | None = None) -> str:
    """A score, or a difference, with its interval."""
    middle = np.mean([score.metric(metric) for score in scores])
    if other:
        middle -= np.mean([score.metric(metric) for score in other[: len(scores)]])
    low, high = bounds(scores, metric, other)
    digits = 2 if metric == "normal_deg" else 3
    return f"{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


if __name__ == "__main__":
    main()
