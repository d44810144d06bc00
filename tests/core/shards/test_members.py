"""Members read on their own: what was asked for and nothing else, and never with a bit that was not
packed.
"""

import hashlib
import json
import shutil
from pathlib import Path

import buckets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from panoforge.core.errors import DataError, UsageError
from panoforge.core.shards.layout import (
    INSTANCE_SCHEMA,
    INSTANCE_SCHEMA_2,
    SAMPLE_SCHEMA,
    SAMPLE_SCHEMA_1,
    read_manifest,
)
from panoforge.core.shards.query import find
from panoforge.core.shards.read import Dataset, read_members
from panoforge.core.shards.repair import repair
from panoforge.core.shards.verify import verify
from panoforge.core.shards.write import PackOptions, pack, publish
from panoforge.core.storage.store import Store

ASKED = ("rgb", "instance")
SUFFIXES = ["instance.zst", "meta.json", "rgb.jpg"]


@pytest.fixture
def copy(caps_dataset: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(caps_dataset, tmp_path / "dataset"))


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_flipped_bit_in_a_member_is_found_and_elsewhere_is_not_read(copy, data):
    dataset = Dataset.open(copy)
    row = dataset.samples.to_pylist()[3]
    shard = copy / row["shard"]
    good = shard.read_bytes()
    at = row["offset"] + data.draw(st.integers(0, row["length"] - 1))
    hit = next(
        (m["suffix"] for m in row["members"] if m["offset"] <= at < m["offset"] + m["length"]), None
    )
    bad = bytearray(good)
    bad[at] ^= 1 << data.draw(st.integers(0, 7))
    shard.write_bytes(bad)
    try:
        if hit in SUFFIXES:
            with pytest.raises(
                DataError, match=rf"{row['key']}\.{hit}: .* do not have the checksum"
            ):
                dataset.read(3, ASKED)
        else:
            assert sorted(dataset.read(3, ASKED).members) == SUFFIXES
    finally:
        shard.write_bytes(good)


def test_a_cut_shard_is_told(copy):
    dataset = Dataset.open(copy)
    row = dataset.samples.to_pylist()[-1]
    shard = copy / row["shard"]
    shard.write_bytes(shard.read_bytes()[: row["members"][-1]["offset"] + 10])
    with pytest.raises(
        DataError, match=r"rgb\.jpg: shard .* is truncated: 10 of \d+ bytes are left"
    ):
        dataset.read(len(dataset) - 1, ASKED)
    assert dataset.read(len(dataset) - 1, ("instance",)).read("instance").any()


class Noting(Store):
    """Notes the ranges that are read."""

    asked: list[tuple[int, int]] = []

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        self.asked.append((start, stop or 0))
        return super().read(name, start, stop)


@pytest.mark.parametrize(("where", "requests"), [("disk", 3), ("bucket", 1)])
def test_only_what_is_asked_for_is_read(caps_dataset, where, requests):
    """On a disk member by member; from a bucket in one request, as they lie near each other."""
    dataset = Dataset.open(caps_dataset)
    row = dataset.samples.to_pylist()[2]
    with buckets.bucket(dataset=caps_dataset) as url:
        store = Noting(str(caps_dataset) if where == "disk" else f"{url}/dataset")
        store.asked = []
        sample = read_members(store, row, ASKED)
    assert (
        sample.members == {suffix: dataset[2].members[suffix] for suffix in SUFFIXES}
        and len(store.asked) == requests
    )
    wanted = sum(m["length"] for m in row["members"] if m["suffix"] in SUFFIXES)
    assert wanted <= sum(stop - start for start, stop in store.asked) <= wanted + 3 * 1024


def aged(folder: Path, version: int) -> Path:
    """The dataset as a packer of that schema version wrote its index."""
    manifest = json.loads((folder / "manifest.json").read_text())
    schemas = {
        "sample_index": SAMPLE_SCHEMA_1 if version == 1 else SAMPLE_SCHEMA,
        "instance_index": INSTANCE_SCHEMA_2,
    }
    for kind, schema in schemas.items():
        entry = manifest[kind]
        rows = pq.read_table(folder / entry["name"]).to_pylist()
        for member in [member for row in rows if version == 1 for member in row.get("members", ())]:
            del member["crc32"]
        pq.write_table(
            pa.Table.from_pylist(rows, schema), folder / entry["name"], compression="zstd"
        )
        data = (folder / entry["name"]).read_bytes()
        entry |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest | {"schema_version": version}))
    return folder


@pytest.mark.parametrize("version", [1, 2])
def test_an_older_index_is_still_read(copy, version):
    """Version 1 has no checksums of members: whole samples are read instead. Neither 1 nor 2 knows
    visibilities. Verify has nothing against them, and repair leaves them as they are.
    """
    before = find(Dataset.open(copy), "sr > 0.01")
    aged(copy, version)
    assert read_manifest(copy).schema_version == version and verify(copy).faults == ()
    dataset = Dataset.open(copy)
    assert [sorted(dataset.read(i, ASKED).members) for i in range(len(dataset))] == [
        SUFFIXES
    ] * len(dataset)
    assert (dataset.samples["members"].to_pylist()[0][0]["crc32"] is None) == (version == 1)
    now = find(dataset, "sr > 0.01")
    assert now.keys == before.keys and now.instances.drop(["visibility"]) == before.instances.drop(
        ["visibility"]
    )
    assert (
        set(now.instances["visibility"].to_pylist()) == {None}
        and not find(dataset, "visibility >= 0").keys
    )
    files = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    assert (
        repair(copy).written == ()
        and {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == files
    )
    shard = copy / dataset.samples["shard"][0].as_py()
    data = bytearray(shard.read_bytes())
    data[dataset.samples["offset"][0].as_py() + 600] ^= 4
    shard.write_bytes(data)
    with pytest.raises(DataError, match="do not have the digest"):
        dataset.read(0, ASKED if version == 1 else None)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("publisher", [pack, publish])
def test_packing_anew_brings_an_older_index_up_to_date(caps_dataset, tmp_path, version, publisher):
    """To the bytes of a dataset that was made by today's from nothing."""
    staged, old, new = caps_dataset.parent / "staged", tmp_path / "old", tmp_path / "new"
    each = PackOptions(shard_bytes=1)  # each panorama fills a shard
    publish(staged, old, each, before="caps-000003")
    assert len(Dataset.open(aged(old, version))) == 5
    publisher(staged, old, each)
    publisher(staged, new, each)
    files = [
        {path.relative_to(top): path.read_bytes() for path in top.rglob("*") if path.is_file()}
        for top in (old, new)
    ]
    assert files[0] == files[1] and len(files[0]) > 8
    assert (
        read_manifest(old).schema_version == 3
        and len(find(Dataset.open(old), "visibility > 0.4").keys) >= 7
    )


def test_a_manifest_that_names_another_version_than_its_index_is_found(copy):
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"schema_version": 2}))
    assert "other columns than those of schema versions 1 to 3" in verify(copy).faults[0].what


def test_verify_finds_a_visibility_that_lies(copy):
    manifest = json.loads((copy / "manifest.json").read_text())
    entry = manifest["instance_index"]
    rows = pq.read_table(copy / entry["name"]).to_pylist()
    rows[9]["visibility"] = None
    pq.write_table(
        pa.Table.from_pylist(rows, INSTANCE_SCHEMA), copy / entry["name"], compression="zstd"
    )
    data = (copy / entry["name"]).read_bytes()
    entry |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert [fault.sample for fault in verify(copy).faults] == [rows[9]["key"]]


def test_verify_finds_a_checksum_that_lies(copy):
    manifest = json.loads((copy / "manifest.json").read_text())
    entry = manifest["sample_index"]
    rows = pq.read_table(copy / entry["name"]).to_pylist()
    rows[2]["members"][1]["crc32"] ^= 1
    pq.write_table(
        pa.Table.from_pylist(rows, SAMPLE_SCHEMA), copy / entry["name"], compression="zstd"
    )
    data = (copy / entry["name"]).read_bytes()
    entry |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert [fault.sample for fault in verify(copy).faults] == [rows[2]["key"]]


def test_an_unknown_product_names_the_nearest(caps_dataset):
    with pytest.raises(UsageError, match=r"no product 'instances'\. Did you mean 'instance'\?"):
        Dataset.open(caps_dataset).read(0, ("instances",))
    with pytest.raises(IndexError):
        Dataset.open(caps_dataset).read(99, ASKED)
