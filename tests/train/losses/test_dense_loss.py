"""The dense losses: against float64 brute force, over known pixels alone, over the seam."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from panoforge.core.categories.class_sets import VOID
from panoforge.core.geometry.sphere import row_area_sr
from panoforge.train.data.dense_batch import DenseBatch
from panoforge.train.losses.dense.dense_loss import LOSS_NAMES, DenseLoss, pooled
from panoforge.train.losses.dense.semantic import dice_term, semantic_term
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

B, K, H, W = 2, 5, 16, 32
ONES = torch.ones(1, 1, H, 1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def truth(seed: int = 0) -> DenseBatch:
    g = generator(seed)
    normal = torch.randn(B, 3, H, W, generator=g)
    return DenseBatch(
        rgb=torch.rand(B, 3, H, W, generator=g),
        semantic=torch.randint(0, K, (B, H, W), generator=g),
        depth_m=torch.rand(B, H, W, generator=g) * 5 + 1,
        normal=torch.nn.functional.normalize(normal, dim=1),
        image_gradient=torch.randn(B, 2, H, W, generator=g),
        edge_distance=torch.rand(B, H, W, generator=g),
        fit_depth=torch.zeros(B, dtype=torch.bool),
    )


def guess(seed: int = 1) -> DensePrediction:
    g = generator(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g).requires_grad_()

    first = {
        "semantic": random(B, K, 4, 8),
        "depth": random(B, 4, 8),
        "normal": random(B, 3, 4, 8),
        "image_gradient": random(B, 2, 4, 8),
        "edge_distance": random(B, 4, 8),
        "point_map": random(B, 3, 4, 8),
    }
    return DensePrediction(random(B, K, H, W), random(B, H, W), random(B, 3, H, W), first)


def leaves(said: DensePrediction) -> list[Tensor]:
    return [said.semantic, said.depth_m, said.normal, *said.intermediate.values()]


def test_the_whole_is_the_sum_of_its_parts_and_every_prediction_is_taught() -> None:
    said = guess()
    losses = DenseLoss(DenseLossSettings())(said, truth(), 2.0)
    assert tuple(losses) == LOSS_NAMES
    assert losses["loss"].item() == pytest.approx(
        sum(losses[name].item() for name in LOSS_NAMES[1:]), rel=1e-6
    )
    losses["loss"].backward()
    assert all(leaf.grad.abs().max() > 0 for leaf in leaves(said))
    half = DenseLoss(DenseLossSettings())(said, truth(), 4.0)
    assert half["loss"].item() == pytest.approx(losses["loss"].item() / 2, rel=1e-6)


def test_panoramas_add_up_however_they_are_dealt_out() -> None:
    said, batch, loss = guess(), truth(), DenseLoss(DenseLossSettings())
    whole = loss(said, batch, 2.0)["loss"]
    parts = 0.0
    for i in range(B):
        one = DensePrediction(
            said.semantic[i : i + 1],
            said.depth_m[i : i + 1],
            said.normal[i : i + 1],
            {name: value[i : i + 1] for name, value in said.intermediate.items()},
        )
        own = DenseBatch(*(getattr(batch, name)[i : i + 1] for name in batch.__dataclass_fields__))
        parts += loss(one, own, 2.0)["loss"].item()
    assert whole.item() == pytest.approx(parts, rel=1e-5)


def test_a_perfect_prediction_costs_nothing() -> None:
    batch = truth()
    rays = ray_map(H, W).float()
    known = torch.ones(B, 1, H, W, dtype=torch.bool)
    depth, _ = pooled(batch.depth_m[:, None], known, 4)
    normal, _ = pooled(batch.normal, known, 4)
    points, _ = pooled(batch.depth_m[:, None] * rays, known, 4)
    first = {
        "depth": depth[:, 0],
        "normal": torch.nn.functional.normalize(normal, dim=1),
        "image_gradient": pooled(batch.image_gradient, None, 4)[0],
        "edge_distance": pooled(batch.edge_distance[:, None], None, 4)[0][:, 0],
        "point_map": points,
    }
    onehot = torch.nn.functional.one_hot(batch.semantic, K).movedim(-1, 1) * 60.0
    said = DensePrediction(onehot, batch.depth_m, batch.normal, first)
    losses = DenseLoss(DenseLossSettings())(said, batch, 2.0)
    for name in LOSS_NAMES:
        assert abs(losses[name].item()) < 2e-5, name


def test_pixels_without_truth_are_asked_nothing() -> None:
    batch, left = truth(), slice(0, W // 2)
    semantic, depth, normal = batch.semantic.clone(), batch.depth_m.clone(), batch.normal.clone()
    semantic[..., left], depth[..., left], normal[..., left] = VOID, torch.inf, 0
    said = guess()
    dark = replace(batch, semantic=semantic, depth_m=depth, normal=normal)
    settings = DenseLossSettings(depth_detail=0, normal_detail=0)
    losses = DenseLoss(settings)(said, dark, 2.0)
    assert torch.isfinite(losses["loss"])
    losses["loss"].backward()
    for leaf in (said.semantic, said.depth_m, said.normal):
        assert leaf.grad[..., left].abs().max() == 0 and leaf.grad[..., W // 2 :].abs().max() > 0
    nothing = replace(
        batch,
        semantic=torch.full_like(semantic, VOID),
        depth_m=torch.full_like(depth, torch.inf),
        normal=torch.zeros_like(normal),
    )
    said = guess()
    losses = DenseLoss(DenseLossSettings(auxiliary=0))(said, nothing, 2.0)
    losses["loss"].backward()
    assert losses["loss"].item() < 1e-6
    assert all(leaf.grad is None or leaf.grad.abs().max() < 1e-6 for leaf in leaves(said))


def test_no_loss_knows_where_the_seam_is() -> None:
    said, batch, loss = guess(), truth(), DenseLoss(DenseLossSettings(pixels="solid_angle"))
    by = 8
    rolled = DensePrediction(
        *(getattr(said, name).roll(by, -1) for name in ("semantic", "depth_m", "normal")),
        {name: value.roll(by // 4, -1) for name, value in said.intermediate.items()},
    )
    turned = {
        name: getattr(batch, name).roll(by, -1)
        for name in batch.__dataclass_fields__
        if name != "fit_depth"
    }
    moved = replace(batch, **turned)
    a, b = loss(said, batch, 2.0), loss(rolled, moved, 2.0)
    for name in ("semantic", "depth", "normal", "intermediate"):
        assert a[name].item() == pytest.approx(b[name].item(), rel=1e-5), name


def test_what_lies_beyond_the_limit_is_only_asked_to_lie_there() -> None:
    loss = DenseLoss(DenseLossSettings(depth_limit_m=10, depth_edges=0, depth_detail=0))
    batch = truth()
    batch = replace(batch, depth_m=torch.full((B, H, W), 50.0))
    for metres, cost in ((8.0, 2.0), (12.0, 0.0), (70.0, 0.0)):
        predicted = torch.full((B, H, W), metres)
        assert loss.depth(predicted, batch).tolist() == pytest.approx([cost] * B)
    near = replace(batch, depth_m=torch.full((B, H, W), 4.0))
    assert loss.depth(torch.full((B, H, W), 12.0), near).tolist() == pytest.approx([8.0] * B)


def test_depth_up_to_scale_and_shift_costs_nothing_where_it_is_fitted() -> None:
    batch = truth()
    predicted = 0.3 * batch.depth_m + 2
    loss = DenseLoss(DenseLossSettings())
    assert loss.depth(predicted, batch).min() > 0.1
    fit = replace(batch, fit_depth=torch.tensor([True, False]))
    fitted_loss = loss.depth(predicted, fit)
    assert fitted_loss[0] < 1e-4 and fitted_loss[1] > 0.1


def test_the_fit_is_least_squares_over_known_pixels() -> None:
    g = generator()
    predicted, goal = (torch.rand(1, 1, H, W, generator=g).double() for _ in range(2))
    mask = torch.rand(1, 1, H, W, generator=g) > 0.3
    weights = pixel_weights_of_rows(H, True).double()
    goal = torch.where(mask, goal, torch.inf)
    found = fitted(predicted, torch.where(mask, goal, 0), mask, weights)
    x, y = predicted[mask].numpy(), goal[mask].numpy()
    root = np.sqrt(weights.expand_as(mask)[mask].numpy())
    design = np.stack([x, np.ones_like(x)], axis=1) * root[:, None]
    scale, shift = np.linalg.lstsq(design, y * root, rcond=None)[0]
    assert np.allclose(found.numpy(), scale * predicted.numpy() + shift)


def test_dice_and_cross_entropy_are_as_written() -> None:
    g = generator()
    logits = torch.randn(1, K, H, W, generator=g).double()
    target = torch.randint(0, K - 1, (1, H, W), generator=g)
    target[0, :3] = VOID
    weights = pixel_weights_of_rows(H, True).double()
    p = logits.softmax(dim=1)[0].numpy()
    w = weights[0, 0].expand(H, W).numpy().copy()
    w[:3] = 0
    ratios, entropy = [], 0.0
    for k in range(K - 1):  # the last class is not there
        t = (target[0] == k).numpy()
        ratios.append((2 * (w * p[k] * t).sum() + 1) / ((w * p[k]).sum() + (w * t).sum() + 1))
        entropy -= (w * t * np.log(p[k])).sum()
    mask = (target != VOID)[:, None]
    assert dice_term(logits, target, mask * weights).item() == pytest.approx(1 - np.mean(ratios))
    whole = semantic_term(logits, target, weights).item()
    assert whole == pytest.approx(entropy / w.sum() + 1 - np.mean(ratios))


def test_pixels_weigh_their_part_of_the_sphere_where_it_is_asked_for() -> None:
    assert torch.equal(pixel_weights_of_rows(H, False), torch.ones(1, 1, H, 1))
    weights = pixel_weights_of_rows(H, True)
    area = row_area_sr(W, H)
    assert torch.allclose(weights[0, 0, :, 0].double(), torch.tensor(area / area.mean()))
    values = torch.zeros(1, 1, H, W)
    values[0, 0, H // 2, 3] = 1
    everywhere = torch.ones(1, 1, H, W, dtype=torch.bool)
    found = masked_mean(values, everywhere, weights).item()
    assert found == pytest.approx(area[H // 2] / (4 * np.pi), rel=1e-5)


def test_edges_and_detail_see_steps_and_not_levels() -> None:
    everywhere = torch.ones(1, 1, H, W, dtype=torch.bool)
    flat, step = torch.zeros(1, 1, H, W), torch.zeros(1, 1, H, W)
    step[..., W // 2 :] = 1
    assert edge_term(flat + 3, flat, everywhere, ONES).item() == 0
    # |Sobel| / 8 is ½ in two columns at each of the two steps, the seam's too; of two channels
    assert edge_term(step, flat, everywhere, ONES).item() == pytest.approx(4 * 0.5 / W / 2)
    assert detail_term(flat + 3, flat, everywhere).item() < 1e-5
    checks = (torch.arange(W) % 2 * 2.0 - 1).expand(1, 1, H, W)
    slow = torch.sin(torch.arange(W) * 2 * torch.pi / W).expand(1, 1, H, W)
    assert detail_term(checks, flat, everywhere) > 100 * detail_term(slow, flat, everywhere)
    holed = everywhere.clone()
    holed[..., W // 2 - 1 : W // 2 + 1] = False
    holed[..., [0, -1]] = False
    assert edge_term(step, flat, holed, ONES).item() == 0  # no whole neighbourhood sees a step


def test_a_unit_of_point_map_is_a_ray_times_its_depth() -> None:
    batch = truth()
    said = guess()
    only = DensePrediction(None, None, None, {"point_map": said.intermediate["point_map"]})
    loss = DenseLoss(DenseLossSettings(auxiliary=1.0))
    points = batch.depth_m[:, None] * ray_map(H, W).float()
    coarse = points.unflatten(-1, (8, 4)).unflatten(-3, (4, 4)).mean(dim=(-3, -1))
    exact = (only.intermediate["point_map"] - coarse).abs().mean(dim=(1, 2, 3)).sum() / 2
    assert loss(only, batch, 2.0)["auxiliary"].item() == pytest.approx(exact.item(), rel=1e-5)
    fit = replace(batch, fit_depth=torch.ones(B, dtype=torch.bool))
    assert loss(only, fit, 2.0)["auxiliary"].item() == 0  # of unknown scale
