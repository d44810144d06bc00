"""`pano export`: a dataset in the formats that other tools read.

    export(dataset, "coco", "out")                              panoramas
    export(dataset, "coco", "s3://bucket/out", ExportOptions(perspective=ScanSpec()), workers=8)   scan views instead
    export(dataset, "sav", "out")                               each panorama as the video of its scan

| format | what is written | read by |
|---|---|---|
| coco | images/, annotations/instances.json, masks as RLE | pycocotools |
| yolo-seg | images/, labels/ with one polygon per instance, data.yaml | Ultralytics |
| sa1b | sa_N.jpg beside sa_N.json | SAM2's `SA1BRawDataset` |
| mask2former-panoptic | images/, panoptic/ with ids as colours, panoptic.json | COCO panoptic readers |
| sav | JPEGImages_24fps/, annotations/ (train), Annotations_6fps/ (val) | SAM2's `JSONRawDataset`, SA-V's evaluator |
| davis | JPEGImages/, Annotations/ with a palette, ImageSets/train.txt | SAM2's `PNGRawDataset`, DAVIS tools |
| ytvis | JPEGImages/, instances.json | YouTube-VIS readers |

What a format cannot hold is said in its module: boxes of these formats do not cross the seam,
polygons have no holes, a palette has 255 colours. Samples stream through, `workers` at a time, and
the bytes are the same for any number of them. `out` is a folder on a disk or in a bucket and must
be new or empty; `export.json`, written last, says what was written from what, so a folder without
it is not finished.
"""

import json
from collections.abc import Callable, Iterator
from functools import partial

from panoforge.core import __version__
from panoforge.core.errors import UsageError, nearest
from panoforge.core.export import images, videos
from panoforge.core.export.frames import (
    ExportJob,
    ExportOptions,
    Format,
    Part,
    category_ids,
    join_counts,
)
from panoforge.core.parallel import ordered_map
from panoforge.core.shards.read import Dataset
from panoforge.core.storage.store import Store, StoreLike

FORMATS: dict[str, Format] = {
    "coco": Format(images.coco_part, images.coco_join),
    "yolo-seg": Format(images.yolo_part, images.yolo_join),
    "sa1b": Format(images.sa1b_part, join_counts),
    "mask2former-panoptic": Format(images.panoptic_part, images.panoptic_join),
    "sav": Format(videos.sav_part, videos.sav_join, video=True),
    "davis": Format(videos.davis_part, videos.davis_join, video=True),
    "ytvis": Format(videos.ytvis_part, videos.ytvis_join, video=True),
}

__all__ = ["FORMATS", "ExportOptions", "export"]


def export(
    dataset: Dataset,
    to: str,
    out: StoreLike,
    options: ExportOptions | None = None,
    *,
    workers: int = 1,
    on_sample: Callable[[str], None] = lambda key: None,
) -> dict[str, object]:
    """Write `dataset` to the folder `out`, a path or an fsspec URL, in the format `to`, and give
    what export.json says. `workers` processes share the samples. UsageError for an unknown format
    or a folder that holds something already; StorageError when it cannot be written.
    """
    if to not in FORMATS:
        raise UsageError(
            f"no export format {to!r}.{nearest(to, FORMATS)} There are: {', '.join(FORMATS)}"
        )
    store = Store.at(out)
    if store.names(""):
        raise UsageError(
            f"{out} is not empty: an export is written to a new folder, so that it never mixes with"
            " another"
        )
    options = options or ExportOptions()
    job = ExportJob(dataset, store, options, category_ids(dataset))

    def told() -> Iterator[Part]:
        for part in ordered_map(
            range(len(dataset)), partial(FORMATS[to].part, job), workers=workers
        ):
            on_sample(part.key)
            yield part

    counts = FORMATS[to].join(job, told())
    facts: dict[str, object] = {
        "format": to,
        "samples": len(dataset),
        **counts,
        "panoforge": __version__,
        "sample_index_sha256": dataset.manifest.sample_index.sha256,
        "min_pixels": options.min_pixels,
        "scan": vars(options.perspective) if options.perspective else None,
    }
    store.put("export.json", json.dumps(facts, indent=1).encode() + b"\n")
    return facts
