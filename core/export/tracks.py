"""Exports of panoramic videos in the layouts of PanoVOS and of 360VOTS (360VOS and 360VOT).

    panovos   <split>/JPEGImages/<video>/00000.jpg, Annotations/<video>/00000.png (palette, pixel =
              object), <split>/<split>_meta.json
    360vos    <split>/<video>/image/000000.jpg, mask/000000_<object>.png (grey, 0 and 255)
    360vot    <split>/<video>-<id>/image/000000.jpg, label.json: four bounds of one thing a frame

Objects are things; parts of the building are none, and are counted. Every frame has its masks, in
every split, and an object out of sight an empty one. Pictures are passed on as they are.
360VOT follows one thing a sequence, so its pictures are there once for each thing. These are the
things that move; where nothing moves, all. A sequence begins where its thing is seen first.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import cv2
import numpy as np

from panoforge.core.export.frames import ExportFacts, ExportJob, Frame, Part, join_counts
from panoforge.core.export.palette import MAX_PALETTE_IDS, palette_png
from panoforge.core.export.units import Unit
from panoforge.core.geometry.tracking_boxes import (
    FieldOfView,
    FlatBox,
    TrackingBoxes,
    bounds_of,
)
from panoforge.core.sample.metadata import InstanceMeta
from panoforge.core.types import Labels

STRUCTURE = "structure"
MAX_OBJECTS = MAX_PALETTE_IDS - 1  # of a palette: readers take its last value, 255, for void


def things_of(clip: Sequence[Frame], min_pixels: int) -> tuple[list[InstanceMeta], int]:
    """The things of a clip by ascending id, and how many parts of the building are left out."""
    seen = {
        id_: row
        for frame in clip
        for id_, row in frame.instances.items()
        if row.pixels >= min_pixels
    }
    rows = [seen[id_] for id_ in sorted(seen)]
    things = [row for row in rows if STRUCTURE not in row.flags]
    return things, len(rows) - len(things)


def panovos_part(job: ExportJob, unit: Unit, clip: list[Frame]) -> Part:
    """A video; further ones, `<video>-s01` and on, hold objects beyond what a palette numbers."""
    things, left_out = things_of(clip, job.options.min_pixels)
    groups = [things[start : start + MAX_OBJECTS] for start in range(0, len(things), MAX_OBJECTS)]
    files: dict[str, bytes] = {}
    videos: dict[str, Any] = {}
    for number, group in enumerate(groups or [[]]):
        name = unit.key if len(groups) < 2 else f"{unit.key}-s{number:02d}"
        for place, frame in enumerate(clip):
            files[f"{unit.split}/JPEGImages/{name}/{place:05d}.{frame.suffix}"] = frame.image
            table = np.zeros(65536, np.uint8)
            for value, row in enumerate(group, start=1):
                table[row.id] = value if _is_seen(frame, row.id, job.options.min_pixels) else 0
            png = palette_png(table[frame.labels])
            files[f"{unit.split}/Annotations/{name}/{place:05d}.png"] = png
        videos[name] = {
            "objects": {
                str(value): {
                    "frame_range": _frame_range(clip, row.id, job.options.min_pixels),
                    **_named(row),
                }
                for value, row in enumerate(group, start=1)
            }
        }
    counts = {"videos": len(videos), "masklets": len(things), "structure_left_out": left_out}
    return Part(unit.key, files, counts=counts, extra=(unit.split, videos))


def panovos_join(job: ExportJob, parts: Iterator[Part]) -> ExportFacts:
    """<split>/<split>_meta.json: each object's frames."""
    splits: dict[str, dict[str, Any]] = {}

    def noted() -> Iterator[Part]:
        for part in parts:
            split, videos = part.extra
            splits.setdefault(split, {}).update(videos)
            yield part

    counts = join_counts(job, noted())
    for split, videos in splits.items():
        text = json.dumps({"videos": videos}, indent=1).encode()
        job.out.put(f"{split}/{split}_meta.json", text)
    return counts


def vos360_part(job: ExportJob, unit: Unit, clip: list[Frame]) -> Part:
    """A sequence of 360VOS: pictures, and for each object a mask a frame."""
    things, left_out = things_of(clip, job.options.min_pixels)
    folder = f"{unit.split}/{unit.key}"
    files: dict[str, bytes] = {}
    for place, frame in enumerate(clip):
        labels = frame.labels
        files[f"{folder}/image/{place:06d}.{frame.suffix}"] = frame.image
        for number, row in enumerate(things):
            seen = _is_seen(frame, row.id, job.options.min_pixels)
            mask = (labels == row.id) if seen else np.zeros(labels.shape, bool)
            files[f"{folder}/mask/{place:06d}_{number}.png"] = _grey_png(mask)
    files[f"{folder}/objects.json"] = json.dumps(
        {str(number): _named(row) for number, row in enumerate(things)}, indent=1
    ).encode()
    counts = {"videos": 1, "masklets": len(things), "structure_left_out": left_out}
    return Part(unit.key, files, counts=counts)


def vot360_part(job: ExportJob, unit: Unit, clip: list[Frame]) -> Part:
    """Sequences of 360VOT, `<video>-<id>`, one for each thing that is followed."""
    things, left_out = things_of(clip, job.options.min_pixels)
    video = job.dataset.video(unit.key).meta
    moves = {row.id for row in video.instances if row.motion != "still"}
    followed = [row for row in things if row.id in moves] or things
    files: dict[str, bytes] = {}
    labelled: dict[int, dict[str, Any]] = {row.id: {} for row in followed}
    for frame in clip:
        labels = frame.labels
        for row in followed:
            of_thing = labelled[row.id]
            seen = _is_seen(frame, row.id, job.options.min_pixels)
            if not seen and not of_thing:
                continue  # before it comes into sight
            name = f"{len(of_thing):06d}.{frame.suffix}"
            files[f"{unit.split}/{unit.key}-{row.id}/image/{name}"] = frame.image
            found = _bounds(frame, labels, row.id) if seen else TrackingBoxes()
            of_thing[name] = {
                "bfov": _fov_entry(found.fov),
                "rbfov": _fov_entry(found.rotated_fov),
                "bbox": _box_entry(found.box),
                "rbbox": _box_entry(found.rotated_box),
            }
    for row in followed:
        text = json.dumps(labelled[row.id], indent=1).encode()
        files[f"{unit.split}/{unit.key}-{row.id}/label.json"] = text
    counts = {
        "videos": 1,
        "sequences": len(followed),
        "still_left_out": len(things) - len(followed),
        "structure_left_out": left_out,
    }
    return Part(unit.key, files, counts=counts)


def _is_seen(frame: Frame, id_: int, min_pixels: int) -> bool:
    return id_ in frame.instances and frame.instances[id_].pixels >= min_pixels


def _named(row: InstanceMeta) -> dict[str, Any]:
    """What is not of the layout, under one name of ours."""
    return {"panoforge_instance": {"id": row.id, "name": row.name, "category": row.category}}


def _frame_range(clip: Sequence[Frame], id_: int, min_pixels: int) -> dict[str, Any]:
    """The first and last frame in which an object is seen, and in how many."""
    frames = [place for place, frame in enumerate(clip) if _is_seen(frame, id_, min_pixels)]
    return {"start": f"{frames[0]:05d}", "end": f"{frames[-1]:05d}", "frame_nums": len(frames)}


def _grey_png(mask: np.ndarray) -> bytes:
    """A grey PNG of 0 and 255."""
    return cv2.imencode(".png", mask.astype(np.uint8) * 255, [cv2.IMWRITE_PNG_COMPRESSION, 1])[
        1
    ].tobytes()


def _bounds(frame: Frame, labels: Labels, id_: int) -> TrackingBoxes:
    """The bounds of a thing that is seen; its box on the cylinder says where to look."""
    box = frame.instances[id_].box
    columns = np.arange(box.u0, box.u0 + box.width) % frame.width
    mask = labels[box.v0 : box.v0 + box.height][:, columns] == id_
    return bounds_of(mask, box.u0, box.v0, frame.width, frame.height)


def _box_entry(box: FlatBox) -> dict[str, float]:
    return {
        "cx": box.cx,
        "cy": box.cy,
        "w": box.width,
        "h": box.height,
        "rotation": box.rotation_deg,
    }


def _fov_entry(fov: FieldOfView) -> dict[str, float]:
    names = ("clon", "clat", "fov_h", "fov_v", "rotation")
    return dict(zip(names, asdict(fov).values(), strict=True))
