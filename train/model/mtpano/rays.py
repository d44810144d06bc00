"""Where the tokens of a panorama look, as tensors on the grid of the tokens.

Angles and axes are those of core/geometry: longitude grows to the right, z is up. The local frame
of a token has the columns east (to the right in the picture), up (towards the zenith) and ray. A
turn of the camera about the vertical rolls the picture and leaves vectors in local frames as they
are: what is predicted in local frames needs no azimuth.
"""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, TypeVar

import torch
from torch import Tensor

from panoforge.core.geometry.pixels import column_lon, row_lat
from panoforge.train.settings.mtpano import Azimuth

Made = TypeVar("Made")
CHANNELS: dict[Azimuth, int] = {"absolute": 5, "ray": 4, "none": 3}


def constant(make: Callable[..., Made]) -> Callable[..., Made]:
    """Keep what a function of sizes alone gives.

    Tensors are made outside of inference mode, so that a later training may use them.
    """

    @wraps(make)
    def made(*sizes: Any) -> Made:
        with torch.inference_mode(False), torch.no_grad():
            return make(*sizes)

    return lru_cache(maxsize=16)(made)


def angles(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Latitude (H, 1) and longitude (1, W) of a grid's centres in radians, float64."""
    lat = row_lat(torch.arange(height, dtype=torch.float64), height)
    lon = column_lon(torch.arange(width, dtype=torch.float64), width)
    return lat[:, None], lon[None, :]


@constant
def ray_map(height: int, width: int) -> Tensor:
    """Unit rays of a panorama's pixel centres, world axes, float64 3×H×W."""
    lat, lon = angles(height, width)
    return torch.stack(
        torch.broadcast_tensors(lat.cos() * lon.sin(), lat.cos() * lon.cos(), lat.sin())
    )


@constant
def local_axes(height: int, width: int) -> Tensor:
    """Local frames of the pixels, float64 3×3×H×W: world axis, then east, up and ray."""
    lat, lon = angles(height, width)
    zero = torch.zeros_like(lat)
    east = torch.broadcast_tensors(lon.cos() + zero, -lon.sin() + zero, zero + 0 * lon)
    up = torch.broadcast_tensors(-lat.sin() * lon.sin(), -lat.sin() * lon.cos(), lat.cos())
    return torch.stack([torch.stack(east), torch.stack(up), ray_map(height, width)], dim=1)


def to_world(vectors: Tensor) -> Tensor:
    """B×3×H×W vectors in local frames (east, up, ray) → in world axes."""
    axes = local_axes(vectors.shape[-2], vectors.shape[-1]).to(vectors)
    return torch.einsum("wlyx,blyx->bwyx", axes, vectors)


@constant
def position_map(height: int, width: int, azimuth: Azimuth) -> Tensor:
    """What the variant stream is told of each token, float32 C×H×W, all within [−1, 1].

    `absolute`: ray (3), polar angle / 90° and azimuth / 180°, the paper's five. The azimuth jumps
    at the seam. `ray`: without the azimuth. `none`: ray in the local meridian's plane (horizontal
    and vertical part) and polar angle, the same along a row.
    """
    lat, lon = angles(height, width)
    ray = ray_map(height, width)
    polar = (lat / (torch.pi / 2)).expand(height, width)[None]
    if azimuth == "none":
        flat = torch.stack(torch.broadcast_tensors(lat.cos(), lat.sin()))
        return torch.cat([flat.expand(2, height, width), polar]).float()
    parts = [ray, polar]
    if azimuth == "absolute":
        parts.append((lon / torch.pi).expand(height, width)[None])
    return torch.cat(parts).float()
