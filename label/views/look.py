"""Looking: the pictures of a set of views, one after the other.

Colours are averaged along the stretched rows towards the poles first (`prefilter_rows`), so that
views of a pole do not alias. One view is held at a time.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from panoforge.core.geometry.views import check_panorama_size, wrap_panorama
from panoforge.core.types import Rgb
from panoforge.eval.views.frames import Projection
from panoforge.label.teachers.base import ViewImage


def look(rgb: Rgb, frames: Sequence[Projection], panorama: str = "") -> Iterator[ViewImage]:
    """What teachers are shown of a panorama.

    Args:
        rgb: uint8 (H, W, 3), the whole sphere.
        frames: Of a set of views over that size.
        panorama: Its key.

    Raises:
        DataError: The picture is not twice as wide as high.
    """
    check_panorama_size(rgb.shape[1], rgb.shape[0], panorama or "the picture")
    wrapped = wrap_panorama(rgb, prefilter=True)
    for index, frame in enumerate(frames):
        yield ViewImage(np.ascontiguousarray(frame.sample(wrapped)), frame, index, panorama)
