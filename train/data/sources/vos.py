"""Video object segmentation with one mask file per frame.

DAVIS, PanoVOS, 360VOS, and the val and test sets of SA-V.

    DAVIS, PanoVOS   [<split>/]JPEGImages/<video>/00000.jpg
                     [<split>/]Annotations/<video>/00000.png   a palette PNG, pixel = object id
    SA-V val, test   [<split>/]JPEGImages_24fps/…
                     [<split>/]Annotations_6fps/<video>/<object>/00000.png   one binary PNG each
    360VOS           [<split>/]<video>/image/000000.jpg
                     [<split>/]<video>/mask/000000[_0].png   one binary PNG, or one per object

A clip is `frames` consecutive annotated frames, `frame_step` apart. Frames without a mask file are
passed over: SA-V annotates every fourth. What else has no counterpart, a video without masks or a
mask without its picture, is left out and counted. Splits called val and valid are the same. PanoVOS
annotates only the first frame of its val and test videos: those teach no tracking and are refused.
Panoramic frames are squeezed to a square whole: the "direct" view of a panorama. With `panoramas`
the camera is turned and leant for each clip, as in our own videos; masks are exact, and an object's
share is that of the sphere.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from panoforge.core.errors import DataError
from panoforge.core.foreign.files import found_in
from panoforge.core.foreign.idmaps import read_labels
from panoforge.core.foreign.left_out import NOTHING, LeftOut
from panoforge.core.foreign.listing import list_pictures
from panoforge.core.foreign.pictures import read_image
from panoforge.core.geometry.scan import random_yaw0_deg
from panoforge.core.geometry.sphere import row_area_sr
from panoforge.core.numbers import counted
from panoforge.core.types import Mask, Rgb
from panoforge.train.data.sources.draw import (
    Draw,
    Listed,
    choose,
    listing_sha256,
    make_clip,
    walk_with_objects,
)
from panoforge.train.data.sources.whole import StillTurn

if TYPE_CHECKING:
    from training.utils.data_utils import VideoDatapoint

PAIRS = (("JPEGImages", "Annotations"), ("JPEGImages_24fps", "Annotations_6fps"))
RESOLUTIONS = (
    "480p",
    "1080p",
    "Full-Resolution",
)  # DAVIS keeps its videos in a folder of that name
SAME_SPLIT = {"val": ("val", "valid"), "valid": ("valid", "val")}
MasksOfObjects = dict[int, list[Mask | None]]  # by frame; None: absent
VOID = 255  # DAVIS: not to be judged
_MASK = re.compile(r"([0-9]{1,9})(?:_([0-9]{1,9}))?\.png", re.IGNORECASE)


@dataclass(frozen=True)
class Video:
    """A video's annotated frames in order.

    (image, mask files); a mask file with its object id, or None for a label map.
    """

    name: str
    frames: tuple[tuple[Path, tuple[tuple[int | None, Path], ...]], ...]


class FoundVideos(NamedTuple):
    """The folder of a split, its videos that have masks, and what else lies there."""

    root: Path
    videos: list[Video]
    left_out: LeftOut


class Vos(Listed):
    """The videos of one split."""

    def __init__(
        self,
        name: str,
        folder: Path,
        draw: Draw,
        split: str | None = None,
        frame_step: int = 1,
        panoramas: bool = False,
    ) -> None:
        self.folder, self.panoramas = folder, panoramas
        root, videos, left_out = find_videos(folder, split)
        still = [v.name for v in videos if len(v.frames) == 1]
        if still and draw.clip.frames > 1:
            raise DataError(
                f"{root}: {counted(len(still), 'video')} with a mask for one frame only (first:"
                f" {still[0]}): the val and test sets of PanoVOS are for scoring, train on its"
                " train split"
            )
        self.step = frame_step
        self.videos = [
            Video(v.name, v.frames[::frame_step] if len(v.frames) > frame_step else v.frames)
            for v in videos
        ]
        super().__init__(name, draw, len(self.videos), left_out)

    def item_key(self, item: int) -> str:
        """The folder of a video, as messages name it."""
        return self.videos[item].name

    def sha256(self) -> str:
        """Digest of which videos with how many frames and masks there are."""
        return listing_sha256(
            f"{video.name} {image.name} {len(masks)}"
            for video in self.videos
            for image, masks in video.frames
        )

    def build(self, item: int, position: int, rng: np.random.Generator) -> "VideoDatapoint":
        """The clip at `position`: consecutive annotated frames of one video."""
        video = self.videos[item]

        def choose_in(frame: int) -> list[int]:
            masks = read_masks(video.frames[frame][1])
            return choose(
                {i: self.share(m) for i, m in masks.items()}, masks.__getitem__, self.draw, rng
            )

        path, ids = walk_with_objects(len(video.frames), choose_in, self.draw, rng, video.name)
        images = [read_image(video.frames[t][0]) for t in path]
        found = [read_masks(video.frames[t][1]) for t in path]
        for t, image, masks in zip(path, images, found, strict=True):
            for mask in masks.values():
                if mask.shape != image.shape[:2]:
                    raise DataError(
                        f"{video.frames[t][0]} is {image.shape[1]}×{image.shape[0]}, its mask "
                        f"{mask.shape[1]}×{mask.shape[0]}: make them of one size"
                    )
            if self.panoramas and image.shape[1] != 2 * image.shape[0]:
                raise DataError(
                    f"{video.frames[t][0]} is {image.shape[1]}×{image.shape[0]}, and mixture."
                    f"{self.name}.panoramas says that it is a whole panorama, twice as wide as"
                    " high: leave that video out, or set panoramas to false"
                )
        masks_of = {i: [masks.get(i) for masks in found] for i in ids}
        draw = self.draw
        if self.panoramas:
            images, masks_of = self.turned(images, masks_of, rng)
            upright = draw.clip.model_copy(update={"affine_deg": 0.0, "shear_deg": 0.0})
            draw = replace(draw, clip=upright)
        return make_clip(position, images, masks_of, draw, rng)

    def share(self, mask: Mask) -> float:
        """A mask's share of its frame; of the sphere where that is a panorama."""
        if not self.panoramas:
            return float(mask.mean())
        height, width = mask.shape
        return float(mask.sum(axis=1) @ row_area_sr(width, height) / (4 * np.pi))

    def turned(
        self, images: list[Rgb], masks: MasksOfObjects, rng: np.random.Generator
    ) -> tuple[list[Rgb], MasksOfObjects]:
        """Frames and masks for a camera that is turned and leant by one draw for the clip."""
        turn = StillTurn(
            random_yaw0_deg(rng, images[0].shape[1]),
            self.draw.clip.tilt_jitter_deg * float(rng.random()),
            float(rng.uniform(-180, 180)),
        )
        shown: list[Rgb] = []
        moved: MasksOfObjects = {i: [] for i in masks}
        for t, image in enumerate(images):
            there = {i: mask for i in masks if (mask := masks[i][t]) is not None}
            picture, seen = turn.shown(image, list(there.values()), self.draw.size_px)
            shown.append(picture)
            of_frame = dict(zip(there, seen, strict=True))
            for i in masks:
                moved[i].append(of_frame.get(i))
        return shown, moved


def find_videos(folder: Path, split: str | None = None) -> FoundVideos:
    """The folder of a split and its videos that have masks. DataError where there are none."""
    root, other = _split_folder(folder, split), list[LeftOut]()
    found = _davis(root, other) or _vos360(root, other)
    videos = [video for video in found if video.frames]
    bare = [video.name for video in found if not video.frames]
    other.append(LeftOut.of(("video without a picture that has a mask", name) for name in bare))
    if not videos:
        raise DataError(
            f"{root} holds no videos with masks: expected JPEGImages/<video>/*.jpg with"
            " Annotations/<video>/*.png, JPEGImages_24fps/<video> with"
            " Annotations_6fps/<video>/<object>, or <video>/image with <video>/mask; found"
            f" {found_in(root)}"
        )
    return FoundVideos(root, videos, sum(other, NOTHING))


def read_masks(files: tuple[tuple[int | None, Path], ...]) -> dict[int, NDArray[np.bool_]]:
    """Per object id, its mask in one frame; objects that are absent may be missing."""
    masks = {}
    for id_, path in files:
        labels = read_labels(path)
        if id_ is not None:
            masks[id_] = labels > 0
            continue
        for found in np.unique(labels).tolist():
            if found not in (0, VOID):
                masks[found] = labels == found
    return masks


def _split_folder(folder: Path, split: str | None) -> Path:
    """Where a split lies. DataError where it is not."""
    if not folder.is_dir():
        raise DataError(f"{folder} does not exist: expected a folder of videos")
    names = [split] if split is None else list(SAME_SPLIT.get(split, (split,)))
    for name in names:
        if name is None:
            return folder
        if (folder / name).is_dir():
            return folder / name
    raise DataError(
        f"{folder} has no split {' or '.join(str(n) for n in names)}: found {found_in(folder)}. Set"
        " split to one of them"
    )


def _davis(root: Path, other: list[LeftOut]) -> list[Video]:
    """Videos of a folder with JPEGImages and Annotations; none where it has none."""
    for images, annotations in PAIRS:
        frames, masks = root / images, root / annotations
        if not frames.is_dir() or not masks.is_dir():
            continue
        for resolution in RESOLUTIONS:
            if (frames / resolution).is_dir() and (masks / resolution).is_dir():
                frames, masks = frames / resolution, masks / resolution
                break
        there, annotated = _folders(frames), _folders(masks)
        other += [
            LeftOut.of(("video without a folder of masks", v) for v in sorted(there - annotated)),
            LeftOut.of(("folder of masks without a video", v) for v in sorted(annotated - there)),
        ]
        return [_video(masks / name, frames / name, other) for name in sorted(there & annotated)]
    return []


def _folders(folder: Path) -> set[str]:
    """Names of the folders in a folder; hidden ones are no data."""
    return {p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")}


def _vos360(root: Path, other: list[LeftOut]) -> list[Video]:
    """Videos of a folder of <video>/image with <video>/mask."""
    videos = []
    for path in (root / name for name in sorted(_folders(root))):
        if (path / "mask").is_dir() and (path / "image").is_dir():
            videos.append(_video(path / "mask", path / "image", other, path.name))
        else:
            other.append(LeftOut.of([("folder without image/ and mask/", path.name)]))
    return videos


def _video(masks: Path, images: Path, other: list[LeftOut], name: str = "") -> Video:
    """Pair the images of a folder with mask files; what is left over goes to `other`.

    The masks lie in `masks`, or in one folder per object below it.
    """
    name = name or images.name
    odd: list[tuple[str, str]] = []
    files: dict[int, list[tuple[int | None, Path]]] = {}
    for number, id_, path in _mask_files(masks):
        if number is None:
            odd.append(("file whose name is no mask's", path.name))
        else:
            files.setdefault(number, []).append((id_, path))
    listing = list_pictures(images)
    frames: dict[int, Path] = {}
    for stem, path in listing.pictures.items():
        if not (stem.isascii() and stem.isdecimal()):
            odd.append(("picture whose name is no frame's number", path.name))
        elif frames.setdefault(int(stem), path) is not path:
            raise DataError(
                f"{images} holds {frames[int(stem)].name} and {path.name}: one frame, twice; move"
                " one away"
            )
    alone = sorted(files.keys() - frames.keys())
    odd += [("mask without its picture", files[t][0][1].name) for t in alone]
    other.append((listing.left_out + LeftOut.of(odd)).inside(name))
    return Video(name, tuple((frames[t], tuple(files[t])) for t in sorted(files) if t in frames))


def _mask_files(masks: Path) -> Iterator[tuple[int | None, int | None, Path]]:
    """Each file of a video's masks: its frame, None if its name says none; its object, if it does.

    360VOS has binary masks, with or without the object's number.
    """
    alone = masks.name == "mask"
    for path in sorted(p for p in masks.iterdir() if not p.name.startswith(".")):
        if path.is_dir() and path.name.isascii() and path.name.isdecimal():
            for inside in sorted(p for p in path.iterdir() if not p.name.startswith(".")):
                match = _MASK.fullmatch(inside.name)
                yield int(match[1]) if match and not match[2] else None, int(path.name) + 1, inside
        elif match := _MASK.fullmatch(path.name):
            yield int(match[1]), int(match[2]) + 1 if match[2] else 1 if alone else None, path
        else:
            yield None, None, path
