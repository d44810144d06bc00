"""One view near the clicks: seam and poles are places like any other; views are encoded once."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import synthetic
import torch
from annotating import Annotator, serving, wait_until

from panoforge.core.errors import UsageError
from panoforge.core.geometry.pixels import column_lon, row_lat
from panoforge.core.geometry.sphere import (
    View,
    angle_between,
    lonlat_to_direction,
    pixel_to_direction,
)
from panoforge.core.sample.products import encode_product
from panoforge.eval.config import EvalConfig
from panoforge.eval.interactive.clicks import SphereClick
from panoforge.eval.interactive.following.moving_view import laid_on
from panoforge.eval.interactive.near import GRID, KEPT_VIEWS, NearSegmenter, on_sphere
from panoforge.eval.interactive.segmenter import KeptFeatures
from panoforge.eval.interactive.serve.opening import Asked, predictors_of
from panoforge.eval.predictors import FrameInput, ObjectPrompt
from panoforge.eval.predictors.load import load_model
from panoforge.train.model.checkpoint_export import export_official

WIDTH, HEIGHT = 512, 256
MODEL = ("model.image_size=64", "device=cpu")


class ByColour:
    """What is coloured as the first point, or as the middle of the box, less what others are."""

    def __init__(self) -> None:
        self.kept: list[int] = []

    def keep(self, frames: Sequence[FrameInput]) -> None:
        self.kept += [id(frame.image) for frame in frames]

    def forget(self, frames: Sequence[FrameInput]) -> None:
        for frame in frames:
            self.kept.remove(id(frame.image))

    def look(
        self, frames: Sequence[FrameInput], prompts: Sequence[ObjectPrompt]
    ) -> list[torch.Tensor]:
        (frame,), (prompt,) = frames, prompts
        assert id(frame.image) in self.kept  # nothing is encoded on the way
        points, labels = prompt.points[0]
        image = frame.image.astype(int)
        if set(labels) == {2, 3}:
            points, labels = points.mean(axis=0, keepdims=True), np.array([1])
        found = np.zeros(image.shape[:2], bool)
        for (x, y), label in zip(np.rint(points).astype(int), labels, strict=True):
            assert 0 <= x < len(image) and 0 <= y < len(image)
            found[np.abs(image - image[y, x]).sum(axis=-1) < 215] = bool(label)
        return [torch.from_numpy(np.where(found, 9.0, -9.0))]


def cap(lon_deg: float, lat_deg: float, radius_deg: float) -> tuple[np.ndarray, np.ndarray]:
    """A panorama with one orange cap on blue, and its mask."""
    directions = pixel_to_direction(
        np.arange(WIDTH)[None], np.arange(HEIGHT)[:, None], WIDTH, HEIGHT
    )
    middle = lonlat_to_direction(np.radians(lon_deg), np.radians(lat_deg))
    mask = np.degrees(angle_between(directions, middle)) < radius_deg
    return np.where(mask[..., None], (250, 150, 20), (30, 60, 140)).astype(np.uint8), mask


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize(
    "at", [(0, 0), (180, 5), (-179, -40), (30, 88), (-120, -90), (67, 67), (22, -23)]
)
def test_a_thing_is_found_whole_wherever_it_is(at: tuple[float, float]) -> None:
    rgb, true = cap(*at, 9)
    near = NearSegmenter(rgb, ByColour(), 768)
    assert iou(near.mask([SphereClick(*at)]), true) > 0.96
    assert iou(near.mask_in(cap(*at, 13)[1]), true) > 0.96
    assert not near.mask([SphereClick(*at, positive=False)]).any()


@pytest.mark.parametrize("at", [*GRID[::3], GRID[-1]])
def test_only_the_part_that_shows_something_is_laid_on_the_sphere(at: tuple[float, float]) -> None:
    """As the whole view would be, for blots of all sizes anywhere in it."""
    rng = np.random.default_rng(3)
    view = View(*at, 100.0, 96)
    for size in (1, 5, 20, 60):
        found = np.full((64, 64), -3.0, np.float32)
        x, y = rng.integers(-size // 2, 64, 2).clip(0, 63)
        found[y : y + size, x : x + size] = rng.uniform(0.1, 5)
        whole = laid_on(found, view, np.zeros((HEIGHT, WIDTH), bool))
        assert np.array_equal(on_sphere(found, view, WIDTH, HEIGHT), whole)


def test_every_place_is_well_inside_the_view_that_is_taken_for_it() -> None:
    lon, lat = column_lon(np.arange(90), 90)[None], row_lat(np.arange(45), 45)[:, None]
    places = lonlat_to_direction(*np.broadcast_arrays(lon, lat))
    grid = np.stack([lonlat_to_direction(*np.radians(one)) for one in GRID])
    assert np.degrees(np.arccos((places @ grid.T).max(axis=-1))).max() < 32  # of 50


def test_what_one_view_does_not_see_another_click_brings() -> None:
    """A carpet around the south pole and half up the walls takes four clicks."""
    rgb, true = cap(0, -90, 80)
    near = NearSegmenter(rgb, ByColour(), 256)
    one = near.mask([SphereClick(0, -30)])
    assert 0.1 < iou(one, true) < 0.6 and not (one & ~true)[: HEIGHT // 2].any()
    clicks = [SphereClick(lon, -30) for lon in (0, 60, 120, 180, -120, -60)]
    whole = near.mask([*clicks, SphereClick(0, -90)])
    assert iou(whole, true) > 0.96
    off = near.mask([*clicks, SphereClick(0, 20, positive=False)])
    assert iou(off, near.mask(clicks)) > 0.99
    with pytest.raises(UsageError, match="wider than the view of 100°"):
        near.mask_in(true)


def test_features_are_kept_within_bounds_and_computed_once() -> None:
    sam2 = ByColour()
    near = NearSegmenter(cap(0, 0, 9)[0], sam2, 64)
    near.towards(1, 2)
    before = list(sam2.kept)
    near.mask([SphereClick(0, 0)])
    assert sam2.kept == before and len(before) == 1
    for lon, lat in GRID:
        near.towards(lon, lat)
    assert len(sam2.kept) == KEPT_VIEWS < len(GRID)
    near.let_go()
    assert not sam2.kept


def test_sam2_answers_on_the_page_by_one_view(tmp_path: Path) -> None:
    """A real (small, untrained) one: a click costs no encoding where one has looked before."""
    torch.set_num_threads(1)
    config = EvalConfig.model_validate(
        {"model": {"size": "tiny", "image_size": 64}, "device": "cpu", "seed": 3}
    )
    sam2 = KeptFeatures(load_model(config).model)
    state = sam2.model.state_dict()
    checkpoint = export_official(tmp_path / "tiny.pt", state, step=0)
    place = tmp_path / "place"
    place.mkdir()
    rgb, _ = synthetic.caps(np.random.default_rng(5), WIDTH, 6)
    (place / "a.png").write_bytes(encode_product("rgb.png", rgb))
    asked = Asked(place, tmp_path / "work", checkpoint=checkpoint, model="tiny", overrides=MODEL)
    assert predictors_of(asked).method == "near"
    with serving(asked) as server:
        ann = Annotator(server.server_port)
        picture = ann.picture("a.png")
        kept = server.studio.predictors
        ann.look(picture)
        ann.post(
            "/api/ready", picture=picture, session=ann.session, version=0, towards=[170.0, 60.0]
        )
        wait_until(lambda: picture in kept._ready and kept._ready[picture][0]._frames)
        state = ann.edit(picture, "click", lon_deg=170, lat_deg=60)
        assert len(kept._ready[picture][0]._frames) == 1
        mask = ann.mask(picture, state["objects"][0], WIDTH, HEIGHT)
    alone = NearSegmenter(rgb, sam2, 64)
    assert np.array_equal(mask, alone.mask([SphereClick(170, 60)])) and mask.any()
