"""The states that a dataset may be in: each manifest or index that can be believed describes one.

An older manifest that was put back, or an index that an interrupted packer left, leave more than
one. `pano repair` takes the one with the most whole samples.
"""

import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from panoforge.core.errors import DataError, UserError
from panoforge.core.shards.contents import Contents, shard_files
from panoforge.core.shards.index import MAX_INDEX_BYTES, read_index, read_table
from panoforge.core.shards.layout import (
    DIGEST_DIGITS,
    INDEX,
    SAMPLE_SCHEMA,
    Manifest,
    read_manifest,
)
from panoforge.core.shards.salvage import Salvage, salvage, split_of_shard
from panoforge.core.storage.store import Store


@dataclass(frozen=True)
class DatasetState:
    """What a manifest or an index says of the dataset.

    `samples` is its sample index, if that can be read; `shards` maps its shards to their digests
    (None where only the name tells).
    """

    manifest: Manifest | None
    samples: pa.Table | None
    shards: dict[str, str | None]

    @cached_property
    def _rows_of(self) -> dict[str, list[int]]:
        rows_of: dict[str, list[int]] = {}
        names = self.samples["shard"].to_pylist() if self.samples is not None else []
        for row, shard in enumerate(names):
            rows_of.setdefault(shard, []).append(row)
        return rows_of

    def rows(self, shard: str) -> list[dict] | None:
        """Its rows of the sample index; None without one."""
        if self.samples is None:
            return None
        return self.samples.take(pa.array(self._rows_of.get(shard, []), pa.int64())).to_pylist()

    def at_most(self, files: dict[str, str], contents: Contents) -> int:
        """How many samples it can have, given where the content of its shards lies."""
        there = [name for name in self.shards if contents.size(files[name])]
        if self.samples is not None:
            return sum(len(self._rows_of.get(name, ())) for name in there)
        known = (
            {entry.name: entry.samples for entry in self.manifest.shards} if self.manifest else {}
        )
        return sum(known.get(name, 0) for name in there)


@dataclass(frozen=True)
class Surveyed:
    """A state, where the content of its shards lies, and what is left of each."""

    state: DatasetState
    files: dict[str, str]
    found: dict[str, Salvage]

    @property
    def whole_samples(self) -> int:
        """Samples that are undamaged, over all shards."""
        return sum(len(found.good) for found in self.found.values())


def best_state(contents: Contents, *, deep: bool) -> Surveyed:
    """The state with the most whole samples; of equal ones that of the manifest.

    DataError when there is nothing to repair the dataset from.
    """
    best: Surveyed | None = None
    for state in _states(contents.store):
        files = contents.located(state.shards)
        if best is not None and state.at_most(files, contents) <= best.whole_samples:
            continue
        found = {
            name: salvage(contents, name, files[name], sha256, state.rows(name), deep=deep)
            for name, sha256 in sorted(state.shards.items())
        }
        surveyed = Surveyed(state, files, found)
        if best is None or surveyed.whole_samples > best.whole_samples:
            best = surveyed
    assert best is not None  # `_states` gives one or raises
    return best


def _states(store: Store) -> Iterator[DatasetState]:
    """What the manifest says, then what each index does; without either, the shards' headers."""
    manifest: Manifest | None = None
    with contextlib.suppress(UserError):
        manifest = read_manifest(store)
    described = False
    if manifest is not None:
        samples = None
        with contextlib.suppress(UserError):
            samples = read_index(store, manifest.sample_index, SAMPLE_SCHEMA)
        shards: dict[str, str | None] = {entry.name: entry.sha256 for entry in manifest.shards}
        if samples is None or set(samples["shard"].to_pylist()) <= set(shards):
            described = True
            yield DatasetState(manifest, samples, shards)
    for samples in _indices(store, manifest.sample_index.name if described and manifest else ""):
        described = True
        yield DatasetState(None, samples, dict.fromkeys(samples["shard"].to_pylist()))
    if described:
        return
    there = shard_files(store)
    if not there:
        raise DataError(
            f"{store}: no readable manifest and no shards: there is nothing to repair it from. Pack"
            " the run again"
        )
    _refuse_rivals(store, there)
    yield DatasetState(None, None, dict.fromkeys(there))


def _indices(store: Store, but: str) -> Iterator[pa.Table]:
    """Sample indices that have the digest of their name, the longest first."""
    found = []
    for name in store.names(INDEX):
        if not name.startswith(f"{INDEX}/samples-") or name == but:
            continue
        with contextlib.suppress(UserError):
            data = store.get(name, MAX_INDEX_BYTES) or b""
            digest = hashlib.sha256(data).hexdigest()
            if name == f"{INDEX}/samples-{digest[:DIGEST_DIGITS]}.parquet":
                found.append(read_table(data, SAMPLE_SCHEMA))
    yield from sorted(found, key=lambda table: -table.num_rows)


def _refuse_rivals(store: Store, shards: Iterable[str]) -> None:
    """Two states of the dataset cannot be told apart without manifest and index."""
    by_stem: dict[str, str] = {}
    for name in shards:
        split_of_shard(name)
        stem = name.rpartition("-")[0]
        if stem in by_stem:
            raise DataError(
                f"{store}: manifest and index are lost, and two shards claim one place:"
                f" {by_stem[stem]} and {name}. Move away the one that is not of this dataset (`tar"
                " tf` lists its samples), then repair again"
            )
        by_stem[stem] = name
