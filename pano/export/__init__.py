"""`pano export`: a dataset in the formats that other tools read.

    export(dataset, "coco", Path("out"))                              panoramas
    export(dataset, "coco", Path("out"), ExportOptions(perspective=ScanSpec()))   scan views instead
    export(dataset, "sav", Path("out"))                               each panorama as the video of its scan

| format | what is written | read by |
|---|---|---|
| coco | images/, annotations/instances.json, masks as RLE | pycocotools |
| yolo-seg | images/, labels/ with one polygon per instance, data.yaml | Ultralytics |
| sa1b | sa_N.jpg beside sa_N.json | SAM2's `SA1BRawDataset` |
| mask2former-panoptic | images/, panoptic/ with ids as colours, panoptic.json | COCO panoptic readers |
| sav | JPEGImages_24fps/, annotations/ (train), Annotations_6fps/ (val) | SAM2's `JSONRawDataset`, SA-V's evaluator |
| davis | JPEGImages/, Annotations/ with a palette, ImageSets/train.txt | SAM2's `PNGRawDataset`, DAVIS tools |
| ytvis | JPEGImages/, instances.json | YouTube-VIS readers |

What a format cannot hold is said in its module: boxes of these formats do not cross the seam, polygons have no holes, a
palette has 255 colours. Samples stream through one at a time. `out` must be new or empty; `export.json`, written last, says
what was written from what, so a folder without it is not finished.
"""

import json
from collections.abc import Callable
from pathlib import Path

from pano import __version__
from pano.errors import UsageError, nearest
from pano.export.frames import Counts, ExportOptions, Job, category_ids
from pano.export.images import write_coco, write_panoptic, write_sa1b, write_yolo
from pano.export.videos import write_davis, write_sav, write_ytvis
from pano.shards.read import Dataset
from pano.storage import storage_errors, write_bytes_atomic

FORMATS: dict[str, Callable[[Job], Counts]] = {
    "coco": write_coco, "yolo-seg": write_yolo, "sa1b": write_sa1b, "mask2former-panoptic": write_panoptic,
    "sav": write_sav, "davis": write_davis, "ytvis": write_ytvis,
}

__all__ = ["FORMATS", "ExportOptions", "export"]


def export(dataset: Dataset, to: str, out: Path, options: ExportOptions | None = None, *,
           on_sample: Callable[[str], None] = lambda key: None) -> dict[str, object]:
    """Write `dataset` to the folder `out` in the format `to`, and give what export.json says. UsageError for an unknown
    format or a folder that holds something already; StorageError when it cannot be written."""
    if to not in FORMATS:
        raise UsageError(f"no export format {to!r}.{nearest(to, FORMATS)} There are: {', '.join(FORMATS)}")
    with storage_errors(out):
        if out.exists() and any(out.iterdir()):
            raise UsageError(f"{out} is not empty: an export is written to a new folder, so that it never mixes with another")
        out.mkdir(parents=True, exist_ok=True)
    options = options or ExportOptions()
    counts = FORMATS[to](Job(dataset, out, options, category_ids(dataset), on_sample))
    facts: dict[str, object] = {
        "format": to, "samples": len(dataset), **counts, "panoforge": __version__,
        "sample_index_sha256": dataset.manifest.sample_index.sha256, "min_pixels": options.min_pixels,
        "scan": vars(options.perspective) if options.perspective else None,
    }
    write_bytes_atomic(out / "export.json", json.dumps(facts, indent=1).encode() + b"\n")
    return facts
