"""A small vision transformer for panoramas, from random weights.

Pre-norm blocks on non-overlapping patches. Two things make it a panorama's:

- Attention knows where tokens stand to one another by rotary angles. One half of a head's channels
  turns by whole multiples of the longitude, the other by multiples of the latitude. Multiples are
  whole, so a full turn is none: there is no seam, and what counts is the difference of longitudes.
- A token is told its latitude (sines and cosines of it), and no longitude at all.

So a picture that is rolled by whole tokens gives rolled features.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from panoforge.train.model.mtpano.rays import angles, constant

MOST_TURNS = 32.0  # the highest multiple of a longitude: 64 tokens around can tell it
LATITUDES = 8  # sines and as many cosines of a latitude
MLP_RATIO = 4


@constant
def sphere_rotary(height: int, width: int, channels: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the angles that tokens are turned by, float32 (H·W)×(channels/2).

    `channels` of a head, a multiple of 4.
    """
    pairs = channels // 4
    steps = torch.logspace(0, torch.log10(torch.tensor(MOST_TURNS)).item(), pairs)
    lat, lon = angles(height, width)
    of_lon = lon[..., None] * steps.round().double()
    of_lat = lat[..., None] * steps.double()
    both = torch.cat(
        [of_lon.expand(height, width, pairs), of_lat.expand(height, width, pairs)], dim=-1
    ).flatten(0, 1)
    return both.cos().float(), both.sin().float()


def rotate(tokens: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn pairs of channels of B×heads×N×C by the angles of each token, N×(C/2)."""
    first, second = tokens.chunk(2, dim=-1)
    cos, sin = cos.to(tokens), sin.to(tokens)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


class SphereAttention(nn.Module):
    """Self-attention with rotary angles on the sphere."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """B×N×C → the same shape."""
        parts = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        found = scaled_dot_product_attention(rotate(query, cos, sin), rotate(key, cos, sin), value)
        out: Tensor = self.out(found.transpose(1, 2).flatten(2))
        return out


class VitBlock(nn.Module):
    """Attention and MLP, each on a norm, each added."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = SphereAttention(width, heads)
        self.mlp = nn.Sequential(
            nn.Linear(width, MLP_RATIO * width), nn.GELU(), nn.Linear(MLP_RATIO * width, width)
        )

    def forward(self, tokens: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """B×N×C → the same shape."""
        tokens = tokens + self.attention(self.norm_attention(tokens), cos, sin)
        out: Tensor = tokens + self.mlp(self.norm_mlp(tokens))
        return out


class PanoViT(nn.Module):
    """The transformer; `layers` are the numbers (from 0) of the blocks whose results are given."""

    def __init__(
        self, patch_px: int, width: int, depth: int, heads: int, layers: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.patch_px, self.heads, self.layers = patch_px, heads, layers
        self.patches = nn.Conv2d(3, width, patch_px, stride=patch_px)
        self.latitude = nn.Linear(2 * LATITUDES, width)
        self.blocks = nn.ModuleList(VitBlock(width, heads) for _ in range(depth))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in layers)
        self.apply(_first_weights)

    def forward(self, rgb: Tensor) -> list[Tensor]:
        """Normalised pictures B×3×H×W → the chosen layers, B×C×h×w each."""
        grid = self.patches(rgb)
        height, width = grid.shape[-2:]
        lat, _ = angles(height, width)
        waves = lat * torch.arange(1, LATITUDES + 1)
        place = self.latitude(torch.cat([waves.sin(), waves.cos()], dim=-1).to(grid))  # h×C
        tokens = (grid + place.T[None, :, :, None]).flatten(2).mT
        cos, sin = sphere_rotary(height, width, tokens.shape[-1] // self.heads)
        cos, sin = cos.to(tokens), sin.to(tokens)
        found = []
        for number, block in enumerate(self.blocks):
            tokens = block(tokens, cos, sin)
            if number in self.layers:
                norm = self.norms[self.layers.index(number)]
                found.append(norm(tokens).mT.unflatten(-1, (height, width)))
        return found


def _first_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
