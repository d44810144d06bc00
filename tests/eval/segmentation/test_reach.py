"""`scan.reach_deg`: far views are not asked about an instance, near ones say what they did."""

import numpy as np
import pytest

from panoforge.eval.config import EvalConfig
from panoforge.eval.predictors import ObjectPrompt
from panoforge.eval.predictors.batched_sam2 import BatchedSam2
from panoforge.eval.predictors.load import load_model
from panoforge.eval.predictors.truth import GroundTruth
from panoforge.eval.scoring.metrics import iou, row_counts
from panoforge.eval.segmentation.prompts import click_instances, project_prompts
from panoforge.eval.segmentation.reach import within_reach
from panoforge.eval.segmentation.segment import PanoramaInput, frame_inputs, segment
from panoforge.eval.views.methods import get_method

WIDTH = 256


def settings(reach_deg: float | None) -> EvalConfig:
    return EvalConfig.model_validate(
        {
            "model": {"size": "micro", "image_size": 64},
            "scan": {"size_px": 64, "reach_deg": reach_deg},
        }
    )


def panorama() -> PanoramaInput:
    """Two things, 20° wide, on opposite sides, and a band all around, 8° high."""
    labels = np.zeros((WIDTH // 2, WIDTH), np.uint16)
    labels[80:86] = 3
    labels[56:70, 60:74], labels[56:70, 188:202] = 1, 2
    rgb = np.random.default_rng(0).integers(0, 256, (WIDTH // 2, WIDTH, 3)).astype(np.uint8)
    return PanoramaInput("three", rgb, labels)


def asked(reach_deg: float) -> list[ObjectPrompt]:
    plan = get_method("scan").plan(WIDTH, WIDTH // 2, settings(reach_deg))
    prompts = project_prompts(click_instances(panorama().labels, [1, 2, 3]), plan.projections)
    return within_reach(prompts, plan.projections, reach_deg)


def masks_of(predictor: object, reach_deg: float | None) -> object:
    config, shown = settings(reach_deg), panorama()
    plan = get_method("scan").plan(WIDTH, WIDTH // 2, config)
    prompts = click_instances(shown.labels, [1, 2, 3])
    return segment(shown, plan, frame_inputs(shown, plan), prompts, predictor, config.merge)


def test_far_views_are_not_asked_and_prompted_ones_always_are():
    near, far = asked(0), asked(180)
    for one, other in zip(near, far, strict=True):
        assert one.shown is not None and other.shown is not None
        assert one.frames() <= one.shown < other.shown and len(other.shown) > len(one.shown) + 5
    assert near[0].shown != near[1].shown
    again = near[0].repeated(24, 2)
    assert again.shown == near[0].shown | {24 + t for t in near[0].shown}
    assert near[0].renumbered({t: 23 - t for t in range(24)}).shown == {
        23 - t for t in near[0].shown
    }


def test_what_reaches_further_is_cut_and_what_is_near_stays():
    """With ground truth as the predictor: the ceiling of the option itself."""
    labels = panorama().labels
    whole, cut = (
        iou(row_counts(masks_of(GroundTruth(), reach), labels, [1, 2, 3])) for reach in (None, 0.0)
    )
    assert cut[:2] == pytest.approx(whole[:2], abs=0.02) and whole[2] - cut[2] > 0.1


def test_masks_are_the_same_where_every_view_is_near_and_the_work_is_less_where_not():
    model = load_model(settings(None)).model
    asked_rows: list[int] = []
    hook = model.memory_attention.register_forward_hook(
        lambda module, inputs, kwargs, output: asked_rows.append(kwargs["curr"][0].shape[1]),
        with_kwargs=True,
    )
    found, work = [], []
    for reach in (None, 180.0, 0.0):
        asked_rows.clear()
        found.append(masks_of(BatchedSam2(model), reach).packed)
        work.append(sum(asked_rows))
    hook.remove()
    assert np.array_equal(found[0], found[1]) and work[0] == work[1]
    assert work[2] < work[0] / 2


def test_the_protocol_has_it_where_it_is_set():
    assert "reach_deg" not in settings(None).protocol()["scan"]
    assert settings(30).protocol_id() != settings(None).protocol_id()
