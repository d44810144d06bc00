"""Pieces of the panorama that are not a scan.

`erp_patches` are square windows slid over the equirectangular picture itself: its distortion stays,
its seam does not. `cubemap` is the six faces of a cube, each a picture of its own.
"""

from panoforge.core.geometry.patches import patch_windows
from panoforge.core.geometry.sphere import View
from panoforge.eval.config import EvalConfig
from panoforge.eval.views.frames import ErpFrame, PerspectiveFrame
from panoforge.eval.views.methods.base import Method, Plan


def plan_erp_patches(width: int, height: int, config: EvalConfig) -> Plan:
    """Windows of half the panorama's height, half overlapping, in the scan's order."""
    frames = tuple(
        ErpFrame(window.left, window.top, window.side, window.side, width, height)
        for window in patch_windows(width, height)
    )
    return Plan(frames, video=True, cycles=config.scan.cycles)


def plan_cubemap(width: int, height: int, config: EvalConfig) -> Plan:
    """The six faces, each a picture of its own."""
    return Plan(tuple(map(PerspectiveFrame, cube_faces(config))), video=False)


def cube_faces(config: EvalConfig) -> tuple[View, ...]:
    """Four faces around, one up, one down, each with exactly 90°: no two overlap.

    In the order of a walk: each face has an edge in common with the next, the last one with the
    first.
    """
    walk = ((0.0, 0.0), (0.0, 90.0), (90.0, 0.0), (180.0, 0.0), (180.0, -90.0), (-90.0, 0.0))
    return tuple(
        View(config.scan.yaw0_deg + yaw, pitch, 90.0, config.view_size_px) for yaw, pitch in walk
    )


METHODS = (
    Method(
        "erp_patches",
        "square windows slid over the panorama, masks propagated and merged",
        plan_erp_patches,
    ),
    Method(
        "cubemap",
        "six cube faces, each on its own; an object lives on the faces that see its click",
        plan_cubemap,
    ),
)
