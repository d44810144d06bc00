"""Masks that come from other tools' files and go into them: COCO, LabelMe, PNG of ids.

In: a file's kind is told by its content, its masks by the readers of `panoforge.core.foreign`. They
become objects that are `proposed`: a machine's label is to be looked at. A file of a picture that
is laid onto the sphere by its tags is laid there likewise.

Out: every object that is not rejected and not empty. COCO and LabelMe hold each mask whole, also
where masks overlap; a PNG has one object per pixel, the smaller one on top, and says what that
hides. Rejected objects are left out, and counted.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from panoforge.core import __version__
from panoforge.core.errors import DataError, UsageError
from panoforge.core.export.labelme import labelme_document, mask_shape
from panoforge.core.foreign.coco import CocoImage, read_coco
from panoforge.core.foreign.files import read_json
from panoforge.core.foreign.idmaps import read_idmap, stack_masks
from panoforge.core.foreign.labelme import read_labelme
from panoforge.core.image_header import PNG_SIGNATURE
from panoforge.core.numbers import counted
from panoforge.core.sample.label_maps import instance_stats
from panoforge.core.sample.products import encode_product
from panoforge.core.types import Labels, Mask, Rgb
from panoforge.eval.interactive.serve.document import Delta
from panoforge.eval.interactive.serve.objects import Heading, PageObject, colour_of
from panoforge.eval.interactive.serve.packed import PackedMask
from panoforge.eval.interactive.serve.sheets import Sheet

KINDS = ("coco.json", "labelme.json", "mask.png", "overlay.jpg")
MAX_IMPORTED = 2000
OnSphere = Callable[[NDArray], NDArray]


@dataclass(frozen=True)
class Foreign:
    """One mask of a file: its category, its name, and the mask of the file's size."""

    category: str
    name: str
    mask: Mask


@dataclass(frozen=True)
class Written:
    """A file to be saved, and in words what is not in it."""

    name: str
    media_type: str
    data: bytes
    left_out: str = ""


def import_file(sheet: Sheet, path: Path, name: str, on_sphere: OnSphere) -> tuple[Delta, str]:
    """The objects of a file as a change, and in words what was left out, or is odd.

    Args:
        sheet: the state that they are added to.
        path: where the file lies.
        name: what the user calls it.
        on_sphere: lays a mask of the picture file's size onto the panorama.

    Raises:
        DataError: it is none of the kinds, damaged, or of another size.
    """
    found, remarks = _read(path, name, sheet.heading)
    if not found:
        raise DataError(f"{name} holds no mask ({remarks or 'nothing is in it'})")
    if len(found) > MAX_IMPORTED:
        raise DataError(
            f"{name} holds {counted(len(found), 'mask')}: {MAX_IMPORTED} at most are taken"
        )
    size = (sheet.heading.height, sheet.heading.width)
    objects, masks = [], []
    for k, one in enumerate(found):
        mask = np.asarray(on_sphere(one.mask)).astype(bool)
        if mask.shape != size:
            raise DataError(
                f"{name}: its masks are {mask.shape[1]}×{mask.shape[0]} and the picture is"
                f" {size[1]}×{size[0]}: they were made on another picture, or on a resized one"
            )
        masks.append(PackedMask.of(mask))
        id_ = sheet.next_id() + k
        objects.append(
            PageObject(
                id=id_,
                name=one.name[:120],
                category=one.category[:120],
                colour=colour_of(id_),
                review="proposed",
                origin=name[:120],
                mask=masks[-1].digest,
            )
        )
    return Delta(f"import {name}"[:200], tuple(objects), masks=tuple(masks)), remarks


def left_out_words(left_out: object) -> str:
    """What was left out of a file, as a remark; empty where nothing was."""
    words = str(left_out)
    return f"left out: {words}" if words else ""


def _read(path: Path, name: str, heading: Heading) -> tuple[list[Foreign], str]:
    try:
        if path.open("rb").read(8) == PNG_SIGNATURE:
            ids, old = read_idmap(path)
            return [Foreign("", f"id {int(v)}", ids == k) for k, v in enumerate(old, 1)], ""
        if path.open("rb").read(64).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] != b"{":
            raise DataError(f"{name} is no COCO or LabelMe JSON and no PNG of ids")
        document = read_json(path)
        if isinstance(document, dict) and "shapes" in document:
            return _labelme(path)
        return _coco(path, name, heading)
    except DataError as error:  # say what the user calls it, not where it lies
        raise DataError(str(error).replace(str(path), name)) from None


def _labelme(path: Path) -> tuple[list[Foreign], str]:
    """Shapes of one group are one object."""
    file = read_labelme(path)
    groups: dict[tuple[str, str], list[int]] = {}
    for k, shape in enumerate(file.shapes):
        key = (shape.label, shape.group if shape.group is not None else f"#{k}")
        groups.setdefault(key, []).append(k)
    found = []
    for (label, _), members in groups.items():
        mask = np.zeros((file.height, file.width), bool)
        for k in members:
            mask |= file.mask(file.shapes[k])
        said = file.shapes[members[0]].entry.get("description")
        found.append(Foreign(label, said if isinstance(said, str) else "", mask))
    return found, left_out_words(file.left_out)


def _coco(path: Path, name: str, heading: Heading) -> tuple[list[Foreign], str]:
    file = read_coco(path)
    image = _coco_image(file.images, name, heading.picture)
    if image.size is None:
        raise DataError(f"{name} does not say how large {image.file_name} is")
    width, height = image.size
    found = [
        Foreign(one.category, said_name(one.entry), one.mask(height, width))
        for one in image.objects
    ]
    remarks = left_out_words(file.left_out)
    stem = Path(image.file_name.replace("\\", "/")).stem
    if heading.frames is None and stem != Path(heading.picture).stem:  # renamed, or another's
        remarks = _joined(f"the file names another picture, {image.file_name[:120]}", remarks)
    return found, remarks


def said_name(entry: Mapping[str, Any]) -> str:
    """The name that an annotation of ours gives its object."""
    said = entry.get("name")
    return said[:120] if isinstance(said, str) else ""


def _coco_image(images: Sequence[CocoImage], name: str, picture: str) -> CocoImage:
    """The image that is meant: the only one, or the one of the picture's name."""
    called = [i for i in images if Path(i.file_name.replace("\\", "/")).name == picture]
    stem = Path(picture).stem
    called = called or [i for i in images if Path(i.file_name).stem == stem]
    if len(called) == 1:
        return called[0]
    if len(images) == 1 and not called:
        return images[0]
    raise DataError(
        f"{name} has {counted(len(images), 'image')}, and {len(called)} of them are called"
        f" {picture}: expected"
        " one"
    )


def export_file(
    kind: str, sheet: Sheet, rgb: Callable[[], Rgb], made_with: dict[str, str]
) -> Written:
    """The objects of a picture as a file.

    Args:
        kind: one of KINDS.
        sheet: the state that is written.
        rgb: the panorama, asked only for an overlay.
        made_with: what COCO's info says of the predictor.

    Raises:
        UsageError: there is nothing to write, or no such kind.
    """
    if kind not in KINDS:
        raise UsageError(f"{kind[:40]!r} cannot be saved: expected one of {', '.join(KINDS)}")
    kept, left_out = kept_of(sheet)
    if not kept:
        raise UsageError(
            "there is nothing to save yet: click on an object first"
            + (f" (left out: {left_out})" if left_out else "")
        )
    stem = sheet.heading.picture.rsplit(".", 1)[0].replace("/", "_")
    if kind == "coco.json":
        data = json_bytes(coco_document([(sheet, kept)], made_with))
        return Written(f"{stem}.coco.json", "application/json", data, left_out)
    if kind == "labelme.json":
        return Written(
            f"{stem}.labelme.json",
            "application/json",
            json_bytes(labelme_of(sheet, kept)),
            left_out,
        )
    masks = {k: mask for k, (_, mask) in enumerate(kept, start=1)}
    ids, numbers, hidden = stack_masks(
        masks, sheet.heading.height, sheet.heading.width, sheet.heading.picture
    )
    stacked = np.array([0, *numbers], np.uint16)[ids]
    covered = sum(int(m.sum()) for m in masks.values()) - int((stacked > 0).sum())
    if covered:
        left_out = _joined(
            left_out, f"{counted(covered, 'pixel')} where masks overlap: the smaller is on top"
        )
    left_out = _joined(left_out, str(hidden))
    if kind == "mask.png":
        return Written(f"{stem}.mask.png", "image/png", ids_png(stacked), left_out)
    from panoforge.core.report.pictures import overlay_ids

    picture = encode_product("rgb.jpg", overlay_ids(rgb(), stacked), jpeg_quality=90)
    return Written(f"{stem}.overlay.jpg", "image/jpeg", picture, left_out)


def kept_of(sheet: Sheet) -> tuple[list[tuple[PageObject, Mask]], str]:
    """The objects that are written with their masks, in the order of their ids."""
    kept, rejected, empty = [], 0, 0
    for one in sorted(sheet.objects.values(), key=lambda o: o.id):
        packed = sheet.mask_of(one)
        if one.review == "rejected":
            rejected += 1
        elif packed is None or not packed.pixels:
            empty += 1
        else:
            kept.append((one, packed.mask()))
    words = [f"{rejected} rejected"] * bool(rejected) + [f"{empty} without a pixel"] * bool(empty)
    return kept, ", ".join(words)


def _joined(one: str, other: str) -> str:
    return "; ".join(filter(None, (one, other)))


def ids_png(ids: Labels) -> bytes:
    """A palette PNG of up to 255 ids, a grey one of 16 bits beyond."""
    from panoforge.core.export.palette import MAX_PALETTE_IDS, palette_png

    if int(ids.max(initial=0)) <= MAX_PALETTE_IDS:
        return palette_png(ids.astype(np.uint8))
    return encode_product("instance.png", ids)


def json_bytes(value: object) -> bytes:
    """JSON as files have it."""
    return json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n"


def coco_document(
    pictures: Sequence[tuple[Sheet, Sequence[tuple[PageObject, Mask]]]],
    made_with: dict[str, str],
) -> dict[str, object]:
    """COCO instances of pictures and the objects that are kept of each: pycocotools opens it."""
    names = sorted({one.category or "object" for _, kept in pictures for one, _ in kept})
    numbers = {name: k for k, name in enumerate(names, start=1)}
    images: list[object] = []
    annotations: list[object] = []
    for number, (sheet, kept) in enumerate(pictures, start=1):
        heading = sheet.heading
        images.append(
            {
                "id": number,
                "file_name": heading.picture,
                "width": heading.width,
                "height": heading.height,
            }
        )
        for one, mask in kept:
            entry = coco_entry(sheet, one, mask, numbers[one.category or "object"])
            annotations.append({"id": len(annotations) + 1, "image_id": number, **entry})
    return {
        "info": {"description": "masks on panoramas", "made_by": f"panoforge {__version__}"}
        | made_with,
        "images": images,
        "categories": [{"id": k, "name": name} for name, k in numbers.items()],
        "annotations": annotations,
    }


def coco_entry(sheet: Sheet, one: PageObject, mask: Mask, category: int) -> dict[str, object]:
    """What COCO says of an object but for its ids: mask, boxes, solid angle, words, clicks."""
    rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    box = instance_stats(mask.astype(np.uint16)).box(0)
    packed = sheet.mask_of(one)
    assert packed is not None
    return {
        "category_id": category,
        "iscrowd": 0,
        "area": packed.pixels,
        "bbox": coco_mask.toBbox(rle).tolist(),
        "segmentation": {"size": list(mask.shape), "counts": rle["counts"].decode("ascii")},
        "area_sr": packed.area_sr,
        "wrap_box": {"u0": box.u0, "v0": box.v0, "width": box.width, "height": box.height},
        "name": one.name,
        "comment": one.comment,
        "review": one.review,
        "clicks": [
            {"lon_deg": c.lon_deg, "lat_deg": c.lat_deg, "label": int(c.positive)}
            for c in one.clicks
        ],
    }


def labelme_of(sheet: Sheet, kept: Sequence[tuple[PageObject, Mask]]) -> dict[str, object]:
    """LabelMe's own `mask` shapes: a PNG between the upper left and the lower right pixel."""
    shapes = []
    for one, mask in kept:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        (v0, v1), (u0, u1) = rows[[0, -1]].tolist(), columns[[0, -1]].tolist()
        inside, label = mask[v0 : v1 + 1, u0 : u1 + 1], one.category or one.name or "object"
        shapes.append(mask_shape(label, one.id, one.name, inside, (u0, v0)))
    heading = sheet.heading
    return labelme_document(heading.picture, heading.width, heading.height, shapes)
