"""Streams through torch's DataLoader: any number of workers and ranks gives the same batches, and
resumes bit-equal.
"""

import json

import buckets
import pytest
import torch

from panoforge.core.errors import DataError
from panoforge.core.shards.order import Shuffle
from panoforge.core.shards.read import Dataset
from panoforge.core.shards.stream import Item, Stream
from panoforge.train.data.stream import StreamLoader

SHUFFLE = Shuffle(seed=3, window=1)


def tensors(item: Item) -> tuple[int, torch.Tensor, torch.Tensor]:
    return (
        item.position,
        torch.from_numpy(item.sample.read("rgb")),
        torch.from_numpy(item.sample.read("instance").astype("int32")),
    )


def fails_at_four(item: Item) -> int:
    if item.position == 4:
        raise DataError(f"{item.sample.key}: made to fail")
    return item.position


def loader(dataset: Dataset, **options) -> StreamLoader:
    return StreamLoader(
        dataset, SHUFFLE, **{"build": tensors, "collate": list, "epochs": 3, **options}
    )


def equal(a: list, b: list) -> bool:
    """Whether two lists of items are the same bit for bit, in the same order."""
    return len(a) == len(b) and all(
        p == q and torch.equal(r, s) and torch.equal(t, u)
        for (p, r, t), (q, s, u) in zip(a, b, strict=True)
    )


@pytest.fixture(scope="module")
def line(caps: Dataset) -> list:
    """Three epochs, read without DataLoader."""
    return list(Stream(caps, SHUFFLE, epochs=3, build=tensors))


@pytest.mark.parametrize(
    ("num_ranks", "workers", "batch_size"),
    [(1, 0, 1), (1, 2, 1), (1, 3, 2), (2, 0, 2), (2, 2, 3), (3, 1, 2)],
)
def test_every_grid_reads_the_line(
    caps: Dataset, line: list, num_ranks: int, workers: int, batch_size: int
) -> None:
    for rank in range(num_ranks):
        batches = list(
            loader(caps, rank=rank, num_ranks=num_ranks, workers=workers, batch_size=batch_size)
        )
        assert all(len(batch) == batch_size for batch in batches[:-1])
        assert equal([item for batch in batches for item in batch], line[rank::num_ranks])


def test_a_loader_resumes_bit_equal_on_another_grid(caps: Dataset, line: list) -> None:
    """Two ranks with two workers stop after two batches of three: three ranks go on where they
    were.
    """
    states = []
    for rank in range(2):
        first = loader(caps, rank=rank, num_ranks=2, workers=2, batch_size=3)
        taking = iter(first)
        assert equal([item for _ in range(2) for item in next(taking)], line[rank::2][:6])
        states.append(json.dumps(first.state_dict()))
    assert states[0] == states[1] and json.loads(states[0])["position"] == 12
    rest = []
    for rank in range(3):
        resumed = loader(caps, rank=rank, num_ranks=3, workers=1, batch_size=2)
        resumed.load_state_dict(json.loads(states[0]))
        rest += [item for batch in resumed for item in batch]
    assert equal(sorted(rest, key=lambda item: item[0]), line[12:])


def test_torchs_own_random_numbers_are_left_alone(caps: Dataset) -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    next(iter(loader(caps)))
    assert torch.rand(1) == expected


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_comes_out_at_its_place(caps: Dataset, workers: int) -> None:
    taking = iter(loader(caps, build=fails_at_four, workers=workers))
    assert [next(taking) for _ in range(4)] == [[0], [1], [2], [3]]
    with pytest.raises(DataError, match="made to fail"):
        next(taking)


def test_workers_that_were_forked_read_a_bucket(caps: Dataset, line: list) -> None:
    """Connections of the parent do not work in its children."""
    with buckets.bucket(dataset=caps.folder) as url:
        remote = Dataset.open(f"{url}/dataset", "train")
        assert len(remote[0].members)  # the parent has a connection now
        assert equal(
            [item for batch in loader(remote, workers=2, context="fork") for item in batch], line
        )
