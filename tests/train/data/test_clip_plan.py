"""The order of clips: integers only, so it is tested by enumeration."""

import itertools

import numpy as np
import pytest
from train_small import small_config

from panoforge.train.data.plan import (
    clip_plan,
    epoch_order,
    noise_seed,
    positions_of_rank,
    prompt_rng,
)

WIDTHS = [256, 256, 512, 256, 512]


def test_every_epoch_shows_every_panorama_equally_often_in_another_order():
    orders = [epoch_order(0, epoch, 5, 3) for epoch in range(4)]
    for order in orders:
        assert np.bincount(order).tolist() == [3] * 5
    assert len({tuple(order) for order in orders}) == 4
    assert not np.array_equal(epoch_order(1, 0, 5, 3), orders[0])


def test_a_clip_is_a_function_of_seed_and_position():
    settings = small_config(clip={"fov_jitter_deg": 5, "reverse": 0.5}).clip
    plans = [clip_plan(settings, 0, position, WIDTHS) for position in range(40)]
    assert (
        plans
        == [clip_plan(settings, 0, position, WIDTHS) for position in reversed(range(40))][::-1]
    )
    assert [plan.epoch for plan in plans] == [position // 5 for position in range(40)]
    assert len({plan.yaw0_deg for plan in plans}) > 30
    assert {plan.reverse for plan in plans} == {True, False} == {plan.flip for plan in plans}
    assert all(0 <= plan.start < 24 and abs(plan.fov_deg - 90) <= 5 for plan in plans)
    assert plans[0] != clip_plan(settings, 1, 0, WIDTHS)
    for plan in plans:  # yaw is a whole number of columns of its own panorama
        columns = plan.yaw0_deg / 360 * WIDTHS[plan.sample]
        assert columns == pytest.approx(round(columns), abs=1e-9)


def test_ranks_share_out_the_same_line():
    for clips_per_step, per_forward, num_ranks in itertools.product((4, 8, 12), (1, 2), (1, 2, 4)):
        if clips_per_step % (per_forward * num_ranks):
            continue
        for step in range(3):
            shares = [
                positions_of_rank(step, clips_per_step, per_forward, rank, num_ranks)
                for rank in range(num_ranks)
            ]
            assert len({len(share) for share in shares}) == 1
            joined = [
                shares[j % num_ranks][j // num_ranks] for j in range(clips_per_step // per_forward)
            ]
            flat = [position for forward in joined for position in forward]
            assert flat == list(range(step * clips_per_step, (step + 1) * clips_per_step))


def test_random_lanes_are_apart():
    assert prompt_rng(0, 1).random() != prompt_rng(0, 2).random() != prompt_rng(1, 1).random()
    assert len({noise_seed(seed, position) for seed in range(3) for position in range(50)}) == 150
