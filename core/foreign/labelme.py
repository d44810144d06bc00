"""LabelMe files: one JSON beside a picture, with its shapes. Format: github.com/wkentaro/labelme.

Read are polygons, rectangles, circles, masks (a base64 PNG between two points) and run lengths
(`rle`, of tools with SAM masks). Lines and points have no area: they are left out and counted.
Outlines are filled as COCO fills them.
"""

import base64
import binascii
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from panoforge.core.errors import DataError
from panoforge.core.foreign.coco import coco_mask
from panoforge.core.foreign.files import read_json
from panoforge.core.foreign.left_out import LeftOut
from panoforge.core.foreign.masks import fill_polygons
from panoforge.core.foreign.pictures import MAX_PIXELS
from panoforge.core.image_header import image_size
from panoforge.core.numbers import counted
from panoforge.core.types import Floats, Mask

CIRCLE_POINTS = 128
WITHOUT_AREA = ("line", "linestrip", "point", "points")


@dataclass(frozen=True)
class Shape:
    """One shape: what it shows, and `group`, which the shapes of one object share."""

    label: str
    group: str | None
    entry: dict[str, Any]


@dataclass(frozen=True)
class LabelmeFile:
    """The shapes of a picture of `height`×`width` pixels, and what was left out."""

    path: Path
    height: int
    width: int
    shapes: tuple[Shape, ...]
    left_out: LeftOut

    def mask(self, shape: Shape) -> Mask:
        """The H×W mask of one shape. DataError if it is damaged."""
        return _mask(shape.entry, self.height, self.width, f"{self.path}, {shape.label}")


def read_labelme(path: Path) -> LabelmeFile:
    """A LabelMe file.

    Raises:
        DataError: it is none, or holds a shape of a kind that is not known.
    """
    document = read_json(path)
    shapes = document.get("shapes") if isinstance(document, dict) else None
    if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
        raise DataError(
            f"{path} is not LabelMe JSON: expected a list of shapes, found {_said(document)}"
        )
    sides = document.get("imageHeight"), document.get("imageWidth")
    if not all(type(side) is int and 0 < side <= MAX_PIXELS for side in sides):
        raise DataError(
            f"{path} is not LabelMe JSON: expected imageHeight and imageWidth in pixels, found"
            f" {str(sides)[:80]}"
        )
    height, width = (int(side) for side in sides if side is not None)
    if width * height > MAX_PIXELS:
        raise DataError(
            f"{path} claims {width}×{height} pixels: over the cap of {MAX_PIXELS},"
            " annotate a smaller copy of the picture"
        )
    found, left = [], []
    for entry in shapes:
        label = _text(entry.get("label"), path)
        group = entry.get("group_id")
        if not label and group is None:
            raise DataError(
                f"{path}: a shape has neither group_id nor label: give it a label in LabelMe, or"
                " delete it"
            )
        kind = str(entry.get("shape_type") or "polygon")
        if kind in WITHOUT_AREA:
            left.append((f"{kind}, which has no area", label))
        elif kind not in _KINDS:
            raise DataError(
                f"{path}: a shape of {label!r} is of the kind {kind[:40]!r}, known are"
                f" {', '.join((*_KINDS, *WITHOUT_AREA))}: draw it as one of them, or delete it"
            )
        else:
            found.append(Shape(label, None if group is None else _text(group, path), entry))
    return LabelmeFile(path, height, width, tuple(found), LeftOut.of(left))


def _said(document: Any) -> str:
    """What a file holds instead of shapes, in a few words."""
    if isinstance(document, dict):
        return f"the keys {', '.join(map(str, document))[:100]}" if document else "nothing"
    return type(document).__name__


def _text(value: Any, path: Path) -> str:
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int) or len(str(value)) > 500:
        raise DataError(f"{path}: expected a name or a number, found {str(value)[:60]!r}")
    return str(value)


def _mask(entry: dict[str, Any], height: int, width: int, where: str) -> Mask:
    return _KINDS[str(entry.get("shape_type") or "polygon")](entry, height, width, where)


def _points(entry: dict[str, Any], count: int, where: str) -> Floats:
    """The `count` points of a shape, (count, 2)."""
    try:
        points = np.asarray(entry.get("points"), np.float64)
    except (TypeError, ValueError, OverflowError):
        points = np.zeros(0)
    if points.shape != (count, 2) or not np.isfinite(points).all():
        raise DataError(
            f"{where}: expected {counted(count, 'point')}, found {str(entry.get('points'))[:60]}"
        )
    return points


def _polygon(entry: dict[str, Any], height: int, width: int, where: str) -> Mask:
    return fill_polygons([entry.get("points")], height, width, where)


def _rectangle(entry: dict[str, Any], height: int, width: int, where: str) -> Mask:
    points = entry.get("points")
    if isinstance(points, list) and len(points) == 4:  # as newer versions write it
        return _polygon(entry, height, width, where)
    (x0, y0), (x1, y1) = _points(entry, 2, where).tolist()
    return fill_polygons([[x0, y0, x1, y0, x1, y1, x0, y1]], height, width, where)


def _circle(entry: dict[str, Any], height: int, width: int, where: str) -> Mask:
    centre, edge = _points(entry, 2, where)
    angle = np.linspace(0, 2 * np.pi, CIRCLE_POINTS, endpoint=False)
    outline = centre + np.hypot(*(edge - centre)) * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return fill_polygons([outline.tolist()], height, width, where)


def _png(entry: dict[str, Any], height: int, width: int, where: str) -> Mask:
    """A mask's PNG, between its two points (the upper left and the lower right pixel)."""
    low, high = np.rint(_points(entry, 2, where))
    try:
        data = base64.b64decode(entry.get("mask", ""), validate=True)
        columns, rows = image_size(data)
        if columns * rows > height * width:
            raise DataError("it is larger than its picture, cut it")
        small = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    except (binascii.Error, TypeError, ValueError, cv2.error, DataError) as error:
        raise DataError(f"{where}: expected a mask as a base64 PNG ({error})") from None
    if small is None:
        raise DataError(
            f"{where}: the PNG of its mask is damaged: draw that shape again, or delete it"
        )
    (left, top), (right, bottom) = low, high
    if (right - left + 1, bottom - top + 1) != (columns, rows) or not (
        0 <= left <= right < width and 0 <= top <= bottom < height
    ):
        raise DataError(
            f"{where}: its mask is {columns}×{rows}, its points are {low.tolist()} to"
            f" {high.tolist()} of {width}×{height}: save the shape again, or delete it"
        )
    mask = np.zeros((height, width), bool)
    mask[int(top) : int(bottom) + 1, int(left) : int(right) + 1] = small > 0
    return mask


def _rle(entry: dict[str, Any], height: int, width: int, where: str) -> Mask:
    rle = entry.get("rle", entry.get("mask"))
    return coco_mask(rle if isinstance(rle, dict) else {}, height, width, where)


_KINDS = {
    "polygon": _polygon,
    "rectangle": _rectangle,
    "circle": _circle,
    "mask": _png,
    "rle": _rle,
}
