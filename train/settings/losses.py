"""The losses of a step and their weights."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from panoforge.core.models import FrozenModel, Rate


class DistortionSettings(FrozenModel):
    """PanoSAM2's distortion-guided mask loss, for panoramas shown whole.

    See panoforge.train.losses.pixel_weights.
    """

    weight_min: Annotated[float, Field(gt=0, description="Least weight of a pixel.")] = 0.5
    weight_max: Annotated[float, Field(gt=0, description="Largest weight of a pixel.")] = 2.0
    decay: Annotated[
        Rate, Field(description="Decay of the background's weight over the distance to the object.")
    ] = 1.0
    foreground: Annotated[
        Literal["ratio", "share"],
        Field(description="Object's weight: background over foreground, or its share of all."),
    ] = "ratio"
    decay_is: Annotated[
        Literal["exponential", "linear"],
        Field(description="exp(−decay·x) or 1 − decay·x, x the distance over the largest."),
    ] = "exponential"

    @model_validator(mode="after")
    def _stays_positive(self) -> Self:
        if self.decay_is == "linear" and self.decay > 1:
            raise ValueError(
                f"decay ({self.decay}) must not be above 1 where decay_is is linear: the farthest"
                " pixel's weight, 1 − decay, would be negative. Lower it, or take exponential"
            )
        return self

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.weight_min > self.weight_max:
            raise ValueError(
                f"weight_min ({self.weight_min}) must not be above weight_max ({self.weight_max})"
            )
        return self


class LossSettings(FrozenModel):
    """Weights of `MultiStepMultiMasksAndIous`: mask, dice, IoU and objectness.

    The mask and the IoU term are SAM2's (focal, L1: training/loss_fns.py) or PanoSAM2's (binary
    cross-entropy, squared error: §3.3, equation 4).
    """

    mask_term: Annotated[
        Literal["focal", "bce"],
        Field(description="Loss of a mask's pixels: focal (SAM2) or cross-entropy (PanoSAM2)."),
    ] = "focal"
    iou_term: Annotated[
        Literal["l1", "mse"],
        Field(description="Loss of the predicted IoU: L1 (SAM2) or squared error (PanoSAM2)."),
    ] = "l1"
    mask: Annotated[Rate, Field(description="Weight of the mask term.")] = 20.0
    dice: Annotated[Rate, Field(description="Weight of the dice loss.")] = 1.0
    iou: Annotated[Rate, Field(description="Weight of the predicted IoU's loss.")] = 1.0
    objectness: Annotated[Rate, Field(description="Weight of the objectness loss.")] = 1.0
    distortion: Annotated[
        DistortionSettings | None,
        Field(
            description="PanoSAM2's distortion-guided loss; null counts all pixels alike, as SAM2."
        ),
    ] = None
