"""What all sources share.

Which item stands at a position, which objects a clip follows, and the clip made of them.

Takes plain arrays (RGB frames, boolean masks of any size), gives SAM2's `VideoDatapoint` at S×S.
Images are resized by area when they shrink, masks by nearest. An object counts as visible when it
covers at least `min_share` of the first frame and is still there after resizing.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from panoforge.core.errors import DataError
from panoforge.core.foreign.left_out import NOTHING, LeftOut
from panoforge.core.geometry.pixels import middle_index
from panoforge.core.types import Mask
from panoforge.train.data.clips import IMAGENET_MEAN, jitter_colours, normalise
from panoforge.train.data.plan import CLIP_LANE, SOURCE_LANE, ClipPlan, epoch_order
from panoforge.train.data.warp import affine_matrix
from panoforge.train.settings.clips import ClipSettings

if TYPE_CHECKING:
    from training.utils.data_utils import VideoDatapoint


@dataclass(frozen=True)
class Draw:
    """How a source draws its clips. `min_share` is of a frame's pixels."""

    seed: int
    clip: ClipSettings
    size_px: int
    min_share: float


def as_planned(clip: ClipSettings, plan: ClipPlan) -> ClipSettings:
    """The settings of a clip whose plan has drawn its mirroring, and warped its views if any."""
    return clip.model_copy(update={"flip": float(plan.flip), "affine_deg": 0.0, "shear_deg": 0.0})


def source_seed(seed: int, name: str) -> int:
    """The seed of the source called `name` in a run of `seed`.

    Sources of a mixture draw apart from each other.
    """
    return int(np.random.default_rng([seed, SOURCE_LANE, *name.encode()]).integers(2**62))


class Listed(ABC):
    """A source over `items` images or videos, each once an epoch; `left_out` was not listed."""

    def __init__(self, name: str, draw: Draw, items: int, left_out: LeftOut = NOTHING) -> None:
        self.name, self.draw, self.items, self.left_out = name, draw, items, left_out

    def __len__(self) -> int:
        return self.items

    def item(self, position: int) -> int:
        """The item at `position`."""
        epoch, index = divmod(position, self.items)
        return int(epoch_order(self.draw.seed, epoch, self.items, 1)[index])

    def key(self, position: int) -> str:
        """The name of what is drawn at `position`, for messages."""
        return self.item_key(self.item(position))

    def clip(self, position: int) -> "VideoDatapoint":
        """The clip at `position`, a pure function of seed and position."""
        return self.build(
            self.item(position),
            position,
            np.random.default_rng([self.draw.seed, CLIP_LANE, position]),
        )

    @abstractmethod
    def item_key(self, item: int) -> str:
        """The item's name."""

    @abstractmethod
    def build(self, item: int, position: int, rng: np.random.Generator) -> "VideoDatapoint":
        """A clip of `item`."""


def listing_sha256(lines: Iterable[str]) -> str:
    """Digest of a listing."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def square(mask: NDArray, size_px: int) -> Mask:
    """A mask of any size at S×S, by nearest."""
    return cv2.resize(
        mask.astype(np.uint8), (size_px, size_px), interpolation=cv2.INTER_NEAREST_EXACT
    ).astype(bool)


def square_image(image: NDArray[np.uint8], size_px: int) -> NDArray[np.uint8]:
    """An RGB image of any size at S×S."""
    smaller = image.shape[0] > size_px or image.shape[1] > size_px
    return cv2.resize(
        image, (size_px, size_px), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    )


def choose(
    shares: Mapping[int, float],
    mask_of: Callable[[int], NDArray],
    draw: Draw,
    rng: np.random.Generator,
) -> list[int]:
    """Up to `max_objects` ids, sorted, drawn without replacement.

    From those with a share of at least `min_share` whose mask (`mask_of`, of any size) is not lost
    at S×S. Only masks that are drawn are ever asked for.
    """
    ids = sorted(i for i, share in shares.items() if share >= draw.min_share)
    if not ids:
        return []
    chance = np.array([shares[i] for i in ids]) ** draw.clip.area_power
    chosen: list[int] = []
    for i in rng.choice(ids, size=len(ids), replace=False, p=chance / chance.sum()):
        if square(mask_of(int(i)), draw.size_px).any():
            chosen.append(int(i))
        if len(chosen) == draw.clip.max_objects:
            break
    return sorted(chosen)


def walk(frames: int, length: int, start: int, reverse: bool) -> list[int]:
    """`length` consecutive frames of a video of `frames`, from `start` on.

    There and back again where it is shorter.
    """
    there = list(range(frames))
    cycle = there + there[-2:0:-1]
    path = [cycle[(start + i) % len(cycle)] for i in range(length)]
    return path[::-1] if reverse else path


def walk_with_objects(
    frames: int,
    choose_in: Callable[[int], list[int]],
    draw: Draw,
    rng: np.random.Generator,
    name: str,
) -> tuple[list[int], list[int]]:
    """A clip's frames and the ids it follows.

    A random stretch of the video, or the next one that begins with a visible object.
    `choose_in(frame)` gives the ids chosen in a first frame.
    """
    starts = max(1, frames - draw.clip.frames + 1)
    first = int(rng.integers(starts))
    reverse = bool(rng.random() < draw.clip.reverse)
    for shift in range(starts):
        path = walk(frames, draw.clip.frames, (first + shift) % starts, reverse)
        ids = choose_in(path[0])
        if ids:
            return path, ids
    raise nothing_to_prompt(name, draw)


def nothing_to_prompt(name: str, draw: Draw) -> DataError:
    """The error of an image or video without any visible object."""
    return DataError(
        f"{name}: no mask covers min_area_share = {draw.min_share} of a frame or more, so there is"
        " nothing to prompt: lower min_area_share, or leave it out of the folder"
    )


def make_clip(
    position: int,
    images: Sequence[NDArray[np.uint8]],
    masks: Mapping[int, Sequence[NDArray | None]],
    draw: Draw,
    rng: np.random.Generator,
) -> "VideoDatapoint":
    """The clip of RGB `images` and of each object's masks, flipped, warped, coloured as a whole.

    T images of any size, and per object id T masks (None: absent). As in SAM2, a warp that takes an
    object out of the first frame is left undone.
    """
    import torch
    from training.utils.data_utils import Frame, Object, VideoDatapoint

    size = draw.size_px
    flip = slice(None, None, -1 if rng.random() < draw.clip.flip else 1)
    empty = np.zeros((size, size), bool)
    pictures = [square_image(image, size)[:, flip] for image in images]
    seen = {
        id_: [empty if mask is None else square(mask, size)[:, flip] for mask in of_frames]
        for id_, of_frames in masks.items()
    }
    if draw.clip.affine_deg or draw.clip.shear_deg:
        matrix = square_affine(draw.clip, rng, size)
        warped = {
            id_: [warp_square(mask, matrix) for mask in of_frames]
            for id_, of_frames in seen.items()
        }
        if all(of_frames[0].any() for of_frames in warped.values()):
            pictures, seen = [warp_square(picture, matrix) for picture in pictures], warped
    frames = []
    for t, image in enumerate(jitter_colours(pictures, draw.clip, rng)):
        objects = [
            Object(id_, t, torch.from_numpy(np.ascontiguousarray(of_frames[t])))
            for id_, of_frames in seen.items()
        ]
        frames.append(Frame(torch.from_numpy(normalise(image)), objects))
    return VideoDatapoint(frames, position, (size, size))


def square_affine(
    clip: ClipSettings, rng: np.random.Generator, size_px: int
) -> NDArray[np.float64]:
    """One draw of panoforge.train.data.warp's A about the middle of an S×S picture.

    It is the 2×3 matrix from old pixel indices to new.
    """
    matrix = affine_matrix(
        clip.affine_deg * rng.uniform(-1, 1), clip.shear_deg * rng.uniform(-1, 1)
    )
    middle = np.full(2, middle_index(size_px))
    return np.column_stack([matrix, middle - matrix @ middle])


def warp_square(image: NDArray, matrix: NDArray[np.float64]) -> NDArray:
    """An S×S RGB picture or mask, warped.

    The picture bilinearly, with ImageNet's mean where nothing was; the mask by the nearest pixel,
    empty there.
    """
    size = (image.shape[1], image.shape[0])
    if image.ndim == 2:
        return cv2.warpAffine(image.astype(np.uint8), matrix, size, flags=cv2.INTER_NEAREST).astype(
            bool
        )
    fill = [float(x) for x in np.round(IMAGENET_MEAN * 255)]
    return cv2.warpAffine(
        np.ascontiguousarray(image), matrix, size, flags=cv2.INTER_LINEAR, borderValue=fill
    )
