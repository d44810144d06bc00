"""Options of a run: recomputed activations and compiled parts change nothing, pictures, Weights &
Biases.
"""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from train_small import small_config

from panoforge.core.errors import UsageError
from panoforge.train.data.plan import prompt_rng
from panoforge.train.log import read_metrics
from panoforge.train.losses.build import build_loss
from panoforge.train.model.build import build_model
from panoforge.train.model.scan_sam2 import compile_parts, recompute_activations
from panoforge.train.run import run_training
from panoforge.train.validate import SIDE_PX


def step_of(model, batch, draw: int) -> tuple[float, dict]:
    """Loss and gradients of one pass."""
    model.zero_grad(set_to_none=True)
    model.rng = prompt_rng(0, draw)
    torch.manual_seed(draw)
    total = build_loss(small_config().loss)(model(batch), batch.masks, 2.0)["loss"]
    total.backward()
    return total.item(), {
        name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None
    }


@pytest.mark.parametrize("changes", [{}, {"panosam2": {"decoder": True, "memory": True}}])
def test_recomputing_changes_no_bit(source, changes: dict):
    """Same loss and gradients, dropout and corrections and PanoSAM2's parts included; far less is
    kept.
    """
    config = (
        small_config(model=changes, prompt={"corrections": 2})
        if not changes
        else small_config(model=changes, prompt={"corrections": 2}, clip={"frames_are": "panorama"})
    )
    batch, kept = source.batch((0, 1)), {}
    plain, again = (build_model(config.model, config.prompt)[0] for _ in range(2))
    recompute_activations(again)
    for draw in (0, 2):
        (a, ours), (b, theirs) = step_of(plain, batch, draw), step_of(again, batch, draw)
        assert a == b and ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    for name, model in (("plain", plain), ("again", again)):
        kept[name] = graph_bytes(model, batch)
    assert kept["again"] < 0.3 * kept["plain"]
    again.eval()
    with torch.no_grad():
        assert all(torch.isfinite(out["pred_masks"]).all() for out in again(batch))


def graph_bytes(model, batch) -> int:
    """Bytes of the tensors that a forward pass keeps for the backward pass, each once, parameters
    apart.
    """
    own, kept = {p.untyped_storage().data_ptr() for p in model.parameters()}, {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage  # held, so that its address is not used again
        return tensor

    model.rng = prompt_rng(0, 0)
    torch.manual_seed(0)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        build_loss(small_config().loss)(model(batch), batch.masks, 2.0)
    return sum(storage.nbytes() for address, storage in kept.items() if address not in own)


@pytest.mark.slow
def test_compiled_parts_give_the_same_step(source):
    config = small_config(model={"size": "micro"})
    batch = source.batch((0,))
    plain, compiled = (build_model(config.model, config.prompt)[0] for _ in range(2))
    compile_parts(compiled)
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    (a, ours), (b, theirs) = step_of(plain, batch, 0), step_of(compiled, batch, 0)
    assert a == pytest.approx(b, rel=1e-4)
    scale = max(g.abs().max() for g in ours.values())
    assert ours.keys() == theirs.keys() and all(
        (ours[n] - theirs[n]).abs().max() <= 1e-3 * scale for n in ours
    )


def test_pictures_at_intervals_change_nothing(caps_dataset: Path, tmp_path: Path):
    rows = {}
    for name, every in (("with", 2), ("without", 0)):
        config = small_config(
            model={"size": "micro"},
            steps=4,
            clips_per_step=1,
            picture_every=every,
            tensorboard=every > 0,
            recompute=every > 0,
            checkpoint_every=9,
        )
        run_training(config, caps_dataset, tmp_path / name)
        rows[name] = [row["loss"] for row in read_metrics(tmp_path / name / "metrics.jsonl")]
    assert rows["with"] == rows["without"]
    shown = sorted((tmp_path / "with/pictures").iterdir())
    assert [p.name for p in shown] == ["step-00000002.png", "step-00000004.png"]
    image = cv2.imread(str(shown[0]))
    assert image.shape == (2 * SIDE_PX, 3 * SIDE_PX, 3)
    assert not np.array_equal(
        image[:SIDE_PX], image[SIDE_PX:]
    )  # truth above, what a new model says below
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "with/tensorboard")).Reload()
    assert [e.step for e in events.Images("predictions")] == [2, 4]


def test_wandb_is_asked_for_before_anything_starts(caps_dataset: Path, tmp_path: Path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "wandb", None)  # as where it is not installed
    with pytest.raises(
        UsageError, match=r"the package is not installed here: `pip install wandb`.*metrics\.jsonl"
    ):
        run_training(small_config(wandb="panoramas"), caps_dataset, tmp_path)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_switches_do_not_make_another_run():
    plain = small_config()
    assert small_config(recompute=True, picture_every=5, wandb="x").sha256() == plain.sha256()
    assert small_config(compile=True).sha256() != plain.sha256()  # other kernels, other roundings
