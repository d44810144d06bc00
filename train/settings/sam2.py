"""Which SAM2: its size, its weights, its frozen parts and PanoSAM2's. No torch here."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from panoforge.core.models import Count, FrozenModel, Probability
from panoforge.core.storage.location import LocalPath

Size = Literal["micro", "tiny", "small", "base_plus", "large"]
ModelPart = Literal[
    "image_encoder",
    "trunk",
    "neck",
    "memory_attention",
    "memory_encoder",
    "prompt_encoder",
    "mask_decoder",
    "object_pointers",
    "memory_embeddings",
    "panosam2",
]
SIZE_STEP_PX = 32  # the trunk's coarsest stride, and 8-pixel windows at stride 4
ImageSize = Annotated[int, Field(ge=64, multiple_of=SIZE_STEP_PX)]
_IMAGE_SIZE = "Pixels on each side of the model's input."


class PanoSam2Settings(FrozenModel):
    """PanoSAM2's parts of the model (panoforge.train.model.panosam2), for panoramas shown whole.

    All off is plain SAM2.
    """

    decoder: Annotated[
        bool, Field(description="Convolutions of the decoder that wrap at the seam.")
    ] = False
    previous_mask: Annotated[
        bool, Field(description="With the decoder: fuse the previous frame's mask in.")
    ] = True
    fusion_kernel: Annotated[
        Literal[1, 3], Field(description="Kernel of that fusion; 3 is the paper's count.")
    ] = 3
    memory: Annotated[
        bool, Field(description="PanoSAM2's long-short memory: object pointers of old frames too.")
    ] = False
    long_pointers: Annotated[
        int, Field(ge=1, le=16, description="Object pointers of old frames that it keeps.")
    ] = 2
    memory_from_epoch: Annotated[
        Count, Field(description="Training leaves the memory out before this epoch (paper: 20).")
    ] = 0

    @model_validator(mode="after")
    def _parts_are_on(self) -> Self:
        fresh = type(self).model_fields
        for part, keys in (
            ("decoder", ("previous_mask", "fusion_kernel")),
            ("previous_mask", ("fusion_kernel",)),
            ("memory", ("long_pointers", "memory_from_epoch")),
        ):
            unread = [k for k in keys if getattr(self, k) != fresh[k].default]
            if unread and not getattr(self, part):
                raise ValueError(
                    f"{unread[0]} is {getattr(self, unread[0])}, and without {part} nothing reads"
                    f" it: set {part} to true, or leave {unread[0]} out"
                )
        return self

    def record(self) -> dict[str, bool | int]:
        """What a checkpoint says of them: only what is there. Empty for plain SAM2."""
        fusion = {"fusion_kernel": self.fusion_kernel} if self.previous_mask else {}
        decoder: dict[str, bool | int] = (
            {"decoder": True, "previous_mask": self.previous_mask, **fusion} if self.decoder else {}
        )
        return {
            **decoder,
            **({"memory": True, "long_pointers": self.long_pointers} if self.memory else {}),
        }


class Sam2Settings(FrozenModel):
    """Which SAM2.1, to train or to score.

    `micro` is no official size: see panoforge.train.model.build.
    """

    size: Annotated[Size, Field(description="Which SAM2.1; micro is no official size.")] = "large"
    image_size: Annotated[ImageSize, Field(description=_IMAGE_SIZE)] = 1024


class ModelSettings(Sam2Settings):
    """Which SAM2.1 is trained, from which weights, with what frozen."""

    size: Annotated[Size, Field(description="Which SAM2.1; micro is no official size.")] = "tiny"
    image_size: Annotated[ImageSize, Field(le=2048, description=_IMAGE_SIZE)] = 1024
    checkpoint: Annotated[
        LocalPath | None,
        Field(description="The weights to start from, official or of pano train; null is random."),
    ] = None
    frozen: Annotated[
        tuple[ModelPart, ...], Field(description="Parts of the model that are not trained.")
    ] = ("image_encoder",)
    drop_path: Annotated[
        Probability, Field(description="Drop path of the trunk, when it is trained.")
    ] = 0.1
    panosam2: Annotated[
        PanoSam2Settings, Field(description="PanoSAM2's parts, for panoramas shown whole.")
    ] = PanoSam2Settings()
    initial: Annotated[
        Literal["sam2", "mimetic"],
        Field(description="How random weights are drawn: as SAM2 does, or mimetic."),
    ] = "sam2"

    @model_validator(mode="after")
    def _reads_all_that_is_set(self) -> Self:
        if self.initial != "sam2" and self.checkpoint is not None:
            raise ValueError(
                f"model.initial is {self.initial}, which is how random weights are drawn, and"
                f" model.checkpoint ({self.checkpoint}) has weights: leave one of them out"
            )
        default = type(self).model_fields["drop_path"].default
        if self.drop_path not in (0, default) and "image_encoder" in self.frozen:
            raise ValueError(
                f"model.drop_path is {self.drop_path}, and the image encoder is frozen and drops no"
                " path: leave it out, or take image_encoder out of model.frozen"
            )
        return self
