"""Operations on panoramas' feature maps whose columns wrap: the one home of circular padding.

Each acts on B×C×H×W. The first column is the last one's neighbour; above and below there are zeros.
An input that is rolled by whole columns gives a rolled output, to the bit where the arithmetic is
the same for every column. A stride of s needs rolls by multiples of s.
"""

from fractions import Fraction

from torch import Tensor, cat, nn
from torch.nn.functional import conv2d, interpolate, pad


def wrap_columns(features: Tensor, columns: int) -> Tensor:
    """B×C×H×W → B×C×H×(W + 2·columns), with what lies across the seam on either side."""
    if not columns:
        return features
    return cat(
        [features[..., features.shape[-1] - columns :], features, features[..., :columns]], dim=-1
    )


class SeamConv2d(nn.Conv2d):
    """A convolution with odd kernel and same size (divided by its stride).

    B×C×H×W → B×C'×H/s×W/s. Columns wrap, rows are padded with zeros.
    """

    def forward(self, input: Tensor) -> Tensor:
        """The convolution of a panorama, whose columns wrap."""
        across, down = self.kernel_size[1] // 2, self.kernel_size[0] // 2
        return conv2d(
            pad(wrap_columns(input, across), (0, 0, down, down)),
            self.weight,
            self.bias,
            stride=self.stride,
            groups=self.groups,
        )


def enlarge(features: Tensor, factor: int | Fraction) -> Tensor:
    """B×C×H×W → B×C×fH×fW, bilinear between pixel centres, over the seam too.

    A factor that is no whole number must divide the size: fH and fW are whole.
    """
    exact = Fraction(factor)
    if exact == 1:
        return features
    reach = exact.denominator  # so many columns become a whole number of columns
    wide = wrap_columns(features, reach)
    height, width = (int(exact * size) for size in wide.shape[-2:])
    larger = interpolate(wide, (height, width), mode="bilinear", align_corners=False)
    return larger[..., exact.numerator : -exact.numerator]
