"""Faces and number plates made unreadable in the pictures that are written.

Who finds them is a teacher like any other; here is what is done to what it finds. A block of pixels
takes the mean of what it covers, and a face is a few blocks. Unlike a blur, that cannot be undone
by deconvolution.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from panoforge.core.types import Mask, Rgb
from panoforge.label.video.masks import box_of

BLOCKS = 5  # across the shorter side of what is hidden
MARGIN = 0.15  # of the box, around what was found


def hidden(rgb: Rgb, masks: Sequence[Mask]) -> Rgb:
    """A copy of a panorama with the boxes around masks in coarse blocks; boxes cross the seam."""
    out = rgb.copy()
    height, width = rgb.shape[:2]
    for mask in masks:
        if not mask.any():
            continue
        box = box_of(mask)
        more_u, more_v = 1 + round(MARGIN * box.width), 1 + round(MARGIN * box.height)
        columns = np.arange(min(width, box.width + 2 * more_u)) + box.u0 - more_u
        columns %= width
        rows = np.arange(max(0, box.v0 - more_v), min(height, box.v0 + box.height + more_v))
        where = np.ix_(rows, columns)
        part = out[where]
        side = max(1, min(part.shape[:2]) // BLOCKS)
        size = max(1, part.shape[1] // side), max(1, part.shape[0] // side)
        small = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
        out[where] = cv2.resize(small, part.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    return out
