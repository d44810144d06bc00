"""Pack staged panoramas into shards, and publish them.

Takes a folder of staged panoramas, gives a dataset folder (see `pano.shards`). Which sample goes into which shard is a
pure function of keys, sizes and target size: keys in order, a shard closed when the next sample would pass the target.
So the same staged set gives the same bytes, whoever packs it and however often it was interrupted. Staged members go in
as they are, after their metadata is checked; the manifest is renamed into place last, and only then are files that it
does not name swept away.
"""

import hashlib
import io
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pano.errors import DataError
from pano.sample import META_SUFFIX, SampleMeta, decode_meta
from pano.shards.layout import (
    DEFAULT_SPLITS,
    INSTANCE_SCHEMA,
    MANIFEST_NAME,
    SAMPLE_SCHEMA,
    IndexEntry,
    Manifest,
    ShardEntry,
    instance_rows,
    sample_row,
    split_of,
)
from pano.shards.tar import TRAILER, Member, sample_bytes, sample_length
from pano.staged import list_staged, read_staged
from pano.storage import fsync_folder, storage_errors, sweep_temporaries, temporary_beside, write_bytes_atomic

DEFAULT_SHARD_BYTES = 512_000_000


@dataclass(frozen=True)
class PackOptions:
    """`shard_bytes` is the target size of a shard; `splits` maps names to shares, `salt` moves scenes between them."""

    shard_bytes: int = DEFAULT_SHARD_BYTES
    splits: tuple[tuple[str, float], ...] = tuple(DEFAULT_SPLITS.items())
    salt: str = ""


@dataclass(frozen=True)
class ShardPlan:
    """One shard to be written: its split, its number within the split, its keys in order."""

    split: str
    number: int
    keys: tuple[str, ...]


@dataclass(frozen=True)
class WrittenShard:
    """A committed shard and the index rows of its samples."""

    entry: ShardEntry
    sample_rows: list[dict]
    instance_rows: list[dict]


def plan_shards(samples: Iterable[tuple[str, str, int]], shard_bytes: int) -> list[ShardPlan]:
    """Assign (key, split, bytes) to shards: per split, in key order, at most `shard_bytes` each (one sample at least)."""
    plans: list[ShardPlan] = []
    by_split: dict[str, list[tuple[str, int]]] = {}
    for key, split, size in sorted(samples):
        by_split.setdefault(split, []).append((key, size))
    for split, members in sorted(by_split.items()):
        keys: list[str] = []
        filled = number = 0
        for key, size in members:
            if keys and filled + size > shard_bytes:
                plans.append(ShardPlan(split, number, tuple(keys)))
                keys, filled, number = [], 0, number + 1
            keys.append(key)
            filled += size
        plans.append(ShardPlan(split, number, tuple(keys)))
    return plans


def pack(staged: Path, dataset: Path, options: PackOptions = PackOptions(), *,
         on_sample: Callable[[str], None] = lambda key: None) -> Manifest:
    """Pack every staged panorama and publish the dataset. `on_sample(key)` is called after each, for progress.
    Raises DataError for a damaged staged panorama (naming it), StorageError for a full disk and the like; the dataset
    that was there before still stands then."""
    keys = list_staged(staged)
    if not keys:
        raise DataError(f"{staged} holds no staged panoramas: nothing to pack. Render some first (pano render CONFIG)")
    shards = dataset / "shards"
    with storage_errors(shards):
        shards.mkdir(parents=True, exist_ok=True)
        (dataset / "index").mkdir(exist_ok=True)
    for folder in (dataset, shards, dataset / "index"):
        sweep_temporaries(folder)
    splits = dict(options.splits)
    samples = []
    for key in keys:
        meta, sizes = _staged_sizes(staged, key)
        samples.append((key, split_of(meta.scene, splits, options.salt), sample_length(sizes)))
    written = [write_shard(staged, dataset, plan, on_sample) for plan in plan_shards(samples, options.shard_bytes)]
    return publish(dataset, written)


def _staged_sizes(staged: Path, key: str) -> tuple[SampleMeta, dict[str, int]]:
    folder = staged / key
    with storage_errors(folder):
        meta = decode_meta((folder / META_SUFFIX).read_bytes())
        return meta, {path.name: path.stat().st_size for path in folder.iterdir()}


def write_shard(staged: Path, dataset: Path, plan: ShardPlan, on_sample: Callable[[str], None] = lambda key: None) -> WrittenShard:
    """Write and commit one shard. Its name carries its digest, so it is known only after the last byte: the temporary
    file is renamed then. An equal shard that is already there is left as it is."""
    stem = f"shards/{plan.split}-{plan.number:06d}"
    temporary = temporary_beside(dataset / stem)
    digest = hashlib.sha256()
    places: list[tuple[SampleMeta, int, int, str, list[Member]]] = []
    offset = 0
    with storage_errors(dataset / stem):
        try:
            with open(temporary, "xb") as file:
                for key in plan.keys:
                    meta, members = read_staged(staged, key)
                    data, places_in_sample = sample_bytes(key, members)
                    file.write(data)
                    digest.update(data)
                    places.append((meta, offset, len(data), hashlib.sha256(data).hexdigest(), places_in_sample))
                    offset += len(data)
                    on_sample(key)
                file.write(TRAILER)
                digest.update(TRAILER)
                file.flush()
                os.fsync(file.fileno())
            name = f"{stem}-{digest.hexdigest()[:8]}.tar"
            temporary.replace(dataset / name)
            fsync_folder((dataset / name).parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    entry = ShardEntry(name=name, split=plan.split, samples=len(places), bytes=offset + len(TRAILER), sha256=digest.hexdigest())
    return WrittenShard(
        entry,
        [sample_row(meta, plan.split, name, at, length, sha, members) for meta, at, length, sha, members in places],
        [row for meta, *_ in places for row in instance_rows(meta)],
    )


def publish(dataset: Path, written: Iterable[WrittenShard]) -> Manifest:
    """Write the index of these shards, commit the manifest, then remove files of `dataset` that it does not name."""
    written = sorted(written, key=lambda shard: shard.entry.name)
    sample_rows = [row for shard in written for row in shard.sample_rows]
    rows_of_instances = [row for shard in written for row in shard.instance_rows]
    keys = [row["key"] for row in sample_rows]
    if len(set(keys)) != len(keys):
        twice = sorted({key for key in keys if keys.count(key) > 1})
        raise DataError(f"keys must be unique in a dataset; these come twice: {twice[:5]}")
    splits: dict[str, int] = {}
    for shard in written:
        splits[shard.entry.split] = splits.get(shard.entry.split, 0) + shard.entry.samples
    manifest = Manifest(
        samples=len(sample_rows), instances=len(rows_of_instances), splits=splits,
        config_sha256=tuple(sorted({row["config_sha256"] for row in sample_rows})),
        shards=tuple(shard.entry for shard in written),
        sample_index=_write_index(dataset, "samples", sample_rows, SAMPLE_SCHEMA),
        instance_index=_write_index(dataset, "instances", rows_of_instances, INSTANCE_SCHEMA),
    )
    write_bytes_atomic(dataset / MANIFEST_NAME, manifest.model_dump_json(indent=1).encode() + b"\n")
    _sweep_unnamed(dataset, manifest)
    return manifest


def _write_index(dataset: Path, kind: str, rows: list[dict], schema: pa.Schema) -> IndexEntry:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema), buffer, compression="zstd", row_group_size=65536)
    data = buffer.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    name = f"index/{kind}-{digest[:8]}.parquet"
    write_bytes_atomic(dataset / name, data)
    return IndexEntry(name=name, rows=len(rows), bytes=len(data), sha256=digest)


def _sweep_unnamed(dataset: Path, manifest: Manifest) -> None:
    named = {entry.name for entry in manifest.shards} | {manifest.sample_index.name, manifest.instance_index.name}
    for path in (*dataset.glob("shards/*.tar"), *dataset.glob("index/*.parquet")):
        if path.relative_to(dataset).as_posix() not in named:
            path.unlink(missing_ok=True)
