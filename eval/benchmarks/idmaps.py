"""Instance maps in the forms in which people keep them, as dense uint16 id maps: grey PNG, palette
PNG, colour PNG, one file per instance, COCO JSON. All ways lead through
`panoforge.core.sample.label_maps.dense_ids`; where masks overlap, the smaller one is on top, so
that nothing is hidden whole by what it stands on.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from panoforge.core.errors import DataError
from panoforge.core.foreign.files import (
    MAX_IMAGE_BYTES,
    check_pixels,
    fill_runs,
    read_bytes,
    run_counts,
)
from panoforge.core.sample.label_maps import dense_ids
from panoforge.core.types import Labels

IMAGES = (".jpg", ".jpeg", ".png")


def read_idmap(path: Path, background: Sequence[int] = (0,)) -> tuple[Labels, NDArray[np.int64]]:
    """A PNG of any kind: palette and grey pixels are ids, colours are (R, G, B) → R·2¹⁶ + G·2⁸ + B.
    Returns the map and the old id of each new one. `background` ids become 0.
    """
    data = read_bytes(path, MAX_IMAGE_BYTES)
    check_pixels(path, data)
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            pixels = np.array(image.convert("RGB") if image.mode in ("RGBA", "RGB") else image)
            mode = image.mode
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{path} is not a whole PNG ({error}): download it again") from None
    if pixels.ndim == 3 and pixels.shape[2] == 3:
        ids = (pixels.astype(np.int64) << [16, 8, 0]).sum(axis=2)
    elif pixels.ndim == 2 and mode in ("P", "L", "1", "I", "I;16", "I;16B"):
        ids = pixels.astype(np.int64)
    else:
        raise DataError(
            f"{path}: expected a grey, palette or RGB PNG of instance ids, found mode {mode}"
        )
    ids[np.isin(ids, background)] = -1
    ids += 1  # 0 may be an instance
    labels, old = dense_ids(np.maximum(ids, 0))
    return labels, old - 1


def stack_masks(
    masks: Mapping[int, NDArray[np.bool_]], height: int, width: int, where: Path
) -> tuple[Labels, list[int]]:
    """One map of masks that may overlap, smaller ones on top; the key of each new id. Empty and
    wholly hidden masks are left out.
    """
    order = sorted(masks, key=lambda key: (-int(masks[key].sum()), key))
    if len(order) > 65535:
        raise DataError(
            f"{where} has {len(order)} instances in one image: more than 65,535 is no instance map"
        )
    labels = np.zeros((height, width), np.uint16)
    for k, key in enumerate(order):
        if masks[key].shape != (height, width):
            h, w = masks[key].shape
            raise DataError(f"{where}: the mask of {key} is {w}×{h}, its image {width}×{height}")
        labels[masks[key]] = k + 1
    dense, old = dense_ids(labels)
    return dense, [order[k - 1] for k in old.tolist()]


def coco_masks(
    annotations: Sequence[Mapping[str, Any]], height: int, width: int, where: Path
) -> dict[int, NDArray[np.bool_]]:
    """Masks of COCO annotations by their position: polygons or RLE."""
    masks = {}
    for k, annotation in enumerate(annotations):
        name = f"{where}, annotation {annotation.get('id', k)}"
        segmentation = annotation.get("segmentation")
        if isinstance(segmentation, list):
            masks[k] = fill_polygons(segmentation, height, width, name)
        else:
            masks[k] = fill_runs(run_counts(segmentation, height, width, name), height, width)
    return masks


def fill_polygons(
    polygons: Sequence[Any], height: int, width: int, where: str
) -> NDArray[np.bool_]:
    """The union of polygons, each a flat list x0, y0, x1, y1, … or a list of points."""
    mask = np.zeros((height, width), np.uint8)
    for polygon in polygons:
        try:
            points = np.array(polygon, np.float64).reshape(-1, 2)
        except (ValueError, TypeError):
            points = np.zeros((0, 2))
        if len(points) < 3 or not np.isfinite(points).all() or np.abs(points).max() > 1 << 20:
            raise DataError(
                f"{where}: expected polygons of at least 3 points, found {str(polygon)[:60]}"
            )
        cv2.fillPoly(mask, [np.rint(points).astype(np.int32)], 1)
    return mask.view(bool)


def images_in(folder: Path) -> list[Path]:
    """The images of a folder by name; none where there is no folder."""
    return (
        sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGES) if folder.is_dir() else []
    )
