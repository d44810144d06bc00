"""The second look as training data (`kind: looks` in a mixture): what `scan_zoom` asks of a model.

A clip has two frames and one object of a panorama of the run. The first is a view of the scan with
the object's click. The second is the closer view that `scan_zoom` would take of it, with the same
click. Its mask prompt is what the model itself said of the first frame, moved to where the second
one has it (`panoforge.train.model.scan_sam2`). So the model meets its own mistakes, not true masks.

In use the prompt is merged from all views that see the object; here one view stands for them. The
closer view is fitted to the true mask, with a margin drawn between MARGINS, as the scan's mask is
larger or smaller than the truth.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from panoforge.core.errors import DataError
from panoforge.core.geometry.bfov import Bfov, closer_view, fit_bfov
from panoforge.core.geometry.pixels import index_to_place, pixel_places, place_to_index
from panoforge.core.geometry.scan import ScanSpec, scan_views
from panoforge.core.geometry.sphere import (
    View,
    direction_to_view_pixel,
    row_area_sr,
    view_pixel_to_direction,
)
from panoforge.core.geometry.views import sample_directions, sample_view, wrap_panorama
from panoforge.core.shards.read import Dataset, Sample
from panoforge.core.types import Floats
from panoforge.train.config import TrainConfig
from panoforge.train.data.clips import (
    areas_sr,
    jitter_colours,
    normalise,
    panorama_arrays,
    weighted_count,
)
from panoforge.train.data.plan import LOOK_LANE, ClipPlan, clip_plan
from panoforge.train.data.sources.draw import source_seed
from panoforge.train.data.sources.shards import Shards
from panoforge.train.settings.clips import ClipSettings

if TYPE_CHECKING:
    from training.utils.data_utils import VideoDatapoint

    from panoforge.train.data.clicks import PixelXY

MARGINS = (1.0, 1.6)  # scan_zoom's is 1.25
MAX_FOV_DEG, MIN_FOV_DEG, MAX_ASPECT, TRIM = 75.0, 4.0, 2.0, 0.002  # those of scan_zoom
LOGIT_PX = 4  # pixels of a frame to a logit of SAM2


class Looks(Shards):
    """Closer looks at objects of one split; draws apart from the scans of the same panoramas."""

    def __init__(self, name: str, dataset: Dataset, config: TrainConfig) -> None:
        super().__init__(name, dataset, config)
        self.seed = source_seed(config.seed, name)

    def plan(self, position: int) -> ClipPlan:
        """The clip at `position`, before any pixel."""
        return clip_plan(self.config.clip, self.seed, position, self.widths)

    def clip(self, position: int) -> "VideoDatapoint":
        """The clip at `position`, a pure function of seed and position."""
        plan = self.plan(position)
        size_px = self.config.model.image_size
        return look_clip(self.sample(plan), plan, self.config.clip, size_px)


def look_clip(
    sample: Sample, plan: ClipPlan, settings: ClipSettings, size_px: int
) -> "VideoDatapoint":
    """A view and a closer look at one object of `sample`, size_px×size_px."""
    import torch
    from training.utils.data_utils import Frame, VideoDatapoint

    from panoforge.train.data.clicks import LookedAtObject, drawn_clicks

    rgb, labels = panorama_arrays(sample)
    rng = np.random.default_rng([plan.object_seed, LOOK_LANE])
    views = scan_views(ScanSpec(settings.fov_deg, settings.overlap, size_px), plan.yaw0_deg)
    views = tuple(
        replace(v, fov_deg=plan.fov_deg) for v in views[plan.start :] + views[: plan.start]
    )
    id_, view, look = choose_look(labels, views, settings, rng, sample.key)
    place = pixel_places(size_px)
    rays = look.directions(place[None, :], place[:, None])
    pictures, ids = wrap_panorama(rgb), wrap_panorama(labels)
    images = [sample_view(pictures, view), sample_directions(pictures, rays)]
    masks = [
        sample_view(ids, view, labels=True) == id_,
        sample_directions(ids, rays, labels=True) == id_,
    ]

    def followed(click: "PixelXY") -> Iterator[Floats]:
        direction = view_pixel_to_direction(click[0], click[1], view)
        yield np.array([place_to_index(p, size_px) for p in look.places(direction)])

    clicks = drawn_clicks(masks, rng, followed)
    places = prior_places(view, look, size_px // LOGIT_PX)
    if plan.flip:
        images, masks = [i[:, ::-1] for i in images], [m[:, ::-1] for m in masks]
        clicks = [c and (size_px - 1 - c[0], c[1]) for c in clicks]
        places = places[:, ::-1] * np.array([-1, 1], np.float32)
    images = jitter_colours(images, settings, np.random.default_rng(plan.colour_seed))
    frames = []
    for t, (image, mask, click) in enumerate(zip(images, masks, clicks, strict=True)):
        segment = torch.from_numpy(np.ascontiguousarray(mask))
        prior = np.ascontiguousarray(places) if t else None
        frames.append(
            Frame(
                torch.from_numpy(normalise(image)), [LookedAtObject(id_, t, segment, click, prior)]
            )
        )
    return VideoDatapoint(frames, plan.position, (size_px, size_px))


def choose_look(
    labels: NDArray[np.uint16],
    views: tuple[View, ...],
    settings: ClipSettings,
    rng: np.random.Generator,
    key: str,
) -> tuple[int, View, Bfov]:
    """An object, a view of the scan that shows at least `min_area_sr` of it, the look at it."""
    height, width = labels.shape
    areas = weighted_count(labels, np.repeat(row_area_sr(width, height), width).reshape(height, -1))
    ids = np.flatnonzero(areas >= settings.min_area_sr)
    ids = ids[ids > 0]
    chance = areas[ids] ** settings.area_power
    chance /= max(chance.sum(), np.finfo(float).tiny)
    order = rng.choice(ids, size=len(ids), replace=False, p=chance) if len(ids) else ids
    wrapped, margin = wrap_panorama(labels), float(rng.uniform(*MARGINS))
    for id_ in order:
        look = closer_view(
            fit_bfov(labels == id_, trim=TRIM),
            margin=margin,
            min_fov_deg=MIN_FOV_DEG,
            max_fov_deg=MAX_FOV_DEG,
            max_aspect=MAX_ASPECT,
        )
        if look is None:
            continue
        for view in views:
            shown = areas_sr(sample_view(wrapped, view, labels=True), view.fov_deg)
            if len(shown) > id_ and shown[id_] >= settings.min_area_sr:
                return int(id_), view, look
    raise DataError(
        f"{key}: it has no instance of at least clip.min_area_sr = {settings.min_area_sr} sr and at"
        f" most {MAX_FOV_DEG:g}° wide, so there is nothing to look at: lower clip.min_area_sr, or"
        " leave the panorama out of the dataset"
    )


def prior_places(view: View, look: Bfov, logits: int) -> NDArray[np.float32]:
    """Where in `view` each of logits×logits places of `look` lies, normalised; 2 where outside."""
    place = pixel_places(logits)
    x, y, inside = direction_to_view_pixel(look.directions(place[None, :], place[:, None]), view)
    found = np.stack([index_to_place(x, view.size_px), index_to_place(y, view.size_px)], axis=-1)
    return np.where(inside[..., None], found, 2.0).astype(np.float32)
