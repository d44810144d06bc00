"""Validation: right masks score 1, the curve is logged, and training is not disturbed by it."""

import contextlib
from pathlib import Path

import pytest
import torch
from train_small import small_config

from panoforge.core.errors import UsageError
from panoforge.train.distributed import World
from panoforge.train.log import read_metrics
from panoforge.train.run import run_training
from panoforge.train.trainer import Trainer
from panoforge.train.validate import validate, validation_source


class Oracle(torch.nn.Module):
    """Predicts the truth, or the truth without its left half."""

    def __init__(self, halve: bool) -> None:
        super().__init__()
        self.halve = halve

    def forward(self, batch):
        masks = batch.masks.float()
        if self.halve:
            masks[..., : masks.shape[-1] // 2] = 0
        return [{"pred_masks_high_res": 20 * m[:, None] - 10} for m in masks]


def score(model, source, clips: int, world: World | None = None) -> float:
    return validate(
        model, source, clips, torch.device("cpu"), world or World(), contextlib.nullcontext()
    )


def test_truth_scores_one_and_half_of_it_less(caps):
    source = validation_source(caps, small_config())
    assert score(Oracle(False), source, 4) == 1.0
    assert 0 < score(Oracle(True), source, 4) < 1


def test_miou_is_the_mean_over_objects_of_the_iou_over_frames(caps):
    source = validation_source(caps, small_config())
    ious = []
    for position in range(3):
        masks = source.batch((position,)).masks
        ious += (masks[..., 64:].sum(dim=(0, 2, 3)) / masks.sum(dim=(0, 2, 3))).tolist()
    assert score(Oracle(True), source, 3) == pytest.approx(sum(ious) / len(ious))


def test_held_out_clips_are_plain_and_the_same_for_every_seed(caps):
    a, b = (validation_source(caps, small_config(seed=seed)).batch((0,)) for seed in (1, 2))
    assert torch.equal(a.img_batch, b.img_batch) and torch.equal(a.masks, b.masks)


def test_validation_is_logged_and_changes_nothing(caps_dataset: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(
        Trainer, "save", lambda self: tmp_path
    )  # nothing to resume here: spare the disk
    rows = {}
    for name, every in (("with", 1), ("without", 0)):
        config = small_config(
            steps=2, validate_every=every, validate_clips=2, validate_split="train"
        )
        run_training(config, caps_dataset, tmp_path / name)
        rows[name] = read_metrics(tmp_path / name / "metrics.jsonl")
    assert (
        all(0 <= row["val_miou"] <= 1 for row in rows["with"])
        and "val_miou" not in rows["without"][0]
    )
    assert [row["loss"] for row in rows["with"]] == [row["loss"] for row in rows["without"]]


def test_missing_validation_split_is_said_before_anything_starts(
    caps_dataset: Path, tmp_path: Path
):
    with pytest.raises(UsageError, match=r"has no split 'held-out'"):
        run_training(
            small_config(validate_every=1, validate_split="held-out"),
            caps_dataset,
            tmp_path / "out",
        )
    assert not (tmp_path / "out").exists()


def test_no_corrections_is_a_valid_choice(source):
    """Upstream fails with an unbound variable on num_correction_pt_per_frame=0."""
    from panoforge.train.model.build import build_model

    config = small_config(prompt={"corrections": 0, "points": 1.0})
    model, _ = build_model(config.model, config.prompt)
    outs = model(source.batch((0,)))
    assert all(len(out["multistep_pred_ious"]) == 1 for out in outs)
