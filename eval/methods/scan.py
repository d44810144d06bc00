"""`scan`: SAP. A virtual camera scans the panorama column by column, every click is projected into every view that sees it,
and masks propagate along the scan like along a video (`pano.scan` has the trajectory)."""

from eval.config import EvalConfig
from eval.frames import PerspectiveFrame
from eval.methods import Method, Plan
from pano.scan import ScanSpec, scan_views


def plan_scan(width: int, height: int, config: EvalConfig) -> Plan:
    spec = ScanSpec(config.scan.fov_deg, config.scan.overlap, config.view_size_px)
    return Plan(tuple(PerspectiveFrame(view) for view in scan_views(spec, config.scan.yaw0_deg)), video=True)


METHODS = (Method("scan", "SAP: perspective scan, clicks in every view, masks propagated and merged", plan_scan),)
