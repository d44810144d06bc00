"""What MTPano makes of panoramas while it trains: three scores on held-out ones, and a picture.

They are mean IoU of the classes that occur, absolute relative difference of depth and mean angle of
normals. Pixels whose truth is known count by their part of the sphere, of all panoramas together.
This is a curve to watch; the score of a model is `pano eval` with `task: dense`.
"""

from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from panoforge.core.categories.class_sets import VOID
from panoforge.core.report.maps import depth_colours, normal_colours
from panoforge.core.report.pictures import overlay_ids
from panoforge.core.types import Depth, Rgb
from panoforge.train.data.dense_batch import DenseBatch
from panoforge.train.data.dense_source import PanoramaSource
from panoforge.train.distributed import World
from panoforge.train.losses.dense.terms import pixel_weights_of_rows
from panoforge.train.model.mtpano.model import DensePrediction, Mtpano

HEIGHT_PX = 256  # of a panorama in a picture
FARTHEST_M = 10.0  # of a picture's colours


@torch.no_grad()
def validate_dense(
    model: Mtpano, source: PanoramaSource, panoramas: int, world: World, autocast: Any
) -> dict[str, float]:
    """`val_miou`, `val_abs_rel` and `val_normal_deg`, of the tasks that the model has.

    Panoramas are shared out over the ranks. Leaves the model in train mode.
    """
    device = next(model.parameters()).device
    model.eval()
    classes = model.classes
    confusion = torch.zeros(classes, classes, dtype=torch.float64)
    sums = torch.zeros(4, dtype=torch.float64)  # depth, its weight, degrees, their weight
    try:
        for position in range(world.rank, panoramas, world.num_ranks):
            batch = source.batch((position,))
            assert batch is not None  # a validation source leaves no panorama out
            batch = batch.to(device)
            with autocast:
                said = model(batch.rgb)
            rows = pixel_weights_of_rows(batch.rgb.shape[-2], True)[:, 0].double()
            confusion += confusion_of(said, batch, rows, classes)
            sums += differences_of(said, batch, rows)
    finally:
        model.train()
    pooled = world.sum([*confusion.flatten().tolist(), *sums.tolist()], device)
    table = torch.tensor(pooled[:-4]).view(classes, classes)
    depth, of_depth, degrees, of_normals = pooled[-4:]
    found = {}
    if table.sum():
        hit = table.diag()
        either = table.sum(dim=0) + table.sum(dim=1) - hit
        there = table.sum(dim=1) > 0
        found["val_miou"] = float((hit[there] / either[there]).mean())
    if of_depth:
        found["val_abs_rel"] = depth / of_depth
    if of_normals:
        found["val_normal_deg"] = degrees / of_normals
    return found


def confusion_of(
    said: DensePrediction, batch: DenseBatch, rows: torch.Tensor, classes: int
) -> torch.Tensor:
    """Weights by true class (rows) and predicted class (columns), float64 K×K on the CPU."""
    empty = torch.zeros(classes * classes, dtype=torch.float64)
    if said.semantic is None or batch.semantic is None:
        return empty.view(classes, classes)
    truth, guess = batch.semantic.cpu(), said.semantic.argmax(dim=1).cpu()
    known = truth != VOID
    weights = rows.expand(truth.shape)
    cells = (truth * classes + guess)[known]
    return empty.scatter_add(0, cells, weights[known]).view(classes, classes)


def differences_of(said: DensePrediction, batch: DenseBatch, rows: torch.Tensor) -> torch.Tensor:
    """Sums of relative depth differences and of degrees, each with its weight, float64 4."""
    found = torch.zeros(4, dtype=torch.float64)
    if said.depth_m is not None and batch.depth_m is not None:
        truth = batch.depth_m.double().cpu()
        known = torch.isfinite(truth)
        off = ((said.depth_m.double().cpu() - truth).abs() / truth)[known]
        weights = rows.expand(truth.shape)[known]
        found[:2] = torch.stack([(off * weights).sum(), weights.sum()])
    if said.normal is not None and batch.normal is not None:
        truth = batch.normal.double().cpu()
        known = truth.square().sum(dim=1) > 0
        cosine = (said.normal.double().cpu() * truth).sum(dim=1).clamp(-1, 1)
        weights = rows.expand(cosine.shape)[known]
        degrees = torch.rad2deg(cosine.acos())[known]
        found[2:] = torch.stack([(degrees * weights).sum(), weights.sum()])
    return found


@torch.no_grad()
def dense_picture(model: Mtpano, batch: DenseBatch, autocast: Any) -> NDArray[np.uint8]:
    """RGB picture of the first panorama: colours, then each task, truth above the prediction."""
    model.eval()
    try:
        with autocast:
            said = model(batch.rgb[:1])
    finally:
        model.train()
    rgb = (batch.rgb[0].cpu().numpy().transpose(1, 2, 0) * 255).astype(np.uint8)
    columns = [np.concatenate([rgb, rgb])]
    if said.semantic is not None and batch.semantic is not None:
        pair = (batch.semantic[0], said.semantic[0].argmax(dim=0))
        columns.append(np.concatenate([painted(rgb, ids.cpu().numpy()) for ids in pair]))
    if said.depth_m is not None and batch.depth_m is not None:
        columns.append(_both(far_colours, batch.depth_m[0], said.depth_m[0]))
    if said.normal is not None and batch.normal is not None:
        normals = (one[0].movedim(0, -1) for one in (batch.normal, said.normal))
        columns.append(_both(normal_colours, *normals))
    whole = np.concatenate(columns, axis=1)
    factor = HEIGHT_PX / rgb.shape[0]
    size = (round(whole.shape[1] * factor), round(whole.shape[0] * factor))
    return cv2.resize(whole, size, interpolation=cv2.INTER_AREA)


def far_colours(depth_m: Depth) -> Rgb:
    """Depth up to FARTHEST_M as colours."""
    return depth_colours(depth_m, FARTHEST_M)


def _both(colours: Any, truth: torch.Tensor, said: torch.Tensor) -> NDArray[np.uint8]:
    return np.concatenate([colours(part.float().cpu().numpy()) for part in (truth, said)])


def painted(rgb: NDArray[np.uint8], classes: NDArray) -> NDArray[np.uint8]:
    """A picture H×W×3 with its classes H×W in colours; void is left as it is."""
    return overlay_ids(rgb, np.where(classes == VOID, 0, classes + 1).astype(np.uint16))
