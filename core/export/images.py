"""Exports of single pictures: COCO instances, SA-1B pairs, COCO panoptic (Mask2Former).

An instance on the seam stays one annotation of two parts with one flat box; `wrap_box` in COCO's
annotations is the box on the cylinder.
"""

import json
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from panoforge.core.export.frames import (
    Entry,
    ExportFacts,
    ExportJob,
    Frame,
    Part,
    image_entry,
    image_files,
    join_lists,
    masks_of,
)
from panoforge.core.export.jsonlists import json_lists
from panoforge.core.export.units import Unit
from panoforge.core.sample.products import decode_product, encode_product


def coco_head(job: ExportJob) -> Entry:
    """What COCO and its kin have beside their lists; `isthing` is panoptic's."""
    return {
        "info": {"description": "made by panoforge"},
        "licenses": [],
        "categories": [
            {
                "id": category.id,
                "name": category.name,
                "isthing": int(category.thing),
                "supercategory": "thing" if category.thing else "structure",
            }
            for category in job.categories.values()
        ],
    }


def coco_part(job: ExportJob, unit: Unit, frames: list[Frame]) -> Part:
    """images/<name>.jpg; images and annotations with compressed RLEs."""
    images, annotations = [], []
    for number, frame in enumerate(frames, start=1):
        images.append(image_entry(number, frame))
        for mask in masks_of(frame, job.options.min_pixels):
            entry = {
                "id": 0,
                "image_id": number,
                "iscrowd": 0,
                "category_id": job.categories[mask.instance.category].id,
                "segmentation": mask.rle,
                "area": mask.area,
                "bbox": mask.box,
                "instance_id": mask.instance.id,
                "name": mask.instance.name,
            }
            if not job.options.perspective:
                entry |= {
                    "area_sr": mask.instance.area_sr,
                    "wrap_box": mask.instance.box.model_dump(),
                }
            annotations.append(entry)
    lists = {"images": images, "annotations": annotations}
    return Part(unit.key, image_files(frames), lists)


def coco_join(job: ExportJob, parts: Iterator[Part]) -> ExportFacts:
    """annotations/instances.json."""
    with json_lists(
        job.out, "annotations", "instances.json", ("images", "annotations"), coco_head(job)
    ) as lists:
        join_lists(lists, parts, {"image_id": "images"})
    return dict(lists.counts)


def sa1b_part(job: ExportJob, unit: Unit, frames: list[Frame]) -> Part:
    """sa_<n>.jpg beside sa_<n>.json, n from 1.

    Classes are not part of SA-1B; scores are 1, as these are not predictions. The point is the
    pixel deepest inside the mask. An annotation's id is n·65536 + the instance's.
    """
    annotations, files = 0, dict[str, bytes]()
    for number, frame in enumerate(frames, start=1 + unit.first * len(frames)):
        jpeg, labels = frame.image, frame.labels
        if frame.suffix != "jpg":
            rgb = decode_product(f"rgb.{frame.suffix}", frame.image)
            jpeg = encode_product("rgb.jpg", rgb, jpeg_quality=job.options.jpeg_quality)
        entries: list[Entry] = [
            {
                "id": number * 65536 + mask.instance.id,
                "segmentation": mask.rle,
                "bbox": mask.box,
                "area": mask.area,
                "predicted_iou": 1.0,
                "stability_score": 1.0,
                "crop_box": [0, 0, frame.width, frame.height],
                "point_coords": [deepest_point(labels, mask.instance.id, mask.box)],
            }
            for mask in masks_of(frame, job.options.min_pixels)
        ]
        annotations += len(entries)
        image = {
            "image_id": number,
            "width": frame.width,
            "height": frame.height,
            "file_name": f"sa_{number}.jpg",
            "panoforge_name": frame.name,
        }
        files[f"sa_{number}.jpg"] = jpeg
        files[f"sa_{number}.json"] = json.dumps({"image": image, "annotations": entries}).encode()
    counts = {"images": len(frames), "annotations": annotations}
    return Part(unit.key, files, counts=counts)


def deepest_point(
    labels: NDArray[np.uint16], id_: int, box: tuple[float, float, float, float]
) -> list[float]:
    """[x, y] of the pixel of `id_` farthest from its edge, found inside `box`."""
    x, y, width, height = map(int, box)
    inside = np.pad((labels[y : y + height, x : x + width] == id_).astype(np.uint8), 1)
    depth = cv2.distanceTransform(inside, cv2.DIST_L2, 3)[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return [float(x + column), float(y + row)]


def panoptic_part(job: ExportJob, unit: Unit, frames: list[Frame]) -> Part:
    """images/, panoptic/<name>.png (id = R + 256·G + 65536·B, 0 = void).

    Structure is stuff, but every wall keeps its own segment.
    """
    images, annotations, segments, files = [], [], 0, image_files(frames)
    for number, frame in enumerate(frames, start=1):
        images.append(image_entry(number, frame))
        found = masks_of(frame, job.options.min_pixels)
        kept = np.where(
            np.isin(frame.labels, [mask.instance.id for mask in found]), frame.labels, 0
        )
        colours = np.stack([kept & 255, kept >> 8, np.zeros_like(kept)], axis=-1).astype(np.uint8)
        files[f"panoptic/{frame.name}.png"] = encode_product("rgb.png", colours)
        annotations.append(
            {
                "image_id": number,
                "file_name": f"{frame.name}.png",
                "segments_info": [
                    {
                        "id": mask.instance.id,
                        "category_id": job.categories[mask.instance.category].id,
                        "area": mask.area,
                        "bbox": mask.box,
                        "iscrowd": 0,
                    }
                    for mask in found
                ],
            }
        )
        segments += len(found)
    return Part(
        unit.key,
        files,
        {"images": images, "annotations": annotations},
        {"images": len(frames), "annotations": segments},
    )


def panoptic_join(job: ExportJob, parts: Iterator[Part]) -> ExportFacts:
    """panoptic.json, as COCO panoptic has it."""
    counts: dict[str, int] = {"images": 0, "annotations": 0}

    def counted() -> Iterator[Part]:
        for part in parts:
            for name, count in part.counts.items():
                counts[name] += count
            yield part

    with json_lists(
        job.out, "", "panoptic.json", ("images", "annotations"), coco_head(job)
    ) as lists:
        join_lists(lists, counted(), {"image_id": "images"})
    return counts
