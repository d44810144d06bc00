"""Every kind of damage to a shard: found by verify, named, and never a wrong sample through the
reader.

Small shards, so that damage can stand at *every* block and header. After each the reader is asked
for every sample of the shard: it must give the bytes that were packed, or refuse.
"""

import hashlib
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import synthetic

from panoforge.core.errors import DataError
from panoforge.core.sample.metadata import META_SUFFIX
from panoforge.core.shards.build import BuiltShard, commit, shard_name
from panoforge.core.shards.data_fault import DataFault
from panoforge.core.shards.layout import (
    INSTANCE_SCHEMA,
    SAMPLE_SCHEMA,
    ShardEntry,
    instance_rows,
    read_manifest,
    sample_row,
)
from panoforge.core.shards.read import Dataset
from panoforge.core.shards.tar import BLOCK, TRAILER, Member, header, padded
from panoforge.core.shards.verify import verify
from panoforge.core.shards.write import PackOptions, pack
from panoforge.core.storage.store import Store

SAMPLES = 4


class Subject:
    """A dataset of one small shard that can be damaged and is then looked at in both ways."""

    def __init__(self, folder: Path) -> None:
        for scene in range(SAMPLES):
            synthetic.stage(folder / "staged", scene, 0, 64, n_caps=3, rle=True)
        pack(folder / "staged", folder / "dataset", PackOptions(splits=(("train", 1.0),)))
        self.folder = folder / "dataset"
        self.dataset = Dataset.open(self.folder)
        self.rows = self.dataset.samples.to_pylist()
        self.good = {row["key"]: self.dataset.by_key(row["key"]).members for row in self.rows}
        self.shard = self.folder / self.dataset.manifest.shards[0].name
        self.data = self.shard.read_bytes()
        assert len(self.dataset.manifest.shards) == 1

    def headers(self) -> list[int]:
        """Offsets of all tar headers."""
        return [member["offset"] - BLOCK for row in self.rows for member in row["members"]]

    def damaged(self, data: bytes) -> tuple[set[str | None], set[str]]:
        """Write `data` as the shard; gives the samples that verify names, and the samples that the
        reader refuses. Fails if the reader gives anything but what was packed.
        """
        self.shard.write_bytes(data)
        named = {fault.sample for fault in verify(self.folder).faults}
        refused = set()
        for position, row in enumerate(self.rows):
            try:
                sample = self.dataset[position]
            except DataError as error:
                refused.add(str(error).partition(":")[0])  # and the message begins with its key
            else:
                assert sample.members == self.good[row["key"]]
        return named, refused

    def sample_at(self, offset: int) -> str | None:
        return next(
            (
                row["key"]
                for row in self.rows
                if row["offset"] <= offset < row["offset"] + row["length"]
            ),
            None,
        )


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return Subject(tmp_path_factory.mktemp("subject"))


@pytest.fixture(autouse=True)
def whole_again(subject: Subject) -> Iterator[None]:
    yield
    subject.shard.write_bytes(subject.data)
    assert verify(subject.folder, deep=True).faults == ()


def test_truncated_at_every_block(subject):
    for size in range(0, len(subject.data), BLOCK):
        named, refused = subject.damaged(subject.data[:size])
        cut = {row["key"] for row in subject.rows if row["offset"] + row["length"] > size}
        assert refused == cut, size
        assert named - {None} >= cut and named, (
            size
        )  # cut within the trailer: every sample is whole, the shard is not


def test_truncated_anywhere_else(subject):
    for size in np.random.default_rng(0).integers(1, len(subject.data), 60).tolist():
        named, refused = subject.damaged(subject.data[:size])
        assert refused == {
            row["key"] for row in subject.rows if row["offset"] + row["length"] > size
        }
        assert refused <= named and named


def flip(data: bytes, bit: int) -> bytes:
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def test_a_flipped_bit_in_each_header(subject):
    """Eight bits of every header: one in each field of the tar format that a reader could be misled
    by, and random ones.
    """
    rng = np.random.default_rng(1)
    fields = {"name": 0, "size": 124, "checksum": 148, "type": 156, "magic": 257}
    for at in subject.headers():
        places = [at + offset for offset in fields.values()] + (
            at + rng.integers(0, BLOCK, 3)
        ).tolist()
        for place in places:
            named, refused = subject.damaged(flip(subject.data, 8 * place + int(rng.integers(8))))
            assert refused == named - {None} == {subject.sample_at(place)}


@pytest.mark.parametrize("count", [300, pytest.param(2000, marks=pytest.mark.slow)])
def test_random_flipped_bits(subject, count):
    for bit in np.random.default_rng(count).integers(0, 8 * len(subject.data), count).tolist():
        hit = subject.sample_at(bit // 8)
        named, refused = subject.damaged(flip(subject.data, bit))
        assert named and refused == {hit} - {None}, bit
        assert hit is None or hit in named


def test_zeroed_blocks_and_bursts(subject):
    """A header of zeros ends the tar for other readers, without a word."""
    for at in range(0, len(subject.data) - len(TRAILER), BLOCK):
        if any(subject.data[at : at + BLOCK]):
            named, refused = subject.damaged(
                subject.data[:at] + bytes(BLOCK) + subject.data[at + BLOCK :]
            )
            assert refused == named - {None} == {subject.sample_at(at)}


def extents(subject: Subject) -> list[tuple[int, int]]:
    """[start, stop) of each member with its header and padding."""
    return [
        (m["offset"] - BLOCK, m["offset"] + padded(m["length"]))
        for row in subject.rows
        for m in row["members"]
    ]


def dropped(parts: list[bytes], index: int) -> list[bytes]:
    return parts[:index] + parts[index + 1 :]


def doubled(parts: list[bytes], index: int) -> list[bytes]:
    return parts[: index + 1] + parts[index:]


def swapped(parts: list[bytes], index: int) -> list[bytes]:
    other = (index + 1) % len(parts)
    moved = list(parts)
    moved[index], moved[other] = moved[other], moved[index]
    return moved


@pytest.mark.parametrize("change", [dropped, doubled, swapped])
@pytest.mark.parametrize("unit", ["member", "sample"])
def test_strangers_losses_and_disorder_behind_the_index(subject, unit, change):
    """The shard changed, the index did not."""
    spans = (
        extents(subject)
        if unit == "member"
        else [(row["offset"], row["offset"] + row["length"]) for row in subject.rows]
    )
    parts = [subject.data[start:stop] for start, stop in spans]
    for index in range(len(parts)):
        data = b"".join(change(parts, index)) + TRAILER
        named, _ = subject.damaged(data)
        assert data == subject.data or named


# ---- a packer that lies: index and manifest agree with the shard, the shard is wrong


def forge(
    subject: Subject,
    target: Path,
    change: Callable[[str, dict[str, bytes]], list[tuple[str, bytes]]],
) -> Dataset:
    """A dataset whose samples hold the members that `change(key, members)` gives, in that order,
    with an index and digests that say so.
    """
    data, rows, instances = b"", [], []
    dataset = subject.dataset
    for position, row in enumerate(subject.rows):
        sample = dataset[position]
        begin, places = len(data), []
        for suffix, member in change(sample.key, dict(sample.members)):
            places.append(
                Member(suffix, len(data) - begin + BLOCK, len(member), zlib.crc32(member))
            )
            data += (
                header(f"{sample.key}.{suffix}", len(member))
                + member
                + bytes(padded(len(member)) - len(member))
            )
        digest = hashlib.sha256(data[begin:]).hexdigest()
        rows.append(
            sample_row(sample.meta, row["split"], "?", begin, len(data) - begin, digest, places)
        )
        instances += instance_rows(sample.meta)
    data += TRAILER
    digest = hashlib.sha256(data).hexdigest()
    name = shard_name("train-000000", digest)
    rows = [row | {"shard": name} for row in rows]
    (target / "shards").mkdir(parents=True)
    (target / name).write_bytes(data)
    commit(
        Store.at(target),
        [
            BuiltShard(
                ShardEntry(
                    name=name, split="train", samples=len(rows), bytes=len(data), sha256=digest
                ),
                pa.Table.from_pylist(rows, SAMPLE_SCHEMA),
                pa.Table.from_pylist(instances, INSTANCE_SCHEMA),
            )
        ],
    )
    return Dataset.open(target)


def in_order(key: str, members: dict[str, bytes]) -> list[tuple[str, bytes]]:
    return sorted(members.items())


def look_at(dataset: Dataset, key: str) -> None:
    """All that a sample can be asked."""
    sample = dataset.by_key(key)
    assert sample.meta.key == key
    for product in ("rgb", "instance", "depth"):
        sample.read(product)


VICTIM = "caps-000002-c0"
LIES: dict[str, Callable[[dict[str, bytes]], list[tuple[str, bytes]]]] = {
    "a member is missing": lambda m: sorted((m | {"depth.delta.zst": b""}).items())[1:],
    "the metadata is missing": lambda m: [(s, d) for s, d in sorted(m.items()) if s != META_SUFFIX],
    "a member comes twice": lambda m: [*sorted(m.items()), ("rgb.jpg", m["rgb.jpg"])],
    "members are in another order": lambda m: sorted(m.items())[::-1],
    "a member of no known type": lambda m: [
        *sorted(m.items()),
        ("zzz.pkl", b"cos\nsystem\n(S'true'\ntR."),
    ],
    "the depth is that of another panorama": lambda m: sorted(
        (m | {"depth.delta.zst": m["instance.zst"]}).items()
    ),
    "the metadata are of another panorama": lambda m: sorted(
        (m | {META_SUFFIX: m[META_SUFFIX].replace(b"000002", b"000003")}).items()
    ),
}


def test_an_honest_forger_makes_the_packers_bytes(subject, tmp_path):
    forge(subject, tmp_path, in_order)
    assert (tmp_path / subject.dataset.manifest.shards[0].name).read_bytes() == subject.data
    assert verify(tmp_path, deep=True).faults == ()


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_packer_is_found_and_its_sample_refused(subject, tmp_path, lie):
    dataset = forge(
        subject,
        tmp_path,
        lambda key, members: LIES[lie](members) if key == VICTIM else in_order(key, members),
    )
    faults = verify(tmp_path, deep=True).faults
    assert {fault.sample for fault in faults} == {VICTIM}, faults
    for row in dataset.samples.to_pylist():
        if row["key"] != VICTIM:
            assert dataset.by_key(row["key"]).members == subject.good[row["key"]]
    with pytest.raises(DataError, match=VICTIM):
        look_at(dataset, VICTIM)


def test_a_wrong_digest_over_right_bytes_is_found_by_a_deep_look_and_refused_by_readers(
    subject, tmp_path
):
    shutil.copytree(subject.folder, tmp_path / "d")
    instances = subject.dataset.instances()
    rows = [row | {"sha256": "0" * 64} if row["key"] == VICTIM else row for row in subject.rows]
    commit(
        Store.at(tmp_path / "d"),
        [
            BuiltShard(
                subject.dataset.manifest.shards[0],
                pa.Table.from_pylist(rows, SAMPLE_SCHEMA),
                instances,
            )
        ],
    )
    assert {fault.sample for fault in verify(tmp_path / "d", deep=True).faults} == {VICTIM}
    with pytest.raises(DataError, match=VICTIM):
        Dataset.open(tmp_path / "d").by_key(VICTIM)


# ---- index and manifest


def test_every_flipped_byte_of_the_manifest_is_noticed(subject, tmp_path):
    """Not one character of the manifest can change unseen: it is refused, or verify says what
    disagrees.
    """
    shutil.copytree(subject.folder, tmp_path / "d")
    manifest = tmp_path / "d" / "manifest.json"
    data = manifest.read_bytes()
    for at in range(len(data)):
        manifest.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        try:
            faults: tuple[DataFault, ...] = verify(tmp_path / "d").faults
        except DataError:
            continue
        assert faults or data[at : at + 1].isspace(), data[max(0, at - 20) : at + 20]


def test_every_damaged_byte_of_the_index_is_refused(subject, tmp_path):
    shutil.copytree(subject.folder, tmp_path / "d")
    manifest = read_manifest(tmp_path / "d")
    for entry in (manifest.sample_index, manifest.instance_index):
        path = tmp_path / "d" / entry.name
        data = path.read_bytes()
        for at in range(0, len(data), 37):
            path.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
            assert [fault.file for fault in verify(tmp_path / "d").faults] == [entry.name]
        path.write_bytes(data)
        path.write_bytes(data[:-1] + b"x")
        with pytest.raises(DataError, match="the index is damaged"):
            Dataset.open(tmp_path / "d").instances()
        path.write_bytes(data)
