"""Which MTPano: its backbone, its parts, its tasks and classes. No torch here."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from panoforge.core.models import FrozenModel, Positive
from panoforge.core.storage.location import LocalPath

DenseTask = Literal["semantic", "depth", "normal"]
Auxiliary = Literal["image_gradient", "edge_distance", "point_map"]
ClassSetName = Literal["ade20k", "nyu40", "structured3d", "stanford13", "panoforge"]
Azimuth = Literal["absolute", "ray", "none"]
LEVELS = 4  # layers of the backbone that DPT reads


class BackboneSettings(FrozenModel):
    """The vision transformer: a small one from random weights, or one from a folder."""

    folder: Annotated[
        LocalPath | None,
        Field(
            description="A folder of DINOv2 or DINOv3 as transformers saves it (config.json,"
            " model.safetensors); null is a small ViT from random weights."
        ),
    ] = None
    frozen: Annotated[bool, Field(description="Whether the backbone is left as it is.")] = False
    patch_px: Annotated[
        Positive,
        Field(ge=8, le=32, multiple_of=2, description="Pixels on each side of a token."),
    ] = 16
    width: Annotated[
        Positive, Field(le=4096, multiple_of=4, description="Channels of a token; no folder.")
    ] = 192
    depth: Annotated[
        int, Field(ge=LEVELS, le=64, description="Blocks of the small ViT; no folder.")
    ] = 8
    heads: Annotated[Positive, Field(le=64, description="Heads of its attention; no folder.")] = 6

    @model_validator(mode="after")
    def _of_its_kind(self) -> Self:
        fresh = type(self).model_fields
        unread = [k for k in ("width", "depth", "heads") if getattr(self, k) != fresh[k].default]
        if self.folder is not None and unread:
            raise ValueError(
                f"{unread[0]} is {getattr(self, unread[0])}, and the folder's config.json says it"
                f" for {self.folder}: leave {unread[0]} out, or leave folder out"
            )
        if self.folder is None and self.width % (4 * self.heads):
            raise ValueError(
                f"width ({self.width}) must be a multiple of 4 × heads ({4 * self.heads}): each"
                " head turns one half of its channels by longitude and one by latitude, in pairs"
            )
        return self


class MtpanoSettings(FrozenModel):
    """MTPano (arXiv 2602.05330), every part a switch. All parts off: plain heads on a ViT."""

    backbone: Annotated[
        BackboneSettings, Field(description="The vision transformer under the heads.")
    ] = BackboneSettings()
    height_px: Annotated[
        int, Field(ge=32, le=2048, description="Rows of a panorama; it is twice as wide.")
    ] = 512
    tasks: Annotated[
        tuple[DenseTask, ...],
        Field(min_length=1, description="What the model predicts of every pixel."),
    ] = ("semantic", "depth", "normal")
    classes: Annotated[ClassSetName, Field(description="The label set of the semantic task.")] = (
        "ade20k"
    )
    channels: Annotated[
        Positive, Field(le=2048, multiple_of=16, description="Channels of streams and heads.")
    ] = 256
    streams: Annotated[
        bool,
        Field(description="Two streams, for what a turn of the camera leaves and what it turns."),
    ] = True
    mixers: Annotated[
        bool, Field(description="ERP token mixers in them: wider convolutions near the poles.")
    ] = True
    azimuth: Annotated[
        Azimuth,
        Field(
            description="What the variant stream knows of where it looks: ray, polar and azimuth"
            " angle (the paper); all but the angle; or the latitude alone, so that a turned picture"
            " gives turned results. With `none` normals are learnt in each pixel's own axes, which"
            " needs no streams."
        ),
    ] = "absolute"
    bridge: Annotated[
        bool, Field(description="Streams attend to the features of all tasks (BridgeNet).")
    ] = True
    truncation: Annotated[
        bool, Field(description="No gradient through the bridge into the other group's tasks.")
    ] = True
    auxiliary: Annotated[
        tuple[Auxiliary, ...], Field(description="Auxiliary tasks, which training alone has.")
    ] = ("image_gradient", "edge_distance", "point_map")

    @model_validator(mode="after")
    def _parts_stand_on_streams(self) -> Self:
        fresh = type(self).model_fields
        unread = [  # azimuth: none is read, it says in which axes heads give normals
            key
            for key in ("mixers", "azimuth", "bridge", "truncation", "auxiliary")
            if not self.streams
            and getattr(self, key) not in (fresh[key].default, False, (), "none")
        ]
        if unread:
            raise ValueError(
                f"{unread[0]} is {getattr(self, unread[0])!r}, and without streams nothing reads"
                f" it: set streams to true, or leave {unread[0]} out"
            )
        return self

    @model_validator(mode="after")
    def _whole_tokens(self) -> Self:
        step = 2 * self.backbone.patch_px
        if self.height_px % step:
            raise ValueError(
                f"height_px ({self.height_px}) must be a multiple of {step}, two tokens of"
                f" {self.backbone.patch_px} px: features are halved once"
            )
        if len(set(self.tasks)) != len(self.tasks) or len(set(self.auxiliary)) != len(
            self.auxiliary
        ):
            raise ValueError("tasks and auxiliary must each name a task once")
        return self
