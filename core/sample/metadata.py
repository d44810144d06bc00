"""The metadata of a sample: `meta.json` is a `SampleMeta`.

It says where the camera stood, what made the scene, and what every id is. A sample is a key (no
dots: WebDataset splits file names at the first one) and members named `<key>.<suffix>`. Metadata
that does not fit the schema is refused when written and when read.
"""

import json
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, ValidationError, model_validator

from panoforge.core.errors import DataError
from panoforge.core.models import FrozenModel
from panoforge.core.names import MAX_FRAMES, SampleKey, SceneName, frame_of, shown
from panoforge.core.sample.array_codec import MAX_PIXELS
from panoforge.core.sample.products import PRODUCT_OF_SUFFIX

SCHEMA_VERSION: Literal[1] = 1
META_SUFFIX = "meta.json"
VIDEO_SUFFIX = "video.json"  # of the first frame of a video
MAX_META_BYTES = 64 << 20


Vector = tuple[float, float, float]
NotNegative = Annotated[float, Field(ge=0)]
Length = Annotated[int, Field(ge=1, le=65535)]  # pixels
Rotation = tuple[Vector, Vector, Vector]  # 3×3, row-major
Fps = Annotated[float, Field(gt=0, le=1000)]  # frames a second


def is_rotation(matrix: Rotation) -> bool:
    """Whether a 3×3 matrix is a rotation, to the rounding of its numbers."""
    rotation = np.array(matrix)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is none
        off = float(np.abs(rotation @ rotation.T - np.eye(3)).max())
    return off <= 1e-6 and float(np.linalg.det(rotation)) > 0


class Pose(FrozenModel):
    """Where the panorama was taken.

    `world_from_pano` (3×3, row-major) turns a panorama-frame direction (x right, y forward, z up)
    into the world's; world is +Z up, metres. `yaw_deg` is the heading, clockwise seen from above.
    """

    position_m: Vector
    yaw_deg: float
    pitch_deg: float = 0.0
    roll_deg: float = 0.0
    world_from_pano: tuple[Vector, Vector, Vector]
    clearance_m: float | None = None  # distance to the nearest surface in any direction


class WrapBox(FrozenModel):
    """The smallest box on the cylinder.

    Columns [u0, u0 + width) modulo W and rows [v0, v0 + height).
    """

    u0: Annotated[int, Field(ge=0, le=65535)]
    v0: Annotated[int, Field(ge=0, le=65535)]
    width: Length
    height: Length


class Box3D(FrozenModel):
    """The smallest upright box around an instance, all of it, seen or not: world metres.

    `world_from_box` (3×3, row-major) turns box axes into the world's: x along the longer horizontal
    side, z up; `size_m` are the full lengths of its sides along x, y, z. Upright (rotated about the
    vertical only), as indoor 3-D detection has it (SUN RGB-D, Song et al. 2015).
    """

    center_m: Vector
    size_m: tuple[NotNegative, NotNegative, NotNegative]
    world_from_box: tuple[Vector, Vector, Vector]

    @model_validator(mode="after")
    def _is_rotation(self) -> "Box3D":
        if not is_rotation(self.world_from_box):
            raise ValueError("world_from_box is not a rotation")
        return self


class Rle(FrozenModel):
    """COCO compressed RLE, as pycocotools reads it."""

    size: tuple[int, int]
    counts: str


class InstanceMeta(FrozenModel):
    """What one id is.

    `flags` come from: structure, transparent, seam, pole. `visibility` is the share, by solid
    angle, of what the instance alone would cover from this camera that is seen: 1 where nothing
    stands before it; None if unknown.
    """

    id: Annotated[int, Field(ge=1, le=65535)]
    name: str
    category: str
    source_object: str
    flags: tuple[str, ...] = ()
    pixels: Annotated[int, Field(ge=1, le=MAX_PIXELS)]
    area_sr: Annotated[float, Field(gt=0)]
    box: WrapBox
    box_3d: Box3D | None = None
    visibility: Annotated[float, Field(ge=0, le=1)] | None = None
    rle: Rle | None = None


class FrameOfVideo(FrozenModel):
    """Which frame of its video a sample is, from 0, of how many, and how many a second."""

    frame: Annotated[int, Field(ge=0, lt=MAX_FRAMES)]
    frames: Annotated[int, Field(ge=1, le=MAX_FRAMES)]
    fps: Fps


class SampleMeta(FrozenModel):
    """`meta.json`.

    All but `timings_s`, `cpu_s`, `peak_memory_mb` and `hardware` is a function of config, seed and
    versions. `timings_s` are seconds on the clock by phase, `cpu_s` core-seconds; what a scene's
    panoramas share is split evenly.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    key: SampleKey
    width: Length
    height: Length
    source: str  # scene source and room, e.g. infinigen2.rooms/kitchen
    scene: SceneName  # one scene gives several panoramas; splits are by scene
    seed: Annotated[int, Field(ge=0, lt=2**63)]  # the index has signed 64-bit integers
    camera: Annotated[int, Field(ge=0, lt=2**31)]  # of a frame: the video's number
    video: FrameOfVideo | None = None
    pose: Pose
    products: tuple[str, ...]  # suffixes, sorted
    instances: tuple[InstanceMeta, ...]
    notes: tuple[str, ...] = ()  # what differs from the plain source, e.g. a replaced generator
    config_sha256: str
    versions: dict[str, str]
    timings_s: dict[str, float] = {}
    cpu_s: dict[str, float] = {}
    peak_memory_mb: float | None = None
    hardware: dict[str, str] = {}

    @model_validator(mode="after")
    def _has_known_products(self) -> "SampleMeta":
        if strangers := set(self.products) - set(PRODUCT_OF_SUFFIX):
            raise ValueError(f"products: {shown(min(strangers))} is not a member of the format")
        return self

    @model_validator(mode="after")
    def _is_the_frame_of_its_key(self) -> "SampleMeta":
        found, said = frame_of(self.key), self.video
        if (found is None) != (said is None) or (
            found and said and (found[1] != said.frame or said.frame >= said.frames)
        ):
            raise ValueError(f"video: {shown(self.key)} is not the key of the frame that it names")
        last = said.frames - 1 if said else 0
        ends = {"flow_backward": 0, "flow_forward": last}
        for suffix in self.products:
            if (name := PRODUCT_OF_SUFFIX[suffix]) in ends and (
                said is None or said.frame == ends[name]
            ):
                raise ValueError(f"products: {suffix} leads to no other frame")
        return self

    @property
    def members(self) -> frozenset[str]:
        """The suffixes of all members that the sample has: the first frame holds its video's."""
        first = self.video is not None and self.video.frame == 0
        return frozenset((*self.products, META_SUFFIX, *([VIDEO_SUFFIX] if first else [])))


def encode_meta(meta: SampleMeta) -> bytes:
    """Stable JSON bytes, schema version first."""
    return (
        json.dumps(
            meta.model_dump(mode="json", exclude_none=True),
            ensure_ascii=False,
            separators=(",", ":"),
        ).encode()
        + b"\n"
    )


def decode_meta(data: bytes) -> SampleMeta:
    """Parse and validate `meta.json`. DataError names the first thing that does not fit."""
    if len(data) > MAX_META_BYTES:
        raise DataError(f"meta.json of {len(data)} bytes is over the cap of {MAX_META_BYTES}")
    try:
        return SampleMeta.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "document"
        raise DataError(
            f"meta.json does not fit schema version {SCHEMA_VERSION}: {where}: {first['msg']}"
        ) from None
