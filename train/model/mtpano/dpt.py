"""A neck and head for each task after DPT (Ranftl et al., ICCV 2021), over the seam.

The four layers of a task become maps of 4, 2, 1 and ½ times the tokens' resolution, all with
`channels`. From the coarsest to the finest they are fused: residual convolutions on each, a sum,
twice the size. The head takes the last map, of ½ · patch / 4 pixels, to the picture's size. Nothing
is normalised over a batch. All convolutions and enlargements wrap at the seam.
"""

from fractions import Fraction

from torch import Tensor, nn
from torch.nn.functional import gelu

from panoforge.train.model.seam import SeamConv2d, enlarge

FINEST = 8  # times the tokens' resolution: the last fused map
HIDDEN = 32  # channels of the head at the picture's size


class Residual(nn.Module):
    """Two 3×3 convolutions, added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = SeamConv2d(channels, channels, 3)
        self.second = SeamConv2d(channels, channels, 3)

    def forward(self, features: Tensor) -> Tensor:
        """B×C×H×W → the same shape."""
        return features + self.second(gelu(self.first(gelu(features))))


class Fusion(nn.Module):
    """A finer map joined to the coarser ones' sum, at twice its size."""

    def __init__(self, channels: int, joins: bool) -> None:
        super().__init__()
        self.own = Residual(channels) if joins else None
        self.both = Residual(channels)
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, finer: Tensor, coarser: Tensor | None) -> Tensor:
        """B×C×H×W, and B×C×H×W of the coarser maps → B×C×2H×2W."""
        joined = finer if coarser is None or self.own is None else coarser + self.own(finer)
        return enlarge(self.mix(self.both(joined)), 2)


class DptHead(nn.Module):
    """One task's neck and head: four layers B×L×h×w → raw numbers B×raw×H×W."""

    def __init__(self, layer_channels: int, channels: int, raw: int, patch_px: int) -> None:
        super().__init__()
        self.reassemble = nn.ModuleList(
            nn.Sequential(nn.Conv2d(layer_channels, channels, 1), resize)
            for resize in (
                nn.ConvTranspose2d(channels, channels, 4, stride=4),
                nn.ConvTranspose2d(channels, channels, 2, stride=2),
                nn.Identity(),
                SeamConv2d(channels, channels, 3, stride=2),
            )
        )
        self.fuse = nn.ModuleList(Fusion(channels, joins=level < 3) for level in range(4))
        self.factor = Fraction(patch_px, FINEST)
        self.narrow = SeamConv2d(channels, channels // 2, 3)
        self.fine = SeamConv2d(channels // 2, HIDDEN, 3)
        self.predict = nn.Conv2d(HIDDEN, raw, 1)

    def forward(self, layers: list[Tensor]) -> Tensor:
        """Raw numbers at the picture's size."""
        maps = [make(layer) for make, layer in zip(self.reassemble, layers, strict=True)]
        fused: Tensor | None = None
        for level in (3, 2, 1, 0):
            fused = self.fuse[level](maps[level], fused)
        narrow = self.narrow(fused)
        out: Tensor = self.predict(gelu(self.fine(enlarge(narrow, self.factor))))
        return out
