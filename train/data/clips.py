"""From a plan to a clip.

Consecutive scan frames of one panorama, and the masks of a few of its instances.

Takes a `ClipPlan` and the sample it names, gives SAM2's own `VideoDatapoint`
(training.utils.data_utils): frames as normalised float32 3×S×S, one boolean S×S mask per object and
frame. Objects are drawn among those that show at least `min_area_sr` steradians in the clip's first
frame, because SAM2 prompts the first frame always. In later frames an object may leave and come
back; its empty masks are kept. Where the first frame shows no such object, the clip begins at
the next frame of the scan that does: still a function of plan and panorama alone.

What is wrong with a sample is a DataError that names it. No other sample ever takes its place.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from panoforge.core.errors import DataError
from panoforge.core.geometry.scan import ScanSpec, scan_views
from panoforge.core.geometry.sphere import View, view_area_sr
from panoforge.core.geometry.views import WrappedPanorama, wrap_panorama
from panoforge.core.shards.read import Sample
from panoforge.train.data.plan import CLICK_LANE, ClipPlan
from panoforge.train.data.warp import frame_area_sr, is_warped, look
from panoforge.train.settings.clips import ClipSettings

if TYPE_CHECKING:
    from training.utils.data_utils import BatchedVideoDatapoint, Frame, VideoDatapoint

    from panoforge.train.data.clicks import PixelXY

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)


def clip_views(settings: ClipSettings, plan: ClipPlan, size_px: int) -> tuple[View, ...]:
    """The whole scan in the order this clip walks it, beginning at the plan's start.

    The loop closes, so it is rotated. A clip is a window of it, or of it written twice (SAP).
    """
    spec = ScanSpec(settings.fov_deg, settings.overlap, size_px)
    views = scan_views(spec, plan.yaw0_deg, settings.trajectory)
    if plan.reverse:
        views = views[::-1]
    views = views[plan.start :] + views[: plan.start]
    return tuple(replace(view, fov_deg=plan.fov_deg) for view in views)


def weighted_count(labels: NDArray, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sum of `weights` over the pixels of each id, indexed by id; both of one shape."""
    sums: NDArray[Any] = np.bincount(labels.ravel(), weights=weights.ravel())
    return sums


def areas_sr(labels: NDArray[np.uint16], fov_deg: float) -> NDArray[np.float64]:
    """Steradians of every id in a view, indexed by id; index 0 is what no instance covers."""
    return weighted_count(labels, view_area_sr(fov_deg, labels.shape[0]))


def choose_objects(
    areas: NDArray[np.float64], settings: ClipSettings, rng: np.random.Generator
) -> list[int]:
    """Up to `max_objects` ids, sorted, drawn without replacement.

    From those of at least `min_area_sr`.
    """
    ids = np.flatnonzero(areas >= settings.min_area_sr)
    ids = ids[ids > 0]
    if not ids.size:
        return []
    chance = areas[ids] ** settings.area_power
    chosen = rng.choice(
        ids, size=min(settings.max_objects, ids.size), replace=False, p=chance / chance.sum()
    )
    return sorted(int(i) for i in chosen)


def build_clip(
    sample: Sample, plan: ClipPlan, settings: ClipSettings, size_px: int, *, clicks: bool = False
) -> "VideoDatapoint":
    """The clip of `plan`, cut from `sample` at size_px×size_px.

    With `clicks`, a sphere click for each of its objects.
    """
    import torch
    from training.utils.data_utils import Frame, Object, VideoDatapoint

    rgb, labels = _panorama(sample)
    views = clip_views(settings, plan, size_px)
    first, ids = _first_frame(labels, views, plan, settings, sample.key)
    rotated = views[first:] + views[:first]
    views = (rotated + rotated)[: settings.frames]
    images = [look(rgb, view, plan) for view in views]
    frames_ids = [look(labels, view, plan, labels=True) for view in views]
    if plan.flip:
        images, frames_ids = [i[:, ::-1] for i in images], [i[:, ::-1] for i in frames_ids]
    images = jitter_colours(images, settings, np.random.default_rng(plan.colour_seed))
    frames = []
    for t, (image, frame_ids) in enumerate(zip(images, frames_ids, strict=True)):
        objects = [
            Object(id_, t, torch.from_numpy(np.ascontiguousarray(frame_ids == id_))) for id_ in ids
        ]
        frames.append(Frame(torch.from_numpy(normalise(image)), objects))
    if clicks:
        from panoforge.train.data.clicks import sphere_clicks

        add_clicks(frames, plan, lambda masks, rng: sphere_clicks(masks, views, rng, plan))
    return VideoDatapoint(frames, plan.position, (size_px, size_px))


def add_clicks(
    frames: list["Frame"],
    plan: ClipPlan,
    draw: Callable[[list[NDArray[np.bool_]], np.random.Generator], list["PixelXY | None"]],
) -> None:
    """Give every object of a panorama's frames its click.

    `draw` gives its places from its masks, before they are mirrored: frames may be.
    """
    from panoforge.train.data.clicks import ClickedObject

    rng = np.random.default_rng([plan.object_seed, CLICK_LANE])
    last = frames[0].data.shape[-1] - 1
    for index in range(len(frames[0].objects)):
        objects = [frame.objects[index] for frame in frames]
        masks = [o.segment.numpy()[:, ::-1] if plan.flip else o.segment.numpy() for o in objects]
        for frame, o, place in zip(frames, objects, draw(masks, rng), strict=True):
            click = (last - place[0], place[1]) if place and plan.flip else place
            frame.objects[index] = ClickedObject(o.object_id, o.frame_index, o.segment, click)


def panorama_arrays(sample: Sample) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Its picture and its ids. DataError where they are not of the size that it says."""
    rgb, labels = sample.read("rgb"), sample.read("instance")
    shape = (sample.meta.height, sample.meta.width)
    if rgb.shape != (*shape, 3) or labels.shape != shape:
        raise DataError(
            f"{sample.key}: its metadata says {shape[1]}×{shape[0]}, rgb is"
            f" {rgb.shape[1]}×{rgb.shape[0]} and instance {labels.shape[1]}×{labels.shape[0]}:"
            " render or pack this sample again"
        )
    return rgb, labels


def _panorama(sample: Sample) -> tuple[WrappedPanorama, WrappedPanorama]:
    rgb, labels = panorama_arrays(sample)
    return wrap_panorama(rgb), wrap_panorama(labels)


def _first_frame(
    labels: WrappedPanorama,
    views: tuple[View, ...],
    plan: ClipPlan,
    settings: ClipSettings,
    key: str,
) -> tuple[int, list[int]]:
    """Where in `views` the clip begins, and the ids it follows."""
    for index, view in enumerate(views):
        seen = look(labels, view, plan, labels=True)
        if is_warped(plan):
            areas = weighted_count(seen, frame_area_sr(plan, view))
        else:
            areas = areas_sr(seen, view.fov_deg)
        ids = choose_objects(areas, settings, np.random.default_rng(plan.object_seed))
        if ids:
            return index, ids
    raise nothing_seen(key, "view of its scan", settings)


def nothing_seen(key: str, frame: str, settings: ClipSettings) -> DataError:
    """The error of a panorama none of whose frames shows what could be followed."""
    return DataError(
        f"{key}: no {frame} shows an instance of at least clip.min_area_sr ="
        f" {settings.min_area_sr} sr, so there is nothing to prompt: lower clip.min_area_sr, or"
        " leave the panorama out of the dataset"
    )


def normalise(image: NDArray) -> NDArray[np.float32]:
    """RGB S×S×3 in [0, 255] → float32 3×S×S as SAM2 takes it.

    With ImageNet's mean and deviation, what it was trained on.
    """
    scaled = (image.astype(np.float32) / 255.0 - IMAGENET_MEAN) / IMAGENET_STD
    return np.ascontiguousarray(scaled.transpose(2, 0, 1))


def jitter_colours(
    images: list[NDArray], settings: ClipSettings, rng: np.random.Generator
) -> list[NDArray]:
    """SAM2's photometric recipe on RGB uint8 frames; gives float32.

    One draw of brightness 0.1, contrast 0.03 and saturation 0.03 for the clip, greyscale with 5 %,
    then 0.1, 0.05 and 0.05 drawn for each frame.
    """
    strength = settings.colour_jitter
    clip_draw = rng.uniform(-1, 1, 3) * (0.1, 0.03, 0.03) * strength
    grey = rng.random() < settings.grayscale
    frame_draws = rng.uniform(-1, 1, (len(images), 3)) * (0.1, 0.05, 0.05) * strength
    out = []
    for image, frame_draw in zip(images, frame_draws, strict=True):
        image = _adjust(image.astype(np.float32), clip_draw)
        if grey:
            image = np.repeat(_grey(image)[..., None], 3, axis=2)
        out.append(_adjust(image, frame_draw))
    return out


def _adjust(image: NDArray[np.float32], draw: NDArray[np.float64]) -> NDArray[np.float32]:
    """Brightness, contrast and saturation scaled by 1 + draw, in that order.

    Clipped to [0, 255].
    """
    brightness, contrast, saturation = (np.float32(1 + d) for d in draw)
    image = np.clip(image * brightness, 0, 255)
    mean = _grey(image).mean(dtype=np.float32)
    image = np.clip((image - mean) * contrast + mean, 0, 255)
    grey = _grey(image)[..., None]
    return np.clip((image - grey) * saturation + grey, 0, 255)


def _grey(image: NDArray[np.float32]) -> NDArray[np.float32]:
    return cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)


def collate(clips: list["VideoDatapoint"]) -> "BatchedVideoDatapoint":
    """SAM2's own batch: img_batch T×B×3×S×S, masks T×O×S×S, obj_to_frame_idx T×O×2.

    With the clips' clicks, if any.
    """
    from training.utils.data_utils import collate_fn

    batch = collate_fn(clips, dict_key="scan")
    if not hasattr(clips[0].frames[0].objects[0], "click"):
        return batch
    from panoforge.train.data.clicks import with_clicks

    return with_clicks(batch, clips)
