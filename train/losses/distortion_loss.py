"""The distortion-guided mask loss (PanoSAM2 §3.3, Algorithm 2): each pixel's weight from the local
geometry of the panorama.

The true mask's bounding field of view (BFoV: the spherical box around it, widened by a margin) is
projected onto a plane, where the object has its shape. There, with N_f and N_b pixels inside and
outside of the object, and d(p) a background pixel's distance to the object, d_max the largest,

    w(p) = w_f = clip(N_b / N_f)              on the object
    w(p) = clip(N_f / N_b) · exp(−decay · d(p) / d_max)  off it

with clip to [weight_min, weight_max]. The weights return to the panorama; what the BFoV does not
see takes their minimum. `DistortionLoss` is SAM2's loss with every pixel's focal term multiplied by
them. An absent object's do not matter.

Left open by the paper and chosen here: the ratio N_b / N_f, as bounds of 0.5 and 2 are reciprocal
and a share never reaches 2; the exponential decay, whose rate is a config key. The paper weights a
plain cross-entropy, here SAM2's focal loss.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panoforge.core.geometry.sphere import (
    View,
    direction_to_lonlat,
    lonlat_to_direction,
    pixel_to_direction,
    row_area_sr,
    view_rotation,
)
from panoforge.train.config import DistortionSettings
from panoforge.train.losses.sam2_loss import ScanLoss

REGION_PX = 128  # the longer side of the plane that the BFoV is projected onto
MARGIN = 1.5  # the BFoV is so much wider than the object, as a tracker's search region
MAX_FOV_DEG = 150.0  # beyond, the plane holds almost nothing but its border


@dataclass(frozen=True)
class BoundingFov:
    """A spherical rectangle in radians: its centre and its full angles, across and down."""

    lon: float
    lat: float
    fov_h: float
    fov_v: float

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of its plane: the longer tangent takes REGION_PX."""
        across, down = np.tan(self.fov_h / 2), np.tan(self.fov_v / 2)
        scale = REGION_PX / max(across, down)
        return max(8, round(across * scale)), max(8, round(down * scale))


def bounding_fov(mask: NDArray[np.bool_], margin: float = MARGIN) -> BoundingFov:
    """The BFoV of a panorama's mask (H×W, not empty), widened by `margin`. Its centre is the mean
    direction, every pixel counted by its solid angle; its angles are the largest to either side in
    the frame that looks there.
    """
    height, width = mask.shape
    rows, columns = np.nonzero(mask)
    directions = pixel_to_direction(columns, rows, width, height)
    mean = (directions * row_area_sr(width, height)[rows, None]).sum(axis=0)
    lon, lat = (float(x) for x in direction_to_lonlat(mean))
    local = directions @ _rotation(lon, lat)
    across = np.abs(np.arctan2(local[:, 0], local[:, 2])).max() + np.pi / width
    down = np.abs(np.arctan2(local[:, 1], np.hypot(local[:, 0], local[:, 2]))).max() + np.pi / (
        2 * height
    )
    limit = np.radians(MAX_FOV_DEG)
    return BoundingFov(lon, lat, min(2 * across * margin, limit), min(2 * down * margin, limit))


def pixel_weights(mask: NDArray[np.bool_], settings: DistortionSettings) -> NDArray[np.float32]:
    """w above for the true mask of a whole panorama (H×W; its aspect may be any, as SAM2 sees
    panoramas squeezed).
    """
    if not mask.any():
        return np.ones(mask.shape, np.float32)
    fov = bounding_fov(mask)
    local = region_weights(_project(mask, fov), settings)
    return _reproject(local, fov, mask.shape)


def region_weights(region: NDArray[np.bool_], settings: DistortionSettings) -> NDArray[np.float32]:
    """w above on the plane of the BFoV, from the object's mask there. All of one kind: weights of
    1.
    """
    inside, outside = int(region.sum()), int((~region).sum())
    if not inside or not outside:
        return np.ones(region.shape, np.float32)
    low, high = settings.weight_min, settings.weight_max
    distance = cv2.distanceTransform((~region).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    background = np.clip(inside / outside, low, high) * np.exp(
        -settings.decay * distance / distance.max()
    )
    return np.where(region, np.clip(outside / inside, low, high), background).astype(np.float32)


def _rotation(lon: float, lat: float) -> NDArray[np.float64]:
    """Columns: right, down, forward of a camera that looks at (lon, lat)."""
    return view_rotation(
        View(float(np.degrees(lon)), float(np.clip(np.degrees(lat), -90, 90)), 90.0, 1)
    )


def _project(mask: NDArray[np.bool_], fov: BoundingFov) -> NDArray[np.bool_]:
    """The mask on the plane of its BFoV, by nearest."""
    height, width = mask.shape
    w, h = fov.size_px
    x = ((np.arange(w) + 0.5) / w * 2 - 1) * np.tan(fov.fov_h / 2)
    y = ((np.arange(h) + 0.5) / h * 2 - 1) * np.tan(fov.fov_v / 2)
    rays = np.stack([*np.meshgrid(x, y), np.ones((h, w))], axis=-1) @ _rotation(fov.lon, fov.lat).T
    lon, lat = direction_to_lonlat(rays)
    column = np.floor((lon / (2 * np.pi) + 0.5) * width).astype(int) % width
    row = np.clip(np.floor((0.5 - lat / np.pi) * height).astype(int), 0, height - 1)
    return mask[row, column]


def _reproject(
    local: NDArray[np.float32], fov: BoundingFov, shape: tuple[int, int]
) -> NDArray[np.float32]:
    """The plane's weights on the panorama, by nearest; their minimum elsewhere."""
    height, width = shape
    h, w = local.shape
    lon = ((np.arange(width) + 0.5) / width - 0.5) * 2 * np.pi
    lat = (0.5 - (np.arange(height) + 0.5) / height) * np.pi
    seen = lonlat_to_direction(lon[None, :], lat[:, None]) @ _rotation(fov.lon, fov.lat)
    ahead = np.where(seen[..., 2] > 1e-6, seen[..., 2], np.inf)
    column = (seen[..., 0] / ahead / np.tan(fov.fov_h / 2) + 1) / 2 * w
    row = (seen[..., 1] / ahead / np.tan(fov.fov_v / 2) + 1) / 2 * h
    inside = np.isfinite(ahead) & (column >= 0) & (column < w) & (row >= 0) & (row < h)
    weights = np.full(shape, local.min(), np.float32)
    weights[inside] = local[row[inside].astype(int), column[inside].astype(int)]
    return weights


class DistortionLoss(ScanLoss):
    """`ScanLoss` with the weights above on the focal term. The other three terms are SAM2's."""

    def frame_weights(self, targets: Tensor) -> Tensor | None:
        """The weights of one frame's true masks, O×S×S bool → O×S×S float32."""
        assert self.settings.distortion is not None
        weights = [pixel_weights(mask, self.settings.distortion) for mask in targets.cpu().numpy()]
        return torch.from_numpy(np.stack(weights)).to(targets.device)
