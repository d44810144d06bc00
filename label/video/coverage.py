"""How much of a frame is labelled, and where it is not.

Slivers between objects are no blank areas: they vanish under an opening by a pixel or two. Where a
partial sphere shows nothing, nothing is asked for.
"""

from dataclasses import dataclass, field

import cv2
import numpy as np

from panoforge.core.geometry.shapes import sphere_parts
from panoforge.core.types import Labels, Mask
from panoforge.label.video.masks import areas_sr, middle_deg, on_seam

SLIVER = 1 / 512  # of the width: what is thinner is the border between two objects
MOST_BLANKS = 64  # of a frame: a mask of each of thousands would not fit into memory


@dataclass(frozen=True)
class Blank:
    """One connected area without a label.

    Attributes:
        mask: bool H×W.
        area_sr: its solid angle.
        at_deg: longitude and latitude of its middle.
        border: whether it lies at the left or right border of the picture.
    """

    mask: Mask = field(repr=False)
    area_sr: float
    at_deg: tuple[float, float]
    border: bool


@dataclass(frozen=True)
class Coverage:
    """`share` of the seen solid angle that has a label, and the blank areas, the largest first."""

    share: float
    blanks: tuple[Blank, ...]


def coverage_of(labels: Labels, tolerance: float, seen: Mask | None = None) -> Coverage:
    """The coverage of a label map.

    Args:
        labels: uint16 H×W, 0 is nothing.
        tolerance: the share of the seen sphere up to which a blank area is let be (A3360V: 0.002).
        seen: bool H×W, what the panorama shows; None is all of it.
    """
    empty = labels == 0
    if seen is not None:
        empty &= seen
    whole = float(areas_sr([np.ones_like(empty) if seen is None else seen])[0])
    if not whole:
        return Coverage(1.0, ())
    share = 1 - float(areas_sr([empty])[0]) / whole
    found = [blank for blank in _blanks(_opened(empty)) if blank.area_sr > tolerance * whole]
    return Coverage(share, tuple(sorted(found, key=lambda blank: -blank.area_sr)))


def _opened(empty: Mask) -> Mask:
    """Without what is thinner than a sliver; columns wrap."""
    radius = max(1, round(SLIVER * empty.shape[1] / 2))
    kernel = np.ones((2 * radius + 1,) * 2, np.uint8)
    wide = np.pad(empty.astype(np.uint8), ((0, 0), (2 * radius,) * 2), mode="wrap")
    wide = np.pad(wide, ((2 * radius,) * 2, (0, 0)), mode="edge")
    opened = cv2.morphologyEx(wide, cv2.MORPH_OPEN, kernel)
    return opened[2 * radius : -2 * radius, 2 * radius : -2 * radius] > 0


def _blanks(empty: Mask) -> list[Blank]:
    parts, count = sphere_parts(empty)
    masks = [parts == k for k in range(1, min(count, MOST_BLANKS) + 1)]  # the largest first
    areas = areas_sr(masks).tolist()
    return [
        Blank(mask, area, middle_deg(mask), on_seam(mask))
        for mask, area in zip(masks, areas, strict=True)
    ]
