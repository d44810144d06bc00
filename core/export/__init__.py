"""`pano export`: a dataset in the formats that other tools read.

    export(dataset, "coco", "out")                              panoramas
    export(dataset, "coco", "s3://bucket/out", ExportOptions(perspective=ScanSpec()), workers=8)
                                                                scan views instead
    export(dataset, "sav", "out")            videos; panoramas that are none as those of their scans

| format | what is written | opened by |
|---|---|---|
| coco | images/, annotations/instances.json, masks as RLE | pycocotools |
| yolo-seg | images/, labels/ with one polygon per instance, data.yaml | Ultralytics |
| sa1b | sa_N.jpg beside sa_N.json | SAM2's `SA1BRawDataset` |
| mask2former-panoptic | images/, panoptic/ with ids as colours, panoptic.json | panopticapi |
| labelme | a JSON beside each picture, with masks | LabelMe |
| sav | JPEGImages_24fps/, annotations/, Annotations_6fps/ | SAM2, SA-V's evaluator |
| davis | JPEGImages/480p/, Annotations/480p/, ImageSets/2017/ | davis2017-evaluation, SAM2 |
| ytvis | JPEGImages/, instances.json | YouTube-VIS' cocoapi |
| panovos | JPEGImages/, Annotations/ and a meta.json a split | readers of PanoVOS, YouTube-VOS |
| 360vos | image/ and mask/ a video | readers of 360VOTS' segmentation half |
| 360vot | image/ and label.json a thing | 360VOT's toolkit |
| mp4 | a file a video, with 360° metadata | browsers, players |
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
from panoforge.core.export import davis, huggingface, images, labelme, mp4, tracks, videos, yolo
from panoforge.core.export.frames import (
    ExportJob,
    ExportOptions,
    Format,
    Part,
    category_ids,
    join_counts,
)
from panoforge.core.export.units import Unit, units_of
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
    "labelme": Format(labelme.labelme_part, join_counts),
    "sav": Format(videos.sav_part, videos.sav_join, scan=ScanSpec()),
    "davis": Format(davis.davis_part, davis.davis_join, scan=davis.DAVIS_SCAN),
    "ytvis": Format(videos.ytvis_part, videos.ytvis_join, scan=ScanSpec()),
    "panovos": Format(tracks.panovos_part, tracks.panovos_join, panoramic=True),
    "360vos": Format(tracks.vos360_part, join_counts, panoramic=True),
    "360vot": Format(tracks.vot360_part, join_counts, panoramic=True),
    "mp4": Format(mp4.mp4_part, join_counts, panoramic=True),
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
        on_sample: called for each sample that is written, with its key or its video's.

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
        units = _units(dataset, to)

        def told() -> Iterator[Part]:
            part_of = partial(layout.part, job)
            for unit, part in zip(units, ordered_map(units, part_of, workers=workers), strict=True):
                for _ in range(unit.samples):
                    on_sample(part.key)
                yield part

        facts: dict[str, object] = {
            "format": to,
            "samples": sum(unit.samples for unit in units),
            "left_out": len(dataset) - sum(unit.samples for unit in units),
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
    if layout.panoramic and options.perspective:
        raise UsageError(f"{to} holds videos of whole panoramas: leave perspective out")
    if layout.whole and options.card is None:
        raise UsageError(f"{to} writes a dataset card: give --name and --license (and --repo)")
    _require_empty(Store.at(out))


def _units(dataset: Dataset, to: str) -> list[Unit]:
    """What the format is written of; UsageError where the dataset has nothing for it."""
    layout = FORMATS[to]
    units = units_of(dataset, videos=layout.panoramic or layout.scan is not None)
    if layout.panoramic:
        units = [unit for unit in units if unit.fps is not None]
        if not units:
            raise UsageError(
                f"{dataset.folder} holds no videos, and {to} is a format of panoramic videos:"
                " render with video: in the config, or export to coco, sav, …"
            )
    return units


def _require_empty(store: Store) -> None:
    """UsageError where something other than a lease is in the store."""
    if set(store.names("")) - {LEASE_FOLDER}:
        raise UsageError(
            f"{store} is not empty: an export is written to a new folder, so that it never mixes"
            " with another"
        )
