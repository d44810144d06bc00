"""Verify a dataset: every digest, every header, every schema, every label map. Nothing is believed.

Takes a dataset folder, gives a list of `Fault`s, each naming the file and, where one is hit, the sample. A shard's bytes
are walked once: each sample's extent against its digest in the index, each header against the one canonical header that
must stand there, what lies between and after against zero; so any flipped bit, cut, gap, double or stranger shows. Then
metadata and label map are decoded and compared with each other. `deep` decodes all other products too.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pano.errors import UserError
from pano.sample import META_SUFFIX, PRODUCT_OF_SUFFIX, check_product, decode_meta, decode_product, table_faults
from pano.shards.layout import (
    INSTANCE_SCHEMA,
    MANIFEST_NAME,
    SAMPLE_SCHEMA,
    ShardEntry,
    instance_rows,
    read_manifest,
    sample_row,
)
from pano.shards.read import read_index
from pano.shards.tar import BLOCK, TRAILER, Member, header, padded
from pano.storage import storage_errors


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: in which file, in which sample (None where it hits none), and what."""

    file: str
    sample: str | None
    what: str


@dataclass(frozen=True)
class VerifyReport:
    """How many samples were looked at, and everything that is wrong with them."""

    samples: int
    faults: tuple[Fault, ...]


def verify(dataset: Path, *, deep: bool = False, on_sample: Callable[[str], None] = lambda key: None) -> VerifyReport:
    """Verify the dataset in `dataset`. Only a dataset without a readable manifest raises; all else is a fault."""
    manifest = read_manifest(dataset)
    faults: list[Fault] = []
    try:
        samples = read_index(dataset, manifest.sample_index, SAMPLE_SCHEMA).to_pylist()
    except UserError as error:
        return VerifyReport(0, (Fault(manifest.sample_index.name, None, str(error)),))
    try:
        by_key: dict[str, list[dict]] = {row["key"]: [] for row in samples}
        for row in read_index(dataset, manifest.instance_index, INSTANCE_SCHEMA).to_pylist():
            by_key.setdefault(row["key"], []).append(row)
    except UserError as error:
        faults.append(Fault(manifest.instance_index.name, None, str(error)))
        by_key = {}
    if len(samples) != manifest.samples:
        faults.append(Fault(MANIFEST_NAME, None, f"says {manifest.samples} samples, the index holds {len(samples)}"))
    if len({row["key"] for row in samples}) != len(samples):
        faults.append(Fault(manifest.sample_index.name, None, "keys come twice"))
    in_shards: dict[str, list[dict]] = {entry.name: [] for entry in manifest.shards}
    for row in samples:
        if row["shard"] in in_shards:
            in_shards[row["shard"]].append(row)
        else:
            faults.append(Fault(row["shard"], row["key"], "the manifest does not name this shard"))
    for entry in manifest.shards:
        faults += _shard_faults(dataset, entry, in_shards[entry.name], by_key, deep, on_sample)
    return VerifyReport(len(samples), tuple(faults))


def _shard_faults(dataset: Path, entry: ShardEntry, rows: list[dict], instances: dict[str, list[dict]], deep: bool,
                  on_sample: Callable[[str], None]) -> Iterator[Fault]:
    path = dataset / entry.name
    try:
        with storage_errors(path), open(path, "rb") as file:
            size = path.stat().st_size
            if size != entry.bytes:
                yield Fault(entry.name, _sample_at(rows, size), f"{size} bytes, the manifest says {entry.bytes}")
            digest = hashlib.sha256()
            at = 0
            for row in sorted(rows, key=lambda row: row["offset"]):
                if row["offset"] != at:
                    yield Fault(entry.name, row["key"], f"begins at byte {row['offset']}, the sample before it ends at {at}")
                    file.seek(row["offset"])
                data = file.read(row["length"])
                digest.update(data)
                at = row["offset"] + row["length"]
                if len(data) < row["length"]:
                    yield Fault(entry.name, row["key"], f"cut: {len(data)} of {row['length']} bytes are there")
                elif hashlib.sha256(data).hexdigest() != row["sha256"]:
                    yield Fault(entry.name, row["key"], "its bytes do not have the digest of the index")
                else:
                    for what in _sample_faults(row, data, entry.split, instances, deep):
                        yield Fault(entry.name, row["key"], what)
                on_sample(row["key"])
            rest = file.read(len(TRAILER) + 1)
            digest.update(rest)
            last = max(rows, key=lambda row: row["offset"])["key"] if rows else None
            if rest != TRAILER:
                yield Fault(entry.name, last, f"after the last sample: expected the {len(TRAILER)} zero bytes that end a tar, "
                            f"got {len(rest)} bytes that are not")
            if len(rows) != entry.samples or digest.hexdigest() != entry.sha256:
                yield Fault(entry.name, None, "is not the shard that the manifest describes (digest or number of samples)")
    except UserError as error:
        yield Fault(entry.name, None, str(error))


def _sample_at(rows: list[dict], offset: int) -> str | None:
    """The sample that byte `offset` of the shard falls into."""
    return next((row["key"] for row in rows if row["offset"] <= offset < row["offset"] + row["length"]), None)


def _sample_faults(row: dict, data: bytes, split: str, instances: dict[str, list[dict]], deep: bool) -> Iterator[str]:
    """What is wrong with a sample whose digest fits: the packer or the index lied."""
    at = 0
    members: dict[str, bytes] = {}
    for member in row["members"]:
        start, length = member["offset"] - row["offset"], member["length"]
        end = at + BLOCK + padded(length)
        if start != at + BLOCK or end > len(data):
            yield f"{member['suffix']}: the index places it at {start}, the tar has it at {at + BLOCK}"
            return
        if data[at : at + BLOCK] != header(f"{row['key']}.{member['suffix']}", length):
            yield f"{member['suffix']}: its tar header is not the canonical one"
        if any(data[start + length : end]):
            yield f"{member['suffix']}: its padding is not zero"
        members[member["suffix"]] = data[start : start + length]
        at = end
    if at != len(data) or list(members) != sorted(members):
        yield "holds members that the index does not list, or in another order"
    if META_SUFFIX not in members:
        yield f"has no {META_SUFFIX}"
        return
    try:
        yield from _content_faults(row, members, split, instances, deep)
    except UserError as error:
        yield str(error)


def _content_faults(
    row: dict, members: dict[str, bytes], split: str, instances: dict[str, list[dict]], deep: bool
) -> Iterator[str]:
    meta = decode_meta(members[META_SUFFIX])
    if {*meta.products, META_SUFFIX} != set(members):
        yield f"metadata lists {sorted(meta.products)}, the sample holds {sorted(members)}"
    places = [Member(m["suffix"], m["offset"] - row["offset"], m["length"]) for m in row["members"]]
    if sample_row(meta, split, row["shard"], row["offset"], row["length"], row["sha256"], places) != row:
        yield "its row of the sample index disagrees with its metadata"
    if instances and instances.get(row["key"]) != instance_rows(meta):
        yield "its rows of the instance index disagree with its metadata"
    for suffix, data in members.items():
        name = PRODUCT_OF_SUFFIX.get(suffix)
        if suffix == META_SUFFIX:
            continue
        if name is None:
            yield f"{suffix}: not a member of the sample format"
        elif name == "instance" or deep:
            array = decode_product(suffix, data)
            check_product(name, array, meta.width, meta.height)
            if name == "instance":
                yield from table_faults(array, meta)
