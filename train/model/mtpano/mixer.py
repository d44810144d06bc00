"""The ERP token mixer: a convolution that grows wider towards the poles.

A pixel of an equirectangular picture covers 1/cos φ times less of the sphere along its row than at
the equator. With z the vertical part of a token's ray,

    mix(F) = (1 − |z|) · conv_3×3(F) + |z| · depthwise_3×9(F)

Both wrap at the seam. The paper says what is blended by what; that the blend is linear in |z| and
that both are there at every latitude is our reading.
"""

import torch
from torch import Tensor, nn

from panoforge.train.model.mtpano.rays import angles
from panoforge.train.model.seam import SeamConv2d

WIDE = 9  # columns


class TokenMixer(nn.Module):
    """mix(F) above; B×C×H×W → the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.near_equator = SeamConv2d(channels, channels, 3)
        self.near_poles = SeamConv2d(channels, channels, (3, WIDE), groups=channels)

    def forward(self, features: Tensor) -> Tensor:
        """Features mixed with their neighbours'."""
        lat, _ = angles(features.shape[-2], features.shape[-1])
        pole = lat.sin().abs().to(features)  # H×1
        return torch.lerp(self.near_equator(features), self.near_poles(features), pole)
