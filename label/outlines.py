"""Outlines moved by so many pixels: how masks are spoilt on purpose."""

import cv2
import numpy as np

from panoforge.core.types import Mask


def grown(mask: Mask, pixels: int, *, wraps: bool = True) -> Mask:
    """A mask grown by so many pixels, or shrunk where that is negative.

    Args:
        mask: bool H×W.
        pixels: How far, by a disc of that radius.
        wraps: Columns go on over the seam; a view's do not, and what it does not show is no edge.
    """
    if not pixels or not mask.any():
        return mask
    side = abs(pixels)
    wide = mask.astype(np.uint8)
    if wraps:
        wide = np.pad(wide, ((0, 0), (side, side)), mode="wrap")
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * side + 1,) * 2)
    change = cv2.dilate if pixels > 0 else cv2.erode
    moved = change(wide, disc)
    return np.asarray((moved[:, side:-side] if wraps else moved) > 0)
