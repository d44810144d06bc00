"""Sphere clicks: the same direction in every frame, on its object, through batches and groups into
SAM2's prompts.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from train_small import small_config

from panoforge.core.geometry.sphere import angle_between, view_pixel_to_direction
from panoforge.core.shards.read import Dataset
from panoforge.train.data.clicks import click_prompt, clicks_of, prompted_frames
from panoforge.train.data.clips import build_clip, clip_views
from panoforge.train.data.loader import ClipSource
from panoforge.train.data.object_groups import object_groups
from panoforge.train.data.plan import clip_plan, prompt_rng

CONFIG = small_config(
    clip={"frames": 8, "flip": 0, "fov_jitter_deg": 5}, prompt={"sphere_click": 1.0}
)


@pytest.fixture(scope="module")
def batch(caps: Dataset):
    return ClipSource(caps, CONFIG).batch((0, 1))


def views_of(caps: Dataset, plan, clip) -> list:
    """The views of a clip: those of its scan from the frame whose masks it begins with."""
    views = clip_views(CONFIG.clip, plan, 128)
    return next(
        rotated
        for first in range(24)
        if (rotated := views[first:] + views[:first])
        and np.array_equal(clip.frames[0].objects[0].segment, seen_in(caps, plan, rotated[0], clip))
    )[:8]


def seen_in(caps: Dataset, plan, view, clip) -> np.ndarray:
    from panoforge.core.geometry.views import sample_view, wrap_panorama

    return (
        sample_view(wrap_panorama(caps[plan.sample].read("instance")), view, labels=True)
        == clip.frames[0].objects[0].object_id
    )


def test_a_click_is_one_direction_in_all_frames(caps: Dataset):
    several = 0
    for position in range(6):
        plan = clip_plan(CONFIG.clip, 0, position, caps.samples["width"].to_pylist())
        clip = build_clip(caps[plan.sample], plan, CONFIG.clip, 128, clicks=True)
        plain = build_clip(caps[plan.sample], plan, CONFIG.clip, 128)
        assert all(a.data.equal(b.data) for a, b in zip(clip.frames, plain.frames, strict=True))
        assert not hasattr(plain.frames[0].objects[0], "click")
        views = views_of(caps, plan, clip)
        for index, first in enumerate(clip.frames[0].objects):
            direction = view_pixel_to_direction(*first.click, views[0])
            seen = [
                (t, frame.objects[index])
                for t, frame in enumerate(clip.frames)
                if frame.objects[index].click
            ]
            assert seen[0][0] == 0
            for t, o in seen:
                assert angle_between(direction, view_pixel_to_direction(*o.click, views[t])) < 1e-6
                assert o.segment[round(o.click[1]), round(o.click[0])]
            several += len(seen) > 1
        mirrored = build_clip(
            caps[plan.sample], replace(plan, flip=True), CONFIG.clip, 128, clicks=True
        )
        for frame, twin in zip(clip.frames, mirrored.frames, strict=True):
            for o, p in zip(frame.objects, twin.objects, strict=True):
                assert (o.click is None) == (p.click is None)
                assert o.click is None or p.click == pytest.approx((127 - o.click[0], o.click[1]))
    assert several >= 3


def test_clicks_travel_with_batches_and_groups(batch, caps: Dataset):
    clicks = clicks_of(batch)
    assert (
        clicks.shape == (8, batch.masks.shape[1], 2)
        and not clicks[0].isnan().any()
        and clicks.isnan().any()
    )
    groups = list(object_groups(batch, 1))
    assert torch.equal(
        torch.cat([clicks_of(g) for g in groups], dim=1).nan_to_num(-1), clicks.nan_to_num(-1)
    )
    assert torch.equal(
        torch.cat([g.metadata.unique_objects_identifier for g in groups], dim=1),
        batch.metadata.unique_objects_identifier,
    )
    assert clicks_of(batch.to("cpu")) is not None
    assert clicks_of(ClipSource(caps, small_config()).batch((0,))) is None


def test_frames_are_prompted_where_all_objects_in_view_show_their_click():
    clicks, masks = torch.full((4, 2, 2), float("nan")), torch.zeros(4, 2, 8, 8, dtype=torch.bool)
    clicks[0], masks[0, :, 2, 2] = 2.0, True  # both seen
    clicks[1, 0], masks[1, 0, 2, 2] = 2.0, True  # one seen, the other out of view
    clicks[2, 0], masks[2, :, 2, 2] = 2.0, True  # both in view, one without its click
    assert prompted_frames(clicks, masks) == [0, 1]  # in frame 3 there is nothing
    prompt = click_prompt(clicks[1])
    assert prompt["point_coords"].tolist() == [[[2, 2]], [[0, 0]]] and prompt[
        "point_labels"
    ].tolist() == [[1], [-1]]


def prompts(model, batch, seed: int = 0) -> dict:
    model.rng = prompt_rng(seed, 0)
    torch.manual_seed(0)
    return model.prepare_prompt_inputs({}, batch)


def test_off_draws_what_sam2_draws_and_on_prompts_with_clicks(batch, tiny_model, monkeypatch):
    plain = [prompts(tiny_model, batch, seed) for seed in range(4)]
    monkeypatch.setattr(tiny_model, "sphere_click", 1.0)
    unclicked = type(batch)(
        img_batch=batch.img_batch,
        obj_to_frame_idx=batch.obj_to_frame_idx,
        masks=batch.masks,
        metadata=None,
        dict_key=batch.dict_key,
        batch_size=batch.batch_size,
    )
    for seed, was in enumerate(plain):
        same = prompts(tiny_model, unclicked, seed)  # a video without a sphere
        assert (
            same["init_cond_frames"] == was["init_cond_frames"]
            and same["use_pt_input"] == was["use_pt_input"]
        )
        found = prompts(tiny_model, batch, seed)
        frames = found["init_cond_frames"]
        assert frames == prompted_frames(clicks_of(batch), batch.masks) and frames[0] == 0
        assert sorted(frames + found["frames_not_in_init_cond"]) == list(range(8))
        assert (
            found["mask_inputs_per_frame"] == {}
            and sorted(found["point_inputs_per_frame"]) == frames
        )
        corrected = found["frames_to_add_correction_pt"]
        assert corrected[0] == 0 and 1 <= len(corrected) <= 2 and set(corrected) <= set(frames)


def test_a_clicked_step_has_a_loss_and_a_gradient(caps: Dataset, tiny_model, monkeypatch):
    from panoforge.train.losses.build import build_loss

    monkeypatch.setattr(tiny_model, "sphere_click", 1.0)
    batch = ClipSource(caps, small_config(prompt={"sphere_click": 1.0})).batch((0,))
    tiny_model.rng = prompt_rng(0, 0)
    loss = build_loss(CONFIG.loss)(tiny_model(batch), batch.masks, batch.masks.shape[1])["loss"]
    loss.backward()
    gradient = tiny_model.sam_prompt_encoder.point_embeddings[1].weight.grad
    assert torch.isfinite(loss) and gradient.abs().sum() > 0
    tiny_model.zero_grad(set_to_none=True)


def test_the_key_is_part_of_a_runs_identity_only_when_on():
    assert "sphere_click" not in small_config().numbers()["prompt"]
    assert small_config(prompt={"sphere_click": 0.5}).sha256() != small_config().sha256()
