"""`pano repair`: make a dataset whole again from what its shards still hold.

A lost or damaged manifest or index is rebuilt from the shards, bit for bit as it was (the same
schema and pyarrow given). Samples that are damaged are taken out. Their raw bytes go to
`quarantine/`, with a list of samples and scenes to render again, and their shards are written anew
without them. What remains verifies.

Digests are believed over names: a shard whose content lies under another name gets its own again.
Where several manifests or indices can be believed, the state with the most whole samples is kept.

Nothing is deleted. First what is damaged is copied to quarantine. Then new shards and index are
written under names of their own, then the manifest. Only then the files that were replaced are
moved to `quarantine/replaced`. Killed anywhere, it is run again.
"""

import contextlib
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from panoforge.core.errors import DataError, StorageError
from panoforge.core.shards.build import BuiltShard, describe, manifest_bytes, shard_name
from panoforge.core.shards.contents import Contents
from panoforge.core.shards.damaged_list import QUARANTINE, read_damaged
from panoforge.core.shards.layout import (
    INDEX,
    INSTANCE_SCHEMA,
    MANIFEST_NAME,
    SAMPLE_SCHEMA,
    SHARDS,
    Manifest,
    ShardEntry,
    instance_rows,
    sample_row,
)
from panoforge.core.shards.quarantine import (
    keep_copy,
    keep_damaged,
    list_damaged,
    retire,
)
from panoforge.core.shards.salvage import Damaged, Good, Salvage, split_of_shard
from panoforge.core.shards.states import DatasetState, best_state
from panoforge.core.shards.tar import TRAILER
from panoforge.core.shards.videos import VIDEO_SCHEMA, video_row
from panoforge.core.storage.lease import Lease, held
from panoforge.core.storage.store import Store, StoreLike


@dataclass(frozen=True)
class RepairReport:
    """What `repair` did.

    `written` and `removed` are names of files, the latter moved to quarantine; `scenes` are to be
    rendered again.
    """

    samples: int
    damaged: tuple[Damaged, ...]
    scenes: tuple[str, ...]
    written: tuple[str, ...]
    removed: tuple[str, ...]


def repair(
    dataset: StoreLike, *, deep: bool = False, on_shard: Callable[[str], None] = lambda name: None
) -> RepairReport:
    """Repair a dataset.

    Args:
        dataset: a folder or URL.
        deep: decode every product, not only metadata and label maps.
        on_shard: called with the name of each shard that is done.

    Raises:
        DataError: there is nothing to repair it from, or two shards claim the same place and
            nothing says which one counts.
        InUse: another process packs or repairs it.
    """
    store = Store.at(dataset)
    if store.local is not None and not store.local.is_dir():
        raise StorageError(f"{store}: there is no such folder")
    with held(store, "pano repair") as lease:
        return _repaired(store, lease, deep, on_shard)


def _repaired(
    store: Store, lease: Lease, deep: bool, on_shard: Callable[[str], None]
) -> RepairReport:
    earlier = read_damaged(store)
    for folder in ("", SHARDS, INDEX, QUARANTINE, *store.names(QUARANTINE)):
        with contextlib.suppress(DataError):  # a link that leads out: nothing of ours is there
            store.sweep(folder)
    contents = Contents.of(store)
    best = best_state(contents, deep=deep)
    lease.check()
    moved = _put_right(store, best.files, contents)
    built: list[BuiltShard] = []
    damaged: list[tuple[str, Damaged]] = []
    written = [name for name, file in best.files.items() if file != name]
    for name, found in best.found.items():
        if not found.whole:
            damaged += [(name, part) for part in found.damaged]
            keep_damaged(store, name, name, found.damaged)
        if found.good:
            built.append(
                _shard(name, found, name) if found.whole else _rewritten(store, name, found)
            )
            if built[-1].entry.name != name or not found.whole:
                written.append(built[-1].entry.name)
        on_shard(name)
    scenes = list_damaged(store, damaged, _facts(best.state)) if damaged else ()
    manifest, files = describe(built)
    wanted = files | {MANIFEST_NAME: manifest_bytes(manifest)}  # the manifest is the last of them
    changed = [name for name, data in wanted.items() if _content(store, name) != data]
    lease.check()
    if MANIFEST_NAME in changed and best.state.manifest is None and _content(store, MANIFEST_NAME):
        moved.append(keep_copy(store, MANIFEST_NAME))  # of another state, or unreadable
    for name in changed:
        store.put(name, wanted[name])
    old = {*best.state.shards, *(entry.shard for entry in earlier)}
    moved += [retire(store, name) for name in _superseded(store, old, manifest)]
    return RepairReport(
        manifest.samples,
        tuple(part for _, part in damaged),
        scenes,
        (*written, *changed),
        tuple(moved),
    )


def _content(store: Store, name: str) -> bytes | None:
    """A small file's bytes; None where there is none.

    What lies in its place and is none is moved away.
    """
    try:
        return store.get(name)
    except DataError:  # a folder, a pipe, a link that leads out
        retire(store, name)
        return None


def _facts(state: DatasetState) -> dict[str, dict[str, Any]]:
    """What the index knows of samples, by key."""
    if state.samples is None:
        return {}
    columns = state.samples.select(["key", "scene", "source", "seed", "camera"])
    return {row["key"]: row for row in columns.to_pylist()}


# ---- shards


def _put_right(store: Store, files: Mapping[str, str], contents: Contents) -> list[str]:
    """Give each content its shard's name: `files` says where it lies.

    Gives the new names of what stood in its place. Killed in between, the next repair finds the
    contents again by digest.
    """
    misplaced = {file: name for name, file in files.items() if file != name}
    waiting = {}
    for file, name in misplaced.items():  # out of each other's way first
        waiting[name] = f"{SHARDS}/moving-{contents.digest(file)}.tar"
        store.move(file, waiting[name])
    moved = []
    for name, file in waiting.items():
        if name in store.names(SHARDS):
            moved.append(retire(store, name))
        store.move(file, name)
    for name in files:
        if name in store.names(SHARDS) and not _is_file(store, name):
            moved.append(retire(store, name))
    return moved


def _is_file(store: Store, name: str) -> bool:
    try:
        return store.get_size(name) is not None
    except DataError:
        return False


def _shard(
    name: str, found: Salvage, new_name: str, *, sha256: str | None = None, size: int | None = None
) -> BuiltShard:
    """The entry and the index rows of a shard of undamaged samples.

    They lie one after the other as in `found.good`.
    """
    split, offset = split_of_shard(name), 0
    rows: list[dict] = []
    for good in found.good:
        rows.append(
            sample_row(
                good.meta, split, new_name, offset, good.length, good.sha256, list(good.members)
            )
        )
        offset += good.length
    entry = ShardEntry(
        name=new_name,
        split=split,
        samples=len(rows),
        bytes=size or found.bytes,
        sha256=sha256 or found.sha256,
    )
    instances = [row for good in found.good for row in instance_rows(good.meta)]
    videos = [
        video_row(good.meta, good.video, split, new_name)
        for good in found.good
        if good.video is not None
    ]
    return BuiltShard(
        entry,
        pa.Table.from_pylist(rows, SAMPLE_SCHEMA),
        pa.Table.from_pylist(instances, INSTANCE_SCHEMA),
        pa.Table.from_pylist(videos, VIDEO_SCHEMA),
    )


def _rewritten(store: Store, name: str, found: Salvage) -> BuiltShard:
    """A shard of the good samples of `name`, with the same place in the order of the dataset."""
    digest, size = hashlib.sha256(), 0
    with store.draft(SHARDS) as draft:
        for data in (*(_bytes(store, name, good) for good in found.good), TRAILER):
            digest.update(data)
            draft.file.write(data)
            size += len(data)
        stem = name.removeprefix(f"{SHARDS}/").rpartition("-")[0]
        new_name = shard_name(stem, digest.hexdigest())
        draft.commit(new_name.rpartition("/")[2])
    return _shard(name, found, new_name, sha256=digest.hexdigest(), size=size)


def _bytes(store: Store, name: str, good: Good) -> bytes:
    data = store.read(name, good.offset, good.offset + good.length)
    if hashlib.sha256(data).hexdigest() != good.sha256:
        raise DataError(
            f"{store}/{name}: changed while it was repaired. Repair again when nobody writes there"
        )
    return data


def _superseded(store: Store, old: set[str], manifest: Manifest) -> list[str]:
    """Shards of the old state (`old`) and index files that the new one does not name.

    Others are not ours to move.
    """
    named = {entry.name for entry in manifest.shards} | {e.name for e in manifest.indices}
    indices = {name for name in store.names(INDEX) if name.endswith(".parquet")}
    there = {*store.names(SHARDS), *indices}
    return sorted(((old & there) | indices) - named)
