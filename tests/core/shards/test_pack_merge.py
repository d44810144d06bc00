"""Several runs in one dataset: keys stay unique, the same panorama comes once, another of its name
is refused by name.
"""

import json
import shutil
from pathlib import Path

import pytest
import synthetic

from panoforge.cli import main
from panoforge.core.errors import DataError
from panoforge.core.shards.layout import read_manifest, split_of
from panoforge.core.shards.read import Dataset
from panoforge.core.shards.repair import repair
from panoforge.core.shards.verify import verify
from panoforge.core.shards.write import PackOptions, StagedSource, pack, publish
from panoforge.core.storage.store import Store

OPTIONS = PackOptions(shard_bytes=20_000, splits=(("train", 0.6), ("val", 0.4)))


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Two runs of a few scenes; scene 2 is in both, rendered twice: the second took longer."""
    for name, scenes in (("day", (0, 1, 2)), ("night", (2, 3, 4))):
        for scene in scenes:
            synthetic.stage(tmp_path / name / "staged", scene, 0, 64, n_caps=3)
    again = tmp_path / "night" / "staged" / "caps-000002-c0" / "meta.json"
    again.write_bytes(again.read_bytes().replace(b'"generate":1.0', b'"generate":9.0'))
    return [tmp_path / "day", tmp_path / "night"]


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def pano(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return int(end.value.code or 0)


def test_runs_merge_and_what_is_in_both_comes_once(runs, tmp_path, capfd):
    assert (
        pano(
            "pack",
            *runs,
            "--to",
            tmp_path / "all",
            "shard_bytes=20000",
            "splits={train: 0.6, val: 0.4}",
        )
        == 0
    )
    said = capfd.readouterr()
    assert "5 panoramas with" in said.out and "pack: 5/5" in said.err
    assert "1 panorama of several runs with equal content: packed once" in said.err
    merged = Dataset.open(tmp_path / "all")
    assert sorted(merged.keys) == [f"caps-{scene:06d}-c0" for scene in range(5)]
    assert verify(tmp_path / "all", deep=True).faults == ()
    assert merged.by_key("caps-000002-c0").meta.timings_s["generate"] == 1.0  # the first run's
    shares = dict(OPTIONS.splits)
    assert all(
        split == split_of(scene, shares)
        for scene, split in zip(
            merged.samples["scene"].to_pylist(), merged.samples["split"].to_pylist(), strict=True
        )
    )


def test_scenes_keep_their_split_when_runs_are_merged(runs, tmp_path):
    splits = {}
    for place, name in (([runs[0] / "staged"], "one"), ([run / "staged" for run in runs], "both")):
        pack(place, tmp_path / name, OPTIONS)
        samples = Dataset.open(tmp_path / name).samples
        splits[name] = dict(
            zip(samples["scene"].to_pylist(), samples["split"].to_pylist(), strict=True)
        )
    assert splits["one"].items() <= splits["both"].items() and len(splits["both"]) == 5


@pytest.mark.parametrize("what", ["rgb.jpg", "meta.json: seed"])
def test_another_panorama_of_the_same_name_is_refused_by_name(runs, tmp_path, what):
    folder = runs[1] / "staged" / "caps-000002-c0"
    if what == "rgb.jpg":
        (folder / what).write_bytes((runs[1] / "staged" / "caps-000003-c0" / what).read_bytes())
    else:
        (folder / "meta.json").write_bytes(
            (folder / "meta.json").read_bytes().replace(b'"seed":2', b'"seed":7')
        )
    places = [run / "staged" for run in runs]
    with pytest.raises(
        DataError,
        match=rf"caps-000002-c0 is staged in .*day.*night.*different content \({what}\).*--prefix",
    ):
        pack(places, tmp_path / "all", OPTIONS)
    with pytest.raises(DataError, match="caps-000002-c0"):
        publish(places, tmp_path / "all", OPTIONS)
    assert not (tmp_path / "all" / "manifest.json").exists()


def test_prefixes_keep_runs_apart(runs, tmp_path, capfd):
    assert pano("pack", *runs, "--to", tmp_path / "all", "--prefix", "shard_bytes=20000") == 0
    assert "6 panoramas" in capfd.readouterr().out
    merged = Dataset.open(tmp_path / "all")
    assert (
        verify(tmp_path / "all", deep=True).faults == ()
        and read_manifest(tmp_path / "all").samples == 6
    )
    renamed = merged.by_key("night-caps-000002-c0")
    meta = json.loads((runs[1] / "staged" / "caps-000002-c0" / "meta.json").read_text())
    assert renamed.meta.scene == "night-caps-000002"
    assert json.loads(renamed.members["meta.json"]) == meta | {
        "key": "night-caps-000002-c0",
        "scene": "night-caps-000002",
    }
    assert (
        renamed.members["rgb.jpg"]
        == (runs[1] / "staged" / "caps-000002-c0" / "rgb.jpg").read_bytes()
    )
    assert set(merged.keys) == {
        f"{run}-caps-{n:06d}-c0"
        for run, ns in (("day", (0, 1, 2)), ("night", (2, 3, 4)))
        for n in ns
    }


def test_scenes_that_runs_share_stay_in_one_split_under_any_prefix(runs, tmp_path):
    """Other cameras, or another light, in the same rooms: near-duplicates."""
    shares = "splits={train: 0.5, val: 0.5}"
    assert pano("pack", *runs, "--to", tmp_path / "all", "--prefix", shares) == 0
    samples = Dataset.open(tmp_path / "all").samples
    found = dict(zip(samples["scene"].to_pylist(), samples["split"].to_pylist(), strict=True))
    own = {name: split_of(name.partition("-")[2], {"train": 0.5, "val": 0.5}) for name in found}
    assert found == own and found["day-caps-000002"] == found["night-caps-000002"]
    assert own != {name: split_of(name, {"train": 0.5, "val": 0.5}) for name in found}


def test_publishing_with_prefixes_ends_in_the_same_bytes(runs, tmp_path):
    options = PackOptions(shard_bytes=7_000, splits=(("train", 1.0),))
    sources = [StagedSource(Store.at(run / "staged"), f"{run.name}-") for run in runs]
    first = publish(sources, tmp_path / "grown", options, before="x-caps-000003")
    assert first is not None and 0 < first.samples < 6
    publish(sources, tmp_path / "grown", options)
    pack(sources, tmp_path / "grown", options)
    pack(sources, tmp_path / "once", options)
    assert files_of(tmp_path / "grown") == files_of(tmp_path / "once")


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("mini one", "mini-one-"),
        ("Night.2", "night-2-"),
        ("crème brûlée (v2)", "creme-brulee-v2-"),
        ("-_x", "x-"),
        ("a" * 200, "a" * 24 + "-"),
    ],
)
def test_any_folders_name_becomes_a_prefix(runs, tmp_path, name, prefix):
    shutil.move(runs[1], tmp_path / name)
    assert pano("pack", runs[0], tmp_path / name, "--to", tmp_path / "all", "--prefix") == 0
    keys = Dataset.open(tmp_path / "all").keys
    assert sum(key.startswith(f"{prefix}caps-") for key in keys) == 3 and len(keys) == 6
    assert verify(tmp_path / "all", deep=True).faults == ()


def test_a_name_without_a_letter_becomes_digits_of_its_digest(runs, tmp_path):
    shutil.move(runs[1], tmp_path / "客")
    assert pano("pack", runs[0], tmp_path / "客", "--to", tmp_path / "all", "--prefix") == 0
    assert verify(tmp_path / "all").faults == () and len(Dataset.open(tmp_path / "all")) == 6


def test_runs_whose_names_give_one_slug_are_told_apart(runs, tmp_path):
    shutil.move(runs[0], tmp_path / "mini one")
    shutil.move(runs[1], tmp_path / "mini-one")
    both = (tmp_path / "mini one", tmp_path / "mini-one")
    assert pano("pack", *both, "--to", tmp_path / "all", "--prefix") == 0
    assert len(Dataset.open(tmp_path / "all")) == 6


@pytest.mark.parametrize(
    "litter", [".DS_Store", "._caps-000001-c0", "Thumbs.db", "lost+found", ".Trash-0/x"]
)
@pytest.mark.parametrize("where", ["staged", "staged/caps-000001-c0", "dataset", "dataset/shards"])
def test_what_desktops_and_disks_leave_behind_is_passed_over(tmp_path, litter, where):
    synthetic.dataset(tmp_path, scenes=2, cameras=1, width=64, n_caps=3, options=OPTIONS)
    path = tmp_path / where / litter
    if litter in ("lost+found", ".Trash-0/x"):
        path.mkdir(parents=True)
        (path / "file").write_bytes(b"x")
    else:
        path.write_bytes(b"x")
    assert len(pack(tmp_path / "staged", tmp_path / "dataset", OPTIONS).shards) >= 1
    assert verify(tmp_path / "dataset", deep=True).faults == ()
    assert repair(tmp_path / "dataset").written == ()
    assert path.exists()
