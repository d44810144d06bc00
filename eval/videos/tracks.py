"""The tracking scores of 360VOTS for masks.

Boxes and bounding fields of view around them, scored as its toolkit scores trackers.

Takes the predicted and the true masks of one object, frame by frame (`Track.add`), or boxes
(`track_scores`). Gives S_dual, P_dual, its normalised form, P_angle, and of BFoVs S_sphere and
P_angle, in both modes of `panoforge.eval.scoring.metrics.tracking`. `official` stands beside
published numbers, bugs included; the other is `seam-aware`. A mask's box is its shortest interval
of columns on the circle by its rows; its BFoV is `panoforge.core.geometry.bfov`'s, unrotated; the
rotated ones are `panoforge.core.geometry.tracking_boxes`'. A frame without the object in truth is
absent; an empty prediction is a box of no size, which overlaps nothing.
"""

from dataclasses import astuple, dataclass, field
from typing import NamedTuple

import numpy as np

from panoforge.core.geometry.bfov import fit_bfov
from panoforge.core.geometry.tracking_boxes import bounds_of
from panoforge.core.types import Bools, Floats
from panoforge.eval.scoring.metrics.bfov import precision_angle_bfov, success_sphere
from panoforge.eval.scoring.metrics.boundary import Mode
from panoforge.eval.scoring.metrics.crops import crop_mask
from panoforge.eval.scoring.metrics.rotated_box import success_rotated, upright
from panoforge.eval.scoring.metrics.tracking import (
    normalised_precision_dual,
    precision_angle,
    precision_dual,
    score_of,
    success_dual,
)

MODES: tuple[Mode, ...] = ("official", "seam-aware")
FIT_PIXELS = 20_000  # of a mask are enough to bound it to a fraction of a degree


def mask_box(mask: Bools) -> Floats:
    """x1, y1, w, h of the smallest box on the cylinder around a bool H×W mask, x1 in [0, W).

    Zeros if it is empty.
    """
    crop = crop_mask(mask, wrap=True)
    return np.array([crop.u0, crop.v0, *crop.mask.shape[::-1]], np.float64)


def mask_bfov(mask: Bools) -> Floats:
    """clon, clat, fov_h, fov_v, 0 in degrees around a bool H×W mask.

    No extent if it is empty or wider than any flat view.
    """
    found = fit_bfov(mask, trim=0.0, max_pixels=FIT_PIXELS)
    return (
        np.zeros(5)
        if found is None
        else np.array([found.yaw_deg, found.pitch_deg, *found.fov_deg, 0.0])
    )


class TrackBounds(NamedTuple):
    """What bounds an object, frame by frame, in pixels and degrees; no extent where it is not.

    `boxes` (N, 4) x1, y1, w, h; `bfovs` (N, 5); rotated boxes (N, 5) cx, cy, w, h, rotation and
    rotated BFoVs (N, 5), None where there are none.
    """

    boxes: Floats
    bfovs: Floats
    rotated_boxes: Floats | None = None
    rotated_bfovs: Floats | None = None


def mask_bounds(mask: Bools) -> tuple[Floats, Floats, Floats, Floats]:
    """The four bounds of a bool H×W mask, rows of `TrackBounds`."""
    box, bfov = mask_box(mask), mask_bfov(mask)
    if not mask.any():
        return box, bfov, np.zeros(5), np.zeros(5)
    crop = crop_mask(mask, wrap=True)
    found = bounds_of(crop.mask, crop.u0, crop.v0, mask.shape[1], mask.shape[0])
    return box, bfov, np.array(astuple(found.rotated_box)), np.array(astuple(found.rotated_fov))


@dataclass
class Track:
    """One object through a video of `width` × `height` panoramas."""

    width: int
    height: int
    predicted: list[tuple[Floats, ...]] = field(default_factory=list)
    true: list[tuple[Floats, ...]] = field(default_factory=list)

    def add(self, predicted: Bools, true: Bools) -> None:
        """The next scored frame."""
        self.predicted.append(mask_bounds(predicted))
        self.true.append(mask_bounds(true))

    def scores(self) -> dict[str, float]:
        """By name, `official` ones with that word behind it.

        Nothing where the object is in no frame.
        """
        predicted, true = (
            TrackBounds(*(np.array(part) for part in zip(*some, strict=True)))
            for some in (self.predicted, self.true)
        )
        return track_scores(predicted, true, true.boxes[:, 2] > 0, self.width, self.height)


def track_scores(
    predicted: TrackBounds, true: TrackBounds, present: Bools, width: int, height: int
) -> dict[str, float]:
    """Scores as `Track.scores` names them, of the bounds that both have.

    Of rotated bounds in mode `seam-aware` alone: the toolkit's own overlap of rotated boxes was not
    run here (`panoforge.eval.scoring.metrics.rotated_box`).
    """
    if not present.any():
        return {}
    found: dict[str, float] = {}
    for mode in MODES:
        curves = _of_boxes(predicted.boxes, true.boxes, present, (width, height), mode)
        curves |= _of_bfovs(predicted.bfovs, true.bfovs, present, mode)
        found |= {
            name if mode == "seam-aware" else f"{name}_official": value
            for name, value in curves.items()
        }
    turned: dict[str, float] = {}
    if predicted.rotated_boxes is not None and true.rotated_boxes is not None:
        p, t = predicted.rotated_boxes, true.rotated_boxes
        if (here := present & (t[:, 2] > 0)).any():
            turned |= _of_boxes(upright(p), upright(t), here, (width, height), "seam-aware")
            turned["s_dual"] = score_of(success_rotated(p, t, here, width), "success")
    if predicted.rotated_bfovs is not None and true.rotated_bfovs is not None:
        turned |= _of_bfovs(predicted.rotated_bfovs, true.rotated_bfovs, present, "seam-aware")
    return found | {f"{name}_rotated": value for name, value in turned.items()}


def _of_boxes(
    predicted: Floats, true: Floats, present: Bools, size: tuple[int, int], mode: Mode
) -> dict[str, float]:
    """Scores of boxes (N, 4) on panoramas of `size` (W, H)."""
    width, height = size
    return {
        "s_dual": score_of(success_dual(predicted, true, present, width, mode), "success"),
        "p_dual": score_of(precision_dual(predicted, true, present, width, mode), "precision"),
        "p_dual_normalised": score_of(
            normalised_precision_dual(predicted, true, present, width, mode),
            "normalised precision",
        ),
        "p_angle": score_of(
            precision_angle(predicted, true, present, width, height, mode), "angle"
        ),
    }


def _of_bfovs(predicted: Floats, true: Floats, present: Bools, mode: Mode) -> dict[str, float]:
    """Scores of BFoVs (N, 5); nothing if none has an extent."""
    bounded = present & (true[:, 2] > 0)
    if not bounded.any():
        return {}
    return {
        "s_sphere": score_of(success_sphere(predicted, true, bounded, mode), "success"),
        "p_angle_bfov": score_of(precision_angle_bfov(predicted, true, bounded, mode), "angle"),
    }
