"""panoforge: synthetic data for 360° vision.

Pictures
    load_panorama       a picture file → a whole panorama, upright and on the sphere
    scan_views          the views of a scan over the sphere, in order
    sample_view         one perspective view of a panorama or label map
    View                a square perspective view: yaw, pitch, field of view, size

Datasets
    open_dataset        a folder or s3:// URL → a Dataset
    Dataset             samples by position or key, instances as a table
    Sample              one panorama: colours, ids, depth, normals, metadata; checked bytes

Segmentation
    Segmenter           a picture, a SAM2 model or checkpoint, clicks → masks

Dense tasks
    predict             a picture, a checkpoint → classes, depth and normals of every pixel

Runs
    render              a config → a run of staged panoramas
    evaluate            a config → scores, and a report
    compare             evaluations side by side, with intervals and paired tests

Scores
    metric              a metric by its name
    METRICS             the names

Everything is loaded when it is first used: `import panoforge` costs nothing. Angles are degrees;
longitude 0 is the middle of the picture and grows to the right, latitude grows upwards. Mistakes
raise `panoforge.core.errors.UserError`. The `pano` command does the same and more: `pano --help`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from panoforge.core import __version__

if TYPE_CHECKING:
    from panoforge.api.datasets import open_dataset
    from panoforge.api.dense import predict
    from panoforge.api.metrics import METRICS, metric
    from panoforge.api.pictures import load_panorama, sample_view, scan_views
    from panoforge.api.runs import compare, evaluate, render
    from panoforge.api.segmenter import Segmenter
    from panoforge.core.geometry.sphere import View
    from panoforge.core.shards.read import Dataset, Sample

__all__ = [
    "METRICS",
    "Dataset",
    "Sample",
    "Segmenter",
    "View",
    "__version__",
    "compare",
    "evaluate",
    "load_panorama",
    "metric",
    "open_dataset",
    "predict",
    "render",
    "sample_view",
    "scan_views",
]

_HOMES = {
    "METRICS": "panoforge.api.metrics",
    "Dataset": "panoforge.core.shards.read",
    "Sample": "panoforge.core.shards.read",
    "Segmenter": "panoforge.api.segmenter",
    "View": "panoforge.core.geometry.sphere",
    "compare": "panoforge.api.runs",
    "evaluate": "panoforge.api.runs",
    "load_panorama": "panoforge.api.pictures",
    "metric": "panoforge.api.metrics",
    "open_dataset": "panoforge.api.datasets",
    "predict": "panoforge.api.dense",
    "render": "panoforge.api.runs",
    "sample_view": "panoforge.api.pictures",
    "scan_views": "panoforge.api.pictures",
}


def __getattr__(name: str) -> Any:
    """Load what is asked for by its name."""
    if name not in _HOMES:
        raise AttributeError(f"module 'panoforge' has no attribute {name!r}")
    found = getattr(import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """What `help`, editors and notebooks list."""
    return sorted({*globals(), *__all__})
