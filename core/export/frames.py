"""What all exports are made of: frames of panoramas or of their scan views.

A frame is a picture with its label map.

A panorama's JPEG is passed on byte for byte; scan views are sampled and encoded. Ids of a view are
those of its panorama, which is what makes the views of one scan a video.

A format is two functions. `each(job, unit, frames)` gives the files that belong to one unit, and
 what joins it to the others, as a `Part`. It runs in any process, in any order, and depends on
nothing but the sample and its place in the dataset. `join(job, parts)` gets the parts in the order
of the dataset and writes what is about all of them. So the bytes are the same for any number of
workers.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow.compute as pc
from pycocotools import mask as coco_mask

from panoforge.core.cards.facts import CardOptions
from panoforge.core.errors import UsageError
from panoforge.core.export.jsonlists import JsonLists
from panoforge.core.export.units import Unit
from panoforge.core.geometry.scan import ScanSpec, scan_views
from panoforge.core.geometry.views import sample_view, wrap_panorama
from panoforge.core.sample.label_maps import encode_rles
from panoforge.core.sample.metadata import InstanceMeta
from panoforge.core.sample.products import encode_product
from panoforge.core.shards.read import Dataset, Sample
from panoforge.core.storage.store import Store
from panoforge.core.types import Labels

Entry = dict[str, Any]  # one JSON object
Counts = dict[str, int]
ExportFacts = dict[str, Any]  # what a format says of a whole export: counts, and what it cost


@dataclass(frozen=True)
class ExportOptions:
    """How an export is written.

    Args:
        perspective: scan views instead of panoramas. In formats of videos a panorama is always its
            scan, the format's own (`Format.scan`) where this is None; frames of a video are whole.
        min_pixels: instances of fewer pixels in a frame are left out of it.
        jpeg_quality: that of views; a panorama's JPEG is passed on.
        card: what a dataset card must be told, for formats that write one (hf).
        min_iou: instances whose mask a format with loss (yolo-seg) gives back with a lower IoU are
            left out.
    """

    perspective: ScanSpec | None = None
    min_pixels: int = 1
    jpeg_quality: int = 95
    min_iou: float = 0.0
    card: CardOptions | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.min_iou <= 1:
            raise UsageError(f"min_iou is an IoU, from 0 to 1, got {self.min_iou}")


@dataclass(frozen=True)
class ExportCategory:
    """A category's number, and whether it is a thing or stuff (structure).

    Numbers go from 1 in the order of names.
    """

    id: int
    name: str
    thing: bool


@dataclass(frozen=True)
class Frame:
    """One picture.

    `image` is encoded (`suffix` jpg or png). Label maps are decoded when they are asked for: those
    of a long video do not fit into memory.
    """

    name: str
    image: bytes = field(repr=False)
    suffix: str
    width: int
    height: int
    decode: Callable[[], Labels] = field(repr=False)
    instances: dict[int, InstanceMeta] = field(repr=False)

    @property
    def labels(self) -> Labels:
        """uint16 H×W with ids of the panorama."""
        return self.decode()


@dataclass(frozen=True)
class FrameMask:
    """One instance in one frame.

    COCO RLE (counts as text), area in pixels, flat box (x, y, width, height).
    """

    instance: InstanceMeta
    rle: dict[str, object]
    area: int
    box: tuple[float, float, float, float]


def category_ids(dataset: Dataset) -> dict[str, ExportCategory]:
    """All categories of the dataset by name.

    One is stuff if most of its instances are structure.
    """
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
        name: ExportCategory(number, name, not of_name[name])
        for number, name in enumerate(sorted(names), start=1)
    }


@dataclass(frozen=True)
class ExportJob:
    """One export: what every writer takes. `out` is a folder on a disk or in a bucket."""

    dataset: Dataset
    out: Store
    options: ExportOptions
    categories: dict[str, ExportCategory]


@dataclass(frozen=True)
class Part:
    """What one sample adds to an export.

    `files` by name are written before parts are joined. In `lists`, images and videos are numbered
    from 1 within the sample. `extra` is what else its format joins.
    """

    key: str
    files: dict[str, bytes] = field(default_factory=dict, repr=False)
    lists: dict[str, list[Entry]] = field(default_factory=dict)
    counts: Counts = field(default_factory=dict)
    extra: Any = None


@dataclass(frozen=True)
class Format:
    """How a format is written.

    `scan`: it holds videos, and of a panorama that is none this scan, unless another is asked for.
    `panoramic`: it holds the dataset's own videos alone. `loss`: it cannot hold every
    mask, and counts what that costs. `whole`: it takes samples, not frames, and reads them itself.
    """

    each: Callable[[ExportJob, Unit, list[Frame]], Part]
    join: Callable[[ExportJob, Iterator[Part]], ExportFacts]
    scan: ScanSpec | None = None
    panoramic: bool = False
    loss: bool = False
    whole: bool = False

    def part(self, job: ExportJob, unit: Unit) -> Part:
        """Write the files of a unit; the rest of its part, without them.

        Of samples no more than their pictures and labels is read.
        """
        part = self.each(job, unit, [] if self.whole else _frames(job, unit))
        job.out.put_all(part.files)
        return replace(part, files={})


def _frames(job: ExportJob, unit: Unit) -> list[Frame]:
    """The frames of a unit that an export is about."""
    samples = (
        job.dataset.read(index, ("rgb", "instance"))
        for index in range(unit.first, unit.first + unit.samples)
    )
    spec = job.options.perspective
    if spec and unit.fps is None:
        return [
            frame
            for sample in samples
            for frame in scan_frames(sample, spec, job.options.jpeg_quality)
        ]
    return [panorama_frame(sample) for sample in samples]


def join_counts(job: ExportJob, parts: Iterator[Part]) -> ExportFacts:
    """The sums of the parts' counts."""
    total: Counts = {}
    for part in parts:
        for name, count in part.counts.items():
            total[name] = total.get(name, 0) + count
    return total


def split_names(splits: Iterable[str]) -> dict[str, str]:
    """The names of splits that a reader asks for, and which split stands under each.

    Readers demand a train and a val. One that the dataset lacks is a split that it has, and
    export.json says so.
    """
    own = list(splits)
    first = own[0] if own else "train"
    return {"train": first, "val": "test" if "test" in own else first} | {
        name: name for name in own
    }


def join_lists(lists: JsonLists, parts: Iterator[Part], links: dict[str, str]) -> None:
    """Append the parts' entries, numbered from 1 over the whole export.

    `links` names the keys of entries that hold such a number, and of which list.
    """
    for part in parts:
        before = dict(lists.counts)
        for name, entries in part.lists.items():
            for entry in entries:
                moved = {key: entry[key] + before[of] for key, of in links.items() if key in entry}
                own = {"id": lists.counts[name] + 1} if "id" in entry else {}
                lists.add(name, {**entry, **moved, **own})


def image_entry(number: int, frame: Frame) -> Entry:
    """The entry of a picture in a list of images."""
    return {
        "id": number,
        "width": frame.width,
        "height": frame.height,
        "file_name": f"{frame.name}.{frame.suffix}",
    }


def image_files(frames: list[Frame]) -> dict[str, bytes]:
    """The pictures as `image_entry` names them: images/<name>.<suffix>."""
    return {f"images/{frame.name}.{frame.suffix}": frame.image for frame in frames}


def panorama_frame(sample: Sample) -> Frame:
    """The panorama as it is."""
    suffix = sample.suffix("rgb")
    return Frame(
        sample.key,
        bytes(sample.members[suffix]),
        suffix.rsplit(".", 1)[1],
        sample.meta.width,
        sample.meta.height,
        partial(sample.read, "instance"),
        _by_id(sample),
    )


def scan_frames(sample: Sample, spec: ScanSpec, jpeg_quality: int = 95) -> list[Frame]:
    """The views of one scan, named <key>-fNN."""
    rgb, labels = wrap_panorama(sample.read("rgb")), wrap_panorama(sample.read("instance"))
    instances = _by_id(sample)

    def kept(ids: Labels) -> Callable[[], Labels]:
        return lambda: ids

    return [
        Frame(
            f"{sample.key}-f{number:02d}",
            encode_product("rgb.jpg", sample_view(rgb, view), jpeg_quality=jpeg_quality),
            "jpg",
            view.size_px,
            view.size_px,
            kept(sample_view(labels, view, labels=True)),
            instances,
        )
        for number, view in enumerate(scan_views(spec))
    ]


def _by_id(sample: Sample) -> dict[int, InstanceMeta]:
    return {row.id: row for row in sample.meta.instances}


def masks_of(frame: Frame, min_pixels: int = 1) -> list[FrameMask]:
    """The instances of a frame, ascending ids.

    A box is that of the flat picture: from the first to the last column, also where the instance
    goes on across the seam.
    """
    found = []
    for id_, rle in encode_rles(frame.labels).items():
        binary = {"size": rle["size"], "counts": str(rle["counts"]).encode("ascii")}
        area = int(coco_mask.area(binary))
        if area >= min_pixels:
            x, y, width, height = coco_mask.toBbox(binary).tolist()
            found.append(FrameMask(frame.instances[id_], rle, area, (x, y, width, height)))
    return sorted(found, key=lambda mask: mask.instance.id)
