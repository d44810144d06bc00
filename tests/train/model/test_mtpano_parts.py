"""What MTPano's parts compute, against what their docstrings write.

`test_mtpano.py` asks what holds of the whole model. A part may hold all of that and be another
formula: these were met by planting bugs that no test there saw.
"""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from panoforge.core.geometry.sphere import pixel_to_direction
from panoforge.train.model.mtpano.mixer import TokenMixer
from panoforge.train.model.mtpano.rays import position_map, ray_map
from panoforge.train.model.mtpano.streams import Modulation
from panoforge.train.model.mtpano.vit import rotate, sphere_rotary
from panoforge.train.model.seam import SeamConv2d

HEIGHT, WIDTH = 6, 12


def middle_alone(conv: SeamConv2d, factor: float) -> None:
    """Make a convolution give `factor` times its input."""
    with torch.no_grad():
        conv.weight.zero_()
        assert conv.bias is not None
        conv.bias.zero_()
        down, across = (size // 2 for size in conv.kernel_size)
        for channel in range(conv.out_channels):
            conv.weight[channel, channel if conv.groups == 1 else 0, down, across] = factor


def test_rays_and_places_are_those_of_the_projects_sphere() -> None:
    index = np.arange(WIDTH)
    rays = pixel_to_direction(index[None, :], index[:HEIGHT, None], WIDTH, HEIGHT)
    ours = np.moveaxis(ray_map(HEIGHT, WIDTH).numpy(), 0, -1)
    assert np.allclose(ours, rays, atol=1e-12)
    told = position_map(HEIGHT, WIDTH, "absolute").numpy()
    assert np.allclose(np.moveaxis(told[:3], 0, -1), rays, atol=1e-6)
    lat, lon = np.arcsin(rays[..., 2]), np.arctan2(rays[..., 0], rays[..., 1])
    assert np.allclose(told[3], lat / (np.pi / 2), atol=1e-6)
    assert np.allclose(told[4], lon / np.pi, atol=1e-6)
    alone = position_map(HEIGHT, WIDTH, "none").numpy()
    wanted = np.stack([np.cos(lat), np.sin(lat), lat / (np.pi / 2)])
    assert np.allclose(alone, wanted, atol=1e-6)


def test_the_mixer_blends_by_the_vertical_part_of_the_ray() -> None:
    mixer = TokenMixer(4)
    middle_alone(mixer.near_equator, 1.0)
    middle_alone(mixer.near_poles, 5.0)
    found = mixer(torch.ones(1, 4, HEIGHT, WIDTH))
    z = ray_map(HEIGHT, WIDTH)[2].abs().float()
    assert torch.allclose(found, ((1 - z) + 5 * z).expand_as(found), atol=1e-6)


def test_above_and_below_a_convolution_sees_nothing() -> None:
    conv = SeamConv2d(1, 1, 3, bias=False)
    with torch.no_grad():
        conv.weight.fill_(1.0)
    found = conv(torch.ones(1, 1, HEIGHT, WIDTH))[0, 0]
    assert found[1:-1].eq(9).all() and found[[0, -1]].eq(6).all()


def test_a_modulation_begins_as_nothing_and_then_scales_and_shifts() -> None:
    part, features = Modulation(2, "absolute"), torch.randn(1, 2, HEIGHT, WIDTH)
    assert torch.equal(part(features), features)
    with torch.no_grad():
        part.outer.bias.copy_(torch.tensor([0.5, -1.0, 3.0, 0.25]))  # γ of both, then β of both
    wanted = features * torch.tensor([1.5, 0.0])[None, :, None, None]
    wanted = wanted + torch.tensor([3.0, 0.25])[None, :, None, None]
    assert torch.allclose(part(features), wanted, atol=1e-6)


@pytest.mark.parametrize("channels", [8, 24])
def test_attention_knows_differences_of_place_alone(channels: int) -> None:
    """q·k of two tokens is the same for all pairs that lie alike, over the seam too."""
    cos, sin = sphere_rotary(HEIGHT, WIDTH, channels)
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn((2, channels), generator=generator)

    def turned(token: Tensor) -> Tensor:
        return rotate(token.expand(1, 1, HEIGHT * WIDTH, channels), cos, sin)[0, 0]

    scores = (turned(query) @ turned(key).mT).reshape(HEIGHT, WIDTH, HEIGHT, WIDTH)
    by_columns = [scores.roll((s, s), dims=(1, 3)) for s in (1, 5)]
    assert all(torch.allclose(moved, scores, atol=1e-4) for moved in by_columns)
    assert torch.allclose(scores[1:, :, 1:], scores[:-1, :, :-1], atol=1e-4)  # by rows
    spread = scores[2, 0, 2].std(), scores[:, 0, :, 0].std()
    assert all(one > 0.05 * math.sqrt(channels) for one in spread)  # and it knows them at all
