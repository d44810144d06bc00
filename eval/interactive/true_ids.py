"""A panorama whose ids are known, asked by clicks: what the sample room of `pano serve` answers.

No model and no view: a click takes the whole id under it. `--predictor truth` goes the way of
scores instead, through views and their merge.
"""

from collections.abc import Sequence

import numpy as np

from panoforge.core.errors import UsageError
from panoforge.core.geometry.pixels import pixel_at
from panoforge.core.types import Labels, Mask
from panoforge.eval.interactive.clicks import SphereClick


class TrueIds:
    """One panorama that can be asked; `labels` uint16 H×W, 0 is nothing."""

    words = "the sample room's own ids, no model; your pictures by their colours and edges"

    def __init__(self, labels: Labels) -> None:
        self._labels = labels

    def mask(self, clicks: Sequence[SphereClick]) -> Mask:
        """The ids under positive clicks without those under negative ones, bool H×W."""
        taken = {self._id_at(one) for one in clicks if one.positive}
        taken -= {self._id_at(one) for one in clicks if not one.positive} | {0}
        return np.asarray(np.isin(self._labels, list(taken)))

    def mask_in(self, region: Mask) -> Mask:
        """The id of which most lies in a region, bool H×W. UsageError where none does."""
        counts = np.bincount(self._labels[region], minlength=1)
        counts[0] = 0
        if not counts.any():
            raise UsageError("no id is known in that box: draw it around a thing")
        return np.asarray(self._labels == counts.argmax())

    def towards(self, lon_deg: float, lat_deg: float) -> None:
        """It is ready for clicks everywhere."""

    def held_bytes(self) -> int:
        """The ids'."""
        return self._labels.nbytes

    def let_go(self) -> None:
        """Drop what is kept for the picture: nothing."""

    def _id_at(self, click: SphereClick) -> int:
        height, width = self._labels.shape
        lon, lat = np.radians(click.lon_deg), np.radians(click.lat_deg)
        column, row = pixel_at(lon, lat, width, height)
        return int(self._labels[row, column])
