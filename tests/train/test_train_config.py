"""The config refuses what cannot run, and its digest covers what decides the weights."""

import subprocess
import sys

import pytest
from pydantic import ValidationError
from train_small import small_config

from panoforge.train.config import SCHEDULE_ONLY, TrainConfig


def test_defaults_are_sam2s_recipe():
    config = TrainConfig()
    assert (
        config.optim.lr,
        config.optim.encoder_lr,
        config.optim.weight_decay,
        config.optim.grad_clip,
    ) == (5e-6, 3e-6, 0.1, 0.1)
    assert (config.loss.mask, config.loss.dice, config.loss.iou, config.loss.objectness) == (
        20,
        1,
        1,
        1,
    )
    assert (
        config.prompt.points,
        config.prompt.box,
        config.prompt.corrections,
        config.prompt.from_truth,
    ) == (0.5, 0.5, 7, 0.1)
    assert (config.clip.frames, config.clip.max_objects, config.model.image_size) == (8, 3, 1024)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"image_size": 200}}, "multiple of 32"),
        ({"clip": {"frames": 49}}, "more than the 48 frames of a scan twice over"),
        ({"clips_per_step": 3, "clips_per_forward": 2}, "a step is made of whole forward passes"),
        (
            {"prompt": {"max_prompted_frames": 2, "max_corrected_frames": 1}},
            "must be at least max_prompted_frames",
        ),
        (
            {"prompt": {"max_prompted_frames": 4, "max_corrected_frames": 4}},
            "must not exceed clip.frames",
        ),
        (
            {"objects_per_forward": 1, "model": {"frozen": ["memory_encoder"]}},
            "needs image_encoder in model.frozen",
        ),
        ({"learning_rate": 1.0}, "Extra inputs"),
        ({"model": {"frozen": ["encoder"]}}, "image_encoder"),
        ({"optim": {"lr": float("nan")}}, "lr"),
        ({"optim": {"encoder_lr": 1e-5}}, "encoder_lr is 1e-05, and the image encoder is frozen"),
        ({"optim": {"layer_decay": 0.5}}, "layer_decay is 0.5, and the image encoder is frozen"),
        (
            {"prompt": {"corrections": 0, "from_truth": 0.5}},
            "from_truth is 0.5, and corrections is 0",
        ),
        (
            {"model": {"panosam2": {"decoder": True, "previous_mask": False, "fusion_kernel": 1}}},
            "without previous_mask nothing reads it",
        ),
        ({"model": {"drop_path": 0.2}}, "drop_path is 0.2, and the image encoder is frozen"),
        (
            {"model": {"initial": "mimetic", "checkpoint": "w.pt"}, "mixture": "panoramas-only"},
            r"model.initial is mimetic, .* and model.checkpoint \(w.pt\) has weights",
        ),
    ],
)
def test_what_cannot_run_is_refused(changes: dict, message: str):
    with pytest.raises(ValidationError, match=message):
        small_config(**changes)


def test_an_encoder_that_is_trained_reads_its_rates():
    optim, model = {"encoder_lr": 1e-5, "layer_decay": 0.5}, {"drop_path": 0.2, "frozen": []}
    assert small_config(optim=optim, model=model).optim.encoder_lr == 1e-5
    assert small_config(model={"drop_path": 0.0}).model.drop_path == 0.0  # asks for nothing


def test_digest_covers_the_numbers_and_nothing_else():
    base = small_config()
    for key in SCHEDULE_ONLY:
        other = {
            "device": "auto",
            "tensorboard": True,
            "checkpoints_to": "elsewhere",
            "validate_split": "test",
            "async_save": False,
            "export": ["safetensors"],
            "recompute": True,
            "wandb": "project",
        }.get(key, 77)
        assert small_config(**{key: other, "clips_per_step": 2}).sha256() == base.sha256(), key
    for changes in (
        {"seed": 1},
        {"steps": 5},
        {"optim": {"lr": 2e-4}},
        {"clip": {"frames": 2}},
        {"prompt": {"box": 0.1}},
    ):
        assert small_config(**changes).sha256() != base.sha256(), changes


def test_config_needs_no_torch():
    code = (
        "import sys, panoforge.train.config, panoforge.train.run; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
