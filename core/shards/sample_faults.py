"""Faults of one sample: its tar headers, its metadata, its members, and all that it says twice."""

import zlib
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from panoforge.core.errors import UserError
from panoforge.core.geometry.poses import world_from_pano
from panoforge.core.sample.instance_table import table_faults
from panoforge.core.sample.metadata import (
    META_SUFFIX,
    VIDEO_SUFFIX,
    Pose,
    SampleMeta,
    decode_meta,
)
from panoforge.core.sample.products import (
    PRODUCT_OF_SUFFIX,
    check_product,
    decode_product,
    depth_faults,
    product_size,
)
from panoforge.core.sample.video import VideoMeta, decode_video
from panoforge.core.shards.layout import sample_row
from panoforge.core.shards.plan import scene_of
from panoforge.core.shards.tar import BLOCK, Member, header, padded

_ZEROS = bytes(BLOCK)


def sample_faults(
    row: dict,
    data: memoryview,
    split: str,
    indexed: Callable[[SampleMeta], bool] | None = None,
    *,
    deep: bool,
    in_turn: Callable[[SampleMeta, VideoMeta | None], Iterable[str]] = lambda meta, video: (),
) -> Iterator[str]:
    """What is wrong with a sample whose digest fits, because the packer or the index lied.

    `row` is its row of the sample index, `data` its bytes; `indexed` says whether the instance
    index fits its metadata (None: that is not asked). `in_turn` says what is wrong with its place
    among the samples of its shard, given its metadata and those of the video that begins with it.
    """
    at = 0
    members: dict[str, memoryview] = {}
    for member in row["members"]:
        start, length = member["offset"] - row["offset"], member["length"]
        end = at + BLOCK + padded(length)
        if start != at + BLOCK or end > len(data):
            yield (
                f"{member['suffix']}: the index places it at {start}, the tar has it at"
                f" {at + BLOCK}"
            )
            return
        if data[at : at + BLOCK] != header(f"{row['key']}.{member['suffix']}", length):
            yield f"{member['suffix']}: its tar header is not the canonical one"
        if data[start + length : end] != _ZEROS[: end - start - length]:
            yield f"{member['suffix']}: its padding is not zero"
        members[member["suffix"]] = data[start : start + length]
        at = end
    suffixes = [member["suffix"] for member in row["members"]]
    if at != len(data) or suffixes != sorted(set(suffixes)):
        yield "holds members that the index does not list, or in another order"
    if META_SUFFIX not in members:
        yield f"has no {META_SUFFIX}"
        return
    try:
        yield from _content_faults(row, members, split, indexed, deep, in_turn)
    except UserError as error:
        yield str(error)


def _content_faults(
    row: dict,
    members: dict[str, memoryview],
    split: str,
    indexed: Callable[[SampleMeta], bool] | None,
    deep: bool,
    in_turn: Callable[[SampleMeta, VideoMeta | None], Iterable[str]],
) -> Iterator[str]:
    meta = decode_meta(bytes(members[META_SUFFIX]))
    if (scene_of(row["key"]) or meta.scene) != meta.scene:
        yield f"its key is not one of its scene {meta.scene}"
    if meta.members != set(members):
        yield f"metadata lists {sorted(meta.products)}, the sample holds {sorted(members)}"
    elif (first := members.get(VIDEO_SUFFIX)) is not None:
        yield from in_turn(meta, decode_video(bytes(first)))
    else:
        yield from in_turn(meta, None)
    if not pose_agrees(meta.pose):
        yield "its pose's world_from_pano is not the rotation of its yaw, pitch and roll"
    places = [
        Member(
            m["suffix"],
            m["offset"] - row["offset"],
            m["length"],
            zlib.crc32(members[m["suffix"]]),
        )
        for m in row["members"]
    ]
    if (
        sample_row(meta, split, row["shard"], row["offset"], row["length"], row["sha256"], places)
        != row
    ):
        yield "its row of the sample index disagrees with its metadata or its members' checksums"
    if indexed is not None and not indexed(meta):
        yield "its rows of the instance index disagree with its metadata"
    decoded: dict[str, NDArray] = {}
    for suffix, data in members.items():
        if suffix not in (META_SUFFIX, VIDEO_SUFFIX):
            yield from _member_faults(suffix, data, meta, deep, decoded)
    if {"instance", "depth"} <= decoded.keys():
        yield from depth_faults(decoded["depth"], decoded["instance"])


def _member_faults(
    suffix: str, data: memoryview, meta: SampleMeta, deep: bool, decoded: dict[str, NDArray]
) -> Iterator[str]:
    """What is wrong with one product; what was decoded of it goes to `decoded`."""
    name = PRODUCT_OF_SUFFIX.get(suffix)
    if name is None:
        yield f"{suffix}: not a member of the sample format"
    elif (size := product_size(suffix, data)) != (meta.width, meta.height):
        yield f"{suffix}: {size[0]}×{size[1]}, the metadata say {meta.width}×{meta.height}"
    elif name == "instance" or deep:
        array = decoded[name] = decode_product(suffix, bytes(data))
        check_product(name, array, meta.width, meta.height)
        if name == "instance":
            yield from table_faults(array, meta)


def pose_agrees(pose: Pose) -> bool:
    """Whether a pose says the same thing twice, to a rounding of its numbers."""
    said = world_from_pano(pose.yaw_deg, pose.pitch_deg, pose.roll_deg)
    return float(np.abs(said - np.array(pose.world_from_pano)).max()) < 1e-6
