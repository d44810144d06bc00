"""The products of one panorama: member suffix, dtype, shape, unit and background value of each.

Writers, readers, `pano verify` and the exports all take their knowledge of products from this file.
Wrong dtypes and shapes are refused when written and when read.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from panoforge.core.errors import DataError
from panoforge.core.image_header import image_size
from panoforge.core.numbers import counted
from panoforge.core.sample.array_codec import (
    MAX_PIXELS,
    decode_array,
    encode_array,
    encode_deltas,
    read_header,
)
from panoforge.core.sample.flow import check_codes
from panoforge.core.sample.octahedral import from_octahedral, to_octahedral
from panoforge.core.types import Labels

_AS_STORED = cv2.IMREAD_UNCHANGED
_COLOUR = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION  # a product lies as its meta says


@dataclass(frozen=True)
class Product:
    """One per-pixel product.

    `suffix` is its usual member, `dtypes` are what reading gives.
    `channels` 0 means H×W, else H×W×channels. `background` is the value where no geometry is.
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
            "depth",
            "depth.delta.zst",
            ("float16", "float32"),
            0,
            "metres along the ray",
            float("inf"),
        ),
        Product(
            "normal", "normal.oct.zst", ("float16", "float32"), 3, "unit vector, world frame", 0
        ),
        Product(
            "semantic", "semantic.zst", ("uint16",), 0, "category id of configs/categories.yaml", 0
        ),
        Product("albedo", "albedo.jpg", ("uint8",), 3, "sRGB", 0),
        Product(
            "flow_forward",
            "flow_forward.delta.zst",
            ("uint16",),
            3,
            "codes of where its point is in the next frame (panoforge.core.sample.flow)",
            0,
        ),
        Product(
            "flow_backward",
            "flow_backward.delta.zst",
            ("uint16",),
            3,
            "codes of where its point is in the frame before (panoforge.core.sample.flow)",
            0,
        ),
        *(
            Product(
                f"{name}_confidence",
                f"{name}_confidence.zst",
                ("uint8",),
                0,
                "codes of 1/255: how sure a pseudo-label is (panoforge.label.pseudo)",
                0,
            )
            for name in ("depth", "normal", "semantic", "instance")
        ),
    )
}

# The other forms: what a config may choose instead, lossless, and what was written before (raw
# bands, a suffix of its own, so that neither reader nor writer can take one for the other).
ALTERNATIVE_SUFFIXES = {
    "rgb.png": "rgb",
    "instance.png": "instance",
    "albedo.png": "albedo",
    "normal.delta.zst": "normal",
    "depth.zst": "depth",
    "normal.zst": "normal",
}

PRODUCT_OF_SUFFIX = {
    product.suffix: name for name, product in PRODUCTS.items()
} | ALTERNATIVE_SUFFIXES

REQUIRED = ("rgb", "instance")
FLOWS = ("flow_forward", "flow_backward")  # of frames of videos only


def check_product(name: str, array: NDArray, width: int, height: int) -> None:
    """Raise DataError unless `array` is what product `name` is to be.

    The table above says what that is, at this panorama size.
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
    if name == "normal" and not np.isfinite(array).all():
        raise DataError("normal: expected unit vectors, or zero for sky, got infinity or NaN")
    if name in FLOWS:
        check_codes(array)


def depth_faults(depth: NDArray[np.floating], labels: Labels) -> list[str]:
    """Where depth and ids of one panorama contradict each other.

    An id stands for geometry, and that lies somewhere.
    """
    lost = labels[~np.isfinite(depth) & (labels > 0)]
    if not lost.size:
        return []
    return [
        f"depth: {counted(lost.size, 'pixel of instances is', 'pixels of instances are')}"
        f" infinitely far, the first of id {lost[0]}:"
        " only sky and id 0 may be"
    ]


def half_depth(depth_m: NDArray[np.float32]) -> NDArray[np.float16]:
    """Depth as float16, which keeps it to 0.05 % of the distance: 5 mm at 10 m.

    DataError where a finite depth is beyond 65,504 m, its end, or rounds to 0.
    """
    with np.errstate(over="ignore"):
        half = depth_m.astype(np.float16)
    wrong = (np.isfinite(depth_m) & ~np.isfinite(half)) | ((half == 0) & (depth_m > 0))
    if wrong.any():
        raise DataError(
            f"depth: {counted(int(wrong.sum()), 'pixel')}, such as {float(depth_m[wrong][0]):g}"
            f" m, {'does' if wrong.sum() == 1 else 'do'} not fit"
            " float16, which ends at 65,504 m: set depth_format=float32"
        )
    return half


def encode_product(suffix: str, array: NDArray, *, jpeg_quality: int = 95) -> bytes:
    """Bytes of one member. Colour is RGB order here and everywhere in memory."""
    if suffix.endswith(".oct.zst"):
        return encode_deltas(to_octahedral(array))
    if suffix.endswith(".delta.zst"):
        return encode_deltas(array)
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
    """The array of one member; `rows` [start, stop) crops (cheaply for .zst).

    Raises DataError for what does not decode.
    """
    if suffix not in PRODUCT_OF_SUFFIX:
        raise DataError(
            f"member type {suffix!r} is not one of {sorted(PRODUCT_OF_SUFFIX)}: nothing else is"
            " ever decoded"
        )
    if suffix.endswith(".zst"):
        _check_kind(suffix, data)
        array = decode_array(data, rows)
        return from_octahedral(array) if suffix.endswith(".oct.zst") else array
    width, height = image_size(data)
    if not 0 < width * height <= MAX_PIXELS:
        raise DataError(f"image of {width}×{height} is over the cap of {MAX_PIXELS} pixels")
    ids = PRODUCT_OF_SUFFIX[suffix] == "instance"
    image = cv2.imdecode(np.frombuffer(data, np.uint8), _AS_STORED if ids else _COLOUR)
    if image is None or image.shape[:2] != (height, width):
        raise DataError(f"{suffix}: OpenCV cannot decode these {len(data)} bytes")
    image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if image.ndim == 3 else image
    return image if rows is None else image[rows[0] : rows[1]]


def _check_kind(suffix: str, data: bytes) -> None:
    """DataError where an encoded array is of another kind: nothing of it is decoded then."""
    product, header = PRODUCTS[PRODUCT_OF_SUFFIX[suffix]], read_header(data)
    dtypes, channels = product.dtypes, product.channels
    if suffix.endswith(".oct.zst"):
        dtypes, channels = ("uint16",), 2
    deltas = suffix.endswith((".delta.zst", ".oct.zst"))
    if deltas != (header.order is not None):
        raise DataError(
            f"{suffix}: holds {'raw bands' if deltas else 'differences in planes'}, which this"
            " suffix does not stand for: the member was renamed or written by something else"
        )
    if header.dtype.name not in dtypes or header.shape[2:] != ((channels,) if channels else ()):
        raise DataError(
            f"{product.name}: expected {' or '.join(dtypes)} with {channels or 'no'} channels, its"
            f" header says {header.dtype} {header.shape}"
        )


def product_size(suffix: str, data: bytes | memoryview) -> tuple[int, int]:
    """(width, height) that a member claims; nothing is decoded. DataError if it claims none."""
    if suffix.endswith(".zst"):
        height, width = read_header(data).shape[:2]
        return width, height
    return image_size(bytes(data))
