"""Exports as videos: SA-V, YouTube-VIS.

A video of the dataset is one video, of whole panoramas; a panorama that is none is the video of its
scan. One instance is one masklet. Frames are `00000.jpg`, …
"""

import json
from collections.abc import Iterator

import numpy as np
from pycocotools import mask as coco_mask

from panoforge.core.export.frames import (
    Counts,
    Entry,
    ExportJob,
    Frame,
    FrameMask,
    Part,
    join_counts,
    join_lists,
    masks_of,
)
from panoforge.core.export.images import coco_head
from panoforge.core.export.jsonlists import json_lists
from panoforge.core.export.mp4 import mp4_of
from panoforge.core.export.palette import empty_mask_png, mask_png
from panoforge.core.export.units import Unit
from panoforge.core.sample.metadata import InstanceMeta

SAV_FPS = 24


def frame_files(folder: str, clip: list[Frame]) -> dict[str, bytes]:
    """A clip's pictures as <folder>/00000.jpg and so on."""
    return {
        f"{folder}/{number:05d}.{frame.suffix}": frame.image for number, frame in enumerate(clip)
    }


def masklets_of(
    clip: list[Frame], min_pixels: int
) -> tuple[list[InstanceMeta], list[dict[int, FrameMask]]]:
    """The instances seen anywhere in the clip, ascending ids, and per frame its masks by id."""
    per_frame = [{mask.instance.id: mask for mask in masks_of(frame, min_pixels)} for frame in clip]
    seen = {id_: mask.instance for masks in per_frame for id_, mask in masks.items()}
    return [seen[id_] for id_ in sorted(seen)], per_frame


def sav_part(job: ExportJob, unit: Unit, clip: list[Frame]) -> Part:
    """Both forms of SA-V beside one set of frames.

    annotations/<video>_manual.json is for training, Annotations_6fps/<video>/<object>/<frame>.png
    and sav_val.txt for evaluation. Beside the JSON of a video in time lies <video>.mp4, where
    SA-V's own reader looks for it. Every frame is annotated, which `fps` in the JSON says. An
    object out of sight has an empty mask, not None, or SAM2's loader would drop the frame for all
    objects.
    """
    key = unit.key
    files = frame_files(f"JPEGImages_24fps/{key}", clip)
    objects, per_frame = masklets_of(clip, job.options.min_pixels)
    size = [clip[0].height, clip[0].width]
    empty = {
        "size": size,
        "counts": coco_mask.encode(np.zeros(size, np.uint8, order="F"))["counts"].decode("ascii"),
    }
    rows = [
        [masks[row.id].rle if row.id in masks else empty for row in objects] for masks in per_frame
    ]
    record = _sav_record(unit, clip, objects, per_frame) | {"masklet": rows}
    files[f"annotations/{key}_manual.json"] = json.dumps(record, separators=(",", ":")).encode()
    if unit.fps is not None:
        files[f"annotations/{key}.mp4"] = mp4_of(unit, clip)
    for number, frame in enumerate(clip):
        labels = frame.labels
        for position, row in enumerate(objects):
            mask = per_frame[number].get(row.id)
            png = mask_png(labels, row.id, mask.box) if mask else empty_mask_png(*size)
            files[f"Annotations_6fps/{key}/{position:03d}/{number:05d}.png"] = png
    return Part(key, files, counts={"videos": 1, "masklets": len(objects)})


def sav_join(job: ExportJob, parts: Iterator[Part]) -> Counts:
    """sav_val.txt."""
    videos: list[str] = []

    def noted() -> Iterator[Part]:
        for part in parts:
            videos.append(part.key)
            yield part

    counts = join_counts(job, noted())
    job.out.put("sav_val.txt", "".join(f"{video}\n" for video in videos).encode())
    return counts


def _sav_record(
    unit: Unit,
    clip: list[Frame],
    objects: list[InstanceMeta],
    per_frame: list[dict[int, FrameMask]],
) -> Entry:
    pixels, fps = clip[0].width * clip[0].height, unit.fps or SAV_FPS
    seen = [[row.id in masks for masks in per_frame] for row in objects]
    size = [
        float(np.mean([masks[row.id].area for masks in per_frame if row.id in masks]))
        for row in objects
    ]
    return {
        "video_id": unit.key,
        "video_duration": len(clip) / fps,
        "video_frame_count": len(clip),
        "video_height": clip[0].height,
        "video_width": clip[0].width,
        "video_resolution": pixels,
        "video_environment": "Indoor",
        "video_split": "train",
        "fps": fps,
        "masklet_id": list(range(len(objects))),
        "masklet_num": len(objects),
        "masklet_type": ["manual"] * len(objects),
        "masklet_size_abs": size,
        "masklet_size_rel": [value / pixels for value in size],
        "masklet_size_bucket": [
            "small" if v < 32**2 else "medium" if v < 96**2 else "large" for v in size
        ],
        "masklet_visibility_changes": [int(np.count_nonzero(np.diff(row))) for row in seen],
        "masklet_first_appeared_frame": [float(row.index(True)) for row in seen],
        "masklet_frame_count": [sum(row) for row in seen],
        "masklet_edited_frame_count": [0] * len(objects),
        "masklet_stability_score": [None] * len(objects),
        "panoforge_instances": [
            {"id": row.id, "name": row.name, "category": row.category} for row in objects
        ],
    }


def ytvis_part(job: ExportJob, unit: Unit, clip: list[Frame]) -> Part:
    """JPEGImages/<video>/, and per masklet a list over frames of RLE, box and area.

    They are null where it is out of sight.
    """
    key = unit.key
    files = frame_files(f"JPEGImages/{key}", clip)
    objects, per_frame = masklets_of(clip, job.options.min_pixels)
    video = {
        "id": 1,
        "width": clip[0].width,
        "height": clip[0].height,
        "length": len(clip),
        "file_names": [f"{key}/{number:05d}.{frame.suffix}" for number, frame in enumerate(clip)],
    }
    annotations = []
    for row in objects:
        masks = [found.get(row.id) for found in per_frame]
        annotations.append(
            {
                "id": 0,
                "video_id": 1,
                "iscrowd": 0,
                "instance_id": row.id,
                "category_id": job.categories[row.category].id,
                "width": clip[0].width,
                "height": clip[0].height,
                "length": 1,
                "segmentations": [mask.rle if mask else None for mask in masks],
                "bboxes": [mask.box if mask else None for mask in masks],
                "areas": [mask.area if mask else None for mask in masks],
            }
        )
    return Part(key, files, {"videos": [video], "annotations": annotations})


def ytvis_join(job: ExportJob, parts: Iterator[Part]) -> Counts:
    """instances.json."""
    with json_lists(
        job.out, "", "instances.json", ("videos", "annotations"), coco_head(job)
    ) as lists:
        join_lists(lists, parts, {"video_id": "videos"})
    return dict(lists.counts)
