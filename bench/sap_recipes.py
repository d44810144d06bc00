"""What bench.reproduce_sap trains: sizes, and one recipe for each row of its table.

A recipe is the content of a `pano train` config. The model is `micro` (4 M parameters) at 128 px.
SAP's own numbers are in configs/train/sap.yaml; what must differ at this size is said where it
does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import learns

IMAGE_PX = 128
SEED = 0
SHORT_FRAMES, FRAMES = 3, 8  # of the videos of pretraining; SAM2's clips have 8


@dataclass(frozen=True)
class Size:
    """How much of everything. `held_out` panoramas of each world and videos are scored."""

    panoramas: int
    held_out: int
    instances: int  # scored per panorama
    images: int
    videos: int
    image_steps: int
    short_steps: int  # of videos of SHORT_FRAMES
    video_steps: int
    tune_steps: int
    tune_clips: int  # a step

    @property
    def tune_lr(self) -> float:
        """SAP's 2e-4 is for 128 clips a step; falls with the square root of the batch, floored."""
        return max(5e-5, 2e-4 * (self.tune_clips / 128) ** 0.5)


SIZES = {
    "smoke": Size(5, 1, 2, 6, 3, 1, 1, 1, 1, 1),
    "quick": Size(80, 12, 5, 2000, 80, 3000, 300, 100, 40, 2),
    # quick's stand-in for SAM2 invents 79 % of the objects that are absent: too little pretraining.
    "medium": Size(160, 16, 6, 4000, 200, 12_000, 1500, 600, 100, 4),
    "full": Size(400, 24, 8, 8000, 400, 10_000, 2000, 1000, 400, 4),
    "gpu": Size(1500, 48, 12, 30_000, 1500, 30_000, 6000, 6000, 2000, 32),
}

SMALL: dict[str, Any] = {
    **learns.SMALL,
    "model": {**learns.SMALL["model"], "image_size": IMAGE_PX},
    "clip": {**learns.SMALL["clip"], "frames": FRAMES},
    "loss": {**learns.SMALL["loss"], "objectness": 1.0},
    "seed": SEED,
    "checkpoint_every": 20,
    "keep_last_k": 1,
    "log_every": 20,
    "torch_threads": 1,
    "loader_threads": 1,
}


def merged(recipe: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """A recipe with its sections merged."""
    out = dict(recipe)
    for key, value in changes.items():
        old = out.get(key)
        if isinstance(value, dict) and isinstance(old, dict) and key != "mixture":
            value = {**old, **value}
        out[key] = value
    return out


def sources(data: Path, **weights: float) -> dict[str, dict[str, Any]]:
    """Entries of a mixture: panoramas, images, videos."""
    entries: dict[str, dict[str, Any]] = {
        "panoramas": {"kind": "shards"},
        "looks": {"kind": "looks"},
        "images": {"kind": "sa1b", "folder": str(data / "images"), "min_area_share": 0.005},
        "videos": {"kind": "sav", "folder": str(data / "videos"), "min_area_share": 0.005},
    }
    return {name: {**entries[name], "weight": weight} for name, weight in weights.items()}


def without_panoramas(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe of perspective data alone: without the keys that panoramas alone read."""
    clip = {key: value for key, value in recipe["clip"].items() if key != "min_area_sr"}
    prompt = {key: value for key, value in recipe["prompt"].items() if key != "sphere_click"}
    return {**recipe, "clip": clip, "prompt": prompt}


def image_recipe(size: Size, data: Path) -> dict[str, Any]:
    """Pretraining, first: click → mask on perspective pictures, everything trained. No objectness:
    nothing is absent from a picture (panoforge.train.model.mimetic_init).
    """
    return merged(
        without_panoramas(SMALL),
        mixture=sources(data, images=1),
        loss={"objectness": 0.0},
        steps=size.image_steps,
        clips_per_step=4,
        clips_per_forward=4,
    )


def short_recipe(size: Size, data: Path, checkpoint: Path) -> dict[str, Any]:
    """Pretraining, second: pictures and videos of 3 frames in turn, everything trained. SAM2's
    judgement of absence wakes here: its cross-entropy begins at a constant, and hundreds of cheap
    steps teach it what a hundred long ones do not (bench/RESULTS.md, `learns`).
    """
    return merged(
        without_panoramas(SMALL),
        model={**learns.WEIGHTS_ARE_THERE, "checkpoint": str(checkpoint)},
        mixture=sources(data, images=1, videos=1),
        clip={"frames": SHORT_FRAMES, "max_objects": 3},
        prompt={"max_prompted_frames": 1, "max_corrected_frames": 1, "corrections": 1},
        optim={"lr": 3e-4, "encoder_lr": 1e-4, "warmup_steps": 20, "final_lr_ratio": 0.3},
        steps=size.short_steps,
        clips_per_step=4,
        clips_per_forward=2,
    )


def video_recipe(size: Size, data: Path, checkpoint: Path) -> dict[str, Any]:
    """Pretraining, third: pictures and videos of 8 frames in turn, everything trained. Objects
    leave and come back; a further click, as in the columns of 3 clicks, is learnt here too.
    """
    return merged(
        short_recipe(size, data, checkpoint),
        clip={"frames": FRAMES},
        prompt={"max_prompted_frames": 2, "max_corrected_frames": 2},
        optim={"lr": 1e-4, "encoder_lr": 5e-5, "warmup_steps": 5, "final_lr_ratio": 0.02},
        steps=size.video_steps,
    )


def absence_recipe(size: Size, data: Path, checkpoint: Path) -> dict[str, Any]:
    """Pretraining, last: the same clips, the judgement of absence counting twice."""
    return merged(
        video_recipe(size, data, checkpoint), loss={"objectness": 2.0}, optim={"lr": 2e-4}
    )


@dataclass(frozen=True)
class Row:
    """A model of the table: how its training differs from SAP's, and what it is scored with."""

    name: str
    what: str
    methods: tuple[str, ...]
    changes: Mapping[str, Any]
    mixture: Mapping[str, float] | None  # None: panoramas only


MIXED = {"panoramas": 2, "images": 1, "videos": 1}
ALL_METHODS = ("direct", "erp_patches", "scan_no_overlap", "scan", "scan_zoom")
ROWS = (
    Row("scan_mixed", "SAP's recipe: scans, mixed", (*ALL_METHODS, "scan_random"), {}, MIXED),
    Row(
        "perspective_only",
        "control: as many steps on perspective data alone",
        ("scan",),
        {},
        {"images": 1, "videos": 1},
    ),
    Row("panoramas_only", "scans, no perspective data", ("scan",), {}, None),
    Row("window_8", "windows of 8 frames", ("scan",), {"clip": {"frames": 8}}, MIXED),
    Row(
        "no_overlap",
        "scans of the grid of least overlap",
        ("scan_no_overlap", "scan_least_overlap"),
        {"clip": {"overlap": 0.0, "frames": 18}},
        MIXED,
    ),
    Row(
        "second_look",
        "scans and closer looks, prompted by the model's own mask",
        ("scan_zoom", "scan"),
        {},
        {**MIXED, "looks": 1},
    ),
    Row(
        "random_trajectory",
        "the same views in a fixed random order",
        ("scan_random", "scan"),
        {"clip": {"trajectory": "random"}},
        MIXED,
    ),
    Row(
        "patches",
        "no camera: windows of the panorama itself",
        ("erp_patches",),
        {"clip": {"frames_are": "patches"}},
        MIXED,
    ),
    Row(
        "whole_panorama",
        "no scan: whole panoramas that turn",
        ("direct",),
        {"clip": {"frames_are": "panorama", "frames": 8}},
        MIXED,
    ),
)


# The vanilla model with its judgement's last bias lowered, untrained: whether a threshold does what
# fine-tuning does. How much, is read off the perspective videos, not off a panorama.
LOWERED = tuple(
    Row(f"lowered_{by:g}", f"vanilla, says absent oftener by {by:g}", ("scan",), {"by": by}, None)
    for by in (1.0, 2.0, 4.0)
)

# What to test if a row comes out otherwise: each differs from scan_mixed in one thing.
CAUSES = (
    # panoramas_only sees twice as many clips of panoramas in the same number of steps.
    Row("steps_twofold", "twice the steps", ("scan",), {"steps_times": 2}, MIXED),
    Row("rate_third", "a third of the rate", ("scan",), {"optim": {"lr_times": 1 / 3}}, MIXED),
    Row("rate_triple", "three times the rate", ("scan",), {"optim": {"lr_times": 3.0}}, MIXED),
    Row("clips_fourfold", "four times the clips a step", ("scan",), {"clips_times": 4}, MIXED),
    Row("one_object", "one object a clip", ("scan",), {"clip": {"max_objects": 1}}, MIXED),
    Row("small_steps", "views 22.5° apart", ("scan",), {"clip": {"overlap": 0.75}}, MIXED),
    Row("absence_untaught", "no objectness loss", ("scan",), {"loss": {"objectness": 0.0}}, MIXED),
)


def tune_recipe(size: Size, data: Path, checkpoint: Path, row: Row) -> dict[str, Any]:
    """Fine-tuning: configs/train/sap.yaml as far as this size allows. The rate and the clips a step
    are of the size; 2 objects a clip; one click for each object in every frame that sees it.
    """
    mixture = "panoramas-only" if row.mixture is None else sources(data, **row.mixture)
    recipe = merged(
        SMALL,
        model={
            **learns.WEIGHTS_ARE_THERE,
            "frozen": ["image_encoder", "object_pointers", "memory_embeddings"],
            "checkpoint": str(checkpoint),
        },
        clip={"frames": 24, "max_objects": 2},
        prompt={
            "sphere_click": 1.0,
            "max_prompted_frames": 2,
            "max_corrected_frames": 2,
            "corrections": 1,
        },
        optim={
            **learns.ENCODER_IS_FROZEN,
            "lr": size.tune_lr,
            "weight_decay": 0.1,
            "grad_clip": 0.1,
            "final_lr_ratio": 0.0,
            "warmup_steps": 0,
        },
        steps=size.tune_steps * row.changes.get("steps_times", 1),
        clips_per_step=size.tune_clips,
        clips_per_forward=1,
        checkpoint_every=5,
    )
    changes = {key: value for key, value in row.changes.items() if not key.endswith("_times")}
    optim = dict(changes.get("optim", {}))
    if times := optim.pop("lr_times", None):
        changes["optim"] = {**optim, "lr": size.tune_lr * times}
    clips = size.tune_clips * row.changes.get("clips_times", 1)
    recipe = merged(merged(recipe, **changes), mixture=mixture, clips_per_step=clips)
    seen = row.mixture is None or {"panoramas", "looks"} & set(row.mixture)
    return recipe if seen else without_panoramas(recipe)
