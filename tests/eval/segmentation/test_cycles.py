"""Two cycles of a scan: one video that is shown twice, of which the second showing counts."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from panoforge.eval.config import EvalConfig
from panoforge.eval.predictors import FrameInput, ObjectPrompt
from panoforge.eval.predictors.batched_sam2 import BatchedSam2
from panoforge.eval.predictors.load import load_model
from panoforge.eval.predictors.sam2_video import OfficialSam2
from panoforge.eval.segmentation.segment import predict_frames
from panoforge.eval.views.frames import ErpFrame
from panoforge.eval.views.methods.base import Plan

SIZE, FRAMES = 64, 5
VIEWS = tuple(ErpFrame(0, 0, 96, 96, 96, 96) for _ in range(FRAMES))


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(1)
    small = {"model": {"size": "tiny", "image_size": SIZE}, "device": "cpu"}
    return load_model(EvalConfig.model_validate(small)).model


def scene() -> tuple[list[FrameInput], list[ObjectPrompt]]:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (FRAMES, 96, 96, 3)).astype(np.uint8)
    frames = [FrameInput(picture, np.zeros((96, 96), np.uint16)) for picture in pictures]
    click = np.array([[40.0, 50.0]]), np.ones(1, np.int32)
    return frames, [ObjectPrompt(1, {1: click, 3: click}), ObjectPrompt(2, {0: click})]


def dense(said: list) -> np.ndarray:
    out = np.full((FRAMES, 2, SIZE // 4, SIZE // 4), -1024.0, np.float32)
    for frame in said:
        out[frame.frame, frame.objects] = frame.logits.numpy()
    return out


def test_two_cycles_are_the_official_predictor_on_the_video_shown_twice(model) -> None:
    frames, prompts = scene()
    plan = Plan(VIEWS, video=True, cycles=2)
    twice = [
        ObjectPrompt(p.id, {**p.points, **{t + FRAMES: c for t, c in p.points.items()}})
        for p in prompts
    ]
    official = {said.frame: said for said in OfficialSam2(model).predict([*frames, *frames], twice)}
    expected = np.full((FRAMES, 2, SIZE // 4, SIZE // 4), -1024.0, np.float32)
    for t in range(FRAMES):
        said = official[t + FRAMES]
        expected[t, said.objects] = said.logits.numpy()
    ours = dense(predict_frames(plan, frames, prompts, BatchedSam2(model)))
    np.testing.assert_allclose(ours, expected, atol=1e-4)
    once = dense(predict_frames(Plan(VIEWS, video=True), frames, prompts, BatchedSam2(model)))
    assert np.abs(once[0] - ours[0]).max() > 1e-3  # what came after it is remembered now


def test_a_frame_that_is_shown_twice_is_encoded_once(model) -> None:
    frames, prompts = scene()
    seen: list[int] = []
    hook = model.image_encoder.register_forward_hook(
        lambda module, inputs, output: seen.append(len(inputs[0]))
    )
    predict_frames(Plan(VIEWS, video=True, cycles=2), frames, prompts, BatchedSam2(model))
    hook.remove()
    assert sum(seen) == FRAMES


@pytest.mark.parametrize(
    "wrong", [{"scan": {"cycles": 0}}, {"scan": {"cycles": 3}}, {"merge": {"rule": "median"}}]
)
def test_what_there_is_not_is_refused(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        EvalConfig.model_validate(wrong)
