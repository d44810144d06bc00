"""Views that several objects share: one encoding for all of them, each seen smaller.

BFoV search encodes a view for each object, and on a CPU that is most of its time. Objects that lie
close together fit into one view. `times` says how many times as wide as its own an object's view
may become; 1 gives each its own. What looks everywhere (None) is one picture for all.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from panoforge.core.geometry.bfov import Bfov, fit_directions
from panoforge.core.types import Floats

_EDGE = np.linspace(-1, 1, 9)
# Places (x, y) along the four sides of a view.
_SIDES = np.concatenate(
    [
        np.stack(pair, axis=-1)
        for s in (-1.0, 1.0)
        for pair in ((_EDGE, _EDGE * 0 + s), (_EDGE * 0 + s, _EDGE))
    ]
)


def share_views(
    regions: Mapping[int, Bfov | None], times: float, max_fov_deg: float
) -> dict[int, Bfov | None]:
    """The view of each object: equal objects are one view.

    Widest first, each joins the view that grows least by it, if that stays within bounds.

    Args:
        regions: each object's own; None looks everywhere.
        times: a view's half widths and heights, as tangents, are at most so many times a member's.
        max_fov_deg: the widest view.
    """
    own = {k: region for k, region in regions.items() if region is not None}
    order = sorted(own, key=lambda k: (-own[k].tan_x * own[k].tan_y, k))
    groups: list[tuple[list[int], Bfov]] = []
    for k in order:
        fitting = [
            (view.tan_x * view.tan_y, place, view)
            for place, (members, _) in enumerate(groups)
            if (view := around_all([own[m] for m in (*members, k)])) is not None
            and max(view.fov_deg) <= max_fov_deg
            and all(_wider(view, own[m]) <= times for m in (*members, k))
        ]
        if fitting:
            _, place, view = min(fitting, key=lambda one: one[:2])
            groups[place] = ([*groups[place][0], k], view)
        else:
            groups.append(([k], own[k]))
    views: dict[int, Bfov | None] = dict.fromkeys(regions)
    for members, view in groups:
        views |= dict.fromkeys(members, view)
    return views


def around_all(regions: Sequence[Bfov]) -> Bfov | None:
    """An upright view that holds all of them; None where none does."""
    rays: Floats = np.concatenate([one.directions(_SIDES[:, 0], _SIDES[:, 1]) for one in regions])
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    return fit_directions(rays, np.ones(len(rays)), half_pixel=0.0, trim=0.0)


def _wider(view: Bfov, own: Bfov) -> float:
    return max(view.tan_x / own.tan_x, view.tan_y / own.tan_y)
