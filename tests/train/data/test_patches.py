"""Windows of the panorama as clips: the pixels and the clicks that `erp_patches` shows."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError
from train_small import small_config

from panoforge.core.geometry.patches import PATCHES, patch_windows
from panoforge.core.geometry.pixels import resize_index
from panoforge.core.geometry.sphere import pixel_to_direction
from panoforge.core.geometry.views import wrap_panorama
from panoforge.core.shards.read import Dataset
from panoforge.eval.config import EvalConfig
from panoforge.eval.views.methods import get_method
from panoforge.train.data.loader import ClipSource
from panoforge.train.data.plan import clip_plan
from panoforge.train.data.sources.draw import square
from panoforge.train.data.sources.patches import patch_clip

CONFIG = small_config(
    clip={"frames_are": "patches", "frames": PATCHES, "flip": 0}, prompt={"sphere_click": 1.0}
)
SIZE = CONFIG.model.image_size


def plans(caps: Dataset) -> list:
    widths = caps.samples["width"].to_pylist()
    return [clip_plan(CONFIG.clip, 0, position, widths) for position in range(6)]


@pytest.mark.parametrize(("width", "height"), [(512, 256), (1000, 500), (4096, 2048)])
def test_a_panorama_has_as_many_windows_as_a_scan_has_views(width: int, height: int) -> None:
    assert len(patch_windows(width, height)) == PATCHES


def test_frames_and_clicks_are_those_that_evaluation_shows(caps: Dataset) -> None:
    followed = 0
    for plan in plans(caps):
        sample = caps[plan.sample]
        clip = patch_clip(sample, plan, CONFIG.clip, SIZE, clicks=True)
        labels = sample.read("instance")
        height, width = labels.shape
        turned = np.roll(labels, -round(plan.yaw0_deg / 360 * width), axis=1)
        frames = get_method("erp_patches").plan(width, height, EvalConfig()).projections
        shown = [frame.sample(wrap_panorama(turned), labels=True) for frame in frames]
        ids = [o.object_id for o in clip.frames[0].objects]
        masks = [[o.segment.numpy() for o in frame.objects] for frame in clip.frames]
        (first,) = [
            start
            for start in range(PATCHES)
            if all(
                np.array_equal(masks[t][k], square(shown[(start + t) % PATCHES] == i, SIZE))
                for t in range(PATCHES)
                for k, i in enumerate(ids)
            )
        ]
        assert all(mask.any() for mask in masks[0])
        for k in range(len(ids)):
            begin, side = frames[first], frames[first].columns
            x, y = (resize_index(c, SIZE, side) for c in clip.frames[0].objects[k].click)
            direction = pixel_to_direction(begin.u0 + x, begin.v0 + y, width, height)
            for t, frame in enumerate(clip.frames):
                u, v, inside = frames[(first + t) % PATCHES].project(direction)
                click = frame.objects[k].click
                if click is None:
                    place = [
                        min(max(round(resize_index(float(c), side, SIZE)), 0), SIZE - 1)
                        for c in (u, v)
                    ]
                    assert not inside or not masks[t][k][place[1], place[0]]
                else:
                    there = [resize_index(float(c), side, SIZE) for c in (u, v)]
                    assert inside and click == pytest.approx(there, abs=1e-6)
                    followed += t > 0
    assert followed > 10


def test_a_mirrored_clip_is_the_clip_mirrored(caps: Dataset) -> None:
    plan = plans(caps)[0]
    plain, mirrored = (
        patch_clip(caps[plan.sample], replace(plan, flip=flip), CONFIG.clip, SIZE, clicks=True)
        for flip in (False, True)
    )
    for frame, twin in zip(plain.frames, mirrored.frames, strict=True):
        for o, p in zip(frame.objects, twin.objects, strict=True):
            assert np.array_equal(o.segment.numpy()[:, ::-1], p.segment.numpy())
            assert (o.click is None) == (p.click is None)
            assert o.click is None or p.click == pytest.approx((SIZE - 1 - o.click[0], o.click[1]))


def test_a_source_of_patches_is_cut_and_batched_like_one_of_views(caps: Dataset) -> None:
    batch = ClipSource(caps, CONFIG).batch((0, 1))
    assert batch.img_batch.shape[:2] == (PATCHES, 2) and not batch.metadata.clicks[0].isnan().any()


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        ({"frames": 49}, "more than the 48 windows"),
        ({"frames": 8, "tilt_jitter_deg": 5}, "tilt_jitter_deg is 5"),
        ({"frames": 8, "affine_deg": 25}, "affine_deg is 25"),
        ({"frames": 8, "turn_deg": 5}, "turn_deg is 5"),
        ({"frames": 8, "fov_jitter_deg": 5}, "fov_jitter_deg is 5"),
    ],
)
def test_what_windows_cannot_do_is_refused(clip: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        small_config(clip={"frames_are": "patches", **clip})
