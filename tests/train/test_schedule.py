"""What changes in the course of a run: rates by StepLR, true masks into the memory, the long-short
memory from an epoch on, long clips a window at a time. A small run goes through all of it.
"""

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from train_small import small_config

from panoforge.train import checkpoints
from panoforge.train.config import TrainConfig
from panoforge.train.data.loader import ClipSource
from panoforge.train.data.plan import prompt_rng
from panoforge.train.log import read_metrics
from panoforge.train.losses.build import build_loss
from panoforge.train.model.build import build_model
from panoforge.train.model.scan_sam2 import ScanSAM2
from panoforge.train.model.windows import windows
from panoforge.train.optim import lr_scale
from panoforge.train.run import run_training
from panoforge.train.settings.schedule import MemoryFromTruth

BOTH = {"decoder": True, "memory": True}
LONG = {"frames": 7, "frames_are": "panorama", "turn_deg": 10.0}


def long_config(**changes: object) -> TrainConfig:
    return small_config(
        **{
            "clip": LONG,
            "model": {"panosam2": BOTH},
            "prompt": {"corrections": 1, "points": 0.0, "max_prompted_frames": 1},
            **changes,
        }
    )


# -- learning rate
# ------------------------------------------------------------------------------------------------


def test_steps_are_torchs_step_lr() -> None:
    optim = small_config(optim={"schedule": "step", "step_epochs": 3, "step_gamma": 0.5}).optim
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.5)
    for epoch in range(10):
        assert lr_scale(7 * epoch, 70, optim, epoch) == pytest.approx(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optim": {"step_gamma": 0.5}}, "step_gamma is 0.5, and schedule cosine does not read it"),
        (
            {"optim": {"schedule": "step", "final_lr_ratio": 0.5}},
            "final_lr_ratio is 0.5, and schedule step does not read it",
        ),
        ({"model": {"panosam2": {"memory_from_epoch": 3}}}, "without memory nothing reads it"),
        ({"model": {"panosam2": {"fusion_kernel": 1}}}, "without decoder nothing reads it"),
        ({"backprop_frames": 1}, "must be at least prompt.max_prompted_frames"),
        ({"clip": {"frames": 101}}, "less than or equal to 100"),
    ],
)
def test_what_nothing_reads_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        small_config(**changes)


def test_a_run_without_them_is_the_run_it_was() -> None:
    numbers = small_config().numbers()
    assert not {"epoch_clips", "backprop_frames", "memory_from_truth"} & numbers.keys()
    assert not {"schedule", "step_epochs", "step_gamma"} & numbers["optim"].keys()
    assert not {"mask_term", "iou_term"} & numbers["loss"].keys()


# -- windows
# ------------------------------------------------------------------------------------------------


def taught(config: TrainConfig, batch: object, size: int) -> tuple[list[float], dict, ScanSAM2]:
    """Losses, gradients by name and the model after one pass, in windows of `size`; 0 is forward.

    Its blocks are not zero, so that all of them have gradients.
    """
    model, _ = build_model(config.model, config.prompt)
    for parameter in model.panosam2.parameters():
        noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
        parameter.data += 0.01 * noise
    loss, losses = build_loss(config.loss), []
    model.rng = prompt_rng(3, 0)
    torch.manual_seed(0)
    if size:
        for frames, outs in windows(model, batch, size):
            found = loss(outs, batch.masks[frames], 1.0)["loss"]
            if found.requires_grad:
                found.backward()
            losses.append(found.item())
    else:
        found = loss(model(batch), batch.masks, 1.0)["loss"]
        found.backward()
        losses.append(found.item())
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return losses, gradients, model


def test_one_window_is_forward(caps: object) -> None:
    config = long_config(prompt={"corrections": 1})
    batch = ClipSource(caps, config).batch((0, 1))
    (whole,), expected, _ = taught(config, batch, 0)
    (found,), gradients, _ = taught(config, batch, 7)
    assert found == pytest.approx(whole, rel=1e-6)
    assert gradients.keys() == expected.keys()
    for name, gradient in expected.items():
        off = (gradients[name] - gradient).norm() / gradient.norm().clamp(min=1e-6)
        assert off < 1e-3, name


def test_windows_predict_the_same_and_cut_the_gradient(caps: object) -> None:
    """The sum of the losses is the whole clip's, as nothing of the forward pass is cut. A window's
    gradient is that of its own frames with all earlier memories as constants: the memory encoder of
    the frame before a window gets none from it.
    """
    config = long_config()
    batch = ClipSource(caps, config).batch((0,))
    (whole,), expected, _ = taught(config, batch, 0)
    losses, gradients, _ = taught(config, batch, 2)
    assert len(losses) == 4 and sum(losses) == pytest.approx(whole, rel=1e-5)
    name = "memory_encoder.fuser.layers.0.pwconv1.weight"
    assert not torch.allclose(gradients[name], expected[name], rtol=1e-2)
    single, only, _ = taught(config, batch, 1)
    assert sum(single) == pytest.approx(whole, rel=1e-5)
    assert name not in only  # no memory is made and read within one frame
    assert "memory_attention.layers.0.linear1.weight" in only


def test_past_windows_hold_no_graph(caps: object) -> None:
    config = long_config()
    batch = ClipSource(caps, config).batch((0,))
    model, _ = build_model(config.model, config.prompt)
    model.rng = prompt_rng(3, 0)
    seen = []
    step = model.track_step

    def spied(*args: object, **kwargs: dict) -> dict:
        outs = {**kwargs["output_dict"]["cond_frame_outputs"]}
        outs |= kwargs["output_dict"]["non_cond_frame_outputs"]
        here = kwargs["frame_idx"] // 2 * 2
        past = [value for t, out in outs.items() if t < here for value in out.values()]
        tensors = [v for v in past if isinstance(v, torch.Tensor)]
        seen.append((len(tensors), any(tensor.requires_grad for tensor in tensors)))
        return step(*args, **kwargs)

    model.track_step = spied
    assert [frames for frames, _ in windows(model, batch, 2)] == [[0, 1], [2, 3], [4, 5], [6]]
    assert max(count for count, _ in seen) > 5 and not any(graph for _, graph in seen)


# -- whose masks are remembered
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [0, 1, 3])
def test_true_masks_are_remembered_in_their_frames(every: int, caps: object) -> None:
    """What the memory encoder is shown is the truth in every so many-th frame, and nowhere else."""
    config = long_config()
    batch = ClipSource(caps, config).batch((0,))
    batch.masks[3, 0] = False  # an absent object is remembered as absent
    model, _ = build_model(config.model, config.prompt)
    model.rng, model.truth_every = prompt_rng(3, 0), every
    shown, scores = [], []
    model.memory_encoder.register_forward_pre_hook(
        lambda module, args: shown.append(args[1].detach().clone())
    )
    encode = super(ScanSAM2, model)._encode_new_memory

    def spied(**kwargs: torch.Tensor) -> object:
        scores.append(kwargs["object_score_logits"].detach().flatten())
        return encode(**kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScanSAM2.__mro__[1], "_encode_new_memory", lambda self, **k: spied(**k))
        with torch.no_grad():
            model(batch)
    assert len(shown) == 6  # nobody reads the last frame's memory
    scale, bias = model.sigmoid_scale_for_mem_enc, model.sigmoid_bias_for_mem_enc
    for t, mask in enumerate(shown):
        truth = (batch.masks[t][:, None].float() * 20 - 10).sigmoid() * scale + bias
        true = t == 0 or bool(every and t % every == 0)  # the first frame's prompt is its mask
        assert torch.allclose(mask, truth) is true, t
        if every and t % every == 0:
            assert ((scores[t] > 0) == batch.masks[t].flatten(1).any(1)).all()
    model.eval()
    shown.clear()
    model.truth_every = 1
    model.rng = prompt_rng(3, 0)
    with torch.no_grad():
        model(batch)  # never where it is scored
    truth = (batch.masks[1][:, None].float() * 20 - 10).sigmoid() * scale + bias
    assert not torch.allclose(shown[1], truth)


def test_truth_by_epoch() -> None:
    settings = MemoryFromTruth()
    assert [settings.every(epoch) for epoch in (0, 1, 2, 79)] == [1, 1, 8, 8]  # the paper's
    assert MemoryFromTruth(every_frame_epochs=0, then_every=0).every(0) == 0


# -- from the first phase to the last
# ------------------------------------------------------------------------------------------------


def phases(steps: int) -> TrainConfig:
    """An epoch is a step: 0 all memories of truth, then every third; memory module from 2 on."""
    return long_config(
        model={"panosam2": {**BOTH, "memory_from_epoch": 2}},
        loss={"mask_term": "bce", "iou_term": "mse", "distortion": {}},
        optim={"schedule": "step", "step_epochs": 2, "step_gamma": 0.5, "lr": 1e-3},
        memory_from_truth={"every_frame_epochs": 1, "then_every": 3},
        epoch_clips=2,
        backprop_frames=3,
        steps=steps,
        checkpoint_every=1,
        keep_last_k=9,
    )


def test_a_run_from_the_first_phase_to_the_last(
    caps_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PanoSAM2's schedule in small; stopped in the middle and gone on with, to the bit."""
    used: list[tuple[int, bool]] = []
    track = ScanSAM2.track_step

    def spied(self: ScanSAM2, *args: object, **kwargs: object) -> dict:
        used.append((self.truth_every, self.uses_long_memory))
        return track(self, *args, **kwargs)

    monkeypatch.setattr(ScanSAM2, "track_step", spied)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run_training(phases(4), caps_dataset, whole)
    a_step = 2 * 7
    assert used == [
        *[(1, False)] * a_step,
        *[(3, False)] * a_step,
        *[(3, True)] * a_step,
        *[(3, True)] * a_step,
    ]
    rows = read_metrics(whole / "metrics.jsonl")
    assert [row["lr"] for row in rows] == pytest.approx([1e-3, 1e-3, 5e-4, 5e-4])
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3]

    def film(step: int) -> torch.Tensor:
        path = checkpoints.checkpoint_path(whole / "checkpoints", step)
        return checkpoints.load(path).model["panosam2.memory.film.0.weight"]

    assert torch.equal(film(1), film(2))  # not even weight decay before its epoch
    assert not torch.equal(film(3), film(4))

    run_training(phases(2), caps_dataset, parts)
    run_training(phases(4), caps_dataset, parts)
    ours, theirs = (checkpoints.load_latest(o / "checkpoints", print) for o in (parts, whole))
    assert all(torch.equal(ours.model[name], tensor) for name, tensor in theirs.model.items())
    for key, slot in theirs.optimizer["state"].items():
        assert all(torch.equal(ours.optimizer["state"][key][k], v) for k, v in slot.items()), key
