"""Export of polygons for Ultralytics: images/, labels/, data.yaml.

A label is one closed ring of points, and the reader fills it by the even-odd rule
(`cv2.fillPoly`, edges included). So further parts and holes are joined to the outline by bridges of
no width. What that still costs is counted as the reader will see it: bridges are painted where
they leave the mask, and thin gaps close. `ExportOptions.min_iou` leaves out what falls below.

A bridge over a wide gap may cost more than what lies behind it: that of an object over the seam
crosses the whole picture. So the ring of one side alone is taken where it has the higher IoU.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from panoforge.core.export.frames import (
    ExportFacts,
    ExportJob,
    Frame,
    Part,
    image_entry,
    image_files,
    join_counts,
    masks_of,
    split_names,
)
from panoforge.core.export.units import Unit
from panoforge.core.geometry.pixels import index_to_edge
from panoforge.core.types import Ints, Mask


@dataclass
class Loss:
    """What a category loses: `iou` sums the IoU of its instances with what a reader paints."""

    instances: int = 0
    iou: float = 0.0
    worst: float = 1.0
    below_half: int = 0
    left_out: int = 0

    def add(self, iou: float, left_out: bool) -> None:
        """Count one instance, whose polygons have this IoU with its mask."""
        self.instances += 1
        self.iou += iou
        self.worst = min(self.worst, iou)
        self.below_half += iou < 0.5
        self.left_out += left_out

    def join(self, other: "Loss") -> None:
        """Count what another worker counted."""
        self.instances += other.instances
        self.iou += other.iou
        self.worst = min(self.worst, other.worst)
        self.below_half += other.below_half
        self.left_out += other.left_out

    def facts(self) -> ExportFacts:
        """As export.json has it."""
        return {
            "instances": self.instances,
            "mean_iou": round(self.iou / max(self.instances, 1), 4),
            "worst_iou": round(self.worst, 4),
            "below_half": self.below_half,
            "left_out": self.left_out,
        }


def yolo_part(job: ExportJob, unit: Unit, frames: list[Frame]) -> Part:
    """images/, labels/<name>.txt (class x1 y1 x2 y2 …, relative), and what the polygons lose."""
    images, losses, polygons, files = [], dict[str, Loss](), 0, image_files(frames)
    for number, frame in enumerate(frames, start=1):
        images.append(image_entry(number, frame)["file_name"])
        lines, labels = [], frame.labels
        for found in masks_of(frame, job.options.min_pixels):
            left, top, width, height = map(int, found.box)
            mask = labels[top : top + height, left : left + width] == found.instance.id
            ring, iou = best_ring(mask)
            category = found.instance.category
            left_out = iou < job.options.min_iou
            losses.setdefault(category, Loss()).add(iou, left_out)
            if not left_out:
                centres = index_to_edge(ring + np.array([left, top]))
                points = (centres / (frame.width, frame.height)).ravel()
                numbers = " ".join(f"{value:.6f}" for value in points)
                lines.append(f"{job.categories[category].id - 1} {numbers}\n")
        files[f"labels/{frame.name}.txt"] = "".join(lines).encode()
        polygons += len(lines)
    return Part(
        unit.key,
        files,
        counts={"images": len(frames), "annotations": polygons},
        extra=(unit.split, images, losses),
    )


def yolo_join(job: ExportJob, parts: Iterator[Part]) -> ExportFacts:
    """<split>.txt, the dataset's own splits as lists of images, and data.yaml.

    data.yaml has no `path`: Ultralytics then takes the folder of the file, where a relative one
    would mean the folder that training is started in.
    """
    lists: dict[str, list[str]] = {}
    losses: dict[str, Loss] = {}

    def listed() -> Iterator[Part]:
        for part in parts:
            split, images, lost = part.extra
            lists.setdefault(split, []).extend(images)
            for category, loss in lost.items():
                losses.setdefault(category, Loss()).join(loss)
            yield part

    counts = join_counts(job, listed())
    for split, images in lists.items():
        job.out.put(f"{split}.txt", "".join(f"./images/{name}\n" for name in images).encode())
    named = split_names(lists)
    splits = "".join(f"{key}: {split}.txt\n" for key, split in named.items())
    names = "".join(
        f"  {category.id - 1}: {json.dumps(category.name)}\n"
        for category in job.categories.values()
    )
    job.out.put("data.yaml", f"{splits}names:\n{names}".encode())
    total = Loss()
    for loss in losses.values():
        total.join(loss)
    by_category = {name: losses[name].facts() for name in sorted(losses)}
    return {
        **counts,
        "splits": named,
        "min_iou": job.options.min_iou,
        "cost": total.facts(),
        "cost_by_category": by_category,
    }


def best_ring(mask: Mask) -> tuple[Ints, float]:
    """The ring of a mask that a reader paints with the highest IoU, and that IoU.

    It goes around all parts, or around those on one side of the widest gap of empty columns.
    """
    rings = [outline(part) for part in (mask, *sides(mask))]
    found = [overlap(painted(ring, mask.shape), mask) for ring in rings]
    best = int(np.argmax(found))
    return rings[best], found[best]


def sides(mask: Mask) -> list[Mask]:
    """What of a mask lies left and right of its widest gap of empty columns; none without a gap."""
    filled = np.flatnonzero(mask.any(axis=0))
    gaps = np.diff(filled)
    if not gaps.size or gaps.max() == 1:
        return []
    last = filled[int(gaps.argmax())]  # of the left side
    column = np.arange(mask.shape[1])
    return [mask & (column <= last), mask & (column > last)]


def outline(mask: Mask) -> Ints:
    """One closed ring (N, 2) of pixel indices (x, y) around all parts and holes of a mask.

    Each further part or hole is joined at the pair of points where it comes nearest to what is
    joined already. A ring of one or two points is repeated to be a polygon.
    """
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    rings = sorted(
        (contour[:, 0, :].astype(np.int64) for contour in contours), key=len, reverse=True
    )
    joined = rings[0]
    for ring in rings[1:]:
        distance = ((joined[:, None, :] - ring[None, :, :]) ** 2).sum(axis=2)
        here, there = np.unravel_index(int(distance.argmin()), distance.shape)
        around = np.concatenate([ring[there:], ring[: there + 1]])
        joined = np.concatenate([joined[: here + 1], around, joined[here:]])
    while len(joined) < 3:
        joined = np.concatenate([joined, joined[-1:]])
    return joined


def painted(ring: Ints, shape: tuple[int, ...]) -> Mask:
    """The mask H×W that Ultralytics' `polygon2mask` makes of a ring."""
    canvas = np.zeros(shape, np.uint8)
    return cv2.fillPoly(canvas, [ring.astype(np.int32)], 1).astype(bool)


def overlap(found: Mask, truth: Mask) -> float:
    """IoU of two masks that are not both empty."""
    return float((found & truth).sum() / (found | truth).sum())
