"""Clips hold what the panorama holds: masks against the label map, areas against geometry, damage
against silence.
"""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from train_small import small_config

from panoforge.core.errors import DataError
from panoforge.core.geometry.sphere import view_area_sr
from panoforge.core.geometry.views import sample_view, wrap_panorama
from panoforge.core.parallel import prefetched
from panoforge.core.shards.read import Dataset, Sample
from panoforge.train.data.clips import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    areas_sr,
    build_clip,
    choose_objects,
    clip_views,
    collate,
    jitter_colours,
)
from panoforge.train.data.plan import clip_plan

PLAIN = small_config(clip={"flip": 0, "colour_jitter": 0, "grayscale": 0}).clip


def plan_of(caps: Dataset, position: int = 0, settings=PLAIN):
    return clip_plan(settings, 0, position, caps.samples["width"].to_pylist())


def test_solid_angles_of_a_cube_face_are_a_sixth_of_the_sphere():
    assert view_area_sr(90.0, 257).sum() == pytest.approx(4 * np.pi / 6, rel=1e-4)
    labels = np.zeros((64, 64), np.uint16)
    labels[:, 32:] = 3
    assert areas_sr(labels, 90.0) == pytest.approx([np.pi / 3, 0, 0, np.pi / 3], rel=1e-3)


@pytest.mark.parametrize("position", range(6))
def test_masks_are_those_of_the_label_map(caps: Dataset, position: int):
    plan = plan_of(caps, position)
    sample = caps[plan.sample]
    clip = build_clip(sample, plan, PLAIN, 128)
    assert len(clip.frames) == 3
    ids = [o.object_id for o in clip.frames[0].objects]
    assert 1 <= len(ids) <= 2 and ids == sorted(set(ids))
    views = clip_views(PLAIN, plan, 128)
    labels = wrap_panorama(sample.read("instance"))
    frames = [sample_view(labels, view, labels=True) for view in views]
    first = next(
        t
        for t, frame in enumerate(frames)
        if (areas_sr(frame, 90.0)[1:] >= PLAIN.min_area_sr).any()
    )
    for t, frame in enumerate(clip.frames):
        assert [o.object_id for o in frame.objects] == ids  # an absent object keeps its place
        for o in frame.objects:
            assert np.array_equal(
                o.segment.numpy(), frames[(first + t) % len(frames)] == o.object_id
            )
    for o in clip.frames[0].objects:
        assert areas_sr(frames[first], 90.0)[o.object_id] >= PLAIN.min_area_sr


def test_colours_come_back_from_normalisation(caps: Dataset):
    plan = plan_of(caps)
    sample = caps[plan.sample]
    clip = build_clip(sample, replace(plan, start=0), PLAIN, 128)
    image = clip.frames[0].data.numpy().transpose(1, 2, 0) * IMAGENET_STD + IMAGENET_MEAN
    rgb = wrap_panorama(sample.read("rgb"))
    candidates = [sample_view(rgb, view) for view in clip_views(PLAIN, replace(plan, start=0), 128)]
    assert min(np.abs(image * 255 - c).max() for c in candidates) < 0.01


def test_flip_mirrors_images_and_masks_alike(caps: Dataset):
    plan = plan_of(caps)
    plain, flipped = (
        build_clip(caps[plan.sample], replace(plan, flip=f), PLAIN, 128) for f in (False, True)
    )
    for a, b in zip(plain.frames, flipped.frames, strict=True):
        assert np.array_equal(a.data.numpy()[:, :, ::-1], b.data.numpy())
        for o, p in zip(a.objects, b.objects, strict=True):
            assert np.array_equal(o.segment.numpy()[:, ::-1], p.segment.numpy())


def test_reverse_walks_the_same_scan_backwards(caps: Dataset):
    plan = plan_of(caps)
    forward, backward = (
        clip_views(PLAIN, replace(plan, start=0, reverse=r), 128) for r in (False, True)
    )
    assert backward == forward[::-1] and len(forward) == 24


def test_absent_frames_happen_and_are_kept(caps: Dataset):
    """Over a dozen clips some object leaves the view: its masks are empty, not dropped."""
    clips = [
        build_clip(caps[plan.sample], plan, PLAIN, 128)
        for plan in (plan_of(caps, p) for p in range(12))
    ]
    assert any(
        not o.segment.any() for clip in clips for frame in clip.frames[1:] for o in frame.objects
    )
    assert all(o.segment.any() for clip in clips for o in clip.frames[0].objects)


def test_objects_are_drawn_by_area_where_asked():
    areas = np.array([5.0, 0.001, 0.1, 1.0, 0.0, 0.02])
    uniform = small_config(clip={"max_objects": 1, "area_power": 0}).clip
    weighted = small_config(clip={"max_objects": 1, "area_power": 2}).clip
    rng = np.random.default_rng(0)
    draws = {
        name: np.bincount([choose_objects(areas, s, rng)[0] for _ in range(300)], minlength=6)
        for name, s in (("uniform", uniform), ("weighted", weighted))
    }
    for counts in draws.values():
        assert counts[[0, 1, 4]].sum() == 0  # background, too small, absent
    assert draws["uniform"][[2, 3, 5]].min() > 60
    assert draws["weighted"][3] > 280
    assert choose_objects(np.array([5.0, 0.001]), uniform, rng) == []


def test_a_clip_begins_where_something_can_be_prompted(caps: Dataset):
    """A panorama with one small cap behind: whatever the start, the first frame shows it."""
    sample = caps[0]
    labels = np.zeros((128, 256), np.uint16)
    labels[60:70, 0:8] = 1
    sample = with_labels(sample, labels)
    for start in range(0, 24, 5):
        clip = build_clip(sample, replace(plan_of(caps), start=start), PLAIN, 128)
        assert clip.frames[0].objects[0].segment.any()


def with_labels(sample: Sample, labels: np.ndarray) -> Sample:
    from panoforge.core.sample.products import encode_product

    return replace(
        sample, members={**sample.members, "instance.zst": encode_product("instance.zst", labels)}
    )


def test_nothing_to_prompt_is_named(caps: Dataset):
    sample = with_labels(caps[0], np.zeros((128, 256), np.uint16))
    with pytest.raises(
        DataError,
        match=f"{sample.key}: no view of its scan shows an instance of at least clip.min_area_sr",
    ):
        build_clip(sample, plan_of(caps), PLAIN, 128)


def test_wrong_size_is_named(caps: Dataset):
    sample = with_labels(caps[0], np.ones((64, 128), np.uint16))
    with pytest.raises(DataError, match=r"128×64, the metadata say 256×128"):
        build_clip(sample, plan_of(caps), PLAIN, 128)


def test_damaged_shard_names_the_sample_and_is_not_replaced(caps_dataset: Path, tmp_path: Path):
    from panoforge.train.data.loader import ClipSource

    copy = tmp_path / "dataset"
    shutil.copytree(caps_dataset, copy)
    caps = Dataset.open(copy, "train")
    row = caps.samples.slice(2, 1).to_pylist()[0]
    with open(copy / row["shard"], "r+b") as file:
        file.seek(row["offset"] + row["length"] // 2)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))
    source = ClipSource(caps, small_config())
    bad = next(p for p in range(len(caps)) if source.keys([p]) == [row["key"]])
    with pytest.raises(DataError, match=row["key"]):
        source.batch((bad,))
    assert source.batch(((bad + 1) % len(caps),)).num_frames == 3


def test_batch_is_sam2s_own(caps: Dataset):
    clips = [
        build_clip(caps[plan.sample], plan, PLAIN, 128)
        for plan in (plan_of(caps, p) for p in range(2))
    ]
    batch = collate(clips)
    objects = sum(len(clip.frames[0].objects) for clip in clips)
    assert batch.img_batch.shape == (3, 2, 3, 128, 128) and batch.masks.shape == (
        3,
        objects,
        128,
        128,
    )
    assert batch.flat_img_batch.shape == (6, 3, 128, 128)
    for t in range(3):  # each object's image is its own clip's frame t
        for index, image_index in enumerate(batch.flat_obj_to_img_idx[t].tolist()):
            video = 0 if index < len(clips[0].frames[0].objects) else 1
            assert np.array_equal(batch.flat_img_batch[image_index], clips[video].frames[t].data)


def test_colour_jitter_is_consistent_bounded_and_off_when_off():
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    off = jitter_colours([image] * 2, PLAIN, np.random.default_rng(0))
    assert np.abs(off[0] - image).max() < 1e-3
    on = small_config(clip={"colour_jitter": 1, "grayscale": 0}).clip
    a, b = jitter_colours([image] * 2, on, np.random.default_rng(1))
    assert 0 < np.abs(a - image).mean() < 60 and not np.array_equal(a, b)
    grey = jitter_colours(
        [image], small_config(clip={"grayscale": 1}).clip, np.random.default_rng(0)
    )[0]
    assert np.ptp(grey, axis=2).max() < 1e-3


def test_prefetching_keeps_order_and_passes_errors_on():
    def build(n: int) -> int:
        if n == 7:
            raise DataError("sample seven is damaged")
        return n * n

    results = prefetched(range(20), build, threads=3, ahead=4)
    assert [next(results) for _ in range(7)] == [n * n for n in range(7)]
    with pytest.raises(DataError, match="seven"):
        next(results)
