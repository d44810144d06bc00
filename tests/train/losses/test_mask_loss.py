"""The loss whose gradient is written out, against upstream's through autograd, and against its
formula in float64.
"""

import itertools
import math

import pytest
import torch
from train_small import small_config
from training.loss_fns import MultiStepMultiMasksAndIous

from panoforge.train.losses.build import build_loss
from panoforge.train.losses.mask_loss import FrameTruth, MaskLosses

SIDE = 32
WEIGHTS = {"loss_mask": 20, "loss_dice": 1, "loss_iou": 1, "loss_class": 1}


def a_frame(masks: int, side: int, seed: int) -> tuple[dict, torch.Tensor]:
    """Predictions (two steps) on one frame of four objects, and their truth: the last is absent,
    logits reach far out.
    """
    g = torch.Generator().manual_seed(seed)
    truth = (
        torch.rand(4, SIDE, SIDE, generator=g) > torch.tensor([0.5, 0.9, 0.99, 2.0])[:, None, None]
    )
    leaves = [
        [
            (torch.randn(4, n, *shape, generator=g) * scale).requires_grad_()
            for n, shape, scale in ((masks, (side, side), 8.0), (masks, (), 1.0), (1, (), 1.0))
        ]
        for _ in range(2)
    ]
    names = (
        "multistep_pred_multimasks_high_res",
        "multistep_pred_ious",
        "multistep_object_score_logits",
    )
    return {name: [step[i] for step in leaves] for i, name in enumerate(names)}, truth


def enlarged(outs: dict) -> dict:
    """As SAM2Base hands them to upstream's loss."""
    key = "multistep_pred_multimasks_high_res"
    grown = [
        torch.nn.functional.interpolate(m, (SIDE, SIDE), mode="bilinear", align_corners=False)
        for m in outs[key]
    ]
    return {**outs, key: grown}


@pytest.mark.parametrize("iou_term", ["l1", "mse"])
@pytest.mark.parametrize(("masks", "side"), [(1, SIDE), (3, SIDE), (1, SIDE // 4), (3, SIDE // 4)])
def test_it_is_upstreams_loss_with_upstreams_gradients(masks: int, side: int, iou_term: str):
    theirs = MultiStepMultiMasksAndIous(
        WEIGHTS,
        supervise_all_iou=True,
        iou_use_l1_loss=iou_term == "l1",
        pred_obj_scores=True,
        focal_gamma_obj_score=0.0,
        focal_alpha_obj_score=-1.0,
    )
    ours = build_loss(small_config(loss={"iou_term": iou_term}).loss)
    for seed in range(3):
        outs, truth = a_frame(masks, side, seed)
        leaves = [leaf for values in outs.values() for leaf in values]
        expected = theirs([enlarged(outs)], truth[None])
        found = ours([outs], truth[None], 4.0)
        for mine, other in (
            ("loss", "core_loss"),
            ("loss_mask", "loss_mask"),
            ("loss_dice", "loss_dice"),
            ("loss_iou", "loss_iou"),
            ("loss_objectness", "loss_class"),
        ):
            assert found[mine].item() == pytest.approx(expected[other].item(), rel=1e-5), mine
        a, b = (
            torch.autograd.grad(found["loss"], leaves),
            torch.autograd.grad(expected["core_loss"], leaves),
        )
        for mine, other in zip(a, b, strict=True):
            assert torch.allclose(mine, other, rtol=1e-5, atol=1e-6 * other.abs().max())


@pytest.mark.parametrize("bce", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_figures_are_their_formula_and_gradients_their_slopes(weighted: bool, bce: bool):
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 4, dtype=torch.float64, generator=g).requires_grad_()
    targets = torch.rand(2, 4, 4, generator=g) > 0.5
    weights = (
        torch.rand(2, 4, 4, dtype=torch.float64, generator=g)
        if weighted
        else torch.ones(2, 4, 4, dtype=torch.float64)
    )
    truth = FrameTruth.of(targets, weights, bce)
    focal, dice, iou = MaskLosses.apply(logits, truth, 20.0, 1.0)
    for o in range(2):
        rows = [
            by_hand(logits[o, m].tolist(), targets[o].tolist(), weights[o].tolist(), bce)
            for m in range(3)
        ]
        best = min(rows, key=lambda row: 20 * row[0] + row[1])
        assert (focal[o].item(), dice[o].item()) == pytest.approx(best[:2], rel=1e-10)
        assert iou[o].tolist() == pytest.approx([row[2] for row in rows], rel=1e-6)
    assert not iou.requires_grad
    assert torch.autograd.gradcheck(lambda x: MaskLosses.apply(x, truth, 20.0, 1.0)[:2], (logits,))
    small = logits[..., :2, :2].detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: MaskLosses.apply(x, truth, 20.0, 1.0)[:2], (small,))


def by_hand(logits: list, truth: list, weights: list, bce: bool) -> tuple[float, float, float]:
    """Focal or cross-entropy (weighted), dice and IoU of one mask."""
    side, focal, hit, chances, both, either = len(logits), 0.0, 0.0, 0.0, 0, 0
    for y, x in itertools.product(range(side), range(side)):
        p = 1 / (1 + math.exp(-logits[y][x]))
        right, alpha = (p, 0.25) if truth[y][x] else (1 - p, 0.75)
        focal -= weights[y][x] * (1 if bce else alpha * (1 - right) ** 2) * math.log(right)
        hit, chances = hit + p * truth[y][x], chances + p
        both, either = (
            both + (logits[y][x] > 0 and truth[y][x]),
            either + (logits[y][x] > 0 or truth[y][x]),
        )
    return (
        focal / side**2,
        1 - (2 * hit + 1) / (chances + sum(map(sum, truth)) + 1),
        both / max(either, 1),
    )


def test_cross_entropy_is_torchs():
    outs, truth = a_frame(1, SIDE, 0)
    loss = build_loss(small_config(loss={"mask_term": "bce"}).loss)([outs], truth[None], 4.0)
    expected = sum(
        torch.nn.functional.binary_cross_entropy_with_logits(
            step[:3, 0], truth[:3].float(), reduction="sum"
        )
        for step in outs["multistep_pred_multimasks_high_res"]
    )
    assert loss["loss_mask"].item() == pytest.approx(expected.item() / SIDE**2 / 4, rel=1e-5)


def test_no_mask_at_full_size_is_kept():
    outs, truth = a_frame(3, SIDE // 4, 0)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor
    ):
        build_loss(small_config().loss)([outs], truth[None], 4.0)
    assert kept and max(tensor.numel() for tensor in kept) <= 4 * (SIDE // 4) ** 2


def test_nan_in_any_mask_comes_out():
    outs, truth = a_frame(3, SIDE // 4, 0)
    with torch.no_grad():
        outs["multistep_pred_multimasks_high_res"][0][3] = math.nan  # of the absent object
    assert math.isnan(build_loss(small_config().loss)([outs], truth[None], 4.0)["loss"].item())
