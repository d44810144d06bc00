"""Videos in shards: whole in one of them, in the index, and refused where one is cut."""

import shutil

import numpy as np
import pytest

from panoforge.core.errors import DataError, UsageError
from panoforge.core.sample.flow import VISIBLE
from panoforge.core.shards.layout import read_manifest
from panoforge.core.shards.plan import Candidate, pack_order, plan_shards, scene_of
from panoforge.core.shards.query import find
from panoforge.core.shards.read import Dataset
from panoforge.core.shards.repair import repair
from panoforge.core.shards.verify import verify
from panoforge.core.shards.write import PackOptions, StagedSource, pack, publish
from panoforge.core.storage.store import Store
from tests import synthetic
from tests.videos import MOVING, WALL, dataset_of_videos, stage_video

FRAMES = 5


def sound(folder, *, deep: bool = False) -> bool:
    return verify(folder, deep=deep).faults == ()


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return dataset_of_videos(tmp_path_factory.mktemp("videos"), scenes=3, videos=2, frames=FRAMES)


@pytest.fixture
def copy(videos, tmp_path):
    shutil.copytree(videos, tmp_path / "dataset")
    return tmp_path / "dataset"


def test_frames_stand_in_order_and_the_index_knows_their_video(videos) -> None:
    dataset = Dataset.open(videos)
    table = dataset.videos.to_pylist()
    assert [row["video"] for row in table] == [
        f"turns-{scene:06d}-v{video}" for scene in range(3) for video in range(2)
    ]
    assert {(row["frames"], row["fps"], row["n_instances"], row["n_moving"]) for row in table} == {
        (FRAMES, 10.0, 3, 1)
    }
    keys = dataset.keys
    for row in table:
        video = dataset.video(row["video"])
        at = keys.index(video.frame_keys[0])
        assert tuple(keys[at : at + FRAMES]) == video.frame_keys
        assert {dataset.by_key(key, ()).meta.instances[0].id for key in video.frame_keys} == {WALL}
    assert sound(videos, deep=True)


def test_a_split_has_its_own_videos(tmp_path) -> None:
    halves = PackOptions(splits=(("train", 0.5), ("val", 0.5)))
    folder = dataset_of_videos(tmp_path, scenes=6, frames=2, width=64, options=halves)
    train, val = (Dataset.open(folder, split) for split in ("train", "val"))
    of_train, of_val = (set(half.videos["video"].to_pylist()) for half in (train, val))
    assert of_train and of_val and not of_train & of_val and len(of_train | of_val) == 6


def test_flow_leads_to_the_same_id(videos) -> None:
    dataset = Dataset.open(videos)
    first, second = (dataset.by_key(key) for key in dataset.video("turns-000001-v0").frame_keys[:2])
    flow, ids, others = first.flow("forward"), first.read("instance"), second.read("instance")
    places = np.rint(flow.places()).astype(int)
    there = others[np.clip(places[..., 1], 0, len(ids) - 1), places[..., 0] % ids.shape[1]]
    seen = flow.state == VISIBLE
    assert seen[ids == MOVING].sum() > 5 and (there == ids)[seen].all()
    with pytest.raises(DataError, match="has no flow_backward"):
        first.flow("backward")


def test_a_video_is_never_cut_over_shards(tmp_path) -> None:
    folder = dataset_of_videos(
        tmp_path, scenes=4, frames=4, width=64, options=PackOptions(shard_bytes=70_000)
    )
    manifest = read_manifest(folder)
    assert len(manifest.shards) > 1 and sound(folder)
    dataset = Dataset.open(folder)
    for row in dataset.videos.to_pylist():
        mine = find(dataset, f"video == {row['video']!r} and shard == {row['shard']!r}")
        assert len(mine.keys) == 4
    sizes = [Candidate(f"a-1-v0-f{frame:05d}", "train", 40) for frame in range(4)]
    plans = plan_shards([*sizes, Candidate("a-0-c0", "train", 40)], 100)
    assert [len(plan.samples) for plan in plans] == [1, 4]  # larger than the target, and whole


def test_what_is_published_while_rendering_is_what_is_packed(tmp_path) -> None:
    staged, options = tmp_path / "staged", PackOptions(shard_bytes=150_000)
    for scene in range(5):
        stage_video(staged, scene, frames=3, width=64)
        publish(staged, tmp_path / "live", options, before=f"turns-{scene:06d}")
    final = pack(staged, tmp_path / "live", options)
    assert final == pack(staged, tmp_path / "once", options)
    assert final.video_index is not None and final.video_index.rows == 5


def test_stills_and_videos_lie_in_one_dataset(tmp_path) -> None:
    synthetic.stage(tmp_path / "staged", 7, 0, 64)
    stage_video(tmp_path / "staged", 1, frames=3, width=64)
    pack(tmp_path / "staged", tmp_path / "dataset")
    dataset = Dataset.open(tmp_path / "dataset")
    assert sound(tmp_path / "dataset", deep=True) and len(dataset) == 4
    assert find(dataset, "frame == 1").keys == ("turns-000001-v0-f00001",)
    assert find(dataset, "width == 64 and not frame >= 0").keys == ()  # null is no answer
    assert len(find(dataset, "category == 'ball' and frame < 2").keys) >= 1


def test_a_dataset_of_stills_says_nothing_of_videos(tmp_path) -> None:
    folder = synthetic.dataset(tmp_path, scenes=1, width=64)
    assert b"video" not in (folder / "manifest.json").read_bytes()
    assert Dataset.open(folder).videos.num_rows == 0


def test_a_prefix_renames_all_frames(tmp_path) -> None:
    stage_video(tmp_path / "staged", 1, frames=3, width=64)
    pack([StagedSource(Store.at(tmp_path / "staged"), "night-")], tmp_path / "dataset")
    assert sound(tmp_path / "dataset")
    video = Dataset.open(tmp_path / "dataset").video("night-turns-000001-v0")
    assert video.frame_keys[2] == "night-turns-000001-v0-f00002"


@pytest.mark.parametrize("gone", [0, 1, 4])
def test_a_cut_video_is_not_packed(tmp_path, gone: int) -> None:
    keys = stage_video(tmp_path / "staged", 1, frames=FRAMES, width=64)
    stage_video(tmp_path / "staged", 2, frames=FRAMES, width=64)
    shutil.rmtree(tmp_path / "staged" / keys[gone])
    with pytest.raises(
        DataError, match=rf"turns-000001-v0 is cut: 4 of 5 .*without {gone}\b"
    ) as no:
        pack(tmp_path / "staged", tmp_path / "dataset")
    assert "\n" not in str(no.value) and not (tmp_path / "dataset" / "manifest.json").exists()


def test_frames_of_different_sizes_are_not_packed(tmp_path) -> None:
    keys = stage_video(tmp_path / "staged", 1, frames=3, width=64)
    stage_video(tmp_path / "larger", 1, frames=3, width=128)
    shutil.rmtree(tmp_path / "staged" / keys[1])
    shutil.move(tmp_path / "larger" / keys[1], tmp_path / "staged" / keys[1])
    with pytest.raises(DataError, match=r"f00001: is 128×64, its video 64×32") as no:
        pack(tmp_path / "staged", tmp_path / "dataset")
    assert "\n" not in str(no.value) and not (tmp_path / "dataset" / "manifest.json").exists()


def test_a_video_cut_in_its_shard_is_found(copy) -> None:
    """By a packer that does not know videos: every digest is right, a frame is not there."""
    from panoforge.core.shards import build, write

    class Blind(build.VideoWatch):
        def faults(self, meta, video):
            return iter(())

        def end(self):
            return iter(())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "VideoWatch", Blind)
        patch.setattr(write, "_refuse_cut", lambda staged, keys: None)
        staged = copy.parent / "staged"
        keys = stage_video(staged, 1, frames=FRAMES, width=64)
        shutil.rmtree(staged / keys[3])
        pack(staged, copy.parent / "cut")
    report = verify(copy.parent / "cut")
    assert [fault.what for fault in report.faults] == [
        "video turns-000001-v0 is cut: frame 4 does not follow frame 3 here"
    ]
    repair(copy.parent / "cut")
    assert sound(copy.parent / "cut") and len(Dataset.open(copy.parent / "cut")) == 0


def test_a_table_of_videos_that_lies_is_found(copy) -> None:
    import json

    import pyarrow.parquet as pq

    from panoforge.core.shards.build import _index

    manifest = json.loads((copy / "manifest.json").read_bytes())
    table = pq.read_table(copy / manifest["video_index"]["name"])
    entry, data = _index("videos", table.set_column(6, "fps", [[25.0] * table.num_rows]))
    (copy / entry.name).write_bytes(data)
    manifest["video_index"] = entry.model_dump()
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert "says otherwise than the shards of videos" in verify(copy).faults[0].what
    del manifest["video_index"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert any("names no table of videos" in fault.what for fault in verify(copy).faults)


def test_repair_takes_a_damaged_frame_out_with_its_video(copy) -> None:
    dataset = Dataset.open(copy)
    key = "turns-000001-v0-f00002"
    row = dataset.samples.to_pylist()[dataset.keys.index(key)]
    with open(copy / row["shard"], "r+b") as file:
        file.seek(row["offset"] + 600)
        file.write(b"\xff\x00\xff")
    assert verify(copy).faults
    report = repair(copy)
    assert {part.key for part in report.damaged} == {
        f"turns-000001-v0-f{frame:05d}" for frame in range(FRAMES)
    }
    assert report.scenes == ("turns-000001",)
    assert sound(copy, deep=True)
    left = Dataset.open(copy).videos["video"].to_pylist()
    assert "turns-000001-v0" not in left and len(left) == 5


@pytest.mark.parametrize("lost", ["index", "manifest.json"])
def test_repair_makes_the_table_of_videos_again(copy, videos, lost) -> None:
    if lost == "index":
        shutil.rmtree(copy / "index")
    else:
        (copy / lost).unlink()
        shutil.rmtree(copy / "index")
    repair(copy)
    assert read_manifest(copy) == read_manifest(videos) and sound(copy)


def test_no_such_video_names_the_nearest(videos) -> None:
    with pytest.raises(UsageError, match="Did you mean 'turns-000001-v0'"):
        Dataset.open(videos).video("turns-00001-v0")


def test_order_of_keys() -> None:
    keys = [f"a-00000001-v{video}-f{frame:05d}" for video in (0, 2, 10) for frame in (0, 9, 10)]
    assert sorted(keys[::-1], key=pack_order) == keys
    assert scene_of(keys[0]) == "a-00000001" and pack_order("a-00000001") < pack_order(keys[0])
