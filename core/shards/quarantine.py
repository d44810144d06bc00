"""`quarantine/`: what `pano repair` took out of a dataset, and what was wrong with it.

quarantine/damaged.json                    what was wrong with which sample, where its bytes are
quarantine/rerender.txt                    the scenes, one a line
quarantine/train-000003-1a2b3c4d/….bin     raw bytes of a shard that are no good sample
quarantine/replaced/…                      files that a new state does not name, as they were
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from panoforge.core.shards.damaged_list import (
    DAMAGED_LIST,
    QUARANTINE,
    REPLACED,
    DamagedEntry,
    DamagedList,
    read_damaged,
)
from panoforge.core.shards.layout import SHARDS
from panoforge.core.shards.salvage import Damaged, scene_named
from panoforge.core.storage.store import Store

SCENES_LIST = f"{QUARANTINE}/rerender.txt"
MAX_KEPT_BYTES = 2 << 30  # more is not copied: the whole file is moved here anyway


def keep_damaged(store: Store, name: str, file: str, damaged: Sequence[Damaged]) -> None:
    """Keep the raw bytes of what is no good sample of shard `name`; `file` has its content."""
    for part in damaged:
        if 0 < part.length <= MAX_KEPT_BYTES:
            data = store.read(file, part.offset, part.offset + part.length)
            store.put(_kept_as(name, part), data)


def retire(store: Store, name: str) -> str:
    """Move a file, or whatever lies in its place, out of the dataset; gives its new name."""
    new = _free_name(store, name)
    store.move(name, new)
    return new


def keep_copy(store: Store, name: str) -> str:
    """Copy a small file that is about to be replaced; gives the copy's name."""
    new = _free_name(store, name)
    store.put(new, store.read(name))
    return new


def _free_name(store: Store, name: str) -> str:
    wanted, taken = f"{REPLACED}/{name.replace('/', '-')}", set(store.names(REPLACED))
    numbered = (f"{wanted}.{number}" for number in itertools.count(1))
    return next(
        free for free in (wanted, *itertools.islice(numbered, len(taken))) if free not in taken
    )


def list_damaged(
    store: Store, damaged: Sequence[tuple[str, Damaged]], facts: Mapping[str, dict[str, Any]]
) -> tuple[str, ...]:
    """Add to the lists; gives the scenes that are to be rendered again.

    Those of earlier repairs too. `facts` are what an index knows of samples, by key.
    """
    entries = {(entry.shard, entry.offset, entry.key or ""): entry for entry in read_damaged(store)}
    for name, part in damaged:
        entry = asdict(part) | facts.get(part.key or "", {"scene": scene_named(part)})
        kept = _kept_as(name, part) if 0 < part.length <= MAX_KEPT_BYTES else None
        entries[name, part.offset, part.key or ""] = DamagedEntry(**entry, shard=name, kept=kept)
    scenes = sorted({entry.scene for entry in entries.values() if entry.scene})
    document = DamagedList(
        scenes=tuple(scenes), damaged=tuple(entries[at] for at in sorted(entries))
    )
    store.put(SCENES_LIST, "".join(f"{scene}\n" for scene in scenes).encode())
    store.put(DAMAGED_LIST, document.model_dump_json(indent=1).encode() + b"\n")
    return tuple(scenes)


def _kept_as(name: str, part: Damaged) -> str:
    stem = name.removeprefix(f"{SHARDS}/").removesuffix(".tar")
    return f"{QUARANTINE}/{stem}/{part.offset:012d}-{part.key or 'stray'}.bin"
