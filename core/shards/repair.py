"""`pano repair`: make a dataset whole again from what its shards still hold.

A lost or damaged manifest or index is rebuilt from the shards, bit for bit as it was (the same
schema and pyarrow given). Samples that are damaged are taken out: their raw bytes go to
`quarantine/`, with a list of samples and scenes to render again, and their shards are written anew
without them. What remains verifies.

Nothing is destroyed before the new state is committed: quarantine first, then new shards and index
under names of their own, then the manifest, and only then are the files removed that were replaced.
Killed anywhere, it is run again.

    quarantine/damaged.json                    what was wrong with which sample, where its bytes are
    quarantine/rerender.txt                    the scenes, one a line
    quarantine/train-000003-1a2b3c4d/….bin     raw bytes of a shard that are no good sample
"""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from panoforge.core.errors import DataError, UserError
from panoforge.core.shards.build import (
    DIGEST_DIGITS,
    INDEX,
    SHARDS,
    BuiltShard,
    describe,
    manifest_bytes,
    shard_name,
)
from panoforge.core.shards.layout import (
    INSTANCE_SCHEMA,
    MANIFEST_NAME,
    SAMPLE_SCHEMA,
    Manifest,
    ShardEntry,
    instance_rows,
    read_manifest,
    sample_row,
)
from panoforge.core.shards.read import read_index, read_instances, read_table
from panoforge.core.shards.salvage import (
    Damaged,
    Good,
    Salvage,
    salvage,
    scene_named,
    split_of_shard,
)
from panoforge.core.shards.tar import TRAILER
from panoforge.core.storage.store import Store, StoreLike

QUARANTINE = "quarantine"
DAMAGED_LIST, SCENES_LIST = f"{QUARANTINE}/damaged.json", f"{QUARANTINE}/rerender.txt"


@dataclass(frozen=True)
class RepairReport:
    """What `repair` did. `written` and `removed` are names of files; `scenes` are to be rendered
    again.
    """

    samples: int
    damaged: tuple[Damaged, ...]
    scenes: tuple[str, ...]
    written: tuple[str, ...]
    removed: tuple[str, ...]


@dataclass(frozen=True)
class _Known:
    """What can still be believed of a dataset: its manifest, its sample index, and the shards that
    belong to it (name → digest, None where only the name tells).
    """

    manifest: Manifest | None
    samples: pa.Table | None
    shards: dict[str, str | None]

    @cached_property
    def _rows_of(self) -> dict[str, list[int]]:
        rows_of: dict[str, list[int]] = {}
        for row, shard in enumerate(
            self.samples["shard"].to_pylist() if self.samples is not None else ()
        ):
            rows_of.setdefault(shard, []).append(row)
        return rows_of

    def rows(self, shard: str) -> list[dict] | None:
        """Its rows of the sample index; None without one."""
        if self.samples is None:
            return None
        return self.samples.take(pa.array(self._rows_of.get(shard, []), pa.int64())).to_pylist()


def repair(
    dataset: StoreLike, *, deep: bool = False, on_shard: Callable[[str], None] = lambda name: None
) -> RepairReport:
    """Repair a dataset. DataError when there is nothing to repair it from, or when two shards claim
    the same place and nothing says which one counts.
    """
    store = Store.at(dataset)
    known = _what_is_known(store)
    for folder in ("", SHARDS, INDEX, QUARANTINE, *store.names(QUARANTINE)):
        store.sweep(folder)
    built: list[BuiltShard] = []
    damaged: list[tuple[str, Damaged]] = []
    written: list[str] = []
    for name, sha256 in sorted(known.shards.items()):
        found = salvage(store, name, sha256, known.rows(name), deep=deep)
        if not found.whole:
            damaged += [(name, part) for part in found.damaged]
            _quarantine(store, name, found)
        if found.good:
            built.append(
                _shard(name, found, name) if found.whole else _rewritten(store, name, found)
            )
            if built[-1].entry.name != name or not found.whole:
                written.append(built[-1].entry.name)
        on_shard(name)
    scenes = _list_damaged(store, damaged, known) if damaged else ()
    manifest, files = describe(built)
    wanted = files | {MANIFEST_NAME: manifest_bytes(manifest)}  # the manifest is the last of them
    changed = [name for name, data in wanted.items() if store.get(name) != data]
    if known.manifest is not None and not damaged and _says_the_same(known, manifest, store):
        changed = []  # an index of an older schema that is whole stays as it is
    for name in changed:
        store.put(name, wanted[name])
    removed = _superseded(
        store, known, manifest if changed or known.manifest is None else known.manifest
    )
    for name in removed:
        store.delete(name)
    return RepairReport(
        manifest.samples, tuple(part for _, part in damaged), scenes, (*written, *changed), removed
    )


# ---- what is known


def _what_is_known(store: Store) -> _Known:
    manifest: Manifest | None = None
    with contextlib.suppress(UserError):
        manifest = read_manifest(store)
    if manifest is not None:
        samples = None
        with contextlib.suppress(UserError):
            samples = read_index(store, manifest.sample_index, SAMPLE_SCHEMA)
        shards: dict[str, str | None] = {entry.name: entry.sha256 for entry in manifest.shards}
        if samples is None or set(samples["shard"].to_pylist()) <= set(shards):
            return _Known(manifest, samples, shards)
    there = [name for name in store.names(SHARDS) if name.endswith(".tar")]
    samples = _index_that_fits(store, set(there))
    if samples is not None:
        return _Known(None, samples, dict.fromkeys(samples["shard"].to_pylist()))
    if not there:
        raise DataError(
            f"{store}: no readable manifest and no shards: there is nothing to repair it from. Pack"
            " the run again"
        )
    _refuse_rivals(store, there)
    return _Known(None, None, dict.fromkeys(there))


def _index_that_fits(store: Store, shards: set[str]) -> pa.Table | None:
    """Without a manifest: a sample index with the digest of its name, all shards of which are
    there. Of several, which an interrupted packer may leave, the one with most samples.
    """
    found = []
    for name in store.names(INDEX):
        if not name.startswith(f"{INDEX}/samples-"):
            continue
        data = store.read(name)
        digest = hashlib.sha256(data).hexdigest()
        if name != f"{INDEX}/samples-{digest[:DIGEST_DIGITS]}.parquet":
            continue
        with contextlib.suppress(UserError, pa.ArrowInvalid):
            table = read_table(data, SAMPLE_SCHEMA)
            if set(table["shard"].to_pylist()) <= shards:
                found.append(table)
    return max(found, key=lambda table: table.num_rows, default=None)


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


def _says_the_same(known: _Known, manifest: Manifest, store: Store) -> bool:
    """Whether the dataset is whole as it stands, in an older schema."""
    old = known.manifest
    if old is None or known.samples is None or old.schema_version == manifest.schema_version:
        return False
    with contextlib.suppress(UserError):
        read_instances(store, old)
        return (
            old.shards == manifest.shards
            and old.samples == manifest.samples
            and old.instances == manifest.instances
        )
    return False


# ---- shards


def _shard(
    name: str, found: Salvage, new_name: str, *, sha256: str | None = None, size: int | None = None
) -> BuiltShard:
    """The entry and the index rows of a shard whose samples lie one after the other as in
    `found.good`.
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
    return BuiltShard(
        entry,
        pa.Table.from_pylist(rows, SAMPLE_SCHEMA),
        pa.Table.from_pylist(instances, INSTANCE_SCHEMA),
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


def _superseded(store: Store, known: _Known, manifest: Manifest) -> tuple[str, ...]:
    """Files of the old state that the new one does not name, and shards that an interrupted repair
    replaced. Others are not ours to remove.
    """
    named = {entry.name for entry in manifest.shards} | {
        manifest.sample_index.name,
        manifest.instance_index.name,
    }
    old = set(known.shards) | {entry["shard"] for entry in _earlier(store)}
    old |= {name for name in store.names(INDEX) if name.endswith(".parquet")}
    return tuple(sorted(name for name in old - named if store.get_size(name) is not None))


# ---- quarantine


def _quarantine(store: Store, name: str, found: Salvage) -> None:
    """Keep the raw bytes of what is no good sample."""
    for part in found.damaged:
        if part.length:
            store.put(
                _kept_as(name, part), store.read(name, part.offset, part.offset + part.length)
            )


def _kept_as(name: str, part: Damaged) -> str:
    stem = name.removeprefix(f"{SHARDS}/").removesuffix(".tar")
    return f"{QUARANTINE}/{stem}/{part.offset:012d}-{part.key or 'stray'}.bin"


def _list_damaged(
    store: Store, damaged: Sequence[tuple[str, Damaged]], known: _Known
) -> tuple[str, ...]:
    """Add to the lists; gives the scenes that are to be rendered again, those of earlier repairs
    too.
    """
    facts: dict[str, dict[str, Any]] = {}
    if known.samples is not None:
        columns = known.samples.select(["key", "scene", "source", "seed", "camera"])
        facts = {row["key"]: row for row in columns.to_pylist()}
    entries = {
        (entry["shard"], entry["offset"], entry["key"] or ""): entry for entry in _earlier(store)
    }
    for name, part in damaged:
        entry = asdict(part) | facts.get(part.key or "", {"scene": scene_named(part)})
        entries[name, part.offset, part.key or ""] = entry | {
            "shard": name,
            "kept": _kept_as(name, part) if part.length else None,
        }
    scenes = sorted({entry["scene"] for entry in entries.values() if entry["scene"]})
    document = {
        "schema_version": 1,
        "format": "panoforge-quarantine",
        "scenes": scenes,
        "damaged": [entries[place] for place in sorted(entries)],
    }
    store.put(SCENES_LIST, "".join(f"{scene}\n" for scene in scenes).encode())
    store.put(DAMAGED_LIST, json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n")
    return tuple(scenes)


def _earlier(store: Store) -> list[dict[str, Any]]:
    data = store.get(DAMAGED_LIST)
    try:
        return list(json.loads(data)["damaged"]) if data else []
    except (ValueError, KeyError, TypeError):
        raise DataError(
            f"{store}/{DAMAGED_LIST} is not a list that `pano repair` wrote: move it away, then"
            " repair again"
        ) from None
