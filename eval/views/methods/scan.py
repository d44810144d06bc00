"""`scan`: SAP.

A virtual camera scans the panorama column by column (`panoforge.core.geometry.scan` has the
trajectories). Every click is projected into every view that sees it, and masks propagate along the
scan like along a video.

- `scan_no_overlap` walks over the six faces of a cube, which overlap nowhere;
- `scan_least_overlap` takes the grid of fewest views that leaves no gap. Flat views that only touch
  at their middles do leave some, so at 90° these are 18 views that overlap by a third across;
- `scan_bidirectional` propagates in both directions and merges both;
- `scan_row_first`, `scan_spiral` and `scan_random` visit the same views in another order;
- `scan_zoom` looks at every instance again afterwards (`panoforge.eval.segmentation.zoom`).
"""

from dataclasses import replace
from functools import partial

from panoforge.core.geometry.scan import ScanSpec, Trajectory, scan_views
from panoforge.eval.config import EvalConfig
from panoforge.eval.views.frames import PerspectiveFrame
from panoforge.eval.views.methods.base import Method, Plan
from panoforge.eval.views.methods.patches import cube_faces


def plan_scan(
    width: int, height: int, config: EvalConfig, *, trajectory: Trajectory | None = None
) -> Plan:
    """The views of a scan, as a video."""
    return _scan(config, config.scan.overlap, trajectory or config.scan.trajectory)


def plan_no_overlap(width: int, height: int, config: EvalConfig) -> Plan:
    """The faces of a cube, as a video."""
    faces = tuple(map(PerspectiveFrame, cube_faces(config)))
    return Plan(faces, True, config.scan.cycles, reach_deg=config.scan.reach_deg)


def plan_least_overlap(width: int, height: int, config: EvalConfig) -> Plan:
    """The scan of fewest views without a gap."""
    return _scan(config, 0.0, config.scan.trajectory)


def plan_bidirectional(width: int, height: int, config: EvalConfig) -> Plan:
    """A scan, there and back."""
    return replace(plan_scan(width, height, config), bidirectional=True)


def plan_zoom(width: int, height: int, config: EvalConfig) -> Plan:
    """A scan, and a second look at every instance."""
    return replace(
        plan_scan(width, height, config), zoom=config.zoom, zoom_size_px=config.view_size_px
    )


def _scan(config: EvalConfig, overlap: float, trajectory: Trajectory) -> Plan:
    spec = ScanSpec(config.scan.fov_deg, overlap, config.view_size_px)
    views = scan_views(spec, config.scan.yaw0_deg, trajectory)
    return Plan(
        tuple(map(PerspectiveFrame, views)),
        video=True,
        cycles=config.scan.cycles,
        reach_deg=config.scan.reach_deg,
    )


METHODS = (
    Method(
        "scan",
        "SAP: perspective scan, clicks in every view, masks propagated and merged",
        plan_scan,
    ),
    Method(
        "scan_no_overlap",
        "the six faces of a cube in one path with memory: no overlap at all",
        plan_no_overlap,
    ),
    Method(
        "scan_least_overlap",
        "the scan's grid of fewest views that leaves no gap",
        plan_least_overlap,
    ),
    Method(
        "scan_bidirectional",
        "the scan propagated forwards and backwards, both merged",
        plan_bidirectional,
    ),
    Method(
        "scan_zoom",
        "the scan, then each instance again in a view fitted to what the scan found",
        plan_zoom,
    ),
    Method(
        "scan_row_first",
        "the scan's views row by row, to and fro",
        partial(plan_scan, trajectory="row_first"),
    ),
    Method(
        "scan_spiral",
        "the scan's views row by row, always to the right",
        partial(plan_scan, trajectory="spiral"),
    ),
    Method(
        "scan_random",
        "the scan's views in a fixed random order",
        partial(plan_scan, trajectory="random"),
    ),
)
