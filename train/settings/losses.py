"""The losses of a step and their weights."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from panoforge.core.models import FrozenModel, Rate


class DistortionSettings(FrozenModel):
    """PanoSAM2's distortion-guided mask loss, for panoramas shown whole.

    See panoforge.train.losses.distortion_loss.
    """

    weight_min: Annotated[float, Field(gt=0, description="Least weight of a pixel.")] = 0.5
    weight_max: Annotated[float, Field(gt=0, description="Largest weight.")] = 2.0
    decay: Annotated[
        Rate, Field(description="Decay of the background's weight over the distance to the object.")
    ] = 1.0

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.weight_min > self.weight_max:
            raise ValueError(
                f"weight_min ({self.weight_min}) must not be above weight_max ({self.weight_max})"
            )
        return self


class LossSettings(FrozenModel):
    """Weights of `MultiStepMultiMasksAndIous`: focal, dice, IoU and objectness."""

    mask: Annotated[Rate, Field(description="Weight of the focal loss of masks.")] = 20.0
    dice: Annotated[Rate, Field(description="Weight of the dice loss.")] = 1.0
    iou: Annotated[Rate, Field(description="Weight of the predicted IoU's loss.")] = 1.0
    objectness: Annotated[Rate, Field(description="Weight of the objectness loss.")] = 1.0
    distortion: Annotated[
        DistortionSettings | None,
        Field(
            description="PanoSAM2's distortion-guided loss; null counts all pixels alike, as SAM2."
        ),
    ] = None
