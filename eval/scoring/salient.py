"""Saliency scores of a panorama whose instances are its salient objects.

PAV-SOD scores a map, and the masks together are one.

Takes the union of the predicted masks and that of the true instances, bool H×W. Gives MAE, F_β, E-
and S-measure (`panoforge.eval.scoring.metrics.saliency`) as the sets' evaluator computes them
(`official`). Beside them stands what knows a panorama: MAE by solid angle, and S-measure with the
seam turned to where no object is. E-measure is there as its paper defines it, for empty and full
truths too. The map is binary, so a curve over thresholds has one value and the maximum and the mean
of F and E are the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from panoforge.core.types import Bools
from panoforge.eval.scoring.metrics.saliency import e_curve, f_curve, mae, s_measure
from panoforge.eval.scoring.metrics.sphere import row_weight_sr

BENCHMARKS = ("pavsod", "pavsodr")
OFFICIAL = ("mae", "f_beta", "e_measure", "s_measure")
SEAM_AWARE = ("mae_sphere", "e_measure_paper", "s_measure_seam")
SALIENCY_HEADS = (  # of OFFICIAL, then SEAM_AWARE
    "MAE",
    "F_β",
    "E-measure",
    "S-measure",
    "MAE by solid angle",
    "E-measure, paper's",
    "S-measure, seam turned",
)
LAST = 254  # threshold 1 − 1e-10: what is above it is the binary map


def salient_scores(predicted: Bools, true: Bools) -> dict[str, float]:
    """All of OFFICIAL and SEAM_AWARE."""
    as_map = predicted.astype(np.float64)
    height, width = true.shape
    weight = row_weight_sr(height, width)
    turn = quiet_column(true | predicted)
    return {
        "mae": mae(as_map, true),
        "f_beta": float(f_curve(as_map, true)[LAST]),
        "e_measure": float(e_curve(as_map, true)[LAST]),
        "s_measure": s_measure(as_map, true),
        "mae_sphere": float(
            weight @ np.count_nonzero(predicted != true, axis=1) / (weight.sum() * true.shape[1])
        ),
        "e_measure_paper": float(e_curve(as_map, true, "paper")[LAST]),
        "s_measure_seam": s_measure(np.roll(as_map, -turn, axis=1), np.roll(true, -turn, axis=1)),
    }


def quiet_column(objects: Bools) -> int:
    """Where to cut the circle: in the middle of the longest arc without an object.

    A column; of the first of equal arcs, and 0 where there is none.
    """
    busy = np.flatnonzero(objects.any(axis=0))
    width = objects.shape[1]
    if not busy.size or busy.size == width:
        return 0
    gaps = np.diff(busy, append=busy[0] + width)
    widest = int(gaps.argmax())
    return int(busy[widest] + (gaps[widest] + 1) // 2) % width


def mean_scores(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Means over panoramas by method and role, in the order of first appearance."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for entry in entries:
        groups.setdefault((entry["method"], entry["role"]), []).append(entry)
    return [
        {
            "method": method,
            "role": role,
            "panoramas": len(some),
            **{
                name: float(np.mean([entry[name] for entry in some]))
                for name in (*OFFICIAL, *SEAM_AWARE)
            },
        }
        for (method, role), some in groups.items()
    ]
