"""Clips of the run's own videos: frames in time, ids that last, a scan over moving frames."""

import itertools

import numpy as np
import pytest
import torch
import videos
from pydantic import ValidationError
from train_small import small_config

from panoforge.core.errors import DataError
from panoforge.core.geometry.views import sample_view, wrap_panorama
from panoforge.core.names import frame_key
from panoforge.core.shards.read import Dataset
from panoforge.train.config import TrainConfig
from panoforge.train.data.clips import clip_views
from panoforge.train.data.loader import ClipSource
from panoforge.train.data.plan import prompt_rng
from panoforge.train.model.build import build_model

PLAIN = {"flip": 0, "colour_jitter": 0, "grayscale": 0, "max_objects": 3}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("videos")
    return Dataset.open(videos.dataset_of_videos(folder, scenes=4, frames=6), "train")


def config(kind: str, step: int = 1, **clip: object) -> TrainConfig:
    frames_are = "panorama" if kind == "video" else "views"
    return small_config(
        clip={**PLAIN, "frames": 4, "frames_are": frames_are, **clip},
        mixture={"own": {"kind": kind, "weight": 1, "frame_step": step}},
    )


def ids_of(dataset: Dataset, video: str, frame: int) -> np.ndarray:
    return dataset.by_key(frame_key(video, frame), ("instance",)).read("instance")


@pytest.mark.parametrize("step", [1, 2])
def test_frames_follow_each_other_and_ids_last(dataset: Dataset, step: int) -> None:
    """Frame t shows the video's frame at the walk's t-th place, rolled to one yaw for all."""
    source = ClipSource(dataset, config("video", step)).mixture.sources[0]
    gone = 0
    for position in range(8):
        plan, clip = source.plan(position), source.clip(position)
        video = source.key(position)
        path = source.paths(plan)[0]
        steps = {abs(later - t) for t, later in itertools.pairwise(path)}
        assert len(path) == 4 and steps == {step}
        if step == 1:
            assert path == list(range(path[0], path[0] + 4))
        shift = round(plan.yaw0_deg / 360 * 128)
        for t, frame in zip(path, clip.frames, strict=True):
            labels = np.roll(ids_of(dataset, video, t), -shift, axis=1)
            for o in frame.objects:
                squeezed = np.repeat(labels, 2, axis=0)
                assert np.array_equal(o.segment.numpy(), squeezed == o.object_id)
        gone += any(not o.segment.any() for frame in clip.frames for o in frame.objects)
        assert all(o.segment.any() for o in clip.frames[0].objects)
    assert gone or step == 2  # the ball goes behind the pillar, and keeps its id


def test_a_video_shorter_than_the_clip_is_walked_there_and_back(dataset: Dataset) -> None:
    source = ClipSource(dataset, config("video", frames=10)).mixture.sources[0]
    assert source.paths(source.plan(0)) == [[0, 1, 2, 3, 4, 5, 4, 3, 2, 1]]
    assert len(source.clip(0).frames) == 10
    backwards = ClipSource(dataset, config("video", frames=6, reverse=1)).mixture.sources[0]
    assert backwards.paths(backwards.plan(0)) == [[5, 4, 3, 2, 1, 0]]


def test_a_leaning_camera_leans_alike_in_all_frames(dataset: Dataset) -> None:
    upright, leant = (
        ClipSource(dataset, config("video", tilt_jitter_deg=tilt)).mixture.sources[0].clip(2)
        for tilt in (0.0, 40.0)
    )
    area = torch.sin(torch.pi * (torch.arange(128) + 0.5) / 128)[:, None]
    for a, b in zip(upright.frames, leant.frames, strict=True):
        for one, other in zip(a.objects, b.objects, strict=True):
            assert one.object_id == other.object_id
            shown, again = ((o.segment * area).sum().item() for o in (one, other))
            assert again == pytest.approx(shown, rel=0.1, abs=20)
    assert not torch.equal(upright.frames[0].objects[0].segment, leant.frames[0].objects[0].segment)


def scanned(dataset: Dataset, video: str, path: list[int], views: tuple) -> list[np.ndarray]:
    """Ids of view t of the video's frame `path[t]`."""
    panoramas = (wrap_panorama(ids_of(dataset, video, t)) for t in path)
    return [sample_view(p, view, labels=True) for p, view in zip(panoramas, views, strict=False)]


def test_a_scan_of_a_video_moves_on_with_it(dataset: Dataset) -> None:
    """Frame t is view t of the scan, of the video's frame t; a still scan would be another."""
    asked = config("scan_of_video")
    source, moved = ClipSource(dataset, asked).mixture.sources[0], 0
    for position in range(4):
        plan, clip = source.plan(position), source.clip(position)
        path, views = source.paths(plan)[0], clip_views(asked.clip, plan, 128)
        ids = [o.object_id for o in clip.frames[0].objects]
        found = [[o.segment.numpy() for o in frame.objects] for frame in clip.frames]

        def matches(shown: list[np.ndarray], found: list = found, ids: list[int] = ids) -> bool:
            return all(
                np.array_equal(mask, labels == id_)
                for masks, labels in zip(found, shown, strict=True)
                for mask, id_ in zip(masks, ids, strict=True)
            )

        video = source.key(position)
        orders = [views[s:] + views[:s] for s in range(len(views))]
        right = [order for order in orders if matches(scanned(dataset, video, path, order))]
        assert right
        moved += not any(matches(scanned(dataset, video, [path[0]] * 4, order)) for order in orders)
    assert moved


def test_it_is_the_same_clip_again_and_trains(dataset: Dataset) -> None:
    asked = config("video")
    source = ClipSource(dataset, asked)
    one, other = source.batch((3,)), ClipSource(dataset, asked).batch((3,))
    assert torch.equal(one.img_batch, other.img_batch) and torch.equal(one.masks, other.masks)
    assert source.keys([3]) == [source.mixture.sources[0].key(3)]
    model, _ = build_model(asked.model, asked.prompt)
    model.rng = prompt_rng(0, 0)
    assert len(model(one)) == 4


def test_what_does_not_fit_is_refused(caps: Dataset) -> None:
    with pytest.raises(ValidationError, match=r"mixture\.own is of kind video, .* to panorama"):
        config("video", frames_are="views")
    with pytest.raises(ValidationError, match=r"kind scan_of_video, .* to views, it is panorama"):
        config("scan_of_video", frames_are="panorama")
    with pytest.raises(DataError, match=r"mixture\.own: .* holds no videos in the split"):
        ClipSource(caps, config("video"))
