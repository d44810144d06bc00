"""The merge against a plain float64 reference, and what it must not depend on."""

from typing import get_args

import numpy as np
import pytest
import torch

from panoforge.core.geometry.sphere import (
    View,
    direction_to_view_pixel,
    pixel_to_direction,
    view_rotation,
)
from panoforge.eval.config import EvalConfig, MethodName
from panoforge.eval.views import merge
from panoforge.eval.views.frames import ErpFrame, PerspectiveFrame, centre_weight
from panoforge.eval.views.merge import FrameLogits, merge_bands, merge_masks
from panoforge.eval.views.methods import get_method

WIDTH, HEIGHT = 48, 24


def bilinear(logits: np.ndarray, x: float, y: float) -> float:
    """Sample h×w at normalised (x, y), edges replicated, in float64."""
    height, width = logits.shape
    column = min(max((x + 1) / 2 * width - 0.5, 0), width - 1)
    row = min(max((y + 1) / 2 * height - 0.5, 0), height - 1)
    u, v = min(int(column), width - 2), min(int(row), height - 2)
    a, b = column - u, row - v
    upper = logits[v, u] * (1 - a) + logits[v, u + 1] * a
    lower = logits[v + 1, u] * (1 - a) + logits[v + 1, u + 1] * a
    return float(upper * (1 - b) + lower * b)


def reference(views: list[View], frames: list[FrameLogits], n: int, clamp: float) -> np.ndarray:
    """Weighted mean logits by a loop over objects, frames and pixels."""
    above, total = np.zeros((n, HEIGHT, WIDTH)), np.zeros((HEIGHT, WIDTH))
    for v in range(HEIGHT):
        for u in range(WIDTH):
            direction = pixel_to_direction(u, v, WIDTH, HEIGHT)
            for frame in frames:
                view = views[frame.frame]
                x, y, inside = direction_to_view_pixel(direction, view)
                if not inside:
                    continue
                x, y = (x + 0.5) / view.size_px * 2 - 1, (y + 0.5) / view.size_px * 2 - 1
                weight = float(centre_weight(x, y))
                total[v, u] += weight
                values = np.full(n, -clamp)
                for k, logits in zip(frame.objects, frame.logits.numpy(), strict=True):
                    values[k] = bilinear(np.clip(logits.astype(np.float64), -clamp, clamp), x, y)
                above[:, v, u] += weight * values
    return above / total


def smooth_logits(rng: np.random.Generator, count: int, size: int) -> torch.Tensor:
    """Blobs of the steepness that mask logits have, with SAM2's −1024 in one of them."""
    y, x = np.mgrid[:size, :size] / size
    out = [8 - 60 * np.hypot(x - rng.random(), y - rng.random()) for _ in range(count)]
    if count:
        out[0][: size // 3] = -1024
    return torch.tensor(np.array(out).reshape(count, size, size), dtype=torch.float32)


@pytest.fixture(params=["cpu", "gpu"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU's way to add objects, and a GPU's, which gives the same here."""
    if request.param == "gpu":
        monkeypatch.setattr(merge, "_by_runs", lambda device: False)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("yaw0_deg", [0.0, 1.3])  # whole columns, and a fraction of one
def test_merge_equals_the_float64_reference(yaw0_deg: float) -> None:
    rng = np.random.default_rng(0)
    config = EvalConfig.model_validate({"scan": {"size_px": 40, "yaw0_deg": yaw0_deg}})
    plan = get_method("scan").plan(WIDTH, HEIGHT, config)
    frames = []
    for index in range(len(plan.projections)):
        objects = np.sort(rng.choice(3, int(rng.integers(0, 4)), replace=False))
        frames.append(FrameLogits(index, objects, smooth_logits(rng, len(objects), 16)))
    expected = reference([p.view for p in plan.projections], frames, 3, 10.0)
    bands = list(merge_bands(plan.projections, frames, 3, WIDTH, HEIGHT, band_rows=7))
    found = np.concatenate([band.numpy() for _, band in bands], axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    masks = merge_masks(
        plan.projections, frames[::-1], 3, WIDTH, HEIGHT
    )  # the order of frames does not matter
    for k in range(3):
        certain = np.abs(expected[k]) > 1e-4
        np.testing.assert_array_equal(masks[k][certain], (expected[k] > 0)[certain])


@pytest.mark.parametrize("name", get_args(MethodName))
def test_methods_cover_the_sphere(name: str) -> None:
    plan = get_method(name).plan(
        WIDTH, HEIGHT, EvalConfig.model_validate({"scan": {"size_px": 32}})
    )
    one = [
        FrameLogits(i, np.array([0]), torch.full((1, 4, 4), 5.0))
        for i in range(len(plan.projections))
    ]
    ((_, merged),) = merge_bands(plan.projections, one, 1, WIDTH, HEIGHT, band_rows=HEIGHT)
    np.testing.assert_allclose(merged.numpy(), 5.0, atol=1e-4)


def test_a_window_over_the_seam_reads_back_what_it_sampled() -> None:
    from panoforge.core.geometry.views import wrap_panorama

    labels = np.random.default_rng(0).integers(0, 2, (HEIGHT, WIDTH)).astype(np.uint16)
    frame = ErpFrame(40, 5, 20, 15, WIDTH, HEIGHT, pad=3)
    sampled = frame.sample(wrap_panorama(labels), labels=True)
    assert sampled.shape == (21, 20) and not sampled[:3].any()
    logits = torch.from_numpy(sampled.astype(np.float32))[None] * 20 - 10
    merged = merge_masks([frame], [FrameLogits(0, np.array([0]), logits)], 1, WIDTH, HEIGHT)
    columns = np.arange(40, 60) % WIDTH
    np.testing.assert_array_equal(merged[0][5:20][:, columns], labels[5:20][:, columns] == 1)
    assert not merged[0][:5].any() and not merged[0][20:].any()
    x, y, inside = frame.project(pixel_to_direction(columns[3], 12, WIDTH, HEIGHT))
    assert inside and (x, y) == (pytest.approx(3), pytest.approx(12 - 5 + 3))
    assert not frame.project(pixel_to_direction(30, 12, WIDTH, HEIGHT))[2]


def test_absent_objects_lose_and_clamping_keeps_one_frame_from_outvoting_the_rest() -> None:
    views = [PerspectiveFrame(View(yaw, 0.0, 90.0, 8)) for yaw in (0.0, 20.0, -20.0)]
    says_yes = [FrameLogits(i, np.array([0]), torch.full((1, 2, 2), 8.0)) for i in (0, 1)]
    says_no = FrameLogits(2, np.array([0]), torch.full((1, 2, 2), -1024.0))
    left_out = FrameLogits(2, np.zeros(0, np.int64), torch.zeros(0, 2, 2))
    loud = merge_masks(views, [*says_yes, says_no], 1, WIDTH, HEIGHT)
    absent = merge_masks(views, [*says_yes, left_out], 1, WIDTH, HEIGHT)
    assert loud[0][HEIGHT // 2, WIDTH // 2]
    np.testing.assert_array_equal(loud[0], absent[0])
    assert not merge_masks(views, [], 2, WIDTH, HEIGHT).packed.any()


def test_labels_show_the_strongest_object() -> None:
    view = PerspectiveFrame(View(0.0, 0.0, 90.0, 8))
    both = FrameLogits(
        0, np.array([0, 1]), torch.stack([torch.full((2, 2), 1.0), torch.full((2, 2), 3.0)])
    )
    masks = merge_masks([view], [both], 2, WIDTH, HEIGHT)
    assert masks.labels[HEIGHT // 2, WIDTH // 2] == 2 and masks.labels[0, 0] == 0
    assert masks[0][HEIGHT // 2, WIDTH // 2] and masks[1][HEIGHT // 2, WIDTH // 2]


@pytest.mark.usefixtures("way")
def test_the_maximum_is_the_union_of_the_frames_masks() -> None:
    rng = np.random.default_rng(3)
    plan = get_method("scan").plan(
        WIDTH, HEIGHT, EvalConfig.model_validate({"scan": {"size_px": 40, "yaw0_deg": 1.3}})
    )
    frames = [
        FrameLogits(index, np.array([0, 2]), smooth_logits(rng, 2, 16))
        for index in range(len(plan.projections))
    ]
    alone = [
        torch.cat(
            [band for _, band in merge_bands(plan.projections, [frame], 3, WIDTH, HEIGHT)], dim=1
        )
        for frame in frames
    ]
    expected = torch.stack(alone).amax(dim=0)  # a frame is −clamp where it does not look
    bands = list(merge_bands(plan.projections, frames, 3, WIDTH, HEIGHT, rule="max", band_rows=7))
    found = torch.cat([band for _, band in bands], dim=1)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-4)
    masks = merge_masks(plan.projections, frames, 3, WIDTH, HEIGHT, rule="max")
    np.testing.assert_array_equal(masks[0], (found[0] > 0).numpy())
    assert not masks[1].any() and (expected[0] > 0).sum() > (alone[0][0] > 0).sum()


def test_the_faces_of_no_overlap_overlap_nowhere_and_the_path_has_no_jump() -> None:
    plan = get_method("scan_no_overlap").plan(
        200, 100, EvalConfig.model_validate({"scan": {"size_px": 32, "yaw0_deg": 7.3}})
    )
    assert plan.video and len(plan.projections) == 6
    seen = np.zeros((100, 200), int)
    for face in plan.projections:
        footprint = face.footprint(200, 100, (0, 100))
        assert footprint is not None
        for there, here in footprint.pieces(200):
            seen[:, there] += footprint.weight[:, here] > 0
    assert seen.min() == 1 and (seen > 1).mean() < 0.001  # but for pixels on an edge
    forward = [view_rotation(face.view)[:, 2] for face in plan.projections]
    steps = [float(a @ b) for a, b in zip(forward, [*forward[1:], forward[0]], strict=True)]
    np.testing.assert_allclose(steps, 0.0, atol=1e-9)  # 90° each, also from the last to the first


def test_the_least_overlap_of_a_grid_of_right_angles_is_a_third() -> None:
    config = EvalConfig.model_validate({"scan": {"size_px": 32}})
    assert len(get_method("scan_least_overlap").plan(200, 100, config).projections) == 18
