"""`scan`: SAP. A virtual camera scans the panorama column by column
(`panoforge.core.geometry.scan` has the trajectories). Every click is projected into every view that
sees it, and masks propagate along the scan like along a video.

- `scan_no_overlap` takes as few views as cover the sphere;
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


def plan_scan(
    width: int, height: int, config: EvalConfig, *, trajectory: Trajectory | None = None
) -> Plan:
    """The views of a scan, as a video."""
    return _scan(config, config.scan.overlap, trajectory or config.scan.trajectory)


def plan_no_overlap(width: int, height: int, config: EvalConfig) -> Plan:
    """A scan whose views only touch."""
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
    return Plan(tuple(PerspectiveFrame(view) for view in views), video=True)


METHODS = (
    Method(
        "scan",
        "SAP: perspective scan, clicks in every view, masks propagated and merged",
        plan_scan,
    ),
    Method("scan_no_overlap", "the scan with as few views as cover the sphere", plan_no_overlap),
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
