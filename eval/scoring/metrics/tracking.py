"""The tracking scores of 360VOT for boxes on the panorama.

S_dual, P_dual, normalised P_dual and P_angle.

Takes one sequence: boxes (N, 4) as x1, y1, w, h in pixels of a panorama `width` wide, of prediction
and truth, frame by frame; gives a curve over thresholds. `score_of` makes the number in the tables
of it (the mean of a curve, or its value at 20 pixels or 3°); a benchmark is the mean over
sequences. Bounding fields of view are in `panoforge.eval.scoring.metrics.bfov`.

Mode `seam-aware`: columns are a circle, boxes that share an arc overlap by it, frames without the
object are left out. Mode `official` is the toolkit of HuajianUP/360VOT
(`eval/OPEBenchmark_360VOT.py`) with what it does unasked:
- the truth is tried moved by −W and by 0, not by +W (both neighbours use the left one);
- frames without the object stay in the number of frames, so a perfect tracker stays below 1;
- a true centre at a coordinate ≤ 0 counts as a hit at every threshold, whatever was predicted;
- normalised centres are moved by W times the box, so the normalised score knows no seam; W is 3840
  whatever the panorama.

Rotated boxes: `panoforge.eval.scoring.metrics.rotated_box`.
"""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from panoforge.core.geometry.sphere import angle_between, lonlat_to_direction, pixel_to_lonlat
from panoforge.core.types import Floats
from panoforge.eval.scoring.metrics.boundary import Mode

Curve = Literal["success", "precision", "normalised precision", "angle"]

TRACKING = ("s_dual", "p_dual", "p_dual_normalised", "p_angle", "s_sphere", "p_angle_bfov")
ROTATED = tuple(f"{name}_rotated" for name in TRACKING)  # of rotated boxes and fields of view
OVERLAPS = np.arange(0, 1.05, 0.05)
PIXELS = np.arange(0, 51, 1)
NORMALISED = np.arange(0, 51, 1) / 100
DEGREES = np.arange(0, 101, 1) / 10
OFFICIAL_WIDTH = 3840


def score_of(curve: Floats, kind: Curve) -> float:
    """The number of the published tables.

    The value at 20 pixels or 3°, the mean of the other curves.
    """
    return float(
        curve[20] if kind == "precision" else curve[30] if kind == "angle" else curve.mean()
    )


def success_dual(
    predicted: ArrayLike, true: ArrayLike, present: ArrayLike, width: int, mode: Mode = "seam-aware"
) -> Floats:
    """S_dual: the share of frames whose IoU is above each of OVERLAPS, (21,).

    `present` (N,) bool: the truth has the object.
    """
    p, t, frames = scored_frames(predicted, true, present, mode)
    boxes = _is_box(t)
    overlap = np.full(len(t), -1.0)
    overlap[boxes] = box_iou(p[boxes], t[boxes], width, mode)
    return np.array([np.sum(overlap > threshold) / frames for threshold in OVERLAPS])


def precision_dual(
    predicted: ArrayLike, true: ArrayLike, present: ArrayLike, width: int, mode: Mode = "seam-aware"
) -> Floats:
    """P_dual: the share of frames whose centres are within each of PIXELS, (51,)."""
    p, t, frames = scored_frames(predicted, true, present, mode)
    if mode == "official":
        return shares(_official_distance(_centres(p), _centres(t)), PIXELS, frames)
    return shares(np.hypot(*_offsets(p, t, width).T), PIXELS, frames)


def normalised_precision_dual(
    predicted: ArrayLike, true: ArrayLike, present: ArrayLike, width: int, mode: Mode = "seam-aware"
) -> Floats:
    """Normalised P_dual, (51,).

    The share of frames whose centres, in units of the true width and height, are within each of
    NORMALISED.
    """
    p, t, frames = scored_frames(predicted, true, present, mode)
    if mode == "official":
        size = t[:, 2:4] + 1e-16
        return shares(
            _official_distance(_centres(p) / size, _centres(t) / size), NORMALISED, frames
        )
    return shares(np.hypot(*(_offsets(p, t, width) / t[:, 2:4]).T), NORMALISED, frames)


def precision_angle(
    predicted: ArrayLike,
    true: ArrayLike,
    present: ArrayLike,
    width: int,
    height: int,
    mode: Mode = "seam-aware",
) -> Floats:
    """P_angle, (101,).

    The share of frames whose centres are within each of DEGREES on the sphere.
    """
    p, t, frames = scored_frames(predicted, true, present, mode)
    a, b = (
        np.stack(pixel_to_lonlat(centres[:, 0], centres[:, 1], width, height))
        for centres in (_centres(p), _centres(t))
    )
    return shares(centre_angle_deg(a, b, mode), DEGREES, frames)


def centre_angle_deg(predicted: Floats, true: Floats, mode: Mode = "seam-aware") -> Floats:
    """Great-circle angle in degrees between directions, (lon, lat) in radians, (2, N) → (N,).

    `official` takes arccos, which has 8 digits near 0° and decides ties with a threshold by
    rounding: its steps are followed exactly.
    """
    if mode == "seam-aware":
        return np.degrees(
            angle_between(lonlat_to_direction(*predicted), lonlat_to_direction(*true))
        )
    xyz = [
        np.column_stack([np.cos(lat) * np.sin(lon), np.sin(-lat), np.cos(lat) * np.cos(lon)])
        for lon, lat in (true, predicted)
    ]
    a, b = (v / np.linalg.norm(v) for v in xyz)
    cos = np.sum(a * b, axis=1) / (np.sqrt(np.sum(a**2, axis=1)) * np.sqrt(np.sum(b**2, axis=1)))
    return np.arccos(np.clip(cos, -1, 1)) / np.pi * 180


def box_iou(predicted: Floats, true: Floats, width: int, mode: Mode = "seam-aware") -> Floats:
    """IoU of boxes (N, 4), frame by frame, (N,).

    `seam-aware`: on the cylinder; `official`: the better of two copies.
    """
    if mode == "official":
        return np.maximum(
            _plane_iou(predicted, true), _plane_iou(predicted, true - [width, 0, 0, 0])
        )
    a, b = (_on_cylinder(boxes, width) for boxes in (predicted, true))
    # The two arcs can meet in two places, so the copies' overlaps are added, not compared.
    both = sum(
        (_intersection(a, np.add(b, [shift, 0, 0, 0])) for shift in (-width, 0, width)),
        np.zeros(len(a)),
    )
    either = _area(a) + _area(b) - both
    return np.divide(both, either, out=np.zeros_like(both), where=either > 0)


def scored_frames(
    predicted: ArrayLike, true: ArrayLike, present: ArrayLike, mode: Mode
) -> tuple[Floats, Floats, int]:
    """Predicted and true boxes of the frames that have the object.

    With the number of frames that shares are of.
    """
    p, t, here = (
        np.asarray(predicted, np.float64),
        np.asarray(true, np.float64),
        np.asarray(present, bool),
    )
    if p.ndim != 2 or p.shape != t.shape or p.shape[1] < 4 or here.shape != (len(t),):
        raise ValueError(
            f"predicted and true boxes are both N×4 (or N×5), present is N; got {p.shape},"
            f" {t.shape}, {here.shape}"
        )
    if mode == "seam-aware":
        here = here & _is_box(t)
    if not here.any():
        raise ValueError(
            "the object is in no frame of the sequence, so there is nothing to score: leave the"
            " sequence out"
        )
    return p[here], t[here], len(t) if mode == "official" else int(here.sum())


def _is_box(boxes: Floats) -> NDArray[np.bool_]:
    return (boxes[:, 2] > 0) & (boxes[:, 3] > 0)


def shares(distance: Floats, thresholds: NDArray, frames: int) -> Floats:
    """The share of `frames` whose distance is at most each threshold."""
    return np.array([np.sum(distance <= threshold) / frames for threshold in thresholds])


def _centres(boxes: Floats) -> Floats:
    """Pixel indices of the centres, (N, 2)."""
    return boxes[:, :2] + (boxes[:, 2:4] - 1) / 2


def _offsets(predicted: Floats, true: Floats, width: int) -> Floats:
    """From true to predicted centre, the short way round, (N, 2)."""
    offset = _centres(predicted) - _centres(true)
    offset[:, 0] = np.mod(offset[:, 0] + width / 2, width) - width / 2
    return offset


def _official_distance(predicted: Floats, true: Floats) -> Floats:
    """The smallest distance to three copies of the true centre.

    −1 where the true centre has a coordinate ≤ 0.
    """
    copies = [
        np.hypot(*(np.add(true, [shift, 0]) - predicted).T)
        for shift in (-OFFICIAL_WIDTH, 0, OFFICIAL_WIDTH)
    ]
    return np.where((true > 0).all(axis=1), np.min(copies, axis=0), -1.0)


def _on_cylinder(boxes: Floats, width: int) -> Floats:
    """The boxes with x1 in [0, W) and no wider than the circle."""
    out = boxes[:, :4].copy()
    out[:, 0] = np.mod(out[:, 0], width)
    out[:, 2:] = np.clip(out[:, 2:], 0, [width, np.inf])
    return out


def _area(boxes: Floats) -> Floats:
    return boxes[:, 2] * boxes[:, 3]


def _intersection(a: Floats, b: Floats) -> Floats:
    sides = np.minimum(a[:, :2] + a[:, 2:4], b[:, :2] + b[:, 2:4]) - np.maximum(a[:, :2], b[:, :2])
    return np.prod(np.maximum(sides, 0), axis=1)


def _plane_iou(a: Floats, b: Floats) -> Floats:
    both = _intersection(a, b)
    return np.clip(both / (_area(a) + _area(b) - both), 0, 1)
