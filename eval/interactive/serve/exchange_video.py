"""Masks of a whole video, out and in.

Out: COCO with `videos`, in the form that MMTracking made common. Every frame is an image with
`video_id` and `frame_id`, every mask an annotation with `instance_id`, the same on all frames.
pycocotools opens it like any COCO. Or a zip with a PNG of ids, or a LabelMe file, for each frame
that shows something; an object has the same number and group in all of them.

In: such a COCO file comes back as it was, on all frames; any other file is of the frame that is
looked at.
"""

import io
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from panoforge.core import __version__
from panoforge.core.errors import DataError, UsageError
from panoforge.core.foreign.coco import CocoImage, read_coco
from panoforge.core.foreign.files import read_json
from panoforge.core.foreign.idmaps import stack_masks
from panoforge.core.numbers import counted
from panoforge.core.types import Mask
from panoforge.eval.interactive.serve.document import Delta, Document
from panoforge.eval.interactive.serve.exchange import (
    MAX_IMPORTED,
    Written,
    coco_entry,
    ids_png,
    import_file,
    json_bytes,
    labelme_of,
    left_out_words,
    said_name,
)
from panoforge.eval.interactive.serve.objects import FrameLook, PageObject, colour_of
from panoforge.eval.interactive.serve.packed import PackedMask
from panoforge.eval.interactive.serve.sheets import FrameSheet

Kept = Sequence[tuple[PageObject, Mask]]


def export_video(
    kind: str, document: Document, names: Sequence[str], made_with: dict[str, str]
) -> Written:
    """The objects of a video as one file.

    Args:
        kind: `coco.json`, `mask.png` or `labelme.json`: the last two in a zip.
        document: the state that is written.
        names: what files call the frames.
        made_with: what COCO's info says of the predictor.

    Raises:
        UsageError: there is nothing to write.
    """
    rejected = {one.id for one in document.objects.values() if one.review == "rejected"}
    shown = set().union(*(looks for id_, looks in document.looks.items() if id_ not in rejected))
    if not shown:
        raise UsageError("there is nothing to save yet: draw or click on an object first")
    left_out = f"{len(rejected)} rejected" if rejected else ""
    stem = document.heading.picture.rstrip("/").rsplit(".", 1)[0].replace("/", "_")
    if kind == "coco.json":
        data = json_bytes(_coco(document, names, made_with))
        return Written(f"{stem}.coco.json", "application/json", data, left_out)
    if kind == "mask.png":
        data = _zipped(document, names, ".png", _png)
        return Written(f"{stem}.masks.zip", "application/zip", data, left_out)
    data = _zipped(
        document, names, ".json", lambda sheet, kept: json_bytes(labelme_of(sheet, kept))
    )
    return Written(f"{stem}.labelme.zip", "application/zip", data, left_out)


def _frames(document: Document, names: Sequence[str]) -> Iterator[tuple[FrameSheet, Kept]]:
    """The frames that show something, and what is written of them; one in memory at a time."""
    for frame in sorted({frame for looks in document.looks.values() for frame in looks}):
        sheet = FrameSheet(document, frame, names[frame])
        found = []
        for one in sorted(sheet.objects.values(), key=lambda o: o.id):
            packed = sheet.mask_of(one)
            if one.review != "rejected" and packed is not None and packed.pixels:
                found.append((one, packed.mask()))
        if found:
            yield sheet, found


def _coco(document: Document, names: Sequence[str], made_with: dict[str, str]) -> dict[str, object]:
    heading = document.heading
    size = {"width": heading.width, "height": heading.height}
    classes = sorted({one.category or "object" for one in document.objects.values()})
    numbers = {name: k for k, name in enumerate(classes, start=1)}
    annotations: list[object] = []
    for sheet, kept in _frames(document, names):
        where = {"image_id": sheet.frame + 1, "video_id": 1}
        for one, mask in kept:
            entry = coco_entry(sheet, one, mask, numbers[one.category or "object"])
            look = document.look(one.id, sheet.frame)
            own = {"instance_id": one.id, "keyframe": bool(look and look.key)}
            annotations.append({"id": len(annotations) + 1, **where, **own, **entry})
    return {
        "info": {"description": "masks on panoramas", "made_by": f"panoforge {__version__}"}
        | made_with,
        "videos": [{"id": 1, "name": heading.picture.rstrip("/"), "length": len(names), **size}],
        "images": [
            {"id": k + 1, "video_id": 1, "frame_id": k, "file_name": name, **size}
            for k, name in enumerate(names)
        ],
        "categories": [{"id": k, "name": name} for name, k in numbers.items()],
        "annotations": annotations,
    }


def _zipped(
    document: Document,
    names: Sequence[str],
    suffix: str,
    write: Callable[[FrameSheet, Kept], bytes],
) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as out:
        for sheet, kept in _frames(document, names):
            out.writestr(f"{names[sheet.frame].rsplit('.', 1)[0]}{suffix}", write(sheet, kept))
    return file.getvalue()


def _png(sheet: FrameSheet, kept: Kept) -> bytes:
    """Ids of objects, the same on all frames; the smaller one on top."""
    size = sheet.heading.height, sheet.heading.width
    masks = {one.id: mask for one, mask in kept}
    ids, numbers, _ = stack_masks(masks, *size, sheet.heading.picture)
    return ids_png(np.array([0, *numbers], np.uint16)[ids])


def import_video(
    sheet: FrameSheet, names: Sequence[str], path: Path, name: str
) -> tuple[Delta, str]:
    """The objects of a file as a change of a video, and in words what was left out.

    Args:
        sheet: the frame that is looked at.
        names: what files call the frames.
        path: where the file lies.
        name: what the user calls it.

    Raises:
        DataError: it is none of the kinds, damaged, or of another size.
    """
    if not _is_video_coco(path):
        delta, remarks = import_file(sheet, path, name, lambda pixels: pixels)
        return sheet.laid_back(delta), remarks
    try:
        return _from_coco(sheet.document, names, path, name)
    except DataError as error:  # say what the user calls it, not where it lies
        raise DataError(str(error).replace(str(path), name)) from None


def _is_video_coco(path: Path) -> bool:
    with path.open("rb") as file:
        if file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] != b"{":
            return False
    try:
        said = read_json(path)
    except DataError:
        return False
    return isinstance(said, dict) and bool(said.get("videos")) and "images" in said


def _from_coco(
    document: Document, names: Sequence[str], path: Path, name: str
) -> tuple[Delta, str]:
    file = read_coco(path)
    heading = document.heading
    frames = {called: k for k, called in enumerate(names)}
    objects: dict[tuple[str, str], PageObject] = {}
    looks, masks, elsewhere = [], [], 0
    for image in file.images:
        frame = frames.get(image.file_name.replace("\\", "/"))
        if frame is None:
            elsewhere += 1
            continue
        _check_size(image, heading.width, heading.height, name)
        for k, one in enumerate(image.objects):
            track = one.entry.get("instance_id", one.entry.get("track_id"))
            key = (one.category, f"{image.id}#{k}" if track is None else str(track))
            if key not in objects:
                id_ = document.next_id() + len(objects)
                objects[key] = PageObject(
                    id=id_,
                    name=said_name(one.entry),
                    category=one.category[:120],
                    colour=colour_of(id_),
                    review="proposed",
                    origin=name[:120],
                )
            masks.append(PackedMask.of(one.mask(heading.height, heading.width)))
            hand = one.entry.get("keyframe") is not False
            mask = masks[-1].digest
            looks.append(FrameLook(object=objects[key].id, frame=frame, mask=mask, key=hand))
    if not looks:
        raise DataError(f"{name} holds no mask of this video: its frames have other names")
    if len(objects) > MAX_IMPORTED:
        raise DataError(
            f"{name} holds {counted(len(objects), 'object')}: {MAX_IMPORTED} at most are taken"
        )
    left_out = str(file.left_out)
    if elsewhere:
        left_out = "; ".join(
            filter(None, (left_out, f"{counted(elsewhere, 'image')} of other names"))
        )
    what = f"import {name}"[:200]
    delta = Delta(what, tuple(objects.values()), looks=tuple(looks), masks=tuple(masks))
    return delta, left_out_words(left_out)


def _check_size(image: CocoImage, width: int, height: int, name: str) -> None:
    if image.size is not None and image.size != (width, height):
        raise DataError(
            f"{name}: {image.file_name} is {image.size[0]}×{image.size[1]} and the video is"
            f" {width}×{height}: its masks were made on another one, or on a resized one"
        )
