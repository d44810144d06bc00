"""Masked terms that several tasks share: means, differences of edges, of high frequencies.

Maps are B×C×H×W, masks and weights of pixels B×1×H×W or broadcast to it. Every term is one number
for each panorama: B. A panorama none of whose pixels is known gives 0, with a gradient of 0.

    mean(x)   = Σ w·m·x / Σ w·m                   m the mask, w the pixels' weights
    edges     = mean |sobel(p) − sobel(t)|        where the whole 3×3 neighbourhood is known
    detail    = mean |high(fft2(m·(p − t)))|      frequencies above half of the highest

Columns wrap. Above and below, edges take the first and last row again; the FFT wraps there too.
What the paper's released configuration calls its edge and frequency terms is known by name and
weight only: kernels and cut are chosen here.
"""

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from panoforge.core.geometry.sphere import row_area_sr
from panoforge.train.model.seam import wrap_columns

HIGH = 0.5  # of the highest frequency


def masked_mean(values: Tensor, mask: Tensor, weights: Tensor) -> Tensor:
    """mean(x) above, B; over channels alike."""
    counted = (mask * weights).expand_as(values)
    total = (torch.where(counted > 0, values, 0) * counted).flatten(1).sum(dim=1)
    return total / counted.flatten(1).sum(dim=1).clamp(min=1e-6)


def pixel_weights_of_rows(height: int, solid_angle: bool) -> Tensor:
    """Weights of a panorama's pixels, 1×1×H×1, of mean 1: alike, or by their part of the sphere."""
    if not solid_angle:
        return torch.ones(1, 1, height, 1)
    areas = torch.from_numpy(row_area_sr(2 * height, height)).float()
    return (areas / areas.mean())[None, None, :, None]


def edge_term(predicted: Tensor, truth: Tensor, mask: Tensor, weights: Tensor) -> Tensor:
    """Edges above, B."""
    known = mask.to(predicted.dtype)
    all_around = -torch.nn.functional.max_pool2d(-_padded(known), 3, stride=1)
    difference = torch.where(mask, predicted - truth, 0)  # Sobel is linear
    return masked_mean(_sobel(difference).abs(), _twice(all_around), weights)


def detail_term(predicted: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Detail above, B; frequencies are scaled so that the term does not grow with the picture."""
    difference = torch.where(mask, predicted - truth, 0)
    height, width = difference.shape[-2:]
    spectrum = torch.fft.rfft2(difference, norm="ortho")
    rows = torch.fft.fftfreq(height, device=difference.device)[:, None].abs()
    columns = torch.fft.rfftfreq(width, device=difference.device)[None, :]
    high = torch.maximum(rows, columns) > HIGH / 2
    # |z| has no gradient at 0, where a perfect prediction stands
    size = (spectrum.real.square() + spectrum.imag.square() + 1e-12).sqrt()
    return size[..., high].flatten(1).mean(dim=1)


def fitted(predicted: Tensor, truth: Tensor, mask: Tensor, weights: Tensor) -> Tensor:
    """s·p + t with the scale and shift of each panorama that bring it nearest (least squares).

    As scale-and-shift-invariant losses have it (Ranftl et al., TPAMI 2022). B×1×H×W.
    """
    counted = mask * weights
    size = counted.flatten(1).sum(dim=1).clamp(min=1e-6)[:, None, None, None]

    def mean(values: Tensor) -> Tensor:
        kept = torch.where(mask, values, 0) * counted
        return kept.flatten(1).sum(dim=1)[:, None, None, None] / size

    middle, goal = mean(predicted), mean(truth)
    off = predicted - middle
    known = torch.where(mask, truth, goal)
    scale = mean(off * (known - goal)) / mean(off.square()).clamp(min=1e-6)
    return goal + scale * off


def _sobel(values: Tensor) -> Tensor:
    """Differences along columns and rows of each channel, B×C×H×W → B×2C×H×W."""
    kernel = values.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8
    both = torch.stack([kernel, kernel.T])[:, None]
    channels = values.shape[1]
    return conv2d(_padded(values), both.repeat(channels, 1, 1, 1), groups=channels)


def _padded(values: Tensor) -> Tensor:
    return pad(wrap_columns(values, 1), (0, 0, 1, 1), mode="replicate")


def _twice(mask: Tensor) -> Tensor:
    return mask if mask.shape[1] == 1 else mask.repeat_interleave(2, dim=1)
