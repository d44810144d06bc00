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
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import machine, use_one_thread
from bench.dense_scores import HIGHER, METRICS, Scored, bounds, interval, score_mean, score_model
from bench.dense_supervision import NOISY, said_of
from bench.dense_worlds import stage_rooms

TRAIN_SEED, HELD_OUT_SEED = 0, 1
ROOMS, HELD_OUT = 400, 80
SEEDS = (0, 1, 2)
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

    def loaded(self) -> dict[str, dict[int, Scored]]:
        """All scores that are there, by row and seed."""
        found = {
            row: {s: Scored.load(p) for s in self.seeds if (p := self.scores(row, s)).exists()}
            for row in self.rows
        }
        if (self.folder / "mean.npz").exists():
            found["mean"] = dict.fromkeys(self.seeds, Scored.load(self.folder / "mean.npz"))
        return {row: scores for row, scores in found.items() if scores}

    def table(self) -> str:
        """Scores of each row, and the first one's less them over common seeds, with intervals."""
        found = self.loaded()
        first = next(iter(found))
        head = "| row | seeds | mIoU | AbsRel | normals, ° | seam: depth, normals |"
        head += " turned: normals, depth | params |"
        lines = [head, "|" + "---|" * 8]
        for row, by_seed in found.items():
            scores = list(by_seed.values())
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
        lines += ["", f"| {first} minus | seeds | mIoU | AbsRel | normals, ° |", "|" + "---|" * 5]
        for row in found:
            if row != first and (pairs := common(found[first], found[row])):
                mine, theirs = zip(*pairs, strict=True)
                cells = [interval(mine, metric, theirs) for metric in METRICS]
                lines.append(f"| {row} | {len(pairs)} | {' | '.join(cells)} |")
        return "\n".join(lines)

    def summary(self) -> dict[str, Any]:
        """The JSON line."""
        found = self.loaded()
        ok = None
        if "full" in found and "mean" in found:
            ok = True
            full, mean = zip(*common(found["full"], found["mean"]), strict=True)
            for metric in METRICS:
                low, high = bounds(full, metric, mean)
                ok = ok and (low > 0 if metric in HIGHER else high < 0)
        return {
            "bench": "learns_dense",
            "ok": ok,
            "n": self.held_out,
            "seeds": {row: len(scores) for row, scores in found.items()},
            "scores": {
                row: {
                    metric: round(float(np.mean([s.metric(metric) for s in scores.values()])), 4)
                    for metric in METRICS
                }
                for row, scores in found.items()
            },
        }


def common(mine: dict[int, Scored], theirs: dict[int, Scored]) -> list[tuple[Scored, Scored]]:
    """Pairs of the same seed."""
    return [(mine[seed], theirs[seed]) for seed in mine if seed in theirs]


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


if __name__ == "__main__":
    main()
