"""What changes in the course of a run: learning rates, and whose masks a memory is made of."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from panoforge.core.models import Count, FrozenModel, Positive, Probability, Rate

READ_BY_SCHEDULE: dict[str, tuple[str, ...]] = {
    "cosine": ("final_lr_ratio",),
    "step": ("step_epochs", "step_gamma"),
    "poly": ("poly_power",),
}


class OptimSettings(FrozenModel):
    """AdamW with a cosine schedule; with steps (PanoSAM2's StepLR); Adam and poly (MTPano)."""

    optimizer: Annotated[
        Literal["adamw", "adam"],
        Field(description="Weight decay apart from the gradient (AdamW), or added to it (Adam)."),
    ] = "adamw"

    lr: Annotated[float, Field(gt=0, description="Learning rate of all but the image encoder.")] = (
        5e-6
    )
    encoder_lr: Annotated[float, Field(gt=0, description="Learning rate of the image encoder.")] = (
        3e-6
    )
    layer_decay: Annotated[
        float, Field(gt=0, le=1, description="Per trunk block, counted from the last.")
    ] = 0.9
    weight_decay: Annotated[Rate, Field(description="Weight decay; none on biases and norms.")] = (
        0.1
    )
    betas: Annotated[
        tuple[Probability, Probability],
        Field(description="Decay of the averages of the gradient and of its square."),
    ] = (
        0.9,
        0.999,
    )
    schedule: Annotated[
        Literal["cosine", "step", "poly"],
        Field(
            description="A cosine over the run, a factor every step_epochs (StepLR), or"
            " (1 − step/steps)^poly_power."
        ),
    ] = "cosine"
    final_lr_ratio: Annotated[
        Probability,
        Field(description="cosine: learning rate at the end, as a share of the first."),
    ] = 0.1
    step_epochs: Annotated[Positive, Field(description="step: epochs between two falls.")] = 30
    step_gamma: Annotated[
        float, Field(gt=0, le=1, description="step: the rate falls by this factor.")
    ] = 0.1
    poly_power: Annotated[
        float, Field(gt=0, description="poly: the power of what is left of the run.")
    ] = 0.9
    warmup_steps: Annotated[Count, Field(description="Steps of linear warm-up.")] = 0
    grad_clip: Annotated[
        float, Field(gt=0, description="L2 norm that the whole gradient is clipped to.")
    ] = 0.1

    @model_validator(mode="after")
    def _of_its_schedule(self) -> Self:
        read = READ_BY_SCHEDULE[self.schedule]
        other = [k for keys in READ_BY_SCHEDULE.values() for k in keys if k not in read]
        fresh = type(self).model_fields
        unread = [key for key in other if getattr(self, key) != fresh[key].default]
        if unread:
            reader = next(name for name, keys in READ_BY_SCHEDULE.items() if unread[0] in keys)
            raise ValueError(
                f"{unread[0]} is {getattr(self, unread[0])}, and schedule {self.schedule} does not"
                f" read it: leave it out, or set schedule to {reader}"
            )
        return self


class MemoryFromTruth(FrozenModel):
    """Frames whose memory is made of the true mask instead of the predicted one (PanoSAM2 §4).

    Every frame in the first epochs, then every so many-th of a clip.
    """

    every_frame_epochs: Annotated[
        Count, Field(description="So many epochs all memories are made of true masks.")
    ] = 2
    then_every: Annotated[
        Count, Field(description="After that every so many-th frame of a clip; 0 is none.")
    ] = 8

    def every(self, epoch: int) -> int:
        """Every so many-th frame in this epoch; 0 is none."""
        return 1 if epoch < self.every_frame_epochs else self.then_every
