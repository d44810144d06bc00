"""Closer looks as training data: what `scan_zoom` shows a model, and what it prompts it with."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from train_small import small_config

from panoforge.core.geometry.scan import ScanSpec, scan_views
from panoforge.core.geometry.sphere import angle_between, view_pixel_to_direction
from panoforge.core.geometry.views import wrap_panorama
from panoforge.core.shards.read import Dataset
from panoforge.eval.predictors import FrameInput, ObjectPrompt
from panoforge.eval.predictors.batched_sam2 import BatchedSam2
from panoforge.eval.views.frames import BfovFrame, PerspectiveFrame
from panoforge.train.data.clicks import clicks_of, places_of
from panoforge.train.data.clips import IMAGENET_MEAN, IMAGENET_STD
from panoforge.train.data.loader import ClipSource
from panoforge.train.data.object_groups import object_groups
from panoforge.train.data.plan import LOOK_LANE
from panoforge.train.data.sources.looks import Looks, choose_look, look_clip
from panoforge.train.model.build import build_model
from panoforge.train.model.scan_sam2 import moved

MIXTURE = {"scans": {"kind": "shards", "weight": 1}, "looks": {"kind": "looks", "weight": 1}}
PLAIN = {"flip": 0, "colour_jitter": 0, "grayscale": 0}
CONFIG = small_config(clip=PLAIN, mixture=MIXTURE)
SIZE = CONFIG.model.image_size


def chosen(caps: Dataset, plan) -> tuple:
    """Object, view and look of a plan, as the clip's."""
    views = scan_views(ScanSpec(90.0, 0.5, SIZE), plan.yaw0_deg)
    labels = caps[plan.sample].read("instance")
    rng = np.random.default_rng([plan.object_seed, LOOK_LANE])
    return choose_look(labels, views[plan.start :] + views[: plan.start], CONFIG.clip, rng, "")


@pytest.mark.parametrize("position", range(5))
def test_a_clip_is_a_view_and_the_look_that_scan_zoom_takes(caps: Dataset, position: int) -> None:
    plan = Looks("looks", caps, CONFIG).plan(position)
    sample = caps[plan.sample]
    clip = look_clip(sample, plan, CONFIG.clip, SIZE)
    id_, view, bfov = chosen(caps, plan)
    look = BfovFrame(bfov, SIZE)
    labels = wrap_panorama(sample.read("instance"))
    shown = [PerspectiveFrame(view).sample(labels, labels=True), look.sample(labels, labels=True)]
    (first,), (second,) = (frame.objects for frame in clip.frames)
    for o, ids in zip((first, second), shown, strict=True):
        assert o.object_id == id_ and np.array_equal(o.segment.numpy(), ids == id_)
    assert first.segment.any() and second.segment.any() and first.places is None
    direction = view_pixel_to_direction(*first.click, view)
    if second.click is not None:
        x, y = ((np.array(second.click) + 0.5) / SIZE * 2 - 1).tolist()
        assert angle_between(direction, bfov.directions(x, y)) < 1e-6
    truth = torch.from_numpy(np.where(shown[0] == id_, 20.0, -20.0))[None, None]
    prior = moved(truth, torch.from_numpy(second.places)[None])[0, 0].numpy()
    assert np.abs(prior).max() == pytest.approx(10)
    known = (np.abs(second.places) <= 1).all(axis=-1)
    assert (prior[~known] == 0).mean() > 0.9  # beside the frame's rim
    small = second.segment.numpy()[2::4, 2::4]
    assert ((prior > 0) == small)[known].mean() > 0.9
    mirrored = look_clip(sample, replace(plan, flip=True), CONFIG.clip, SIZE).frames[1].objects[0]
    assert np.array_equal(mirrored.segment.numpy()[:, ::-1], second.segment.numpy())
    back = mirrored.places[:, ::-1] * np.array([-1, 1])
    np.testing.assert_allclose(back[known], second.places[known], atol=1e-6)


def test_a_look_is_prompted_by_what_the_model_said_of_the_view(caps: Dataset) -> None:
    """And then says what evaluation's second look says of the same prompt."""
    source = ClipSource(caps, CONFIG)
    batch = source.batch((1,))  # the mixture's second forward pass is one of looks
    assert places_of(batch) is not None and batch.masks.shape[:2] == (2, 1)
    model = build_model(CONFIG.model, CONFIG.prompt, seed=0)[0].eval()
    with torch.no_grad():
        outs = model(batch)
    prior = moved(outs[0]["pred_masks"], places_of(batch)[1])
    assert prior.abs().max() > 0 and outs[1]["multistep_pred_multimasks"][0].shape[1] == 1
    click = clicks_of(batch)[1]
    image = batch.img_batch[1, 0].numpy().transpose(1, 2, 0) * IMAGENET_STD + IMAGENET_MEAN
    frame = FrameInput(np.clip(np.round(image * 255), 0, 255).astype(np.uint8), np.zeros(0))
    points = {} if click.isnan().any() else {0: (click.double().numpy(), np.ones(1, np.int32))}
    prompt = ObjectPrompt(1, points, {0: prior[0, 0].numpy()})
    (said,) = BatchedSam2(model).look([frame], [prompt])
    ours = outs[1]["pred_masks"][0, 0]
    if said is None:
        assert (ours == -1024).all()
    else:
        np.testing.assert_allclose(said.numpy(), ours.numpy(), atol=0.05)


def test_looks_are_dealt_out_grouped_and_taught(caps: Dataset) -> None:
    config = small_config(clip=PLAIN, mixture=MIXTURE, clips_per_forward=2, clips_per_step=4)
    batch = ClipSource(caps, config).batch((2, 3))
    assert batch.masks.shape[:2] == (2, 2)
    places = places_of(batch)
    assert places[0].isnan().all() and not places[1].isnan().any()
    groups = list(object_groups(batch, 1))
    assert torch.equal(torch.cat([places_of(g)[1] for g in groups]), places[1])
    model = build_model(config.model, config.prompt, seed=0)[0].train()
    model.rng = np.random.default_rng(0)
    outs = model(batch)
    outs[1]["multistep_pred_multimasks_high_res"][0].sum().backward()
    taught = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert "sam_mask_decoder" in taught and "sam_prompt_encoder" in taught


def test_looks_come_from_the_runs_own_panoramas() -> None:
    with pytest.raises(ValidationError, match="looks takes no folder"):
        small_config(mixture={"a": {"kind": "looks", "weight": 1, "folder": "x"}})
