"""Files of foreign datasets, read with care: sizes are capped before anything is decoded, and every
fault names its file.

Images come as RGB uint8 H×W×3, label PNGs as the integers they store (a palette's indices, never
its colours), JSON as plain Python. COCO run lengths are decoded here rather than by pycocotools,
which leaves the rest of a mask whose counts stop early as whatever the memory held.
"""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from panoforge.core.errors import DataError
from panoforge.core.sample.products import image_size
from panoforge.core.storage.atomic import storage_errors

MAX_IMAGE_BYTES = 256 << 20
MAX_JSON_BYTES = 256 << 20
MAX_PIXELS = 1 << 27  # of one image; 16K panoramas
LABEL_MODES = ("P", "L", "1")


def read_bytes(path: Path, limit: int) -> bytes:
    """The bytes of a file of at most `limit`."""
    if not path.is_file():
        raise DataError(f"{path} does not exist, though its dataset lists it")
    with storage_errors(path):
        if path.stat().st_size > limit:
            raise DataError(
                f"{path} is over the cap of {limit >> 20} MiB: it is damaged, or not of this"
                " dataset"
            )
        return path.read_bytes()


def read_json(path: Path, limit: int = MAX_JSON_BYTES) -> Any:
    """A JSON file's content."""
    try:
        return json.loads(read_bytes(path, limit))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({error}): download it again") from None


def read_image(path: Path) -> NDArray[np.uint8]:
    """A JPEG or PNG as RGB uint8 H×W×3."""
    data = read_bytes(path, MAX_IMAGE_BYTES)
    check_pixels(path, data)
    image = cv2.imdecode(
        np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    )
    if image is None:
        raise DataError(f"{path} cannot be decoded: it is truncated or damaged, download it again")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_labels(path: Path) -> NDArray[np.uint8]:
    """A palette or grey PNG as H×W integers."""
    data = read_bytes(path, MAX_IMAGE_BYTES)
    check_pixels(path, data)
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            mode = image.mode
            labels = np.array(image) if mode in LABEL_MODES else None
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{path} is not a whole PNG ({error}): download it again") from None
    if labels is None:
        raise DataError(
            f"{path}: expected a palette or grey PNG whose pixels are object ids, found mode {mode}"
        )
    return labels.astype(np.uint8)


def check_pixels(path: Path, data: bytes) -> None:
    """DataError unless `data` is a JPEG or PNG that claims no more than MAX_PIXELS."""
    try:
        width, height = image_size(data)
    except DataError:
        raise DataError(f"{path} is neither a JPEG nor a PNG") from None
    if not 0 < width * height <= MAX_PIXELS:
        raise DataError(f"{path} claims {width}×{height} pixels: outside the cap of {MAX_PIXELS}")


def run_counts(rle: Any, height: int, width: int, where: str) -> NDArray[np.int64]:
    """The run lengths of a COCO RLE (compressed string or plain list) of an H×W mask, zeros first,
    down the columns. DataError unless they fill the mask exactly.
    """
    if not isinstance(rle, dict) or "counts" not in rle or "size" not in rle:
        raise DataError(
            f"{where}: expected a COCO RLE with size and counts, found {str(rle)[:60]!r}"
        )
    if rle["size"] != [height, width]:
        raise DataError(f"{where}: its mask is {rle['size']}, its image [{height}, {width}]")
    counts = rle["counts"]
    try:
        runs = _uncompress(counts) if isinstance(counts, str) else np.array(counts, np.int64)
    except (ValueError, TypeError, OverflowError):
        runs = np.array([-1])
    if (
        runs.ndim != 1
        or not runs.size
        or runs.min() < 0
        or runs.max() > height * width
        or runs.sum() != height * width
    ):
        raise DataError(
            f"{where}: its RLE does not fill a mask of {width}×{height}: the annotation is damaged"
        )
    return runs


def _uncompress(text: str) -> NDArray[np.int64]:
    """COCO's compressed counts (pycocotools' rleFrString): groups of 5 bits, low first, bit 5 says
    that more follow, bit 4 of the last is the sign; from the fourth number on each is the
    difference to the one two before.
    """
    symbols = np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int64) - 48
    if not symbols.size or symbols.min() < 0 or symbols.max() > 63 or symbols[-1] & 32:
        raise ValueError("not compressed counts")
    last = np.flatnonzero(symbols & 32 == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    place = np.arange(symbols.size) - np.repeat(first, last - first + 1)
    if place.max() > 7:
        raise ValueError("a run of more than 2^35")
    values = np.add.reduceat((symbols & 31) << (5 * place), first)
    values -= np.where(symbols[last] & 16, np.int64(1) << (5 * (last - first + 1)), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def fill_runs(runs: NDArray[np.int64], height: int, width: int) -> NDArray[np.bool_]:
    """The H×W mask of `run_counts`."""
    return np.repeat(np.arange(runs.size) % 2 == 1, runs).reshape(width, height).T


def run_area(runs: NDArray[np.int64]) -> int:
    """Pixels of the mask of `run_counts`."""
    return int(runs[1::2].sum())


def some(names: Sequence[str]) -> str:
    """A few names for a message: what was found in a folder."""
    return ", ".join(sorted(names)[:5]) + (" …" if len(names) > 5 else "") if names else "nothing"


def found_in(folder: Path) -> str:
    """What a folder holds, for a message."""
    return some([p.name for p in folder.iterdir()]) if folder.is_dir() else "no such folder"
