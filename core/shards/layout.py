"""Names, manifest and index schemas of a dataset folder.

What `write`, `read` and `verify` agree on. No pixels here.
"""

import hashlib
from typing import Annotated, Literal

import pyarrow as pa
from pydantic import Field, ValidationError, model_validator

from panoforge.core.errors import DataError, StorageError
from panoforge.core.models import FrozenModel
from panoforge.core.names import IndexName, ShardName, SplitName
from panoforge.core.sample.metadata import SampleMeta
from panoforge.core.shards.tar import Member
from panoforge.core.storage.store import Store, StoreLike

MANIFEST_NAME = "manifest.json"
SHARDS, INDEX = "shards", "index"
DIGEST_DIGITS = 8  # of a file's SHA-256, in its name
SCHEMA_VERSION: Literal[1] = 1
MAX_MANIFEST_BYTES = 256 << 20
DEFAULT_SPLITS = {"train": 0.9, "val": 0.05, "test": 0.05}

MEMBER_TYPE = pa.struct(
    [
        ("suffix", pa.string()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("crc32", pa.uint32()),
    ]
)

SAMPLE_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("split", pa.string()),
        ("shard", pa.string()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("sha256", pa.string()),  # the sample's bytes: headers, data, padding
        ("members", pa.list_(MEMBER_TYPE)),  # data offsets within the shard
        ("source", pa.string()),
        ("scene", pa.string()),
        ("seed", pa.int64()),
        ("camera", pa.int32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("n_instances", pa.int32()),
        ("position_m", pa.list_(pa.float64())),
        ("yaw_deg", pa.float64()),
        ("pitch_deg", pa.float64()),
        ("roll_deg", pa.float64()),
        ("clearance_m", pa.float64()),
        ("notes", pa.list_(pa.string())),
        ("config_sha256", pa.string()),
    ]
)

INSTANCE_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("id", pa.int32()),
        ("name", pa.string()),
        ("category", pa.string()),
        ("source_object", pa.string()),
        ("flags", pa.list_(pa.string())),
        ("pixels", pa.int64()),
        ("area_sr", pa.float64()),
        ("u0", pa.int32()),
        ("v0", pa.int32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("visibility", pa.float64()),  # null where the metadata does not say
    ]
)


StoredCount = Annotated[int, Field(ge=0, lt=2**63)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class ShardEntry(FrozenModel):
    """One shard of the manifest. `name` is relative to the dataset folder."""

    name: ShardName
    split: SplitName
    samples: StoredCount
    bytes: StoredCount
    sha256: Digest


class IndexEntry(FrozenModel):
    """One Parquet file of the manifest."""

    name: IndexName
    rows: StoredCount
    bytes: StoredCount
    sha256: Digest


class Manifest(FrozenModel):
    """`manifest.json`: the dataset's commit point."""

    schema_version: Literal[1] = SCHEMA_VERSION
    format: Literal["panoforge-dataset"] = "panoforge-dataset"
    samples: StoredCount
    instances: StoredCount
    splits: dict[SplitName, StoredCount]
    config_sha256: tuple[str, ...]
    shards: tuple[ShardEntry, ...]
    sample_index: IndexEntry
    instance_index: IndexEntry
    video_index: IndexEntry | None = None  # where there are videos

    @property
    def indices(self) -> tuple[IndexEntry, ...]:
        """The files of the index."""
        tables = (self.sample_index, self.instance_index, self.video_index)
        return tuple(entry for entry in tables if entry is not None)

    @model_validator(mode="after")
    def _names_each_shard_once(self) -> "Manifest":
        names = [entry.name for entry in self.shards]
        if len(set(names)) != len(names):
            raise ValueError("shards: one is named twice")
        return self


def read_manifest(dataset: StoreLike) -> Manifest:
    """The dataset's manifest.

    StorageError when there is none, DataError when it does not parse or fit.
    """
    store = Store.at(dataset)
    path = f"{store}/{MANIFEST_NAME}"
    size = store.get_size(MANIFEST_NAME)
    if size is None:
        raise StorageError(
            f"{path}: it does not exist. Is {store} the folder of a packed dataset? If its manifest"
            f" was lost, `pano repair {store}` makes it again from the shards"
        )
    if size > MAX_MANIFEST_BYTES:
        raise DataError(f"{path} is over the cap of {MAX_MANIFEST_BYTES} bytes")
    data = store.read(MANIFEST_NAME)
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(
            f"{path} is not a manifest of schema version {SCHEMA_VERSION}: "
            f"{'.'.join(map(str, first['loc'])) or 'document'}: {first['msg']}"
        ) from None


def split_of(scene: str, splits: dict[str, float], salt: str = "") -> str:
    """The split of a scene, a pure function of its name.

    Panoramas of one scene never part, and a scene stays where it is when others come or go.
    `splits` maps names to shares that sum to 1.
    """
    position = (
        int.from_bytes(hashlib.sha256(f"{salt}/{scene}".encode()).digest()[:8], "big") / 2**64
    )
    total = 0.0
    for name, share in splits.items():
        total += share
        if position < total:
            return name
    return list(splits)[-1]


def sample_row(
    meta: SampleMeta,
    split: str,
    shard: str,
    offset: int,
    length: int,
    sha256: str,
    members: list[Member],
) -> dict:
    """One row of the sample index."""
    pose = meta.pose
    return {
        "key": meta.key,
        "split": split,
        "shard": shard,
        "offset": offset,
        "length": length,
        "sha256": sha256,
        "members": [
            {"suffix": m.suffix, "offset": offset + m.offset, "length": m.length, "crc32": m.crc32}
            for m in members
        ],
        "source": meta.source,
        "scene": meta.scene,
        "seed": meta.seed,
        "camera": meta.camera,
        "width": meta.width,
        "height": meta.height,
        "n_instances": len(meta.instances),
        "position_m": list(pose.position_m),
        "yaw_deg": pose.yaw_deg,
        "pitch_deg": pose.pitch_deg,
        "roll_deg": pose.roll_deg,
        "clearance_m": pose.clearance_m,
        "notes": list(meta.notes),
        "config_sha256": meta.config_sha256,
    }


def instance_rows(meta: SampleMeta) -> list[dict]:
    """The rows of the instance index for one sample."""
    return [
        {
            "key": meta.key,
            "id": row.id,
            "name": row.name,
            "category": row.category,
            "source_object": row.source_object,
            "flags": list(row.flags),
            "pixels": row.pixels,
            "area_sr": row.area_sr,
            **row.box.model_dump(),
            "visibility": row.visibility,
        }
        for row in meta.instances
    ]
