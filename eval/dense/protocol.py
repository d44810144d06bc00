"""What a dense evaluation measures, independent of data and weights: the input of its id."""

from panoforge.core.storage.identity import identity_sha256
from panoforge.eval.dense_config import DenseConfig
from panoforge.eval.scoring.metrics.depth import ALIGNMENTS, MIN_DEPTH_M
from panoforge.eval.scoring.metrics.normals import SHARES_DEG
from panoforge.eval.scoring.metrics.places import DISTANCES_M, LATITUDES_DEG, SEAM_SHARE

DENSE_PROTOCOL_VERSION = 1
DENSE_FORMAT, DENSE_SCHEMA_VERSION = "panoforge-dense-results", 1  # of results.json


def dense_protocol(dense: DenseConfig) -> dict[str, object]:
    """What is measured."""
    return {
        "version": DENSE_PROTOCOL_VERSION,
        "task": "dense",
        "tasks": sorted(dense.tasks),
        "classes": dense.classes if "semantic" in dense.tasks else None,
        "depth_m": [MIN_DEPTH_M, dense.max_depth_m] if "depth" in dense.tasks else None,
        "alignments": list(ALIGNMENTS) if "depth" in dense.tasks else None,
        "shares_deg": list(SHARES_DEG) if "normal" in dense.tasks else None,
        "height_px": dense.height_px,
        "places": {
            "seam_share": SEAM_SHARE,
            "latitudes_deg": list(LATITUDES_DEG),
            "distances_m": list(DISTANCES_M),
        },
        "average": (
            "mIoU of all pixels' one confusion matrix; depth and normals by panorama, then the mean"
            " over panoramas; pooled over pixels beside it"
        ),
    }


def protocol_id(protocol: dict[str, object]) -> str:
    """Its short name: two results may be compared only if theirs are equal."""
    return f"dense-{identity_sha256(protocol)[:10]}"
