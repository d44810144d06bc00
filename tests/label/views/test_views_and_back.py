"""Panorama → views → teacher → panorama: truth comes back as truth, over seam and poles too."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from bench import round_room as solid
from panoforge.core.errors import DataError
from panoforge.core.geometry.sphere import View, pixel_to_direction, view_pixel_to_direction
from panoforge.core.shards.read import Dataset
from panoforge.eval.views.frames import PerspectiveFrame, Projection
from panoforge.label.teachers.base import Dense, ViewImage, ask_dense, ask_entities, ask_panoptic
from panoforge.label.teachers.truth import Truth, TruthTeacher, dataset_truths
from panoforge.label.views.carry import carry_confidence, carry_depth, carry_normals
from panoforge.label.views.landing import Landing, land
from panoforge.label.views.look import look
from panoforge.label.views.sets import ViewSetConfig, view_frames

SETS = ("scan", "cube", "slices", "dense32")
WIDTH = 512
VIEW_PX = 320  # denser than the panorama, as views are


def frames_of(kind: str, width: int = WIDTH, size_px: int = VIEW_PX) -> tuple[Projection, ...]:
    return view_frames(ViewSetConfig(kind=kind, size_px=size_px), width, width // 2)


def blank(frame: Projection, index: int = 0, panorama: str = "") -> ViewImage:
    return ViewImage(np.zeros((frame.height, frame.width, 3), np.uint8), frame, index, panorama)


@pytest.fixture(scope="module")
def room() -> Truth:
    return solid.truth(WIDTH)


def carried(said: Dense, landing: Landing) -> tuple[np.ndarray, np.ndarray]:
    """Depth and normals of a view on the panorama's pixels."""
    return carry_depth(said.depth, landing)[0], carry_normals(said.normals, landing)


def inside(labels: np.ndarray, border_px: int) -> np.ndarray:
    """The pixels that are farther than that from every border of an instance.

    Columns wrap; along a row near a pole a pixel is narrow, so the border is wider there.
    """
    height, width = labels.shape
    wide = np.pad(labels, ((1, 1), (width // 2, width // 2)), mode="wrap")
    wide[0], wide[-1] = np.roll(wide[1], width // 2), np.roll(wide[-2], width // 2)
    edge = np.zeros(wide.shape, np.uint8)
    edge[:, 1:] |= wide[:, 1:] != wide[:, :-1]
    edge[1:] |= wide[1:] != wide[:-1]
    away = np.ones((height, width), bool)
    for row in range(height):
        reach = int(np.ceil(border_px / np.sin((row + 0.5) / height * np.pi)))
        rows = edge[max(0, row + 1 - border_px) : row + 2 + border_px].max(axis=0)
        near = cv2.dilate(rows[None], np.ones((1, min(2 * reach + 1, 2 * width - 1)), np.uint8))[0]
        away[row] = near[width // 2 : width // 2 + width] == 0
    return away


@pytest.mark.parametrize("kind", SETS)
@pytest.mark.parametrize("width", [256, 512])
def test_a_set_covers_the_sphere_and_neighbours_overlap(kind: str, width: int) -> None:
    seen = np.zeros(width * width // 2, int)
    landings = [land(frame, width, width // 2) for frame in frames_of(kind, width)]
    for landing in landings:
        seen[landing.pixels] += 1
        assert len(np.unique(landing.pixels)) == len(landing.pixels)
        assert (landing.border > 0).all() and landing.border.max() <= 1
    assert seen.min() >= 1
    tied, open_ = {0}, [0]  # from the first, every view is reached through overlaps
    while open_:
        own = landings[open_.pop()].pixels
        for k, other in enumerate(landings):
            if k not in tied and np.isin(other.pixels, own).mean() > 0.02:
                tied.add(k)
                open_.append(k)
    assert tied == set(range(len(landings)))


def test_the_slices_are_a3360v_s() -> None:
    frames = frames_of("slices", 512)
    assert [(f.u0, f.columns, f.rows) for f in frames] == [(448, 256, 256), (128, 256, 256),
                                                          (320, 256, 256)]  # fmt: skip
    assert len(frames_of("dense32")) == 32 and len(frames_of("scan")) == 24


@pytest.mark.parametrize("kind", SETS)
def test_true_ids_come_back_exact_outside_a_border_of_two_pixels(kind: str, room: Truth) -> None:
    """From every view alone; seam, zenith and nadir each hold a thing."""
    away = inside(room.labels, 2).ravel()
    assert away.mean() > 0.8
    teacher = TruthTeacher(lambda key: room)
    for index, frame in enumerate(frames_of(kind)):
        landing = land(frame, WIDTH, WIDTH // 2)
        said = ask_panoptic(teacher, blank(frame, index))
        back, true = landing.nearest(said.segment_ids), room.labels.ravel()[landing.pixels]
        wrong = (back != true) & away[landing.pixels]
        assert not wrong.any(), f"view {index}: {wrong.sum()} pixels"
        masks = ask_entities(teacher, blank(frame, index)).masks
        assert (landing.nearest(masks).sum(axis=0) == 1).all()


def worst(kind: str, along: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Relative error of depth and error of normals in degrees, by view and pixel; the pixels."""
    room = solid.truth(WIDTH)
    teacher = TruthTeacher(lambda key: room, along=along)
    away = inside(room.labels, 2).ravel()
    depth, angle, where = [], [], []
    for index, frame in enumerate(frames_of(kind)):
        landing = land(frame, WIDTH, WIDTH // 2)
        distance, turned = carried(ask_dense(teacher, blank(frame, index)), landing)
        counts = away[landing.pixels]
        true = room.depth_m.ravel()[landing.pixels]
        depth.append((np.abs(distance - true) / true)[counts])
        normals = room.normals.reshape(-1, 3)[landing.pixels]
        cross = np.linalg.norm(np.cross(turned, normals), axis=1)
        angle.append(np.degrees(np.arctan2(cross, (turned * normals).sum(1)))[counts])
        where.append(landing.pixels[counts])
    return np.concatenate(depth), np.concatenate(angle), np.concatenate(where)


@pytest.mark.parametrize("along", ["ray", "axis"])
@pytest.mark.parametrize("kind", ["scan", "cube", "dense32"])
def test_true_depth_and_normals_come_back(kind: str, along: str) -> None:
    depth, angle, _ = worst(kind, along)
    print(f"{kind}, {along}: depth {depth.mean():.2e}, 99 % {np.quantile(depth, 0.99):.2e};"
          f" normals {angle.mean():.3f}°, 99 % {np.quantile(angle, 0.99):.3f}°")  # fmt: skip
    assert depth.mean() <= 1e-3 and np.quantile(depth, 0.99) <= 1e-2
    assert angle.mean() <= 0.5 and np.quantile(angle, 0.99) <= 3


def test_sky_stays_sky_and_mixes_with_nothing() -> None:
    depth = np.full((WIDTH // 2, WIDTH), np.inf, np.float32)
    depth[WIDTH // 4 :] = 2
    sky = Truth(np.ones(depth.shape, np.uint16), {1: solid.TrueThing("wall", False)}, depth)
    frame = PerspectiveFrame(View(0, 0, 90, 64))
    landing = land(frame, WIDTH, WIDTH // 2)
    for along in ("ray", "axis"):
        said = ask_dense(TruthTeacher(lambda key: sky, along=along), blank(frame))
        back = carry_depth(said.depth, landing)[0]
        assert np.isinf(back).any()
        assert np.abs(back[np.isfinite(back)] - 2).max() < 0.03  # a pixel aside, no mixture


def test_normals_and_z_need_a_camera(room: Truth) -> None:
    frame = frames_of("slices")[0]
    with pytest.raises(DataError, match=r"need a perspective view, got a ErpFrame: take views"):
        TruthTeacher(lambda key: room).dense(blank(frame))


def test_confidence_is_the_border_s_times_the_teacher_s_own(room: Truth) -> None:
    frame = frames_of("scan")[1]
    said = ask_dense(TruthTeacher(lambda key: room), blank(frame))
    landing = land(frame, WIDTH, WIDTH // 2)
    alone = carry_confidence(said, landing)
    assert np.array_equal(alone, landing.border)
    middle = np.abs(landing.places).max(axis=1) < 0.05
    rim = np.abs(landing.places).max(axis=1) > 0.98
    assert alone[middle].min() > 0.89 and alone[rim].max() < 0.03
    own = np.full((VIEW_PX, VIEW_PX), 0.25, np.float32)
    half = carry_confidence(replace(said, confidence=own), landing)
    assert np.allclose(half, 0.25 * alone)


def test_what_teachers_see_is_the_view() -> None:
    """A picture whose colours are its directions: each pixel of a view holds its own."""
    at = pixel_to_direction(np.arange(512)[None, :], np.arange(256)[:, None], 512, 256)
    rgb = np.rint(at * 100 + 128).astype(np.uint8)
    frames = frames_of("scan", size_px=64)
    for view in look(rgb, frames, "key"):
        index = np.arange(64)
        true = view_pixel_to_direction(index[None, :], index[:, None], view.frame.view)
        true /= np.linalg.norm(true, axis=-1, keepdims=True)
        assert view.panorama == "key" and view.frame is frames[view.index]
        assert np.abs(view.rgb - (true * 100 + 128)).max() < 3
    with pytest.raises(DataError, match=r"500×256 is no equirectangular panorama"):
        next(look(rgb[:, :500], frames))


@pytest.mark.render
@pytest.mark.real
def test_truth_of_a_real_render_comes_back(rendered_room: Path) -> None:
    """Ids exact outside a border of 2 px; depth 0.1 %, normals 0.5° (means)."""
    dataset = Dataset.open(str(rendered_room))
    truths = dataset_truths(dataset)
    for key in dataset.keys:
        truth = truths(key)
        height, width = truth.labels.shape
        away = inside(truth.labels, 2).ravel()
        teacher = TruthTeacher(truths, along="axis")
        errors, angles = [], []
        for index, frame in enumerate(frames_of("scan", width, 512)):
            landing = land(frame, width, height)
            view = blank(frame, index, key)
            counts = away[landing.pixels]
            ids = landing.nearest(ask_panoptic(teacher, view).segment_ids)
            assert np.array_equal(ids[counts], truth.labels.ravel()[landing.pixels][counts])
            distance, turned = carried(ask_dense(teacher, view), landing)
            true = truth.depth_m.ravel()[landing.pixels]
            assert np.array_equal(np.isinf(distance)[counts], np.isinf(true)[counts])
            counts &= np.isfinite(true)
            errors.append((np.abs(distance - true) / true)[counts])
            normals = truth.normals.reshape(-1, 3)[landing.pixels]
            dot = np.clip((turned * normals).sum(axis=1), -1, 1)
            angles.append(np.degrees(np.arccos(dot))[counts])
        error, angle = np.concatenate(errors), np.concatenate(angles)
        print(f"{key}: depth {error.mean():.2e}, median {np.median(error):.2e};"
              f" normals {angle.mean():.3f}°, median {np.median(angle):.3f}°")  # fmt: skip
        assert error.mean() <= 1e-3
        assert angle.mean() <= 0.5
