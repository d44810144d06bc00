"""Build shards, each by itself and anywhere, and commit a dataset of them.

`build_shard` takes a plan and gives a committed shard with the index rows of its samples. It
depends on nothing but the staged panoramas, so any number of workers build at once, in any order. A
shard that is already there with the right content is read but not written again. Staged members go
in as they are, after their metadata is checked.

`commit` writes the index of the shards, then the manifest, the commit point. Only then does it
remove what the manifest does not name. So a reader sees the old dataset or the new one, and so
does whoever comes after a kill. On a bucket the same order holds; nothing there is renamed, so a
shard is filled on local disk and uploaded under its final name.
"""

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from panoforge.core.errors import DataError
from panoforge.core.sample.metadata import META_SUFFIX, VIDEO_SUFFIX, SampleMeta, decode_meta
from panoforge.core.sample.products import product_size
from panoforge.core.shards.layout import (
    DIGEST_DIGITS,
    INDEX,
    INSTANCE_SCHEMA,
    MANIFEST_NAME,
    SAMPLE_SCHEMA,
    SHARDS,
    IndexEntry,
    Manifest,
    ShardEntry,
    instance_rows,
    sample_row,
)
from panoforge.core.shards.plan import Candidate, ShardPlan, scene_of
from panoforge.core.shards.tar import TRAILER, sample_bytes
from panoforge.core.shards.videos import VIDEO_SCHEMA, VideoWatch, video_of_sample, video_row
from panoforge.core.storage.staged import read_staged, renamed
from panoforge.core.storage.store import Store


@dataclass(frozen=True)
class BuildTask:
    """One shard to be built.

    Its plan, the dataset's URL, and the files of its name and size that are there already.
    """

    plan: ShardPlan
    dataset: str
    existing: tuple[str, ...] = ()


@dataclass(frozen=True)
class BuiltShard:
    """A committed shard and the index rows of its samples."""

    entry: ShardEntry
    samples: pa.Table
    instances: pa.Table
    videos: pa.Table = field(default_factory=VIDEO_SCHEMA.empty_table)


def shard_name(stem: str, sha256: str) -> str:
    """Name of a shard within its dataset; `stem` as in `train-000003`."""
    return f"{SHARDS}/{stem}-{sha256[:DIGEST_DIGITS]}.tar"


def build_shard(task: BuildTask, on_sample: Callable[[str], None] = lambda key: None) -> BuiltShard:
    """Build and commit one shard.

    Its name carries its digest, so it is known only after the last byte. DataError for a damaged
    staged panorama, naming it.
    """
    plan = task.plan
    if task.existing:
        built = _assemble(plan, io.BytesIO(), on_sample, keep=False)
        if built.entry.name in task.existing:
            return built
        on_sample = _silent
    with Store.at(task.dataset).draft(SHARDS) as draft:
        built = _assemble(plan, draft.file, on_sample, keep=True)
        draft.commit(built.entry.name.rpartition("/")[2])
    return built


def _silent(key: str) -> None:
    """Progress of a second pass, which nobody counts."""


def _assemble(
    plan: ShardPlan, file: BinaryIO, on_sample: Callable[[str], None], *, keep: bool
) -> BuiltShard:
    """The shard's bytes, to `file` where `keep` says so, and what is to be known of them."""
    digest = hashlib.sha256()
    places = []
    firsts = []
    offset, watch = 0, VideoWatch()
    for sample in plan.samples:
        meta, members = _members(sample)
        video = video_of_sample(meta.key, members).meta if VIDEO_SUFFIX in members else None
        for fault in watch.faults(meta, video):
            raise DataError(f"{sample.staged}/{sample.key}: {fault}")
        if video is not None:
            firsts.append((meta, video))
        data, members_at = sample_bytes(sample.key, members)
        if len(data) != sample.length:
            raise DataError(
                f"{sample.staged}/{sample.key}: changed while it was packed, {sample.length} bytes"
                f" became {len(data)}: pack again when nobody writes there"
            )
        digest.update(data)
        if keep:
            file.write(data)
        places.append((meta, offset, len(data), hashlib.sha256(data).hexdigest(), members_at))
        offset += len(data)
        on_sample(sample.key)
    for fault in watch.end():
        raise DataError(f"{plan.samples[-1].staged}: {fault}")
    digest.update(TRAILER)
    if keep:
        file.write(TRAILER)
    name = shard_name(plan.stem, digest.hexdigest())
    rows = [
        sample_row(meta, plan.split, name, at, length, sha, members)
        for meta, at, length, sha, members in places
    ]
    return BuiltShard(
        ShardEntry(
            name=name,
            split=plan.split,
            samples=len(rows),
            bytes=offset + len(TRAILER),
            sha256=digest.hexdigest(),
        ),
        pa.Table.from_pylist(rows, SAMPLE_SCHEMA),
        pa.Table.from_pylist(
            [row for meta, *_ in places for row in instance_rows(meta)], INSTANCE_SCHEMA
        ),
        pa.Table.from_pylist(
            [video_row(meta, video, plan.split, name) for meta, video in firsts], VIDEO_SCHEMA
        ),
    )


def _members(sample: Candidate) -> tuple[SampleMeta, dict[str, bytes]]:
    """What is staged of a sample, under the name that it has in the dataset."""
    key = sample.key.removeprefix(sample.prefix)
    meta, members = read_staged(sample.staged, key)
    if (scene_of(key) or meta.scene) != meta.scene:
        raise DataError(
            f"{sample.staged}/{key}: its metadata says scene {meta.scene!r}, its key says"
            f" {scene_of(key)!r}: a key is the scene's name and -c with the camera's number, or -v"
            " with the video's and -f with the frame's"
        )
    for suffix in meta.products:  # a copy that was cut: headers alone say it
        try:
            width, height = product_size(suffix, members[suffix])
        except DataError as error:
            raise DataError(f"{sample.staged}/{key}/{suffix}: {error}") from None
        if (width, height) != (meta.width, meta.height):
            raise DataError(
                f"{sample.staged}/{key}/{suffix}: {width}×{height}, its metadata say"
                f" {meta.width}×{meta.height}: render the scene again, or remove it"
            )
    if sample.prefix:
        members[META_SUFFIX] = renamed(members[META_SUFFIX], key, meta.scene, sample.prefix)
        meta = decode_meta(members[META_SUFFIX])
    return meta, members


def commit(store: Store, shards: Sequence[BuiltShard]) -> Manifest:
    """Make these shards the dataset.

    Index, manifest, and then the removal of files that the manifest does not name. DataError when a
    key comes twice.
    """
    manifest, files = describe(shards)
    for name, data in files.items():
        store.put(name, data)
    store.put(MANIFEST_NAME, manifest_bytes(manifest))
    sweep_unnamed(store, manifest)
    return manifest


def describe(shards: Sequence[BuiltShard]) -> tuple[Manifest, dict[str, bytes]]:
    """The manifest of a dataset of these shards, and the files of its index by name.

    A pure function of them.
    """
    shards = sorted(shards, key=lambda shard: shard.entry.name)
    samples = pa.concat_tables(
        [shard.samples for shard in shards] or [SAMPLE_SCHEMA.empty_table()]
    ).combine_chunks()
    instances = pa.concat_tables(
        [shard.instances for shard in shards] or [INSTANCE_SCHEMA.empty_table()]
    ).combine_chunks()
    videos = pa.concat_tables(
        [shard.videos for shard in shards] or [VIDEO_SCHEMA.empty_table()]
    ).combine_chunks()
    counted = pc.value_counts(samples["key"])
    if len(counted) != samples.num_rows:
        twice = sorted(row["values"] for row in counted.to_pylist() if row["counts"] > 1)
        raise DataError(f"keys must be unique in a dataset; these come twice: {twice[:5]}")
    splits: dict[str, int] = {}
    for shard in shards:
        splits[shard.entry.split] = splits.get(shard.entry.split, 0) + shard.entry.samples
    sample_index, sample_file = _index("samples", samples)
    instance_index, instance_file = _index("instances", instances)
    files = {sample_index.name: sample_file, instance_index.name: instance_file}
    video_index = None
    if videos.num_rows:  # a dataset of stills is as it was before there were videos
        video_index, video_file = _index("videos", videos)
        files[video_index.name] = video_file
    manifest = Manifest(
        samples=samples.num_rows,
        instances=instances.num_rows,
        splits=splits,
        config_sha256=tuple(sorted(pc.unique(samples["config_sha256"]).to_pylist())),
        shards=tuple(shard.entry for shard in shards),
        sample_index=sample_index,
        instance_index=instance_index,
        video_index=video_index,
    )
    return manifest, files


def manifest_bytes(manifest: Manifest) -> bytes:
    """`manifest.json`."""
    return manifest.model_dump_json(indent=1, exclude_none=True).encode() + b"\n"


def _index(kind: str, table: pa.Table) -> tuple[IndexEntry, bytes]:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", row_group_size=65536)
    data = buffer.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    name = f"{INDEX}/{kind}-{digest[:DIGEST_DIGITS]}.parquet"
    return IndexEntry(name=name, rows=table.num_rows, bytes=len(data), sha256=digest), data


def sweep_unnamed(store: Store, manifest: Manifest) -> None:
    """Remove shards and index files that the manifest does not name."""
    named = {entry.name for entry in manifest.shards} | {e.name for e in manifest.indices}
    for folder, ending in ((SHARDS, ".tar"), (INDEX, ".parquet")):
        for name in store.names(folder):
            if name.endswith(ending) and name not in named:
                store.delete(name)
