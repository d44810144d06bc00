"""Every kind of prompt reaches every predictor through every method, in each pass that the method
makes.
"""

from collections.abc import Sequence
from typing import get_args

import numpy as np
import pytest
import synthetic
import torch

from panoforge.eval.config import EvalConfig, MergeConfig, MethodName, PromptKind
from panoforge.eval.masks import Masks
from panoforge.eval.predictors import FrameInput, ObjectPrompt, Predictor
from panoforge.eval.predictors.batched_sam2 import BatchedSam2
from panoforge.eval.predictors.load import load_model
from panoforge.eval.predictors.sam2_video import OfficialSam2
from panoforge.eval.predictors.truth import Empty, GroundTruth
from panoforge.eval.scoring.metrics import iou, row_counts
from panoforge.eval.segmentation.prompts import InstancePrompt, prompt_instances
from panoforge.eval.segmentation.segment import PanoramaInput, frame_inputs, segment
from panoforge.eval.views.methods import get_method
from panoforge.eval.views.methods.base import Plan

SIZE_PX = 64
LARGEST = 3  # instances: enough to lie in several frames, few enough to be quick


class Recorder:
    """A predictor that notes which prompts each of its videos and looks was given."""

    def __init__(self, inner: Predictor) -> None:
        self.inner, self.name, self.sees_labels = inner, inner.name, inner.sees_labels
        self.videos: list[list[ObjectPrompt]] = []
        self.looks: list[ObjectPrompt] = []

    def predict(self, frames: Sequence[FrameInput], prompts: Sequence[ObjectPrompt]):
        self.videos.append(list(prompts))
        return self.inner.predict(frames, prompts)

    def look(self, frames: Sequence[FrameInput], prompts: Sequence[ObjectPrompt]):
        self.looks += prompts
        return self.inner.look(frames, prompts)


@pytest.fixture(scope="module")
def panorama() -> PanoramaInput:
    return PanoramaInput("caps", *synthetic.caps(np.random.default_rng(3), 256))


@pytest.fixture(scope="module")
def predictors() -> dict[str, Predictor]:
    torch.set_num_threads(1)
    model = load_model(config("click")).model
    with torch.no_grad():  # random weights say "absent" as they please; here objects are there
        model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias += 100
    return {
        "batched": BatchedSam2(model),
        "official": OfficialSam2(model),
        "truth": GroundTruth(),
        "empty": Empty(),
    }


def config(kind: str, **changes: object) -> EvalConfig:
    return EvalConfig.model_validate(
        {
            "model": {"size": "micro", "image_size": SIZE_PX},
            "prompts": {"kind": kind, "clicks": 1},
            "scan": {"fov_deg": 110, "overlap": 0.2},  # 12 frames where the default has 24
            "device": "cpu",
            **changes,
        }
    )


def run(
    panorama: PanoramaInput, method: str, settings: EvalConfig, predictor: Predictor
) -> tuple[Plan, list[InstancePrompt], Masks]:
    plan = get_method(method).plan(panorama.width, panorama.height, settings)
    sizes = np.bincount(panorama.labels.ravel())[1:]
    ids = sorted((1 + np.argsort(-sizes)[:LARGEST]).tolist())
    prompts = prompt_instances(panorama.labels, ids, settings.prompts.kind)
    inputs = frame_inputs(panorama, plan)
    return plan, prompts, segment(panorama, plan, inputs, prompts, predictor, MergeConfig())


def ious(masks: Masks, panorama: PanoramaInput, prompts: Sequence[InstancePrompt]) -> np.ndarray:
    return iou(row_counts(masks, panorama.labels, [prompt.id for prompt in prompts]))


@pytest.mark.parametrize("method", get_args(MethodName))
@pytest.mark.parametrize("kind", get_args(PromptKind))
def test_every_prompt_reaches_every_predictor(
    panorama: PanoramaInput, predictors: dict[str, Predictor], kind: str, method: str
) -> None:
    for name, predictor in predictors.items():
        recorder = Recorder(predictor)
        plan, prompts, masks = run(panorama, method, config(kind), recorder)
        singly = [prompt for video in recorder.videos for prompt in video]
        passes = recorder.videos if plan.video else [singly]
        assert len(passes) == 1 + plan.bidirectional
        for seen in passes:
            assert {prompt.id for prompt in seen if prompt.frames()} == {p.id for p in prompts}
            assert all(bool(prompt.masks) == (kind == "mask") for prompt in seen)
        assert not plan.zoom or all(prompt.frames() for prompt in recorder.looks)
        found = ious(masks, panorama, prompts)
        if name == "truth":
            assert (found > (0.3 if method == "cubemap" else 0.9)).all(), (name, found)
        elif name == "empty":
            assert (found == 0).all()
        elif kind == "mask" and method == "direct":  # SAM2 gives back the mask that it was given
            assert found.mean() > 0.5, (name, found)
        else:
            assert np.isfinite(masks.scores).all() and (masks.packed != 0).any()


@pytest.mark.parametrize("kind", ["box", "mask"])
def test_a_look_without_clicks_is_given_what_the_scan_said(
    panorama: PanoramaInput, predictors: dict[str, Predictor], kind: str
) -> None:
    """`zoom.prompt: [click]` leaves a box or a mask nothing to say in a look."""
    recorder = Recorder(predictors["truth"])
    run(panorama, "scan_zoom", config(kind, zoom={"prompt": ["click"]}), recorder)
    assert recorder.looks and all(prompt.masks for prompt in recorder.looks)


def test_a_prompt_in_other_frames_keeps_points_and_masks() -> None:
    points = (np.zeros((1, 2)), np.ones(1, np.int32))
    mask = np.ones((4, 4), np.float32)
    prompt = ObjectPrompt(7, {0: points, 3: points}, {3: mask, 5: mask})
    moved = prompt.renumbered({3: 0, 5: 9})
    assert moved.id == 7 and moved.points == {0: points} and set(moved.masks) == {0, 9}
