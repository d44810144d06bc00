"""Read the index: Parquet bytes whose size, digest, columns and every value are checked.

What leaves here can be used without another look. Keys and shards are names that stay in the
dataset, nothing is null that must not be, and members lie within their samples. Whether it is also
true is for `verify` to say.
"""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from panoforge.core.errors import DataError
from panoforge.core.foreign.parquet import read_parquet
from panoforge.core.names import (
    KEY_PATTERN,
    MAX_FRAMES,
    RESERVED_PATTERN,
    check_name,
    check_shard,
    check_split,
    shown,
)
from panoforge.core.numbers import counted
from panoforge.core.shards.layout import INSTANCE_SCHEMA, SAMPLE_SCHEMA, IndexEntry, Manifest
from panoforge.core.shards.videos import VIDEO_SCHEMA
from panoforge.core.storage.store import Store, StoreLike

MAX_INDEX_BYTES = 8 << 30
_NULLABLE = {"clearance_m", "visibility"}
_LIMITS = {  # of numbers, both ends included
    "id": (1, 65535),
    "width": (1, 65535),
    "height": (1, 65535),
    "u0": (0, 65535),
    "v0": (0, 65535),
    "pixels": (1, 2**31),
    "n_instances": (0, 65535),
    "offset": (0, 2**62),
    "length": (1, 2**62),
    "seed": (0, 2**63 - 1),
    "camera": (0, 2**31 - 1),
    "frames": (1, MAX_FRAMES),
    "fps": (0, 1000),
    "n_moving": (0, 65535),
}


def read_index(dataset: StoreLike, entry: IndexEntry, schema: pa.Schema) -> pa.Table:
    """An index table whose file has the size, digest and schema that the manifest says."""
    store = Store.at(dataset)
    path = f"{store}/{entry.name}"
    size = store.size(entry.name)
    if size != entry.bytes or size > MAX_INDEX_BYTES:
        raise DataError(
            f"{path}: {size} bytes, the manifest says {entry.bytes}:"
            " the index is damaged, pano repair makes it again"
        )
    data = store.read(entry.name)
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise DataError(
            f"{path}: does not have the digest that the manifest names: the index is damaged,"
            " pano repair makes it again"
        )
    try:
        table = read_table(data, schema)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    if table.num_rows != entry.rows:
        raise DataError(f"{path}: {counted(table.num_rows, 'row')}, the manifest says {entry.rows}")
    return table


def read_instances(dataset: StoreLike, manifest: Manifest) -> pa.Table:
    """The instance index. DataError where it is not the one that the manifest says."""
    return read_index(dataset, manifest.instance_index, INSTANCE_SCHEMA)


def read_videos(dataset: StoreLike, manifest: Manifest) -> pa.Table:
    """The table of videos, without rows where the manifest names none. DataError as above."""
    if manifest.video_index is None:
        return VIDEO_SCHEMA.empty_table()
    return read_index(dataset, manifest.video_index, VIDEO_SCHEMA)


def read_table(data: bytes, schema: pa.Schema) -> pa.Table:
    """The table of an index file's bytes.

    DataError for what is no such table, or holds values that no packer writes.
    """
    table = read_parquet(
        data, schema, what="an index of this version (pack again)"
    ).replace_schema_metadata(None)
    _check_values(table)
    if schema == SAMPLE_SCHEMA:
        _check_samples(table)
    elif schema == VIDEO_SCHEMA:
        _check_keys(table["video"], "video")
        _check_places(table)
    else:
        _check_keys(table["key"])
    return table


def _check_values(table: pa.Table) -> None:
    """DataError for nulls, and for numbers outside of what they can be."""
    for name in table.column_names:
        column = table[name]
        if column.null_count and name not in _NULLABLE:
            raise DataError(f"column {name} has empty places")
        if name in _LIMITS and len(column):
            low, high = _LIMITS[name]
            found = pc.min_max(column)
            if found["min"].as_py() < low or found["max"].as_py() > high:
                raise DataError(
                    f"column {name} goes from {found['min']} to {found['max']}, expected {low} to"
                    f" {high}"
                )
        if pa.types.is_list(column.type) and pc.list_flatten(column).null_count:
            raise DataError(f"column {name} has empty places in its lists")


def _check_samples(table: pa.Table) -> None:
    """DataError for names that are none, and for members that do not lie within their sample."""
    _check_keys(table["key"])
    _check_places(table)
    if any(pc.list_value_length(table["position_m"]).to_numpy() != 3):
        raise DataError("column position_m: expected three numbers each")
    members = table["members"].combine_chunks()
    flat = members.flatten()
    if any(field.null_count for field in flat.flatten()):
        raise DataError("column members has empty places")
    for suffix in pc.unique(flat.field("suffix")).to_pylist():
        if "/" in check_name(suffix, "member"):
            raise DataError(f"member {shown(suffix)}: expected a file's name, not a path")
    parent = pc.list_parent_indices(members).to_numpy()
    start = table["offset"].to_numpy()[parent]
    stop = start + table["length"].to_numpy()[parent]
    offset, length = (flat.field(name).to_numpy() for name in ("offset", "length"))
    inside = (length >= 0) & (length <= 2**62) & (offset >= start) & (offset <= stop - length)
    if not np.all(inside):
        key = table["key"][int(parent[np.argmin(inside)])].as_py()
        raise DataError(f"{key}: a member of it does not lie within it")


def _check_places(table: pa.Table) -> None:
    """DataError for names of scenes, shards and splits that are none."""
    _check_keys(table["scene"], "scene")
    for name, check in (("shard", check_shard), ("split", check_split)):
        for value in pc.unique(table[name]).to_pylist():
            check(value)


def _check_keys(column: pa.ChunkedArray, what: str = "sample key") -> None:
    """As `check_key` and `check_scene`, for a column of millions."""
    fits = pc.match_substring_regex(column, f"^{KEY_PATTERN}\\z")
    good = pc.and_not(fits, pc.match_substring_regex(column, f"^{RESERVED_PATTERN}\\z"))
    if not pc.all(good, min_count=0).as_py():
        bad = column[pc.index(good, False).as_py()].as_py()
        raise DataError(
            f"{what} {shown(bad)} is refused: expected at most 80 lower-case letters, digits, - and"
            " _, and no name that Windows keeps for a device"
        )
