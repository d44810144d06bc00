"""The small training config that the tests share.

Its model is tiny's architecture at a third of its width and half its blocks: what training does
with a model does not depend on its size. Tests of SAM2 itself take tiny.
"""

from panoforge.train.config import SAM2_ONLY, TrainConfig

SMALL = {
    "model": {"size": "micro", "image_size": 128},
    "clip": {"frames": 3, "max_objects": 2, "min_area_sr": 0.01},
    "prompt": {"corrections": 1},
    "optim": {"lr": 1e-4},
    "steps": 4,
    "clips_per_step": 2,
    "checkpoint_every": 2,
    "torch_threads": 1,
    "loader_threads": 1,
    "device": "cpu",
}

DENSE = {
    "model": {
        "height_px": 32,
        "channels": 32,
        "classes": "panoforge",
        "backbone": {"patch_px": 8, "width": 32, "depth": 4, "heads": 2},
    }
}


def small_dense(run: dict | None = None, **dense: object) -> TrainConfig:
    """A run of dense tasks on panoramas of 64×32; `run` are keys outside of its section."""
    section = {**DENSE, **dense}
    if isinstance(dense.get("model"), dict):
        section["model"] = {**DENSE["model"], **dense["model"]}
    shared = {key: value for key, value in SMALL.items() if key not in SAM2_ONLY}
    optim = {"lr": 1e-3, "encoder_lr": 1e-3, "grad_clip": 10.0}
    merged = {**shared, "optim": optim, "dense": section, **(run or {})}
    return TrainConfig.model_validate(merged)


def small_config(**changes: object) -> TrainConfig:
    """The small config with sections merged: small_config(clip={"frames": 2}, steps=1)."""
    merged = {**SMALL, **changes}
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(SMALL.get(key), dict):
            merged[key] = {**SMALL[key], **value}
    return TrainConfig.model_validate(merged)
