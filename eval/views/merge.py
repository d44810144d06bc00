"""Merge mask logits of overlapping frames into panorama masks, by gathering.

In: the frames of a method (`panoforge.eval.views.frames.Projection`) and the logits of the objects
in each (`FrameLogits`, at the model's own resolution). Out, by bands of rows: one logit of every
object at every panorama pixel, by the rule `mean` or `max`,

    l_f(p)    = clamp(bilinear(logits_f, place of p in f))
    mean(p)   = Σ_f w_f(p) · l_f(p) / Σ_f w_f(p)         w_f falls off from the centre of frame f
    max(p)    = max_f l_f(p)                             over the frames that see p

An object is a mask where that is above 0. Under `max` it is the union of the frames' masks, SAP's
per-pixel maximum. Only the pixels inside a frame's footprint are touched: at 90° that is 12 % of
the panorama. All objects of a frame share one set of interpolation weights. The working memory is
one band (objects × rows × W floats), whatever the number of frames and the height of the panorama.
An object that a frame does not hold counts there as −clamp, without any work.

Zoom views (`Look`, from `panoforge.eval.segmentation.zoom`) show one object each. Where zoom views
overlap, the highest sampling density wins; outside its footprint a zoom view is ignored. Inside, it
takes the merged logit's place where it has more samples per steradian than the frames had, averaged
with their weights.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from panoforge.core.geometry.pixels import index_to_place, place_to_index
from panoforge.eval.config import MergeRule
from panoforge.eval.masks import Masks
from panoforge.eval.views.frames import BfovFrame, PerspectiveFrame, Projection

BAND_ROWS = 48
_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(
    axis=1, dtype=np.uint8
)  # set bits of a byte


@dataclass(frozen=True)
class FrameLogits:
    """What a predictor says of one frame.

    `objects` (K,) are indices of the objects it may hold, ascending; those left out are absent.
    `logits` float32, or int8, which is smaller, K×h×w cover the whole frame at the model's own
    resolution.
    """

    frame: int
    objects: NDArray[np.int64]
    logits: torch.Tensor


@dataclass(frozen=True)
class Look:
    """A zoom view of object `object`: its own frame, and float32 h×w logits over it."""

    object: int
    frame: BfovFrame
    logits: torch.Tensor


def merge_bands(
    projections: Sequence[Projection],
    frames: Sequence[FrameLogits],
    n_objects: int,
    width: int,
    height: int,
    *,
    rule: MergeRule = "mean",
    clamp: float = 10.0,
    band_rows: int = BAND_ROWS,
    looks: Sequence[Look] = (),
) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield (first row, merged logits float32 N×rows×W) for every band from the top.

    A pixel that no frame sees is −clamp (methods cover the sphere; tested). The frames' logits are
    clamped *in place*: a copy could be gigabytes. `looks` replace what was merged where they are
    denser; the frames must then be perspective views.
    """
    with torch.inference_mode():
        for logits in (*(said.logits for said in frames), *(look.logits for look in looks)):
            if logits.dtype == torch.float32:
                logits.clamp_(-clamp, clamp)
    extents = [look.frame.extent(width, height)[:2] for look in looks]
    device = frames[0].logits.device if frames else torch.device("cpu")
    for row0 in range(0, height, band_rows):
        rows = (row0, min(row0 + band_rows, height))
        merged = _merged(projections, frames, (n_objects, width, height), rule, clamp, rows, device)
        here = [
            look
            for look, (top, bottom) in zip(looks, extents, strict=True)
            if top < rows[1] and bottom > rows[0]
        ]
        if here:
            density = _density(projections, frames, width, height, rows).to(device)
            several = {
                k: density.clone()
                for k, count in Counter(look.object for look in here).items()
                if count > 1
            }
            for look in here:
                best = several.get(look.object, density)
                _look_again(
                    merged[look.object],
                    best,
                    look,
                    clamp,
                    height,
                    rows,
                    several=look.object in several,
                )
        yield row0, merged


def _merged(
    projections: Sequence[Projection],
    frames: Sequence[FrameLogits],
    size: tuple[int, int, int],
    rule: MergeRule,
    clamp: float,
    rows: tuple[int, int],
    device: torch.device,
) -> torch.Tensor:
    """The frames' logits on one band as one, N×rows×W; `size` is (N, W, H)."""
    n_objects, width, height = size
    band = (n_objects, rows[1] - rows[0], width)
    if rule == "max":
        largest = torch.full(band, -clamp, device=device)
        for frame in frames:
            _raise_to(largest, projections[frame.frame], frame, clamp, height, rows)
        return largest
    total = torch.zeros(band[1:], device=device)
    above = torch.zeros(band, device=device)  # Σ w·(logit + clamp)
    for frame in frames:
        _add_frame(above, total, projections[frame.frame], frame, clamp, height, rows)
    return above.div_(total.clamp_min_(torch.finfo(total.dtype).tiny)).sub_(clamp)


def _add_frame(
    above: torch.Tensor,
    total: torch.Tensor,
    projection: Projection,
    frame: FrameLogits,
    clamp: float,
    pano_height: int,
    rows: tuple[int, int],
) -> None:
    """Gather one frame's logits on one band and add them, by weight, to what was so far."""
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
    sampled = _sample(frame.logits, torch.tensor(footprint.grid, device=above.device), clamp)
    sampled.add_(clamp).mul_(weight)
    for there, here in pieces:
        if _by_runs(above.device):
            for objects, own in _runs(frame.objects):
                above[objects, :, there] += sampled[own, :, here]
        else:
            indices = torch.as_tensor(frame.objects, device=above.device)
            above[:, :, there].index_add_(0, indices, sampled[:, :, here])


def _raise_to(
    largest: torch.Tensor,
    projection: Projection,
    frame: FrameLogits,
    clamp: float,
    pano_height: int,
    rows: tuple[int, int],
) -> None:
    """Gather one frame's logits on one band.

    Where they are larger, they take the place of what was so far.
    """
    width = largest.shape[2]
    footprint = projection.footprint(width, pano_height, rows)
    if footprint is None or not frame.objects.size:
        return
    sampled = _sample(frame.logits, torch.tensor(footprint.grid, device=largest.device), clamp)
    beside = np.where(footprint.weight > 0, 0, -np.inf).astype(np.float32)  # it says nothing there
    sampled.add_(torch.tensor(beside, device=largest.device))
    for there, here in footprint.pieces(width):
        if _by_runs(largest.device):
            for objects, own in _runs(frame.objects):
                so_far = largest[objects, :, there]
                torch.maximum(so_far, sampled[own, :, here], out=so_far)
        else:
            indices = torch.as_tensor(frame.objects, device=largest.device)
            so_far = largest[indices, :, there]
            largest[indices, :, there] = torch.maximum(so_far, sampled[:, :, here])


def _by_runs(device: torch.device) -> bool:
    """Whether objects are taken by runs: on a CPU index_add_ goes one by one, much slower."""
    return device.type == "cpu"


def _runs(objects: NDArray[np.int64]) -> Iterator[tuple[slice, slice]]:
    """(of all objects, of a frame's own) for each run of consecutive numbers.

    Few operations on large pieces are several times faster than one for each object.
    """
    starts = np.flatnonzero(np.diff(objects, prepend=-2) != 1)
    for start, stop in zip(starts, [*starts[1:], len(objects)], strict=True):
        first = int(objects[start])
        yield slice(first, first + int(stop - start)), slice(int(start), int(stop))


def _sample(logits: torch.Tensor, grid: torch.Tensor, clamp: float) -> torch.Tensor:
    """Logits K×h×w at normalised places r×c×2, bilinear, K×r×c.

    Whole numbers are made floats in those rows only that the places reach: ground truth at the
    resolution of its frames would be gigabytes otherwise.
    """
    if logits.dtype != torch.float32:
        height = logits.shape[1]
        rows = place_to_index(grid[..., 1], height)
        first, last = max(0, int(rows.min()) - 1), min(height, int(rows.max()) + 3)
        logits = logits[:, first:last].float().clamp_(-clamp, clamp)
        grid = grid.clone()
        grid[..., 1] = index_to_place(rows, last - first, first)
    return torch.nn.functional.grid_sample(
        logits[None], grid[None], mode="bilinear", padding_mode="border", align_corners=False
    )[0]


def _density(
    projections: Sequence[Projection],
    frames: Sequence[FrameLogits],
    width: int,
    height: int,
    rows: tuple[int, int],
) -> torch.Tensor:
    """Samples per steradian that the frames' mean stands on, rows×W: 0 where no frame looks."""
    sums, total = np.zeros((2, rows[1] - rows[0], width), np.float32)
    for frame in frames:
        projection = projections[frame.frame]
        if not isinstance(projection, PerspectiveFrame):
            raise TypeError(
                f"a second look is for scans: {type(projection).__name__} has no density per"
                " steradian"
            )
        footprint = projection.footprint(width, height, rows)
        if footprint is None or not frame.objects.size:
            continue
        weighted = (
            projection.density_per_sr(footprint.grid, int(np.prod(frame.logits.shape[-2:])))
            * footprint.weight
        )
        for there, here in footprint.pieces(width):
            sums[:, there] += weighted[:, here]
            total[:, there] += footprint.weight[:, here]
    return torch.from_numpy(sums / np.maximum(total, np.finfo(np.float32).tiny))


def _look_again(
    merged: torch.Tensor,
    density: torch.Tensor,
    look: Look,
    clamp: float,
    height: int,
    rows: tuple[int, int],
    *,
    several: bool,
) -> None:
    """Put a zoom view's logits into one object's rows×W band.

    Where it is denser than what was there.

    If the object has `several`, its own density takes the other's place there; then `density` is
    the object's own.
    """
    width = merged.shape[1]
    footprint = look.frame.footprint(width, height, rows)
    if footprint is None:
        return
    sampled = _sample(
        look.logits[None].to(merged.device),
        torch.tensor(footprint.grid, device=merged.device),
        clamp,
    )[0]
    own = look.frame.density_per_sr(footprint.grid, look.logits.numel()) * (footprint.weight > 0)
    denser = torch.from_numpy(own).to(merged.device)
    for there, here in footprint.pieces(width):
        wins = denser[:, here] > density[:, there]
        merged[:, there] = torch.where(wins, sampled[:, here], merged[:, there])
        if several:
            density[:, there] = torch.where(wins, denser[:, here], density[:, there])


def merge_masks(
    projections: Sequence[Projection],
    frames: Sequence[FrameLogits],
    n_objects: int,
    width: int,
    height: int,
    *,
    rule: MergeRule = "mean",
    clamp: float = 10.0,
    looks: Sequence[Look] = (),
) -> Masks:
    """The masks of `n_objects` objects: merged logits above 0."""
    packed = np.zeros((n_objects, height, -(-width // 8)), np.uint8)
    labels = np.zeros((height, width), np.int32)
    sums, counts = np.zeros((2, n_objects))
    spans = np.tile(np.array([height, 0]), (n_objects, 1))
    if n_objects:
        for row0, logits in merge_bands(
            projections, frames, n_objects, width, height, rule=rule, clamp=clamp, looks=looks
        ):
            rows = slice(row0, row0 + logits.shape[1])
            here = torch.nonzero(
                logits.amax(dim=(1, 2)) > 0
            ).flatten()  # a band holds few of a panorama's objects
            if not here.numel():
                continue
            some = logits if len(here) == n_objects else logits[here]
            objects = here.cpu().numpy()
            bits = np.packbits((some > 0).cpu().numpy(), axis=2)
            packed[objects, rows] = bits
            spans[objects, 0] = np.minimum(spans[objects, 0], row0)
            spans[objects, 1] = rows.stop
            best, owner = some.max(dim=0)
            labels[rows] = torch.where(best > 0, here[owner] + 1, 0).cpu().numpy()
            counts[objects] += _BITS[bits].sum(axis=(1, 2), dtype=np.int64)
            sums[objects] += some.clamp_(min=0).sum(dim=(1, 2)).cpu().numpy()
    return Masks(packed, labels, (sums / np.maximum(counts, 1)).astype(np.float32), spans)
