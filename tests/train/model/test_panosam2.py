"""PanoSAM2's three parts, each against its formula in float64 loops; together: off is plain SAM2 to
the bit, on trains.
"""

import itertools
import math

import cv2
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from train_small import small_config

from panoforge.core.errors import DataError
from panoforge.core.geometry.bfov import enclosing_bfov
from panoforge.core.geometry.pixels import pixel_at
from panoforge.core.geometry.sphere import (
    angle_between,
    direction_to_lonlat,
    lonlat_to_direction,
    pixel_to_direction,
)
from panoforge.train.config import TrainConfig
from panoforge.train.data.plan import prompt_rng
from panoforge.train.losses.build import build_loss
from panoforge.train.losses.distortion_loss import DistortionLoss
from panoforge.train.losses.pixel_weights import (
    distances,
    mask_bfov,
    pixel_weights,
    plane_size,
    region_weights,
)
from panoforge.train.losses.sam2_loss import ScanLoss
from panoforge.train.model.build import build_model
from panoforge.train.model.checkpoint_io import parts_in
from panoforge.train.model.panosam2.decoder import MaskFusion, PanoConsistency, SeamConv2d
from panoforge.train.model.panosam2.memory import (
    LongShortMemory,
    sample_by_occlusion,
    sample_frames,
)
from panoforge.train.model.scan_sam2 import ScanSAM2
from panoforge.train.settings.losses import DistortionSettings
from panoforge.train.settings.sam2 import PanoSam2Settings

BOTH = {"decoder": True, "memory": True}


def pano_config(clip: dict | None = None, **changes: object) -> TrainConfig:
    """The small config on whole panoramas, as the decoder and the loss want them."""
    return small_config(clip={"frames_are": "panorama", **(clip or {})}, **changes)


def randomised(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Float64, with every parameter random: nothing hides behind a zero."""
    generator = torch.Generator().manual_seed(seed)
    module.double()
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return module


# -- decoder
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_seam_convolution_is_its_sum(kernel: int):
    """out[c, y, x] = b[c] + Σ w[c, i, dy, dx]·in[i, y + dy, (x + dx) mod W], rows outside being
    zero.
    """
    conv = randomised(SeamConv2d(2, 3, kernel))
    image = torch.randn(1, 2, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    out, half = conv(image), kernel // 2
    for c, y, x in itertools.product(range(3), range(4), range(6)):
        expected = conv.bias[c].item()
        for i, dy, dx in itertools.product(
            range(2), range(-half, half + 1), range(-half, half + 1)
        ):
            if 0 <= y + dy < 4:
                expected += (
                    conv.weight[c, i, dy + half, dx + half].item()
                    * image[0, i, y + dy, (x + dx) % 6].item()
                )
        assert out[0, c, y, x].item() == pytest.approx(expected, abs=1e-12)


def test_pano_consistency_adds_its_three_convolutions_and_turns_with_the_panorama():
    block = randomised(PanoConsistency(4))
    image = torch.randn(
        2, 4, 8, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(2)
    )
    expected = image + sum(conv(image) for conv in block.convs)
    assert [conv.kernel_size[0] for conv in block.convs] == [1, 3, 5]
    assert torch.allclose(block(image), expected, atol=1e-12)
    for shift in (1, 7, 8):
        assert torch.allclose(
            block(image.roll(shift, -1)), block(image).roll(shift, -1), atol=1e-12
        )
    assert not torch.allclose(
        block(image.roll(1, -2)), block(image).roll(1, -2)
    )  # rows do not wrap


def test_new_blocks_change_nothing():
    features, mask = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    assert torch.equal(PanoConsistency(4)(features), features)
    assert torch.equal(MaskFusion(4)(features, mask), features)
    assert torch.equal(MaskFusion(4, 1)(features, mask), features)
    both = torch.cat([features, mask], 1).double()
    point = randomised(MaskFusion(4, 1))
    w, b = point.mix.weight[:, :, 0, 0], point.mix.bias
    assert torch.allclose(
        point(features.double(), mask.double()),
        torch.einsum("oi,bihw->bohw", w, both) + b[:, None, None],
    )
    mixed = randomised(MaskFusion(4))  # 3×3 over the seam
    assert torch.allclose(
        mixed(features.double(), mask.double()),
        torch.nn.functional.conv2d(
            torch.nn.functional.pad(both, (1, 1, 0, 0), mode="circular"),
            mixed.mix.weight,
            mixed.mix.bias,
            padding=(1, 0),
        ),
    )


# -- memory
# ------------------------------------------------------------------------------------------------


def test_sampling_follows_algorithm_1():
    """Without replacement, chance ∝ exp(score) among those left: the frequencies of all ordered
    pairs.
    """
    scores = np.array([-1.0, 0.0, 1.5])
    weights = np.exp(scores)
    rng, counts, n = np.random.default_rng(0), {}, 20_000
    for _ in range(n):
        pair = tuple(sample_by_occlusion(scores, 2, rng))
        counts[pair] = counts.get(pair, 0) + 1
    assert len(counts) == 6
    for (a, b), count in counts.items():
        chance = weights[a] / weights.sum() * weights[b] / (weights.sum() - weights[a])
        assert count / n == pytest.approx(chance, abs=4 * math.sqrt(chance * (1 - chance) / n))


def test_sampling_at_its_edges():
    rng = np.random.default_rng(0)
    assert sample_by_occlusion(np.array([]), 2, rng) == []
    assert sorted(sample_by_occlusion(np.array([0.0, 1.0]), 5, rng)) == [0, 1]
    assert sample_by_occlusion(np.array([-1e4, 1e4]), 1, rng) == [1]  # exp would overflow
    scores = torch.tensor([[0.0, 3.0], [1.0, 2.0], [2.0, 1.0]])
    first = sample_frames(scores, 2, (7, 3))
    assert first.shape == (2, 2) and torch.equal(first, sample_frames(scores, 2, (7, 3)))
    assert any(not torch.equal(first, sample_frames(scores, 2, (seed, 3))) for seed in range(20))


def test_long_short_memory_is_its_formula():
    """M_l = (1 + γ) ⊙ (S·mean_n A_ns) M_s + β in loops: γ, β over space and short-term frames."""
    n, s, b, c, d, h, w = 2, 3, 2, 6, 5, 2, 3
    module = randomised(LongShortMemory(c, d, n))
    g = torch.Generator().manual_seed(3)
    long, short = (torch.randn(k, b, c, dtype=torch.float64, generator=g) for k in (n, s))
    memories = torch.randn(s, b, d, h, w, dtype=torch.float64, generator=g)
    out = module(long, short, memories)
    assert out.shape == memories.shape  # the footprint is the short-term memory's
    one, two = module.film[0], module.film[2]
    for j in range(b):
        weight = [0.0] * s
        for i in range(n):
            exps = [
                math.exp(
                    sum(long[i, j, k].item() * short[t, j, k].item() for k in range(c))
                    / math.sqrt(c)
                )
                for t in range(s)
            ]
            weight = [weight[t] + s * exps[t] / sum(exps) / n for t in range(s)]
        assert sum(weight) == pytest.approx(s)
        mean = [sum(long[i, j, k].item() for i in range(n)) / n for k in range(c)]
        hidden = [
            max(0.0, sum(one.weight[o, k].item() * mean[k] for k in range(c)) + one.bias[o].item())
            for o in range(c)
        ]
        film = [
            sum(two.weight[o, k].item() * hidden[k] for k in range(c)) + two.bias[o].item()
            for o in range(2 * d)
        ]
        for t, k, y, x in itertools.product(range(s), range(d), range(h), range(w)):
            assert out[t, j, k, y, x].item() == pytest.approx(
                (1 + film[k]) * weight[t] * memories[t, j, k, y, x].item() + film[d + k], abs=1e-9
            )


def test_the_memory_has_no_other_parameters_than_its_ffn():
    names = {name for name, _ in LongShortMemory(6, 5, 2).named_parameters()}
    assert names == {"film.0.weight", "film.0.bias", "film.2.weight", "film.2.bias"}


def test_where_all_frames_are_alike_a_new_memory_changes_nothing():
    module, pointer = LongShortMemory(6, 5, 2), torch.randn(1, 2, 6)
    memories = torch.randn(3, 2, 5, 4, 4)
    out = module(torch.randn(2, 2, 6), pointer.expand(3, -1, -1), memories)
    assert torch.allclose(out, memories, atol=1e-6)


def attended(parts: dict, frame: int, backwards: bool = False) -> tuple[dict, object]:
    """What a frame of the micro model attends to after frames with random memories.

    The keyword arguments of the memory attention, and the model.
    """
    model, _ = build_model(pano_config(model={"panosam2": parts}).model)
    model.eval().requires_grad_(False)
    g, side = torch.Generator().manual_seed(5), model.image_size // 16

    def out() -> dict:
        return {
            "maskmem_features": torch.randn(1, model.mem_dim, side, side, generator=g),
            "maskmem_pos_enc": [torch.zeros(1, model.mem_dim, side, side)],
            "obj_ptr": torch.randn(1, model.hidden_dim, generator=g),
            "object_score_logits": torch.randn(1, 1, generator=g),
        }

    others = [t for t in range(24) if t != 4]
    outputs = {
        "cond_frame_outputs": {4: out()},
        "non_cond_frame_outputs": {t: out() for t in others},
    }
    seen: dict = {}

    def catch(module: object, args: object, kwargs: dict) -> None:
        seen.update(kwargs)

    model.memory_attention.register_forward_pre_hook(catch, with_kwargs=True)
    level = torch.randn(side * side, 1, model.hidden_dim, generator=g)
    model._prepare_memory_conditioned_features(
        frame_idx=frame,
        is_init_cond_frame=False,
        current_vision_feats=[level],
        current_vision_pos_embeds=[level],
        feat_sizes=[(side, side)],
        output_dict=outputs,
        num_frames=24,
        track_in_reverse=backwards,
    )
    return seen, model


@pytest.mark.parametrize(("frame", "backwards"), [(15, False), (8, True)])
def test_the_modulated_memory_replaces_the_recent_one(frame: int, backwards: bool):
    """As many spatial tokens as SAM2; the prompted frame's as they were, the six recent changed;
    long pointers are eight tokens at their end.
    """
    plain, model = attended({}, frame, backwards)
    ours, _ = attended({"memory": True}, frame, backwards)
    area = (model.image_size // 16) ** 2
    own = plain["num_obj_ptr_tokens"]
    spatial = plain["memory"].shape[0] - own
    assert spatial == 7 * area
    split = model.hidden_dim // model.mem_dim
    assert ours["num_obj_ptr_tokens"] == own + 2 * split
    assert ours["memory"].shape[0] == plain["memory"].shape[0] + 2 * split
    assert torch.equal(ours["memory"][:area], plain["memory"][:area])
    weights = ours["memory"][area:spatial] / plain["memory"][area:spatial]
    per_frame = weights.reshape(6, -1)
    assert torch.allclose(per_frame, per_frame[:, :1].expand_as(per_frame), atol=1e-3)
    assert per_frame[:, 0].mean().item() == pytest.approx(1.0, abs=1e-4)
    assert per_frame[:, 0].std() > 0.01
    assert torch.equal(ours["memory_pos"][: spatial + own], plain["memory_pos"])
    assert torch.equal(ours["memory"][spatial : spatial + own], plain["memory"][spatial:])


@pytest.mark.parametrize("signed", [True, False])
def test_ages_of_long_pointers_are_counted_as_sam2_counts_its_own(signed: bool):
    model, _ = build_model(pano_config(model={"panosam2": {"memory": True}}).model)
    model.use_signed_tpos_enc_to_obj_ptrs = signed
    assert [model.age_of(9, t, 1) for t in (2, 8)] == [7, 1]
    assert [model.age_of(2, t, -1) for t in (9, 3)] == [7, 1]
    assert model.age_of(2, 5, 1) == (-3 if signed else 3)  # a prompted frame that is yet to come


def test_the_memory_costs_no_operations_but_its_pointers():
    """The count of the paper's table is the witness: no token of an old frame is attended to."""
    from bench.panosam2_operations import built, operations

    plain, ours = (operations(built(parts, "micro", 128)) for parts in ({}, {"memory": True}))
    model = built({}, "micro", 128)
    area, width = 64, model.hidden_dim
    tokens = 2 * width // model.mem_dim
    keys = 2 * 2 * model.mem_dim * width  # K and V of a token, two operations a multiply-add
    scores = 2 * 2 * area * width  # its similarity to all queries, and its share of their sum
    more = len(model.memory_attention.layers) * tokens * (keys + scores) / 1e9
    found = ours["MemoryAttention"] - plain["MemoryAttention"]
    assert found == pytest.approx(more, rel=1e-6)
    assert ours["MemoryEncoder"] == plain["MemoryEncoder"]


# -- loss
# ------------------------------------------------------------------------------------------------

SETTINGS = DistortionSettings()


def cap(
    lon_deg: float, lat_deg: float, radius_deg: float, width: int = 256, height: int = 128
) -> np.ndarray:
    directions = pixel_to_direction(
        np.arange(width)[None, :], np.arange(height)[:, None], width, height
    )
    centre = lonlat_to_direction(math.radians(lon_deg), math.radians(lat_deg))
    return angle_between(directions, centre) <= math.radians(radius_deg)


def weights_of(mask: np.ndarray, settings: DistortionSettings = SETTINGS) -> np.ndarray:
    return pixel_weights(torch.from_numpy(mask), settings).numpy()


@pytest.mark.parametrize("foreground", ["ratio", "share"])
@pytest.mark.parametrize("decay_is", ["exponential", "linear"])
@pytest.mark.parametrize("share", [0.02, 0.4, 0.9])
def test_region_weights_are_their_formula(share: float, decay_is: str, foreground: str):
    """Both readings of the text's two open places."""
    settings = DistortionSettings(decay=0.7, decay_is=decay_is, foreground=foreground)
    region = np.random.default_rng(5).random((9, 7)) < share
    region[4, 3] = True
    out = region_weights(torch.from_numpy(region), settings).numpy()
    inside, outside = region.sum(), (~region).sum()
    points = np.argwhere(region)
    distance = {
        (y, x): min(math.hypot(y - a, x - b) for a, b in points) for y, x in np.argwhere(~region)
    }
    on, off = (
        (min(max(outside / inside, 0.5), 2.0), min(max(inside / outside, 0.5), 2.0))
        if foreground == "ratio"
        else (min(max(inside / region.size, 0.5), 2.0), outside / region.size)
    )
    for (y, x), weight in np.ndenumerate(out):
        far = 0.7 * distance.get((y, x), 0.0) / max(distance.values())
        falls = math.exp(-far) if decay_is == "exponential" else 1 - far
        assert weight == pytest.approx(on if region[y, x] else off * falls, rel=1e-5)


def test_distances_are_opencvs():
    region = np.random.default_rng(6).random((37, 53)) < 0.01
    expected = cv2.distanceTransform((~region).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    assert np.allclose(distances(torch.from_numpy(region)).numpy(), expected, atol=1e-4)


def test_a_linear_decay_beyond_the_farthest_pixel_is_refused():
    with pytest.raises(ValidationError, match=r"decay \(1\.5\) must not be above 1 where decay_is"):
        DistortionSettings(decay=1.5, decay_is="linear")


@pytest.mark.parametrize(
    ("lon", "lat", "radius"), [(0, 0, 3), (179, 45, 12), (-100, -70, 25), (0, 85, 10), (10, 0, 50)]
)
def test_weights_lie_where_the_bfov_sees_them(lon: float, lat: float, radius: float):
    """The BFoV is core's. Every pixel's weight is the plane's at its own ray, one at a time; parts
    that are left out of the search are at the least weight.
    """
    mask = cap(lon, lat, radius)
    bfov, expected = mask_bfov(torch.from_numpy(mask)), enclosing_bfov(mask, 1.5, 150.0)
    assert (bfov.yaw_deg, bfov.pitch_deg, bfov.tan_x, bfov.tan_y) == pytest.approx(
        (expected.yaw_deg, expected.pitch_deg, expected.tan_x, expected.tan_y), abs=1e-9
    )
    w, h = plane_size(bfov)
    x, y = np.meshgrid(*((np.arange(n) + 0.5) * 2 / n - 1 for n in (w, h)))
    column, row = pixel_at(*direction_to_lonlat(bfov.directions(x, y)), 256, 128)
    local = region_weights(torch.from_numpy(mask[row, column]), SETTINGS).numpy()
    found = weights_of(mask)
    at = pixel_to_direction(np.arange(256)[None, :], np.arange(128)[:, None], 256, 128)
    wrong = 0
    for v, u in itertools.product(range(128), range(256)):
        px, py = (float(p) for p in bfov.places(at[v, u]))
        sees = abs(px) < 1 and abs(py) < 1
        weight = local[int((py + 1) / 2 * h), int((px + 1) / 2 * w)] if sees else local.min()
        wrong += found[v, u] != weight
    assert wrong <= 3  # on the very edge of a pixel of the plane


@pytest.mark.parametrize("lon", [0, 90, 179, -180])
@pytest.mark.parametrize("lat", [0, 45, -70])
def test_bounding_fov_of_a_cap(lon: float, lat: float):
    """Centre and angles of a spherical cap are its own, at the seam and high up."""
    bfov = enclosing_bfov(cap(lon, lat, 12), margin=1.0, max_fov_deg=150)
    off = angle_between(
        bfov.axes()[:, 2],
        lonlat_to_direction(math.radians(lon), math.radians(lat)),
    )
    assert math.degrees(float(off)) < 0.5
    assert bfov.fov_deg == pytest.approx((24, 24), abs=2.5)  # a pixel is 1.4°


def test_weights_of_a_small_cap():
    """Rare foreground weighs the most, background near it more than far from it, and outside the
    BFoV the least.
    """
    mask = cap(30, 20, 8, 1024, 512)
    ratio = (
        math.tan(math.radians(12)) / math.tan(math.radians(8))
    ) ** 2 * 4 / math.pi - 1  # a disc in its square
    assert np.median(weights_of(mask, DistortionSettings(weight_max=9))[mask]) == pytest.approx(
        ratio, rel=0.08
    )
    weights = weights_of(mask)
    assert np.median(weights[mask]) == pytest.approx(min(ratio, 2.0), rel=0.08)
    near, far = cap(30, 20, 10, 1024, 512) & ~mask, ~cap(30, 20, 40, 1024, 512)
    assert (
        np.median(weights[near])
        > np.median(weights[far])
        == weights.min()
        > 0.5 * math.exp(-1) - 1e-6
    )
    assert weights.max() <= 2.0
    turned = weights_of(np.roll(mask, 480, axis=1))  # across the seam
    assert np.mean(np.abs(np.roll(weights, 480, axis=1) - turned) < 0.1) > 0.99
    assert (weights_of(np.zeros((8, 16), bool)) == 1).all()


def test_with_equal_weights_it_is_sam2s_loss(source, tiny_model, monkeypatch):
    batch = source.batch((0, 1))
    batch.masks[1:, 0] = False  # an absent object too
    plain, ours = (
        build_loss(pano_config().loss),
        build_loss(pano_config(loss={"distortion": {}}).loss),
    )
    assert type(plain) is ScanLoss and type(ours) is DistortionLoss
    tiny_model.rng = prompt_rng(2, 0)
    with torch.no_grad():
        outs = tiny_model(batch)
    weighted = ours(outs, batch.masks, 2.0)
    monkeypatch.setattr(ours, "frame_weights", lambda targets: torch.ones(targets.shape))
    for name, value in plain(outs, batch.masks, 2.0).items():
        assert ours(outs, batch.masks, 2.0)[name].item() == pytest.approx(value.item(), rel=1e-5), (
            name
        )
    assert weighted["loss_mask"].item() != pytest.approx(
        plain(outs, batch.masks, 2.0)["loss_mask"].item(), rel=1e-2
    )


def test_each_frame_has_its_own_weights(source):
    """The focal term of two frames is that of either with the weights of its own truth."""
    batch = source.batch((0,))
    loss = build_loss(pano_config(loss={"distortion": {}}).loss)
    frames = [
        {
            "multistep_pred_multimasks_high_res": [torch.randn(batch.masks.shape[1], 1, 128, 128)],
            "multistep_pred_ious": [torch.rand(batch.masks.shape[1], 1)],
            "multistep_object_score_logits": [torch.zeros(batch.masks.shape[1], 1)],
        }
        for _ in batch.masks
    ]
    total = 0.0
    for frame, targets in zip(frames, batch.masks, strict=True):
        logits, truth = frame["multistep_pred_multimasks_high_res"][0][:, 0], targets.float()
        for mask, x, t in zip(targets, logits, truth, strict=True):
            terms = (
                (0.25 * t + 0.75 * (1 - t))
                * (x.sigmoid() - t).abs() ** 2
                * torch.nn.functional.softplus((1 - 2 * t) * x)
            )
            total += float((pixel_weights(mask, SETTINGS) * terms).mean()) * bool(mask.any())
    assert loss(frames, batch.masks, 1.0)["loss_mask"].item() == pytest.approx(total, rel=1e-5)


# -- the model
# ------------------------------------------------------------------------------------------------


def test_off_is_plain_sam2_to_the_bit(tiny_model, source):
    off, _ = build_model(
        pano_config(model={"size": "tiny", "panosam2": {"decoder": False, "memory": False}}).model,
        pano_config().prompt,
    )
    assert type(off) is ScanSAM2 and off.state_dict().keys() == tiny_model.state_dict().keys()
    assert not any("panosam2" in key for key in off.state_dict())
    assert (
        "panosam2" not in pano_config().numbers()["model"]
        and "distortion" not in pano_config().numbers()["loss"]
    )
    assert pano_config(model={"panosam2": BOTH}).sha256() != pano_config().sha256()
    batch = source.batch((0,))
    assert all(
        torch.equal(a, b)
        for a, b in zip(masks_of(off, batch), masks_of(tiny_model, batch), strict=True)
    )


def masks_of(model: ScanSAM2, batch) -> list[torch.Tensor]:
    model.rng = prompt_rng(0, 1)
    torch.manual_seed(1)
    with torch.no_grad():
        return [out["pred_masks_high_res"] for out in model(batch)]


def test_a_new_decoder_gives_what_sam2_gives(tiny_model, source):
    model, _ = build_model(
        pano_config(model={"size": "tiny", "panosam2": {"decoder": True}}).model,
        pano_config().prompt,
    )
    batch = source.batch((0,))
    for a, b in zip(masks_of(model, batch), masks_of(tiny_model, batch), strict=True):
        assert torch.allclose(a, b, atol=1e-4)
    assert not any(
        p.requires_grad for p in model.memory_encoder.mask_downsampler.parameters()
    )  # §3.1: frozen
    assert all(p.requires_grad for p in model.memory_encoder.fuser.parameters())


@pytest.mark.parametrize(
    "parts", [{"decoder": True}, {"decoder": True, "previous_mask": False}, {"memory": True}, BOTH]
)
def test_every_part_gets_gradients(parts: dict, source):
    """One step, with blocks that are not zero: every parameter of every part is used, also through
    corrections.
    """
    model, _ = build_model(pano_config(model={"panosam2": parts}).model, pano_config().prompt)
    for parameter in model.panosam2.parameters():
        parameter.data += 0.01 * torch.randn(
            parameter.shape, generator=torch.Generator().manual_seed(0)
        )
    batch = source.batch((0,))
    model.rng = prompt_rng(0, 0)
    torch.manual_seed(0)
    build_loss(pano_config().loss)(model(batch), batch.masks, 1.0)["loss"].backward()
    missing = [
        name for name, p in model.panosam2.named_parameters() if p.grad is None or not p.grad.any()
    ]
    assert not missing
    assert parts_in(model.state_dict()) == PanoSam2Settings(**parts).record()


def test_the_previous_mask_is_used_where_a_frame_is_tracked(source):
    """A change of frame 0's mask reaches frame 1 through the fusion alone: the memory does not see
    it.
    """
    model, _ = build_model(
        pano_config(model={"panosam2": {"decoder": True}}).model, pano_config().prompt
    )
    fusion = model.panosam2["decoder"].fusion
    seen = []
    fusion.register_forward_pre_hook(lambda module, args: seen.append(args[1].clone()))
    masks_of(model, source.batch((0,)))
    assert (
        len(seen) >= source.batch((0,)).num_frames - 2
    )  # every frame but the prompted ones (at most two)
    logits = torch.randn(1, 1, 32, 32)
    expected = model.memory_encoder.mask_downsampler(
        torch.nn.functional.interpolate(logits, (128, 128), mode="bilinear").sigmoid() * 20 - 10
    )
    assert torch.allclose(model.mask_features(logits), expected)


def test_refused_by_name_where_the_parts_differ(tmp_path):
    from panoforge.train.model.checkpoint_export import export_official

    config = pano_config(model={"panosam2": BOTH})
    model, _ = build_model(config.model, config.prompt)
    path = export_official(tmp_path / "model.pt", model.state_dict(), 3)
    assert torch.load(path, weights_only=True)["panosam2"] == {
        "decoder": True,
        "previous_mask": True,
        "fusion_kernel": 3,
        "memory": True,
        "long_pointers": 2,
    }
    others = [
        {},
        {"panosam2": {"decoder": True}},
        {"panosam2": {**BOTH, "long_pointers": 3}},
        {"panosam2": {**BOTH, "fusion_kernel": 1}},
    ]
    for other in others:
        with pytest.raises(
            DataError,
            match=r"holds PanoSAM2's parts \{'decoder': True.*set model\.panosam2 to what the file",
        ):
            build_model(pano_config(model={**other, "checkpoint": str(path)}).model, config.prompt)
    again, weights = build_model(
        pano_config(model={"panosam2": BOTH, "checkpoint": str(path)}).model, config.prompt, seed=9
    )
    assert not weights.random and all(
        torch.equal(v, model.state_dict()[k]) for k, v in again.state_dict().items()
    )
    plain = export_official(
        tmp_path / "plain.pt",
        {k: v for k, v in model.state_dict().items() if "panosam2" not in k},
        3,
    )
    begun, _ = build_model(
        pano_config(model={"panosam2": BOTH, "checkpoint": str(plain)}).model, config.prompt, seed=9
    )
    assert torch.equal(
        begun.no_obj_ptr, model.no_obj_ptr
    )  # SAM2's weights come in, the parts start afresh


def test_a_second_run_may_add_the_memory(tmp_path):
    """A checkpoint of the decoder alone begins a model with both; the memory starts afresh."""
    from panoforge.train.model.checkpoint_export import export_official

    config = pano_config(model={"panosam2": {"decoder": True}})
    first, _ = build_model(config.model, config.prompt)
    randomised(first.panosam2)
    path = export_official(tmp_path / "first.pt", first.state_dict(), 3)
    both = pano_config(model={"panosam2": BOTH, "checkpoint": str(path)})
    second, weights = build_model(both.model, both.prompt, seed=9)
    assert not weights.random
    for name, value in first.panosam2.state_dict().items():
        assert torch.equal(second.panosam2.state_dict()[name].double(), value.float().double())
    assert not second.panosam2["memory"].film[2].weight.any()
    for name in ("1x1", "with the old memory"):
        state = dict(second.state_dict())
        if name == "1x1":
            state["panosam2.decoder.fusion.mix.weight"] = torch.zeros(128, 256, 1, 1)
        else:
            state["panosam2.memory.age"] = torch.zeros(1, 1, 64)
        file = export_official(tmp_path / "other.pt", state, 3)
        expected = "fusion_kernel': 1" if name == "1x1" else "as it was until 2026-11.*Train again"
        with pytest.raises(DataError, match=expected):
            build_model(pano_config(model={"panosam2": BOTH, "checkpoint": str(file)}).model)


def test_trains_exports_and_evaluates(caps_dataset, tmp_path):
    """The whole way, with all three parts on: `pano train`, its export, `pano eval` on it, with and
    without memory in play.
    """
    from panoforge.eval.config import EvalConfig
    from panoforge.eval.run import run_evaluation
    from panoforge.train.run import run_training

    config = pano_config(
        model={"size": "micro", "panosam2": BOTH},
        loss={"distortion": {}},
        steps=2,
        clips_per_step=1,
    )
    export = run_training(config, caps_dataset, tmp_path / "train")
    results = run_evaluation(
        EvalConfig.model_validate(
            {
                "methods": ["direct", "scan"],
                "model": {"size": "micro", "image_size": 128, "checkpoint": str(export)},
                "max_panoramas": 1,
                "instances": {"max_per_panorama": 1},
                "device": "cpu",
            }
        ),
        caps_dataset,
        tmp_path / "eval",
    ).results
    assert results["weights"]["steps"] == 2
    assert {row["predictor"] for row in results["rows"] if row["role"] == "model"} == {"PanoSAM2"}


def test_perspective_views_are_refused_by_the_decoder_and_the_loss():
    for changes, name in (
        ({"model": {"panosam2": {"decoder": True}}}, r"model\.panosam2\.decoder"),
        ({"loss": {"distortion": {}}}, r"loss\.distortion"),
    ):
        with pytest.raises(
            ValidationError,
            match=name + " need frames that are whole panoramas.*set clip.frames_are to panorama",
        ):
            small_config(**changes)
    small_config(model={"panosam2": {"memory": True}})


def test_whole_panoramas_turn(caps, caps_dataset):
    """Frame t is frame 0 rolled by t turns, pictures and masks alike, and the same clip comes
    again.
    """
    from panoforge.train.data.loader import ClipSource

    config = pano_config(
        clip={"flip": 0, "colour_jitter": 0, "grayscale": 0, "turn_deg": 45.0, "min_area_sr": 0.01}
    )
    source = ClipSource(caps, config)
    batch = source.batch((3,))
    assert torch.equal(batch.img_batch, source.batch((3,)).img_batch)
    step = 128 // 8
    for t in (1, 2):
        assert torch.equal(batch.masks[t], batch.masks[0].roll(-t * step, -1))
        assert torch.allclose(batch.img_batch[t], batch.img_batch[0].roll(-t * step, -1), atol=1e-5)
    assert batch.masks.flatten(2).any(2).all()  # on a sphere nothing leaves
    flipped = ClipSource(
        caps,
        pano_config(
            clip={
                "flip": 1,
                "colour_jitter": 0,
                "grayscale": 0,
                "turn_deg": 45.0,
                "min_area_sr": 0.01,
            }
        ),
    ).batch((3,))
    assert torch.equal(flipped.masks, batch.masks.flip(-1))
