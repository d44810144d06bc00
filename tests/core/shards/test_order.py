"""The order of samples: a function of (seed, epoch, position), the same for every number of ranks
and workers.
"""

import copy
import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from panoforge.core.errors import UsageError
from panoforge.core.shards.order import (
    SampleOrder,
    Shuffle,
    batch,
    batches_of_worker,
    by_shard,
    permutation,
    positions_of_rank,
)

shard_sizes = st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(any)
shuffles = st.builds(
    Shuffle, seed=st.integers(0, 2**70), window=st.integers(1, 15), on=st.booleans()
)


def order_of(sizes: list[int], shuffle: Shuffle) -> SampleOrder:
    ends = np.cumsum([0, *sizes])
    return SampleOrder([np.arange(a, b) for a, b in itertools.pairwise(ends)], shuffle)


@given(sizes=shard_sizes, shuffle=shuffles, epoch=st.integers(0, 10**12))
def test_every_epoch_shows_every_sample_once(sizes, shuffle, epoch):
    order = order_of(sizes, shuffle)
    seen = [order.sample(epoch * len(order) + index) for index in range(len(order))]
    assert sorted(seen) == list(range(sum(sizes)))
    if not shuffle.on:
        assert seen == list(range(sum(sizes)))


@given(sizes=shard_sizes, shuffle=shuffles, positions=st.lists(st.integers(0, 10**15), max_size=8))
def test_a_position_needs_no_history(sizes, shuffle, positions):
    used = order_of(sizes, shuffle)
    assert [used.sample(p) for p in positions] == [
        order_of(sizes, shuffle).sample(p) for p in positions
    ]


@given(sizes=shard_sizes, shuffle=shuffles, epoch=st.integers(0, 1000))
def test_a_shard_is_used_in_one_window_and_never_again(sizes, shuffle, epoch):
    order = order_of(sizes, shuffle)
    shard_of = np.repeat(np.arange(len(sizes)), sizes)
    used = [int(shard_of[order.sample(epoch * len(order) + index)]) for index in range(len(order))]
    for shard in set(used):
        first, last = used.index(shard), len(used) - used[::-1].index(shard)
        assert len(set(used[first:last])) <= shuffle.window


def test_the_order_of_seed_0_is_this_one():
    """Resuming with a newer NumPy or panoforge must give the order that the run began with."""
    order = order_of([3, 2, 4, 1], Shuffle(seed=0, window=2))
    assert [order.sample(p) for p in range(20)] == [
        8,
        5,
        6,
        9,
        7,
        2,
        3,
        4,
        1,
        0,
        4,
        3,
        9,
        5,
        1,
        6,
        2,
        0,
        8,
        7,
    ]
    assert permutation(6, 1, 2, 3).tolist() == [1, 3, 5, 2, 0, 4]


def test_epochs_and_seeds_differ_and_neighbours_come_from_different_shards():
    sizes = [20] * 16
    a, b = order_of(sizes, Shuffle(seed=0)), order_of(sizes, Shuffle(seed=1))
    one, two, other = (
        [o.sample(p) for p in r]
        for o, r in ((a, range(320)), (a, range(320, 640)), (b, range(320)))
    )
    assert one != two and one != other and sorted(one) == sorted(two)
    same_shard = np.mean(np.diff(np.array(one) // 20) == 0)
    assert 0.05 < same_shard < 0.25  # 1 in 8 by chance


@given(
    start=st.integers(0, 10**9),
    length=st.integers(0, 60),
    num_ranks=st.integers(1, 9),
    batch_size=st.integers(1, 5),
    num_workers=st.integers(1, 5),
)
def test_ranks_and_workers_together_read_the_line(
    start, length, num_ranks, batch_size, num_workers
):
    """Taking turns, rank by rank and each rank worker by worker, every position comes once, in
    order within a rank; and after n batches on every rank the line is read up to start + n·B·R.
    """
    stop = start + length
    seen = []
    for rank in range(num_ranks):
        positions = positions_of_rank(start, stop, rank, num_ranks)
        assert all(start <= p < stop and p % num_ranks == rank for p in positions)
        by_worker = [
            batches_of_worker(positions, batch_size, w, num_workers) for w in range(num_workers)
        ]
        in_turn = [
            by_worker[n % num_workers][n // num_workers] for n in range(sum(map(len, by_worker)))
        ]
        built = [p for number in in_turn for p in batch(positions, number, batch_size)]
        assert built == list(positions)
        seen += built
    assert sorted(seen) == list(range(start, stop))
    for taken in range(1, length // (batch_size * num_ranks) + 1):
        read = {
            p
            for r in range(num_ranks)
            for p in positions_of_rank(start, stop, r, num_ranks)[: taken * batch_size]
        }
        assert read == set(range(start, start + taken * batch_size * num_ranks))


def test_samples_are_grouped_by_their_shard():
    assert [rows.tolist() for rows in by_shard(["b", "a", "b", "c"])] == [[0, 2], [1], [3]]
    assert by_shard([]) == []


def test_an_order_is_copied_without_what_it_computed():
    order = order_of([2, 3], Shuffle(seed=4))
    expected = [order.sample(p) for p in range(10)]
    for other in (copy.deepcopy(order), pickle.loads(pickle.dumps(order))):
        assert [other.sample(p) for p in range(10)] == expected


def test_what_cannot_be_is_refused():
    with pytest.raises(UsageError, match="seed >= 0 and window >= 1 shards, got seed=-1"):
        Shuffle(seed=-1)
    with pytest.raises(UsageError, match="no position -1 in a dataset of 3 samples"):
        order_of([3], Shuffle()).sample(-1)
    with pytest.raises(UsageError, match="rank 2 of 2"):
        positions_of_rank(0, 10, 2, 2)
    with pytest.raises(UsageError, match="batches of 0"):
        batches_of_worker(range(3), 0, 0, 1)
