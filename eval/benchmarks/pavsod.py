"""Benchmarks `pavsod` and `pavsodr`.

PAV-SOD (Zhang et al., 2023), key frames of 67 4K panoramic videos with salient instances.

`pavsod` is PAVS10K as its authors publish it. How the archive keeps instance masks is documented
nowhere, so all three ways to keep a frame's masks are read. They are one PNG with a colour per
instance, a folder of binary PNGs per frame, a folder per instance with a PNG per frame.
`pavsodr` is the same videos with saliency ranks (Guo et al., ACM MM 2024) in YouTube-VIS JSON.
Every key frame is scored as a panorama of its own, as SAP does.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from panoforge.core.errors import DataError
from panoforge.core.foreign.coco import coco_mask
from panoforge.core.foreign.files import found_in, inside, read_json
from panoforge.core.foreign.idmaps import read_labels, stack_masks
from panoforge.core.foreign.left_out import NOTHING, LeftOut
from panoforge.core.foreign.listing import list_pictures
from panoforge.core.foreign.masks import MadeMasks, polygon_is_empty
from panoforge.core.foreign.pictures import panorama_of, read_picture
from panoforge.core.numbers import counted
from panoforge.core.types import Mask
from panoforge.eval.benchmarks.base import Benchmark, Opened, PanoramaItem, Pixels
from panoforge.eval.benchmarks.folder import read_pair

FRAMES, MASKS = ("frame_key", "Frames", "images"), ("instance", "instances", "GT_instance", "GT")


def open_pavsod(root: Path, split: str | None) -> Opened[PanoramaItem]:
    """The frames of PAV-SOD with their id maps."""
    frames = next((root / name for name in FRAMES if (root / name).is_dir()), None)
    masks = next((root / name for name in MASKS if (root / name).is_dir()), None)
    if frames is None or masks is None:
        raise DataError(
            f"{root}: expected a folder {' or '.join(FRAMES)} and a folder {' or '.join(MASKS)};"
            f" found {found_in(root)}"
        )
    masks = masks / split if split and (masks / split).is_dir() else masks
    frames = frames / split if split and (frames / split).is_dir() else frames
    items: list[PanoramaItem] = []
    annotated = sorted(p for p in masks.iterdir() if p.is_dir())
    there = {p.name for p in frames.iterdir() if p.is_dir() and not p.name.startswith(".")}
    unannotated = there - {p.name for p in annotated}
    left_out = LeftOut.of(("sequence without masks", name) for name in sorted(unannotated))
    for sequence in annotated:
        listing = list_pictures(frames / sequence.name)
        if not listing.pictures:
            raise DataError(
                f"{sequence} has masks, and {frames / sequence.name} no frames: make them with the"
                " authors' video_to_frames.py, they are not shipped"
            )
        found = _frames(sequence, listing.pictures)
        items += found
        left_out += listing.left_out.inside(sequence.name) + found.left_out
    if not items:
        raise DataError(
            f"{masks}: expected <sequence>/<frame>.png, <sequence>/<frame>/*.png or"
            f" <sequence>/<instance>/<frame>.png; found {found_in(masks)}"
        )
    return Opened(items, left_out)


def _frames(sequence: Path, images: Mapping[str, Path]) -> Opened[PanoramaItem]:
    """The annotated frames of a sequence, whichever way its masks are kept."""
    items: dict[str, PanoramaItem] = {}
    folders = sorted(p for p in sequence.iterdir() if p.is_dir())
    per_frame = all(folder.name in images for folder in folders)
    left_out, by_frame = NOTHING, dict[str, dict[str, Path]]()
    for folder in folders:
        inside_it = list_pictures(folder)
        left_out += inside_it.left_out.inside(f"{sequence.name}/{folder.name}")
        for path in inside_it.pictures.values():
            stem, instance = (folder.name, path.stem) if per_frame else (path.stem, folder.name)
            by_frame.setdefault(stem, {})[instance] = path
    beside = list_pictures(sequence)
    for path in beside.pictures.values():
        read = partial(_read_colours, images.get(path.stem), path)
        items[path.stem] = _item(sequence, path.stem, images, (path,), read)
    for stem, files in by_frame.items():
        if stem in items:
            raise DataError(
                f"{sequence} has the masks of frame {stem} twice: in"
                f" {items[stem].truth[0].name} and in folders, remove the one that is not meant"
            )
        read = partial(_read_files, images.get(stem), files, sequence)
        items[stem] = _item(sequence, stem, images, [files[k] for k in sorted(files)], read)
    bare = LeftOut.of(
        ("frame without masks", image.name) for stem, image in images.items() if stem not in items
    )
    left_out += (beside.left_out + bare).inside(sequence.name)
    return Opened([items[stem] for stem in sorted(items)], left_out)


def _item(
    sequence: Path,
    stem: str,
    images: Mapping[str, Path],
    truth: Sequence[Path],
    read: Callable[[], Pixels],
) -> PanoramaItem:
    image = (images[stem],) if stem in images else ()
    return PanoramaItem(f"{sequence.name}_{stem}", image, tuple(truth), read)


def _read_colours(image: Path | None, mask: Path) -> Pixels:
    if image is None:
        raise DataError(
            f"{mask} is of a frame that is not there: make the frames with the authors'"
            " video_to_frames.py"
        )
    return read_pair(image, mask)


def _read_files(image: Path | None, files: Mapping[str, Path], sequence: Path) -> Pixels:
    if image is None:
        raise DataError(
            f"{next(iter(files.values()))} is of a frame that is not there: make the frames with"
            " video_to_frames.py"
        )
    names = sorted(files)

    def mask(k: int, height: int, width: int) -> Mask:
        return read_labels(files[names[k]]) > 0

    return _stacked(image, len(names), mask)


def _stacked(image: Path, objects: int, mask: Callable[[int, int, int], Mask]) -> Pixels:
    """A panorama and its objects; `mask(k, height, width)` is the k-th in the picture's pixels."""
    picture = read_picture(image)
    rgb = panorama_of(picture, str(image))
    height, width = picture.rgb.shape[:2]
    masks = MadeMasks(range(objects), lambda k: mask(k, height, width))
    labels, _, lost = stack_masks(masks, height, width, image)
    return Pixels(rgb, picture.on_sphere(labels), {}, lost)


def open_pavsodr(root: Path, split: str | None) -> Opened[PanoramaItem]:
    """The same videos with saliency ranks, from YouTube-VIS JSON."""
    split = split or "test"
    path, folder = root / f"{split}.json", root / split / "JPEGImages"
    if not path.is_file() or not folder.is_dir():
        raise DataError(
            f"{root}: expected {split}.json and {split}/JPEGImages/<video>/; found"
            f" {found_in(root)}. Their test set has no JSON: its ground truth is a saliency map,"
            " split: train has instances"
        )
    document = read_json(path)
    items, without = [], []
    try:
        annotations = _by_video(document, path)
        for video in sorted(document["videos"], key=lambda video: min(video["file_names"])):
            its = annotations.pop(video["id"], {})
            # The authors pair the names in their order with the segmentations as they stand.
            for t, name in enumerate(sorted(video["file_names"])):
                here = {
                    id_: segmentations[t]
                    for id_, segmentations in its.items()
                    if not polygon_is_empty(segmentations[t])
                }
                if not here:
                    without.append(("frame without objects", str(name)))
                    continue
                image = inside(folder, name)
                key = f"{image.parent.name}_{image.stem}"
                read = partial(_read_json, image, here, path)
                items.append(PanoramaItem(key, (image,), (path,), read))
        lost = [id_ for alone in annotations.values() for id_ in alone]
        without += [("object of a video that is not listed", f"annotation {id_}") for id_ in lost]
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise DataError(
            f"{path} is not YouTube-VIS JSON ({type(error).__name__} {error}): get it again"
        ) from error
    return Opened(items, LeftOut.of(without))


def _by_video(document: Any, path: Path) -> dict[Any, dict[str, Any]]:
    """The objects' segmentations, one per frame, by video and id."""
    ids = [video["id"] for video in document["videos"]]
    frames = {video["id"]: len(video["file_names"]) for video in document["videos"]}
    if len(frames) < len(ids):
        raise DataError(
            f"{path}: {counted(len(ids), 'video')} with {counted(len(frames), 'id')}: two share"
            " one: number the videos anew"
        )
    found: dict[Any, dict[str, Any]] = {}
    for annotation in document["annotations"]:
        its, id_ = found.setdefault(annotation["video_id"], {}), str(annotation["id"])
        segmentations = annotation["segmentations"]
        most = frames.get(annotation["video_id"], len(segmentations))
        if id_ in its or len(segmentations) != most:
            raise DataError(
                f"{path}, annotation {id_[:100]}: expected an id of its own and a segmentation for"
                f" each of the video's frames ({most}), found {len(segmentations)}"
            )
        its[id_] = segmentations
    return found


def _read_json(image: Path, segmentations: Mapping[str, Any], path: Path) -> Pixels:
    listed = list(segmentations.items())

    def mask(k: int, height: int, width: int) -> Mask:
        return coco_mask(listed[k][1], height, width, f"{path}, annotation {listed[k][0]}")

    return _stacked(image, len(listed), mask)


_LICENCE = "the videos are YouTube's and their makers'; the annotations are for research only."
BENCHMARKS = (
    Benchmark(
        "pavsod",
        "PAV-SOD (PAVS10K), key frames",
        "images",
        "github.com/PanoAsh/PAV-SOD (Google Drive links: ground truth, and videos; then"
        " video_to_frames.py).",
        _LICENCE,
        "    frame_key/<sequence>/<frame>.png with one of\n   "
        " instance/[<split>/]<sequence>/<frame>.png             one colour per instance, black ="
        " nothing\n    instance/[<split>/]<sequence>/<frame>/<instance>.png  binary\n   "
        " instance/[<split>/]<sequence>/<instance>/<frame>.png  binary",
        open_pavsod,
    ),
    Benchmark(
        "pavsodr",
        "PAV-SODR, the same videos as YouTube-VIS JSON",
        "images",
        "github.com/ruohaoguo/pavsodr (Baidu link).",
        _LICENCE,
        "    <split>/JPEGImages/<video>/<frame> with <split>.json   videos, annotations with"
        " segmentations per frame",
        open_pavsodr,
    ),
)
