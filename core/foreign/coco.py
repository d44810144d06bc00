"""COCO instances files: images and their objects. Format: cocodataset.org/#format-data.

Read as they come from many tools: ids may be numbers or strings, `file_name` may hold folders,
segmentations are polygons or run lengths, compressed or not. What is no object with a mask (crowds,
boxes only) is left out and counted. What contradicts itself is refused: one id for two images, an
annotation of an image that is not listed, a picture of another size than its annotations.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from panoforge.core.errors import DataError
from panoforge.core.foreign.files import read_json
from panoforge.core.foreign.left_out import LeftOut
from panoforge.core.foreign.masks import (
    fill_polygons,
    fill_runs,
    polygon_is_empty,
    run_counts,
)
from panoforge.core.numbers import counted
from panoforge.core.types import Mask

MAX_COCO_BYTES = 1 << 30  # train2017 has 450 MB
MAX_SIDE_PX = 1 << 17
CROWD, BOX_ONLY, BARE = "crowd", "object with a box and no mask", "image without objects"


@dataclass(frozen=True)
class CocoObject:
    """One annotation: its category's name ("" where it has none) and its segmentation as read.

    `entry` is the whole annotation.
    """

    category: str
    segmentation: Any
    where: str
    entry: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def mask(self, height: int, width: int) -> Mask:
        """The H×W mask.

        Raises:
            DataError: the segmentation is damaged, or of another size.
        """
        return coco_mask(self.segmentation, height, width, self.where)


@dataclass(frozen=True)
class CocoImage:
    """An image: `size` is (width, height) in pixels where the file says it."""

    id: str
    file_name: str
    size: tuple[int, int] | None
    objects: tuple[CocoObject, ...]

    def check_size(self, height: int, width: int, picture: Path) -> None:
        """DataError unless the picture has the size that its annotations were drawn on."""
        if self.size is None or self.size == (width, height):
            return
        wide, high = self.size
        way_out = (
            ": the picture is turned by its EXIF orientation, its annotations are not"
            if (wide, high) == (height, width)
            else f": resize the pictures, or multiply the coordinates by {width / wide:g}"
            if wide * height == high * width
            else ": bring the picture that they were drawn on"
        )
        raise DataError(
            f"{picture} is {width}×{height}, its annotations say {wide}×{high}{way_out}"
        )


@dataclass(frozen=True)
class CocoFile:
    """The images that have objects, in the order of the file, and what was left out."""

    path: Path
    images: tuple[CocoImage, ...]
    left_out: LeftOut


def coco_mask(segmentation: Any, height: int, width: int, where: str) -> Mask:
    """The H×W mask of a segmentation: polygons, or run lengths. DataError if damaged."""
    if isinstance(segmentation, dict):
        return fill_runs(run_counts(segmentation, height, width, where), height, width)
    return fill_polygons(segmentation, height, width, where)


def read_coco(path: Path) -> CocoFile:
    """A COCO instances file.

    Raises:
        DataError: it is none, contradicts itself, or has no image with an object.
    """
    document = read_json(path, MAX_COCO_BYTES)
    images, annotations = (_entries(document, key, path) for key in ("images", "annotations"))
    names = _categories(document, path)
    objects: dict[str, list[CocoObject]] = {}
    listed: dict[str, str] = {}
    for entry in images:
        id_, name = _id(entry.get("id"), "an image", path), entry.get("file_name")
        if not isinstance(name, str) or not name:
            raise DataError(
                f"{path}: image {id_} has no file_name: add it, the picture's path below images/"
            )
        if id_ in listed:
            raise DataError(
                f"{path}: {listed[id_]} and {name} have one id, {id_}: annotations could be of"
                " either, number the images anew"
            )
        listed[id_], objects[id_] = name, []
    left: list[tuple[str, str]] = []
    for k, entry in enumerate(annotations):
        called = f"annotation {str(entry.get('id', k))[:40]}"
        image = _id(entry.get("image_id"), called, path)
        if image not in listed:
            raise DataError(
                f"{path}: {called} is of image {image}, which is not listed: add it to images, or"
                " take the annotation out"
            )
        why = _no_object(entry)
        if why:
            left.append((why, called))
            continue
        category = _category(entry.get("category_id"), names, called, path)
        segmentation = entry.get("segmentation")
        objects[image].append(CocoObject(category, segmentation, f"{path}, {called}", entry))
    left += [(BARE, name) for id_, name in listed.items() if not objects[id_]]
    kept = tuple(
        CocoImage(id_, listed[id_], _size(entry, path), tuple(objects[id_]))
        for entry in images
        if objects[id_ := str(entry["id"])]
    )
    if not kept:
        raise DataError(
            f"{path}: none of its {counted(len(listed), 'image')} has an object with a mask (left"
            " out:"
            f" {LeftOut.of(left) or 'nothing'}): draw some, as polygons or RLEs"
        )
    return CocoFile(path, kept, LeftOut.of(left))


def _entries(document: Any, key: str, path: Path) -> list[dict[str, Any]]:
    entries = document.get(key) if isinstance(document, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        found = sorted(document)[:8] if isinstance(document, dict) else type(document).__name__
        raise DataError(
            f"{path} is not COCO instances: expected a list of {key}, found {str(found)[:100]}"
        )
    return entries


def _id(value: Any, whose: str, path: Path) -> str:
    """An id as text: 1 and "1" are one."""
    if isinstance(value, bool) or not isinstance(value, int | str) or len(str(value)) > 200:
        raise DataError(
            f"{path}: {whose} has the id {str(value)[:40]!r}, expected a whole number or a string"
        )
    return str(value)


def _categories(document: Mapping[str, Any], path: Path) -> dict[str, str]:
    names: dict[str, str] = {}
    for entry in _entries(document, "categories", path) if document.get("categories") else ():
        id_, name = _id(entry.get("id"), "a category", path), entry.get("name")
        if not isinstance(name, str):
            raise DataError(
                f"{path}: category {id_} has no name: expected a text, as in"
                ' {"id": 1, "name": "chair"}'
            )
        if names.setdefault(id_, name) != name:
            raise DataError(
                f"{path}: categories {names[id_]} and {name} have one id, {id_}: annotations"
                " could be of either, number the categories anew"
            )
    return names


def _category(value: Any, names: Mapping[str, str], whose: str, path: Path) -> str:
    if value is None or not names:
        return ""
    id_ = _id(value, f"{whose}'s category", path)
    if id_ not in names:
        raise DataError(
            f"{path}: {whose} is of category {id_}, which is not listed: add it to categories, or"
            " mend the annotation's category_id"
        )
    return names[id_]


def _no_object(entry: Mapping[str, Any]) -> str | None:
    """Why an annotation is no object that can be segmented; None if it is one."""
    if entry.get("iscrowd"):
        return CROWD
    return BOX_ONLY if polygon_is_empty(entry.get("segmentation")) else None


def _size(entry: Mapping[str, Any], path: Path) -> tuple[int, int] | None:
    width, height = entry.get("width"), entry.get("height")
    if width is None or height is None:
        return None
    sides = (width, height)
    if any(isinstance(s, bool) or not isinstance(s, int | float) for s in sides) or not all(
        0 < s <= MAX_SIDE_PX and s == int(s) for s in sides
    ):
        said = f"{str(entry['file_name'])[:100]} is {width}×{height} pixels"[:200]
        raise DataError(
            f"{path}: {said}: expected whole numbers from 1 to {MAX_SIDE_PX}, write the picture's"
            " own size there"
        )
    return int(width), int(height)
