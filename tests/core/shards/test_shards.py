"""Shards that cannot lie: whatever is damaged is found and named, foreign readers read them,
packing is reproducible.
"""

import json
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import synthetic
import webdataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from panoforge.core.errors import DataError, StorageError, UsageError
from panoforge.core.sample.metadata import decode_meta
from panoforge.core.sample.products import decode_product
from panoforge.core.shards.layout import read_manifest, split_of
from panoforge.core.shards.plan import Candidate, plan_shards
from panoforge.core.shards.read import Dataset
from panoforge.core.shards.tar import BLOCK
from panoforge.core.shards.verify import verify
from panoforge.core.shards.write import PackOptions, pack


@pytest.fixture
def copy(caps_dataset: Path, tmp_path: Path) -> Path:
    """A dataset of one shard that a test may damage."""
    shutil.copytree(caps_dataset, tmp_path / "dataset")
    return tmp_path / "dataset"


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """The smallest dataset of two samples: for tests that damage it hundreds of times."""
    return synthetic.dataset(tmp_path, scenes=2, cameras=1, width=32, n_caps=3)


def the_shard(dataset: Path) -> Path:
    return dataset / read_manifest(dataset).shards[0].name


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def test_a_good_dataset_has_no_faults(caps_dataset):
    report = verify(caps_dataset, deep=True)
    assert report.samples == 8 and report.faults == ()


def test_samples_come_back_as_they_were_staged(caps_dataset):
    dataset = Dataset.open(caps_dataset)
    for index in range(len(dataset)):
        sample = dataset[index]
        scene, camera = sample.meta.seed, sample.meta.camera
        rgb, labels = synthetic.caps(np.random.default_rng([scene, camera]), 256)
        assert np.array_equal(sample.read("instance"), labels)
        assert np.array_equal(sample.read("instance", (10, 20)), labels[10:20])
        assert (
            np.abs(sample.read("rgb").astype(int) - rgb).mean() < 6
        )  # JPEG halves the colour noise
        assert dataset.by_key(sample.key).meta == sample.meta
    rows = dataset.instances().to_pylist()
    assert len(rows) == sum(len(dataset[i].meta.instances) for i in range(len(dataset)))


@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_flipped_bit_names_its_sample(tiny, data):
    shard = the_shard(tiny)
    good = shard.read_bytes()
    rows = Dataset.open(tiny).samples.to_pylist()
    rows = [row for row in rows if row["shard"] == shard.relative_to(tiny).as_posix()]
    row = data.draw(st.sampled_from(rows))
    at = row["offset"] + data.draw(st.integers(0, row["length"] - 1))
    bad = bytearray(good)
    bad[at] ^= 1 << data.draw(st.integers(0, 7))
    shard.write_bytes(bad)
    try:
        faults = verify(tiny).faults
        assert row["key"] in {fault.sample for fault in faults}
        assert {fault.sample for fault in faults} <= {row["key"], None}
        with pytest.raises(DataError, match=row["key"]):
            Dataset.open(tiny).by_key(row["key"])
    finally:
        shard.write_bytes(good)


def test_every_header_bit_is_watched(tiny):
    """Each bit of one whole header block, and of the trailer."""
    shard = the_shard(tiny)
    good = shard.read_bytes()
    for bit in [*range(0, BLOCK * 8, 7), *range((len(good) - 1024) * 8, len(good) * 8, 97)]:
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        shard.write_bytes(bad)
        assert verify(tiny).faults, f"bit {bit} flipped unseen"


def test_truncation_at_every_block_is_found_and_no_cut_sample_is_read(copy):
    shard = the_shard(copy)
    good = shard.read_bytes()
    dataset = Dataset.open(copy)
    rows = [
        row
        for row in dataset.samples.to_pylist()
        if row["shard"] == shard.relative_to(copy).as_posix()
    ]
    for size in range(0, len(good), BLOCK * max(1, len(good) // BLOCK // 60)):
        shard.write_bytes(good[:size])
        cut = {row["key"] for row in rows if row["offset"] + row["length"] > size}
        assert {fault.sample for fault in verify(copy).faults} - {None} >= cut
        for row in rows:
            if row["key"] in cut:
                with pytest.raises(DataError, match="truncated"):
                    dataset.by_key(row["key"])
            else:
                dataset.by_key(row["key"])


@pytest.mark.parametrize("damage", ["missing", "extra", "doubled"])
def test_strangers_and_losses_are_found(copy, damage):
    shard = the_shard(copy)
    data = shard.read_bytes()
    if damage == "missing":
        shard.unlink()
    else:
        row = Dataset.open(copy).samples.to_pylist()[0]
        more = (
            data[row["offset"] : row["offset"] + row["length"]]
            if damage == "doubled"
            else bytes(BLOCK)
        )
        shard.write_bytes(data[:-1024] + more + data[-1024:])
    assert verify(copy).faults


def test_a_lying_packer_is_found(tmp_path):
    """Right digests over wrong content: a table that disagrees with the pixels cannot even be
    staged, so forge it.
    """
    synthetic.dataset(tmp_path, scenes=1, cameras=1)
    meta = next((tmp_path / "staged").glob("*/meta.json"))
    forged = json.loads(meta.read_text())
    forged["instances"][0]["pixels"] += 1
    meta.write_text(json.dumps(forged))
    pack(tmp_path / "staged", tmp_path / "dataset")
    assert "instance 1: table says" in verify(tmp_path / "dataset").faults[0].what


def test_damaged_index_and_manifest_are_refused(copy):
    index = copy / read_manifest(copy).sample_index.name
    data = bytearray(index.read_bytes())
    data[len(data) // 2] ^= 1
    index.write_bytes(data)
    with pytest.raises(DataError, match="the index is damaged"):
        Dataset.open(copy)
    assert "the index is damaged" in verify(copy).faults[0].what
    (copy / "manifest.json").write_text("{}")
    with pytest.raises(DataError, match="not a manifest of schema version 1"):
        Dataset.open(copy)
    (copy / "manifest.json").unlink()
    with pytest.raises(StorageError, match="does not exist"):
        Dataset.open(copy)


def test_plain_tar_and_plain_webdataset_read_it(caps_dataset):
    dataset = Dataset.open(caps_dataset)
    urls = [str(caps_dataset / shard.name) for shard in dataset.manifest.shards]
    samples = {
        sample["__key__"]: sample for sample in webdataset.WebDataset(urls, shardshuffle=False)
    }
    assert sorted(samples) == sorted(dataset.keys)
    for key, sample in samples.items():
        assert np.array_equal(
            decode_product("instance.zst", sample["instance.zst"]),
            dataset.by_key(key).read("instance"),
        )
        assert decode_meta(sample["meta.json"]).key == key
    names = []
    for url in urls:
        with tarfile.open(url) as tar:
            names += tar.getnames()
    assert len(names) == 4 * len(dataset)


def test_the_docs_webdataset_loop_gives_the_ids(caps_dataset):
    """The lines of the page on the format, run on one of our shards."""
    page = Path(__file__).parents[3] / "docs" / "reference" / "format.md"
    blocks = page.read_text().split("```python\n")
    (code,) = (block.partition("```")[0] for block in blocks if "webdataset.WebDataset(" in block)
    dataset = Dataset.open(caps_dataset)
    shard = str(caps_dataset / dataset.manifest.shards[0].name)
    seen = {}
    scope = {"note": lambda meta, jpeg, ids: seen.update({meta["key"]: (jpeg, ids)})}
    exec(
        code.replace("dataset/shards/train-000000-1a2b3c4d.tar", shard)
        + "    note(meta, jpeg, ids)\n",
        scope,
    )
    assert len(seen) == dataset.manifest.shards[0].samples
    for key, (jpeg, ids) in seen.items():
        sample = dataset.by_key(key)
        assert jpeg == sample.members["rgb.jpg"] and np.array_equal(ids, sample.read("instance"))


def test_pycocotools_decodes_every_rle(caps_dataset):
    dataset = Dataset.open(caps_dataset)
    count = 0
    for index in range(len(dataset)):
        sample = dataset[index]
        labels = sample.read("instance")
        for row in sample.meta.instances:
            mask = coco_mask.decode({"size": list(row.rle.size), "counts": row.rle.counts.encode()})
            assert np.array_equal(mask == 1, labels == row.id)
            count += 1
    assert count > 40


def test_packing_is_reproducible_and_replaces_the_old_state(tmp_path):
    synthetic.dataset(tmp_path, scenes=3, cameras=1)
    first = files_of(tmp_path / "dataset")
    pack(tmp_path / "staged", tmp_path / "dataset")
    assert files_of(tmp_path / "dataset") == first
    pack(tmp_path / "staged", tmp_path / "other")
    assert files_of(tmp_path / "other") == first
    synthetic.stage(tmp_path / "staged", 7, 0)
    pack(tmp_path / "staged", tmp_path / "dataset")
    assert len(Dataset.open(tmp_path / "dataset")) == 4
    assert verify(tmp_path / "dataset").faults == ()
    assert len(list((tmp_path / "dataset").rglob("*.tar"))) == len(
        read_manifest(tmp_path / "dataset").shards
    )


class Killed(BaseException):
    """Stands for kill -9: nothing may clean up after it."""


def test_killing_the_packer_at_any_system_call_leaves_the_old_or_the_new_state(
    tmp_path, monkeypatch
):
    """The N-th open, write-out, fsync, rename or unlink dies, for every N, with no handler run
    after it.
    """
    synthetic.dataset(tmp_path, scenes=2, cameras=1)
    old = tmp_path / "dataset"
    synthetic.stage(tmp_path / "staged", 7, 0)
    states = set()
    for n in range(1, 200):
        target = tmp_path / f"try{n}"
        shutil.copytree(old, target)
        calls = 0

        def dying(real, n=n):
            def call(*args, **kwargs):
                nonlocal calls
                calls += 1
                if (
                    calls >= n
                ):  # the process is dead: every later call fails too, so nothing is tidied up
                    raise Killed
                return real(*args, **kwargs)

            return call

        with monkeypatch.context() as patch:
            for name in ("fsync", "replace", "rename", "unlink"):
                patch.setattr(os, name, dying(getattr(os, name)))
            try:
                pack(tmp_path / "staged", target)
                died = False
            except Killed:
                died = True
        report = verify(target, deep=True)
        assert report.faults == ()
        states.add(report.samples)
        shutil.rmtree(target / "lease", ignore_errors=True)  # its process would be gone
        pack(tmp_path / "staged", target)  # the next run finishes the job and leaves no litter
        assert len(Dataset.open(target)) == 3
        assert not list(target.rglob(".tmp-*"))
        shutil.rmtree(target)
        if not died:
            break
    else:
        pytest.fail("the packer never came to its end")
    assert n > 8 and states == {2, 3}


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 50)), min_size=1, max_size=40),
    st.integers(1, 120),
)
def test_shard_plans_hold_every_sample_once(sizes, target):
    samples = [Candidate(f"k{i:03d}", f"s{split}", size) for i, (split, size) in enumerate(sizes)]
    plans = plan_shards(samples, target)
    assert sorted(key for plan in plans for key in plan.keys) == sorted(
        sample.key for sample in samples
    )
    size_of = {sample.key: sample.length for sample in samples}
    split_of_key = {sample.key: sample.split for sample in samples}
    for plan in plans:
        assert len(plan.keys) == 1 or sum(size_of[key] for key in plan.keys) <= target
        assert {split_of_key[key] for key in plan.keys} == {plan.split}
    assert plans == plan_shards(reversed(samples), target)


def test_splits_are_by_scene_and_stable():
    shares = {"train": 0.8, "val": 0.2}
    names = [split_of(f"scene-{i}", shares) for i in range(2000)]
    assert names == [split_of(f"scene-{i}", shares) for i in range(2000)]
    assert 0.76 < names.count("train") / 2000 < 0.84


def test_packing_nothing_says_what_to_do(tmp_path):
    (tmp_path / "staged").mkdir()
    with pytest.raises(DataError, match=r"nothing to pack. Render some first"):
        pack(tmp_path / "staged", tmp_path / "dataset")


def test_a_damaged_staged_panorama_is_named_and_nothing_is_published(tmp_path):
    key = synthetic.stage(tmp_path / "staged", 0, 0)
    (tmp_path / "staged" / key / "depth.delta.zst").unlink()
    with pytest.raises(DataError, match=key):
        pack(tmp_path / "staged", tmp_path / "dataset")
    assert not list((tmp_path / "dataset").rglob("*.*"))


def test_unknown_split_and_key_name_the_nearest(caps_dataset):
    with pytest.raises(UsageError, match="Did you mean 'train'"):
        Dataset.open(caps_dataset, split="trian")
    with pytest.raises(UsageError, match="Did you mean 'caps-000001-c0'"):
        Dataset.open(caps_dataset).by_key("caps-00001-c0")


def test_shard_size_is_respected(tmp_path):
    synthetic.dataset(
        tmp_path,
        scenes=4,
        cameras=1,
        options=PackOptions(shard_bytes=40_000, splits=(("train", 1.0),)),
    )
    manifest = read_manifest(tmp_path / "dataset")
    assert len(manifest.shards) > 1
    assert all(shard.bytes <= 40_000 + 1024 or shard.samples == 1 for shard in manifest.shards)
