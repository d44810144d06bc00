"""Readers of our own formats: manifest, index, shards, metadata, arrays, damage, ledgers."""

import functools
import hashlib
import io
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import synthetic
from fuzz_harness import Reader
from videos import stage_video

from panoforge.cluster.state.ledger import AttemptRecord, Ledger, new_id
from panoforge.core.errors import UserError
from panoforge.core.sample.array_codec import decode_array, encode_array
from panoforge.core.sample.flow import Flow
from panoforge.core.sample.metadata import decode_meta
from panoforge.core.sample.products import decode_product
from panoforge.core.sample.video import decode_video
from panoforge.core.shards.damaged_list import read_damaged
from panoforge.core.shards.index import read_table
from panoforge.core.shards.layout import INSTANCE_SCHEMA, SAMPLE_SCHEMA, read_manifest
from panoforge.core.shards.read import Dataset
from panoforge.core.shards.repair import repair
from panoforge.core.shards.tar import walk
from panoforge.core.shards.verify import verify
from panoforge.core.shards.videos import VIDEO_SCHEMA
from panoforge.core.shards.write import PackOptions
from panoforge.core.storage.lease import read_heartbeat, read_holder
from panoforge.core.storage.staged import MAX_SAMPLE_BYTES, read_staged
from panoforge.core.storage.store import Store

KEY = "caps-000000-c0"


@functools.cache
def dataset() -> dict[str, bytes]:
    """The files of a small dataset and of its staged panoramas, by name."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        options = PackOptions(splits=(("train", 1.0),))
        stage_video(folder / "staged", 1, frames=3, width=64)
        synthetic.dataset(folder, 2, 1, 64, options, n_caps=3, rle=True)
        return {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }


def seed(end: str) -> list[bytes]:
    return [data for name, data in dataset().items() if end in name]


def put_dataset(folder: Path) -> None:
    """The whole dataset, for what is read together with it."""
    for name, data in dataset().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def name_of(part: str) -> str:
    return next(name for name in dataset() if part in name)


def damaged_list() -> list[bytes]:
    entry = {
        "key": KEY,
        "offset": 0,
        "length": 512,
        "faults": ["its bytes do not have the digest of the index"],
        "scene": "caps-000000",
        "shard": name_of("shards/").removeprefix("dataset/"),
        "kept": "quarantine/train-000000-1a2b3c4d/000000000000-caps-000000-c0.bin",
    }
    head = {"schema_version": 1, "format": "panoforge-quarantine", "scenes": ["caps-000000"]}
    return [json.dumps(head | {"damaged": [entry, entry | {"key": None}]}).encode()]


def record() -> AttemptRecord:
    return AttemptRecord(
        id=new_id(0, 1),
        index=0,
        scene="caps-000000",
        attempt=1,
        outcome="done",
        panoramas=(KEY,),
        timings_s={"render": 1.5},
        job_sha256="a" * 64,
        started_unix_s=1.0,
    )


@functools.cache
def segments() -> list[bytes]:
    with tempfile.TemporaryDirectory() as scratch:
        ledger = Ledger(scratch)
        ledger.compact([record()])
        return [ledger.store.read(name) for name in ledger.store.names("segments")]


def read_segment(path: Path) -> None:
    """A segment whose name has the digest of whatever it holds."""
    data = path.read_bytes()
    shutil.rmtree(path.parent / "ledger", ignore_errors=True)
    store = Store.at(path.parent / "ledger")
    store.put(f"segments/00-{hashlib.sha256(data).hexdigest()[:16]}.parquet", data)
    ledger = Ledger(store.absolute)
    ledger.records()
    ledger.table(("index", "outcome"))


def read_lease(path: Path) -> None:
    store = Store.at(path.parent.parent)
    read_holder(store, 1)
    read_heartbeat(store)


def opened(path: Path) -> None:
    """Everything that reads a dataset; repair last, it changes it."""
    manifest, folder = path.read_bytes(), path.parent.parent
    shutil.rmtree(path.parent)
    put_dataset(folder)
    path.write_bytes(manifest)
    refused = None
    for read in (Dataset.open, verify, repair):
        try:
            read(path.parent)
        except UserError as error:
            refused = error
    if refused:
        raise refused


READERS = [
    Reader(
        "manifest",
        "dataset/manifest.json",
        lambda: seed("manifest.json"),
        lambda path: read_manifest(path.parent),
        "json",
        lambda folder: (folder / "dataset").mkdir(exist_ok=True),
    ),
    Reader(
        "dataset-manifest",
        "dataset/manifest.json",
        lambda: seed("manifest.json"),
        opened,
        "json",
        put_dataset,
    ),
    Reader(
        "index-samples",
        "i.parquet",
        lambda: seed("samples-"),
        lambda path: read_table(path.read_bytes(), SAMPLE_SCHEMA),
    ),
    Reader(
        "index-instances",
        "i.parquet",
        lambda: seed("instances-"),
        lambda path: read_table(path.read_bytes(), INSTANCE_SCHEMA),
    ),
    Reader(
        "index-videos",
        "i.parquet",
        lambda: seed("videos-"),
        lambda path: read_table(path.read_bytes(), VIDEO_SCHEMA),
    ),
    Reader(
        "video",
        "video.json",
        lambda: seed("video.json"),
        lambda path: decode_video(path.read_bytes()),
        "json",
    ),
    Reader(
        "flow",
        "flow_forward.delta.zst",
        lambda: seed("flow_forward.delta.zst")[:2],
        lambda path: Flow.of_codes(decode_product(path.name, path.read_bytes())),
    ),
    Reader(
        "shard",
        "s.tar",
        lambda: seed(".tar"),
        lambda path: list(walk(io.BytesIO(path.read_bytes()), MAX_SAMPLE_BYTES)),
    ),
    Reader(
        "meta",
        "meta.json",
        lambda: seed("meta.json"),
        lambda path: decode_meta(path.read_bytes()),
        "json",
    ),
    Reader(
        "array",
        "a.zst",
        lambda: [
            encode_array(np.arange(6 * 8, dtype=np.uint16).reshape(6, 8)),
            *seed("depth.delta.zst"),
        ],
        lambda path: decode_array(path.read_bytes()),
    ),
    Reader(
        "damaged",
        "quarantine/damaged.json",
        damaged_list,
        lambda path: read_damaged(Store.at(path.parents[1])),
        "json",
        lambda folder: (folder / "quarantine").mkdir(exist_ok=True),
    ),
    Reader(
        "staged",
        f"staged/{KEY}/meta.json",
        lambda: [dataset()[f"staged/{KEY}/meta.json"]],
        lambda path: read_staged(path.parents[1], KEY),
        "json",
        put_dataset,
    ),
    Reader(
        "ledger-record",
        "attempts/00000000-001-0123456789ab.json",
        lambda: [record().model_dump_json().encode()],
        lambda path: Ledger(str(path.parents[1])).records(),
        "json",
        lambda folder: (folder / "attempts").mkdir(exist_ok=True),
    ),
    Reader("ledger-segment", "s.parquet", segments, read_segment),
    Reader(
        "lease",
        "lease/epoch-00000001.json",
        lambda: [
            b'{"epoch":1,"host":"h","pid":1,"machine":"m","start_ticks":1,"started_unix_s":1}'
        ],
        read_lease,
        "json",
        lambda folder: (folder / "lease").mkdir(exist_ok=True),
    ),
]
