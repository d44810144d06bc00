"""LabelMe: a JSON file beside each picture, with a shape for each instance. A3360V's own output.

Shapes are LabelMe's `mask`: a PNG between the upper left and the lower right pixel, so nothing is
lost to polygons. `group_id` is the instance's id, the same on all frames of a video. The format:
github.com/wkentaro/labelme; `panoforge.core.foreign.labelme` reads it back.
"""

import base64
import io
import json

import numpy as np
from PIL import Image

from panoforge.core.export.frames import Entry, ExportJob, Frame, Part, masks_of
from panoforge.core.export.units import Unit
from panoforge.core.types import Mask

VERSION = "5.5.0"  # of LabelMe: the first whose shapes have descriptions and masks


def labelme_part(job: ExportJob, unit: Unit, frames: list[Frame]) -> Part:
    """<name>.jpg and <name>.json for each picture."""
    shapes, files = 0, dict[str, bytes]()
    for frame in frames:
        labels = frame.labels
        entries = []
        for one in masks_of(frame, job.options.min_pixels):
            own = one.instance
            x, y, width, height = map(int, one.box)
            inside = labels[y : y + height, x : x + width] == own.id
            entries.append(mask_shape(own.category, own.id, own.name, inside, (x, y)))
        picture = f"{frame.name}.{frame.suffix}"
        document = labelme_document(picture, frame.width, frame.height, entries)
        files[picture] = frame.image
        files[f"{frame.name}.json"] = json.dumps(document, ensure_ascii=False).encode()
        shapes += len(entries)
    return Part(unit.key, files, counts={"images": len(frames), "shapes": shapes})


def labelme_document(picture: str, width: int, height: int, shapes: list[Entry]) -> Entry:
    """A LabelMe file of a picture that lies beside it."""
    return {
        "version": VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": picture,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }


def mask_shape(label: str, group: int, said: str, inside: Mask, at: tuple[int, int]) -> Entry:
    """A shape of the kind `mask`.

    Args:
        label: the class.
        group: the object's id.
        said: its name.
        inside: bool h×w, the part of the mask in its box.
        at: column and row of the box's first pixel.
    """
    (u, v), (height, width) = at, inside.shape
    return {
        "label": label,
        "points": [[float(u), float(v)], [float(u + width - 1), float(v + height - 1)]],
        "group_id": group,
        "description": said,
        "shape_type": "mask",
        "flags": {},
        "mask": base64.b64encode(_bits_png(inside)).decode(),
    }


def _bits_png(mask: Mask) -> bytes:
    """A PNG of one bit, as LabelMe writes them."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(mask)).save(file, "PNG", optimize=False, compress_level=6)
    return file.getvalue()
