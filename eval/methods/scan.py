"""`scan`: SAP. A virtual camera scans the panorama column by column, every click is projected into every view that sees it,
and masks propagate along the scan like along a video (`pano.scan` has the trajectory). `scan_no_overlap` takes as few
views as cover the sphere; `scan_bidirectional` propagates in both directions and merges both."""

from eval.config import EvalConfig
from eval.frames import PerspectiveFrame
from eval.methods import Method, Plan
from pano.scan import ScanSpec, scan_views


def _scan(config: EvalConfig, overlap: float, *, bidirectional: bool = False) -> Plan:
    spec = ScanSpec(config.scan.fov_deg, overlap, config.view_size_px)
    frames = tuple(PerspectiveFrame(view) for view in scan_views(spec, config.scan.yaw0_deg))
    return Plan(frames, video=True, bidirectional=bidirectional)


def plan_scan(width: int, height: int, config: EvalConfig) -> Plan:
    return _scan(config, config.scan.overlap)


def plan_no_overlap(width: int, height: int, config: EvalConfig) -> Plan:
    return _scan(config, 0.0)


def plan_bidirectional(width: int, height: int, config: EvalConfig) -> Plan:
    return _scan(config, config.scan.overlap, bidirectional=True)


METHODS = (
    Method("scan", "SAP: perspective scan, clicks in every view, masks propagated and merged", plan_scan),
    Method("scan_no_overlap", "the scan with as few views as cover the sphere", plan_no_overlap),
    Method("scan_bidirectional", "the scan propagated forwards and backwards, both merged", plan_bidirectional),
)
