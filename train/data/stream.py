"""A stream of samples through torch's DataLoader: worker processes build batches, in the order of
`panoforge.core.shards.order`.

    loader = StreamLoader(dataset, build=to_tensors, collate=torch.stack, batch_size=4, workers=8,
    rank=rank, num_ranks=world) for batch in loader:
        train(batch); state = loader.state_dict()

Threads (`panoforge.train.data.loader`) do for panoramas, whose decoding lets go of Python's lock;
this is for work that does not. Worker w builds batches w, w + W, … of its rank, which is how
DataLoader asks for them, so the order is that of one process for any number of workers. The state
is arithmetic on the number of batches taken: no worker is asked for it, and what was built ahead of
it is built again.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from panoforge.core.parallel import prefetched
from panoforge.core.shards.cache import ShardCache
from panoforge.core.shards.order import (
    ENDLESS,
    Shuffle,
    batch,
    batches_of_worker,
    positions_of_rank,
)
from panoforge.core.shards.read import Dataset
from panoforge.core.shards.stream import Item, Line

Built = TypeVar("Built")
Batch = TypeVar("Batch")


@dataclass(frozen=True)
class _Make(Generic[Built, Batch]):
    """Positions in, a batch out; a class because processes are sent it."""

    line: Line
    build: Callable[[Item], Built]
    collate: Callable[[list[Built]], Batch]

    def __call__(self, positions: range) -> Batch:
        return self.collate([self.build(self.line.item(position)) for position in positions])


class _Batches(IterableDataset, Generic[Batch]):
    """The batches of one rank from `start` on; in a worker process, that worker's."""

    def __init__(
        self, make: _Make[Any, Batch], positions: range, batch_size: int, threads: int
    ) -> None:
        self.make, self.positions, self.batch_size, self.threads = (
            make,
            positions,
            batch_size,
            threads,
        )

    def __iter__(self) -> Iterator[Batch]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        numbers = batches_of_worker(self.positions, self.batch_size, worker, workers)
        tasks = (batch(self.positions, number, self.batch_size) for number in numbers)
        make = replace(self.make, line=self.make.line.reopened()) if info else self.make
        return prefetched(tasks, make, threads=self.threads, ahead=1)


class StreamLoader(Generic[Batch]):
    """Batches of one rank. `build(item)` and `collate(list)` run in the workers; both must be
    functions of a module where processes are spawned. `epochs` bounds the line (its last batches
    may be smaller, and missing on some ranks).
    """

    def __init__(
        self,
        dataset: Dataset,
        shuffle: Shuffle = Shuffle(),
        *,
        build: Callable[[Item], Built],
        collate: Callable[[list[Built]], Batch],
        batch_size: int = 1,
        workers: int = 0,
        rank: int = 0,
        num_ranks: int = 1,
        epochs: int | None = None,
        cache: ShardCache | None = None,
        products: Collection[str] | None = None,
        threads: int = 1,
        context: str | None = None,
    ) -> None:
        self.line = Line(dataset, shuffle, cache, products)
        self.make = _Make(self.line, build, collate)
        self.batch_size, self.workers, self.rank, self.num_ranks = (
            batch_size,
            workers,
            rank,
            num_ranks,
        )
        self._stop = ENDLESS if epochs is None else epochs * len(dataset)
        self._threads, self._context = threads, context
        self._start = self._taken = 0

    def __iter__(self) -> Iterator[Batch]:
        begin = self._start + self._taken * self.batch_size * self.num_ranks
        positions = positions_of_rank(begin, self._stop, self.rank, self.num_ranks)
        batches = _Batches(self.make, positions, self.batch_size, self._threads)
        # A generator of its own: DataLoader would draw from torch's global one, and a resumed run
        # from another place in it.
        loader = DataLoader(
            batches,
            batch_size=None,
            num_workers=self.workers,
            generator=torch.Generator().manual_seed(0),
            multiprocessing_context=self._context if self.workers else None,
        )
        for built in loader:
            self._taken += 1
            yield built

    def state_dict(self) -> dict[str, Any]:
        """The state after the batches taken so far, as plain values; the same on all ranks that
        took as many.
        """
        return self.line.state(
            self._start + self._taken * self.batch_size * self.num_ranks
        ).model_dump()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Stand where `state` says, whatever numbers of ranks, workers and samples per batch wrote
        it.
        """
        self._start, self._taken = self.line.position(state), 0
