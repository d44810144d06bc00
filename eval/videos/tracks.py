"""The tracking scores of 360VOTS for masks.

Boxes and bounding fields of view around them, scored as its toolkit scores trackers.

Takes the predicted and the true masks of one object, frame by frame (`Track.add`), or boxes
(`track_scores`). Gives S_dual, P_dual, its normalised form, P_angle, and of BFoVs S_sphere and
P_angle, in both modes of `panoforge.eval.scoring.metrics.tracking`. `official` stands beside
published numbers, bugs included; the other is `seam-aware`. A mask's box is its shortest interval
of columns on the circle by its rows; its BFoV is `panoforge.core.geometry.bfov`'s, unrotated. A
frame without the object in truth is absent; an empty prediction is a box of no size, which overlaps
nothing.
"""

from dataclasses import dataclass, field

import numpy as np

from panoforge.core.geometry.bfov import fit_bfov
from panoforge.core.types import Bools, Floats
from panoforge.eval.scoring.metrics.bfov import precision_angle_bfov, success_sphere
from panoforge.eval.scoring.metrics.boundary import Mode
from panoforge.eval.scoring.metrics.crops import crop_mask
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


@dataclass
class Track:
    """One object through a video of `width` × `height` panoramas."""

    width: int
    height: int
    predicted: list[tuple[Floats, Floats]] = field(default_factory=list)
    true: list[tuple[Floats, Floats]] = field(default_factory=list)

    def add(self, predicted: Bools, true: Bools) -> None:
        """The next scored frame."""
        self.predicted.append((mask_box(predicted), mask_bfov(predicted)))
        self.true.append((mask_box(true), mask_bfov(true)))

    def scores(self) -> dict[str, float]:
        """By name, `official` ones with that word behind it.

        Nothing where the object is in no frame.
        """
        (p, p_bfov), (t, t_bfov) = (
            [np.array(part) for part in zip(*some, strict=True)]
            for some in (self.predicted, self.true)
        )
        return track_scores(p, t, t[:, 2] > 0, self.width, self.height, (p_bfov, t_bfov))


def track_scores(
    predicted: Floats,
    true: Floats,
    present: Bools,
    width: int,
    height: int,
    bfovs: tuple[Floats, Floats] | None = None,
) -> dict[str, float]:
    """Scores of boxes (N, 4) as `Track.scores` names them, predicted and true.

    And of BFoVs (N, 5), where there are any.
    """
    if not present.any():
        return {}
    found: dict[str, float] = {}
    for mode in MODES:
        curves = {
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
        if bfovs is not None and (bounded := present & (bfovs[1][:, 2] > 0)).any():
            curves["s_sphere"] = score_of(success_sphere(*bfovs, bounded, mode), "success")
            curves["p_angle_bfov"] = score_of(precision_angle_bfov(*bfovs, bounded, mode), "angle")
        found |= {
            name if mode == "seam-aware" else f"{name}_official": value
            for name, value in curves.items()
        }
    return found
