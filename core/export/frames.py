"""What all exports are made of: frames (a picture with its label map) of panoramas or of their scan
views.

A panorama's JPEG is passed on byte for byte; scan views are sampled and encoded. Ids of a view are
those of its panorama, which is what makes the views of one scan a video.

A format is two functions. `each(job, sample, frames)` writes what belongs to one sample and gives a
`Part`; it runs in any process, in any order, and what it writes depends on nothing but the sample
and its place in the dataset. `join(job, parts)` gets the parts in the order of the dataset and
writes what is about all of them. So the bytes are the same for any number of workers.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from panoforge.core.export.jsonlists import JsonLists
from panoforge.core.geometry.scan import ScanSpec, scan_views
from panoforge.core.geometry.views import sample_view, wrap_panorama
from panoforge.core.sample.label_maps import encode_rles
from panoforge.core.sample.metadata import InstanceMeta
from panoforge.core.sample.products import encode_product
from panoforge.core.shards.read import Dataset, Sample
from panoforge.core.storage.store import Store

Entry = dict[str, Any]  # one JSON object
Counts = dict[str, int]


@dataclass(frozen=True)
class ExportOptions:
    """`perspective`: scan views instead of panoramas (videos are always scans; None is SAP's
    there). Instances of fewer than `min_pixels` pixels in a frame are left out of it.
    `jpeg_quality` is that of views.
    """

    perspective: ScanSpec | None = None
    min_pixels: int = 1
    jpeg_quality: int = 95


@dataclass(frozen=True)
class Category:
    """A category's number, from 1 in the order of names, and whether it is a thing or stuff
    (structure).
    """

    id: int
    name: str
    thing: bool


@dataclass(frozen=True)
class Frame:
    """One picture. `image` is encoded (`suffix` jpg or png), `labels` uint16 H×W with ids of the
    panorama.
    """

    name: str
    image: bytes = field(repr=False)
    suffix: str
    labels: NDArray[np.uint16] = field(repr=False)
    instances: dict[int, InstanceMeta] = field(repr=False)

    @property
    def height(self) -> int:
        return self.labels.shape[0]

    @property
    def width(self) -> int:
        return self.labels.shape[1]


@dataclass(frozen=True)
class Mask:
    """One instance in one frame: COCO RLE (counts as text), area in pixels, flat box (x, y, width,
    height).
    """

    instance: InstanceMeta
    rle: dict[str, object]
    area: int
    box: tuple[float, float, float, float]


def category_ids(dataset: Dataset) -> dict[str, Category]:
    """All categories of the dataset by name; one is stuff if most of its instances are
    structure."""
    table = dataset.instances()
    flags = table["flags"].combine_chunks()
    structure = np.zeros(table.num_rows, bool)
    hits = pc.equal(pc.list_flatten(flags), "structure").to_numpy(zero_copy_only=False)
    structure[pc.list_parent_indices(flags).to_numpy()[hits]] = True
    encoded = table["category"].combine_chunks().dictionary_encode()
    codes, names = encoded.indices.to_numpy(), encoded.dictionary.to_pylist()
    stuff = np.bincount(codes, structure, minlength=len(names)) * 2 > np.bincount(
        codes, minlength=len(names)
    )
    of_name = dict(zip(names, stuff, strict=True))
    return {
        name: Category(number, name, not of_name[name])
        for number, name in enumerate(sorted(names), start=1)
    }


@dataclass(frozen=True)
class ExportJob:
    """One export: what every writer takes. `out` is a folder on a disk or in a bucket."""

    dataset: Dataset
    out: Store
    options: ExportOptions
    categories: dict[str, Category]


@dataclass(frozen=True)
class Part:
    """What one sample adds to an export: entries of its lists, in which images and videos are
    numbered from 1 within the sample; counts; and what else its format joins.
    """

    key: str
    lists: dict[str, list[Entry]] = field(default_factory=dict)
    counts: Counts = field(default_factory=dict)
    extra: Any = None


@dataclass(frozen=True)
class Format:
    """How a format is written. `video`: its frames are always those of the scan."""

    each: Callable[[ExportJob, int, list[Frame]], Part]
    join: Callable[[ExportJob, Iterator[Part]], Counts]
    video: bool = False

    def part(self, job: ExportJob, index: int) -> Part:
        """Write what belongs to sample `index`. Of the sample no more than its picture and labels
        is read.
        """
        sample = job.dataset.read(index, ("rgb", "instance"))
        scan = self.video or job.options.perspective
        return self.each(
            job, index, scan_frames(sample, job.options) if scan else [panorama_frame(sample)]
        )


def join_counts(job: ExportJob, parts: Iterator[Part]) -> Counts:
    """The sums of the parts' counts."""
    total: Counts = {}
    for part in parts:
        for name, count in part.counts.items():
            total[name] = total.get(name, 0) + count
    return total


def join_lists(lists: JsonLists, parts: Iterator[Part], links: dict[str, str]) -> None:
    """Append the parts' entries, numbered from 1 over the whole export. `links` names the keys of
    entries that hold such a number, and of which list.
    """
    for part in parts:
        before = dict(lists.counts)
        for name, entries in part.lists.items():
            for entry in entries:
                moved = {key: entry[key] + before[of] for key, of in links.items() if key in entry}
                own = {"id": lists.counts[name] + 1} if "id" in entry else {}
                lists.add(name, {**entry, **moved, **own})


def panorama_frame(sample: Sample) -> Frame:
    """The panorama as it is."""
    suffix = sample.suffix("rgb")
    return Frame(
        sample.key,
        bytes(sample.members[suffix]),
        suffix.rsplit(".", 1)[1],
        sample.read("instance"),
        _by_id(sample),
    )


def scan_frames(sample: Sample, options: ExportOptions) -> list[Frame]:
    """The views of one scan, named <key>-fNN."""
    rgb, labels = wrap_panorama(sample.read("rgb")), wrap_panorama(sample.read("instance"))
    instances = _by_id(sample)
    return [
        Frame(
            f"{sample.key}-f{number:02d}",
            encode_product("rgb.jpg", sample_view(rgb, view), jpeg_quality=options.jpeg_quality),
            "jpg",
            sample_view(labels, view, labels=True),
            instances,
        )
        for number, view in enumerate(scan_views(options.perspective or ScanSpec()))
    ]


def _by_id(sample: Sample) -> dict[int, InstanceMeta]:
    return {row.id: row for row in sample.meta.instances}


def masks_of(frame: Frame, min_pixels: int = 1) -> list[Mask]:
    """The instances of a frame, ascending ids. A box is that of the flat picture: from the first to
    the last column, also where the instance goes on across the seam.
    """
    found = []
    for id_, rle in encode_rles(frame.labels).items():
        binary = {"size": rle["size"], "counts": str(rle["counts"]).encode("ascii")}
        area = int(coco_mask.area(binary))
        if area >= min_pixels:
            x, y, width, height = coco_mask.toBbox(binary).tolist()
            found.append(Mask(frame.instances[id_], rle, area, (x, y, width, height)))
    return sorted(found, key=lambda mask: mask.instance.id)
