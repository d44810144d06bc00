"""A clip of whole panoramas (`clip.frames_are: panorama`), which turn `turn_deg` a frame.

For PanoSAM2's parts and for ablations. Upright, frame t is the panorama rolled by whole columns,
squeezed to S×S. With `tilt_jitter_deg` the camera leans by the plan's draw while it turns about the
vertical. So an object goes up and down through the latitudes. Ray d of frame t looks at

    direction = Z(yaw_t) · T · d

with T of `panoforge.train.data.warp` (a lean forwards is a pitch, to the side a roll). Pictures are
sampled bilinearly from the squeezed panorama. Ids are those of the panorama's pixels that the rays
of pixel centres hit; none is interpolated. Frames of a video share one turn (`StillTurn`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
from panoforge.core.types import Floats, Ints, Matrix
from panoforge.train.data.clips import (
    add_clicks,
    choose_objects,
    nothing_seen,
    panorama_arrays,
    weighted_count,
)
from panoforge.train.data.plan import ClipPlan
from panoforge.train.data.sources.draw import Draw, as_planned, make_clip, square_image
from panoforge.train.data.warp import tilt_matrix
from panoforge.train.settings.clips import ClipSettings

if TYPE_CHECKING:
    from training.utils.data_utils import VideoDatapoint

    from panoforge.train.data.clicks import PixelXY

BORDER_RAD = 1e-9  # a millionth of the columns of 16K: far above rounding, far below a pixel


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
        Draw(plan.object_seed, as_planned(settings, plan), size_px, 0.0),
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
    return about_vertical(yaw) @ tilt_matrix(plan.tilt_deg, plan.tilt_towards_deg)


@dataclass(frozen=True)
class StillTurn:
    """One turn and lean of the camera for all frames of a video."""

    yaw_deg: float
    tilt_deg: float = 0.0
    tilt_towards_deg: float = 0.0

    def shown(
        self, rgb: NDArray[np.uint8], maps: Sequence[NDArray], size_px: int
    ) -> tuple[NDArray[np.uint8], list[NDArray]]:
        """A panorama H×W×3 and its maps H×W (ids, masks) as the turned camera sees them.

        Leant S×S; upright they keep their size, as whole columns are moved.
        """
        if self.tilt_deg:
            turn = about_vertical(self.yaw_deg) @ tilt_matrix(self.tilt_deg, self.tilt_towards_deg)
            images, places = looked_at(rgb, [turn], size_px)
            return images[0], [one[places[0]] for one in maps]
        shift = whole_columns(self.yaw_deg, rgb.shape[1])[0]
        return np.roll(rgb, -shift, axis=1), [np.roll(one, -shift, axis=1) for one in maps]


def about_vertical(yaw_deg: float) -> Matrix:
    """Z above, 3×3: takes what is ahead to longitude `yaw_deg`."""
    c, s = np.cos(np.radians(yaw_deg)), np.sin(np.radians(yaw_deg))
    return np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]])


def leaning(
    rgb: NDArray[np.uint8], labels: NDArray[np.uint16], turns: list[Matrix], size_px: int
) -> tuple[list[NDArray], list[NDArray]]:
    """Pictures and ids of a panorama under 3×3 rotations, S×S each."""
    images, places = looked_at(rgb, turns, size_px)
    return images, [labels[at] for at in places]


def looked_at(
    rgb: NDArray[np.uint8], turns: list[Matrix], size_px: int
) -> tuple[list[NDArray], list[tuple[Ints, Ints]]]:
    """Pictures under 3×3 rotations, S×S×3, and (rows, columns) S×S of the pixels their rays hit."""
    height, width = rgb.shape[:2]
    squeezed = wrap_panorama(square_image(rgb, size_px))
    place = np.arange(size_px)
    rays = pixel_to_direction(place[None, :], place[:, None], size_px, size_px)
    images, places = [], []
    for turn in turns:
        directions = rays @ turn.T
        images.append(sample_directions(squeezed, directions))
        lon, lat = direction_to_lonlat(directions)
        # A ray that meets the border of two pixels takes the one after it, not what rounding says.
        column, row = pixel_at(lon + BORDER_RAD, lat - BORDER_RAD, width, height)
        places.append((row, column))
    return images, places
