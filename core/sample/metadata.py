"""The sample format: every product of one panorama, its key, dtype, shape, unit and background
value.

Writers, readers, `pano verify` and the exports all take their knowledge of the format from this
file. A sample is a key (no dots: WebDataset splits file names at the first one) and members named
`<key>.<suffix>`. `meta.json` is a `SampleMeta`: where the camera stood, what made the scene, what
every id is. Metadata that does not fit the schema, or products of wrong dtype or shape, are refused
at both ends.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from panoforge.core.errors import DataError
from panoforge.core.models import FrozenModel
from panoforge.core.sample.array_codec import MAX_PIXELS, decode_array, encode_array
from panoforge.core.sample.label_maps import InstanceStats, encode_rles, instance_stats

# What is written. Readers take 1 too, which had no 3-D boxes, no visibility and no CPU seconds.
SCHEMA_VERSION = 2
META_SUFFIX = "meta.json"
MAX_META_BYTES = 64 << 20
_KEY = re.compile(
    r"[a-z0-9][a-z0-9_-]{0,79}"
)  # with a suffix it fits the 100 characters of a plain tar header


@dataclass(frozen=True)
class Product:
    """One per-pixel product. `channels` 0 means H×W, else H×W×channels. `background` is the value
    where no geometry is.
    """

    name: str
    suffix: str
    dtypes: tuple[str, ...]
    channels: int
    unit: str
    background: float


PRODUCTS: dict[str, Product] = {
    product.name: product
    for product in (
        Product("rgb", "rgb.jpg", ("uint8",), 3, "sRGB", 0),
        Product("instance", "instance.zst", ("uint16",), 0, "instance id, 0 = nothing", 0),
        Product(
            "depth", "depth.zst", ("float16", "float32"), 0, "metres along the ray", float("inf")
        ),
        Product("normal", "normal.zst", ("float16",), 3, "unit vector, world frame", 0),
        Product(
            "semantic", "semantic.zst", ("uint16",), 0, "category id of configs/categories.yaml", 0
        ),
        Product("albedo", "albedo.jpg", ("uint8",), 3, "sRGB", 0),
    )
}
# The lossless forms that a config may choose instead.
ALTERNATIVE_SUFFIXES = {"rgb.png": "rgb", "instance.png": "instance", "albedo.png": "albedo"}
PRODUCT_OF_SUFFIX = {
    product.suffix: name for name, product in PRODUCTS.items()
} | ALTERNATIVE_SUFFIXES
REQUIRED = ("rgb", "instance")


Vector = tuple[float, float, float]
NotNegative = Annotated[float, Field(ge=0)]


class Pose(FrozenModel):
    """Where the panorama was taken. `world_from_pano` (3×3, row-major) turns a panorama-frame
    direction (x right, y forward, z up) into the world's; world is +Z up, metres. `yaw_deg` is the
    heading, clockwise seen from above.
    """

    position_m: Vector
    yaw_deg: float
    pitch_deg: float = 0.0
    roll_deg: float = 0.0
    world_from_pano: tuple[Vector, Vector, Vector]
    clearance_m: float | None = None  # distance to the nearest surface in any direction


class WrapBox(FrozenModel):
    """Columns [u0, u0 + width) modulo W and rows [v0, v0 + height): the smallest box on the
    cylinder.
    """

    u0: int
    v0: int
    width: int
    height: int


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
        rotation = np.array(self.world_from_box)
        if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-6 or np.linalg.det(rotation) < 0:
            raise ValueError("world_from_box is not a rotation")
        return self


class Rle(FrozenModel):
    """COCO compressed RLE, as pycocotools reads it."""

    size: tuple[int, int]
    counts: str


class InstanceMeta(FrozenModel):
    """What one id is. `flags` come from: structure, transparent, seam, pole. `visibility` is the
    share, by solid angle, of what the instance alone would cover from this camera that is seen: 1
    where nothing stands before it; None if unknown.
    """

    id: Annotated[int, Field(ge=1, le=65535)]
    name: str
    category: str
    source_object: str
    flags: tuple[str, ...] = ()
    pixels: Annotated[int, Field(ge=1)]
    area_sr: Annotated[float, Field(gt=0)]
    box: WrapBox
    box_3d: Box3D | None = None
    visibility: Annotated[float, Field(ge=0, le=1)] | None = None
    rle: Rle | None = None


class SampleMeta(FrozenModel):
    """`meta.json`. All but `timings_s`, `cpu_s`, `peak_memory_mb` and `hardware` is a function of
    config, seed and versions. `timings_s` are seconds on the clock by phase, `cpu_s` core-seconds;
    what a scene's panoramas share is split evenly.
    """

    schema_version: Literal[1, 2] = 2
    key: str
    width: int
    height: int
    source: str  # scene source and room, e.g. infinigen2.rooms/kitchen
    scene: str  # one scene gives several panoramas; splits are by scene
    seed: int
    camera: int
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


def check_key(key: str) -> str:
    """`key`, or ValueError if it cannot be a sample key."""
    if not _KEY.fullmatch(key):
        raise ValueError(
            f"sample key {key!r}: expected lower-case letters, digits, - and _ (no dots: tar"
            " readers split there)"
        )
    return key


def check_product(name: str, array: NDArray, width: int, height: int) -> None:
    """Raise DataError unless `array` is what the table above says of product `name`, at this
    panorama size.
    """
    product = PRODUCTS[name]
    shape = (height, width) if not product.channels else (height, width, product.channels)
    if array.dtype.name not in product.dtypes or array.shape != shape:
        raise DataError(
            f"{name}: expected {' or '.join(product.dtypes)} {shape}, got {array.dtype}"
            f" {array.shape}"
        )
    if name == "depth" and not (array > 0).all():  # NaN compares false too
        raise DataError(
            "depth: expected positive metres or +inf for sky, got zero, negative or NaN"
        )


def encode_product(suffix: str, array: NDArray, *, jpeg_quality: int = 95) -> bytes:
    """Bytes of one member. Colour is RGB order here and everywhere in memory."""
    if suffix.endswith(".zst"):
        return encode_array(array)
    if array.ndim == 3:
        array = cv2.cvtColor(array, cv2.COLOR_RGB2BGR)
    options = (
        [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality]
        if suffix.endswith(".jpg")
        else [cv2.IMWRITE_PNG_COMPRESSION, 6]
    )
    ok, data = cv2.imencode("." + suffix.rsplit(".", 1)[1], array, options)
    if not ok:
        raise ValueError(f"OpenCV could not encode {array.dtype} {array.shape} as {suffix}")
    return data.tobytes()


def decode_product(suffix: str, data: bytes, rows: tuple[int, int] | None = None) -> NDArray:
    """The array of one member; `rows` [start, stop) crops (cheaply for .zst). Raises DataError for
    what does not decode.
    """
    if suffix not in PRODUCT_OF_SUFFIX:
        raise DataError(
            f"member type {suffix!r} is not one of {sorted(PRODUCT_OF_SUFFIX)}: nothing else is"
            " ever decoded"
        )
    if suffix.endswith(".zst"):
        return decode_array(data, rows)
    width, height = image_size(data)
    if width * height > MAX_PIXELS:
        raise DataError(f"image of {width}×{height} is over the cap of {MAX_PIXELS} pixels")
    flags = cv2.IMREAD_UNCHANGED if PRODUCT_OF_SUFFIX[suffix] == "instance" else cv2.IMREAD_COLOR
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if image is None:
        raise DataError(f"{suffix}: OpenCV cannot decode these {len(data)} bytes")
    image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if image.ndim == 3 else image
    return image if rows is None else image[rows[0] : rows[1]]


def image_size(data: bytes) -> tuple[int, int]:
    """(width, height) that a PNG or JPEG claims, read before anything is decoded. DataError if it
    is neither.
    """
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24:
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    at = 2
    while data[:2] == b"\xff\xd8" and at + 9 <= len(data) and data[at] == 0xFF:
        marker, size = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(
                data[at + 5 : at + 7], "big"
            )
        at += 2 + size
    raise DataError("image member is neither a PNG nor a JPEG")


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
            f"meta.json does not fit schema versions 1 to {SCHEMA_VERSION}: {where}: {first['msg']}"
        ) from None


@dataclass(frozen=True)
class InstanceLabel:
    """What the renderer knows of an id, before pixels are counted."""

    name: str
    category: str
    source_object: str
    flags: tuple[str, ...] = ()
    box_3d: Box3D | None = None
    visibility: float | None = None


def instance_table(
    labels: NDArray[np.uint16], names: Mapping[int, InstanceLabel], *, rle: bool = False
) -> tuple[InstanceMeta, ...]:
    """The metadata's instance table: what is known of each id joined with what the label map says.
    Every id in the map must be named; seam and pole flags come from the pixels. With `rle` each
    instance carries its COCO RLE.
    """
    stats = instance_stats(labels)
    unnamed = sorted(set(stats.ids.tolist()) - set(names))
    if unnamed:
        raise DataError(f"label map holds ids that nothing names: {unnamed[:10]}")
    rles = encode_rles(labels) if rle else {}
    return tuple(_instance_row(stats, index, names, rles) for index in range(stats.ids.size))


def _instance_row(
    stats: InstanceStats, index: int, names: Mapping[int, InstanceLabel], rles: dict
) -> InstanceMeta:
    id_ = int(stats.ids[index])
    label, box = names[id_], stats.box(index)
    flags = [*label.flags] + ["seam"] * bool(stats.seam[index]) + ["pole"] * bool(stats.pole[index])
    return InstanceMeta(
        id=id_,
        name=label.name,
        category=label.category,
        source_object=label.source_object,
        flags=tuple(sorted(set(flags))),
        pixels=int(stats.pixels[index]),
        area_sr=float(stats.area_sr[index]),
        box=WrapBox(u0=box.u0, v0=box.v0, width=box.width, height=box.height),
        box_3d=label.box_3d,
        visibility=label.visibility,
        rle=Rle(**rles[id_]) if id_ in rles else None,
    )


def table_faults(labels: NDArray[np.uint16], meta: SampleMeta) -> list[str]:
    """How the instance table disagrees with the pixels; empty when it does not. Ids must be dense
    from 1.
    """
    stats = instance_stats(labels)
    in_map, in_table = stats.ids.tolist(), [row.id for row in meta.instances]
    if in_map != in_table:
        return [
            f"instance ids differ: {len(in_map)} in the label map, {len(in_table)} in the table, "
            f"first difference {sorted(set(in_map) ^ set(in_table))[:5] or 'in their order'}"
        ]
    faults = []
    if in_map != list(range(1, len(in_map) + 1)):
        faults.append("instance ids are not dense from 1")
    for index, row in enumerate(meta.instances):
        box = stats.box(index)
        if row.pixels != stats.pixels[index] or abs(
            row.area_sr - stats.area_sr[index]
        ) > 1e-9 * max(1.0, row.area_sr):
            faults.append(
                f"instance {row.id}: table says {row.pixels} px and {row.area_sr:.6g} sr, "
                f"the pixels say {stats.pixels[index]} and {stats.area_sr[index]:.6g}"
            )
        if (row.box.u0, row.box.v0, row.box.width, row.box.height) != (
            box.u0,
            box.v0,
            box.width,
            box.height,
        ):
            faults.append(f"instance {row.id}: box in the table does not match the pixels")
    return faults
