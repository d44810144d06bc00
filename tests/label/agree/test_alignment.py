"""Depth of views that disagree in scale and shift: one solution over all overlaps."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench import round_room as solid
from panoforge.core.errors import DataError
from panoforge.core.geometry.sphere import View
from panoforge.core.shards.read import Dataset
from panoforge.eval.views.frames import PerspectiveFrame, Projection
from panoforge.label.agree.alignment import DepthAlignment, align
from panoforge.label.agree.merging import merge_depth
from panoforge.label.settings import AlignSettings
from panoforge.label.teachers.base import Dense, DepthMap, ViewImage, ask_dense
from panoforge.label.teachers.truth import Truth, TruthTeacher, dataset_truths
from panoforge.label.views.sets import ViewSetConfig, view_frames

WIDTH, SIZE = 256, 128
ROOM = solid.truth(WIDTH)


def answers(
    frames: Sequence[Projection], along: str = "axis", unit: str = "metres", truth: Truth = ROOM
) -> list[Dense]:
    """What truth says of each view: depth alone, in that unit."""
    said = []
    for index, frame in enumerate(frames):
        blank = np.zeros((frame.height, frame.width, 3), np.uint8)
        dense = ask_dense(
            TruthTeacher(lambda key: truth, along=along), ViewImage(blank, frame, index)
        )
        values = dense.depth.values
        values = (1 / values).astype(np.float32) if unit == "inverse" else values
        said.append(Dense(DepthMap(values, along, unit)))
    return said


def spoilt(said: Sequence[Dense], seed: int, noise: float = 0.0) -> list[Dense]:
    """Each times its own 0.5 to 2, and shifted by up to 20 % of its median."""
    rng, found = np.random.default_rng(seed), []
    for one in said:
        values = one.depth.values
        finite = values[np.isfinite(values)]
        shift = rng.uniform(-0.2, 0.2) * (np.median(finite) if finite.size else 0)
        values = values * (1 + noise * rng.standard_normal(values.shape))
        values = np.maximum(values + shift, 1e-3)
        values = 2 ** rng.uniform(-1, 1) * values
        found.append(Dense(replace(one.depth, values=values.astype(np.float32))))
    return found


def merged(
    frames: Sequence[Projection], said: Sequence[Dense]
) -> tuple[np.ndarray, DepthAlignment]:
    return merged_at(WIDTH, frames, said)


def merged_at(
    width: int, frames: Sequence[Projection], said: Sequence[Dense]
) -> tuple[np.ndarray, DepthAlignment]:
    found = align(frames, [one.depth for one in said])
    return merge_depth(frames, said, found, width, width // 2).distance, found


def abs_rel(distance: np.ndarray, truth: Truth, *, shift: bool, inverse: bool = False) -> float:
    """Mean relative error after one scale, and one shift where asked, for the whole panorama."""
    height, width = distance.shape
    weight = np.repeat(np.sin((np.arange(height) + 0.5) / height * np.pi), width)
    own, true = distance.ravel().astype(float), truth.depth_m.ravel().astype(float)
    if inverse:
        own, true = 1 / own, 1 / true
    columns = [own / true, 1 / true] if shift else [own / true]
    root = np.sqrt(weight)
    basis = np.stack(columns, axis=1) * root[:, None]
    found = np.linalg.lstsq(basis, root, rcond=None)[0]
    fitted = np.stack([own, np.ones_like(own)][: len(columns)], axis=1) @ found
    fitted, true = (1 / fitted, 1 / true) if inverse else (fitted, true)
    return float(np.average(np.abs(fitted - true) / true, weights=weight))


@pytest.mark.parametrize("kind", ["scan", "cube", "dense32"])
@pytest.mark.parametrize(
    ("along", "unit"),
    [("axis", "metres"), ("axis", "inverse"), ("ray", "relative"), ("ray", "inverse")],
)
def test_truth_of_any_scale_and_shift_comes_back(kind: str, along: str, unit: str) -> None:
    """Depth along rays leaves a shift of the whole free, as nothing in it says where zero is."""
    frames = view_frames(ViewSetConfig(kind=kind, size_px=SIZE), WIDTH, WIDTH // 2)
    for seed in (0, 1):
        said = spoilt(answers(frames, along, unit), seed)
        distance, found = merged(frames, said)
        error = abs_rel(distance, ROOM, shift=along == "ray", inverse=unit == "inverse")
        print(f"{kind} {along} {unit}: AbsRel {error:.2e}, {found.before:.2f} →"
              f" {found.residual:.1e}")  # fmt: skip
        assert not found.left_out and found.residual < 2e-3 < 0.1 < found.before
        assert error <= 5e-3


@pytest.mark.render
@pytest.mark.real
@pytest.mark.parametrize("kind", ["scan", "cube", "dense32"])
def test_truth_of_a_real_render_comes_back_too(kind: str, rendered_room: Path) -> None:
    """Things with edges, at each of which two views may see different depths half a pixel apart."""
    dataset = Dataset.open(str(rendered_room))
    truth = dataset_truths(dataset)(dataset.keys[0])
    height, width = truth.labels.shape
    assert np.isfinite(truth.depth_m).all()
    frames = view_frames(ViewSetConfig(kind=kind, size_px=height), width, height)
    said = spoilt(answers(frames, truth=truth), 0)
    distance, found = merged_at(width, frames, said)
    error = abs_rel(distance, truth, shift=False)
    print(f"{kind}: AbsRel {error:.2e}, {found.before:.2f} → {found.residual:.1e}")
    assert not found.left_out and found.residual < 2e-3 < 0.1 < found.before
    assert error <= 5e-3


def test_noise_and_a_view_that_contradicts_all_do_not_spoil_the_rest() -> None:
    frames = view_frames(ViewSetConfig(kind="scan", size_px=SIZE), WIDTH, WIDTH // 2)
    said = spoilt(answers(frames), 5, noise=0.03)
    values = said[7].depth.values
    said[7] = Dense(replace(said[7].depth, values=values.max() + values.min() - values))
    distance, found = merged(frames, said)
    assert found.left_out == (7,)
    assert abs_rel(distance, ROOM, shift=False) <= 0.02


def test_the_scale_of_the_whole_is_the_views_mean() -> None:
    frames = view_frames(ViewSetConfig(kind="scan", size_px=SIZE), WIDTH, WIDTH // 2)
    said = answers(frames)
    distance, found = merged(frames, said)
    assert np.abs(distance / ROOM.depth_m - 1).mean() < 2e-3
    assert np.abs(found.scale - 1).max() < 5e-3 and np.abs(found.shift).max() < 0.02


def test_shifts_can_be_left_alone() -> None:
    frames = view_frames(ViewSetConfig(kind="cube", size_px=SIZE), WIDTH, WIDTH // 2)
    said = [
        Dense(replace(one.depth, values=one.depth.values * np.float32(1 + 0.1 * k)))
        for k, one in enumerate(answers(frames))
    ]
    found = align(frames, [one.depth for one in said], AlignSettings(shift=False))
    assert np.abs(found.shift).max() < 1e-4
    ratio = found.scale * (1 + 0.1 * np.arange(6))
    assert np.ptp(ratio) < 2e-3 * ratio.mean()


def test_one_distance_everywhere_stays_one() -> None:
    """Nothing tells a shift there; scales are told all the same."""
    flat = Truth(ROOM.labels, ROOM.things, np.full_like(ROOM.depth_m, 3))
    frames = view_frames(ViewSetConfig(kind="scan", size_px=32), WIDTH, WIDTH // 2)
    for factor in (0.0, 0.1):
        said = [
            Dense(replace(one.depth, values=one.depth.values * np.float32(1 + factor * k)))
            for k, one in enumerate(answers(frames, "ray", truth=flat))
        ]
        distance, found = merged(frames, said)
        assert not found.left_out and np.ptp(distance) < 1e-4 * distance.mean()


def test_views_that_do_not_overlap_are_refused() -> None:
    frames = [PerspectiveFrame(View(yaw, 0, 60, 64)) for yaw in (0, 30, 120, 150)]
    with pytest.raises(DataError, match=r"4 views falls into 2 groups without overlap"):
        align(frames, [one.depth for one in answers(frames)])


def test_a_view_of_the_sky_alone_is_left_out_and_stays_sky() -> None:
    depth = ROOM.depth_m.copy()
    depth[: WIDTH // 8] = np.inf
    sky = Truth(ROOM.labels, ROOM.things, depth)
    frames = (
        *view_frames(ViewSetConfig(kind="scan", size_px=SIZE), WIDTH, WIDTH // 2),
        PerspectiveFrame(View(0, 90, 50, SIZE)),
    )
    distance, found = merged(frames, spoilt(answers(frames, truth=sky), 3))
    assert found.left_out == (24,)
    inside = np.isfinite(depth)
    assert (np.isfinite(distance) == inside).mean() > 0.99
