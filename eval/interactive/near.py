"""SAM2 on one view near the clicks: what answers on the page.

A scan looks at the whole sphere for every object: right for scores, and some 24 times the work of
one view. A person who clicks on a thing looks at it, so the view that she looks at is enough. It is
one of a fixed grid: its features are computed once and serve all things that are seen in it. They
can be computed before she clicks (`towards`).

What it is not: a thing that reaches beyond the view, 100° wide, is cut off there. Another click on
what is missing asks another view, and the two masks are joined.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np

from panoforge.core.errors import UsageError
from panoforge.core.geometry.pixels import column_lon, resize_index, row_lat
from panoforge.core.geometry.sphere import (
    View,
    direction_to_lonlat,
    direction_to_view_pixel,
    lonlat_to_direction,
    pixel_to_direction,
    view_pixel_to_direction,
)
from panoforge.core.geometry.views import sample_view, wrap_panorama
from panoforge.core.types import Floats, Mask, Rgb
from panoforge.eval.interactive.clicks import SphereClick
from panoforge.eval.predictors import FrameInput, ObjectPrompt

if TYPE_CHECKING:
    import torch

FOV_DEG, KEPT_VIEWS = 100.0, 12
_RINGS = ((-90.0, 1), (-45.0, 6), (0.0, 8), (45.0, 6), (90.0, 1))  # latitude, how many around it
GRID = tuple((360.0 * k / n - 180.0, lat) for lat, n in _RINGS for k in range(n))
_MARGIN = 0.1  # of the view: a click nearer to its edge gets a view of its own
_SAMPLES = 20_000
_BAND_ROWS, _FRAME_POINTS, _POLAR_DEG = 128, 65, 75.0


class ViewPredictor(Protocol):
    """What is asked about views: SAM2 that keeps features, or one that works likewise."""

    def keep(self, frames: Sequence[FrameInput], /) -> None:
        """Encode these frames, for all questions about them until `forget`."""
        ...

    def forget(self, frames: Sequence[FrameInput], /) -> None:
        """Let the features of frames go."""
        ...

    def kept_bytes(self, frames: Sequence[FrameInput], /) -> int:
        """What features of these frames take."""
        ...

    def look(
        self, frames: Sequence[FrameInput], prompts: Sequence[ObjectPrompt], /
    ) -> Sequence["torch.Tensor | None"]:
        """Each object's logits h×w in its own frame; None: it is not there."""
        ...


class NearSegmenter:
    """One panorama, `rgb` uint8 H×W×3, ready to be asked; `size_px` is what the model looks at."""

    def __init__(self, rgb: Rgb, predictor: ViewPredictor, size_px: int) -> None:
        self._height, self._width = rgb.shape[:2]
        self._panorama, self._predictor, self._size_px = wrap_panorama(rgb), predictor, size_px
        self._grid = np.stack([_direction(lon, lat) for lon, lat in GRID])
        self._frames: OrderedDict[int, FrameInput] = OrderedDict()

    def towards(self, lon_deg: float, lat_deg: float) -> None:
        """Encode the view of things there, so that a click on them is answered at once."""
        self._frame(self._nearest(_direction(lon_deg, lat_deg)))

    def mask(self, clicks: Sequence[SphereClick]) -> Mask:
        """The mask of one object, bool H×W; empty if no click is on it."""
        on = [_direction(c.lon_deg, c.lat_deg) for c in clicks if c.positive]
        off = [_direction(c.lon_deg, c.lat_deg) for c in clicks if not c.positive]
        found = self._nothing()
        while on:
            number = self._nearest(on[0])
            seen = [self._sees(number, direction) for direction in on]
            seen[0] = True  # whatever its place in the view that is nearest to it
            here = [direction for direction, is_seen in zip(on, seen, strict=True) if is_seen]
            on = [direction for direction, is_seen in zip(on, seen, strict=True) if not is_seen]
            not_it = [direction for direction in off if self._sees(number, direction)]
            x, y, _ = direction_to_view_pixel(np.stack([*here, *not_it]), self._view(number))
            labels = np.array([1] * len(here) + [0] * len(not_it), np.int32)
            found |= self._answer(number, np.stack([x, y], axis=1), labels)
        return found

    def mask_in(self, region: Mask) -> Mask:
        """The mask of the thing that a region, bool H×W, is drawn around.

        Raises:
            UsageError: the region reaches beyond the view that sees its middle.
        """
        at = np.flatnonzero(region)
        at = at[:: max(1, at.size // _SAMPLES)]
        if not at.size:
            return np.zeros_like(region)
        directions = pixel_to_direction(at % self._width, at // self._width, *self._size)
        number = self._nearest(directions.mean(axis=0))
        x, y, inside = direction_to_view_pixel(directions, self._view(number))
        if not inside.all():
            raise UsageError(
                f"the box is wider than the view of {FOV_DEG:.0f}° that the model is shown: draw"
                " around a part of the thing, or click on it"
            )
        corners = np.array([[x.min(), y.min()], [x.max(), y.max()]], np.float64)
        return self._answer(number, corners, np.array([2, 3], np.int32))

    def held_bytes(self) -> int:
        """The picture's, its views' and their features'."""
        frames = list(self._frames.values())
        views = sum(frame.image.nbytes + frame.labels.nbytes for frame in frames)
        return self._panorama.data.nbytes + views + self._predictor.kept_bytes(frames)

    def let_go(self) -> None:
        """Drop the features that are kept for this picture."""
        self._predictor.forget(list(self._frames.values()))
        self._frames.clear()

    @property
    def _size(self) -> tuple[int, int]:
        return self._width, self._height

    def _nothing(self) -> Mask:
        return np.zeros((self._height, self._width), bool)

    def _nearest(self, direction: Floats) -> int:
        return int((self._grid @ direction).argmax())

    def _view(self, number: int) -> View:
        return View(*GRID[number], FOV_DEG, self._size_px)

    def _sees(self, number: int, direction: Floats) -> bool:
        x, y, inside = direction_to_view_pixel(direction, self._view(number))
        low, high = _MARGIN * self._size_px, (1 - _MARGIN) * self._size_px
        return bool(inside and low <= x <= high and low <= y <= high)

    def _frame(self, number: int) -> FrameInput:
        """The view, encoded; the ones that were asked longest ago are let go."""
        if number not in self._frames:
            image = sample_view(self._panorama, self._view(number))
            frame = FrameInput(image, np.zeros(image.shape[:2], np.uint16))
            self._predictor.keep([frame])
            self._frames[number] = frame
            if len(self._frames) > KEPT_VIEWS:
                self._predictor.forget([self._frames.popitem(last=False)[1]])
        self._frames.move_to_end(number)
        return self._frames[number]

    def _answer(self, number: int, points: Floats, labels: np.ndarray) -> Mask:
        prompt = ObjectPrompt(1, {0: (np.asarray(points, np.float64), labels)})
        (said,) = self._predictor.look([self._frame(number)], [prompt])
        if said is None:
            return self._nothing()
        logits = said.float().cpu().numpy()
        return on_sphere(logits, self._view(number), *self._size)


def on_sphere(found: Floats, view: View, width: int, height: int) -> Mask:
    """The mask of what is found in a view: the work is that of its size on the panorama.

    Args:
        found: float32 size×size of any resolution; above 0 is the thing.
        view: where it was found.
        width: of the panorama, pixels.
        height: of the panorama, pixels.

    Returns:
        The mask, bool H×W.
    """
    out = np.zeros((height, width), bool)
    v, u = np.nonzero(found > 0)
    if not v.size:
        return out
    size_px = found.shape[0]
    x, y = (
        resize_index(np.linspace(at.min() - 1, at.max() + 1, _FRAME_POINTS), size_px, view.size_px)
        for at in (u, v)
    )
    lon, lat = direction_to_lonlat(view_pixel_to_direction(x[None], y[:, None], view))
    turn = _turn_deg(lon, lon[_FRAME_POINTS // 2, _FRAME_POINTS // 2])
    low, high = float(np.degrees(lat.min())), float(np.degrees(lat.max()))
    for pole_deg in (-90.0, 90.0):
        px, py, seen = direction_to_view_pixel(_direction(0.0, pole_deg), view)
        if seen and x[0] <= px <= x[-1] and y[0] <= py <= y[-1]:
            low, high = min(low, pole_deg), max(high, pole_deg)
    more = 2 * 360 / width + 0.02 * (high - low)
    rows = np.flatnonzero(_between(np.degrees(row_lat(np.arange(height), height)), low, high, more))
    columns = np.arange(width)
    if max(-low, high) < _POLAR_DEG:  # meridians are close to each other beyond
        away = _turn_deg(column_lon(columns, width), lon[_FRAME_POINTS // 2, _FRAME_POINTS // 2])
        wide = 2 * 360 / width + 0.02 * float(turn.max() - turn.min())
        columns = np.flatnonzero(_between(away, float(turn.min()), float(turn.max()), wide))
    for start in range(0, rows.size, _BAND_ROWS):
        band = rows[start : start + _BAND_ROWS]
        directions = pixel_to_direction(columns[None], band[:, None], width, height)
        px, py, seen = direction_to_view_pixel(directions, view)
        logits = cv2.remap(  # which takes float32 places only
            found,
            resize_index(np.nan_to_num(px, nan=-1), view.size_px, size_px).astype(np.float32),
            resize_index(np.nan_to_num(py, nan=-1), view.size_px, size_px).astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        out[np.ix_(band, columns)] = seen & (logits > 0)
    return out


def _turn_deg(lon: Floats, middle: Floats) -> Floats:
    """Longitudes (radians) as turns from one, −180 to 180 degrees."""
    return np.asarray((np.degrees(lon - middle) + 180) % 360 - 180)


def _between(values: Floats, low: float, high: float, more: float) -> Mask:
    return np.asarray((values >= low - more) & (values <= high + more))


def _direction(lon_deg: float, lat_deg: float) -> Floats:
    return lonlat_to_direction(np.radians(lon_deg), np.radians(lat_deg))
