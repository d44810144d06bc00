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
    SAMPLE_SCHEMA,
)
from panoforge.core.shards.read import Dataset, read_members
from panoforge.core.shards.verify import verify
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


@pytest.mark.parametrize("version", [0, 2, 3, "1"])
def test_data_of_another_version_is_refused_in_one_line(copy, version):
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"schema_version": version}))
    for verb in (verify, Dataset.open):
        with pytest.raises(DataError, match="is not a manifest of schema version 1") as told:
            verb(copy)
        assert "\n" not in str(told.value)


def test_an_index_with_other_columns_is_refused_in_one_line(copy):
    manifest = json.loads((copy / "manifest.json").read_text())
    entry = manifest["sample_index"]
    table = pq.read_table(copy / entry["name"]).drop(["notes"])
    pq.write_table(table, copy / entry["name"])
    data = (copy / entry["name"]).read_bytes()
    entry |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert "other columns than an index of this version" in verify(copy).faults[0].what
    with pytest.raises(DataError, match="other columns"):
        Dataset.open(copy)


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
