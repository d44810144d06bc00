"""Read a dataset as a stream: shuffled, dealt out to ranks, resumable at any position, from local
or remote shards.

    stream = Stream(Dataset.open("s3://bucket/dataset", "train"), Shuffle(seed=1), rank=rank,
    num_ranks=8,
                    cache=ShardCache("/local/cache", 200_000_000_000))
    for item in stream:                    # endless; `epochs=` bounds it
        item.position, item.sample         # checked against the index; nothing is unpickled
        checkpoint["data"] = stream.state_dict()

The order is that of `panoforge.core.shards.order`: a function of (seed, epoch, position), the same
line for every number of ranks. The state is the global position where the ranks stand when each has
taken as many items as this one, so it fits any other number of ranks too, and resuming costs one
lookup. A state of another dataset or shuffle is refused.

Without a cache a sample is read by its byte range: each rank fetches its own share and nothing
else; with `products` only the members that are used, which for training is a tenth of what depth
and normals come to. With a cache, shards are kept whole on the local disk, which pays when several
epochs are read, or several ranks share the disk. Reading runs ahead on threads. What randomness a
consumer needs it draws from `default_rng([seed, item.position])`.
"""

import contextlib
import hashlib
from collections.abc import Callable, Collection, Generator, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Generic, Literal, TypeVar

import numpy as np
import pyarrow as pa
from pydantic import Field, ValidationError

from panoforge.core.errors import DataError, UsageError
from panoforge.core.models import FrozenModel
from panoforge.core.parallel import prefetched
from panoforge.core.shards.cache import ShardCache
from panoforge.core.shards.layout import ShardEntry
from panoforge.core.shards.order import ENDLESS, SampleOrder, Shuffle, by_shard, positions_of_rank
from panoforge.core.shards.read import Dataset, Sample, check_products, checked_sample, read_members

Built = TypeVar("Built")


@dataclass(frozen=True)
class Item:
    """A sample and its place in the line."""

    position: int
    sample: Sample


class StreamState(FrozenModel):
    """Where a stream stands: the first global position that is not taken yet, and what the line is
    made of.
    """

    version: Literal[1] = 1
    position: int = Field(ge=0)
    seed: int
    window: int
    shuffle: bool
    samples_sha256: str


class Line:
    """Items by position: any position, any time, any thread, any process."""

    def __init__(
        self,
        dataset: Dataset,
        shuffle: Shuffle,
        cache: ShardCache | None = None,
        products: Collection[str] | None = None,
    ) -> None:
        check_products(products or ())
        if not len(dataset):
            raise UsageError(f"{dataset.folder} has no samples to stream (in this split)")
        self.dataset, self.shuffle, self.cache, self.products = dataset, shuffle, cache, products
        self.order = SampleOrder(by_shard(dataset.samples["shard"].to_pylist()), shuffle)
        self._shards = {entry.name: entry for entry in dataset.manifest.shards}
        self._places = Places(dataset.samples)

    def reopened(self) -> "Line":
        """The same line with connections of its own: a forked process cannot use those of its
        parent.
        """
        return Line(replace(self.dataset), self.shuffle, self.cache, self.products)

    def item(self, position: int) -> Item:
        """The item at `position`. DataError names a sample whose bytes are not those that were
        packed.
        """
        if self.cache is None or self.dataset.store.local is not None:
            if self.products is None:
                return Item(position, self.dataset[self.order.sample(position)])
            return Item(
                position,
                read_members(
                    self.dataset.store, self._places.row(self.order.sample(position)), self.products
                ),
            )
        row = self.dataset.samples.slice(self.order.sample(position), 1).to_pylist()[0]
        return Item(position, self._cached(self.cache, self._shards[row["shard"]], row))

    def state(self, position: int) -> StreamState:
        """The state of a run whose next position is `position`."""
        return StreamState(
            position=position,
            seed=self.shuffle.seed,
            window=self.shuffle.window,
            shuffle=self.shuffle.on,
            samples_sha256=self._samples_sha256,
        )

    @cached_property
    def _samples_sha256(self) -> str:
        return samples_sha256(self.dataset)

    def position(self, state: StreamState | dict[str, Any]) -> int:
        """The position of a state. UsageError where it is that of another line, DataError where it
        is no state.
        """
        try:
            found = StreamState.model_validate(state)
        except ValidationError as error:
            raise DataError(
                f"not the state of a stream: {error.errors()[0]['loc']}: {error.errors()[0]['msg']}"
            ) from None
        expected = self.state(found.position).model_dump()
        wrong = [
            f"{name} {value} (here {expected[name]})"
            for name, value in found.model_dump().items()
            if expected[name] != value
        ]
        if wrong:
            raise UsageError(
                f"the state is that of another order of samples: {', '.join(wrong)}. Resume with"
                " the dataset, split, seed and window of the run, or begin a new one"
            )
        return found.position

    def _cached(self, cache: ShardCache, entry: ShardEntry, row: dict[str, Any]) -> Sample:
        """The sample from the cache. A copy that the local disk damaged is fetched again, once."""
        with contextlib.suppress(DataError):
            return self._read_cached(cache, entry, row)
        cache.drop(entry)
        return self._read_cached(cache, entry, row)

    def _read_cached(self, cache: ShardCache, entry: ShardEntry, row: dict[str, Any]) -> Sample:
        with cache.open(entry, self.dataset.store) as file:
            file.seek(row["offset"])
            return checked_sample(row, file.read(row["length"]))


class Places:
    """Where the members of each sample lie, as flat arrays: a row of the index by Arrow takes
    longer than to read a small sample.
    """

    def __init__(self, samples: pa.Table) -> None:
        members = samples["members"].combine_chunks()
        lengths = members.value_lengths().to_numpy()
        places = members.flatten()
        self._first = np.concatenate([[0], np.cumsum(lengths)])
        suffixes = places.field("suffix").dictionary_encode()
        self._suffixes, self._codes = suffixes.dictionary.to_pylist(), suffixes.indices.to_numpy()
        self._offsets, self._lengths = (
            places.field("offset").to_numpy(),
            places.field("length").to_numpy(),
        )
        self._crcs = places.field("crc32").cast(pa.int64()).fill_null(-1).to_numpy()
        self._samples = samples

    def row(self, index: int) -> dict[str, Any]:
        """What `read_members` needs of a sample's row."""
        members = [
            {
                "suffix": self._suffixes[self._codes[at]],
                "offset": int(self._offsets[at]),
                "length": int(self._lengths[at]),
                "crc32": int(self._crcs[at]),
            }
            for at in range(self._first[index], self._first[index + 1])
        ]
        if any(
            member["crc32"] < 0 for member in members
        ):  # an index of version 1: the whole sample is read
            return self._samples.slice(index, 1).to_pylist()[0]
        return {
            "key": self._samples["key"][index].as_py(),
            "shard": self._samples["shard"][index].as_py(),
            "members": members,
        }


class Stream(Generic[Built]):
    """The share of one rank. `build(item)` runs on the reading threads and gives what is yielded:
    the item itself if there is none. `threads` read up to `ahead` items before they are asked for;
    with `ahead` 0 the caller's own reads.
    """

    def __init__(
        self,
        dataset: Dataset,
        shuffle: Shuffle = Shuffle(),
        *,
        rank: int = 0,
        num_ranks: int = 1,
        epochs: int | None = None,
        cache: ShardCache | None = None,
        products: Collection[str] | None = None,
        build: Callable[[Item], Built] | None = None,
        threads: int = 2,
        ahead: int = 4,
    ) -> None:
        self.line = Line(dataset, shuffle, cache, products)
        self.rank, self.num_ranks = rank, num_ranks
        self._stop = ENDLESS if epochs is None else epochs * len(dataset)
        self._build, self._threads, self._ahead = build, threads, ahead
        self._start = self._taken = 0
        positions_of_rank(0, 0, rank, num_ranks)  # refuses a rank that cannot be

    def __iter__(self) -> Iterator[Built]:
        """From where the stream stands to its end; a second iteration goes on after the first."""
        ready = self._ready()
        with contextlib.closing(ready):
            for built in ready:
                self._taken += 1
                yield built

    def _ready(self) -> Generator[Built]:
        positions = positions_of_rank(self._start, self._stop, self.rank, self.num_ranks)[
            self._taken :
        ]

        def make(position: int) -> Built:
            item = self.line.item(position)
            return self._build(item) if self._build else item  # type: ignore[return-value]

        return prefetched(positions, make, threads=self._threads, ahead=self._ahead)

    def state_dict(self) -> dict[str, Any]:
        """The state after the items taken so far, as plain values. The same on all ranks that took
        as many.
        """
        return self.line.state(self._start + self._taken * self.num_ranks).model_dump()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Stand where `state` says, whatever number of ranks wrote it. Iterations under way are not
        moved.
        """
        self._start, self._taken = self.line.position(state), 0


def samples_sha256(dataset: Dataset) -> str:
    """Digest of the samples in index order: their keys and content digests."""
    digest = hashlib.sha256()
    for key, sha256 in zip(
        dataset.samples["key"].to_pylist(), dataset.samples["sha256"].to_pylist(), strict=True
    ):
        digest.update(f"{key} {sha256}\n".encode())
    return digest.hexdigest()
