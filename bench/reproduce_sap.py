"""Does SAP's method gain what SAP says it does? The claim at a size for one core, its protocol
written down before it was run.

    python -m bench.reproduce_sap --size quick --out FOLDER     an hour or two of one core
    python -m bench.reproduce_sap --size medium --out FOLDER    three to four hours of one core
    python -m bench.reproduce_sap --size full --out FOLDER      a night of one core
    python -m bench.reproduce_sap --size gpu --out FOLDER       ten times that, on a GPU

**Claim** (SAP, arXiv 2603.12759). A SAM2 that knows perspective pictures and videos is shown a
panorama as a scan. Fine-tuned on scans, mixed with perspective data, it gains 5 points of mIoU or
more by one click, zero-shot. The 95 % interval of the difference excludes 0.

**Order expected.** Scan above patches and direct; mixed above panoramas only (on perspective videos
and on the second world); overlap above none; fine-tuned scan above vanilla scan.

1. `pretrain`: a SAM2.1 of 4 M parameters (`micro`) learns click → mask on perspective pictures,
   then perspective videos, of 3 frames and of 8 (bench.solid_worlds, world P). Objects leave and
   come back, so absence is learnt before any panorama: the videos are shown once more for it.
   `pretrained.json` says how well, on videos nobody trained on. Its encoder is frozen from then on.
2. `vanilla`: that model on held-out panoramas of world A and on world B.
3. One fine-tuned model for each row of bench.sap_recipes.ROWS, all from the same weights, for the
   same number of steps. The row `perspective_only` is the control for more training. `--causes`
   adds rows that differ from `scan_mixed` in one thing each, for when it does not gain.
4. The table: 1 and 3 clicks, by size, at seam and poles, for both worlds. Intervals are 95 %
   bootstrap intervals over panoramas; differences to the vanilla scan are paired, tested by
   flipping panoramas. Perspective videos that nobody trained on measure what was forgotten.

**Held out.** World A: the scenes of the split `val`. World B: all of it; nothing was trained,
chosen or tuned on it. Videos: another seed. **Tuned.** Nothing on any panorama; rates and steps are
fixed in bench.sap_recipes before the first run. World C: rooms of Infinigen that
this project rendered, with `--rooms DATASET`; all of it is held out, and it was added after A and B
had been scored. The stand-in's last stage was added after the
held-out videos had shown that it called 81 % of what is absent present (`pretrained.json`). A row
that comes out otherwise than expected is reported as it is; a recipe that is changed then is a new
row with its reason.

**Scored by** one click for each instance at its most interior point, and further ones where the
answer is most wrong. Merged by the mean of one cycle; a second table has mean and maximum, one and
two cycles. It also has the scan of the views near the click alone, which show the thing. That was
added when the first rows suggested that the judgement of absence makes the gain. Every stage is
resumed where it was. FOLDER keeps data, checkpoints, logs, results and table.json.
"""

import argparse
import hashlib
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from bench.common import machine, use_one_thread
from bench.sap_recipes import (
    ALL_METHODS,
    CAUSES,
    IMAGE_PX,
    LOWERED,
    ROWS,
    SEED,
    SIZES,
    Row,
    Size,
    absence_recipe,
    image_recipe,
    short_recipe,
    tune_recipe,
    video_recipe,
)
from panoforge.eval.config import MergeRule

WORLDS, ROOMS = ("a", "b"), "c"
NEAR = "near"  # only the views that see the click: the thing is there in all of them
HELD_OUT_SEED = 1000  # of perspective videos
# the mean of one cycle is the table's own
MERGES: tuple[tuple[MergeRule, int], ...] = (("mean", 2), ("max", 1), ("max", 2))
PRETRAINED = "pretrained"
JUDGEMENT_BIAS = "sam_mask_decoder.pred_obj_score_head.layers.2.bias"
VANILLA = Row("vanilla", "before any panorama", ALL_METHODS, {}, None)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size", choices=SIZES, default="quick")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--until", choices=[PRETRAINED, VANILLA.name, *(row.name for row in ROWS)])
    named = [row.name for row in (*CAUSES, *LOWERED)]
    parser.add_argument("--causes", nargs="*", choices=named, help="afterwards, all or some")
    parser.add_argument("--rooms", type=Path, help="a packed dataset, all of it in the split val")
    args = parser.parse_args()
    use_one_thread()
    causes = () if args.causes is None else args.causes or named
    rows = (VANILLA, *ROWS, *(row for row in (*CAUSES, *LOWERED) if row.name in causes))
    if args.rooms is not None and not (args.out / "data" / ROOMS).exists():
        (args.out / "data").mkdir(parents=True, exist_ok=True)
        (args.out / "data" / ROOMS).symlink_to(args.rooms.resolve())
    print(json.dumps(run(args.out, SIZES[args.size], rows, args.until)))


def run(out: Path, size: Size, rows: tuple[Row, ...], until: str | None = None) -> dict[str, Any]:
    """All stages below `out`, up to a row; gives the JSON line."""
    from bench.sap_results import write_table

    log = Log(out / "stages.jsonl")
    log.timed("data", partial(make_data, out / "data", size))
    images = log.timed("pretrain_images", partial(pretrain_images, out, size))
    short = log.timed("pretrain_short", partial(pretrain_short, out, size, images))
    videos = log.timed("pretrain_videos", partial(pretrain_videos, out, size, short))
    vanilla = log.timed("pretrain_absence", partial(pretrain_absence, out, size, videos))
    log.timed("pretrained", partial(judge, out, (images, short, videos, vanilla)))
    if until == PRETRAINED:
        return {"bench": "reproduce_sap", "rows": [], "of": len(rows), "machine": machine()}
    done: list[Row] = []
    for row in rows:
        weights = vanilla
        if row in LOWERED:
            weights = log.timed(row.name, partial(lower, out, vanilla, row))
        elif row is not VANILLA:
            weights = log.timed(row.name, partial(tune, out, size, vanilla, row))
        log.timed(f"score_{row.name}", partial(score, out, size, weights, row))
        done.append(row)
        table = write_table(out, done)
        if row.name == until:
            break
    return {
        "bench": "reproduce_sap",
        "ok": table["ok"],
        "gain": table["gain"],
        "rows": [row.name for row in done],
        "of": len(rows),
        "log_sha256": hashlib.sha256((out / "stages.jsonl").read_bytes()).hexdigest(),
        "machine": machine(),
    }


class Log:
    """stages.jsonl: what each stage gave and took. A stage that was interrupted appears once
    more."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def timed(self, stage: str, work: Callable[[], Path]) -> Path:
        """Do a stage; its line has the digest of the file that it gave."""
        begin, cpu = time.time(), time.process_time()
        made = work()
        line = {
            "stage": stage,
            "file": made.name,
            "sha256": hashlib.sha256(made.read_bytes()).hexdigest(),
            "seconds": round(time.time() - begin, 1),
            "cpu_seconds": round(time.process_time() - cpu, 1),
        }
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        return made


def make_data(data: Path, size: Size) -> Path:
    """Worlds, pictures and videos, unless they are there."""
    from bench.solid_worlds import (
        WORLD_A,
        WORLD_B,
        stage_panoramas,
        write_images,
        write_videos,
    )
    from panoforge.core.shards.write import PackOptions, pack

    write_images(data / "images", size.images, SEED)
    write_videos(data / "videos", size.videos, SEED)
    write_videos(data / "held_out_videos", size.held_out, SEED + HELD_OUT_SEED)
    for world, count, splits in (
        (WORLD_A, size.panoramas, (("train", 0.8), ("val", 0.2))),
        (WORLD_B, size.held_out, (("val", 1.0),)),
    ):
        if not (data / world.name / "manifest.json").exists():
            stage_panoramas(world, data / f"staged_{world.name}", count, SEED)
            pack(data / f"staged_{world.name}", data / world.name, PackOptions(splits=splits))
    return data / "a" / "manifest.json"


def pretrain_images(out: Path, size: Size) -> Path:
    return train(out, "pretrain_images", image_recipe(size, out / "data"))


def pretrain_short(out: Path, size: Size, images: Path) -> Path:
    return train(out, "pretrain_short", short_recipe(size, out / "data", images))


def pretrain_videos(out: Path, size: Size, short: Path) -> Path:
    return train(out, "pretrain_videos", video_recipe(size, out / "data", short))


def pretrain_absence(out: Path, size: Size, videos: Path) -> Path:
    """The judgement of absence, learnt: its last bias stood at 0.97 after 2,100 steps of `medium`.

    It began at 1 (panoforge.train.model.mimetic_init), and Adam moves it by less than the rate a
    step. What is absent was told apart (area under the curve 0.86) and still called present: 81 %
    of it. So the bias is set to 0, and the videos are shown once more, the judgement weighing more.
    """
    begun = with_judgement(out / "judgement_at_0.pt", videos, lambda bias: 0 * bias)
    return train(out, "pretrain_absence", absence_recipe(size, out / "data", begun))


def lower(out: Path, vanilla: Path, row: Row) -> Path:
    """The vanilla model that says "absent" oftener, by a number and without training."""
    by = float(row.changes["by"])
    return with_judgement(out / f"{row.name}.pt", vanilla, lambda bias: bias - by)


def with_judgement(path: Path, weights: Path, change: Callable[[Any], Any]) -> Path:
    """Weights with another last bias of the judgement whether a thing is there; written once."""
    import torch

    from panoforge.train.model.checkpoint_io import read_checkpoint

    if not path.exists():
        state = dict(read_checkpoint(weights))
        state[JUDGEMENT_BIAS] = change(state[JUDGEMENT_BIAS])
        torch.save({"model": state}, path)
    return path


def judge(out: Path, stages: tuple[Path, ...]) -> Path:
    """Whether the stand-in segments and tracks on perspective videos nobody trained on, stage by
    stage, before it meets a panorama: pretrained.json.
    """
    from bench.sap_results import video_scores, video_summary

    path = out / "pretrained.json"
    if not path.exists():
        videos = out / "data" / "held_out_videos"
        found = {
            weights.parents[1].name: video_summary(video_scores(weights, videos))
            for weights in stages
        }
        path.write_text(json.dumps(found, indent=1))
    return path


def tune(out: Path, size: Size, vanilla: Path, row: Row) -> Path:
    return train(out, row.name, tune_recipe(size, out / "data", vanilla, row))


def train(out: Path, name: str, recipe: dict[str, Any]) -> Path:
    """`pano train` on the shards of world A and what the recipe mixes in.

    A finished run whose record has all that the recipe says is taken as it is: older ones set keys
    besides that nothing in them read, which is refused since.
    """
    from panoforge.train.config import TrainConfig
    from panoforge.train.run import run_training

    weights, record = (out / name / part for part in ("checkpoints/model.pt", "train.json"))
    done = json.loads(record.read_text())["config"] if record.exists() else {}
    if weights.exists() and within(json.loads(json.dumps(recipe, default=str)), done):
        return weights
    return run_training(TrainConfig.model_validate(recipe), out / "data" / "a", out / name)


def within(asked: Any, recorded: Any) -> bool:
    """Whether a record says all that is asked, and maybe more."""
    if isinstance(asked, dict) and isinstance(recorded, dict):
        return all(key in recorded and within(asked[key], recorded[key]) for key in asked)
    return bool(asked == recorded)


def score(out: Path, size: Size, weights: Path, row: Row) -> Path:
    """`pano eval` on both worlds, and the held-out videos."""
    from bench.sap_results import results_file, video_scores

    found = {}
    for world in (*WORLDS, ROOMS):
        if not (out / "data" / world).exists():
            continue
        corrected = {"prompts": {"corrected": [3]}}
        found[world] = evaluate(out, size, weights, row, world, row.methods, corrected)
        if "scan" in row.methods:
            near = {"scan": {"reach_deg": 0.0}}
            found[f"{world} {NEAR}"] = evaluate(out, size, weights, row, world, ("scan",), near)
        if row.name in (VANILLA.name, "scan_mixed"):
            for rule, cycles in MERGES:
                how = {"merge": {"rule": rule}, "scan": {"cycles": cycles}}
                found[f"{world} {rule} {cycles}"] = evaluate(
                    out, size, weights, row, world, ("scan",), how
                )
    videos = video_scores(weights, out / "data" / "held_out_videos")
    path = results_file(out, row)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"worlds": found, "videos": videos}))
    return path


def evaluate(
    out: Path,
    size: Size,
    weights: Path,
    row: Row,
    world: str,
    methods: tuple[str, ...],
    how: dict[str, Any],
) -> str:
    """One `pano eval`: its results.json, below `out`."""
    from panoforge.eval.config import EvalConfig
    from panoforge.eval.run import run_evaluation

    config = EvalConfig.model_validate(
        {
            "methods": methods,
            "model": {"size": "micro", "image_size": IMAGE_PX, "checkpoint": weights},
            "split": "val",
            "max_panoramas": size.held_out,
            "instances": {"max_per_panorama": size.instances, "min_area_sr": 0.01},
            "report_panoramas": 4,
            **how,
        }
    )
    folder = run_evaluation(config, out / "data" / world, out / "scores" / row.name / world).folder
    return str((folder / "results.json").relative_to(out))


if __name__ == "__main__":
    main()
