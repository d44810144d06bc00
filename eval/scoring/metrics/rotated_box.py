"""Overlap of rotated boxes on the panorama, as 360VOT defines them.

A rotated box (N, 5) is cx, cy, w, h, rotation: its centre and size in pixels from the panorama's
edges, turned by so many degrees clockwise in the picture. Columns are a circle, so the overlaps
with the copies a turn to either side are added.

There is no mode `official`: the toolkit hands the rotation in degrees to a function that takes
radians (`cal_iou` of lilanxiao/Rotated_IoU), which needs CUDA and was not run. Only the overlap
differs from upright boxes; distances of centres are those of `upright`.
"""

import cv2
import numpy as np
from numpy.typing import ArrayLike

from panoforge.core.types import Floats
from panoforge.eval.scoring.metrics.tracking import OVERLAPS, scored_frames


def success_rotated(
    predicted: ArrayLike, true: ArrayLike, present: ArrayLike, width: int
) -> Floats:
    """S_dual of rotated boxes: the share of frames whose IoU is above each of OVERLAPS, (21,).

    Args:
        predicted: (N, 5), pixels and degrees.
        true: (N, 5).
        present: (N,) bool, the truth has the object.
        width: Of the panorama, in pixels.
    """
    p, t, frames = scored_frames(predicted, true, present, "seam-aware")
    overlap = rotated_iou(p, t, width)
    return np.array([np.sum(overlap > threshold) / frames for threshold in OVERLAPS])


def rotated_iou(predicted: Floats, true: Floats, width: int) -> Floats:
    """IoU of rotated boxes (N, 5) on the cylinder, frame by frame, (N,)."""
    both = np.zeros(len(true))
    for number, (p, t) in enumerate(zip(predicted, true, strict=True)):
        if min(*p[2:4], *t[2:4]) <= 0:
            continue
        near = t[0] + width * np.round((p[0] - t[0]) / width)
        for turn in (-1, 0, 1):
            both[number] += _intersection(p, np.array([near + turn * width, *t[1:]]))
    area = [boxes[:, 2] * boxes[:, 3] for boxes in (predicted, true)]
    either = area[0] + area[1] - both
    share = np.divide(both, either, out=np.zeros_like(both), where=either > 0)
    return np.minimum(share, 1.0)  # areas of float32 corners


def upright(boxes: Floats) -> Floats:
    """Boxes x1, y1, w, h (N, 4) with the centres and sizes of rotated ones: of them, distances."""
    return np.concatenate([boxes[:, :2] - boxes[:, 2:4] / 2, boxes[:, 2:4]], axis=1)


def _intersection(a: Floats, b: Floats) -> float:
    """Common area of two rotated boxes in the plane; float32 within, so moved to the origin."""
    moved = [
        (
            (float(box[0] - a[0]), float(box[1] - a[1])),
            (float(box[2]), float(box[3])),
            float(box[4]),
        )
        for box in (a, b)
    ]
    kind, points = cv2.rotatedRectangleIntersection(*moved)
    if kind == cv2.INTERSECT_NONE or points is None or len(points) < 3:
        return 0.0
    return float(cv2.contourArea(cv2.convexHull(points)))
