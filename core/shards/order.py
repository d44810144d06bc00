"""The order in which samples are read: integers in, integers out, no file is touched here.

A run over a dataset is a line of positions 0, 1, 2, …; position p is sample number p mod N of epoch
p div N. In each epoch the shards are shuffled, then cut into windows of `window` shards, and the
samples of a window are shuffled together. So a reader of remote shards has `window` of them in use
at a time and never comes back to one, while neighbours in the order come from different scenes.
Every step is a function of (seed, epoch, position): to resume is to compute, not to replay.

The interleaving rule. Position p belongs to rank p mod R, for any R and from wherever a run
(re)starts, so the ranks together read the same line however many they are. A rank's positions are
cut into batches of B; batch b is built by worker b mod W, which is the order in which torch's
DataLoader asks its workers. A global position is therefore the whole state of a run in which all
ranks have taken the same number of batches.

(After mosaicml-streaming's `py1s` shuffle, without its canonical nodes; NumPy keeps the bit streams
of `PCG64` and `SeedSequence` fixed between versions, which it does not promise for
`Generator.permutation`, so random words are sorted here.)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from panoforge.core.errors import UsageError

ENDLESS = 2**62  # a `stop` that is never reached
_SHARD_LANE, _SAMPLE_LANE = 0, 1


def permutation(size: int, *key: int) -> NDArray[np.int64]:
    """A random order of 0 … size - 1 that is a function of `key` (non-negative integers) alone."""
    words = np.random.PCG64(np.random.SeedSequence(list(key))).random_raw(size)
    return np.argsort(words, kind="stable")


@dataclass(frozen=True)
class Shuffle:
    """How samples are ordered. `window` is in shards. `on` False: shard after shard, as the index
    lists them, in every epoch.
    """

    seed: int = 0
    window: int = 8
    on: bool = True

    def __post_init__(self) -> None:
        if self.seed < 0 or self.window < 1:
            raise UsageError(
                f"shuffle: expected seed >= 0 and window >= 1 shards, got seed={self.seed},"
                f" window={self.window}"
            )


class SampleOrder:
    """The line of one dataset. `shards` holds, per shard, the numbers of its samples (their rows in
    the index).
    """

    def __init__(self, shards: Sequence[NDArray[np.int64]], shuffle: Shuffle) -> None:
        self.shards, self.shuffle = [shard for shard in shards if len(shard)], shuffle
        self._size = sum(map(len, self.shards))
        self._epoch_order = lru_cache(maxsize=2)(self._epoch)
        self._window_order = lru_cache(maxsize=4)(self._window)

    def __len__(self) -> int:
        """Samples of an epoch."""
        return self._size

    def __reduce__(self) -> tuple[type["SampleOrder"], tuple[Sequence[NDArray[np.int64]], Shuffle]]:
        return SampleOrder, (self.shards, self.shuffle)  # what was computed stays behind

    def sample(self, position: int) -> int:
        """The number of the sample at `position`. UsageError for a negative position or an empty
        dataset.
        """
        if position < 0 or not self._size:
            raise UsageError(
                f"there is no position {position} in a dataset of {self._size} samples"
            )
        epoch, index = divmod(position, self._size)
        epoch *= self.shuffle.on
        ends = self._epoch_order(epoch)[1]
        window = int(np.searchsorted(ends, index, side="right"))
        begin = int(ends[window - 1]) if window else 0
        return int(self._window_order(epoch, window)[index - begin])

    def _epoch(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The shards in the epoch's order, and where each window ends in it."""
        count, size = len(self.shards), self.shuffle.window
        order = (
            permutation(count, self.shuffle.seed, _SHARD_LANE, epoch)
            if self.shuffle.on
            else np.arange(count)
        )
        ends = np.cumsum([len(self.shards[shard]) for shard in order])
        return order, ends[np.minimum(np.arange(size - 1, count + size - 1, size), count - 1)]

    def _window(self, epoch: int, window: int) -> NDArray[np.int64]:
        """The samples of one window, in order."""
        order, size = self._epoch_order(epoch)[0], self.shuffle.window
        samples = np.concatenate(
            [self.shards[shard] for shard in order[window * size : (window + 1) * size]]
        )
        if not self.shuffle.on:
            return samples
        return samples[permutation(len(samples), self.shuffle.seed, _SAMPLE_LANE, epoch, window)]


def by_shard(shards: Sequence[str]) -> list[NDArray[np.int64]]:
    """Per shard, in order of first appearance, the numbers of the samples that `shards` (one name
    per sample) puts in it.
    """
    rows: dict[str, list[int]] = {}
    for number, name in enumerate(shards):
        rows.setdefault(name, []).append(number)
    return [np.array(numbers, np.int64) for numbers in rows.values()]


def positions_of_rank(start: int, stop: int, rank: int, num_ranks: int) -> range:
    """The positions in [start, stop) that belong to `rank`, ascending."""
    if not 0 <= rank < num_ranks:
        raise UsageError(f"expected 0 <= rank < number of ranks, got rank {rank} of {num_ranks}")
    return range(start + (rank - start) % num_ranks, stop, num_ranks)


def batches_of_worker(positions: range, batch_size: int, worker: int, num_workers: int) -> range:
    """The numbers of the batches of a rank's positions that `worker` builds; batch b is
    `batch(positions, b, batch_size)`.
    """
    if not 0 <= worker < num_workers or batch_size < 1:
        raise UsageError(
            "expected 0 <= worker < number of workers and batches of at least 1, got worker"
            f" {worker} of {num_workers} and batches of {batch_size}"
        )
    return range(worker, -(-len(positions) // batch_size), num_workers)


def batch(positions: range, number: int, batch_size: int) -> range:
    """The positions of batch `number`."""
    return positions[number * batch_size : (number + 1) * batch_size]
