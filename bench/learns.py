"""Does the method work? A small SAM2 from random weights, on panoramas made here, scored on
held-out ones.

    python -m bench.learns --quick [--out FOLDER]      CPU, under 15 minutes
    python -m bench.learns [--out FOLDER]              an hour of one CPU core, or minutes of a GPU

Blender renders panoramas of flat solids (bench.learns_scenes). A SAM2.1 of 4 M parameters (`micro`)
learns click → mask on single 90° views, then is fine-tuned on scan clips as SAP does, its encoder
frozen. The weights it starts from, the image model and the scan model each go through `pano eval`
with SAP's four ways of showing a panorama. The panoramas are of scenes nobody trained on. `ok`:
mIoU in the end is at least TARGET times that at the start, of one click on one held-out view. The
same holds of whole panoramas (`panoramas`), the best method against the best. Everything goes
through the commands' own functions; FOLDER keeps data, checkpoints, logs and reports, and a second
run goes on from there.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.common import machine, use_one_thread
from panoforge.train.settings.schedule import OptimSettings

TARGET = 3.0
IMAGE_PX = 128
METHODS = ("direct", "erp_patches", "scan_no_overlap", "scan")


@dataclass(frozen=True)
class Size:
    """How much of everything. A tenth of the panoramas are held out, `held_out` of them scored."""

    panoramas: int
    held_out: int
    instances: int  # scored per panorama
    image_steps: int
    clip_steps: int


QUICK = Size(panoramas=400, held_out=6, instances=6, image_steps=2500, clip_steps=100)
FULL = Size(panoramas=600, held_out=24, instances=8, image_steps=8_000, clip_steps=600)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, help="default: a temporary folder")
    parser.add_argument("--image-steps", type=int)
    parser.add_argument("--clip-steps", type=int)
    args = parser.parse_args()
    use_one_thread()
    size = QUICK if args.quick else FULL
    size = Size(
        **{
            **asdict(size),
            **{
                k: v
                for k, v in (("image_steps", args.image_steps), ("clip_steps", args.clip_steps))
                if v
            },
        }
    )
    with tempfile.TemporaryDirectory() as scratch:
        result = run(args.out or Path(scratch), size)
    print(json.dumps({**result, "quick": args.quick, "machine": machine()}))


def run(out: Path, size: Size) -> dict[str, Any]:
    """The whole proof below `out`; gives the JSON line."""
    from panoforge.train.model.checkpoint_export import file_sha256

    seconds: dict[str, float] = {}
    begin = time.process_time()
    dataset = make_dataset(out, size)
    image_model, image_config = train(out / "images", dataset, image_recipe(size))
    scan_model, scan_config = train(out / "clips", dataset, clip_recipe(size, image_model))
    seconds["train_cpu"] = round(time.process_time() - begin, 1)
    start, end = view_miou(dataset, image_recipe(size)), loss_curve(out / "images")[-1][1]
    scores = {
        name: evaluate(out / "eval" / name, dataset, checkpoint, size)
        for name, checkpoint in (
            ("start", start_weights(out / "start.pt", size)),
            ("images", image_model),
            ("scan_clips", scan_model),
        )
    }
    seconds["all_cpu"] = round(time.process_time() - begin, 1)
    best = {
        name: max(methods[method]["model"] for method in METHODS)
        for name, methods in scores.items()
    }
    learnt = max(best["images"], best["scan_clips"])
    return {
        "bench": "learns",
        "ok": end >= TARGET * start and learnt >= TARGET * best["start"],
        "ratio": round(end / start, 2),
        "target": TARGET,
        "ours": end,
        "peer": start,
        "peer_name": "the weights it starts from",
        "unit": "mIoU of held-out views",
        "n": image_recipe(size)["validate_clips"],
        "miou": scores,
        "panoramas": {**best, "ratio": round(learnt / best["start"], 2)},
        "size": asdict(size),
        "seconds": seconds,
        "config_sha256": {"images": image_config, "clips": scan_config},
        "export_sha256": {
            name: file_sha256(path)
            for name, path in (("images", image_model), ("clips", scan_model))
        },
        "loss": {name: loss_curve(out / name) for name in ("images", "clips")},
    }


def make_dataset(out: Path, size: Size) -> Path:
    """Render and pack, unless it is there. Held-out panoramas are other scenes."""
    from panoforge.core.shards.write import PackOptions, pack

    dataset, staged = out / "dataset", out / "staged"
    if not (dataset / "manifest.json").exists():
        command = [sys.executable, "-m", "bench.learns_scenes", str(staged), str(size.panoramas)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        pack(staged, dataset, PackOptions(splits=(("train", 0.9), ("val", 0.1))))
    return dataset


# A micro model from random weights on small views; bench.sap_recipes starts from it too.
SMALL: dict[str, dict[str, Any]] = {
    "model": {
        "size": "micro",
        "image_size": IMAGE_PX,
        "frozen": [],
        "drop_path": 0.0,
        "initial": "mimetic",
    },
    "clip": {
        "max_objects": 4,
        "min_area_sr": 0.01,
        "area_power": 0.5,
        "colour_jitter": 0.0,
        "grayscale": 0.0,
    },
    "prompt": {
        "points": 1.0,
        "box": 0.0,
        "corrections": 0,
        "max_prompted_frames": 1,
        "max_corrected_frames": 1,
    },
    # SAM2's 20 : 1 of focal to dice ends in empty masks from random weights.
    "loss": {"mask": 10.0, "dice": 5.0},
    "optim": {
        "lr": 4e-4,
        "encoder_lr": 4e-4,
        "layer_decay": 1.0,
        "weight_decay": 0.01,
        "betas": [0.9, 0.98],
        "grad_clip": 1.0,
        "warmup_steps": 50,
        "final_lr_ratio": 0.02,
    },
}


# What SMALL says of random weights and of a trained encoder, where neither is there.
WEIGHTS_ARE_THERE = {"initial": "sam2"}
ENCODER_IS_FROZEN = {
    key: OptimSettings.model_fields[key].default for key in ("encoder_lr", "layer_decay")
}


def image_recipe(size: Size) -> dict[str, Any]:
    """Click → mask on single views, everything trained."""
    return {
        **SMALL,
        "clip": {**SMALL["clip"], "frames": 1},
        # nothing is absent from an image: see panoforge.train.model.mimetic_init
        "loss": {**SMALL["loss"], "objectness": 0.0},
        "steps": size.image_steps,
        "clips_per_step": 4,
        "clips_per_forward": 4,
        "validate_every": max(1, size.image_steps // 5),
        "validate_clips": 24,
        "checkpoint_every": 50,
        "log_every": 50,
        **RUN,
    }


def clip_recipe(size: Size, checkpoint: Path) -> dict[str, Any]:
    """SAP's fine-tuning: scan clips at random yaw, encoder frozen, one click projected into every
    frame that sees it.
    """
    recipe = image_recipe(size)
    return {
        **recipe,
        "mixture": "panoramas-only",  # bench.reproduce_sap mixes
        "model": {
            **recipe["model"],
            **WEIGHTS_ARE_THERE,
            "frozen": ["image_encoder"],
            "checkpoint": str(checkpoint),
        },
        "clip": {**recipe["clip"], "frames": 4, "max_objects": 3},
        "prompt": {
            **recipe["prompt"],
            "sphere_click": 1.0,
        },  # as in use; a frame without its click then mostly lacks the object
        "loss": {**recipe["loss"], "objectness": 1.0},
        "optim": {**recipe["optim"], **ENCODER_IS_FROZEN, "lr": 1e-4, "warmup_steps": 20},
        "steps": size.clip_steps,
        "clips_per_step": 2,
        "clips_per_forward": 2,
        "validate_every": max(1, size.clip_steps // 4),
        "validate_clips": 12,
        "checkpoint_every": 20,
    }


RUN = {"validate_split": "val", "torch_threads": 1, "loader_threads": 1, "keep_last_k": 1}


def train(out: Path, dataset: Path, recipe: dict[str, Any]) -> tuple[Path, str]:
    """`pano train`: the export and the digest of its config."""
    from panoforge.train.config import TrainConfig
    from panoforge.train.run import run_training

    config = TrainConfig.model_validate(recipe)
    return run_training(config, dataset, out), config.sha256()


def start_weights(path: Path, size: Size) -> Path:
    """The weights that training starts from, as an official file."""
    from panoforge.train.config import TrainConfig
    from panoforge.train.model.build import build_model
    from panoforge.train.model.checkpoint_export import export_official

    config = TrainConfig.model_validate(image_recipe(size))
    return export_official(
        path, build_model(config.model, config.prompt, seed=config.seed)[0].state_dict(), 0
    )


def view_miou(dataset: Path, recipe: dict[str, Any]) -> float:
    """What `validate_every` would have said before the first step."""
    import torch

    from panoforge.core.shards.read import Dataset
    from panoforge.train.config import TrainConfig
    from panoforge.train.distributed import World
    from panoforge.train.model.build import build_model
    from panoforge.train.validate import validate, validation_source

    config, cpu = TrainConfig.model_validate(recipe), torch.device("cpu")
    source = validation_source(Dataset.open(dataset, config.validate_split), config)
    model, _ = build_model(config.model, config.prompt, seed=config.seed)
    return round(
        validate(
            model, source, config.validate_clips, cpu, World(), torch.autocast("cpu", enabled=False)
        ),
        4,
    )


def evaluate(out: Path, dataset: Path, checkpoint: Path, size: Size) -> dict[str, dict[str, float]]:
    """`pano eval`: mIoU by method, of the model, the ceiling and the floor."""
    from panoforge.eval.config import EvalConfig
    from panoforge.eval.run import run_evaluation

    config = EvalConfig.model_validate(
        {
            "methods": METHODS,
            "model": {"size": "micro", "image_size": IMAGE_PX, "checkpoint": checkpoint},
            "split": "val",
            "max_panoramas": size.held_out,
            "instances": {"max_per_panorama": size.instances, "min_area_sr": 0.01},
        }
    )
    rows = run_evaluation(config, dataset, out).results["rows"]
    return {
        method: {
            role: round(
                mean(
                    [row["iou"] for row in rows if row["method"] == method and row["role"] == role]
                ),
                4,
            )
            for role in ("model", "ceiling", "floor")
        }
        for method in METHODS
    }


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def loss_curve(out: Path) -> list[list[float]]:
    """(step, validation mIoU) as metrics.jsonl has them."""
    from panoforge.train.log import read_metrics

    return [
        [row["step"], round(row["val_miou"], 4)]
        for row in read_metrics(out / "metrics.jsonl")
        if "val_miou" in row
    ]


if __name__ == "__main__":
    main()
