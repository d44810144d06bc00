"""The distortion-guided mask loss (PanoSAM2 §3.3, Algorithm 2).

Each pixel's weight from the local geometry of the panorama.

The true mask's bounding field of view (BFoV: the spherical box around it, widened by a margin) is
projected onto a plane, where the object has its shape. There, with N_f and N_b pixels inside and
outside of the object, and d(p) a background pixel's distance to the object, d_max the largest,

    w(p) = w_f = clip(N_b / N_f)              on the object
    w(p) = clip(N_f / N_b) · exp(−decay · d(p) / d_max)  off it

with clip to [weight_min, weight_max]. The weights return to the panorama; what the BFoV does not
see takes their minimum. `DistortionLoss` is SAM2's loss with every pixel's focal term multiplied by
them. An absent object's do not matter.

Left open by the paper and chosen here: the ratio N_b / N_f, as bounds of 0.5 and 2 are reciprocal
and a share never reaches 2. So is the exponential decay, whose rate is a config key. The paper
weights a plain cross-entropy, here SAM2's focal loss.
"""

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panoforge.core.geometry.bfov import Bfov, enclosing_bfov
from panoforge.core.geometry.pixels import pixel_at, pixel_places, place_to_edge
from panoforge.core.geometry.sphere import direction_to_lonlat, pixel_to_direction
from panoforge.train.losses.sam2_loss import ScanLoss
from panoforge.train.settings.losses import DistortionSettings

REGION_PX = 128  # the longer side of the plane that the BFoV is projected onto
MARGIN = 1.5  # the BFoV is so much wider than the object, as a tracker's search region
MAX_FOV_DEG = 150.0  # beyond, the plane holds almost nothing but its border


def plane_size(bfov: Bfov) -> tuple[int, int]:
    """Width and height in pixels of a BFoV's plane: the longer tangent takes REGION_PX."""
    scale = REGION_PX / max(bfov.tan_x, bfov.tan_y)
    return max(8, round(bfov.tan_x * scale)), max(8, round(bfov.tan_y * scale))


def pixel_weights(mask: NDArray[np.bool_], settings: DistortionSettings) -> NDArray[np.float32]:
    """W above for the true mask of a whole panorama, H×W.

    Its aspect may be any, as SAM2 sees panoramas squeezed.
    """
    if not mask.any():
        return np.ones(mask.shape, np.float32)
    bfov = enclosing_bfov(mask, MARGIN, MAX_FOV_DEG)
    local = region_weights(_project(mask, bfov), settings)
    height, width = mask.shape
    return _reproject(local, bfov, (height, width))


def region_weights(region: NDArray[np.bool_], settings: DistortionSettings) -> NDArray[np.float32]:
    """W above on the plane of the BFoV, from the object's mask there.

    All of one kind: weights of 1.
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


def _project(mask: NDArray[np.bool_], bfov: Bfov) -> NDArray[np.bool_]:
    """The mask on the plane of its BFoV, by nearest."""
    height, width = mask.shape
    w, h = plane_size(bfov)
    x, y = np.meshgrid(pixel_places(w) * bfov.tan_x, pixel_places(h) * bfov.tan_y)
    rays = np.stack([x, y, np.ones((h, w))], axis=-1) @ bfov.axes().T
    column, row = pixel_at(*direction_to_lonlat(rays), width, height)
    return mask[row, column]


def _reproject(
    local: NDArray[np.float32], bfov: Bfov, shape: tuple[int, int]
) -> NDArray[np.float32]:
    """The plane's weights on the panorama, by nearest; their minimum elsewhere."""
    height, width = shape
    h, w = local.shape
    seen = (
        pixel_to_direction(np.arange(width)[None, :], np.arange(height)[:, None], width, height)
        @ bfov.axes()
    )
    ahead = np.where(seen[..., 2] > 1e-6, seen[..., 2], np.inf)
    column = place_to_edge(seen[..., 0] / ahead / bfov.tan_x, w)
    row = place_to_edge(seen[..., 1] / ahead / bfov.tan_y, h)
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
