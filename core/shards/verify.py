"""Verify a dataset: every digest, every header, every schema, every label map. Nothing is believed.

Takes a dataset, a path or an fsspec URL. Gives a list of `DataFault`s, each naming the file and,
where one is hit, the sample. A shard's bytes are walked once. All of them are compared with its
digest in the manifest, each header with the canonical one, each member with its checksum. What lies
between and after must be zero. So any flipped bit, cut, gap, double or stranger shows. Where one
does, a second walk compares every sample with its own digest in the index, to say which are hit.
Metadata and label map are decoded and compared with each other, in all that a sample
says twice: counts, areas, boxes, flags, RLEs, sizes, its rows of the index. `deep` compares every
sample's digest and decodes all other products too. Memory stays small: one sample at a time, and
the index as columns.

Why not both digests at once always: SHA-256 is most of the time (bench/verify_speed). The second
one could add only a packer that wrote a wrong digest over right bytes, and readers refuse that
sample.
"""

import hashlib
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from panoforge.core.errors import UserError
from panoforge.core.geometry.poses import world_from_pano
from panoforge.core.sample.instance_table import table_faults
from panoforge.core.sample.metadata import META_SUFFIX, Pose, SampleMeta, decode_meta
from panoforge.core.sample.products import (
    PRODUCT_OF_SUFFIX,
    check_product,
    decode_product,
    depth_faults,
    product_size,
)
from panoforge.core.shards.damaged_list import DAMAGED_LIST, REPLACED, read_damaged
from panoforge.core.shards.index import read_index, read_instances
from panoforge.core.shards.layout import (
    MANIFEST_NAME,
    SAMPLE_SCHEMA,
    Manifest,
    ShardEntry,
    instance_rows,
    read_manifest,
    sample_row,
)
from panoforge.core.shards.plan import scene_of
from panoforge.core.shards.read import MAX_SAMPLE_BYTES
from panoforge.core.shards.tar import BLOCK, TRAILER, Member, header, padded
from panoforge.core.storage.store import Store, StoreLike

_ZEROS = bytes(BLOCK)


@dataclass(frozen=True)
class DataFault:
    """One thing that is wrong.

    In which file, in which sample (None where it hits none), and what.
    """

    file: str
    sample: str | None
    what: str


@dataclass(frozen=True)
class VerifyReport:
    """How many samples were looked at, and everything that is wrong with them."""

    samples: int
    faults: tuple[DataFault, ...]


def verify(
    dataset: StoreLike, *, deep: bool = False, on_sample: Callable[[str], None] = lambda key: None
) -> VerifyReport:
    """Check a published dataset.

    Only a dataset without a readable manifest raises; all else is a fault.
    """
    store = Store.at(dataset)
    manifest = read_manifest(store)
    faults: list[DataFault] = list(_stray_faults(store))
    try:
        samples = read_index(store, manifest.sample_index, SAMPLE_SCHEMA)
    except UserError as error:
        return VerifyReport(0, (*faults, DataFault(manifest.sample_index.name, None, str(error))))
    try:
        instances = _Instances.of(read_instances(store, manifest))
    except UserError as error:
        faults.append(DataFault(manifest.instance_index.name, None, str(error)))
        instances = None
    faults += _count_faults(manifest, samples, instances)
    walker = _Walker(store, instances, deep, on_sample)
    for entry, rows in _by_shard(manifest, samples, faults):
        faults += walker.shard_faults(entry, rows)
    return VerifyReport(samples.num_rows, tuple(faults))


def _stray_faults(store: Store) -> Iterator[DataFault]:
    """What other verbs would stumble over.

    Links that lead out, and a list of damaged samples that `pano repair` did not write.
    """
    for name in store.links_out():
        if not name.startswith(f"{REPLACED}/"):  # what repair took away; no verb reads there
            yield DataFault(name, None, "a symbolic link that leads out of the dataset")
    try:
        read_damaged(store)
    except UserError as error:
        yield DataFault(DAMAGED_LIST, None, str(error))


def _count_faults(
    manifest: Manifest, samples: pa.Table, instances: "_Instances | None"
) -> Iterator[DataFault]:
    """Where the manifest's sums are not those of the index."""
    keys = samples["key"].to_pylist()
    if samples.num_rows != manifest.samples:
        yield DataFault(
            MANIFEST_NAME,
            None,
            f"says {manifest.samples} samples, the index holds {samples.num_rows}",
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
                f"says {manifest.instances} instances, the index holds {instances.table.num_rows}",
            )
        if strangers := set(instances.rows_of) - set(keys):
            yield DataFault(
                manifest.instance_index.name,
                None,
                f"has instances of no sample: {sorted(strangers)[:5]}",
            )


def _by_shard(
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
class _Instances:
    """The instance index, and where each sample's rows are in it.

    Rows of one sample that do not lie together are told by a length of −1, and given as rows that
    no sample has.
    """

    table: pa.Table
    rows_of: dict[str, tuple[int, int]] = field(repr=False)

    @classmethod
    def of(cls, table: pa.Table) -> "_Instances":
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


class _Walker:
    """Walks shards, one sample at a time through one buffer."""

    def __init__(
        self,
        store: Store,
        instances: _Instances | None,
        deep: bool,
        on_sample: Callable[[str], None],
    ) -> None:
        self._store, self._instances, self._deep, self._on_sample = (
            store,
            instances,
            deep,
            on_sample,
        )
        self._buffer = bytearray()

    def shard_faults(self, entry: ShardEntry, rows: list[dict]) -> Iterator[DataFault]:
        try:
            size = self._store.size(entry.name)
            if size != entry.bytes:
                yield DataFault(
                    entry.name,
                    _sample_at(rows, size),
                    f"{size} bytes, the manifest says {entry.bytes}",
                )
            faults = list(self._walk(entry, rows, each=self._deep))
            if (
                faults and not self._deep
            ):  # something is wrong: now every sample's own digest says which it hit
                faults = list(self._walk(entry, rows, each=True))
            yield from faults
        except UserError as error:
            yield DataFault(entry.name, None, str(error))

    def _walk(self, entry: ShardEntry, rows: list[dict], *, each: bool) -> Iterator[DataFault]:
        """The faults of a shard.

        Those of samples by their own digests only if `each` asks for it.
        """
        digest = hashlib.sha256()
        at = 0
        with self._store.open(entry.name) as file:
            for row in sorted(rows, key=lambda row: row["offset"]):
                if row["offset"] != at:
                    yield DataFault(
                        entry.name,
                        row["key"],
                        f"begins at byte {row['offset']}, the sample before it ends at {at}",
                    )
                    file.seek(row["offset"])
                if not 0 < row["length"] <= MAX_SAMPLE_BYTES:
                    yield DataFault(
                        entry.name,
                        row["key"],
                        f"claims {row['length']} bytes, the cap is {MAX_SAMPLE_BYTES}",
                    )
                    continue
                data = self._read(file, row["length"])
                digest.update(data)
                at = row["offset"] + row["length"]
                for what in self._faults_of(row, data, entry.split, each):
                    yield DataFault(entry.name, row["key"], what)
                if each == self._deep:  # the first walk
                    self._on_sample(row["key"])
            rest = file.read(len(TRAILER) + 1)
        digest.update(rest)
        last = max(rows, key=lambda row: row["offset"])["key"] if rows else None
        if rest != TRAILER:
            yield DataFault(
                entry.name,
                last,
                f"after the last sample: expected the {len(TRAILER)} zero bytes that end a tar, "
                f"got {len(rest)} bytes that are not",
            )
        if len(rows) != entry.samples or digest.hexdigest() != entry.sha256:
            yield DataFault(
                entry.name,
                None,
                "is not the shard that the manifest describes (digest or number of samples)",
            )

    def _faults_of(self, row: dict, data: memoryview, split: str, each: bool) -> Iterator[str]:
        if len(data) < row["length"]:
            yield f"cut: {len(data)} of {row['length']} bytes are there"
        elif each and hashlib.sha256(data).hexdigest() != row["sha256"]:
            yield "its bytes do not have the digest of the index"
        else:
            yield from sample_faults(
                row, data, split, self._instances.fits if self._instances else None, deep=self._deep
            )

    def _read(self, file: Any, length: int) -> memoryview:
        """The next `length` bytes, or what is left, in a buffer that the next call overwrites."""
        if len(self._buffer) < length:
            self._buffer = bytearray(length)
        view = memoryview(self._buffer)[:length]
        filled = 0
        while filled < length and (count := file.readinto(view[filled:])):
            filled += count
        return view[:filled]


def sample_faults(
    row: dict,
    data: memoryview,
    split: str,
    indexed: Callable[[SampleMeta], bool] | None = None,
    *,
    deep: bool,
) -> Iterator[str]:
    """What is wrong with a sample whose digest fits, because the packer or the index lied.

    `row` is its row of the sample index, `data` its bytes; `indexed` says whether the instance
    index fits its metadata (None: that is not asked).
    """
    at = 0
    members: dict[str, memoryview] = {}
    for member in row["members"]:
        start, length = member["offset"] - row["offset"], member["length"]
        end = at + BLOCK + padded(length)
        if start != at + BLOCK or end > len(data):
            yield (
                f"{member['suffix']}: the index places it at {start}, the tar has it at"
                f" {at + BLOCK}"
            )
            return
        if data[at : at + BLOCK] != header(f"{row['key']}.{member['suffix']}", length):
            yield f"{member['suffix']}: its tar header is not the canonical one"
        if data[start + length : end] != _ZEROS[: end - start - length]:
            yield f"{member['suffix']}: its padding is not zero"
        members[member["suffix"]] = data[start : start + length]
        at = end
    suffixes = [member["suffix"] for member in row["members"]]
    if at != len(data) or suffixes != sorted(set(suffixes)):
        yield "holds members that the index does not list, or in another order"
    if META_SUFFIX not in members:
        yield f"has no {META_SUFFIX}"
        return
    try:
        yield from _content_faults(row, members, split, indexed, deep)
    except UserError as error:
        yield str(error)


def _content_faults(
    row: dict,
    members: dict[str, memoryview],
    split: str,
    indexed: Callable[[SampleMeta], bool] | None,
    deep: bool,
) -> Iterator[str]:
    meta = decode_meta(bytes(members[META_SUFFIX]))
    if (scene_of(row["key"]) or meta.scene) != meta.scene:
        yield f"its key is not one of its scene {meta.scene}"
    if {*meta.products, META_SUFFIX} != set(members):
        yield f"metadata lists {sorted(meta.products)}, the sample holds {sorted(members)}"
    if not pose_agrees(meta.pose):
        yield "its pose's world_from_pano is not the rotation of its yaw, pitch and roll"
    places = [
        Member(
            m["suffix"],
            m["offset"] - row["offset"],
            m["length"],
            zlib.crc32(members[m["suffix"]]),
        )
        for m in row["members"]
    ]
    if (
        sample_row(meta, split, row["shard"], row["offset"], row["length"], row["sha256"], places)
        != row
    ):
        yield "its row of the sample index disagrees with its metadata or its members' checksums"
    if indexed is not None and not indexed(meta):
        yield "its rows of the instance index disagree with its metadata"
    decoded: dict[str, NDArray] = {}
    for suffix, data in members.items():
        if suffix != META_SUFFIX:
            yield from _member_faults(suffix, data, meta, deep, decoded)
    if {"instance", "depth"} <= decoded.keys():
        yield from depth_faults(decoded["depth"], decoded["instance"])


def _member_faults(
    suffix: str, data: memoryview, meta: SampleMeta, deep: bool, decoded: dict[str, NDArray]
) -> Iterator[str]:
    """What is wrong with one product; what was decoded of it goes to `decoded`."""
    name = PRODUCT_OF_SUFFIX.get(suffix)
    if name is None:
        yield f"{suffix}: not a member of the sample format"
    elif (size := product_size(suffix, data)) != (meta.width, meta.height):
        yield f"{suffix}: {size[0]}×{size[1]}, the metadata say {meta.width}×{meta.height}"
    elif name == "instance" or deep:
        array = decoded[name] = decode_product(suffix, bytes(data))
        check_product(name, array, meta.width, meta.height)
        if name == "instance":
            yield from table_faults(array, meta)


def pose_agrees(pose: Pose) -> bool:
    """Whether a pose says the same thing twice, to a rounding of its numbers."""
    said = world_from_pano(pose.yaw_deg, pose.pitch_deg, pose.roll_deg)
    return float(np.abs(said - np.array(pose.world_from_pano)).max()) < 1e-6


def _sample_at(rows: list[dict], offset: int) -> str | None:
    """The sample that byte `offset` of the shard falls into."""
    return next(
        (row["key"] for row in rows if row["offset"] <= offset < row["offset"] + row["length"]),
        None,
    )
