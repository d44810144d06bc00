"""Merge mask logits of overlapping frames into panorama masks, by gathering.

Takes the frames of a method (`eval.frames.Projection`) and, for each, the logits of the objects that are there
(`FrameLogits`, at whatever resolution the model gives); gives, band of rows by band of rows, the centre-weighted mean
logit of every object at every panorama pixel:

    merged(p) = Σ_f w_f(p) · clamp(bilinear(logits_f, place of p in f)) / Σ_f w_f(p)

An object is a mask where the mean is above 0. Only the pixels inside a frame's footprint are touched (at 90° that is
12 % of the panorama), all objects of a frame share one set of interpolation weights, and the working memory is one
band (objects × rows × W floats): it grows neither with the number of frames nor with the height of the panorama.
An object that a frame does not hold counts there as −clamp, without any work.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from eval.frames import Projection

BAND_ROWS = 64


@dataclass(frozen=True)
class FrameLogits:
    """What a predictor says of one frame: `objects` (K,) indices of the objects it may hold, ascending, and `logits`
    float32 K×h×w over the whole frame, h and w being the model's own resolution. Objects left out are absent."""

    frame: int
    objects: NDArray[np.int64]
    logits: torch.Tensor


@dataclass(frozen=True)
class Masks:
    """N binary masks over a panorama, 8 pixels to a byte: `packed` uint8 N×H×⌈W/8⌉; `labels` int32 H×W: 1 + the object of the
    highest logit above 0, or 0 (what a picture shows where masks overlap)."""

    packed: NDArray[np.uint8]
    labels: NDArray[np.int32]

    def __len__(self) -> int:
        return self.packed.shape[0]

    def __getitem__(self, index: int) -> NDArray[np.bool_]:
        """Mask `index` as bool H×W."""
        return np.unpackbits(self.packed[index], axis=1, count=self.labels.shape[1]).astype(bool)


def merge_bands(
    projections: Sequence[Projection], frames: Sequence[FrameLogits], n_objects: int, width: int, height: int,
    *, clamp: float = 10.0, band_rows: int = BAND_ROWS,
) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield (first row, merged logits float32 N×rows×W) for every band from the top. A pixel that no frame sees is
    −clamp (methods cover the sphere; tested). The frames' logits are clamped *in place*: a copy could be gigabytes."""
    with torch.inference_mode():
        for frame in frames:
            frame.logits.clamp_(-clamp, clamp)
    device = frames[0].logits.device if frames else torch.device("cpu")
    for row0 in range(0, height, band_rows):
        rows = (row0, min(row0 + band_rows, height))
        total = torch.zeros(rows[1] - row0, width, device=device)
        above = torch.zeros(n_objects, rows[1] - row0, width, device=device)  # Σ w·(logit + clamp)
        for frame in frames:
            _add_frame(above, total, projections[frame.frame], frame, clamp, height, rows)
        yield row0, above.div_(total.clamp_min_(torch.finfo(total.dtype).tiny)).sub_(clamp)


def _add_frame(
    above: torch.Tensor, total: torch.Tensor, projection: Projection, frame: FrameLogits, clamp: float, pano_height: int,
    rows: tuple[int, int],
) -> None:
    """Gather one frame's logits on one band and add them, weighted, to the sums."""
    width = total.shape[1]
    footprint = projection.footprint(width, pano_height, rows)
    if footprint is None:
        return
    weight = torch.tensor(footprint.weight, device=above.device)
    pieces = footprint.pieces(width)
    for there, here in pieces:
        total[:, there] += weight[:, here]
    if not frame.objects.size:
        return
    grid = torch.tensor(footprint.grid, device=above.device)[None]
    sampled = torch.nn.functional.grid_sample(
        frame.logits[None], grid, mode="bilinear", padding_mode="border", align_corners=False)[0]
    sampled.add_(clamp).mul_(weight)
    for there, here in pieces:
        if above.device.type == "cpu":  # there index_add_ goes element by element, several times slower than plain sums
            for k, values in zip(frame.objects.tolist(), sampled, strict=True):
                above[k, :, there] += values[:, here]
        else:
            objects = torch.as_tensor(frame.objects, device=above.device)
            above[:, :, there].index_add_(0, objects, sampled[:, :, here])


def merge_masks(
    projections: Sequence[Projection], frames: Sequence[FrameLogits], n_objects: int, width: int, height: int,
    *, clamp: float = 10.0,
) -> Masks:
    """The masks of `n_objects` objects: merged logits above 0."""
    packed = np.zeros((n_objects, height, -(-width // 8)), np.uint8)
    labels = np.zeros((height, width), np.int32)
    if n_objects:
        for row0, logits in merge_bands(projections, frames, n_objects, width, height, clamp=clamp):
            rows = slice(row0, row0 + logits.shape[1])
            packed[:, rows] = np.packbits((logits > 0).cpu().numpy(), axis=2)
            best, owner = logits.max(dim=0)
            labels[rows] = torch.where(best > 0, owner + 1, 0).cpu().numpy()
    return Masks(packed, labels)
