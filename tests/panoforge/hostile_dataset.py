"""Datasets in which one name is hostile and every digest is right: what an attacker would send."""

import hashlib
import io
import json
import shutil
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from panoforge.core.shards.layout import INSTANCE_SCHEMA, SAMPLE_SCHEMA

NAMES = {
    "up": "../victim/thesis.txt",
    "up through a key": "x/../../../../victim/evil",
    "absolute": "{sandbox}/victim/thesis.txt",
    "NUL": "x\0y",
    "newline": "x\ny",
    "turned": "x\u202egpj",
    "backslash": "..\\victim\\thesis.txt",
    "dots": "..",
    "empty": "",
    "device": "con",
    "home": "~/thesis.txt",
    "drive": "c:x",
    "url": "file:///etc/passwd",
    "option": "-rf",
    "long": "k" * 5000,
    "deep": "k/" * 600 + "k",
    "surrogate": "x\\ud800",
}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def with_manifest(dataset: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = dataset / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def with_index(dataset: Path, kind: str, change: Callable[[list[dict]], object]) -> None:
    """Change rows of an index; the manifest gets its new digest."""
    schema = SAMPLE_SCHEMA if kind == "sample_index" else INSTANCE_SCHEMA

    def rewrite(manifest: dict[str, Any]) -> None:
        entry = manifest[kind]
        path = dataset / entry["name"]
        rows = pq.read_table(path).to_pylist()
        change(rows)
        pq.write_table(pa.Table.from_pylist(rows, schema), path, compression="zstd")
        data = path.read_bytes()
        digest = sha256(data)
        name = f"index/{kind.partition('_')[0]}s-{digest[:8]}.parquet"
        path.rename(dataset / name)
        entry |= {"name": name, "bytes": len(data), "sha256": digest}

    with_manifest(dataset, rewrite)


def rewrite_sample(
    dataset: Path,
    change: Callable[[dict[str, bytes]], object] = lambda members: None,
    rename: str | None = None,
) -> None:
    """The first sample with other members, or of another key: in its tar headers, its metadata,
    both indices. All digests fit.
    """
    manifest = json.loads((dataset / "manifest.json").read_text())
    rows = pq.read_table(dataset / manifest["sample_index"]["name"]).to_pylist()
    old_shard = manifest["shards"][0]["name"]
    shard = (dataset / old_shard).read_bytes()
    inside = [row for row in rows if row["shard"] == old_shard]
    victim = inside[0]["key"]
    name = victim if rename is None else rename
    buffer = io.BytesIO()
    for row in inside:
        begin = buffer.tell()
        held = {m["suffix"]: shard[m["offset"] : m["offset"] + m["length"]] for m in row["members"]}
        if row["key"] == victim:
            held["meta.json"] = json.dumps(json.loads(held["meta.json"]) | {"key": name}).encode()
            change(held)
        key = name if row["key"] == victim else row["key"]
        for member in row["members"]:
            data = held[member["suffix"]]
            info = tarfile.TarInfo(f"{key}.{member['suffix']}"[-99:])
            info.size = len(data)
            buffer.write(info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "surrogateescape"))
            member |= {"offset": buffer.tell(), "length": len(data), "crc32": zlib.crc32(data)}
            buffer.write(data + bytes(-len(data) % 512))
        row["offset"], row["length"] = begin, buffer.tell() - begin
        row["sha256"] = sha256(buffer.getvalue()[begin:])
    buffer.write(bytes(1024))
    digest = sha256(buffer.getvalue())
    new_shard = old_shard.rpartition("-")[0] + f"-{digest[:8]}.tar"
    (dataset / old_shard).unlink()
    (dataset / new_shard).write_bytes(buffer.getvalue())
    for row in inside:
        row["shard"] = new_shard
    entry = {"name": new_shard, "bytes": buffer.tell(), "sha256": digest}
    with_manifest(dataset, lambda m: m["shards"][0].update(entry))

    def rename_samples(found: list[dict]) -> None:
        found[:] = rows
        for row in found:
            row["key"] = name if row["key"] == victim else row["key"]

    def rename_instances(found: list[dict]) -> None:
        for row in found:
            row["key"] = name if row["key"] == victim else row["key"]

    with_index(dataset, "sample_index", rename_samples)
    with_index(dataset, "instance_index", rename_instances)


def key_everywhere(dataset: Path, name: str) -> None:
    """A sample of that key."""
    rewrite_sample(dataset, rename=name)


def quarantine(dataset: Path, **change: Any) -> None:
    """A list of damaged samples with one hostile entry."""
    entry = {
        "key": "caps-000000-c0",
        "offset": 0,
        "length": 10,
        "faults": ["x"],
        "scene": "caps-000000",
        "shard": "shards/train-000000-00000000.tar",
        "kept": None,
    } | change
    (dataset / "quarantine").mkdir()
    document = {
        "schema_version": 1,
        "format": "panoforge-quarantine",
        "scenes": [],
        "damaged": [entry],
    }
    (dataset / "quarantine" / "damaged.json").write_text(json.dumps(document))


def first(rows: list[dict], **change: Any) -> None:
    rows[0] |= change


# Where a name may stand, and how it is put there.
PLACES: dict[str, Callable[[Path, str], None]] = {
    "a key, everywhere": key_everywhere,
    "a key of the index": lambda d, n: with_index(d, "sample_index", lambda r: first(r, key=n)),
    "a key of the instances": lambda d, n: with_index(
        d, "instance_index", lambda r: first(r, key=n)
    ),
    "a scene of the index": lambda d, n: with_index(d, "sample_index", lambda r: first(r, scene=n)),
    "a shard of the index": lambda d, n: with_index(d, "sample_index", lambda r: first(r, shard=n)),
    "a split of the index": lambda d, n: with_index(d, "sample_index", lambda r: first(r, split=n)),
    "a member": lambda d, n: with_index(
        d, "sample_index", lambda r: r[0]["members"][0].update(suffix=n)
    ),
    "a shard of the manifest": lambda d, n: with_manifest(
        d, lambda m: m["shards"][0].update(name=n)
    ),
    "a split of the manifest": lambda d, n: with_manifest(
        d, lambda m: m["shards"][0].update(split=n)
    ),
    "the sample index": lambda d, n: with_manifest(d, lambda m: m["sample_index"].update(name=n)),
    "the instance index": lambda d, n: with_manifest(
        d, lambda m: m["instance_index"].update(name=n)
    ),
    "a damaged shard": lambda d, n: quarantine(d, shard=n),
    "a damaged key": lambda d, n: quarantine(d, key=n),
    "a damaged sample's bytes": lambda d, n: quarantine(d, kept=n),
    "a damaged scene": lambda d, n: quarantine(d, scene=n),
}


def _link(path: Path, to: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(to)


def _moved_out(path: Path, sandbox: Path) -> None:
    """What lies at `path` lies outside, and a link leads there."""
    outside = sandbox / "victim" / path.name
    if path.exists():
        shutil.move(path, outside)
    else:
        outside.mkdir()
        (outside / ".tmp-note").write_text("mine")
    path.symlink_to(outside)


def _shard(dataset: Path) -> Path:
    return dataset / json.loads((dataset / "manifest.json").read_text())["shards"][0]["name"]


LINKS: dict[str, Callable[[Path, Path], None]] = {
    "shards/": lambda d, s: _moved_out(d / "shards", s),
    "index/": lambda d, s: _moved_out(d / "index", s),
    "a shard": lambda d, s: _moved_out(_shard(d), s),
    "an index": lambda d, s: _moved_out(next(d.glob("index/samples*")), s),
    "the manifest": lambda d, s: _moved_out(d / "manifest.json", s),
    "quarantine/": lambda d, s: _moved_out(d / "quarantine", s),
    "lease/": lambda d, s: _moved_out(d / "lease", s),
    "a shard that is no shard": lambda d, s: _link(_shard(d), s / "victim" / "thesis.txt"),
}
