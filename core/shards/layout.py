"""Names, manifest and index schemas of a dataset folder: what `write`, `read` and `verify` agree
on. No pixels here.
"""

import hashlib
from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import ValidationError

from panoforge.core.errors import DataError, StorageError
from panoforge.core.models import FrozenModel
from panoforge.core.sample.metadata import SampleMeta
from panoforge.core.shards.tar import Member
from panoforge.core.storage.store import Store, StoreLike

MANIFEST_NAME = "manifest.json"
SCHEMA_VERSION: Literal[3] = (
    # 2 added checksums of members to the index, 3 the visibility of instances; 1 and 2 are still
    # read
    3
)
MAX_MANIFEST_BYTES = 256 << 20
DEFAULT_SPLITS = {"train": 0.9, "val": 0.05, "test": 0.05}

_MEMBER_FIELDS_1 = [("suffix", pa.string()), ("offset", pa.int64()), ("length", pa.int64())]
MEMBER_TYPE = pa.struct([*_MEMBER_FIELDS_1, ("crc32", pa.uint32())])

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

# The sample index of schema version 1: members had no checksums of their own. Still read, see
# `upgraded_samples`.
SAMPLE_SCHEMA_1 = SAMPLE_SCHEMA.set(
    SAMPLE_SCHEMA.get_field_index("members"),
    pa.field("members", pa.list_(pa.struct(_MEMBER_FIELDS_1))),
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

# The instance index of schema versions 1 and 2. Still read, see `upgraded_instances`.
INSTANCE_SCHEMA_2 = INSTANCE_SCHEMA.remove(INSTANCE_SCHEMA.get_field_index("visibility"))


class ShardEntry(FrozenModel):
    """One shard of the manifest. `name` is relative to the dataset folder."""

    name: str
    split: str
    samples: int
    bytes: int
    sha256: str


class IndexEntry(FrozenModel):
    """One Parquet file of the manifest."""

    name: str
    rows: int
    bytes: int
    sha256: str


class Manifest(FrozenModel):
    """`manifest.json`: the dataset's commit point."""

    schema_version: Literal[1, 2, 3] = SCHEMA_VERSION
    format: Literal["panoforge-dataset"] = "panoforge-dataset"
    samples: int
    instances: int
    splits: dict[str, int]
    config_sha256: tuple[str, ...]
    shards: tuple[ShardEntry, ...]
    sample_index: IndexEntry
    instance_index: IndexEntry

    @property
    def instance_schema(self) -> pa.Schema:
        """The columns of the instance index that this manifest names."""
        return INSTANCE_SCHEMA if self.schema_version >= 3 else INSTANCE_SCHEMA_2


def read_manifest(dataset: StoreLike) -> Manifest:
    """The dataset's manifest. StorageError when there is none, DataError when it does not parse or
    fit.
    """
    store = Store.at(dataset)
    path = f"{store}/{MANIFEST_NAME}"
    try:
        size = store.size(MANIFEST_NAME)
    except StorageError as error:
        raise StorageError(
            f"{error}. Is {store} the folder of a packed dataset? If its manifest was lost, "
            f"`pano repair {store}` makes it again from the shards"
        ) from None
    if size > MAX_MANIFEST_BYTES:
        raise DataError(f"{path} is over the cap of {MAX_MANIFEST_BYTES} bytes")
    data = store.read(MANIFEST_NAME)
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(
            f"{path} is not a manifest of schema versions 1 to {SCHEMA_VERSION}: "
            f"{'.'.join(map(str, first['loc'])) or 'document'}: {first['msg']}"
        ) from None


def split_of(scene: str, splits: dict[str, float], salt: str = "") -> str:
    """The split of a scene, a pure function of its name: panoramas of one scene never part, and a
    scene stays where it is when others come or go. `splits` maps names to shares that sum to 1.
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


def upgraded_instances(instances: pa.Table) -> pa.Table:
    """An instance index of schema version 1 or 2 as one of version 3; visibilities are null."""
    return instances.append_column(
        INSTANCE_SCHEMA.field("visibility"), pa.nulls(instances.num_rows, pa.float64())
    )


def upgraded_samples(samples: pa.Table) -> pa.Table:
    """A sample index of schema version 1 as one of today; its members' checksums are null."""
    members = samples["members"].combine_chunks()
    places = members.flatten()
    columns = [places.field(name) for name, _ in _MEMBER_FIELDS_1]
    with_crc = pa.StructArray.from_arrays(
        [*columns, pa.nulls(len(places), pa.uint32())], fields=list(MEMBER_TYPE)
    )
    lengths = members.value_lengths().to_numpy()
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    return samples.set_column(
        samples.schema.get_field_index("members"),
        SAMPLE_SCHEMA.field("members"),
        pa.ListArray.from_arrays(offsets, with_crc),
    )


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
