"""Publishing while scenes are still made: only what is final already, and at the end the same bytes
as packing once.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
import synthetic
from hypothesis import given
from hypothesis import strategies as st

from panoforge.core.errors import DataError
from panoforge.core.shards.layout import read_manifest
from panoforge.core.shards.plan import Candidate, pack_order, plan_shards, scene_of
from panoforge.core.shards.read import Dataset
from panoforge.core.shards.verify import verify
from panoforge.core.shards.write import PackOptions, build_here, pack, publish

OPTIONS = PackOptions(shard_bytes=17_000, splits=(("train", 0.6), ("val", 0.4)))
SCENES, CAMERAS = 10, 2


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Staged panoramas of small scenes, and the dataset that packing them at once gives."""
    folder = tmp_path_factory.mktemp("rendered")
    for scene in range(SCENES):
        for camera in range(CAMERAS):
            synthetic.stage(folder / "staged", scene, camera, 64)
    pack(folder / "staged", folder / "dataset", OPTIONS)
    assert len(read_manifest(folder / "dataset").shards) > 6
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def scene(number: int) -> str:
    return f"caps-{number:06d}"


@pytest.mark.parametrize("seed", range(4))
def test_publishing_as_scenes_come_in_any_order_ends_in_the_bytes_of_packing_once(
    rendered, tmp_path, seed
):
    """Scenes finish in a random order; one is rejected and never comes. After each the settled ones
    are published.
    """
    whole, dataset = files_of(rendered / "dataset"), tmp_path / "dataset"
    open_scenes, seen = set(range(SCENES)), 0
    for number in np.random.default_rng(seed).permutation(SCENES):
        for camera in range(CAMERAS):
            key = f"{scene(number)}-c{camera}"
            shutil.copytree(rendered / "staged" / key, tmp_path / "staged" / key)
        open_scenes.remove(int(number))
        first_open = min(open_scenes, default=None)
        publish(
            tmp_path / "staged",
            dataset,
            OPTIONS,
            before=None if first_open is None else scene(first_open),
        )
        if (dataset / "manifest.json").exists():
            assert verify(dataset).faults == ()
            shards = [entry.name for entry in read_manifest(dataset).shards]
            assert all(
                (dataset / name).read_bytes() == whole[name] for name in shards
            )  # nothing published is ever rebuilt
            assert len(shards) >= seen
            seen = len(shards)
            assert first_open is None or all(
                pack_order(key) < pack_order(scene(first_open))
                for key in Dataset.open(dataset).keys
            )
    assert (
        0 < seen < len(read_manifest(rendered / "dataset").shards)
    )  # the last of each split is still open
    publish(tmp_path / "staged", dataset, OPTIONS, final=True)
    assert files_of(dataset) == whole


def test_published_panoramas_are_not_read_again(rendered, tmp_path):
    dataset = tmp_path / "dataset"
    shutil.copytree(rendered / "staged", tmp_path / "staged")
    first = publish(tmp_path / "staged", dataset, OPTIONS, before=scene(7))
    for key in Dataset.open(
        dataset
    ).keys:  # what is published could as well be gone from the staging disk
        for path in (tmp_path / "staged" / key).iterdir():
            path.unlink()
    again = publish(tmp_path / "staged", dataset, OPTIONS)
    assert again.samples > first.samples and verify(dataset).faults == ()
    with pytest.raises(DataError, match=r"no meta\.json"):
        pack(tmp_path / "staged", dataset, OPTIONS)
    assert read_manifest(dataset) == again


def test_nothing_published_is_taken_away(rendered, tmp_path):
    """A scene that is made again after all (`pano retry`) moves the first open scene back; the end
    is right all the same.
    """
    later = publish(rendered / "staged", tmp_path / "dataset", OPTIONS, before=scene(9))
    assert publish(rendered / "staged", tmp_path / "dataset", OPTIONS, before=scene(2)) == later
    shutil.copytree(rendered / "staged", tmp_path / "staged")
    for camera in range(CAMERAS):
        shutil.rmtree(tmp_path / "staged" / f"{scene(1)}-c{camera}")
    publish(
        tmp_path / "staged", tmp_path / "other", OPTIONS, before=scene(9)
    )  # scene 1 was given up …
    publish(rendered / "staged", tmp_path / "other", OPTIONS, before=scene(9))  # … and is there now
    assert verify(tmp_path / "other").faults == ()
    pack(rendered / "staged", tmp_path / "other", OPTIONS)
    assert files_of(tmp_path / "other") == files_of(rendered / "dataset")


def test_nothing_is_published_before_there_is_something(tmp_path):
    assert publish(tmp_path / "staged", tmp_path / "dataset", OPTIONS, before=scene(0)) is None
    synthetic.stage(tmp_path / "staged", 0, 0, 64)
    assert publish(tmp_path / "staged", tmp_path / "dataset", OPTIONS, before=scene(0)) is None
    assert (
        publish(tmp_path / "staged", tmp_path / "dataset", OPTIONS, before=scene(1)) is None
    )  # its shard is not full
    assert not (tmp_path / "dataset").exists()


def test_a_changed_shard_size_is_no_reason_to_keep_old_shards(rendered, tmp_path):
    publish(rendered / "staged", tmp_path / "dataset", PackOptions(40_000, OPTIONS.splits))
    pack(rendered / "staged", tmp_path / "dataset", OPTIONS)
    assert files_of(tmp_path / "dataset") == files_of(rendered / "dataset")


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 50)), max_size=40),
    st.integers(1, 120),
    st.integers(0, 40),
)
def test_the_full_shards_of_a_prefix_are_shards_of_the_whole(sizes, target, prefix):
    samples = [
        Candidate(f"room-{i:08d}-c0", f"s{split}", size) for i, (split, size) in enumerate(sizes)
    ]
    whole = plan_shards(samples, target)
    assert set(plan_shards(samples[:prefix], target, final=False)) <= set(whole)
    assert len(plan_shards(samples, target, final=False)) == len(whole) - len(
        {sample.split for sample in samples}
    )


def test_the_order_is_that_of_the_job_list():
    keys = [
        "rooms-kitchen-00000002-c10",
        "rooms-bedroom-00000010-c0",
        "rooms-kitchen-00000002-c9",
        "rooms-attic-00000003-c0",
        "x",
    ]
    assert sorted(keys, key=pack_order) == [keys[4], keys[2], keys[0], keys[3], keys[1]]
    assert scene_of(keys[0]) == "rooms-kitchen-00000002" and scene_of("busy") is None
    assert (
        pack_order("rooms-attic-00000003")
        < pack_order("rooms-attic-00000003-c0")
        < pack_order("rooms-attic-00000004")
    )


def test_what_killed_builders_leave_goes_with_the_pack(tmp_path: Path) -> None:
    """A worker of many dies over its draft, another makes the shard: the dataset holds what it
    names and nothing else.
    """
    for scene in range(3):
        synthetic.stage(tmp_path / "staged", scene, 0, 64)

    def build(tasks, on_sample):
        (tmp_path / "dataset/shards").mkdir(parents=True, exist_ok=True)
        (tmp_path / "dataset/shards/.tmp-draft-1-aaaa").write_bytes(b"half a shard")
        return build_here(tasks, on_sample)

    pack(tmp_path / "staged", tmp_path / "dataset", build=build)
    assert not verify(tmp_path / "dataset").faults
    assert not list((tmp_path / "dataset").rglob(".tmp-*"))
