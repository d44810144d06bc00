"""What bench.reproduce_sap says of videos: the figures by hand."""

import numpy as np
import pytest

from bench.reproduce_sap import within
from bench.sap_recipes import CAUSES, ROWS, SIZES, short_recipe, tune_recipe, video_recipe
from bench.sap_results import VIDEO_FIGURES, video_figures, video_summary
from panoforge.train.config import TrainConfig


def test_figures_of_a_video_tell_what_is_missed_from_what_is_invented() -> None:
    square = np.zeros((8, 8), bool)
    square[2:6, 2:6] = True
    half, nothing = square.copy(), np.zeros_like(square)
    half[:, 4:] = False
    truth = np.stack([square, square, square, nothing, nothing])
    said = np.stack([square, half, nothing, nothing, square])
    found = video_figures(truth, said)
    assert found["click"] == 1 and found["j"] == pytest.approx((0.5 + 0 + 1 + 0) / 4)
    assert found["shown"] == pytest.approx(0.25)
    assert (found["missed"], found["invented"]) == (0.5, 0.5)
    always = video_figures(np.stack([square] * 3), np.stack([square] * 3))
    assert always["invented"] is None and always["missed"] == 0


def test_a_summary_leaves_out_what_there_was_not() -> None:
    rows = {"video": ["a", "a", "b"], **{name: [1.0, None, 0.5] for name in VIDEO_FIGURES}}
    summary = video_summary({**rows, "invented": [None] * 3})
    assert summary["j"]["objects"] == 2 and summary["j"]["mean"][0] == 0.75
    assert summary["invented"] == {"objects": 0, "mean": [None, None, None]}


@pytest.mark.parametrize("size", SIZES)
def test_every_recipe_of_the_proof_is_a_config(size: str, tmp_path) -> None:
    named = {}
    for row in (*ROWS, *CAUSES):
        recipe = tune_recipe(SIZES[size], tmp_path, tmp_path / "model.pt", row)
        named[row.name] = config = TrainConfig.model_validate(recipe)
        assert "image_encoder" in config.model.frozen
    base = named["scan_mixed"]
    assert base.clips_per_step == SIZES[size].tune_clips and base.optim.lr == SIZES[size].tune_lr
    assert named["rate_third"].optim.lr == pytest.approx(base.optim.lr / 3)
    assert named["clips_fourfold"].clips_per_step == 4 * base.clips_per_step
    assert named["steps_twofold"].steps == 2 * base.steps
    digests = {config.sha256() for config in named.values()}
    assert len(digests) == len(named)  # no row is another under a second name
    for stage in (short_recipe, video_recipe):
        config = TrainConfig.model_validate(stage(SIZES[size], tmp_path, tmp_path / "model.pt"))
        assert config.loss.objectness == 1 and config.model.frozen == ()


def test_a_finished_stage_is_taken_if_its_record_says_all_that_the_recipe_asks() -> None:
    record = {"steps": 3, "clip": {"frames": 8, "max_objects": 2}}
    assert within({"steps": 3, "clip": {"frames": 8}}, record)
    assert not within({"steps": 3, "clip": {"frames": 24}}, record)
    assert not within({"steps": 3, "optim": {"lr": 1.0}}, record)
