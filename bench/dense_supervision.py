"""What perspective teachers would say of a panorama's depth, for bench.learns_dense's question.

The 24 views of our scan (90°, 50 % overlap) look all around. Of the true depth d along a ray, view
i says s_i·d + t_i with

    s_i = e^(noise · u)      t_i = 0.1 m · noise · v      u, v uniform in [−1, 1]

at noise 0.25, 0.5 and 1. `merged_N` is the mean of the views that see a pixel; how MTPano merges is
not known. `solved_N` is what panoforge.label makes of the views after it has found each one's scale
and shift from their overlaps. The scale of the whole stays what the views' mean was.
"""

from collections.abc import Callable

import numpy as np

from bench.solids import Floats
from panoforge.core.geometry.scan import ScanSpec, scan_views
from panoforge.core.geometry.sphere import View, pixel_to_direction
from panoforge.core.geometry.views import wrap_panorama
from panoforge.train.data.panoramas import within_view

VIEW_PX = 64
SHIFT_M = 0.1
LEAST_M = 0.05
LEVELS = (25, 50, 100)
NOISY = tuple(f"{kind}_{level}" for kind in ("merged", "solved") for level in LEVELS)
Change = Callable[[Floats, np.random.Generator], Floats]


def said_of(supervision: str) -> Change | None:
    """What teachers make of metres H×W under a row's name; None for the truth."""
    if supervision == "truth":
        return None
    kind, level = supervision.split("_")
    noise = int(level) / 100
    if kind == "merged":
        return lambda depth_m, rng: merged(depth_m, noise, rng)
    return lambda depth_m, rng: solved(depth_m, noise, rng)


def views(size_px: int = 1) -> tuple[View, ...]:
    """The views."""
    return scan_views(ScanSpec(90.0, 0.5, size_px), 0.0)


def affine(noise: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Each view's scale and shift, (V,)."""
    count = len(views())
    scale = np.exp(noise * rng.uniform(-1, 1, count))
    return scale, SHIFT_M * noise * rng.uniform(-1, 1, count)


def seen_by_view(depth_m: Floats) -> np.ndarray:
    """Which pixels each view sees, bool V×H×W."""
    height, width = depth_m.shape
    index = np.arange(width)
    rays = pixel_to_direction(index[None, :], index[:height, None], width, height)
    return np.stack([within_view(rays, view) for view in views()])


def merged(depth_m: Floats, noise: float, rng: np.random.Generator) -> Floats:
    """The mean of what the views say."""
    scale, shift = affine(noise, rng)
    seen = seen_by_view(depth_m)
    said = scale[:, None, None] * depth_m + shift[:, None, None]
    mean = (said * seen).sum(axis=0) / seen.sum(axis=0)
    return np.maximum(mean, LEAST_M)


def solved(depth_m: Floats, noise: float, rng: np.random.Generator) -> Floats:
    """What panoforge.label makes of views of `VIEW_PX` after solving for scales and shifts."""
    from panoforge.eval.views.frames import PerspectiveFrame
    from panoforge.label.agree.alignment import align
    from panoforge.label.agree.merging import merge_depth
    from panoforge.label.teachers.base import Dense, DepthMap

    scale, shift = affine(noise, rng)
    frames = [PerspectiveFrame(view) for view in views(VIEW_PX)]
    panorama = wrap_panorama(depth_m.astype(np.float32))
    said = [
        DepthMap(np.maximum(s * frame.sample(panorama) + t, LEAST_M), "ray", "relative")
        for frame, s, t in zip(frames, scale.tolist(), shift.tolist(), strict=True)
    ]
    height, width = depth_m.shape
    found = merge_depth(
        frames, [Dense(depth=one) for one in said], align(frames, said), width, height
    )
    return found.distance
