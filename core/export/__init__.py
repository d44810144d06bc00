"""`pano export`: a dataset in the formats that other tools read.

    export(dataset, "coco", "out")                              panoramas
    export(dataset, "coco", "s3://bucket/out", ExportOptions(perspective=ScanSpec()), workers=8)
                                                                scan views instead
    export(dataset, "sav", "out")                               panoramas as videos of their scans

| format | what is written | opened by |
|---|---|---|
| coco | images/, annotations/instances.json, masks as RLE | pycocotools |
| yolo-seg | images/, labels/ with one polygon per instance, data.yaml | Ultralytics |
| sa1b | sa_N.jpg beside sa_N.json | SAM2's `SA1BRawDataset` |
| mask2former-panoptic | images/, panoptic/ with ids as colours, panoptic.json | panopticapi |
| sav | JPEGImages_24fps/, annotations/, Annotations_6fps/ | SAM2, SA-V's evaluator |
| davis | JPEGImages/480p/, Annotations/480p/, ImageSets/2017/ | davis2017-evaluation, SAM2 |
| ytvis | JPEGImages/, instances.json | YouTube-VIS' cocoapi |
| hf | data/, instances/ as Parquet with pictures, README.md | `datasets`, the Hub's viewer |

What a format cannot hold is said in its module. Boxes of these formats do not cross the seam, a
YOLO polygon is one ring, a DAVIS sequence has few objects. What a format costs is counted in
export.json. Samples stream through, `workers` at a time, and the bytes are the same for any number
of them. `out` is a folder on a disk or in a bucket and must be new or empty. `export.json`, written
last, says what was written from what: a folder without it is not finished.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from panoforge.core import __version__
from panoforge.core.errors import UsageError, nearest
from panoforge.core.export import davis, huggingface, images, videos, yolo
from panoforge.core.export.frames import (
    ExportJob,
    ExportOptions,
    Format,
    Part,
    category_ids,
    join_counts,
)
from panoforge.core.geometry.scan import ScanSpec
from panoforge.core.parallel import ordered_map
from panoforge.core.shards.read import Dataset
from panoforge.core.storage.lease import FOLDER as LEASE_FOLDER
from panoforge.core.storage.lease import held
from panoforge.core.storage.store import Store, StoreLike

FORMATS: dict[str, Format] = {
    "coco": Format(images.coco_part, images.coco_join),
    "yolo-seg": Format(yolo.yolo_part, yolo.yolo_join, loss=True),
    "sa1b": Format(images.sa1b_part, join_counts),
    "mask2former-panoptic": Format(images.panoptic_part, images.panoptic_join),
    "sav": Format(videos.sav_part, videos.sav_join, scan=ScanSpec()),
    "davis": Format(davis.davis_part, davis.davis_join, scan=davis.DAVIS_SCAN),
    "ytvis": Format(videos.ytvis_part, videos.ytvis_join, scan=ScanSpec()),
    "hf": Format(huggingface.hf_part, huggingface.hf_join, whole=True),
}

__all__ = ["FORMATS", "ExportOptions", "check_export", "export"]


def export(
    dataset: Dataset,
    to: str,
    out: StoreLike,
    options: ExportOptions | None = None,
    *,
    workers: int = 1,
    on_sample: Callable[[str], None] = lambda key: None,
) -> dict[str, object]:
    """Write `dataset` to the folder `out` in the format `to`.

    Args:
        dataset: what is exported; open it with a split to export that alone.
        to: a name of FORMATS.
        out: a new or empty folder: a path, or an fsspec URL.
        options: how the format is written.
        workers: processes that share the samples; the bytes are the same for any number.
        on_sample: called with each sample's key when it is written.

    Returns:
        What export.json says.

    Raises:
        UsageError: an unknown format, an option the format has no use for, or a folder that holds
            something already.
        InUse: another export is writing there.
        StorageError: it cannot be written.
    """
    options = options or ExportOptions()
    check_export(to, out, options)
    layout, store = FORMATS[to], Store.at(out)
    options = replace(options, perspective=options.perspective or layout.scan)
    with held(store, f"pano export --to {to}") as lease:
        _require_empty(store)  # another export may have ended between the look and the lease
        job = ExportJob(dataset, store, options, category_ids(dataset))

        def told() -> Iterator[Part]:
            part_of = partial(layout.part, job)
            for part in ordered_map(range(len(dataset)), part_of, workers=workers):
                on_sample(part.key)
                yield part

        facts: dict[str, object] = {
            "format": to,
            "samples": len(dataset),
            **layout.join(job, told()),
            "panoforge": __version__,
            "sample_index_sha256": dataset.manifest.sample_index.sha256,
            "min_pixels": options.min_pixels,
            "scan": vars(options.perspective) if options.perspective else None,
        }
        lease.check()
        store.put("export.json", json.dumps(facts, indent=1).encode() + b"\n")
    return facts


def check_export(to: str, out: StoreLike, options: ExportOptions) -> None:
    """UsageError for words that `export` refuses. It reads nothing of the dataset."""
    if to not in FORMATS:
        raise UsageError(
            f"no export format {to!r}.{nearest(to, FORMATS)} There are: {', '.join(FORMATS)}"
        )
    layout = FORMATS[to]
    if options.min_iou and not layout.loss:
        raise UsageError(f"{to} holds every mask as it is: min_iou is for formats that lose some")
    if layout.whole and options.perspective:
        raise UsageError(f"{to} holds whole panoramas: leave perspective out")
    if layout.whole and options.card is None:
        raise UsageError(f"{to} writes a dataset card: give --name and --license (and --repo)")
    _require_empty(Store.at(out))


def _require_empty(store: Store) -> None:
    """UsageError where something other than a lease is in the store."""
    if set(store.names("")) - {LEASE_FOLDER}:
        raise UsageError(
            f"{store} is not empty: an export is written to a new folder, so that it never mixes"
            " with another"
        )
