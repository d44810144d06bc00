"""The small training config that the tests share.

Its model is tiny's architecture at a third of its width and half its blocks: what training does
with a model does not depend on its size. Tests of SAM2 itself take tiny.
"""

from panoforge.train.config import TrainConfig

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


def small_config(**changes: object) -> TrainConfig:
    """The small config with sections merged: small_config(clip={"frames": 2}, steps=1)."""
    merged = {**SMALL, **changes}
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(SMALL.get(key), dict):
            merged[key] = {**SMALL[key], **value}
    return TrainConfig.model_validate(merged)
