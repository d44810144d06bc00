"""Weights of a panorama's pixels from the local geometry around an object (PanoSAM2 §3.3, Alg. 2).

The true mask's bounding field of view (BFoV: the spherical box around it, widened by a margin) is
projected onto a plane, where the object has its shape. There, with N_f and N_b pixels inside and
outside of the object, and d(p) a background pixel's distance to the object, d_max the largest,

    w(p) = w_f on the object              w(p) = w_b · decay(d(p) / d_max) off it

The weights return to the panorama; what the BFoV does not see takes their minimum. The text is open
in two places, and `DistortionSettings` has both readings of each:

    foreground: ratio    w_f = clip(N_b / N_f), w_b = clip(N_f / N_b)        "based on their ratio"
    foreground: share    w_f = clip(N_f / N), w_b = N_b / N, N = N_f + N_b   "the foreground
                         proportion", "the complementary proportion"
    decay_is: exponential   exp(−decay · x)          decay_is: linear   1 − decay · x

with clip to [weight_min, weight_max]. A share never reaches the paper's bound of 2, so ratio is the
default. All of it runs on the device of the masks. On a CPU it is 7 to 37 ms an object-frame at
1024², as rows and columns that cannot lie in the BFoV are not looked at.
"""

from math import atan2, cos, hypot, pi, radians, sin, tan

import torch
from torch import Tensor

from panoforge.core.geometry.bfov import Bfov, pixels_within
from panoforge.core.geometry.pixels import column_lon, index_to_place, row_lat
from panoforge.train.settings.losses import DistortionSettings

REGION_PX = 128  # the longer side of the plane that the BFoV is projected onto
MARGIN = 1.5  # the BFoV is so much wider than the object, as a tracker's search region
MAX_FOV_DEG = 150.0  # beyond, the plane holds almost nothing but its border


def pixel_weights(mask: Tensor, settings: DistortionSettings) -> Tensor:
    """W above for the true mask of a whole panorama, bool H×W → float32 H×W on its device.

    Its aspect may be any, as SAM2 sees panoramas squeezed. An absent object's are 1.
    """
    bfov = mask_bfov(mask)
    if bfov is None:
        return torch.ones(mask.shape, device=mask.device)
    local = region_weights(project(mask, bfov), settings)
    return reproject(local, bfov, (mask.shape[0], mask.shape[1]))


def region_weights(region: Tensor, settings: DistortionSettings) -> Tensor:
    """W above on the plane of the BFoV, from the object's mask there, bool h×w.

    All of one kind: weights of 1.
    """
    inside = int(region.sum())
    outside = region.numel() - inside
    if not inside or not outside:
        return torch.ones(region.shape, device=region.device)
    on, off = _levels(inside, outside, settings)
    distance = distances(region)
    far = settings.decay * distance / distance.max()
    falls = torch.exp(-far) if settings.decay_is == "exponential" else 1 - far
    return torch.where(region, on, off * falls).float()


def _levels(inside: int, outside: int, settings: DistortionSettings) -> tuple[float, float]:
    """Weights on the object, and off it where it is near."""

    def clip(value: float) -> float:
        return min(max(value, settings.weight_min), settings.weight_max)

    if settings.foreground == "ratio":
        return clip(outside / inside), clip(inside / outside)
    return clip(inside / (inside + outside)), outside / (inside + outside)


def distances(region: Tensor) -> Tensor:
    """Exact distance of each pixel's centre to the nearest one inside, bool h×w → float64 h×w.

    First along rows, then over rows: √(min_y' ((y − y')² + row distance²)).
    """
    height, width = region.shape
    x = torch.arange(width, device=region.device, dtype=torch.float64)
    never = torch.tensor(4.0 * (height + width), device=region.device, dtype=torch.float64)
    left = torch.where(region, x, -never).cummax(dim=1).values
    right = torch.where(region, x, x + never).flip(1).cummin(dim=1).values.flip(1)
    along = torch.minimum(x - left, right - x)
    y = torch.arange(height, device=region.device, dtype=torch.float64)
    rows = (y[:, None] - y[None, :]) ** 2
    return (rows[:, :, None] + along[None] ** 2).amin(dim=1).sqrt()


def mask_bfov(mask: Tensor) -> Bfov | None:
    """The widened BFoV of a panorama's mask, bool H×W; None where it is empty.

    As `panoforge.core.geometry.bfov.enclosing_bfov`, on the mask's device.
    """
    height, width = mask.shape
    rows, columns = torch.nonzero(mask, as_tuple=True)
    if not len(rows):
        return None
    lon, lat = column_lon(columns.double(), width), row_lat(rows.double(), height)
    flat = lat.cos()
    area = torch.sin(lat + pi / 2 / height) - torch.sin(lat - pi / 2 / height)
    mean = torch.stack([flat * lon.sin(), flat * lon.cos(), lat.sin()]) @ area
    east, north, up = mean.tolist()
    yaw, pitch = atan2(east, north), atan2(up, hypot(east, north))
    right, down, forward = _in_camera(lat, lon, yaw, pitch)
    across = float(torch.atan2(right, forward).abs().max()) + pi / width
    along = float(torch.atan2(down, torch.hypot(right, forward)).abs().max()) + pi / (2 * height)
    widest = radians(MAX_FOV_DEG)
    tan_x, tan_y = (tan(min(2 * half * MARGIN, widest) / 2) for half in (across, along))
    return Bfov(yaw * 180 / pi, pitch * 180 / pi, tan_x, tan_y)


def plane_size(bfov: Bfov) -> tuple[int, int]:
    """Width and height in pixels of a BFoV's plane: the longer tangent takes REGION_PX."""
    scale = REGION_PX / max(bfov.tan_x, bfov.tan_y)
    return max(8, round(bfov.tan_x * scale)), max(8, round(bfov.tan_y * scale))


def project(mask: Tensor, bfov: Bfov) -> Tensor:
    """The mask on the plane of its BFoV, bool h×w, by nearest."""
    height, width = mask.shape
    w, h = plane_size(bfov)
    x, y = (index_to_place(torch.arange(n, device=mask.device).double(), n) for n in (w, h))
    rays = torch.stack(
        torch.broadcast_tensors(
            x[None, :] * bfov.tan_x, y[:, None] * bfov.tan_y, torch.ones((), device=mask.device)
        ),
        dim=-1,
    )
    axes = torch.from_numpy(bfov.axes()).to(rays)
    east, north, up = (rays @ axes.T).unbind(-1)
    lon, lat = torch.atan2(east, north), torch.atan2(up, torch.hypot(east, north))
    column = ((lon + pi) / (2 * pi) * width).floor().long() % width
    row = ((pi / 2 - lat) / pi * height).floor().long().clamp(0, height - 1)
    return mask[row, column]


def reproject(local: Tensor, bfov: Bfov, shape: tuple[int, int]) -> Tensor:
    """The plane's weights h×w on the panorama H×W, by nearest; their minimum elsewhere.

    Only rows and columns that may lie in the BFoV are looked at.
    """
    height, width = shape
    h, w = local.shape
    weights = local.new_full(shape, float(local.min()))
    yaw, pitch = radians(bfov.yaw_deg), radians(bfov.pitch_deg)
    rows, columns = (
        torch.from_numpy(found).to(local.device) for found in pixels_within(bfov, width, height)
    )
    lon, lat = column_lon(columns.double(), width), row_lat(rows.double(), height)
    right, down, forward = _in_camera(lat[:, None], lon[None, :], yaw, pitch)
    ahead = torch.where(forward > 1e-6, forward, torch.inf)
    x = ((right / ahead / bfov.tan_x + 1) / 2 * w).floor()
    y = ((down / ahead / bfov.tan_y + 1) / 2 * h).floor()
    inside = torch.isfinite(ahead) & (x >= 0) & (x < w) & (y >= 0) & (y < h)
    found = local[y.clamp(0, h - 1).long(), x.clamp(0, w - 1).long()]
    weights[rows[:, None], columns[None, :]] = torch.where(inside, found, local.min())
    return weights


def _in_camera(lat: Tensor, lon: Tensor, yaw: float, pitch: float) -> tuple[Tensor, Tensor, Tensor]:
    """Directions → right, down and forward of an upright camera; all in radians."""
    flat, up = lat.cos(), lat.sin()
    north = flat * (lon - yaw).cos()
    return (
        flat * (lon - yaw).sin(),
        north * sin(pitch) - up * cos(pitch),
        north * cos(pitch) + up * sin(pitch),
    )
