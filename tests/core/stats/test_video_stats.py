"""Statistics of videos: against brute force on the frames, and what the page shows of them."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import videos
from browser import difference, open_tab

from panoforge.core.geometry.poses import world_from_pano
from panoforge.core.sample.metadata import Box3D
from panoforge.core.sample.video import InstanceTrack, ThingPose, comings_and_goings
from panoforge.core.shards.read import Dataset
from panoforge.core.stats import DatasetStats, dataset_statistics, played, write_report
from panoforge.core.stats.choice import pictured
from panoforge.core.stats.pixels import find_duplicates
from panoforge.core.stats.videos import across_deg, seen_runs, turns_deg, what_becomes

FRAMES = 9
RIGHT = videos.RIGHT


@pytest.fixture(scope="module")
def turns(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two scenes with two videos each, in which a ball passes slowly behind a pillar."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(videos, "STEP_DEG", 6.0)
        folder = tmp_path_factory.mktemp("turns")
        yield videos.dataset_of_videos(folder, scenes=2, videos=2, frames=FRAMES)


@pytest.fixture(scope="module")
def stats(turns: Path) -> DatasetStats:
    return dataset_statistics(turns)


def test_lengths_and_motion_are_those_of_the_frames(stats: DatasetStats) -> None:
    found = stats.videos
    assert found is not None and found.videos == 4 and found.fps == {"10": 4}
    assert (found.frames.summary.min, found.frames.summary.max) == (FRAMES, FRAMES)
    assert found.seconds.summary.mean == pytest.approx(FRAMES / videos.FPS)
    assert (found.ids, found.moving, found.deforming) == (12, 4, 0)
    assert found.moving_per_video.summary.max == 1
    turn, step = found.camera_turn_deg, found.camera_step_m
    assert turn is not None and step is not None
    assert (turn.summary.n, step.summary.n) == (4 * (FRAMES - 1), 4 * (FRAMES - 1))
    assert turn.summary.min == turn.summary.max == pytest.approx(videos.TURN_DEG)
    assert step.summary.max == 0


def test_motion_of_things_is_what_the_panorama_shows(turns: Path, stats: DatasetStats) -> None:
    """By hand: the ball's direction in each frame, in degrees, where both frames show it."""
    ways, seen = [], []
    for key in Dataset.open(turns).video("turns-000000-v0").frame_keys:
        sample = Dataset.open(turns).by_key(key, ["instance"])
        frame = int(key[-5:])
        ball = videos.centre(frame) * videos.DISTANCE_M[videos.MOVING] - (0, 0, 1.5)
        way = np.array(sample.meta.pose.world_from_pano).T @ ball
        ways.append(way / np.linalg.norm(way))
        seen.append(videos.MOVING in sample.read("instance"))
    assert not all(seen)
    expected = [
        np.degrees(np.arccos(a @ b))
        for a, b, both in zip(ways, ways[1:], np.logical_and(seen[1:], seen[:-1]), strict=False)
        if both
    ]
    found = stats.videos.thing_deg.summary
    assert found.n == 4 * len(expected)
    assert found.mean == pytest.approx(np.mean(expected), abs=1e-3)
    assert found.max == pytest.approx(np.max(expected), abs=1e-3)


def test_absences_and_timelines_are_those_of_the_label_maps(
    turns: Path, stats: DatasetStats
) -> None:
    dataset = Dataset.open(turns)
    seen = {id_: [] for id_ in videos.NAMES}
    for key in dataset.video("turns-000000-v0").frame_keys:
        there = np.unique(dataset.by_key(key, ["instance"]).read("instance"))
        for id_, frames in seen.items():
            frames.append(id_ in there)
    gone = "".join("01"[has] for has in seen[videos.MOVING]).strip("0").count("0")
    absences = stats.videos.absences
    assert gone > 1 and absences.frames.summary.max == gone  # one stretch, behind the pillar
    assert absences.frames.summary.n == absences.with_absence == 4
    assert absences.seconds.summary.max == pytest.approx(gone / videos.FPS)
    assert (absences.ids, absences.always_seen, absences.late, absences.lost) == (12, 8, 0, 0)
    lines = {line.video: line for line in stats.videos.timelines}
    assert len(lines) == 3 and {row.id for row in lines["turns-000000-v0"].rows} == set(seen)
    for row in lines["turns-000000-v0"].rows:
        said = [any(a <= frame < b for a, b in row.seen) for frame in range(FRAMES)]
        assert said == seen[row.id]
    assert [row.moves for row in lines["turns-000000-v0"].rows] == [True, False, False]


def test_stretches_of_frames() -> None:
    assert seen_runs([0, 4, 4, 0, 0, 1]) == [(1, 3), (5, 6)]
    assert seen_runs([1, 1]) == [(0, 2)]


def test_rotations_are_measured_whatever_their_axis() -> None:
    turns = [world_from_pano(yaw, pitch, 0.0) for yaw, pitch in ((0, 0), (0, 30), (0, 30))]
    turns += [
        world_from_pano(1e-3, 30, 0.0),
        -np.diag([1, 1, -1.0]) @ world_from_pano(0.001, 30, 0),
    ]
    found = turns_deg(np.array(turns))
    assert found[:2] == pytest.approx([30, 0]) and found[2] == pytest.approx(0.001)
    assert found[3] == pytest.approx(180)


def track(**fields: object) -> InstanceTrack:
    return InstanceTrack(
        **{"id": 1, "name": "n", "category": "c", "source_object": "o", "visibility": (1.0,) * 3}
        | {"pixels": (5, 5, 5), "entered": (), "left": ()}
        | fields
    )


@pytest.mark.parametrize(
    ("pixels", "motion", "true"),
    [
        ((1, 2, 3), "still", {"always_seen"}),
        ((0, 2, 3), "still", {"late"}),
        ((1, 0, 0), "deforms", {"lost", "deforming"}),
        ((1, 0, 3), "deforms", {"with_absence", "deforming"}),
        ((0, 2, 0), "still", {"late", "lost"}),
    ],
)
def test_what_becomes_of_an_id(pixels: tuple[int, ...], motion: str, true: set[str]) -> None:
    entered, left = comings_and_goings(pixels)
    found = what_becomes(track(pixels=pixels, motion=motion, entered=entered, left=left))
    assert +found == dict.fromkeys({"ids", *true}, 1)


def box(x: float, y: float) -> Box3D:
    return Box3D(center_m=(x, y, 0.0), size_m=(1.0, 1.0, 1.0), world_from_box=RIGHT)


def test_what_has_no_poses_is_where_its_boxes_are() -> None:
    """A thing a quarter around, then not known; from where the camera is, and as it is turned."""
    deforms = track(motion="deforms", boxes_3d=(box(2, 1), box(1, 2), None))
    here, straight = np.array([[1.0, 1.0, 0.0]] * 3), np.array([RIGHT] * 3)
    assert across_deg(deforms, here, straight) == pytest.approx([90])
    turned = np.array([world_from_pano(0, 0, 0), world_from_pano(60, 0, 0), np.eye(3)])
    other = track(motion="deforms", boxes_3d=(box(1, 2), box(1, 2), None))
    assert across_deg(other, here, turned) == pytest.approx([60])
    unseen = track(
        motion="rigid",
        poses=tuple(ThingPose(position_m=(x, 1.0, 0.0), world_from_rest=RIGHT) for x in (2, 3, 4)),
        pixels=(5, 0, 5),
        entered=(2,),
        left=(1,),
    )
    assert across_deg(unseen, here, straight).size == 0
    assert across_deg(track(motion="deforms"), here, straight).size == 0


def test_a_dataset_without_videos_says_nothing_of_them(caps_dataset: Path, tmp_path: Path) -> None:
    assert write_report(caps_dataset, tmp_path).videos is None
    assert "videos" not in json.loads((tmp_path / "report.json").read_text())
    page = (tmp_path / "report.html").read_text()
    for word in ("Videos", "panoVideo", "} videos", ".pv", "video.js", 'class="sphere video"'):
        assert word not in page, word


def test_frames_of_one_video_may_look_alike() -> None:
    look = bytes(16)
    assert find_duplicates(["a-v0-f00000", "a-v0-f00001"], [look] * 2).pairs == 0
    assert find_duplicates(["a-v0-f00000", "a-v1-f00001", "b"], [look] * 3).pairs == 3


def test_of_a_video_the_frame_in_its_middle_is_pictured(turns: Path) -> None:
    dataset = Dataset.open(turns)
    assert sorted(dataset.key(k) for k in pictured(dataset, 9)) == [
        f"turns-00000{scene}-v{video}-f00004" for scene in (0, 1) for video in (0, 1)
    ]


def test_what_is_played_is_capped_and_said(turns: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Dataset.open(turns)
    whole = played.played_videos(dataset, 2)
    assert [video.key for video in whole] == ["turns-000000-v0", "turns-000001-v0"]
    sphere = whole[0].sphere
    assert (sphere.step, sphere.frames, len(sphere.later), sphere.fps) == (1, FRAMES, 8, 10)
    assert set(sphere.layers[0].names) == set(videos.NAMES)
    assert "9 frames at 10 fps, 0.9 s, 3 ids, 1 of them moving" in whole[0].note
    assert "Here" not in whole[0].note
    monkeypatch.setattr(played, "MAX_FRAMES", 4)
    few = played.played_videos(dataset, 1)[0]
    assert (few.sphere.step, len(few.sphere.later)) == (3, 2)
    assert few.sphere.later[1].image == sphere.later[5].image  # frame 6
    assert "Here: 3 of 9 frames, one in 3; " in few.note
    monkeypatch.setattr(played, "WIDTHS", (128, 64))
    size = sum(len(f.image) + len(f.ids[0]) for f in few.sphere.later) * 3 // 2
    monkeypatch.setattr(played, "MAX_BYTES", size - 500)
    small = played.played_videos(dataset, 1)[0]
    assert (small.sphere.step, len(small.sphere.later)) == (3, 2)
    assert "64 of 128 pixels wide" in small.note
    monkeypatch.setattr(played, "MAX_BYTES", 10)
    least = played.played_videos(dataset, 1)[0]
    assert len(least.sphere.later) == 0 and "1 of 9 frames, one in 12" in least.note


@pytest.mark.browser
def test_the_page_plays_a_video(turns: Path, tmp_path: Path) -> None:
    stats = write_report(turns, tmp_path)
    data = (tmp_path / "report.json").read_bytes()
    assert DatasetStats.model_validate_json(data) == stats
    for width, dark in ((1280, False), (390, True)):
        with open_tab((tmp_path / "report.html").as_uri(), width, dark=dark) as tab:
            section = tab.page.locator("#videos")
            assert section.locator("script.video").count() == 2
            assert "2 of 4 videos can be played here" in section.inner_text()
            titles = section.locator("figcaption").all_inner_texts()
            assert {"The camera turns", "Absences", "turns-000000-v0"} <= set(titles)
            assert (tab.broken_images(), tab.overflow_px()) == (0, 0)
            tab.page.click("#videos figure:nth-child(2) button.zoom")
            tab.wait_for("document.querySelector('.ps').dataset.shown > 0")
            before = tab.shot_of(".ps-stage")
            tab.page.keyboard.press("Space")
            tab.wait_for("document.querySelector('.pv').dataset.frame > 3")
            end = time.monotonic() + 20
            while difference(tab.shot_of(".ps-stage"), before) < 1:
                assert time.monotonic() < end, "frames go by and the picture stays"
            assert (tab.console, tab.requests) == ([], [])
