"""The loss that a config asks for."""

from panoforge.train.losses.distortion_loss import DistortionLoss
from panoforge.train.losses.sam2_loss import ScanLoss
from panoforge.train.settings.losses import LossSettings


def build_loss(settings: LossSettings) -> ScanLoss:
    """With SAM2's fixed choices.

    Focal α 0.25 γ 2 and L1 on IoU for all masks, unless the config has PanoSAM2's terms. Plain
    cross-entropy for objectness, which both have.
    """
    if settings.distortion is None:
        return ScanLoss(settings)

    return DistortionLoss(settings)
