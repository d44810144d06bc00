"""From rows to the numbers in the tables.

Scores per method, with intervals, of all instances and of every kind of them.

Takes the rows of an evaluation (`panoforge.eval.scoring.results.Row`); gives lists of dicts that
results.json holds as they are. Pure functions: the same rows give the same numbers, intervals
included (every draw has a fixed seed). Intervals are 95 % bootstrap intervals over panoramas
(`panoforge.eval.scoring.metrics.stats`), absent where there is one panorama.

An instance is small, medium or large, by solid angle and by pixels of a scan's view. Other kinds:
where its click lies; whether it crosses the seam or holds a pole; its category. The ceilings are
among the roles, so every number of a model stands beside what ground truth reaches on the same
path.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from panoforge.core.errors import DataError
from panoforge.core.numbers import counted
from panoforge.eval.scoring.metrics import miou, miou_by_image
from panoforge.eval.scoring.metrics.detection import average_precision
from panoforge.eval.scoring.metrics.stats import RESAMPLES, bootstrap_mean
from panoforge.eval.scoring.results import Row

# COCO's bounds in pixels of a scan's view; and as the solid angles that they have in a 1024² view
# of 90° (512 pixels to the radian), whatever the view. SAP's own bounds are not known.
SMALL_PX, LARGE_PX = 32**2, 96**2
SMALL_SR, LARGE_SR = (32 / 512) ** 2, (96 / 512) ** 2
SIZE, VIEW_SIZE, SUBSET = "size", "size in view pixels", "seam or pole"
ON_SUBSET = "on the seam or a pole"
SIZES = ("small", "medium", "large")
GROUP_RESAMPLES = 2000  # there are hundreds of groups

GROUP_ORDER = {
    SIZE: SIZES,
    VIEW_SIZE: SIZES,
    "latitude of the click": ("below 30°", "30° to 60°", "above 60°"),
    "crossing": ("neither", "over the seam", "over a pole"),
    SUBSET: (ON_SUBSET, "elsewhere"),
    "category": (),
}


def groups_of(row: Row) -> dict[str, str]:
    """The group of an instance under each way to group."""
    lat = abs(row.lat_deg)
    return {
        SIZE: _size(row.area_sr, SMALL_SR, LARGE_SR),
        VIEW_SIZE: _size(row.view_pixels, SMALL_PX, LARGE_PX),
        SUBSET: ON_SUBSET if {"pole", "seam"} & set(row.flags) else "elsewhere",
        "latitude of the click": "below 30°"
        if lat < 30
        else "30° to 60°"
        if lat < 60
        else "above 60°",
        "crossing": "over a pole"
        if "pole" in row.flags
        else "over the seam"
        if "seam" in row.flags
        else "neither",
        "category": row.category or "(none)",
    }


def _size(area: float, small: float, large: float) -> str:
    """Below one bound, between them, or from the other on."""
    return SIZES[int(area >= small) + int(area >= large)]


def group_scores(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """mIoU, J&F and interval by method and role within every group that has instances.

    Categories by their number of instances.
    """
    found: dict[tuple[str, str], dict[tuple[str, str], list[Row]]] = {}
    for row in rows:
        for by, group in groups_of(row).items():
            found.setdefault((by, group), {}).setdefault((row.method, row.role), []).append(row)
    entries = []
    for by, order in GROUP_ORDER.items():
        groups = [group for b, group in found if b == by]
        sizes = {group: max(map(len, found[by, group].values())) for group in groups}
        by_size = [group for _, group in sorted((-sizes[group], group) for group in groups)]
        for group in sorted(groups, key=order.index) if order else by_size:
            for (method, role), some in found[by, group].items():
                entries.append(
                    {
                        "by": by,
                        "group": group,
                        "method": method,
                        "role": role,
                        "instances": len(some),
                        **_means(some, GROUP_RESAMPLES),
                    }
                )
    return entries


def scores(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One entry per method and role, in the order of first appearance.

    Each has

    - `miou` by instance, its interval `miou_low` to `miou_high`, `miou_by_image` by panorama, and
      `miou_cos`, cos φ-weighted;
    - mean `boundary_f`, `j_and_f`, and on the sphere `j_sphere` and `f_sphere`;
    - average precision over IoU 0.50:0.95 (`ap`) and at 0.50 (`ap50`);
    - how many `instances` and `panoramas` they are of.
    """
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.method, row.role, row.predictor), []).append(row)
    return [
        {
            "method": method,
            "role": role,
            "predictor": predictor,
            "instances": len(group),
            "panoramas": len({row.key for row in group}),
            **_means(group),
            "miou_by_image": miou_by_image([row.iou for row in group], [row.key for row in group]),
            "miou_cos": miou([row.iou_cos for row in group]),
            "boundary_f": miou([row.boundary_f for row in group]),
            "j_sphere": miou([row.j_sphere for row in group]),
            "f_sphere": miou([row.f_sphere for row in group]),
            **precision(group),
        }
        for (method, role, predictor), group in groups.items()
    ]


def check_scores(found: Sequence[Mapping[str, Any]]) -> None:
    """DataError if nothing was scored, or ground truth itself scores 0 under some method.

    `found` as `scores` gives it.

    Where ground truth scores 0, nothing came through that method's frames, or no prompt reached
    them: the score beside it would measure nothing.
    """
    if not found:
        raise DataError(
            "nothing was scored: no panorama has an instance that counts. Are there label maps with"
            " ids above 0, and instances of at least instances.min_pixels, instances.min_area_sr?"
        )
    lost = [entry for entry in found if entry["role"] == "ceiling" and entry["miou"] == 0]
    if lost:
        raise DataError(
            f"the ceiling of {', '.join(entry['method'] for entry in lost)} is 0: ground truth,"
            " sent through the same frames, finds none of the"
            f" {counted(lost[0]['instances'], 'instance')}, so a score there would say nothing."
            " Instances"
            " smaller than a pixel of the frames do that (instances.min_pixels); if yours are"
            " larger, no prompt reached the predictor: please report it"
        )


def _means(rows: Sequence[Row], resamples: int = RESAMPLES) -> dict[str, float | None]:
    interval = bootstrap_mean(
        [row.iou for row in rows], [row.key for row in rows], resamples=resamples
    )
    return {
        "miou": interval.value,
        "miou_low": interval.low,
        "miou_high": interval.high,
        "j_and_f": miou([(row.iou + row.boundary_f) / 2 for row in rows]),
    }


def precision(rows: Sequence[Row]) -> dict[str, float]:
    """AP of the masks of one method and predictor, ranked by their scores.

    There is no class, and no limit on their number per panorama: COCO's is 100, and a furnished
    room has more. A prompt without a mask is a miss, not a detection.
    """
    images = []
    for key in dict.fromkeys(row.key for row in rows):
        here = [row for row in rows if row.key == key]
        column = {row.id: index for index, row in enumerate(here)}
        found = [row for row in here if row.predicted_pixels]
        overlap = np.zeros((len(found), len(here)))
        for k, row in enumerate(found):
            if row.best_id:
                overlap[k, column[row.best_id]] = row.best_iou
        images.append((np.array([row.score for row in found]), overlap))
    most = max(len(score) for score, _ in images)
    ap = average_precision(images, max_predictions=max(most, 1))
    return {"ap": float(ap.mean()), "ap50": float(ap[0])}
