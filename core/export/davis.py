"""Export as videos in the layout of DAVIS 2017: what davis2017-evaluation and SAM2's reader open.

    JPEGImages/480p/<sequence>/00000.jpg …
    Annotations/480p/<sequence>/00000.png …             palette, pixel = object, 0 = background
    Annotations_unsupervised/480p/<sequence>/…          the same, for the evaluator's other task
    ImageSets/2017/train.txt, val.txt, …                one sequence per line
    objects.json                                        what each number of a sequence is

The evaluator takes a sequence's objects from its first frame, and holds objects × frames × pixels
as float64, twice. So a panorama with many instances becomes several sequences of the same scan.
Each begins at a frame that shows all its objects, and has at most MAX_OBJECTS of them. A scan is a
closed loop, so it may begin anywhere. A video in time does not close: its sequences begin where
their objects are seen first, and go on to its end. No instance is lost. 255 would mean "void": it
is never used.

Views are 480 pixels wide unless another size is asked for, as the folder's name says.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet

import numpy as np

from panoforge.core.export.frames import (
    ExportFacts,
    ExportJob,
    Frame,
    Part,
    join_counts,
    split_names,
)
from panoforge.core.export.palette import palette_png
from panoforge.core.export.units import Unit
from panoforge.core.export.videos import frame_files, masklets_of
from panoforge.core.geometry.scan import ScanSpec

DAVIS_SCAN = ScanSpec(size_px=480)
# What the evaluator's unsupervised protocol takes. Its reader then needs 2 GB (24 frames of 480²).
MAX_OBJECTS = 20
IMAGE_FOLDER = "JPEGImages/480p"
MASK_FOLDERS = ("Annotations/480p", "Annotations_unsupervised/480p")
# The subsets that the evaluator knows, by the dataset's splits; another split keeps its name.
SUBSETS = {"test": "test-dev"}


def sequences(
    seen: Sequence[AbstractSet[int]], area: Mapping[int, int]
) -> list[tuple[int, list[int]]]:
    """Share instances out to sequences, each of which begins at a frame that shows all of its own.

    Args:
        seen: per frame, the ids in it.
        area: pixels of each id over all frames; larger instances come first.

    Returns:
        (first frame, ascending ids) of each sequence; every id of `area` is in exactly one.
    """
    found, left = [], set(area)
    while left:
        start = max(range(len(seen)), key=lambda frame: (len(left & seen[frame]), -frame))
        largest = sorted(left & seen[start], key=lambda id_: (-area[id_], id_))[:MAX_OBJECTS]
        found.append((start, sorted(largest)))
        left -= set(largest)
    return found


def sequences_in_time(
    seen: Sequence[AbstractSet[int]], area: Mapping[int, int]
) -> list[tuple[int, list[int]]]:
    """The same for a video that does not close: each instance from the frame that shows it first.

    Args:
        seen: per frame, the ids in it.
        area: pixels of each id over all frames; larger instances come first.
    """
    found, known = [], set[int]()
    for start, ids in enumerate(seen):
        new = sorted((ids & area.keys()) - known, key=lambda id_: (-area[id_], id_))
        known |= set(new)
        found += [
            (start, sorted(new[at : at + MAX_OBJECTS])) for at in range(0, len(new), MAX_OBJECTS)
        ]
    return found


def davis_part(job: ExportJob, unit: Unit, clip: list[Frame]) -> Part:
    """The sequences of one panorama or video, `<key>-s00` and on."""
    key = unit.key
    objects, per_frame = masklets_of(clip, job.options.min_pixels)
    rows = {row.id: row for row in objects}
    area = {id_: sum(masks[id_].area for masks in per_frame if id_ in masks) for id_ in rows}
    seen = [masks.keys() for masks in per_frame]
    known: dict[str, object] = {}
    files: dict[str, bytes] = {}
    closes = unit.fps is None
    shared_out = sequences(seen, area) if closes else sequences_in_time(seen, area)
    for number, (start, ids) in enumerate(shared_out):
        name = f"{key}-s{number:02d}"
        back = start if closes else 0
        files |= _sequence_files(name, clip[start:] + clip[:back], seen[start:] + seen[:back], ids)
        known[name] = {
            str(place): {"id": id_, "name": rows[id_].name, "category": rows[id_].category}
            for place, id_ in enumerate(ids, start=1)
        }
    counts = {"videos": len(known), "masklets": len(objects)}
    return Part(key, files, counts=counts, extra=(unit.split, known))


def _sequence_files(
    name: str,
    clip: list[Frame],
    seen: Sequence[AbstractSet[int]],
    ids: Sequence[int],
) -> dict[str, bytes]:
    files = frame_files(f"{IMAGE_FOLDER}/{name}", clip)
    place = {id_: number for number, id_ in enumerate(ids, start=1)}
    for number, frame in enumerate(clip):
        table = np.zeros(65536, np.uint8)
        for id_ in seen[number] & place.keys():
            table[id_] = place[id_]
        png = palette_png(table[frame.labels])
        for folder in MASK_FOLDERS:
            files[f"{folder}/{name}/{number:05d}.png"] = png
    return files


def davis_join(job: ExportJob, parts: Iterator[Part]) -> ExportFacts:
    """ImageSets/2017/<subset>.txt, and objects.json with what each number is."""
    known: dict[str, object] = {}
    splits: dict[str, list[str]] = {}

    def noted() -> Iterator[Part]:
        for part in parts:
            split, sequences_ = part.extra
            known.update(sequences_)
            splits.setdefault(split, []).extend(sequences_)
            yield part

    counts = join_counts(job, noted())
    subsets = {SUBSETS.get(name, name): split for name, split in split_names(splits).items()}
    for subset, split in subsets.items():
        text = "".join(f"{name}\n" for name in splits.get(split, ()))
        job.out.put(f"ImageSets/2017/{subset}.txt", text.encode())
    job.out.put("objects.json", json.dumps(known, indent=1).encode())
    return {**counts, "splits": subsets}
