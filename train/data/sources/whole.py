"""A clip of whole panoramas (`clip.frames_are: panorama`), which turn `turn_deg` a frame.

For PanoSAM2's parts and for ablations. Upright, frame t is the panorama rolled by whole columns,
squeezed to S×S. With `tilt_jitter_deg` the camera leans by the plan's draw while it turns about the
vertical. So an object goes up and down through the latitudes. Ray d of frame t looks at

    direction = Z(yaw_t) · T · d

with T of `panoforge.train.data.warp` (a lean forwards is a pitch, to the side a roll). Pictures are
sampled bilinearly from the squeezed panorama. Ids are those of the panorama's pixels that the rays
of pixel centres hit; none is interpolated.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from panoforge.core.geometry.pixels import pixel_at, whole_columns
from panoforge.core.geometry.sphere import (
    direction_to_lonlat,
    direction_to_pixel,
    pixel_to_direction,
    row_area_sr,
)
from panoforge.core.geometry.views import sample_directions, wrap_panorama
from panoforge.core.shards.read import Sample
from panoforge.core.types import Floats, Matrix
from panoforge.train.data.clips import (
    add_clicks,
    choose_objects,
    nothing_seen,
    panorama_arrays,
    weighted_count,
)
from panoforge.train.data.plan import ClipPlan
from panoforge.train.data.sources.draw import Draw, make_clip, square_image
from panoforge.train.data.warp import tilt_matrix
from panoforge.train.settings.clips import ClipSettings

if TYPE_CHECKING:
    from training.utils.data_utils import VideoDatapoint

    from panoforge.train.data.clicks import PixelXY


def whole_clip(
    sample: Sample, plan: ClipPlan, settings: ClipSettings, size_px: int, *, clicks: bool = False
) -> "VideoDatapoint":
    """The clip of `plan`: whole panoramas at size_px×size_px; with `clicks`, one for each object.

    Objects are drawn by their solid angle among those of at least `min_area_sr`.
    """
    rgb, labels = panorama_arrays(sample)
    height, width = labels.shape
    areas = weighted_count(labels, np.repeat(row_area_sr(width, height), width))
    ids = choose_objects(areas, settings, np.random.default_rng(plan.object_seed))
    if not ids:
        raise nothing_seen(sample.key, "pixel", settings)
    turns = [frame_rotation(plan, settings, t, width) for t in range(settings.frames)]
    images: list[NDArray]
    if plan.tilt_deg:
        images, seen = leaning(rgb, labels, turns, size_px)
    else:
        shifts = [whole_columns(yaw_deg(plan, settings, t), width)[0] for t in range(len(turns))]
        images = [np.roll(rgb, -shift, axis=1) for shift in shifts]
        seen = [np.roll(labels, -shift, axis=1) for shift in shifts]
    clip = make_clip(
        plan.position,
        images,
        {i: [ids_of_frame == i for ids_of_frame in seen] for i in ids},
        Draw(
            plan.object_seed, settings.model_copy(update={"flip": float(plan.flip)}), size_px, 0.0
        ),
        np.random.default_rng(plan.colour_seed),
    )
    if clicks:
        from panoforge.train.data.clicks import drawn_clicks

        def places(click: "PixelXY") -> Iterator[Floats]:
            direction = turns[0] @ pixel_to_direction(*click, size_px, size_px)
            for turn in turns[1:]:
                yield np.stack(direction_to_pixel(direction @ turn, size_px, size_px))

        add_clicks(clip.frames, plan, lambda masks, rng: drawn_clicks(masks, rng, places))
    return clip


def yaw_deg(plan: ClipPlan, settings: ClipSettings, frame: int) -> float:
    """Where a frame's middle looks, upright."""
    turn = -settings.turn_deg if plan.reverse else settings.turn_deg
    return plan.yaw0_deg + frame * turn


def frame_rotation(plan: ClipPlan, settings: ClipSettings, frame: int, width: int) -> Matrix:
    """Z(yaw_t) · T above, 3×3; upright, yaw is a whole number of the panorama's columns."""
    yaw = yaw_deg(plan, settings, frame)
    if not plan.tilt_deg:
        yaw = whole_columns(yaw, width)[0] / width * 360
    return still_rotation(plan, yaw)


def still_rotation(plan: ClipPlan, yaw: float | None = None) -> Matrix:
    """Z(yaw) · T above, 3×3; of a camera that does not turn, at the plan's own yaw."""
    yaw = plan.yaw0_deg if yaw is None else yaw
    return about_vertical(yaw) @ tilt_matrix(plan.tilt_deg, plan.tilt_towards_deg)


def about_vertical(yaw_deg: float) -> Matrix:
    """Z above, 3×3: takes what is ahead to longitude `yaw_deg`."""
    c, s = np.cos(np.radians(yaw_deg)), np.sin(np.radians(yaw_deg))
    return np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]])


def leaning(
    rgb: NDArray[np.uint8], labels: NDArray[np.uint16], turns: list[Matrix], size_px: int
) -> tuple[list[NDArray], list[NDArray]]:
    """Pictures and ids of a panorama under 3×3 rotations, S×S each."""
    height, width = labels.shape
    squeezed = wrap_panorama(square_image(rgb, size_px))
    place = np.arange(size_px)
    rays = pixel_to_direction(place[None, :], place[:, None], size_px, size_px)
    images, seen = [], []
    for turn in turns:
        directions = rays @ turn.T
        images.append(sample_directions(squeezed, directions))
        column, row = pixel_at(*direction_to_lonlat(directions), width, height)
        seen.append(labels[row, column])
    return images, seen
