"""`pano repair`: what is lost comes back bit for bit, what is damaged is kept aside and listed,
what remains verifies.
"""

import contextlib
import json
import os
import shutil
import time
from pathlib import Path

import buckets
import numpy as np
import pytest
import synthetic

from panoforge.cli import main
from panoforge.core.errors import DataError, StorageError
from panoforge.core.shards.layout import read_manifest
from panoforge.core.shards.read import Dataset
from panoforge.core.shards.repair import repair
from panoforge.core.shards.tar import BLOCK
from panoforge.core.shards.verify import verify
from panoforge.core.shards.write import PackOptions, pack
from panoforge.core.storage.store import Store

OPTIONS = PackOptions(shard_bytes=20_000, splits=(("train", 0.6), ("val", 0.4)))
SCENES = 8


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    synthetic.dataset(folder, scenes=SCENES, cameras=1, width=64, n_caps=3, options=OPTIONS)
    assert len(read_manifest(folder / "dataset").shards) >= 4
    return folder / "dataset"


@pytest.fixture
def dataset(original: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return shutil.copytree(original, tmp_path / "dataset")


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def in_dataset(folder: Path) -> dict[str, bytes]:
    return {
        name: data for name, data in files_of(folder).items() if not name.startswith("quarantine/")
    }


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 8
    path.write_bytes(data)


LOSSES = {
    "the manifest": lambda d: (d / "manifest.json").unlink(),
    "the sample index": lambda d: next(d.glob("index/samples-*")).unlink(),
    "the instance index": lambda d: next(d.glob("index/instances-*")).unlink(),
    "both indices": lambda d: shutil.rmtree(d / "index"),
    "manifest and indices": lambda d: (shutil.rmtree(d / "index"), (d / "manifest.json").unlink()),
    "a readable manifest": lambda d: (d / "manifest.json").write_bytes(
        b'{"schema_version": 2, "sam'
    ),
    "an empty manifest": lambda d: (d / "manifest.json").write_bytes(b""),
    "a whole sample index": lambda d: flip(next(d.glob("index/samples-*")), 700),
    "a whole instance index": lambda d: os.truncate(next(d.glob("index/instances-*")), 900),
    "manifest, and a whole sample index": lambda d: (
        (d / "manifest.json").unlink(),
        flip(next(d.glob("index/samples-*")), 700),
    ),
    "a digest in the manifest": lambda d: (d / "manifest.json").write_text(
        (d / "manifest.json").read_text().replace(read_manifest(d).shards[1].sha256, "0" * 64)
    ),
    "the end of a shard": lambda d: os.truncate(
        d / read_manifest(d).shards[0].name, read_manifest(d).shards[0].bytes - 700
    ),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_what_is_lost_comes_back_bit_for_bit(original, dataset, loss):
    LOSSES[loss](dataset)
    assert files_of(dataset) != files_of(original)
    report = repair(dataset)
    assert (
        in_dataset(dataset) == files_of(original)
        and report.samples == SCENES
        and report.written
        and not report.scenes
    )
    assert verify(dataset, deep=True).faults == ()


def test_a_whole_dataset_is_left_alone(original, dataset):
    before = {path: path.stat().st_mtime_ns for path in dataset.rglob("*")}
    report = repair(dataset, deep=True)
    assert (report.damaged, report.written, report.removed) == ((), (), ())
    assert {path: path.stat().st_mtime_ns for path in dataset.rglob("*")} == before


@pytest.mark.parametrize("seed", range(6))
def test_damaged_samples_go_to_quarantine_and_the_others_stay(original, dataset, seed):
    """Random bits, cuts and a lost shard; beside them a lost manifest or instance index."""
    rng = np.random.default_rng(seed)
    rows = Dataset.open(original).samples.to_pylist()
    victims = set()
    for row in [rows[i] for i in rng.choice(len(rows), 3, replace=False)]:
        flip(dataset / row["shard"], row["offset"] + int(rng.integers(row["length"])))
        victims.add(row["key"])
    shards = sorted({row["shard"] for row in rows})
    cut = shards[int(rng.integers(len(shards)))]
    size = int(rng.integers((dataset / cut).stat().st_size))
    os.truncate(dataset / cut, size)
    victims |= {
        row["key"] for row in rows if row["shard"] == cut and row["offset"] + row["length"] > size
    }
    if seed % 3 == 1:
        (dataset / "manifest.json").unlink()
    elif seed % 3 == 2:
        next(dataset.glob("index/instances-*")).unlink()
    damaged = {
        row["key"]: (dataset / row["shard"]).read_bytes()[
            row["offset"] : row["offset"] + row["length"]
        ]
        for row in rows
    }

    report = repair(dataset)

    assert {part.key for part in report.damaged} - {None} == victims
    assert verify(dataset, deep=True).faults == ()
    before, after = Dataset.open(original), Dataset.open(dataset)
    assert set(after.keys) == set(before.keys) - victims and after.keys == [
        key for key in before.keys if key not in victims
    ]
    for key in after.keys:
        assert after.by_key(key).members == before.by_key(key).members
    listed = json.loads((dataset / "quarantine" / "damaged.json").read_text())
    entries = {entry["key"]: entry for entry in listed["damaged"] if entry["key"]}
    assert set(entries) == victims and listed["scenes"] == sorted(
        key.removesuffix("-c0") for key in victims
    )
    assert (dataset / "quarantine" / "rerender.txt").read_text().split() == listed["scenes"]
    for key, entry in entries.items():
        assert entry["faults"] and entry["seed"] == int(key[5:11])
        assert damaged[key] == ((dataset / entry["kept"]).read_bytes() if entry["kept"] else b"")
    again = repair(dataset)
    assert (again.damaged, again.written, again.removed) == ((), (), ())


def test_what_was_rendered_again_makes_the_dataset_whole(original, dataset):
    row = Dataset.open(dataset).samples.to_pylist()[2]
    flip(dataset / row["shard"], row["offset"] + 3000)
    repair(dataset)
    pack(original.parent / "staged", dataset, OPTIONS)
    assert in_dataset(dataset) == files_of(original)


def test_a_lying_table_goes_to_quarantine(tmp_path):
    synthetic.dataset(tmp_path, scenes=3, cameras=1, width=64, n_caps=3, options=OPTIONS)
    meta = tmp_path / "staged" / "caps-000001-c0" / "meta.json"
    forged = json.loads(meta.read_text())
    forged["instances"][0]["pixels"] += 1
    meta.write_text(json.dumps(forged))
    pack(tmp_path / "staged", tmp_path / "dataset", OPTIONS)
    assert {fault.sample for fault in verify(tmp_path / "dataset").faults} == {"caps-000001-c0"}
    report = repair(tmp_path / "dataset")
    assert [part.key for part in report.damaged] == [
        "caps-000001-c0"
    ] and "instance 1: table says" in report.damaged[0].faults[0]
    assert verify(tmp_path / "dataset").faults == () and report.scenes == ("caps-000001",)


def test_without_any_digest_nothing_of_a_damaged_shard_is_believed(original, dataset):
    """Index lost and a picture damaged: nothing tells which sample it hit, so the shard's samples
    are all set aside.
    """
    shutil.rmtree(dataset / "index")
    entry = read_manifest(dataset).shards[0]
    rows = [row for row in Dataset.open(original).samples.to_pylist() if row["shard"] == entry.name]
    flip(dataset / entry.name, rows[0]["members"][-1]["offset"] + 100)
    raw = (dataset / entry.name).read_bytes()
    report = repair(dataset)
    assert {part.key for part in report.damaged} == {row["key"] for row in rows} and len(rows) > 1
    assert set(Dataset.open(dataset).keys) == set(Dataset.open(original).keys) - {
        row["key"] for row in rows
    }
    kept = b"".join(path.read_bytes() for path in sorted((dataset / "quarantine").glob("*/*.bin")))
    assert kept == raw and verify(dataset, deep=True).faults == ()


def test_a_missing_shard_is_listed_with_the_scenes_it_held(original, dataset):
    entry = read_manifest(dataset).shards[-1]
    (dataset / entry.name).unlink()
    report = repair(dataset)
    lost = {
        row["scene"]
        for row in Dataset.open(original).samples.to_pylist()
        if row["shard"] == entry.name
    }
    assert (
        set(report.scenes) == lost
        and verify(dataset).faults == ()
        and report.samples == SCENES - entry.samples
    )


def test_strangers_in_a_shard_are_kept_aside(original, dataset):
    entry = read_manifest(dataset).shards[0]
    data = (dataset / entry.name).read_bytes()
    stranger = b"x" * BLOCK * 3
    (dataset / entry.name).write_bytes(data[:-1024] + stranger + data[-1024:])
    report = repair(dataset)
    assert in_dataset(dataset) == files_of(original)
    assert [path.read_bytes() for path in (dataset / "quarantine").glob("*/*.bin")] == [
        stranger + data[-1024:]
    ]
    assert report.scenes == () and report.samples == SCENES


def test_two_states_that_nothing_tells_apart_are_refused(original, dataset):
    rival = (
        dataset
        / "shards"
        / f"{read_manifest(dataset).shards[0].name.split('/')[1].rpartition('-')[0]}-00000000.tar"
    )
    rival.write_bytes(b"")
    assert repair(dataset).written == ()  # the manifest knows
    shutil.rmtree(dataset / "index")
    (dataset / "manifest.json").unlink()
    before = files_of(dataset)
    with pytest.raises(
        DataError, match=r"two shards claim one place: .*-00000000.tar.*Move away the one"
    ):
        repair(dataset)
    assert files_of(dataset) == before
    rival.unlink()
    repair(dataset)
    assert files_of(dataset) == files_of(original)


def test_what_an_interrupted_packer_left_does_not_confuse(original, dataset, tmp_path):
    """A new state's shards and index are there, its manifest is not, and then the old manifest is
    lost too.
    """
    shutil.copytree(original.parent / "staged", tmp_path / "staged")
    synthetic.stage(tmp_path / "staged", SCENES, 0, 64, n_caps=3)
    pack(tmp_path / "staged", tmp_path / "new", OPTIONS)
    for name, data in files_of(tmp_path / "new").items():
        if name != "manifest.json":
            (dataset / name).write_bytes(data)
    (dataset / "manifest.json").unlink()
    assert repair(dataset).samples == SCENES + 1 and verify(dataset, deep=True).faults == ()
    pack(tmp_path / "staged", dataset, OPTIONS)
    assert in_dataset(dataset) == files_of(tmp_path / "new")


def test_a_folder_without_anything_says_so(tmp_path):
    with pytest.raises(DataError, match=r"there is nothing to repair it from\. Pack the run again"):
        repair(tmp_path)


class Killed(BaseException):
    """Stands for kill -9: nothing may clean up after it."""


def test_killed_at_any_call_it_destroys_nothing(original, dataset, tmp_path, monkeypatch):
    """The N-th fsync, rename or unlink dies, for every N; a second repair then ends where an
    undisturbed one does.
    """
    row = Dataset.open(dataset).samples.to_pylist()[2]
    flip(dataset / row["shard"], row["offset"] + 3000)
    undisturbed = shutil.copytree(dataset, tmp_path / "undisturbed")
    repair(undisturbed)
    good = {
        key: Dataset.open(original).by_key(key).members
        for key in Dataset.open(original).keys
        if key != row["key"]
    }
    for n in range(1, 200):
        target = shutil.copytree(dataset, tmp_path / f"try{n}")
        calls, died = 0, False

        def dying(real, n=n):
            def call(*args, **kwargs):
                nonlocal calls, died
                calls += 1
                died = died or calls >= n
                if died:
                    raise Killed
                return real(*args, **kwargs)

            return call

        with monkeypatch.context() as patch:
            for name in ("fsync", "replace", "rename", "unlink"):
                patch.setattr(os, name, dying(getattr(os, name)))
            with contextlib.suppress(Killed):
                repair(target)
        opened = Dataset.open(target)
        assert all(opened.by_key(key).members == members for key, members in good.items())
        shutil.rmtree(target / "lease", ignore_errors=True)  # its process would be gone
        repair(target)
        assert files_of(target) == files_of(undisturbed)
        if not died:
            break
    assert n > 8 and not died


def test_a_bucket_is_repaired_as_a_folder(original, tmp_path, capfd):
    with buckets.bucket(dataset=original) as url:
        store = Store.at(f"{url}/dataset")
        row = Dataset.open(store).samples.to_pylist()[2]
        data = bytearray(store.read(row["shard"]))
        data[row["offset"] + 3000] ^= 1
        store.put(row["shard"], bytes(data))
        store.delete("manifest.json")
        with pytest.raises(SystemExit) as end:
            main(["repair", store.url])
        captured = capfd.readouterr()
        assert (
            not end.value.code
            and f"{row['key']}: its bytes do not have the digest of the index" in captured.out
        )
        assert f"{SCENES - 1} samples, 1 damaged part in quarantine: repaired" in captured.out
        assert "1 scene to render again: see" in captured.err
        assert (
            verify(store).faults == ()
            and store.get("quarantine/rerender.txt") == row["scene"].encode() + b"\n"
        )
        with pytest.raises(SystemExit):
            main(["repair", store.url])
        assert "nothing to repair" in capfd.readouterr().out


def test_who_misses_a_manifest_is_sent_here(dataset: Path) -> None:
    (dataset / "manifest.json").unlink()
    with pytest.raises(
        StorageError,
        match=r"manifest.json: it does not exist.*`pano repair .*dataset` makes it again",
    ):
        Dataset.open(dataset)


def test_an_older_manifest_that_was_put_back_does_not_orphan_the_newer_samples(
    original, dataset, tmp_path
):
    """The state with more whole samples is kept; the manifest that named fewer is set aside."""
    staged = tmp_path / "staged"
    shutil.copytree(original.parent / "staged", staged)
    one = sorted(staged.iterdir())[0]
    older = tmp_path / "older"
    shutil.copytree(one, tmp_path / "first" / one.name)
    pack(tmp_path / "first", older, OPTIONS)
    for name, data in files_of(older).items():
        (dataset / name).write_bytes(data)
    assert len(Dataset.open(dataset)) == 1
    report = repair(dataset)
    assert report.samples == SCENES and verify(dataset, deep=True).faults == ()
    now = in_dataset(dataset)
    assert {name: now[name] for name in files_of(original)} == files_of(original)
    kept = (dataset / "quarantine" / "replaced" / "manifest.json").read_bytes()
    assert kept == (older / "manifest.json").read_bytes()


@pytest.mark.parametrize("lost", ["nothing", "the manifest", "the indices", "both"])
@pytest.mark.parametrize("how", ["swapped", "turned round", "renamed"])
def test_digests_are_believed_over_names(original, dataset, how, lost):
    names = [entry.name for entry in read_manifest(dataset).shards][
        : 2 if how != "turned round" else 3
    ]
    if how == "renamed":
        (dataset / names[0]).rename(dataset / "shards" / "backup.tar")
    else:
        content = [(dataset / name).read_bytes() for name in names]
        for name, data in zip(names, content[1:] + content[:1], strict=True):
            (dataset / name).write_bytes(data)
    if lost in ("the manifest", "both"):
        (dataset / "manifest.json").unlink()
    if lost in ("the indices", "both"):
        shutil.rmtree(dataset / "index")
    if how == "renamed" and lost == "both":
        pytest.skip("nothing says which shard is missing")
    report = repair(dataset)
    assert report.samples == SCENES and report.damaged == ()
    assert in_dataset(dataset) == files_of(original)
    assert verify(dataset, deep=True).faults == ()


@pytest.mark.parametrize("lost", ["nothing", "the indices"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "sparse", "link out"])
def test_what_is_no_file_stands_in_a_shards_place(original, dataset, tmp_path, kind, lost):
    """Kinds and sizes are asked first: nothing hangs, nothing stops, nothing outside is read."""
    entry = read_manifest(dataset).shards[0]
    path = dataset / entry.name
    data = path.read_bytes()
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
        (path / "thesis.txt").write_text("mine")
    elif kind == "sparse":
        path.touch()
        os.truncate(path, 1 << 40)
    else:
        (tmp_path / "outside.tar").write_bytes(data)
        path.symlink_to(tmp_path / "outside.tar")
    if lost == "the indices":
        shutil.rmtree(dataset / "index")
    begin = time.monotonic()
    assert verify(dataset).faults
    report = repair(dataset)
    assert time.monotonic() - begin < 20
    assert report.samples == SCENES - entry.samples
    assert verify(dataset, deep=True).faults == ()
    if kind == "folder":
        (thesis,) = dataset.rglob("thesis.txt")
        assert thesis.read_text() == "mine"
    if kind == "link out":
        assert (tmp_path / "outside.tar").read_bytes() == data


def test_repair_deletes_nothing(original, dataset):
    """Every byte that was there is there afterwards, or can be read in what replaced it."""
    row = Dataset.open(dataset).samples.to_pylist()[2]
    flip(dataset / row["shard"], row["offset"] + 3000)
    flip(next(dataset.glob("index/instances-*")), 50)
    before = set(files_of(dataset).values())
    repair(dataset)
    assert before - set(files_of(dataset).values()) <= {(original / "manifest.json").read_bytes()}
