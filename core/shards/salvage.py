"""What a shard still holds: which samples are whole, which bytes are not, and whose they were.

With the rows of a readable sample index every sample is judged by its own digest, so the others of
its shard are safe whatever happened to it. Without an index the only digest is the shard's, in the
manifest or, its first digits, in the shard's name. A shard that has it is read by its tar headers.
One that has not is not believed in any part: nothing then tells a damaged picture from a good one.
"""

import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby

from panoforge.core.errors import DataError, UserError
from panoforge.core.names import check_shard, frame_of
from panoforge.core.sample.metadata import META_SUFFIX, VIDEO_SUFFIX, SampleMeta, decode_meta
from panoforge.core.sample.video import VideoMeta, decode_video, frame_faults
from panoforge.core.shards.contents import MAX_SHARD_BYTES, Contents
from panoforge.core.shards.layout import SHARDS, sample_row
from panoforge.core.shards.plan import scene_of
from panoforge.core.shards.sample_faults import sample_faults
from panoforge.core.shards.tar import BLOCK, TRAILER, Member, parse_header, walk
from panoforge.core.shards.videos import cut_fault
from panoforge.core.storage.staged import MAX_SAMPLE_BYTES
from panoforge.core.storage.store import Store


@dataclass(frozen=True)
class Good:
    """A whole sample.

    Where its bytes are in the shard as it is, and what the index is to say of it. `members` lie
    relative to the sample; `video` is what the first frame of a video holds.
    """

    meta: SampleMeta = field(repr=False)
    offset: int
    length: int
    sha256: str
    members: tuple[Member, ...]
    video: VideoMeta | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Damaged:
    """Bytes [offset, offset + length) of a shard that are no good sample.

    `key` is whose they were, None where nothing says.
    """

    key: str | None
    offset: int
    length: int
    faults: tuple[str, ...]


@dataclass(frozen=True)
class Salvage:
    """What was found in a shard.

    `whole`: it is the shard that was packed, byte for byte, and all its samples are good.
    """

    good: tuple[Good, ...]
    damaged: tuple[Damaged, ...]
    sha256: str
    bytes: int
    whole: bool


def split_of_shard(name: str) -> str:
    """`shards/train-000003-1a2b3c4d.tar` → `train`. DataError for a name that no packer gives."""
    stem = check_shard(name).removeprefix(f"{SHARDS}/").rpartition("-")[0]
    return stem.rpartition("-")[0]


def salvage(
    contents: Contents,
    name: str,
    file: str,
    sha256: str | None,
    rows: list[dict] | None,
    *,
    deep: bool = False,
) -> Salvage:
    """Look through a shard. A shard that is not there is one of no bytes.

    Args:
        contents: the files of the dataset.
        name: the shard's.
        file: where its content lies; under another name if files were swapped.
        sha256: its digest by the manifest (None: the digits in its name).
        rows: its rows of the sample index (None: there is none).
        deep: decode every product.
    """
    store, split = contents.store, split_of_shard(name)
    size, digest = contents.size(file), contents.digest(file)
    right = contents.holds(file, name, sha256)
    if rows is None and not size:
        return Salvage(
            (),
            (Damaged(None, 0, 0, ("it is missing, and no index says what was in it",)),),
            digest,
            0,
            False,
        )
    if rows is None and not digest:  # too long for a shard: a sparse file, most likely
        why = (f"{size} bytes are no shard: at most {MAX_SHARD_BYTES} are read",)
        return Salvage((), (Damaged(None, 0, size, why),), digest, size, False)
    if rows is not None:
        good, damaged = _by_index(store, file, size, rows, split, deep)
    else:
        good, damaged = _by_headers(store, name, file, size, right, split, deep)
    good, cut = _whole_videos(good)
    damaged += cut
    damaged += _strays(store, file, size, good, damaged)
    return Salvage(tuple(good), tuple(damaged), digest, size, right and not damaged and bool(good))


def _by_index(
    store: Store, name: str, size: int, rows: list[dict], split: str, deep: bool
) -> tuple[list[Good], list[Damaged]]:
    good, damaged, at = list[Good](), list[Damaged](), 0
    for row in sorted(rows, key=lambda row: row["offset"]):
        start, stop = min(row["offset"], size), min(row["offset"] + row["length"], size)
        data = (
            store.read(name, start, stop)
            if 0 < row["length"] <= MAX_SAMPLE_BYTES and start < stop
            else b""
        )
        if len(data) < row["length"]:
            faults = [f"cut: {len(data)} of {row['length']} bytes are there"]
        elif hashlib.sha256(data).hexdigest() != row["sha256"]:
            faults = ["its bytes do not have the digest of the index"]
        elif row["offset"] < at:
            faults = ["lies within the sample before it"]
        else:
            faults = list(sample_faults(row, memoryview(data), split, deep=deep))
        if faults:
            damaged.append(Damaged(row["key"], start, max(0, stop - start), tuple(faults)))
            continue
        good.append(
            _good(
                row["offset"], data, tuple(_member(m, row["offset"], data) for m in row["members"])
            )
        )
        at = stop
    return good, damaged


def _member(place: dict, offset: int, data: bytes) -> Member:
    begin, length = place["offset"] - offset, place["length"]
    return Member(
        place["suffix"], begin, length, zlib.crc32(memoryview(data)[begin : begin + length])
    )


def _by_headers(
    store: Store, name: str, file: str, size: int, right: bool, split: str, deep: bool
) -> tuple[list[Good], list[Damaged]]:
    if not right:
        return [], list(_claimed(store, file, size))
    good: list[Good] = []
    damaged: list[Damaged] = []
    try:
        with store.open(file) as stream:
            for key, offset, data, members in walk(stream, MAX_SAMPLE_BYTES):
                faults = _header_faults(key, name, offset, data, members, split, deep)
                if faults:
                    damaged.append(Damaged(key, offset, len(data), faults))
                else:
                    good.append(_good(offset, data, tuple(members)))
    # the digest is right and the tar is not: it was packed so, and is believed no further
    except DataError as error:
        at = max(
            [part.offset + part.length for part in good]
            + [part.offset + part.length for part in damaged],
            default=0,
        )
        damaged.append(Damaged(None, at, size - at, (str(error),)))
    return good, damaged


def _header_faults(
    key: str, name: str, offset: int, data: bytes, members: list[Member], split: str, deep: bool
) -> tuple[str, ...]:
    """As verify finds them, of a row made from what the sample itself says."""
    try:
        meta = _good(offset, data, tuple(members)).meta
    except UserError as error:
        return (str(error),)
    row = sample_row(
        meta, split, name, offset, len(data), hashlib.sha256(data).hexdigest(), members
    )
    if meta.key != key:
        return (f"its metadata are those of {meta.key}",)
    return tuple(sample_faults(row, memoryview(data), split, deep=deep))


def _good(offset: int, data: bytes, members: tuple[Member, ...]) -> Good:
    place = next((m for m in members if m.suffix == META_SUFFIX), None)
    if place is None:
        raise DataError(f"has no {META_SUFFIX}")
    meta = decode_meta(data[place.offset : place.offset + place.length])
    first = next((m for m in members if m.suffix == VIDEO_SUFFIX), None)
    video = decode_video(data[first.offset : first.offset + first.length]) if first else None
    return Good(meta, offset, len(data), hashlib.sha256(data).hexdigest(), members, video)


def _whole_videos(good: list[Good]) -> tuple[list[Good], list[Damaged]]:
    """The stills and the frames of whole videos; and the frames of cut ones, which are given up."""
    whole, cut = list[Good](), list[Damaged]()
    in_order = sorted(good, key=lambda each: each.offset)
    for key, run in groupby(in_order, lambda each: (frame_of(each.meta.key) or ("",))[0]):
        found = list(run)
        fault = _cut_fault(key, found) if key else None
        if fault is None:
            whole += found
        else:
            cut += [Damaged(each.meta.key, each.offset, each.length, (fault,)) for each in found]
    return whole, cut


def _cut_fault(key: str, found: list[Good]) -> str | None:
    """Why these are not the frames of a whole video; None if they are."""
    video = found[0].video
    if video is None:
        return f"video {key} is cut: its first frame is not there"
    frames = [each.meta.video.frame for each in found if each.meta.video is not None]
    if fault := cut_fault(key, frames, video.frames):
        return fault
    return next((fault for each in found for fault in frame_faults(video, each.meta)), None)


def _claimed(store: Store, name: str, size: int) -> Iterator[Damaged]:
    """Split an untrusted shard at each readable tar header, to report lost samples by key."""
    why = ("its shard does not have its digest, and no readable index has the sample's own",)
    key, begin, at = None, 0, 0
    with store.open(name) as file:
        while block := file.read(BLOCK):
            parsed = parse_header(block) if len(block) == BLOCK else None
            if parsed and parsed[0] != key:
                if at > begin:
                    yield Damaged(key, begin, at - begin, why)
                key, begin = parsed[0], at
            at += len(block)
            if at - begin > MAX_SAMPLE_BYTES:  # no sample is that long: zeros, or something else
                key = None
                break
    if size > begin:
        yield Damaged(key, begin, size - begin, why)


def _strays(
    store: Store, name: str, size: int, good: list[Good], damaged: list[Damaged]
) -> list[Damaged]:
    """What is left of the shard beside its samples, but for the end of the tar."""
    strays, at = [], 0
    for start, stop in sorted(
        [(part.offset, part.offset + part.length) for part in good]
        + [(part.offset, part.offset + part.length) for part in damaged]
    ):
        if start > at:
            strays.append(Damaged(None, at, start - at, ("belongs to no sample",)))
        at = max(at, stop)
    end = store.read(name, at, at + len(TRAILER) + 1) if size > at else b""
    if end != TRAILER and good:
        strays.append(Damaged(None, at, size - at, ("is not the end of a tar",)))
    return strays


def scene_named(damaged: Damaged) -> str | None:
    """The scene that a damaged sample was of, by its key."""
    return damaged.key and (scene_of(damaged.key) or damaged.key)
