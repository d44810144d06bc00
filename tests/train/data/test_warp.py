"""Tilt, rotation and shear: against the formula, pixel by pixel; one warp for the whole clip;
clicks stay on their point.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from train_small import small_config

from panoforge.core.geometry.sphere import View, direction_to_lonlat, lonlat_to_direction
from panoforge.core.geometry.views import wrap_panorama
from panoforge.train.data.clips import build_clip
from panoforge.train.data.loader import ClipSource
from panoforge.train.data.plan import clip_plan
from panoforge.train.data.sources.draw import square_affine, warp_square
from panoforge.train.data.warp import (
    affine_matrix,
    frame_area_sr,
    look,
    tilt_matrix,
    unwarp_places,
    warp_places,
)

WARPED = {
    "tilt_jitter_deg": 20.0,
    "affine_deg": 25.0,
    "shear_deg": 20.0,
    "flip": 0,
    "colour_jitter": 0,
    "grayscale": 0,
}


def plan_of(**warp: float):
    return replace(clip_plan(small_config().clip, 0, 0, [256]), **warp)


def test_tilt_leans_the_zenith():
    for tilt, towards in ((30, 0), (10, 90), (45, -135)):
        up = tilt_matrix(tilt, towards) @ np.array([0.0, 0.0, 1.0])
        lon, lat = (math.degrees(float(x)) for x in direction_to_lonlat(up))
        assert (lat, lon) == (pytest.approx(90 - tilt), pytest.approx(towards))
    t = tilt_matrix(33, 70)
    assert np.allclose(t @ t.T, np.eye(3)) and np.linalg.det(t) == pytest.approx(1)


def test_a_look_is_its_formula():
    """Every pixel of a warped view shows the label that lies in the direction the formula gives."""
    width, height, size = 64, 32, 9
    labels = (np.arange(width * height).reshape(height, width)).astype(np.uint16)
    view, plan = (
        View(200.0, -30.0, 80.0, size),
        plan_of(tilt_deg=17.0, tilt_towards_deg=60.0, rotate_deg=20.0, shear_deg=-15.0),
    )
    seen = look(wrap_panorama(labels), view, plan, labels=True)
    a = np.linalg.inv(
        np.array(
            [
                [math.cos(math.radians(20)), -math.sin(math.radians(20))],
                [math.sin(math.radians(20)), math.cos(math.radians(20))],
            ]
        )
        @ np.array([[1, math.tan(math.radians(-15))], [0, 1]])
    )
    yaw, pitch = math.radians(200), math.radians(-30)
    right = np.array([math.cos(yaw), -math.sin(yaw), 0])
    ahead = np.array(
        [math.cos(pitch) * math.sin(yaw), math.cos(pitch) * math.cos(yaw), math.sin(pitch)]
    )
    down = np.cross(ahead, right)
    wrong = 0
    for y in range(size):
        for x in range(size):
            plane = a @ (
                np.array([x + 0.5 - size / 2, y + 0.5 - size / 2])
                / (size / 2 / math.tan(math.radians(40)))
            )
            d = tilt_matrix(17, 60) @ (plane[0] * right + plane[1] * down + ahead)
            lon, lat = math.atan2(d[0], d[1]), math.atan2(d[2], math.hypot(d[0], d[1]))
            column, row = (
                int((lon / (2 * math.pi) + 0.5) * width) % width,
                int((0.5 - lat / math.pi) * height),
            )
            wrong += seen[y, x] != labels[row, column]
    assert wrong <= 1  # a ray on the border of two pixels, at most


def test_without_a_warp_it_is_the_plain_view():
    from panoforge.core.geometry.views import sample_view

    panorama = wrap_panorama(
        np.random.default_rng(0).integers(0, 255, (64, 128, 3)).astype(np.uint8)
    )
    view = View(10.0, 5.0, 90.0, 32)
    assert np.array_equal(look(panorama, view, plan_of()), sample_view(panorama, view))
    tilted = look(panorama, view, plan_of(rotate_deg=1e-9)).astype(
        int
    )  # the other path, at no warp
    assert np.abs(tilted - sample_view(panorama, view)).max() <= 2  # both round to 1/32 pixel


def test_solid_angles_of_a_whole_sphere_of_rotated_views():
    view = View(0.0, 0.0, 90.0, 64)
    assert 6 * frame_area_sr(plan_of(rotate_deg=30.0), view).sum() == pytest.approx(
        4 * math.pi, rel=1e-3
    )


def test_places_go_there_and_back():
    plan = plan_of(rotate_deg=12.0, shear_deg=8.0)
    places = np.random.default_rng(0).uniform(0, 63, (5, 2))
    assert np.allclose(unwarp_places(warp_places(places, plan, 64), plan, 64), places)
    assert np.allclose(warp_places(np.array([31.5, 31.5]), plan, 64), 31.5)


def test_a_clips_frames_share_their_warp_and_clicks_stay_on_their_point(caps):
    """The click's direction, undone frame by frame, is one direction."""
    settings = small_config(clip={**WARPED, "frames": 8, "min_area_sr": 0.02}).clip
    seen = 0
    for position in range(12):
        plan = clip_plan(settings, 3, position, caps.samples["width"].to_pylist())
        assert (
            plan.tilt_deg
            and plan.rotate_deg
            and plan.shear_deg
            and plan == clip_plan(settings, 3, position, caps.samples["width"].to_pylist())
        )
        clip = build_clip(caps[plan.sample], plan, settings, 96, clicks=True)
        for k in range(len(clip.frames[0].objects)):
            for frame in clip.frames:
                o = frame.objects[k]
                if o.click is not None:
                    assert o.segment[round(o.click[1]), round(o.click[0])]
                    seen += frame is not clip.frames[0]
    assert seen >= 5


def test_warps_leave_earlier_draws_alone_and_stay_out_of_validation(caps):
    from panoforge.train.validate import validation_source

    plain, warped = (
        small_config().clip,
        small_config(clip={"tilt_jitter_deg": 10, "affine_deg": 10, "shear_deg": 5}).clip,
    )
    for position in range(5):
        a, b = (clip_plan(s, 0, position, [256] * 4) for s in (plain, warped))
        assert replace(
            b, tilt_deg=0.0, tilt_towards_deg=a.tilt_towards_deg, rotate_deg=0.0, shear_deg=0.0
        ) == replace(a, rotate_deg=0.0, shear_deg=0.0, tilt_deg=0.0)
    held_out = [
        validation_source(
            caps, small_config(clip={} if c is plain else {"tilt_jitter_deg": 10, "affine_deg": 10})
        )
        for c in (plain, warped)
    ]
    assert torch.equal(held_out[0].batch((0,)).img_batch, held_out[1].batch((0,)).img_batch)
    assert not torch.equal(
        ClipSource(caps, small_config(clip=WARPED)).batch((0,)).img_batch,
        ClipSource(caps, small_config(clip={**WARPED, "affine_deg": 0})).batch((0,)).img_batch,
    )


def test_squares_warp_about_their_middle():
    clip = small_config(clip={"affine_deg": 40, "shear_deg": 20}).clip
    matrix = square_affine(clip, np.random.default_rng(1), 33)
    assert np.allclose(matrix @ [16.0, 16.0, 1.0], [16.0, 16.0])
    mask = np.zeros((33, 33), bool)
    mask[14:19, 14:19] = True
    image = np.full((33, 33, 3), 200, np.uint8)
    assert warp_square(mask, matrix)[16, 16] and warp_square(mask, matrix).dtype == bool
    eighth = affine_matrix(45, 0)
    turned = warp_square(image, np.column_stack([eighth, 16 - eighth @ [16, 16]]))
    assert (
        np.array_equal(turned[0, 0], [124, 116, 104]) and turned[16, 16, 0] == 200
    )  # ImageNet's mean where nothing was
    half = np.zeros((33, 33), bool)
    half[:, 17:] = True  # to the right of the middle: under a quarter turn, below it
    assert warp_square(half, np.column_stack([affine_matrix(90, 0), [32.0, 0.0]]))[25, 16]


def test_direction_formula_agrees_with_the_sphere():
    assert np.allclose(tilt_matrix(90, 0) @ [0, 0, 1], lonlat_to_direction(0, 0))
