"""Batched propagation against SAM2's official video predictor: the same masks, object by object,
frame by frame.

Weights are random, as nothing can be downloaded here, but not tame. The head that says whether an
object is there is made steep, so that objects appear and disappear. Prompts have one or two points.
"""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from panoforge.eval.config import EvalConfig
from panoforge.eval.predictors import FrameInput, ObjectPrompt, batched_sam2, sam2_video
from panoforge.eval.predictors.batched_sam2 import BatchedSam2
from panoforge.eval.predictors.load import load_model
from panoforge.eval.predictors.sam2_video import OfficialSam2

SIZE = 64


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(1)
    loaded = load_model(
        EvalConfig.model_validate({"model": {"size": "tiny", "image_size": SIZE}, "device": "cpu"})
    )
    assert loaded.weights.random and len(loaded.weights.sha256) == 64
    with torch.no_grad():
        last = loaded.model.sam_mask_decoder.pred_obj_score_head.layers[-1]
        last.weight *= 200
        last.bias.zero_()
    scores: list[torch.Tensor] = []
    hook = last.register_forward_hook(
        lambda module, inputs, output: scores.append(output.flatten())
    )
    frames, prompts = scene(np.random.default_rng(0), n_frames=9, n_objects=5)
    list(BatchedSam2(loaded.model).predict(frames, prompts))
    hook.remove()
    with torch.no_grad():
        last.bias -= torch.cat(scores).median()
    return loaded.model


def scene(
    rng: np.random.Generator, n_frames: int, n_objects: int
) -> tuple[list[FrameInput], list[ObjectPrompt]]:
    frames = []
    for _ in range(n_frames):
        image = rng.integers(0, 256, (96, 96, 3)).astype(np.uint8)
        frames.append(FrameInput(image, np.zeros((96, 96), np.uint16)))
    prompts = []
    for k in range(n_objects):
        clicked = rng.choice(n_frames, int(rng.integers(1, 4)), replace=False).tolist()
        count = 1 + k % 2
        prompts.append(
            ObjectPrompt(
                k + 1,
                {t: (rng.uniform(0, 95, (count, 2)), np.ones(count, np.int32)) for t in clicked},
            )
        )
    return frames, prompts


def dense(said: list, n_objects: int) -> np.ndarray:
    """F×N×h×w logits with −1024 for absent objects, as the official predictor writes them."""
    out = np.full((len(said), n_objects, SIZE // 4, SIZE // 4), -1024.0, np.float32)
    for frame in said:
        out[frame.frame, frame.objects] = frame.logits.numpy()
    return out


@pytest.mark.parametrize("max_batch", [64, 2])
def test_masks_equal_the_official_predictor(model, max_batch: int) -> None:
    frames, prompts = scene(np.random.default_rng(0), n_frames=9, n_objects=5)
    official = dense(list(OfficialSam2(model).predict(frames, prompts)), 5)
    ours = dense(list(BatchedSam2(model, max_batch=max_batch).predict(frames, prompts)), 5)
    absent = official == -1024
    assert 0.02 < absent.mean() < 0.98  # both kinds of frames are in the test
    np.testing.assert_array_equal(ours == -1024, absent)
    np.testing.assert_allclose(ours, official, atol=1e-4)
    assert ((ours > 0) != (official > 0)).mean() < 1e-4


def test_both_run_in_bfloat16_as_on_a_gpu(model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Autocast on the CPU: the number types that a GPU gives, and nobody's caller gets into it."""
    for module in (sam2_video, batched_sam2):
        monkeypatch.setattr(
            module, "precision", lambda device: torch.autocast("cpu", torch.bfloat16)
        )
    frames, prompts = scene(np.random.default_rng(0), n_frames=9, n_objects=5)
    found = []
    for predictor in (OfficialSam2(model), BatchedSam2(model)):
        said = []
        for frame in predictor.predict(frames, prompts):
            assert not torch.is_autocast_enabled("cpu") and frame.logits.dtype == torch.float32
            said.append(frame)
        found.append(dense(said, 5))
        assert predictor.look(frames[:1], prompts[:1])[0] is not None
    official, ours = found
    np.testing.assert_array_equal(ours == -1024, official == -1024)
    np.testing.assert_allclose(ours, official, atol=0.02)
    assert ((ours > 0) != (official > 0)).mean() < 0.01
    monkeypatch.undo()
    exact = dense(list(OfficialSam2(model).predict(frames, prompts)), 5)
    there = (exact > -1024) & (official > -1024)
    assert np.abs(official - exact)[there].max() > 1e-3  # it was another precision


def test_an_object_without_any_click_is_nowhere(model) -> None:
    frames, prompts = scene(np.random.default_rng(1), n_frames=3, n_objects=2)
    said = list(BatchedSam2(model).predict(frames, [prompts[0], ObjectPrompt(9, {})]))
    assert [frame.frame for frame in said] == [0, 1, 2]
    assert all(1 not in frame.objects for frame in said)


def test_what_an_object_gets_does_not_depend_on_the_others(model) -> None:
    frames, prompts = scene(np.random.default_rng(2), n_frames=5, n_objects=4)
    together = dense(list(BatchedSam2(model).predict(frames, prompts)), 4)
    for k in (0, 3):
        alone = dense(list(BatchedSam2(model).predict(frames, [prompts[k]])), 1)
        np.testing.assert_allclose(alone[:, 0], together[:, k], atol=1e-4)


def test_frames_that_are_read_when_they_are_asked_for_give_the_same_masks(model) -> None:
    """A video's frames are let go one by one, and the next may lie where another has been."""

    class Lazily(Sequence):
        def __init__(self, frames: list[FrameInput]) -> None:
            self.frames, self.asked = frames, []

        def __len__(self) -> int:
            return len(self.frames)

        def __getitem__(self, t: int) -> FrameInput:
            self.asked.append(t)
            return FrameInput(self.frames[t].image.copy(), self.frames[t].labels)

    frames, prompts = scene(np.random.default_rng(6), n_frames=8, n_objects=2)
    prompts = [ObjectPrompt(p.id, {0: p.points[min(p.points)]}) for p in prompts]
    lazily = Lazily(frames)
    held = dense(list(BatchedSam2(model).predict(frames, prompts)), 2)
    assert np.array_equal(dense(list(BatchedSam2(model).predict(lazily, prompts)), 2), held)
    assert sorted(set(lazily.asked)) == list(range(8)) and len(lazily.asked) <= 10


def test_old_memories_are_dropped(model) -> None:
    from panoforge.eval.predictors.object_memory import ObjectMemory

    memory = ObjectMemory(
        recent={t: torch.zeros(1) for t in range(20)},
        recent_pointer={t: torch.zeros(1) for t in range(20)},
    )
    memory.forget(20, memories=6, pointers=15)
    assert sorted(memory.recent) == list(range(14, 20)) and sorted(memory.recent_pointer) == list(
        range(5, 20)
    )


def test_mask_prompts_equal_the_official_predictor(model) -> None:
    """A mask in one frame, among objects that are clicked; masks at the frame's size and at the
    model's.
    """
    rng = np.random.default_rng(3)
    frames, prompts = scene(rng, n_frames=7, n_objects=4)
    for k, (frame, side) in enumerate([(2, 96), (0, SIZE), (5, 96)]):
        mask = np.full((side, side), -10.0, np.float32)
        mask[side // 5 : side // 2, side // 6 * (k + 1) : side // 6 * (k + 3)] = 10.0
        prompts[k] = ObjectPrompt(k + 1, {}, {frame: mask})
    official = dense(list(OfficialSam2(model).predict(frames, prompts)), 4)
    for max_batch in (64, 1):
        ours = dense(list(BatchedSam2(model, max_batch=max_batch).predict(frames, prompts)), 4)
        np.testing.assert_array_equal(ours == -1024, official == -1024)
        np.testing.assert_allclose(ours, official, atol=1e-4)
    assert (official[2, 0] > 0).any() and (official[2, 0] < 0).any()


def test_looks_equal_the_official_image_predictor(model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clicks, boxes, masks and both, each in its own picture, in batches of any size."""
    rng = np.random.default_rng(4)
    images, nothing = (
        rng.integers(0, 256, (7, SIZE, SIZE, 3)).astype(np.uint8),
        np.zeros((SIZE, SIZE), np.uint16),
    )
    frames = [FrameInput(image, nothing) for image in images]
    hints = [rng.normal(0, 6, (SIZE // 4, SIZE // 4)).astype(np.float32) for _ in frames]
    click = (np.array([[20.3, 31.0]]), np.array([1], np.int32))
    box = (np.array([[5.0, 9.5], [40.0, 50.0], [20.0, 30.0]]), np.array([2, 3, 1], np.int32))
    prompts = [
        ObjectPrompt(1, {0: click}),
        ObjectPrompt(2, {0: click}, {0: hints[1]}),
        ObjectPrompt(3, {}, {0: hints[2]}),
        ObjectPrompt(4, {0: box}),
        ObjectPrompt(5, {0: box}, {0: hints[4]}),
        ObjectPrompt(6, {0: click}),
        ObjectPrompt(7, {0: click}),
    ]
    bias = model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias
    monkeypatch.setattr(
        bias, "data", torch.full_like(bias, 1e6)
    )  # everything is there: the image predictor does not ask
    nowhere = (
        np.zeros((1, 2)),
        np.array([-1], np.int32),
    )  # SAM2's video heads add it where there are no points
    official = OfficialSam2(model).look(
        frames, [*prompts[:2], ObjectPrompt(3, {0: nowhere}, prompts[2].masks), *prompts[3:]]
    )
    for batch in (1, 3, 8):
        ours = BatchedSam2(model, encode_batch=batch).look(frames, prompts)
        for k in range(7):
            np.testing.assert_allclose(
                ours[k].numpy(), official[k].numpy(), atol=1e-4, err_msg=str(k)
            )
    bias.data = torch.full_like(bias, -1e6)
    assert BatchedSam2(model).look(frames, prompts) == [None] * 7
