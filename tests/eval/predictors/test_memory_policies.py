"""What a video's memory keeps: PanoSAM2's streamed against the official predictor's bookkeeping,
bounds of all policies, the distractor-aware rules by hand.
"""

import numpy as np
import pytest
import torch

from panoforge.eval.config import EvalConfig
from panoforge.eval.predictors import ObjectPrompt, ShownFrames
from panoforge.eval.predictors.batched_sam2 import BatchedSam2
from panoforge.eval.predictors.load import PanoVideoPredictor, load_model, predictor_config
from panoforge.eval.predictors.memory_policies import (
    DistractorAwareMemory,
    PanoSam2Memory,
    Sam2Memory,
    has_rival,
)
from panoforge.eval.predictors.object_memory import ObjectMemory, Said
from panoforge.eval.predictors.sam2_video import OfficialSam2
from panoforge.train.model.panosam2.parts import add_parts
from panoforge.train.settings.sam2 import PanoSam2Settings, Sam2Settings

SIZE = 64


def pano_model(**parts: object) -> object:
    """The micro predictor with random parts, none of which is zero."""
    from hydra.utils import instantiate

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = instantiate(
        predictor_config(Sam2Settings(size="micro", image_size=SIZE), PanoVideoPredictor)
    )
    add_parts(model, PanoSam2Settings.model_validate(parts))
    for name, parameter in model.panosam2.named_parameters():
        parameter.data += (0.5 if "film" in name else 0.02) * torch.randn(parameter.shape)
    with torch.no_grad():
        last = model.sam_mask_decoder.pred_obj_score_head.layers[-1]
        last.weight *= 50
    return model.eval()


def plain_model() -> object:
    config = {"model": {"size": "micro", "image_size": SIZE}, "device": "cpu"}
    return load_model(EvalConfig.model_validate(config)).model


def video(n_frames: int, n_objects: int) -> tuple[ShownFrames, list[ObjectPrompt]]:
    def shown(t: int) -> np.ndarray:
        return np.random.default_rng([7, t]).integers(0, 256, (64, 64, 3)).astype(np.uint8)

    rng = np.random.default_rng(1)
    prompts = []
    for k in range(n_objects):
        mask = np.full((64, 64), -10, np.float32)
        u, v = rng.integers(5, 40, 2)
        mask[v : v + 15, u : u + 15] = 10
        prompts.append(ObjectPrompt(k + 1, {}, {0: mask}))
    return ShownFrames(range(n_frames), shown), prompts


def dense(said: list, objects: int) -> np.ndarray:
    out = np.full((len(said), objects, SIZE // 4, SIZE // 4), -1024.0, np.float32)
    for frame in said:
        out[frame.frame, frame.objects] = frame.logits.numpy()
    return out


@pytest.mark.parametrize(
    "parts",
    [{"decoder": True}, {"memory": True}, {"decoder": True, "memory": True, "long_pointers": 3}],
)
def test_panosam2_streams_what_the_official_bookkeeping_gives(parts: dict) -> None:
    """50 frames, objects batched, a bounded memory: as if every frame had been kept."""
    model = pano_model(**parts)
    frames, prompts = video(50, 2)
    official = dense(list(OfficialSam2(model).predict(list(frames), prompts)), 2)
    ours = BatchedSam2(model)
    assert ours.policy.name == ("panosam2" if "memory" in parts else "sam2")
    found = dense(list(ours.predict(frames, prompts)), 2)
    np.testing.assert_array_equal(found == -1024, official == -1024)
    assert (official > -1024).mean() > 0 and np.ptp(official[official > -1024]) > 0.1
    np.testing.assert_allclose(found, official, atol=1e-3)
    if parts.get("memory"):
        other = dense(list(BatchedSam2(model, memory="sam2").predict(frames, prompts)), 2)
        assert np.abs(other - official).max() > 0.01  # the module does something


def test_panosam2_leaves_out_the_frames_that_are_not_asked() -> None:
    frames, (prompt, _) = video(6, 2)
    prompt = ObjectPrompt(1, {}, prompt.masks, frozenset({0, 1, 4}))
    said = list(BatchedSam2(pano_model(decoder=True, memory=True)).predict(frames, [prompt]))
    assert {frame.frame for frame in said if len(frame.objects)} <= {0, 1, 4}


@pytest.mark.parametrize("name", ["sam2", "distractor_aware"])
def test_offloaded_memories_say_the_same(name: str) -> None:
    model = plain_model()
    frames, prompts = video(8, 2)
    kept, moved = (
        dense(list(BatchedSam2(model, memory=name, offload=off).predict(frames, prompts)), 2)
        for off in (False, True)
    )
    assert np.array_equal(kept, moved)


@pytest.mark.parametrize("name", ["sam2", "panosam2", "distractor_aware"])
def test_every_policy_keeps_a_bounded_number_of_memories(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = pano_model(memory=True) if name == "panosam2" else plain_model()
    seen: list[int] = []
    policy = {
        "sam2": Sam2Memory,
        "panosam2": PanoSam2Memory,
        "distractor_aware": DistractorAwareMemory,
    }[name]
    forget = policy.forget

    def spied(self: Sam2Memory, memory: ObjectMemory, t: int) -> None:
        forget(self, memory, t)
        seen.append(len(memory.conditioning) + len(memory.recent) + len(memory.anchors))

    monkeypatch.setattr(policy, "forget", spied)
    frames, prompts = video(40, 1)
    assert len(list(BatchedSam2(model, memory=name).predict(frames, prompts))) == 40
    assert len(seen) == 39 and max(seen) <= 7


# -- the distractor-aware rules
# ------------------------------------------------------------------------------------------------


def said(
    box: tuple[int, int, int, int], rival: tuple[int, int, int, int] | None = None, score: float = 1
) -> Said:
    """A frame whose answer is a box (x, y, w, h) of 32×32; a runner-up may be elsewhere."""

    def mask(of: tuple[int, int, int, int]) -> torch.Tensor:
        out = torch.full((32, 32), -5.0)
        x, y, w, h = of
        out[y : y + h, x : x + w] = 5
        return out

    answer = mask(box)
    others = torch.stack([answer, mask(rival) if rival else answer])
    return Said(torch.zeros(4), torch.zeros(2), score, answer, others, torch.tensor([0.9, 0.5]))


def policy() -> DistractorAwareMemory:
    class Model:
        num_maskmem, max_obj_ptrs_in_encoder = 7, 16

    return DistractorAwareMemory(Model())


def test_a_rival_is_a_runner_up_elsewhere() -> None:
    assert has_rival(said((4, 4, 6, 6), (20, 20, 6, 6)), 0.7)  # box of both: 22×22
    assert not has_rival(said((4, 4, 6, 6), (5, 5, 6, 6)), 0.7)  # 36 of 49
    assert not has_rival(said((4, 4, 6, 6)), 0.7)


def test_anchors_are_sure_steady_and_rivalled() -> None:
    rules, memory = policy(), ObjectMemory()
    rules.remember(memory, 1, said((4, 4, 6, 6), (20, 20, 6, 6)))
    assert not memory.anchors  # nothing to compare its area with
    rules.remember(memory, 2, said((4, 4, 6, 6), (20, 20, 6, 6)))
    rules.remember(memory, 3, said((4, 4, 6, 6)))  # no rival
    rules.remember(memory, 4, said((4, 4, 9, 9), (20, 20, 6, 6)))  # twice its size
    unsure = said((4, 4, 6, 6), (20, 20, 6, 6))._replace(quality=torch.tensor([0.7, 0.5]))
    rules.remember(memory, 5, unsure)
    assert sorted(memory.anchors) == [2]
    for t in range(6, 12):
        rules.remember(memory, t, said((4, 4, 6, 6), (20, 20, 6, 6)))
    assert sorted(memory.anchors) == [9, 10, 11]


def test_recent_frames_are_apart_and_show_the_object() -> None:
    rules, memory = policy(), ObjectMemory()
    for t in range(1, 24):
        rules.remember(memory, t, said((4, 4, 6, 6), score=-1 if 15 <= t < 22 else 1))
        rules.forget(memory, t + 1)
    assert sorted(memory.recent) == [5, 10, 23]  # 15 and 20 were absent
    slots = rules.spatial(memory, 24, torch.zeros(1))
    assert [slot.age for slot in slots] == [2, 1, 0]
    assert sorted(memory.recent_pointer) == list(range(9, 24))
