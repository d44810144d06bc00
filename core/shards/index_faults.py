"""Faults of a dataset's indexes: sums that disagree, keys that come twice, rows of no shard."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from panoforge.core.numbers import counted
from panoforge.core.sample.metadata import SampleMeta
from panoforge.core.shards.data_fault import DataFault
from panoforge.core.shards.layout import MANIFEST_NAME, Manifest, ShardEntry, instance_rows


def count_faults(
    manifest: Manifest, samples: pa.Table, instances: "IndexedInstances | None"
) -> Iterator[DataFault]:
    """Where the manifest's sums are not those of the index."""
    keys = samples["key"].to_pylist()
    if samples.num_rows != manifest.samples:
        yield DataFault(
            MANIFEST_NAME,
            None,
            f"says {counted(manifest.samples, 'sample')}, the index holds {samples.num_rows}",
        )
    if len(set(keys)) != len(keys):
        yield DataFault(manifest.sample_index.name, None, "keys come twice")
    splits: dict[str, int] = {}
    for split in samples["split"].to_pylist():
        splits[split] = splits.get(split, 0) + 1
    if splits != manifest.splits:
        yield DataFault(
            MANIFEST_NAME,
            None,
            f"says that the splits hold {manifest.splits}, the index says {splits}",
        )
    configs = tuple(sorted(set(samples["config_sha256"].to_pylist())))
    if configs != manifest.config_sha256:
        yield DataFault(MANIFEST_NAME, None, "the digests of configs are not those of the samples")
    if instances is not None:
        if instances.table.num_rows != manifest.instances:
            yield DataFault(
                MANIFEST_NAME,
                None,
                f"says {counted(manifest.instances, 'instance')}, the index holds"
                f" {instances.table.num_rows}",
            )
        if strangers := set(instances.rows_of) - set(keys):
            yield DataFault(
                manifest.instance_index.name,
                None,
                f"has instances of no sample: {sorted(strangers)[:5]}",
            )


def by_shard(
    manifest: Manifest, samples: pa.Table, faults: list[DataFault]
) -> Iterator[tuple[ShardEntry, list[dict]]]:
    """Each shard with its rows of the sample index. Rows of shards that do not exist are faults."""
    rows_of: dict[str, list[int]] = {entry.name: [] for entry in manifest.shards}
    for row, (shard, key) in enumerate(
        zip(samples["shard"].to_pylist(), samples["key"].to_pylist(), strict=True)
    ):
        if shard in rows_of:
            rows_of[shard].append(row)
        else:
            faults.append(DataFault(shard, key, "the manifest does not name this shard"))
    for entry in manifest.shards:
        yield entry, samples.take(pa.array(rows_of[entry.name], pa.int64())).to_pylist()


@dataclass(frozen=True)
class IndexedInstances:
    """The instance index, and where each sample's rows are in it.

    Rows of one sample that do not lie together are told by a length of −1, and given as rows that
    no sample has.
    """

    table: pa.Table
    rows_of: dict[str, tuple[int, int]] = field(repr=False)

    @classmethod
    def of(cls, table: pa.Table) -> "IndexedInstances":
        """The index as it was read."""
        table = table.combine_chunks()
        codes = table["key"].combine_chunks().dictionary_encode()
        indices = codes.indices.to_numpy(zero_copy_only=False)
        first = np.flatnonzero(np.diff(indices, prepend=-1))
        ends = np.append(first[1:], len(indices))
        keys = codes.dictionary.to_pylist()
        rows_of: dict[str, tuple[int, int]] = {}
        for begin, end in zip(first.tolist(), ends.tolist(), strict=False):
            key = keys[indices[begin]]
            rows_of[key] = (begin, -1) if key in rows_of else (begin, end - begin)
        return cls(table, rows_of)

    def fits(self, meta: SampleMeta) -> bool:
        """Whether the sample's rows say what its metadata say."""
        begin, length = self.rows_of.get(meta.key, (0, 0))
        rows = instance_rows(meta)
        return length >= 0 and self.table.slice(begin, length).to_pylist() == rows
