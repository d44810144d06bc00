"""Two streams of each of the backbone's four layers, and each stream's sum in one map.

What a turn of the camera about itself leaves as it is (classes, depth) and what it turns (normals)
ask for unlike features. So each layer has two refined copies,

    F' = F + up(act(mix(act(down(norm(F))))))             invariant
    F' = F + up(act((1 + γ) ⊙ mix(act(down(norm(F)))) + β))   variant

`down` and `up` are 1×1 and go through a quarter of the channels; γ and β are what a small network
makes of where the token looks (`rays.position_map`). `up` begins at zero, and so do γ and β: a new
stream is the backbone's layer, to the bit. `aggregate` concatenates the four refined layers.
"""

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from panoforge.train.model.mtpano.mixer import TokenMixer
from panoforge.train.model.mtpano.rays import CHANNELS, position_map
from panoforge.train.settings.mtpano import LEVELS, Azimuth

REDUCTION = 4
Module = TypeVar("Module", bound=nn.Module)
HIDDEN = 64  # of the network that makes γ and β


def zeroed(module: Module) -> Module:
    """A module whose parameters are all 0."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of B×C×H×W."""

    def forward(self, input: Tensor) -> Tensor:
        """The same shape, each token with mean 0 and deviation 1 before scale and shift."""
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)


class Modulation(nn.Module):
    """γ and β of each token from where it looks."""

    def __init__(self, channels: int, azimuth: Azimuth) -> None:
        super().__init__()
        self.azimuth: Azimuth = azimuth
        self.inner = nn.Conv2d(CHANNELS[azimuth], HIDDEN, 1)
        self.outer = zeroed(nn.Conv2d(HIDDEN, 2 * channels, 1))

    def forward(self, features: Tensor) -> Tensor:
        """(1 + γ) ⊙ features + β; B×C×H×W."""
        where = position_map(features.shape[-2], features.shape[-1], self.azimuth)
        hidden = gelu(self.inner(where.to(features)[None]))
        scale, shift = self.outer(hidden).chunk(2, dim=1)
        return features * (1 + scale) + shift


class Refinement(nn.Module):
    """F' above; B×C×H×W → the same shape, the same values until it is trained."""

    def __init__(self, channels: int, mixer: bool, azimuth: Azimuth | None) -> None:
        super().__init__()
        inner = channels // REDUCTION
        self.norm = ChannelNorm(channels)
        self.down = nn.Conv2d(channels, inner, 1)
        self.mix: nn.Module = TokenMixer(inner) if mixer else nn.Identity()
        self.modulate: nn.Module = nn.Identity() if azimuth is None else Modulation(inner, azimuth)
        self.up = zeroed(nn.Conv2d(inner, channels, 1))

    def forward(self, features: Tensor) -> Tensor:
        """A layer with what its neighbours and, in the variant stream, its place add."""
        mixed = self.modulate(self.mix(gelu(self.down(self.norm(features)))))
        return features + self.up(gelu(mixed))


class Stream(nn.Module):
    """One stream; `azimuth` None is the invariant one."""

    def __init__(self, channels: int, out: int, mixer: bool, azimuth: Azimuth | None) -> None:
        super().__init__()
        self.refine = nn.ModuleList(Refinement(channels, mixer, azimuth) for _ in range(LEVELS))
        self.aggregator = nn.Sequential(
            nn.Conv2d(LEVELS * channels, out, 1), ChannelNorm(out), nn.GELU()
        )

    def forward(self, layers: list[Tensor]) -> list[Tensor]:
        """The refined layers, B×C×H×W each."""
        return [refine(layer) for refine, layer in zip(self.refine, layers, strict=True)]

    def aggregate(self, layers: list[Tensor]) -> Tensor:
        """The refined layers in one map, B×out×H×W."""
        out: Tensor = self.aggregator(torch.cat(layers, dim=1))
        return out
