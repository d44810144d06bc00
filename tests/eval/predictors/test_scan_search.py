"""A scan of each frame of a video: masks go into the views that see them and come back, over seam
and poles, and each frame is looked at as it is.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch

from panoforge.core.errors import UsageError
from panoforge.core.geometry.views import wrap_panorama
from panoforge.eval.config import EvalConfig, MergeConfig, ScanConfig, VideoConfig
from panoforge.eval.predictors import FrameInput, ObjectPrompt, ShownFrames
from panoforge.eval.predictors.load import load_model
from panoforge.eval.predictors.roles import video_predictor
from panoforge.eval.predictors.scan_search import ScanOfFrames, frame_scan
from panoforge.eval.scoring.metrics import jaccard
from panoforge.eval.views.merge import FrameLogits
from tests.eval.predictors.test_bfov_search import SIZE, WIDTH, as_logits, cap

PLACES = [(0, 0), (179, 10), (60, 80), (0, -88)]
SHOWN = 64


def config(**more: object) -> EvalConfig:
    return EvalConfig.model_validate(
        {"scan": {"size_px": SHOWN}, "model": {"image_size": SIZE}, **more}
    )


class Brightness:
    """Says of object k what is as bright as k is; those that a view does not hold are left out."""

    name, sees_labels, full_size = "brightness", False, False

    def __init__(self) -> None:
        self.prompts: Sequence[ObjectPrompt] = ()
        self.sizes: set[tuple[int, ...]] = set()

    def predict(
        self, frames: Sequence[FrameInput], prompts: Sequence[ObjectPrompt]
    ) -> Iterator[FrameLogits]:
        self.prompts = prompts
        for t in range(len(frames)):
            image = frames[t].image[..., 0].astype(int)
            self.sizes.add(image.shape)
            masks = [np.abs(image - 60 * prompt.id) < 20 for prompt in prompts]
            seen = [k for k, one in enumerate(masks) if one.any() and prompts[k].is_asked(t)]
            logits = np.array([as_logits(masks[k]) for k in seen], np.float32)
            yield FrameLogits(
                t, np.array(seen, np.int64), torch.from_numpy(logits.reshape(-1, *image.shape))
            )

    def look(self, frames: Sequence[FrameInput], prompts: Sequence[ObjectPrompt]) -> list[None]:
        return [None for _ in prompts]


def picture(masks: dict[int, np.ndarray]) -> np.ndarray:
    grey = np.zeros((WIDTH // 2, WIDTH), np.uint8)
    for number, mask in masks.items():
        grey[mask] = 60 * number
    return np.repeat(grey[..., None], 3, axis=2)


@pytest.mark.parametrize(("lon", "lat"), PLACES)
def test_what_the_views_say_is_the_mask_over_the_panorama(lon: float, lat: float) -> None:
    frames = [{1: cap(lon, lat, 20)}, {1: cap(lon + 40, lat, 20)}, {}]
    inner = Brightness()
    shown = ShownFrames([picture(one) for one in frames], lambda image: image)
    prompt = ObjectPrompt(1, {}, {0: as_logits(frames[0][1])})
    said = list(ScanOfFrames(inner, frame_scan(config())).predict(shown, [prompt]))
    assert [one.frame for one in said] == [0, 1, 2] and inner.sizes == {(SHOWN, SHOWN)}
    for one, true in zip(said[:2], frames, strict=False):
        assert one.objects.tolist() == [0] and tuple(one.logits.shape[1:]) == (WIDTH // 2, WIDTH)
        assert jaccard(one.logits[0].numpy() > 0, true[1]) > 0.93
    assert said[2].objects.tolist() == []  # nobody sees it there


def test_prompts_are_in_the_views_that_see_them_and_nothing_is_asked_before() -> None:
    inner, scan = Brightness(), frame_scan(config())
    early, late = cap(0, 0, 15), cap(180, 0, 15)
    shown = ShownFrames([picture({1: early}), picture({1: early, 2: late})], lambda image: image)
    prompts = [
        ObjectPrompt(1, {}, {0: as_logits(early)}),
        ObjectPrompt(2, {}, {1: as_logits(late)}),
    ]
    said = list(ScanOfFrames(inner, scan).predict(shown, prompts))
    assert [one.objects.tolist() for one in said] == [[0], [0, 1]]
    count = len(scan.views)
    assert min(inner.prompts[1].frames()) >= count > max(inner.prompts[0].frames())
    assert inner.prompts[1].shown == inner.prompts[1].frames()
    assert inner.prompts[0].shown == inner.prompts[0].frames() | set(range(count, 2 * count))
    whole = wrap_panorama(as_logits(early))
    sees = {n for n, view in enumerate(scan.views) if (view.sample(whole) > 0).any()}
    assert inner.prompts[0].frames() == sees and 0 < len(sees) < count


def test_a_real_sam2_follows_through_the_scans() -> None:
    torch.set_num_threads(1)
    asked = config(
        model={"size": "micro", "image_size": SIZE}, device="cpu", video={"search": "scan"}
    )
    predictor = video_predictor(load_model(asked).model, asked.video, asked)
    assert isinstance(predictor, ScanOfFrames) and predictor.name == "SAM2 + scan of each frame"
    mask = cap(178, 5, 25)
    shown = ShownFrames([picture({1: mask})] * 2, lambda image: image)
    said = list(predictor.predict(shown, [ObjectPrompt(1, {}, {0: as_logits(mask)})]))
    assert (
        jaccard(said[0].logits[0].numpy() > 0, mask) > 0.75
    )  # what it is given, through 16² logits
    assert len(said) == 2


def test_what_a_scan_of_frames_cannot_do_is_refused() -> None:
    scan = ScanOfFrames(Brightness(), frame_scan(config()))
    shown = ShownFrames([picture({})], lambda image: image)
    clicked = ObjectPrompt(7, {0: (np.zeros((1, 2)), np.ones(1, np.int32))})
    with pytest.raises(UsageError, match="object 7: a scan of each frame begins with masks"):
        list(scan.predict(shown, [clicked]))
    empty = ObjectPrompt(7, {}, {0: as_logits(np.zeros((WIDTH // 2, WIDTH), bool))})
    with pytest.raises(UsageError, match="object 7: its mask is empty"):
        list(scan.predict(shown, [empty]))
    for key, value in (("cycles", 2), ("reach_deg", 90.0)):
        with pytest.raises(UsageError, match=rf"scan\.{key} is {value}, and a scan of each frame"):
            frame_scan(config(scan={key: value}))


def test_the_scan_is_of_the_protocol_where_frames_are_scanned() -> None:
    scanned, whole = VideoConfig(search="scan"), VideoConfig()
    asked = [
        (ScanConfig(), MergeConfig()),
        (ScanConfig(overlap=0.2), MergeConfig()),
        (ScanConfig(), MergeConfig(rule="max")),
    ]
    assert len({str(scanned.protocol(*how)) for how in asked}) == 3
    assert [whole.protocol(*how) for how in asked] == [{}] * 3
