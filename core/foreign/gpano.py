"""Where a picture lies on the sphere, by its Photo Sphere tags (XMP, namespace GPano).

Cameras and stitchers write them: developers.google.com/streetview/spherical-metadata. A picture may
be a crop of the full panorama: it is laid into an otherwise black one. Only equirectangular ones
are placed; others (cylinders) would have to be resampled, and are refused with the way out.
"""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from panoforge.core.errors import DataError

_TAG = re.compile(
    rb'GPano:([A-Za-z]+)\s*=\s*["\']([^"\']{0,64})["\']|<GPano:([A-Za-z]+)>([^<]{0,64})</GPano:'
)
_SIZES = ("CroppedAreaImageWidthPixels", "CroppedAreaImageHeightPixels", "FullPanoWidthPixels",
          "FullPanoHeightPixels", "CroppedAreaLeftPixels", "CroppedAreaTopPixels")  # fmt: skip


@dataclass(frozen=True)
class Placement:
    """A picture's place on the full panorama of `width`×`height` pixels."""

    width: int
    height: int
    left: int
    top: int

    def place(self, pixels: NDArray) -> NDArray:
        """`pixels` (h×w or h×w×C, a picture or its label map) on the full panorama, 0 around it.

        Columns wrap.
        """
        rows, columns = pixels.shape[:2]
        whole = np.zeros((self.height, self.width, *pixels.shape[2:]), pixels.dtype)
        whole[self.top : self.top + rows, (self.left + np.arange(columns)) % self.width] = pixels
        return whole


def gpano_placement(xmp: bytes, width: int, height: int, name: str) -> Placement | None:
    """The place of a `width`×`height` picture with that XMP packet; None if it says nothing.

    Raises:
        DataError: the picture is of another projection, or the tags contradict it.
    """
    tags = {
        (match[1] or match[3]).decode(): (match[2] or match[4] or b"").decode("utf-8", "replace")
        for match in _TAG.finditer(xmp)
    }
    projection = tags.get("ProjectionType", "equirectangular").strip().lower()
    if projection != "equirectangular":
        raise DataError(
            f"{name} is a panorama of projection {projection!r} (its GPano tags say so), expected"
            " equirectangular: convert it with Hugin or the stitcher that made it"
        )
    if not any(tag in tags for tag in _SIZES):
        return None
    crop_width, crop_height, full_width, full_height, left, top = _numbers(tags, name)
    if crop_width * height != crop_height * width:
        raise DataError(
            f"{name} is {width}×{height}, its GPano tags describe a crop of"
            f" {crop_width}×{crop_height}: it was edited after they were written, remove or mend"
            " them (exiftool -XMP-GPano:all= FILE)"
        )
    scaled = [side * width / crop_width for side in (full_width, full_height, left, top)]
    whole = [round(side) for side in scaled]
    fits = whole[0] == 2 * whole[1] and width <= whole[0] and whole[3] + height <= whole[1]
    if not fits or any(abs(a - b) > 0.01 for a, b in zip(scaled, whole, strict=True)):
        raise DataError(
            f"{name}: its GPano tags place {width}×{height} pixels at {scaled[2]:g}, {scaled[3]:g}"
            f" of {scaled[0]:g}×{scaled[1]:g}: expected whole pixels inside a panorama twice as"
            " wide as high"
        )
    return Placement(*whole)


def _numbers(tags: dict[str, str], name: str) -> list[int]:
    try:
        numbers = [int(float(tags[tag])) for tag in _SIZES]
    except (KeyError, ValueError, OverflowError) as error:
        raise DataError(
            f"{name}: its GPano tags are incomplete or garbled ({error}): expected"
            f" {', '.join(_SIZES)}"
        ) from None
    if min(numbers) < 0 or min(numbers[:4]) < 1 or max(numbers) > 1 << 20:
        raise DataError(
            f"{name}: its GPano tags are out of range: {numbers}."
            " Expected sizes from 1 px and places from 0: write them anew, or take them out"
        )
    return numbers
