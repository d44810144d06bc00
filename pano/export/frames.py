"""What all exports are made of: frames (a picture with its label map) of panoramas or of their scan views.

A panorama's JPEG is passed on byte for byte; scan views are sampled and encoded. Ids of a view are those of its panorama,
which is what makes the views of one scan a video.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from pano.masks import encode_rles
from pano.sample import InstanceMeta, encode_product
from pano.scan import ScanSpec, scan_views
from pano.shards.read import Dataset, Sample
from pano.views import sample_view, wrap_panorama

Entry = dict[str, Any]  # one JSON object
Counts = dict[str, int]


@dataclass(frozen=True)
class ExportOptions:
    """`perspective`: scan views instead of panoramas (videos are always scans; None is SAP's there). Instances of fewer than
    `min_pixels` pixels in a frame are left out of it. `jpeg_quality` is that of views."""

    perspective: ScanSpec | None = None
    min_pixels: int = 1
    jpeg_quality: int = 95


@dataclass(frozen=True)
class Category:
    """A category's number, from 1 in the order of names, and whether it is a thing or stuff (structure)."""

    id: int
    name: str
    thing: bool


@dataclass(frozen=True)
class Frame:
    """One picture. `image` is encoded (`suffix` jpg or png), `labels` uint16 H×W with ids of the panorama."""

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
    """One instance in one frame: COCO RLE (counts as text), area in pixels, flat box (x, y, width, height)."""

    instance: InstanceMeta
    rle: dict[str, object]
    area: int
    box: tuple[float, float, float, float]


def category_ids(dataset: Dataset) -> dict[str, Category]:
    """All categories of the dataset by name; one is stuff if most of its instances are structure."""
    table = dataset.instances()
    flags = table["flags"].combine_chunks()
    structure = np.zeros(table.num_rows, bool)
    hits = pc.equal(pc.list_flatten(flags), "structure").to_numpy(zero_copy_only=False)
    structure[pc.list_parent_indices(flags).to_numpy()[hits]] = True
    encoded = table["category"].combine_chunks().dictionary_encode()
    codes, names = encoded.indices.to_numpy(), encoded.dictionary.to_pylist()
    stuff = np.bincount(codes, structure, minlength=len(names)) * 2 > np.bincount(codes, minlength=len(names))
    of_name = dict(zip(names, stuff, strict=True))
    return {name: Category(number, name, not of_name[name]) for number, name in enumerate(sorted(names), start=1)}


@dataclass(frozen=True)
class Job:
    """One export: what every writer takes."""

    dataset: Dataset
    out: Path
    options: ExportOptions
    categories: dict[str, Category]
    on_sample: Callable[[str], None]

    def frames(self) -> Iterator[tuple[str, list[Frame]]]:
        """Per sample its key and its pictures: the panorama, or the views of its scan if `perspective` asks for them."""
        for sample in self._samples():
            yield sample.key, scan_frames(sample, self.options) if self.options.perspective else [panorama_frame(sample)]

    def clips(self) -> Iterator[tuple[str, list[Frame]]]:
        """Per sample its key and the frames of its scan, in scan order."""
        for sample in self._samples():
            yield sample.key, scan_frames(sample, self.options)

    def _samples(self) -> Iterator[Sample]:
        return (self.dataset[index] for index in range(len(self.dataset)))


def panorama_frame(sample: Sample) -> Frame:
    """The panorama as it is."""
    suffix = sample.suffix("rgb")
    return Frame(sample.key, sample.members[suffix], suffix.rsplit(".", 1)[1], sample.read("instance"), _by_id(sample))


def scan_frames(sample: Sample, options: ExportOptions) -> list[Frame]:
    """The views of one scan, named <key>-fNN."""
    rgb, labels = wrap_panorama(sample.read("rgb")), wrap_panorama(sample.read("instance"))
    instances = _by_id(sample)
    return [
        Frame(f"{sample.key}-f{number:02d}", encode_product("rgb.jpg", sample_view(rgb, view), jpeg_quality=options.jpeg_quality),
              "jpg", sample_view(labels, view, labels=True), instances)
        for number, view in enumerate(scan_views(options.perspective or ScanSpec()))
    ]


def _by_id(sample: Sample) -> dict[int, InstanceMeta]:
    return {row.id: row for row in sample.meta.instances}


def masks_of(frame: Frame, min_pixels: int = 1) -> list[Mask]:
    """The instances of a frame, ascending ids. A box is that of the flat picture: from the first to the last column, also
    where the instance goes on across the seam."""
    found = []
    for id_, rle in encode_rles(frame.labels).items():
        binary = {"size": rle["size"], "counts": str(rle["counts"]).encode("ascii")}
        area = int(coco_mask.area(binary))
        if area >= min_pixels:
            x, y, width, height = coco_mask.toBbox(binary).tolist()
            found.append(Mask(frame.instances[id_], rle, area, (x, y, width, height)))
    return sorted(found, key=lambda mask: mask.instance.id)
