"""Staged panoramas: one folder per sample in `<run>/staged`, between the renderer and the shards.

A render worker stages a panorama by one rename, so `staged/<key>/` is whole or absent. `pano pack`
turns staged folders into shards without decoding them, from a disk or from a bucket. Members have
the same names as in the shard, less the key. In a bucket, which cannot rename, a panorama is there
when its `meta.json` is: whoever copies one there writes that last.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from numpy.typing import NDArray

from panoforge.core.errors import DataError, StorageError
from panoforge.core.names import check_key, is_litter
from panoforge.core.sample.instance_table import table_faults
from panoforge.core.sample.metadata import (
    META_SUFFIX,
    VIDEO_SUFFIX,
    SampleMeta,
    decode_meta,
    encode_meta,
)
from panoforge.core.sample.products import (
    PRODUCT_OF_SUFFIX,
    REQUIRED,
    check_product,
    depth_faults,
    encode_product,
    product_size,
)
from panoforge.core.sample.video import VideoMeta, encode_video, frame_faults
from panoforge.core.storage.atomic import storage_errors, write_folder_atomic
from panoforge.core.storage.store import Store, StoreLike

MAX_SAMPLE_BYTES = 2 << 30  # of a panorama, staged or in a shard
NOT_CONTENT = {
    "timings_s",
    "cpu_s",
    "peak_memory_mb",
    "hardware",
}  # of the metadata: differ when a panorama is made again


@dataclass(frozen=True)
class StagedRecord:
    """What a worker reports of a staged panorama: paths and digests, never pixels.

    `sha256` maps suffix → hex digest.
    """

    key: str
    sha256: dict[str, str]


def write_staged(
    staged: Path,
    meta: SampleMeta,
    arrays: Mapping[str, NDArray],
    *,
    video: VideoMeta | None = None,
    encoded: Mapping[str, bytes] = MappingProxyType({}),
    jpeg_quality: int = 95,
) -> StagedRecord:
    """Stage one panorama, or one frame of `video`, whose metadata go with the first frame.

    `arrays` maps the suffixes of `meta.products` to their arrays, and `encoded` those of others to
    what `checked_member` gave of theirs, which saves keeping a video's arrays. Checks dtypes,
    shapes and that the instance table agrees with the pixels, and with the video's, before anything
    is written; DataError otherwise.
    """
    check_key(meta.key)
    if (video is None) != (meta.video is None):
        raise DataError(f"{meta.key}: a frame is staged with its video, and nothing else is")
    if video is not None and (faults := frame_faults(video, meta)):
        raise DataError(f"{meta.key}: {faults[0]}")
    if sorted([*arrays, *encoded]) != sorted(meta.products):
        raise DataError(
            f"{meta.key}: metadata lists products {sorted(meta.products)}, the arrays are"
            f" {sorted([*arrays, *encoded])}"
        )
    missing = set(REQUIRED) - {PRODUCT_OF_SUFFIX[suffix] for suffix in (*arrays, *encoded)}
    if missing:
        raise DataError(f"{meta.key}: a sample needs {sorted(missing)}")
    size = meta.width, meta.height
    for suffix, data in encoded.items():
        if product_size(suffix, data) != size:
            raise DataError(f"{meta.key}: {suffix} is not {meta.width}×{meta.height}")
    for suffix, array in arrays.items():
        check_product(PRODUCT_OF_SUFFIX[suffix], array, meta.width, meta.height)
        if PRODUCT_OF_SUFFIX[suffix] == "instance" and (faults := table_faults(array, meta)):
            raise DataError(f"{meta.key}: {faults[0]}")
    of = {PRODUCT_OF_SUFFIX[suffix]: array for suffix, array in arrays.items()}
    if "depth" in of and (faults := depth_faults(of["depth"], of["instance"])):
        raise DataError(f"{meta.key}: {faults[0]}")
    members = dict(encoded) | {
        suffix: encode_product(suffix, array, jpeg_quality=jpeg_quality)
        for suffix, array in arrays.items()
    }
    members[META_SUFFIX] = encode_meta(meta)
    if video is not None and VIDEO_SUFFIX in meta.members:
        members[VIDEO_SUFFIX] = encode_video(video)
    write_folder_atomic(staged / meta.key, members)
    return StagedRecord(
        meta.key,
        {suffix: hashlib.sha256(data).hexdigest() for suffix, data in sorted(members.items())},
    )


def checked_member(
    suffix: str, array: NDArray, width: int, height: int, *, jpeg_quality: int = 95
) -> bytes:
    """The bytes of one product. DataError unless the array is what that is to be."""
    check_product(PRODUCT_OF_SUFFIX[suffix], array, width, height)
    return encode_product(suffix, array, jpeg_quality=jpeg_quality)


def list_staged(staged: StoreLike) -> list[str]:
    """Keys of all staged panoramas, sorted. StorageError if the folder is missing."""
    store = Store.at(staged)
    if store.local is None:
        return sorted(staged_sizes(store))
    with storage_errors(store.url):
        try:
            names = [
                entry.name
                for entry in os.scandir(store.local)
                if entry.is_dir() and not is_litter(entry.name)
            ]
        except FileNotFoundError:
            raise StorageError(
                f"{store}: expected the panoramas of a run there, and there is no such folder: give"
                " the folder that `pano render` or `pano predict` writes to"
            ) from None
    return sorted(names)


def staged_sizes(staged: StoreLike, keys: Iterable[str] | None = None) -> dict[str, dict[str, int]]:
    """Bytes of every member of the staged panoramas, or of those called `keys`.

    Key → suffix → bytes. Opens no file.
    """
    store = Store.at(staged)
    if store.local is not None:
        with storage_errors(store.url):
            return {
                key: {
                    name.rpartition("/")[2]: size
                    for name, size in store.sizes(check_key(key)).items()
                }
                for key in (list_staged(store) if keys is None else keys)
            }
    found: dict[str, dict[str, int]] = {}
    for name, size in store.sizes().items():
        key, _, suffix = name.partition("/")
        found.setdefault(key, {})[suffix] = size
    wanted = found if keys is None else keys
    return {key: found[key] for key in wanted if META_SUFFIX in found.get(key, {})}


def read_staged_meta(staged: StoreLike, key: str) -> SampleMeta:
    """The metadata of one staged panorama."""
    store, name = Store.at(staged), f"{key}/{META_SUFFIX}"
    if store.size(name) > MAX_SAMPLE_BYTES:
        raise DataError(f"{store}/{name}: over the cap of {MAX_SAMPLE_BYTES} bytes, remove it")
    return _meta(store, key, store.read(name))


def _meta(store: Store, key: str, data: bytes) -> SampleMeta:
    """DataError says which sample's metadata does not fit."""
    try:
        return decode_meta(data)
    except DataError as error:
        raise DataError(f"{store}/{key}: {error}") from None


def read_staged(staged: StoreLike, key: str) -> tuple[SampleMeta, dict[str, bytes]]:
    """The members of one staged panorama, still encoded, with its checked metadata.

    DataError when the folder does not hold exactly what its metadata says.
    """
    store = Store.at(staged)
    names = store.names(key)
    if (size := sum(store.sizes(key).values())) > MAX_SAMPLE_BYTES:
        raise DataError(
            f"{store}/{key}: {size} bytes is over the cap of {MAX_SAMPLE_BYTES}: it is no panorama"
            " that panoforge staged, remove it"
        )
    members = {name.rpartition("/")[2]: store.read(name) for name in names}
    if META_SUFFIX not in members:
        raise DataError(
            f"{store}/{key}: no {META_SUFFIX}: it is no panorama that panoforge staged, remove it"
        )
    meta = _meta(store, key, members[META_SUFFIX])
    expected = meta.members
    if meta.key != key or set(members) != expected:
        raise DataError(
            f"{store}/{key}: expected key {key} with members {sorted(expected)}, got {meta.key}"
            f" with {sorted(members)}: remove it and render its scene again"
        )
    return meta, members


def renamed(meta_json: bytes, key: str, scene: str, prefix: str) -> bytes:
    """Metadata as bytes with `prefix` before the names of sample and scene, all else as it was.

    DataError when the bytes are not metadata of that sample and scene as panoforge writes them.
    """
    for name, value in (("key", key), ("scene", scene)):
        old, new = (
            json.dumps({name: text}, separators=(",", ":"))[1:-1].encode()
            for text in (value, prefix + value)
        )
        if meta_json.count(old) != 1:
            raise DataError(
                f"{key}: {META_SUFFIX} does not name its {name} {value!r} as panoforge writes it:"
                " it cannot be renamed"
            )
        meta_json = meta_json.replace(old, new)
    return meta_json


def differences(key: str, one: StoreLike, other: StoreLike) -> list[str]:
    """Differences between two staged panoramas of one key, ignoring timing and hardware fields."""
    (meta, members), (other_meta, others) = read_staged(one, key), read_staged(other, key)
    found = [
        suffix
        for suffix in sorted({*members, *others} - {META_SUFFIX})
        if members.get(suffix) != others.get(suffix)
    ]
    ours, theirs = (each.model_dump(exclude=NOT_CONTENT) for each in (meta, other_meta))
    return found + [f"{META_SUFFIX}: {name}" for name in ours if ours[name] != theirs[name]]
