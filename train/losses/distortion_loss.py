"""The distortion-guided mask loss (PanoSAM2 §3.3).

`DistortionLoss` is SAM2's loss with every pixel's mask term multiplied by the weights of
`panoforge.train.losses.pixel_weights`, made on the device where the loss is taken. An absent
object's do not matter. The paper weights a binary cross-entropy (`loss.mask_term: bce`); SAM2's
focal term can be weighted as well.
"""

import torch
from torch import Tensor

from panoforge.train.losses.pixel_weights import pixel_weights
from panoforge.train.losses.sam2_loss import ScanLoss


class DistortionLoss(ScanLoss):
    """`ScanLoss` with weights of pixels on the mask term. The other three terms are the same."""

    @torch.no_grad()
    def frame_weights(self, targets: Tensor) -> Tensor | None:
        """The weights of one frame's true masks, O×S×S bool → O×S×S float32."""
        assert self.settings.distortion is not None
        return torch.stack([pixel_weights(mask, self.settings.distortion) for mask in targets])
