"""Whole runs, small: bit-equal resume, the export in plain sam2, bad losses, the record of a
run."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from train_small import small_config

from panoforge.core.errors import ConfigError, UsageError
from panoforge.train import checkpoints
from panoforge.train.log import RunLog, read_metrics
from panoforge.train.model.build import build_model
from panoforge.train.rank import pick_device, statement
from panoforge.train.run import run_training
from panoforge.train.stops import TrainingError
from panoforge.train.tasks.sam2 import Sam2Task
from panoforge.train.trainer import Trainer

TIMING = ("seconds", "clips_per_s", "peak_memory_mb")


def numbers(out: Path) -> list[dict]:
    return [
        {k: v for k, v in row.items() if k not in TIMING}
        for row in read_metrics(out / "metrics.jsonl")
    ]


def weights(out: Path) -> dict:
    return checkpoints.load_latest(out / "checkpoints", print).model


@pytest.fixture(scope="module")
def straight(caps_dataset: Path, tmp_path_factory) -> Path:
    """Four steps in one go, with averaged weights."""
    out = tmp_path_factory.mktemp("straight")
    run_training(small_config(ema_decay=0.9), caps_dataset, out)
    return out


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


@pytest.mark.parametrize("kill_at", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_resumed_run_is_bit_equal(
    caps_dataset: Path, straight: Path, tmp_path: Path, monkeypatch, kill_at: int
):
    """Killed in step 2 (before any checkpoint) or 4 (a step after one), then run again: the same
    losses and weights, to the bit.
    """
    config = small_config(ema_decay=0.9)
    real_step, real_save = Trainer.step, checkpoints.save

    def slow_save(*args):  # so slow that it is still under way at the kill: the run waits for it
        time.sleep(2)
        return real_save(*args)

    def step(self, forwards):
        if self.step_done == kill_at:
            raise Killed
        return real_step(self, forwards)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", step)
        patch.setattr(checkpoints, "save", slow_save)
        with pytest.raises(Killed):
            run_training(config, caps_dataset, tmp_path)
    (tmp_path / "metrics.jsonl").open("a").write('{"step": 3, "lo')  # the kill fell into a write
    assert (checkpoints.load_latest(tmp_path / "checkpoints", print) is None) == (kill_at < 2)
    run_training(config, caps_dataset, tmp_path)
    assert numbers(tmp_path) == numbers(straight)
    ours, theirs = (checkpoints.load_latest(o / "checkpoints", print) for o in (tmp_path, straight))
    for name, tensor in theirs.model.items():
        assert torch.equal(ours.model[name], tensor), name
    assert all(torch.equal(ours.ema[name], tensor) for name, tensor in theirs.ema.items())
    for key, slot in theirs.optimizer["state"].items():
        assert all(torch.equal(ours.optimizer["state"][key][k], v) for k, v in slot.items()), key
    assert (tmp_path / "checkpoints/model.pt").read_bytes() == (
        straight / "checkpoints/model.pt"
    ).read_bytes()


def test_training_trains_what_it_should(straight: Path):
    """Weights of trained parts move, frozen ones do not, and the log says so."""
    first, _ = build_model(small_config().model, small_config().prompt, seed=0)
    after, before = weights(straight), first.state_dict()
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert {
        "memory_attention",
        "memory_encoder",
        "sam_mask_decoder",
        "sam_prompt_encoder",
        "obj_ptr_proj",
    } <= moved
    assert "image_encoder" not in moved
    rows = numbers(straight)
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    for row in rows:
        expected = (
            20 * row["loss_mask"] + row["loss_dice"] + row["loss_iou"] + row["loss_objectness"]
        )
        assert row["loss"] == pytest.approx(expected, rel=1e-5)
        assert row["grad_norm"] > 0 and row["objects"] >= 2
    assert rows[0]["lr"] == 1e-4 > rows[3]["lr"]


def test_finished_run_returns_at_once_and_another_config_is_refused(
    caps_dataset: Path, straight: Path, monkeypatch
):
    before = (straight / "checkpoints/model.pt").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", lambda self, forwards: pytest.fail("it trained again"))
        assert (
            run_training(small_config(ema_decay=0.9), caps_dataset, straight)
            == straight / "checkpoints/model.pt"
        )
        assert (straight / "checkpoints/model.pt").read_bytes() == before
        with pytest.raises(ConfigError, match=r"seed: 0 there, 1 now"):
            run_training(small_config(ema_decay=0.9, seed=1), caps_dataset, straight)
    assert [row["step"] for row in numbers(straight)] == [1, 2, 3, 4]


def test_record_says_what_came_out(straight: Path):
    record = json.loads((straight / "train.json").read_text())
    assert (
        record["statement"]
        == "SAM2.1 micro at 128 px, 4 steps over 8 clips of 8 panoramas, from random weights: "
        "a smoke test of the pipeline, not a trained model."
    )
    assert record["weights"]["random"] and len(record["weights"]["sha256"]) == 64
    assert record["versions"]["sam2"] == "1.1.0" and record["config"]["optim"]["lr"] == 1e-4
    assert record["export"]["sha256"] == checkpoints.file_sha256(straight / "checkpoints/model.pt")
    assert record["trained_parameters"] < record["parameters"]


def test_statement_tells_smoke_tests_from_training():
    assert "not a trained model" in statement(small_config(), "random, seed 0", True, 1)
    assert statement(small_config(steps=10_000), "random, seed 0", True, 5).endswith(
        "trained from random weights."
    )
    assert statement(small_config(), "sam2.1_hiera_tiny.pt", False, 5).endswith(
        "fine-tuned from sam2.1_hiera_tiny.pt."
    )


def test_plain_sam2_tracks_with_the_export(caps_dataset: Path, caps, tmp_path: Path):
    """build_sam2_video_predictor loads what a run of tiny exports, and propagates a click through a
    scan written as JPEG frames.
    """
    import cv2
    from sam2.build_sam import build_sam2_video_predictor

    from panoforge.core.geometry.scan import ScanSpec, scan_views
    from panoforge.core.geometry.views import sample_view, wrap_panorama

    run = tmp_path / "run"
    run_training(small_config(model={"size": "tiny"}, steps=1, clips_per_step=1), caps_dataset, run)
    export = run / "checkpoints/model.pt"
    size = [
        "++model.image_size=128",
        *(
            f"++model.memory_attention.layer.{kind}_attention.feat_sizes=[8,8]"
            for kind in ("self", "cross")
        ),
    ]
    predictor = build_sam2_video_predictor(
        "configs/sam2.1/sam2.1_hiera_t.yaml",
        str(export),
        device="cpu",
        hydra_overrides_extra=size,
        apply_postprocessing=False,
    )
    exported = torch.load(export, weights_only=True)["model"]
    assert all(torch.equal(v, exported[k]) for k, v in predictor.state_dict().items())
    rgb = wrap_panorama(caps[0].read("rgb"))
    for t, view in enumerate(scan_views(ScanSpec(size_px=128))[:3]):
        cv2.imwrite(str(tmp_path / f"{t:05d}.jpg"), sample_view(rgb, view)[:, :, ::-1])
    state = predictor.init_state(str(tmp_path))
    predictor.add_new_points_or_box(
        state, 0, 1, points=np.array([[64.0, 64.0]]), labels=np.array([1])
    )
    masks = {t: logits for t, _, logits in predictor.propagate_in_video(state)}
    assert set(masks) == {0, 1, 2} and all(
        m.shape == (1, 1, 128, 128) and torch.isfinite(m).all() for m in masks.values()
    )


def test_export_holds_the_averaged_weights(straight: Path):
    state = checkpoints.load_latest(straight / "checkpoints", print)
    exported = torch.load(straight / "checkpoints/model.pt", weights_only=True)["model"]
    name = "sam_mask_decoder.iou_token.weight"
    assert torch.load(straight / "checkpoints/model.pt", weights_only=True)["step"] == 4
    assert torch.equal(exported[name], state.ema[name]) and not torch.equal(
        exported[name], state.model[name]
    )


def test_a_run_starts_from_its_own_checkpoint_as_from_an_official_one(
    caps_dataset: Path, straight: Path, tmp_path: Path
):
    start = straight / "checkpoints/step-00000004.pt"
    fine_tuning = {"model": {"checkpoint": str(start)}, "mixture": "panoramas-only"}
    run_training(small_config(**fine_tuning, steps=1), caps_dataset, tmp_path)
    record = json.loads((tmp_path / "train.json").read_text())
    assert record["weights"] == {
        "source": start.name,
        "sha256": checkpoints.file_sha256(start),
        "random": False,
    }
    assert "fine-tuned from step-00000004.pt" in record["statement"]


def poisoned(monkeypatch, bad_steps: set[int]) -> None:
    real = Sam2Task.forward

    def forward(self, batch, encoded, objects):
        losses = real(self, batch, encoded, objects)
        return (
            {k: v * float("nan") for k, v in losses.items()} if self.step in bad_steps else losses
        )

    monkeypatch.setattr(Sam2Task, "forward", forward)


def test_nan_loss_stops_with_the_state_kept(caps_dataset: Path, tmp_path: Path, monkeypatch):
    poisoned(monkeypatch, {1})
    with pytest.raises(
        TrainingError,
        match=r"step 2: expected a finite loss and gradient, got loss nan.*"
        r"as they were after step 1.*Clips of this step: caps-.*lower optim\.lr",
    ):
        run_training(small_config(), caps_dataset, tmp_path)
    state = checkpoints.load_latest(tmp_path / "checkpoints", print)
    assert state.step == 1 and all(torch.isfinite(v).all() for v in state.model.values())
    assert [row["step"] for row in numbers(tmp_path)] == [1]


def test_nan_loss_may_be_skipped_up_to_a_limit(caps_dataset: Path, tmp_path: Path, monkeypatch):
    poisoned(monkeypatch, {1, 2})
    config = small_config(on_bad_loss="skip", max_skipped_steps=1, steps=3, checkpoint_every=9)
    with pytest.raises(TrainingError, match="skipped steps so far: 2, max_skipped_steps is 1"):
        run_training(config, caps_dataset, tmp_path)
    assert [row.get("skipped", False) for row in numbers(tmp_path)] == [False, True]
    assert checkpoints.load_latest(tmp_path / "checkpoints", print).skipped == 2


def test_gradients_do_not_depend_on_how_clips_are_dealt_out(
    caps_dataset: Path, source, tmp_path: Path
):
    """The sum over forward passes is the gradient of the step's mean loss: each object weighs the
    same.
    """
    from panoforge.train.model.build import build_model

    config = small_config(model={"drop_path": 0.0})
    model, first = build_model(config.model, config.prompt)
    task = Sam2Task(config, model, source)
    trainer = Trainer(config, task, first, tmp_path, torch.device("cpu"))
    batches = [((p,), source.batch((p,))) for p in (0, 1)]
    counts = [batch.masks.shape[1] for _, batch in batches]
    per_object = []
    for positions, batch in batches:
        trainer.step_done = 0
        figures = trainer.step([(positions, batch)])
        per_object.append(figures["loss"] * batch.masks.shape[1])
        trainer.model.load_state_dict(build_model(config.model, config.prompt)[0].state_dict())
    trainer.step_done = 0
    both = trainer.step(batches)
    assert both["objects"] == sum(counts)
    assert both["loss"] == pytest.approx(sum(per_object) / sum(counts), rel=1e-5)


def test_groups_of_objects_add_up(source, tiny_model):
    """One object at a time on one encoding: every object once, in its own frames, with the whole
    batch's loss when nothing is drawn at random.
    """
    from panoforge.train.data.object_groups import object_groups
    from panoforge.train.losses.build import build_loss

    batch = source.batch((0, 1))
    groups = list(object_groups(batch, 1))
    assert len(groups) == batch.masks.shape[1] > 1
    assert torch.equal(torch.cat([g.masks for g in groups], dim=1), batch.masks)
    assert torch.equal(
        torch.cat([g.flat_obj_to_img_idx for g in groups], dim=1), batch.flat_obj_to_img_idx
    )
    assert list(object_groups(batch, 0)) == [batch]
    loss = build_loss(small_config().loss)
    tiny_model.eval()  # mask prompts and no dropout
    try:
        with torch.no_grad():
            encoded = tiny_model.encode(batch.flat_img_batch)
            whole = loss(tiny_model(batch, encoded), batch.masks, batch.masks.shape[1])["loss"]
            parts = [
                loss(tiny_model(g, encoded), g.masks, batch.masks.shape[1])["loss"] for g in groups
            ]
        assert torch.stack(parts).sum().item() == pytest.approx(whole.item(), rel=1e-4)
    finally:
        tiny_model.train()


def test_no_cuda_is_said_plainly(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        UsageError, match="torch sees no CUDA device here: set device=auto or device=cpu"
    ):
        pick_device("cuda", 0)
    assert pick_device("auto", 0).type == "cpu"


def test_empty_split_and_unknown_split_are_refused(caps_dataset: Path, tmp_path: Path):
    with pytest.raises(UsageError, match=r"has no split 'trian'.*Did you mean 'train'"):
        run_training(small_config(split="trian"), caps_dataset, tmp_path)


def test_tensorboard_gets_the_figures(tmp_path: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with RunLog(tmp_path, 2, 0, log_every=10, tensorboard=True, active=True) as log:
        log.step({"step": 1, "loss": 2.5, "lr": 1e-4, "grad_norm": 1.0, "clips_per_s": 1.0})
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert events.Scalars("loss")[0].value == 2.5
