"""SAM2's loss, with the number of objects it divides by taken from the whole step.

`MultiStepMultiMasksAndIous` (training/loss_fns.py): focal, dice and IoU on the best of the masks of every prediction
step, objectness always, summed over frames and correction steps, divided by the number of objects. Upstream asks the
process group for that number in each forward pass. Here the caller gives it: the step's objects over all forward
passes and all processes. So a step's gradient does not depend on how its clips were dealt out, and one forward pass
with its own number gives upstream's loss (tested).

Masks that come at low resolution are enlarged here, one prediction step at a time, and what that step computed is
thrown away and computed again in the backward pass: at 1024 px the graph of upstream's loss takes more memory than the
model, to save a few per cent of the time.
"""

from collections import defaultdict
from typing import Any

from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.checkpoint import checkpoint
from training.loss_fns import MultiStepMultiMasksAndIous
from training.trainer import CORE_LOSS_KEY

from train.config import LossSettings

LOSS_NAMES = {CORE_LOSS_KEY: "loss", "loss_mask": "loss_mask", "loss_dice": "loss_dice", "loss_iou": "loss_iou",
              "loss_class": "loss_objectness"}


class ScanLoss(MultiStepMultiMasksAndIous):
    """Losses of one forward pass, as its share of the step."""

    def forward(self, outs_batch: list[dict[str, Any]], targets_batch: Tensor, num_objects: float) -> dict[str, Tensor]:
        """`outs_batch`: one dict per frame; `targets_batch`: bool T×O×S×S; `num_objects`: of the whole step."""
        losses: dict[str, Any] = defaultdict(int)
        for outs, targets in zip(outs_batch, targets_batch, strict=True):
            self._weights = self.frame_weights(targets)
            for key, value in self._forward(outs, targets, max(1.0, num_objects)).items():
                losses[key] += value
        return {LOSS_NAMES[key]: value for key, value in losses.items()}

    def frame_weights(self, targets: Tensor) -> Tensor | None:
        """Weights of one frame's pixels, O×1×S×S; None where all count alike."""
        return None

    def prediction_losses(
        self, losses: dict[str, Any], masks: Tensor, targets: Tensor, ious: Tensor, num_objects: float, scores: Tensor,
        weights: Tensor | None,
    ) -> None:
        """Add the losses of one prediction step at the size of its targets: upstream's."""
        super()._update_losses(losses, masks, targets, ious, num_objects, scores)

    def _update_losses(
        self, losses: dict[str, Any], src_masks: Tensor, target_masks: Tensor, ious: Tensor, num_objects: float,
        object_score_logits: Tensor,
    ) -> None:
        """Add one prediction step (src_masks O×M×h×w, any h and w) to `losses`."""
        weights = self._weights  # of the frame at hand: the terms are computed again when others have come

        def terms(masks: Tensor, ious: Tensor, scores: Tensor) -> tuple[Tensor, ...]:
            if masks.shape[-2:] != target_masks.shape[-2:]:
                masks = interpolate(masks, target_masks.shape[-2:], mode="bilinear", align_corners=False)  # as SAM2Base does
            found: dict[str, Any] = dict.fromkeys(losses, 0)
            self.prediction_losses(found, masks, target_masks, ious, num_objects, scores, weights)
            return tuple(found.values())

        values = checkpoint(terms, src_masks, ious, object_score_logits, use_reentrant=False, preserve_rng_state=False)
        for key, value in zip(losses, values, strict=True):
            losses[key] += value


def build_loss(settings: LossSettings) -> ScanLoss:
    """With SAM2's fixed choices: focal α 0.25 γ 2, L1 on IoU for all masks, plain cross-entropy for objectness."""
    weights = {"loss_mask": settings.mask, "loss_dice": settings.dice, "loss_iou": settings.iou, "loss_class": settings.objectness}
    fixed = {"supervise_all_iou": True, "iou_use_l1_loss": True, "pred_obj_scores": True, "focal_gamma_obj_score": 0.0,
             "focal_alpha_obj_score": -1.0}
    if settings.distortion is None:
        return ScanLoss(weight_dict=weights, **fixed)
    from train.panosam2.loss import DistortionLoss

    return DistortionLoss(settings.distortion, weight_dict=weights, **fixed)
