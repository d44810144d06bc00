"""The objects of one panoramic video, scored from masks.

`score_video(video, predictor, image_size)` gives the mask of each object in its first annotated
frame to the video predictor and shows it every frame whole and resized. J, F and their spherical
forms are taken in all later annotated frames: one `ObjectScores` per object and role. The ceiling
is ground truth at the model's resolution. Boxes instead of masks: `panoforge.eval.videos.boxes`;
over many videos: `panoforge.eval.videos.run`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from panoforge.core.errors import DataError
from panoforge.core.foreign.left_out import NOTHING, LeftOut
from panoforge.core.foreign.pictures import read_picture
from panoforge.core.types import Bools, Rgb
from panoforge.eval.benchmarks.base import FrameFile, PackedFrame, VideoItem
from panoforge.eval.predictors import LOGIT_STRIDE, ObjectPrompt, Predictor, ShownFrames
from panoforge.eval.scoring.metrics import jaccard
from panoforge.eval.scoring.metrics.boundary import boundary_f
from panoforge.eval.scoring.metrics.sphere import boundary_f_sphere, jaccard_sphere
from panoforge.eval.videos.tracks import Track

SCORES = (
    "j",
    "f",
    "j_seam",
    "f_seam",
    "j_sphere",
    "f_sphere",
    "j_sphere_official",
    "f_sphere_official",
)


@dataclass(frozen=True)
class ObjectScores:
    """One object of one video under one role: means over `frames` scored frames, each in [0, 1].

    None where boxes are the truth: there is no mask to compare with.
    """

    video: str
    object: int
    role: str
    frames: int
    label: str = ""  # what the object is, where the data say it
    j: float | None = None
    f: float | None = None
    j_seam: float | None = None
    f_seam: float | None = None
    j_sphere: float | None = None
    f_sphere: float | None = None
    j_sphere_official: float | None = None
    f_sphere_official: float | None = None
    tracking: dict[str, float] = field(
        default_factory=dict
    )  # of 360VOTS, `panoforge.eval.videos.tracks`


class ScoredVideo(NamedTuple):
    """The scores of a video's objects, and the objects that nothing could be scored of."""

    rows: list[ObjectScores]
    left_out: LeftOut = NOTHING


def read_frame(path: FrameFile) -> Rgb:
    """A frame of a panoramic video, uint8 H×W×3.

    Raises:
        DataError: it is no picture, or by its GPano tags a crop of the sphere. The masks of a video
            are in the pixels of its frames, so a crop has no seam where its edges are.
    """
    if isinstance(path, PackedFrame):
        return path.read()
    picture = read_picture(path)
    place, (height, width) = picture.placement, picture.rgb.shape[:2]
    if place is not None and (place.width, place.height) != (width, height):
        raise DataError(
            f"{path} is by its GPano tags a crop of a panorama of {place.width}×{place.height}:"
            " frames of videos are scored as whole panoramas. Lay frames and masks onto the sphere"
            " first, or remove the tags if they are wrong (exiftool -XMP-GPano:all= FILE)"
        )
    return picture.rgb


def video_frames(images: Sequence[FrameFile], size_px: int) -> ShownFrames:
    """The images of a video as frames, read and shrunk when they are asked for."""

    def shrunk(path: FrameFile) -> NDArray[np.uint8]:
        return cv2.resize(read_frame(path), (size_px, size_px), interpolation=cv2.INTER_AREA)

    return ShownFrames(images, shrunk)


def score_video(
    video: VideoItem, predictor: Predictor, image_size: int, *, tracked: bool = False
) -> ScoredVideo:
    """The scores of every object of a video, of the model and of the ceiling.

    With `tracked` those of their boxes too. An object whose first annotated frame is the video's
    last has none: it is left out.
    """
    first = first_masks(video)
    ids = sorted(first)
    if predictor.full_size:
        frames = ShownFrames(video.images, read_frame)
        masks = {
            id_: np.where(mask, 10, -10).astype(np.float32) for id_, (_, mask) in first.items()
        }
    else:
        frames = video_frames(video.images, image_size)
        masks = {id_: shrink(mask, image_size) for id_, (_, mask) in first.items()}
    prompts = [ObjectPrompt(id_, {}, {first[id_][0]: masks[id_]}) for id_ in ids]
    found: dict[tuple[str, int], list[tuple[float, ...]]] = {}
    tracks: dict[tuple[str, int], Track] = {}
    for said in predictor.predict(frames, prompts):
        read = video.masks[said.frame]
        true = read() if read is not None else {}
        if read is None:
            continue
        seen = next(iter(true.values()), None)
        height, width = (read_frame(video.images[said.frame]) if seen is None else seen).shape[:2]
        shape = (height, width)
        logits = dict(zip(said.objects.tolist(), said.logits.cpu().numpy(), strict=True))
        for k, id_ in enumerate(ids):
            if said.frame <= first[id_][0]:
                continue
            mask = true.get(id_, np.zeros(shape, bool))
            predicted = enlarge(logits[k], shape) if k in logits else np.zeros(shape, bool)
            native = at_logit_size(mask, image_size)
            for role, answer in (("model", predicted), ("ceiling", native)):
                found.setdefault((role, id_), []).append(_scores(answer, mask))
                if tracked:
                    tracks.setdefault((role, id_), Track(shape[1], shape[0])).add(answer, mask)
    scored = {id_ for _, id_ in found}
    bare = LeftOut.of(
        ("object that no annotated frame follows", f"{id_} of {video.key}")
        for id_ in ids
        if id_ not in scored
    )
    rows = [
        ObjectScores(
            video.key,
            id_,
            role,
            len(values),
            **dict(zip(SCORES, np.mean(values, axis=0).tolist(), strict=True)),
            tracking=tracks[role, id_].scores() if tracked else {},
        )
        for (role, id_), values in found.items()
    ]
    return ScoredVideo(rows, bare)


def prompted(
    video: VideoItem, first: Mapping[int, tuple[int, Bools]], predictor: Predictor, image_size: int
) -> tuple[ShownFrames, list[ObjectPrompt]]:
    """A video's frames as the predictor wants them, and its objects' first masks, by number."""
    if predictor.full_size:
        frames = ShownFrames(video.images, read_frame)
        masks = {id_: mask * np.float32(20) - 10 for id_, (_, mask) in first.items()}
    else:
        frames = video_frames(video.images, image_size)
        masks = {id_: shrink(mask, image_size) for id_, (_, mask) in first.items()}
    return frames, [ObjectPrompt(id_, {}, {first[id_][0]: masks[id_]}) for id_ in sorted(first)]


def first_masks(video: VideoItem) -> dict[int, tuple[int, Bools]]:
    """For each object the first annotated frame that has it, and its mask there."""
    first: dict[int, tuple[int, Bools]] = {}
    for t, read in enumerate(video.masks):
        for id_, mask in (read() if read is not None else {}).items():
            if mask.any():
                first.setdefault(id_, (t, mask))
    if not first:
        raise DataError(
            f"{video.key} has no object in any annotated frame, so there is nothing to follow:"
            " leave it out"
        )
    return first


def shrink(mask: Bools, size_px: int) -> NDArray[np.float32]:
    """A mask as logits of ±10, size_px², between them by the share of covered area."""
    return (
        cv2.resize(mask.astype(np.float32), (size_px, size_px), interpolation=cv2.INTER_AREA) * 20
        - 10
    )


def enlarge(logits: NDArray[np.float32], shape: tuple[int, int]) -> Bools:
    """Logits over a whole frame → its mask, H×W."""
    return enlarge_logits(logits, shape) > 0


def enlarge_logits(logits: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Logits over a whole frame, H×W."""
    return cv2.resize(logits, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)


def at_logit_size(mask: Bools, image_size: int) -> Bools:
    """What is left of a mask at the resolution of the model's logits: the ceiling."""
    height, width = mask.shape
    return enlarge(shrink(mask, image_size // LOGIT_STRIDE), (height, width))


def _scores(predicted: Bools, true: Bools) -> tuple[float, ...]:
    j = jaccard(predicted, true)
    return (
        j,
        boundary_f(predicted, true, "official"),
        j,
        boundary_f(predicted, true, "seam-aware"),
        jaccard_sphere(predicted, true),
        boundary_f_sphere(predicted, true),
        jaccard_sphere(predicted, true, "official"),
        boundary_f_sphere(predicted, true, "official"),
    )
