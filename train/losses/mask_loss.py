"""Mask term and dice loss of the best of M candidate masks, and every candidate's IoU.

The mask term is focal (SAM2) or a cross-entropy (PanoSAM2). No mask is kept at full size.

Written with autograd (training/loss_fns.py) the loss of one click on one frame holds some forty
tensors of O×M×S×S until the backward pass: at 1024 px more than the model does. Here the gradient
is written out, computed in the forward pass for the best candidate alone (no other has one), and
brought down to the decoder's resolution at once. Let t ∈ {0, 1} be the truth, x the logit and z =
(1 − 2t)·x. Then w = σ(z) is the probability of being wrong, and p = σ(x) = |t − w|. Over a mask's P
pixels,

    focal = Σ a·softplus(z)·w² / P          ∂/∂x = (1 − 2t)·a·w²·(w + 2·softplus(z)·(1 − w)) / P
    dice  = 1 − N / D                       ∂/∂x = w·(1 − w)·(N / D² − 2t / D)
    N = 2·Σ p·t + 1,   D = Σ p + Σ t + 1,
    a = 0.25 on the object, 0.75 off it, times the pixel's weight.

With `bce` the mask term is a binary cross-entropy, a the pixel's weight alone:

    bce = Σ a·softplus(z) / P               ∂/∂x = (1 − 2t)·a·w / P

Candidates are looked at one at a time: what is needed beside the inputs is a few tensors of O×S×S.
"""

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import interpolate, softplus

ALPHA = 0.25  # of the focal loss, whose γ is 2


@dataclass(frozen=True)
class FrameTruth:
    """One frame's true masks, in the forms that each prediction step on it needs.

    All O×S×S but `area` and `present` (O).
    """

    mask: Tensor  # bool
    inside: Tensor  # t, float
    sign: Tensor  # 1 − 2t
    scale: Tensor  # a / P
    area: Tensor  # Σ t
    present: Tensor  # 1.0 where the object is in the frame
    bce: bool  # whether the mask term is cross-entropy

    @classmethod
    def of(cls, targets: Tensor, weights: Tensor | None, bce: bool = False) -> Self:
        """From O×S×S bool and the weights of pixels in the mask term, O×S×S (None: all 1)."""
        inside = targets.float() if weights is None else targets.to(weights.dtype)
        balance = torch.ones_like(inside) if bce else (1 - ALPHA) + (2 * ALPHA - 1) * inside
        scale = balance / targets[0].numel()
        if weights is not None:
            scale *= weights
        area = inside.sum(dim=(1, 2))
        present = (area > 0).to(inside.dtype)
        return cls(targets, inside, 1 - 2 * inside, scale, area, present, bce)


class MaskLosses(torch.autograd.Function):
    """Losses of the best candidate, and the IoU of all.

    `apply(masks O×M×h×w, truth, weight of mask term, weight of dice)` → both terms, O each, of the
    candidate whose weighted sum is least, and IoU O×M of all. Masks of another size than the
    truth's are enlarged as SAM2Base does: bilinear.
    """

    @staticmethod
    def forward(
        ctx: Any, masks: Tensor, truth: FrameTruth, focal_weight: float, dice_weight: float
    ) -> tuple[Tensor, ...]:
        """The losses of each object's mask candidates; see the module."""
        figures = [_figures(_enlarged(masks[:, m], truth), truth) for m in range(masks.shape[1])]
        focal, dice, iou = (torch.stack(values, dim=1) for values in zip(*figures, strict=True))
        best = (focal * focal_weight + dice * dice_weight).argmin(dim=1)
        ctx.best, ctx.shape = best, masks.shape
        if ctx.needs_input_grad[0]:
            objects = torch.arange(len(best), device=best.device)
            ctx.save_for_backward(*_gradients(masks[objects, best], truth))
        ctx.mark_non_differentiable(iou)
        return (*(values.gather(1, best[:, None])[:, 0] for values in (focal, dice)), iou)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, focal: Tensor, dice: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the masks, from what `forward` kept."""
        of_focal, of_dice = ctx.saved_tensors
        best = focal[:, None, None] * of_focal + dice[:, None, None] * of_dice
        masks = best.new_zeros(ctx.shape)
        masks[torch.arange(len(best), device=best.device), ctx.best] = best
        return masks, None, None, None


def _enlarged(logits: Tensor, truth: FrameTruth) -> Tensor:
    """O×h×w → O×S×S."""
    size = truth.mask.shape[-2:]
    if logits.shape[-2:] == size:
        return logits
    return interpolate(logits[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def _figures(logits: Tensor, truth: FrameTruth) -> tuple[Tensor, Tensor, Tensor]:
    """Mask term, dice and IoU of one candidate of each object; `logits` O×S×S."""
    signed = logits * truth.sign
    wrong = signed.sigmoid()
    pixels = softplus(signed)
    if not truth.bce:
        pixels = pixels.mul_(wrong).mul_(wrong)
    term = pixels.mul_(truth.scale).sum(dim=(1, 2))
    top, bottom = _dice_terms(wrong, truth)
    found = logits > 0
    hit, all_found = (found & truth.mask).sum(dim=(1, 2)), found.sum(dim=(1, 2))
    return term, 1 - top / bottom, hit / (all_found + truth.area - hit).clamp(min=1)


def _dice_terms(wrong: Tensor, truth: FrameTruth) -> tuple[Tensor, Tensor]:
    """N and D of the dice loss."""
    missed = (wrong * truth.inside).sum(dim=(1, 2))
    hit = truth.area - missed
    return 2 * hit + 1, (hit + wrong.sum(dim=(1, 2)) - missed) + truth.area + 1


def _gradients(low: Tensor, truth: FrameTruth) -> tuple[Tensor, Tensor]:
    """Gradients of mask term and dice with respect to O×h×w logits."""
    signed = _enlarged(low, truth) * truth.sign
    wrong = signed.sigmoid()
    right = 1 - wrong
    if truth.bce:
        term = wrong * truth.scale
    else:
        term = softplus(signed).mul_(right).mul_(2).add_(wrong).mul_(wrong).mul_(wrong)
        term = term.mul_(truth.scale)
    term = term.mul_(truth.sign)
    top, bottom = (value[:, None, None] for value in _dice_terms(wrong, truth))
    dice = (top / bottom**2 - truth.inside * (2 / bottom)).mul_(wrong).mul_(right)
    return _reduced(term, low), _reduced(dice, low)


def _reduced(gradient: Tensor, low: Tensor) -> Tensor:
    """The gradient before `_enlarged`, from that after it."""
    if gradient.shape == low.shape:
        return gradient
    size = [len(low), 1, *low.shape[-2:]]
    return torch.ops.aten.upsample_bilinear2d_backward(
        gradient[:, None], list(gradient.shape[-2:]), size, False, None, None
    )[:, 0]
