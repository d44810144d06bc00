"""A dataset is what torch calls map-style: its own DataLoader and samplers read it."""

import hashlib

from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

from panoforge.core.shards.read import Dataset, Sample


def keys_and_digests(samples: list[Sample]) -> list[tuple[str, str]]:
    return [(s.key, hashlib.sha256(s.members["rgb.jpg"]).hexdigest()) for s in samples]


def test_torchs_loader_reads_a_dataset(caps: Dataset) -> None:
    expected = keys_and_digests([caps[i] for i in range(len(caps))])
    for workers in (0, 2):
        loader = DataLoader(caps, batch_size=2, num_workers=workers, collate_fn=keys_and_digests)
        assert [pair for batch in loader for pair in batch] == expected
    shares = [
        DataLoader(
            caps, sampler=DistributedSampler(caps, 2, rank, seed=3), collate_fn=keys_and_digests
        )
        for rank in range(2)
    ]
    assert {pair for share in shares for batch in share for pair in batch} == set(expected)
