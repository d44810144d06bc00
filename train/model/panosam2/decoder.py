"""The pano-aware decoder (PanoSAM2 §3.1).

Seam-consistent features, and the previous frame's mask fused into them.

A Pano-Consistency block adds to a feature map F what three convolutions (1×1, 3×3, 5×5) see of it,

    PC(F) = F + Σ_{k ∈ {1, 3, 5}} conv_k([F_last k//2 columns | F | F_first k//2 columns])

padded left and right with the columns across the seam, with zeros above and below. Blocks stand
before the mask decoder's transformer and on its two fine feature levels. `MaskFusion` concatenates
PC(F) with features of the previous frame's mask and mixes them by a convolution over the seam.
Those features come from the memory encoder's mask downsampler, which is frozen.

Left open by the text that we have and chosen here: the three convolutions stand side by side. The
fusion's kernel is 3×3, as the paper's count of operations says (bench/panosam2_operations). A 1×1
is an option. The convolutions start at zero, the fusion as PC(F) alone. So a model begins as the
SAM2 whose weights it has.
"""

from torch import Tensor, cat, nn

from panoforge.train.model.seam import SeamConv2d

KERNELS = (1, 3, 5)


class PanoConsistency(nn.Module):
    """PC(F) above; F is B×C×H×W. Equal to F until it is trained."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        convs = [SeamConv2d(channels, channels, kernel) for kernel in KERNELS]
        for conv in convs:
            for parameter in conv.parameters():
                nn.init.zeros_(parameter)
        self.convs = nn.ModuleList(convs)

    def forward(self, features: Tensor) -> Tensor:
        """Features with what convolutions over the seam add to them."""
        out = features
        for conv in self.convs:
            out = out + conv(features)
        return out


class MaskFusion(nn.Module):
    """Mixes features with features of the previous mask, both B×C×H×W.

    Gives the first until it is trained. `kernel` is odd.
    """

    def __init__(self, channels: int, kernel: int = 3) -> None:
        super().__init__()
        self.mix = SeamConv2d(2 * channels, channels, kernel)
        for parameter in self.mix.parameters():
            nn.init.zeros_(parameter)
        nn.init.dirac_(self.mix.weight[:, :channels])

    def forward(self, features: Tensor, mask_features: Tensor) -> Tensor:
        """Features mixed with those of the previous frame's mask."""
        return self.mix(cat([features, mask_features], dim=1))


class PanoDecoder(nn.Module):
    """The blocks of a SAM2 of width `channels`. `previous_mask`: with the fusion."""

    def __init__(self, channels: int, previous_mask: bool, fusion_kernel: int = 3) -> None:
        super().__init__()
        self.top = PanoConsistency(channels)
        self.fine = PanoConsistency(channels // 8)  # after the mask decoder's conv_s0
        self.middle = PanoConsistency(channels // 4)  # after its conv_s1
        self.fusion = MaskFusion(channels, fusion_kernel) if previous_mask else None
