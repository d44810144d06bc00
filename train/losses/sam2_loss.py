"""SAM2's loss, with the number of objects it divides by taken from the whole step.

As `MultiStepMultiMasksAndIous` (training/loss_fns.py): focal, dice and IoU on the best of the masks
of every prediction step, objectness always. They are summed over frames and correction steps, and
divided by the number of objects. Upstream asks the process group for that number in each forward
pass. Here the caller gives it: the step's objects over all forward passes and all processes. So a
step's gradient does not depend on how its clips were dealt out. One forward pass with its own
number gives upstream's loss and gradients (tested). Masks at full resolution are the business of
`panoforge.train.losses.mask_loss`, which keeps none of them.
"""

from collections import defaultdict
from typing import Any

from torch import Tensor, nn
from training.loss_fns import sigmoid_focal_loss

from panoforge.train.losses.mask_loss import FrameTruth, MaskLosses
from panoforge.train.settings.losses import LossSettings

LOSS_NAMES = {
    "loss": "loss",
    "mask": "loss_mask",
    "dice": "loss_dice",
    "iou": "loss_iou",
    "objectness": "loss_objectness",
}


class ScanLoss(nn.Module):
    """Losses of one forward pass, as its share of the step."""

    def __init__(self, settings: LossSettings) -> None:
        super().__init__()
        self.settings = settings

    def forward(
        self, outs_batch: list[dict[str, Any]], targets_batch: Tensor, num_objects: float
    ) -> dict[str, Tensor]:
        """`outs_batch`: one dict per frame.

        `targets_batch`: bool T×O×S×S; `num_objects`: of the whole step.
        """
        losses: dict[str, Any] = defaultdict(int)
        for outs, targets in zip(outs_batch, targets_batch, strict=True):
            truth = FrameTruth.of(
                targets, self.frame_weights(targets), self.settings.mask_term == "bce"
            )
            for masks, ious, scores in zip(
                outs["multistep_pred_multimasks_high_res"],
                outs["multistep_pred_ious"],
                outs["multistep_object_score_logits"],
                strict=True,
            ):
                for name, value in self.prediction_losses(masks, ious, scores, truth).items():
                    losses[name] += value / max(1.0, num_objects)
        losses["loss"] = sum(getattr(self.settings, name) * value for name, value in losses.items())
        return {LOSS_NAMES[name]: value for name, value in losses.items()}

    def frame_weights(self, targets: Tensor) -> Tensor | None:
        """Weights of one frame's pixels in the mask term, O×S×S; None where all count alike."""
        return None

    def prediction_losses(
        self, masks: Tensor, ious: Tensor, scores: Tensor, truth: FrameTruth
    ) -> dict[str, Tensor]:
        """The four terms of one prediction step, summed over objects.

        `masks` O×M×h×w of any size, `ious` O×M, `scores` O×1.
        """
        focal, dice, actual = MaskLosses.apply(masks, truth, self.settings.mask, self.settings.dice)
        off = ious - actual
        off = off.abs() if self.settings.iou_term == "l1" else off.square()
        off = off.mean(dim=1)  # of all masks: SAM2 sets supervise_all_iou
        objectness = sigmoid_focal_loss(
            scores, truth.present[:, None], 1.0, alpha=-1.0, gamma=0.0
        )  # plain cross-entropy
        return {
            **{
                name: (value * truth.present).sum()
                for name, value in (("mask", focal), ("dice", dice), ("iou", off))
            },
            "objectness": objectness,
        }
