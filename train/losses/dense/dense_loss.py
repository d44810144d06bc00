"""The loss of a batch of panoramas: three tasks, their first predictions, auxiliary tasks.

    L = Σ_t w_t · (main_t + w_edges · edges_t + w_detail · detail_t)          t: the three tasks
      + w_intermediate · Σ_t main_t(first predictions at the tokens' resolution)
      + w_auxiliary · Σ_a |a − truth|                                          a: auxiliary tasks

main is cross-entropy plus Dice; the absolute difference of metres; the absolute difference of unit
vectors. A depth beyond `depth_limit_m` is only asked to be beyond it. Where a panorama's depth is
known up to scale and shift (`fit_depth`), the prediction is fitted to it first, with no limit, and
its point map is unknown. Each loss is a panorama's mean over its known pixels, summed over the
batch and divided by the whole step's panoramas. First predictions and auxiliary tasks are compared
with the truth's mean over each token.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, normalize

from panoforge.train.data.dense_batch import DenseBatch
from panoforge.train.losses.dense.semantic import nearest, semantic_term
from panoforge.train.losses.dense.terms import (
    detail_term,
    edge_term,
    fitted,
    masked_mean,
    pixel_weights_of_rows,
)
from panoforge.train.model.mtpano.model import DensePrediction
from panoforge.train.model.mtpano.rays import ray_map
from panoforge.train.settings.dense import DenseLossSettings

LOSS_NAMES = ("loss", "semantic", "depth", "normal", "intermediate", "auxiliary")


class DenseLoss(nn.Module):
    """L above, and its parts by the names of `LOSS_NAMES`."""

    def __init__(self, settings: DenseLossSettings) -> None:
        super().__init__()
        self.settings = settings

    def forward(
        self, said: DensePrediction, batch: DenseBatch, panoramas: float
    ) -> dict[str, Tensor]:
        """The losses of a batch as its share of a step of `panoramas` panoramas."""
        settings = self.settings
        zero = batch.rgb.new_zeros(len(batch))
        parts = {name: zero for name in LOSS_NAMES[1:]}
        if said.semantic is not None and batch.semantic is not None:
            weights = self.weights(batch.semantic)
            parts["semantic"] = settings.semantic * semantic_term(
                said.semantic, batch.semantic, weights
            )
        if said.depth_m is not None and batch.depth_m is not None:
            parts["depth"] = settings.depth * self.depth(said.depth_m, batch)
        if said.normal is not None and batch.normal is not None:
            parts["normal"] = settings.normal * self.normal(said.normal, batch.normal)
        if said.intermediate:
            main, auxiliary = self.at_tokens(said, batch)
            parts["intermediate"] = settings.intermediate * main
            parts["auxiliary"] = settings.auxiliary * auxiliary
        shares = {name: part.sum() / panoramas for name, part in parts.items()}
        return {"loss": torch.stack(list(shares.values())).sum(), **shares}

    def weights(self, values: Tensor) -> Tensor:
        """Weights of pixels, 1×1×H×1."""
        solid = self.settings.pixels == "solid_angle"
        return pixel_weights_of_rows(values.shape[-2], solid).to(values.device)

    def depth(self, predicted: Tensor, batch: DenseBatch) -> Tensor:
        """The depth's three terms, B, from B×H×W."""
        settings = self.settings
        assert batch.depth_m is not None
        truth = batch.depth_m[:, None]
        weights = self.weights(truth)
        predicted, truth, mask, near = self.comparable(
            predicted[:, None], truth, batch.fit_depth, weights
        )
        found = masked_mean((predicted - truth).abs(), mask, weights)
        if settings.depth_edges:
            found = found + settings.depth_edges * edge_term(predicted, truth, near, weights)
        if settings.depth_detail:
            found = found + settings.depth_detail * detail_term(predicted, truth, near)
        return found

    def comparable(
        self, predicted: Tensor, truth: Tensor, fit: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Prediction and truth in one scale, which pixels count, and which of them are near.

        Beyond the limit, the truth is the limit and the prediction counts up to it. All B×1×H×W.
        """
        mask = torch.isfinite(truth)
        limit = self.settings.depth_limit_m
        fit = fit[:, None, None, None]
        far = mask & (truth >= limit) & ~fit
        metres = torch.where(far, predicted.clamp(max=limit), predicted)
        goal = torch.where(mask, truth, 0)
        goal = torch.where(far, torch.full_like(goal, limit), goal)
        if bool(fit.any()):
            metres = torch.where(fit, fitted(predicted, goal, mask, weights), metres)
        return metres, goal, mask, mask & ~far

    def normal(self, predicted: Tensor, truth: Tensor) -> Tensor:
        """The normals' three terms, B, from B×3×H×W."""
        settings, weights = self.settings, self.weights(truth)
        mask = truth.square().sum(dim=1, keepdim=True) > 0
        found = masked_mean((predicted - truth).abs(), mask, weights)
        if settings.normal_edges:
            found = found + settings.normal_edges * edge_term(predicted, truth, mask, weights)
        if settings.normal_detail:
            found = found + settings.normal_detail * detail_term(predicted, truth, mask)
        return found

    def at_tokens(self, said: DensePrediction, batch: DenseBatch) -> tuple[Tensor, Tensor]:
        """Main of the first predictions, and the auxiliary tasks' differences, B each."""
        first = said.intermediate
        height = next(iter(first.values())).shape[-2]
        main = auxiliary = batch.rgb.new_zeros(len(batch))
        weights = pixel_weights_of_rows(height, self.settings.pixels == "solid_angle")
        weights = weights.to(batch.rgb.device)
        if "semantic" in first and batch.semantic is not None:
            truth = nearest(batch.semantic, height)
            main = main + semantic_term(first["semantic"], truth, weights)
        if batch.depth_m is not None and ("depth" in first or "point_map" in first):
            depth = batch.depth_m[:, None]
            known = torch.isfinite(depth)
            coarse, mask = pooled(depth, known, height)
            if "depth" in first:
                small, goal, mask_depth, _ = self.comparable(
                    first["depth"][:, None],
                    torch.where(mask, coarse, torch.inf),
                    batch.fit_depth,
                    weights,
                )
                main = main + masked_mean((small - goal).abs(), mask_depth, weights)
            if "point_map" in first:
                near = known & (depth < self.settings.depth_limit_m)
                near = near & ~batch.fit_depth[:, None, None, None]
                rays = ray_map(depth.shape[-2], depth.shape[-1]).to(depth)
                points, mask = pooled(torch.where(near, depth, 0) * rays, near, height)
                auxiliary = auxiliary + masked_mean(
                    (first["point_map"] - points).abs(), mask, weights
                )
        if "normal" in first and batch.normal is not None:
            known = batch.normal.square().sum(dim=1, keepdim=True) > 0
            goal, mask = pooled(batch.normal, known, height)
            difference = (first["normal"] - normalize(goal, dim=1)).abs()
            main = main + masked_mean(difference, mask, weights)
        everywhere = weights > 0
        if "image_gradient" in first and batch.image_gradient is not None:
            goal, _ = pooled(batch.image_gradient, None, height)
            difference = (first["image_gradient"] - goal).abs()
            auxiliary = auxiliary + masked_mean(difference, everywhere, weights)
        if "edge_distance" in first and batch.edge_distance is not None:
            goal, _ = pooled(batch.edge_distance[:, None], None, height)
            difference = (first["edge_distance"][:, None] - goal).abs()
            auxiliary = auxiliary + masked_mean(difference, everywhere, weights)
        return main, auxiliary


def pooled(values: Tensor, known: Tensor | None, height: int) -> tuple[Tensor, Tensor]:
    """The mean over the known pixels of each cell of an h×2h grid, and which cells have any."""
    step = values.shape[-2] // height
    if known is None:
        return avg_pool2d(values, step), values.new_ones(1, 1, 1, 1, dtype=torch.bool)
    share = avg_pool2d(known.to(values.dtype), step)
    total = avg_pool2d(torch.where(known, values, 0), step)
    return total / share.clamp(min=1e-6), share > 0
