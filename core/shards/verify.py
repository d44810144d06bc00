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
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from panoforge.core.errors import UserError
from panoforge.core.sample.metadata import SampleMeta
from panoforge.core.sample.video import VideoMeta
from panoforge.core.shards.damaged_list import DAMAGED_LIST, REPLACED, read_damaged
from panoforge.core.shards.data_fault import DataFault, VerifyReport
from panoforge.core.shards.index import read_index, read_instances, read_videos
from panoforge.core.shards.index_faults import IndexedInstances, by_shard, count_faults
from panoforge.core.shards.layout import (
    MANIFEST_NAME,
    SAMPLE_SCHEMA,
    Manifest,
    ShardEntry,
    read_manifest,
)
from panoforge.core.shards.sample_faults import sample_faults
from panoforge.core.shards.tar import TRAILER
from panoforge.core.shards.videos import VideoWatch, video_row
from panoforge.core.storage.staged import MAX_SAMPLE_BYTES
from panoforge.core.storage.store import Store, StoreLike


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
        instances = IndexedInstances.of(read_instances(store, manifest))
    except UserError as error:
        faults.append(DataFault(manifest.instance_index.name, None, str(error)))
        instances = None
    try:
        videos: pa.Table | None = read_videos(store, manifest)
    except UserError as error:
        name = manifest.video_index.name if manifest.video_index else MANIFEST_NAME
        faults.append(DataFault(name, None, str(error)))
        videos = None
    faults += count_faults(manifest, samples, instances)
    walker = _Walker(store, instances, deep, on_sample)
    for entry, rows in by_shard(manifest, samples, faults):
        faults += walker.shard_faults(entry, rows)
    faults += _video_faults(manifest, walker.videos, videos)
    return VerifyReport(samples.num_rows, tuple(faults))


def _video_faults(
    manifest: Manifest, found: list[dict], table: pa.Table | None
) -> Iterator[DataFault]:
    """Where the index's table of videos is not that of the videos that the shards hold."""
    entry = manifest.video_index
    if entry is None:
        if found:
            first = found[0]["video"]
            yield DataFault(MANIFEST_NAME, None, f"names no table of videos, there is {first}")
    elif table is not None and table.to_pylist() != found:
        rows = {row["video"]: row for row in table.to_pylist()}
        made = {row["video"]: row for row in found}
        differ = sorted(key for key in {*rows, *made} if rows.get(key) != made.get(key))
        yield DataFault(
            entry.name, None, f"says otherwise than the shards of videos {differ[:5] or 'in order'}"
        )


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


class _Walker:
    """Walks shards, one sample at a time through one buffer."""

    def __init__(
        self,
        store: Store,
        instances: IndexedInstances | None,
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
        self.videos: list[dict] = []  # rows of those that were met
        self._watch = VideoWatch()

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
        self._watch = VideoWatch()
        self.videos = [row for row in self.videos if row["shard"] != entry.name]
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
        for what in self._watch.end():
            yield DataFault(entry.name, None, what)
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
                row,
                data,
                split,
                self._instances.fits if self._instances else None,
                deep=self._deep,
                in_turn=lambda meta, video: self._in_turn(row, meta, video),
            )

    def _in_turn(self, row: dict, meta: SampleMeta, video: VideoMeta | None) -> Iterator[str]:
        """What is wrong with the place of a frame among the samples of its shard."""
        if video is not None:
            self.videos.append(video_row(meta, video, row["split"], row["shard"]))
        yield from self._watch.faults(meta, video)

    def _read(self, file: Any, length: int) -> memoryview:
        """The next `length` bytes, or what is left, in a buffer that the next call overwrites."""
        if len(self._buffer) < length:
            self._buffer = bytearray(length)
        view = memoryview(self._buffer)[:length]
        filled = 0
        while filled < length and (count := file.readinto(view[filled:])):
            filled += count
        return view[:filled]


def _sample_at(rows: list[dict], offset: int) -> str | None:
    """The sample that byte `offset` of the shard falls into."""
    return next(
        (row["key"] for row in rows if row["offset"] <= offset < row["offset"] + row["length"]),
        None,
    )
