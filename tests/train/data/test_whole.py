"""Clips of whole panoramas that lean while they turn, against the rays of single pixels."""

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from train_small import small_config

from panoforge.core.shards.read import Dataset
from panoforge.eval.config import EvalConfig
from panoforge.train.data.loader import ClipSource
from panoforge.train.data.sources.whole import about_vertical, leaning
from panoforge.train.data.warp import tilt_matrix

PLAIN = {"flip": 0, "colour_jitter": 0, "grayscale": 0, "frames": 4, "frames_are": "panorama"}


def source_of(caps: Dataset, sphere_click: float = 0.0, **clip: object) -> ClipSource:
    config = small_config(clip={**PLAIN, **clip}, prompt={"sphere_click": sphere_click})
    return ClipSource(caps, config)


def ray(lon_deg: float, lat_deg: float) -> np.ndarray:
    lon, lat = math.radians(lon_deg), math.radians(lat_deg)
    return np.array([math.sin(lon) * math.cos(lat), math.cos(lon) * math.cos(lat), math.sin(lat)])


def test_ids_are_those_of_the_pixels_that_rays_hit(caps: Dataset) -> None:
    """Frame t of a leaning clip, one pixel at a time, with its turn and lean written out."""
    source = source_of(caps, tilt_jitter_deg=40.0, turn_deg=25.0)
    shards = source.mixture.sources[0]
    plan = shards.plan(5)
    assert 1 < plan.tilt_deg <= 40
    labels = shards.sample(plan).read("instance")
    height, width = labels.shape
    clip = shards.clip(5)
    ids = [o.object_id for o in clip.frames[0].objects]
    lean = tilt_matrix(plan.tilt_deg, plan.tilt_towards_deg)
    rng = np.random.default_rng(0)
    for t, frame in enumerate(clip.frames):
        yaw = math.radians(plan.yaw0_deg + 25.0 * t)
        for v, u in rng.integers(0, 128, (200, 2)).tolist():
            x, y, z = lean @ ray((u + 0.5) / 128 * 360 - 180, 90 - (v + 0.5) / 128 * 180)
            lon = math.atan2(x, y) + yaw
            column = math.floor((lon / (2 * math.pi) + 0.5) * width) % width
            row = min(math.floor((0.5 - math.asin(max(-1, min(1, z))) / math.pi) * height), height)
            for id_, o in zip(ids, frame.objects, strict=True):
                assert bool(o.segment[v, u]) == (labels[row, column] == id_), (t, v, u)


def test_objects_go_through_the_latitudes_and_none_is_lost(caps: Dataset) -> None:
    upright, leant = (
        torch.cat([source_of(caps, turn_deg=40.0, **lean).batch((p,)).masks for p in range(6)], 1)
        for lean in ({}, {"tilt_jitter_deg": 40.0})
    )
    area = torch.sin(math.pi * (torch.arange(128) + 0.5) / 128)[:, None]

    def rows(masks: torch.Tensor) -> torch.Tensor:
        weights = masks * area  # of each object in each frame
        return (weights.sum(3) * torch.arange(128)).sum(2) / weights.sum((2, 3))

    assert (rows(upright) - rows(upright)[0]).abs().max() < 0.5
    assert (rows(leant) - rows(leant)[0]).abs().max() > 5
    sizes = [(masks * area).sum((2, 3)) for masks in (upright, leant)]
    assert torch.allclose(sizes[0][0], sizes[1].mean(0), rtol=0.1)


def test_a_lean_of_nothing_is_the_upright_picture() -> None:
    rng = np.random.default_rng(1)
    rgb = rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    labels = rng.integers(0, 5, (64, 64)).astype(np.uint16)
    (image,), (ids,) = leaning(rgb, labels, [np.eye(3)], 64)
    assert np.array_equal(ids, labels) and np.abs(image.astype(int) - rgb).max() <= 1


def test_a_ray_on_a_border_takes_the_pixel_after_it() -> None:
    """Panoramas finer by an even factor: every ray of a frame that does not lean meets a border."""
    labels = np.arange(256 * 128).reshape(128, 256).astype(np.uint16)
    rgb = np.zeros((128, 256, 3), np.uint8)
    for shift in (0, 10, 77):  # columns of the panorama
        turn = about_vertical(shift / 256 * 360)
        _, (ids,) = leaning(rgb, labels, [turn], 32)
        cell = np.arange(32)
        wanted = labels[(cell * 4 + 2)[:, None], (cell * 8 + 4 + shift)[None, :] % 256]
        assert np.array_equal(ids, wanted)


@pytest.mark.parametrize("flip", [0, 1])
@pytest.mark.parametrize("tilt", [0.0, 40.0])
def test_a_click_is_the_same_point_of_the_sphere_in_all_frames(
    caps: Dataset, tilt: float, flip: int
) -> None:
    source = source_of(caps, 1.0, tilt_jitter_deg=tilt, turn_deg=50.0, flip=flip)
    shards, seen = source.mixture.sources[0], 0
    for position in range(6):
        plan = shards.plan(position)
        lean = tilt_matrix(plan.tilt_deg, plan.tilt_towards_deg)
        for index in range(len(shards.clip(position).frames[0].objects)):
            points = []
            for t, frame in enumerate(shards.clip(position).frames):
                o = frame.objects[index]
                if o.click is None:
                    continue
                x, y = o.click
                x = 127 - x if flip else x
                shown = o.segment.flip(-1) if flip else o.segment
                assert shown[min(max(round(y), 0), 127), min(max(round(x), 0), 127)]
                a, b, c = lean @ ray((x + 0.5) / 128 * 360 - 180, 90 - (y + 0.5) / 128 * 180)
                yaw = math.radians(plan.yaw0_deg + 50.0 * t)
                lon = math.atan2(a, b) + yaw
                points.append(
                    [math.cos(lon) * math.hypot(a, b), math.sin(lon) * math.hypot(a, b), c]
                )
            seen += len(points)
            spread = np.abs(np.array(points) - points[0]).max()
            assert spread < (1e-6 if tilt else math.radians(360 / 256))  # upright: whole columns
    assert seen > 20


@pytest.mark.parametrize(
    ("clip", "key"),
    [
        ({"frames_are": "panorama", "fov_jitter_deg": 5}, "fov_jitter_deg"),
        ({"frames_are": "panorama", "fov_deg": 70}, "fov_deg"),
        ({"frames_are": "panorama", "affine_deg": 10}, "affine_deg"),
        ({"frames_are": "panorama", "trajectory": "spiral"}, "trajectory"),
        ({"turn_deg": 20}, "turn_deg"),
    ],
)
def test_settings_that_its_frames_do_not_read_are_refused(clip: dict, key: str) -> None:
    with pytest.raises(
        ValidationError, match=rf"{key} is .* does not read it.*Leave clip.{key} out"
    ):
        small_config(clip=clip)


@pytest.mark.parametrize(
    ("entry", "key"),
    [
        ({"kind": "shards", "weight": 1, "frame_step": 2}, "frame_step"),
        ({"kind": "coco", "weight": 1, "folder": "x", "annotations": "auto"}, "annotations"),
        ({"kind": "sav", "weight": 1, "folder": "x", "split": "val"}, "split"),
        ({"kind": "looks", "weight": 1, "min_area_share": 0.1}, "min_area_share"),
    ],
)
def test_settings_that_a_source_does_not_read_are_refused(entry: dict, key: str) -> None:
    with pytest.raises(ValidationError, match=rf"{key} is .* of kind {entry['kind']} does not"):
        small_config(mixture={"shards": {"kind": "shards", "weight": 1}, "other": entry})


@pytest.mark.parametrize(
    "methods", [["erp_patches"], ["direct"], ["scan", "erp_patches"], ["scan", "cubemap"]]
)
def test_a_reach_that_a_method_does_not_read_is_refused(methods: list[str]) -> None:
    with pytest.raises(ValidationError, match=r"scan\.reach_deg is 60\.0, and .* does not read it"):
        EvalConfig.model_validate({"methods": methods, "scan": {"reach_deg": 60}})
    EvalConfig.model_validate({"methods": ["direct", "scan"], "scan": {"reach_deg": 60}})
