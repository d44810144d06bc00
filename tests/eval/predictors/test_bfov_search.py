"""BFoV search: what a region shows comes back to its place, regions follow masks over seam and
pole, and objects of one batch say what they say alone.
"""

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from panoforge.core.errors import UsageError
from panoforge.core.geometry.bfov import Bfov, places_within
from panoforge.core.geometry.sphere import (
    angle_between,
    lonlat_to_direction,
    pixel_to_direction,
)
from panoforge.eval.config import EvalConfig, MergeConfig, ScanConfig, VideoConfig
from panoforge.eval.predictors import ObjectPrompt, ShownFrames
from panoforge.eval.predictors.batched_sam2 import BatchedSam2
from panoforge.eval.predictors.bfov_search import (
    OUTSIDE,
    BfovSam2,
    Search,
    on_panorama,
    view_of_mask,
)
from panoforge.eval.predictors.load import load_model
from panoforge.eval.predictors.roles import video_predictor
from panoforge.eval.predictors.shared_views import share_views
from panoforge.eval.scoring.metrics import jaccard

WIDTH, SIZE = 256, 64


@pytest.fixture(scope="module")
def model() -> object:
    torch.set_num_threads(1)
    config = {"model": {"size": "micro", "image_size": SIZE}, "device": "cpu"}
    return load_model(EvalConfig.model_validate(config)).model


def cap(lon_deg: float, lat_deg: float, radius_deg: float) -> np.ndarray:
    at = pixel_to_direction(
        np.arange(WIDTH)[None, :], np.arange(WIDTH // 2)[:, None], WIDTH, WIDTH // 2
    )
    centre = lonlat_to_direction(math.radians(lon_deg), math.radians(lat_deg))
    return angle_between(at, centre) <= math.radians(radius_deg)


def as_logits(mask: np.ndarray) -> np.ndarray:
    return np.where(mask, 10, -10).astype(np.float32)


def search(model: object) -> BfovSam2:
    return BfovSam2(BatchedSam2(model))


PLACES = [(0, 0), (179, 10), (-180, -40), (60, 80), (0, -88)]


@pytest.mark.parametrize(("lon", "lat"), PLACES)
def test_a_mask_comes_back_from_its_region(lon: float, lat: float, model: object) -> None:
    mask = cap(lon, lat, 12)
    region = search(model).region(mask)
    assert region is not None and 20 <= max(region.fov_deg) <= 130
    seen = view_of_mask(as_logits(mask), region, 128)
    assert 0.1 < (seen > 0).mean() < 0.35  # a disc in a frame of twice its width
    back = on_panorama(seen, region, mask.shape)
    assert jaccard(back > 0, mask) > 0.93
    assert back.min() == OUTSIDE or abs(lat) > 60


@pytest.mark.parametrize(("lon", "lat"), PLACES)
@pytest.mark.parametrize("fov", [10, 60, 120])
def test_no_pixel_of_a_view_is_left_out(lon: float, lat: float, fov: float) -> None:
    region = Bfov(lon, lat, math.tan(math.radians(fov / 2)), math.tan(math.radians(fov / 3)))
    rows, columns, found_x, found_y = places_within(region, WIDTH, WIDTH // 2)
    at = pixel_to_direction(
        np.arange(WIDTH)[None, :], np.arange(WIDTH // 2)[:, None], WIDTH, WIDTH // 2
    )
    x, y = region.places(at)
    sees = (np.abs(x) < 1) & (np.abs(y) < 1)
    inside = np.zeros(sees.shape, bool)
    inside[np.ix_(rows, columns)] = True
    assert sees.any() and not (sees & ~inside).any()
    window = np.ix_(rows, columns)
    assert np.allclose(found_x, x[window], equal_nan=True, atol=1e-6)
    assert np.allclose(found_y, y[window], equal_nan=True, atol=1e-6)
    if fov == 10 and abs(lat) < 60:
        assert inside.mean() < 0.02


@pytest.mark.parametrize(("lon", "lat"), PLACES)
def test_the_next_region_is_around_what_was_found(lon: float, lat: float, model: object) -> None:
    """An object that moves 8° is in the middle of the next region, over the seam and the pole."""
    predictor, mask = search(model), cap(lon, lat, 12)
    region = predictor.region(mask)
    moved = cap(lon + (0 if abs(lat) > 60 else 8), lat, 14)
    logits = torch.from_numpy(view_of_mask(as_logits(moved), region, 64))
    following = predictor.followed(region, logits, seen_in=region)
    expected = predictor.region(moved)
    assert following is not None and expected is not None
    off = angle_between(following.axes()[:, 2], expected.axes()[:, 2])
    assert math.degrees(float(off)) < 3
    assert following.fov_deg == pytest.approx(expected.fov_deg, rel=0.15)
    wide = Bfov(region.yaw_deg + 5, region.pitch_deg, 2 * region.tan_x, 2 * region.tan_y)
    shared = torch.from_numpy(view_of_mask(as_logits(moved), wide, 128))
    found = predictor.followed(region, shared, seen_in=wide)
    assert found is not None
    assert math.degrees(float(angle_between(found.axes()[:, 2], expected.axes()[:, 2]))) < 3


def test_a_lost_object_is_looked_for_ever_wider_and_then_everywhere(model: object) -> None:
    predictor = search(model)
    region = predictor.region(cap(20, 0, 8))
    widths = []
    for _ in range(10):
        region = predictor.followed(region, None, seen_in=region)
        if region is None:
            break
        widths.append(max(region.fov_deg))
    assert region is None and widths == sorted(widths) and len(widths) >= 2
    assert predictor.followed(None, None, seen_in=None) is None
    found = torch.from_numpy(as_logits(cap(20, 0, 8)[::2, ::2]))
    assert (
        predictor.followed(None, found, seen_in=None) is not None
    )  # found again in the whole panorama


def video(n_frames: int, places: list[tuple[float, float]]) -> tuple:
    def shown(t: int) -> np.ndarray:
        image = np.random.default_rng([5, t]).integers(0, 80, (WIDTH // 2, WIDTH, 3))
        for lon, lat in places:
            image[cap(lon + 3 * t, lat, 12)] = (250, 40, 40)
        return image.astype(np.uint8)

    prompts = [
        ObjectPrompt(k + 1, {}, {k % 2: as_logits(cap(lon + 3 * (k % 2), lat, 12))})
        for k, (lon, lat) in enumerate(places)
    ]
    return ShownFrames(range(n_frames), shown), prompts


def test_objects_say_together_what_they_say_alone(model: object) -> None:
    """Also one that begins a frame later."""
    frames, prompts = video(5, [(0, 0), (170, 30), (-90, -50)])
    together = list(search(model).predict(frames, prompts))
    assert [said.frame for said in together] == [0, 1, 2, 3, 4]
    for k, prompt in enumerate(prompts):
        for both, alone in zip(together, search(model).predict(frames, [prompt]), strict=True):
            at = np.flatnonzero(both.objects == k)
            assert len(at) == len(alone.objects)
            if len(at):
                assert both.logits.shape[1:] == (WIDTH // 2, WIDTH)
                assert torch.allclose(both.logits[at[0]], alone.logits[0], atol=1e-3)
    assert 1 not in together[0].objects and 1 in together[1].objects


def test_objects_close_together_are_encoded_once_and_found_in_their_places(
    model: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over the seam, and one that is far away has a view of its own."""
    frames, prompts = video(2, [(170, 5), (-168, -8), (20, 0)])
    predictor = BfovSam2(BatchedSam2(model), Search(share=4.0))
    encoded, encode = [], predictor.sam2._encode
    monkeypatch.setattr(
        predictor.sam2, "_encode", lambda views: encoded.append(len(views)) or encode(views)
    )
    said = list(predictor.predict(frames, prompts))
    assert encoded == [2, 2]  # three objects; of the second frame all, of the first two
    first = (said[0].logits[list(said[0].objects).index(0)] > 0).numpy()
    lost = first & ~cap(170, 5, 45)
    assert not lost.any()  # nothing is said beyond the view, and its place is on this side


def edges(region: Bfov) -> np.ndarray:
    side = np.linspace(-1, 1, 5)
    x, y = np.meshgrid(side, side)
    return region.directions(x, y)


@pytest.mark.parametrize("times", [1.0, 2.0, 4.0])
def test_a_shared_view_holds_all_that_share_it_and_none_too_small(times: float) -> None:
    rng = np.random.default_rng(3)
    together = 0
    for _ in range(40):
        regions: dict[int, Bfov | None] = {
            k: Bfov(float(rng.uniform(-180, 180)), float(rng.uniform(-80, 80)), *half)
            for k, half in enumerate(rng.uniform(0.15, 0.6, (8, 2)).tolist())
        }
        views = share_views({**regions, 90: None, 91: None}, times, 130)
        assert views.keys() == {*regions, 90, 91} and views[90] is None and views[91] is None
        for k, own in regions.items():
            view = views[k]
            assert view is not None and max(view.fov_deg) <= 130 + 1e-9
            assert view.tan_x <= times * own.tan_x + 1e-9
            assert view.tan_y <= times * own.tan_y + 1e-9
            x, y = view.places(edges(own))
            assert np.abs(x).max() <= 1 + 1e-6 and np.abs(y).max() <= 1 + 1e-6
        together += len(regions) - len({views[k] for k in regions})
    assert (together == 0) == (times == 1)


def test_an_object_too_wide_for_a_view_is_followed_as_whole_panoramas_are(model: object) -> None:
    frames, _ = video(3, [(0, 0)])
    mask = np.zeros((WIDTH // 2, WIDTH), bool)
    mask[80:] = True
    wide = BfovSam2(BatchedSam2(model), Search(max_fov_deg=30))
    said = list(wide.predict(frames, [ObjectPrompt(1, {}, {0: as_logits(mask)})]))
    whole = list(BatchedSam2(model).predict(frames, [ObjectPrompt(1, {}, {0: as_logits(mask)})]))
    for found, expected in zip(said, whole, strict=True):
        assert np.array_equal(found.objects, expected.objects)
        if len(found.objects):
            enlarged = torch.nn.functional.interpolate(
                expected.logits[None], (WIDTH // 2, WIDTH), mode="bilinear"
            )
            assert (found.logits - enlarged[0]).abs().max() < 0.05
    assert len(said[0].objects) == 1


def test_what_cannot_be_searched_or_remembered_is_refused(model: object) -> None:
    frames, _ = video(2, [(0, 0)])
    clicked = ObjectPrompt(7, {0: (np.zeros((1, 2)), np.ones(1, np.int32))})
    with pytest.raises(UsageError, match=r"object 7: BFoV search begins with one mask.*\[0\]"):
        list(search(model).predict(frames, [clicked]))
    with pytest.raises(UsageError, match=r"video\.memory is panosam2, and these weights have no"):
        video_predictor(model, VideoConfig(memory="panosam2"))
    with pytest.raises(ValidationError, match=r"video\.margin is 3\.0, and search: whole does not"):
        VideoConfig(margin=3.0)
    with pytest.raises(ValidationError, match=r"video\.share is 3\.0, and search: scan does not"):
        VideoConfig(search="scan", share=3.0)
    shared = video_predictor(model, VideoConfig(search="bfov", share=3.0))
    assert isinstance(shared, BfovSam2) and shared.search.share == 3
    assert video_predictor(model, VideoConfig(search="bfov")).name == "SAM2 + BFoV search"
    how = ScanConfig(), MergeConfig()
    assert VideoConfig(offload=True).protocol(*how) == {}
    assert VideoConfig(search="bfov").protocol(*how) == {"video": {"search": "bfov"}}
