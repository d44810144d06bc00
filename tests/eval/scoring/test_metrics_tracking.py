"""S_dual, P_dual, P_angle and S_sphere against counted pixels, sampled spheres, and the toolkit's
steps written out as loops.
"""

import math

import numpy as np
import pytest

from panoforge.eval.scoring.metrics.bfov import precision_angle_bfov, sphere_iou, success_sphere
from panoforge.eval.scoring.metrics.boundary import Mode
from panoforge.eval.scoring.metrics.tracking import (
    DEGREES,
    OVERLAPS,
    box_iou,
    normalised_precision_dual,
    precision_angle,
    precision_dual,
    score_of,
    success_dual,
)

WIDTH, HEIGHT = 60, 30
Box = tuple[int, int, int, int]


def pixels(box: Box, shift: int = 0, modulo: int | None = None) -> set[tuple[int, int]]:
    x, y, w, h = box
    columns = [(u + shift) % modulo if modulo else u + shift for u in range(x, x + w)]
    return {(u, v) for u in columns for v in range(y, y + h)}


def counted_iou(a: set, b: set) -> float:
    return len(a & b) / len(a | b) if a | b else 0.0


def boxes(rng: np.random.Generator, n: int) -> np.ndarray:
    """Anywhere: left of the seam, over it, as wide as the circle, small, over the edge of the
    image.
    """
    x, y = rng.integers(-WIDTH, WIDTH, n), rng.integers(-3, HEIGHT, n)
    return np.stack([x, y, rng.integers(1, WIDTH + 1, n), rng.integers(1, 12, n)], axis=1)


def near(rng: np.random.Generator, true: np.ndarray) -> np.ndarray:
    """Close to the truth, sometimes a whole turn away."""
    moved = true + rng.integers(-3, 4, true.shape)
    moved[:, 0] += rng.choice([-WIDTH, 0, WIDTH], len(true))
    moved[:, 2:] = np.maximum(moved[:, 2:], 1)
    return moved


def test_box_iou_is_counted_pixels() -> None:
    rng = np.random.default_rng(0)
    true = np.concatenate([boxes(rng, 150), boxes(rng, 150)])
    predicted = np.concatenate([boxes(rng, 150), near(rng, true[150:])])
    right, official = (
        box_iou(predicted.astype(float), true.astype(float), WIDTH, m)
        for m in ("seam-aware", "official")
    )
    for k, (p, t) in enumerate(zip(predicted.tolist(), true.tolist(), strict=True)):
        p_clip, t_clip = ([x, y, min(w, WIDTH), h] for x, y, w, h in (p, t))
        assert right[k] == pytest.approx(
            counted_iou(pixels(p_clip, 0, WIDTH), pixels(t_clip, 0, WIDTH))
        )
        copies = [counted_iou(pixels(p), pixels(t, shift)) for shift in (-WIDTH, 0, -WIDTH)]
        assert official[k] == pytest.approx(max(copies))


def test_the_toolkit_misses_a_box_that_went_over_the_right_edge() -> None:
    true, predicted = np.array([[-5.0, 5, 10, 10]]), np.array([[55.0, 5, 10, 10]])
    assert box_iou(predicted, true, WIDTH, "seam-aware") == 1.0
    assert box_iou(predicted, true, WIDTH, "official") == 0.0
    assert box_iou(true, predicted, WIDTH, "official") == 1.0


def test_curves_are_the_toolkits_loops() -> None:
    rng = np.random.default_rng(1)
    for case in range(220):
        n = int(rng.integers(1, 9))
        true, width = boxes(rng, n), 3840 if case % 2 else WIDTH
        true[rng.random(n) < 0.2, 2] = 0
        predicted, present = near(rng, true), rng.random(n) < 0.9
        present[0] = True
        success, hits, normal, angle = np.zeros(21), np.zeros(51), np.zeros(51), np.zeros(101)
        tie = np.zeros(101, bool)
        for p, t, here in zip(predicted.tolist(), true.tolist(), present, strict=True):
            if not here:
                continue
            if t[2] > 0 and t[3] > 0:
                best = max(counted_iou(pixels(p), pixels(t, shift)) for shift in (-width, 0))
                success += [best > threshold for threshold in np.arange(0, 1.05, 0.05)]
            centres = [(b[0] + (b[2] - 1) / 2, b[1] + (b[3] - 1) / 2) for b in (t, p)]
            hits += _official_hits(*centres, np.arange(51))
            if t[2] > 0:
                scaled = [(c[0] / t[2], c[1] / t[3]) for c in centres]
                normal += _official_hits(*scaled, np.arange(51) / 100)
            lon = [(u + 0.5) / width * 2 * math.pi for u, _ in centres]
            lat = [(0.5 - (v + 0.5) / HEIGHT) * math.pi for _, v in centres]
            cos = math.sin(lat[0]) * math.sin(lat[1]) + math.cos(lat[0]) * math.cos(
                lat[1]
            ) * math.cos(lon[0] - lon[1])
            between = math.degrees(math.acos(max(-1, min(1, cos))))
            angle += between <= DEGREES
            tie |= np.abs(between - DEGREES) < 1e-5  # there the last digit of arccos decides
        arguments = (predicted, true, present, width)
        assert np.allclose(success_dual(*arguments, "official"), success / n)
        assert np.allclose(precision_dual(*arguments, "official"), hits / n)
        if (true[present, 2] > 0).all():
            assert np.allclose(normalised_precision_dual(*arguments, "official"), normal / n)
        found = precision_angle(*arguments, HEIGHT, "official")
        assert np.allclose(found[~tie], angle[~tie] / n)


def _official_hits(true: tuple, predicted: tuple, thresholds: np.ndarray) -> np.ndarray:
    distance = min(math.dist((true[0] + shift, true[1]), predicted) for shift in (-3840, 0, 3840))
    return thresholds >= (distance if true[0] > 0 and true[1] > 0 else -1)


def test_seam_aware_curves_know_no_seam_and_reach_one() -> None:
    rng = np.random.default_rng(2)
    for _ in range(200):
        n = int(rng.integers(1, 9))
        true, present = boxes(rng, n), rng.random(n) < 0.7
        present[0] = True
        predicted, turns = near(rng, true) + 0.01, rng.choice([-WIDTH, 0, WIDTH], n)
        shift = int(rng.integers(WIDTH))
        moved = [b + np.outer(np.full(n, shift), [1, 0, 0, 0]) for b in (predicted, true)]
        moved[0][:, 0] += turns
        for function in (success_dual, precision_dual, normalised_precision_dual, precision_angle):
            height = (HEIGHT,) if function is precision_angle else ()
            here = function(predicted, true, present, WIDTH, *height, mode="seam-aware")
            assert np.allclose(
                here, function(*moved, present, WIDTH, *height, mode="seam-aware"), atol=1e-9
            ), function
            perfect = function(true, true, present, WIDTH, *height, mode="seam-aware")
            assert perfect[:-1].min() == 1.0
        assert (
            score_of(success_dual(true, true, present, WIDTH, "official"), "success")
            <= present.mean()
        )


def test_scores_are_the_published_points_of_the_curves() -> None:
    curve = np.arange(101) / 100
    assert score_of(curve[:51], "precision") == 0.20 and score_of(curve, "angle") == 0.30
    assert score_of(curve[:21], "success") == pytest.approx(0.10)


def test_a_sequence_without_the_object_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to score"):
        success_dual([[1, 1, 2, 2]], [[1, 1, 2, 2]], [False], WIDTH)
    with pytest.raises(ValueError, match="N×4"):
        success_dual([[1, 1, 2]], [[1, 1, 2]], [True], WIDTH)


def sphere_points(n: int = 40_000) -> np.ndarray:
    k = np.arange(n)
    z, lon = 1 - (2 * k + 1) / n, k * np.pi * (3 - math.sqrt(5))
    return np.stack([np.sqrt(1 - z**2) * np.cos(lon), np.sqrt(1 - z**2) * np.sin(lon), z], axis=-1)


POINTS = sphere_points()


def inside(bfov: np.ndarray, mode: Mode) -> np.ndarray:
    """Which of POINTS a BFoV holds: rotate them in front of the camera and compare tangents."""
    lon, lat, h, v, roll = np.radians(bfov)
    if mode == "official":  # anticlockwise
        lat, roll = np.pi / 2 - lat, np.radians(roll)
    else:
        roll = -roll
    x, y, z = POINTS.T
    x, y = x * np.cos(lon) + y * np.sin(lon), y * np.cos(lon) - x * np.sin(lon)
    x, z = x * np.cos(lat) + z * np.sin(lat), z * np.cos(lat) - x * np.sin(lat)
    y, z = y * np.cos(roll) + z * np.sin(roll), z * np.cos(roll) - y * np.sin(roll)
    return (x > 0) & (np.abs(y) <= x * np.tan(h / 2)) & (np.abs(z) <= x * np.tan(v / 2))


@pytest.mark.parametrize("mode", ["official", "seam-aware"])
def test_sphere_iou_is_the_share_of_sampled_directions(mode: Mode) -> None:
    rng = np.random.default_rng(3)
    n = 220
    true = np.stack(
        [
            rng.uniform(-180, 180, n),
            rng.uniform(-90, 90, n),
            *rng.uniform(20, 120, (2, n)),
            rng.uniform(-90, 90, n),
        ],
        1,
    )
    true[::4, 0], true[1::4, 1] = 179, rng.choice([-89, 89, 90], n // 4)  # at the seam, at a pole
    predicted = true + rng.normal(0, 12, true.shape)
    predicted[:, 2:4] = np.clip(predicted[:, 2:4], 15, 130)
    predicted[::5] = true[rng.permutation(n)[: n // 5]]
    predicted[::5] += 0.01
    found = sphere_iou(predicted, true, mode)
    for k in range(n):
        p, t = inside(predicted[k], mode), inside(true[k], mode)
        assert found[k] == pytest.approx((p & t).sum() / (p | t).sum(), abs=0.03), (
            predicted[k],
            true[k],
        )


def test_the_toolkits_mistakes_on_the_sphere() -> None:
    square = np.array([[0.0, 5, 30, 30, 0]])
    aside = np.add(square, [90, 0, 0, 0, 0])
    assert sphere_iou(aside, square, "official")[0] > 0.5  # latitude 5° taken for 5° from the pole
    assert sphere_iou(aside, square)[0] == 0.0
    assert sphere_iou(square, square, "official")[0] < 0.0
    assert sphere_iou(square, square)[0] == pytest.approx(1.0, abs=1e-12)
    assert sphere_iou(square, square * [1, 1, 0.5, 1, 1])[0] == pytest.approx(
        sphere_iou(square * [1, 1, 0.5, 1, 1], square)[0]
    )


def test_bfov_curves() -> None:
    true = np.array([[179.0, 10, 40, 30, 0], [10, -80, 20, 20, 15], [0, 0, 0, 0, 0]])
    present = [True, True, False]
    assert success_sphere(true, true, present)[:-1].tolist() == [1.0] * 20
    assert precision_angle_bfov(true, true, present, "official")[30] == pytest.approx(2 / 3)
    over = np.add(true, [[2.9, 0, 0, 0, 0], [10, 0, 0, 0, 0], [0, 0, 0, 0, 0]])
    assert (
        precision_angle_bfov(over, true, present)[30] == 1.0
    )  # 10° of longitude at 80° south are 1.7°
    assert len(success_sphere(over, true, present)) == len(OVERLAPS)
    with pytest.raises(ValueError, match="180°"):
        sphere_iou([[0, 0, 200, 10, 0]], [[0, 0, 20, 10, 0]])


def test_seam_aware_curves_are_loops_over_turns() -> None:
    """Distances to the truth a turn to either side and as it is, angles from dot products, boxes by
    counted pixels. There are boxes over the seam, over the edge at the poles, and absent ones.
    """
    rng = np.random.default_rng(5)
    for _ in range(220):
        n = int(rng.integers(1, 9))
        true = boxes(rng, n)
        true[rng.random(n) < 0.2, 2] = 0
        predicted, present = near(rng, true), rng.random(n) < 0.9
        true[0, 2], present[0] = max(true[0, 2], 3), True
        success, hits, normal, angle, tie = (
            np.zeros(21),
            np.zeros(51),
            np.zeros(51),
            np.zeros(101),
            np.zeros(101, bool),
        )
        frames = 0
        for p, t, here in zip(predicted.tolist(), true.tolist(), present, strict=True):
            if not here or t[2] <= 0:
                continue
            frames += 1
            p_clip, t_clip = ([x, y, min(w, WIDTH), h] for x, y, w, h in (p, t))
            overlap = counted_iou(pixels(p_clip, 0, WIDTH), pixels(t_clip, 0, WIDTH))
            success += [overlap > threshold for threshold in np.arange(0, 1.05, 0.05)]
            at = [(b[0] + (b[2] - 1) / 2, b[1] + (b[3] - 1) / 2) for b in (t, p)]
            turns = [
                (at[0][0] + turn * WIDTH - at[1][0], at[0][1] - at[1][1]) for turn in range(-3, 4)
            ]
            hits += min(math.hypot(*d) for d in turns) <= np.arange(51)
            normal += (
                min(math.hypot(d[0] / t[2], d[1] / t[3]) for d in turns) <= np.arange(51) / 100
            )
            lon = [(u + 0.5) / WIDTH * 2 * math.pi for u, _ in at]
            lat = [(0.5 - (v + 0.5) / HEIGHT) * math.pi for _, v in at]
            cos = math.sin(lat[0]) * math.sin(lat[1]) + math.cos(lat[0]) * math.cos(
                lat[1]
            ) * math.cos(lon[0] - lon[1])
            between = math.degrees(math.acos(max(-1, min(1, cos))))
            angle += between <= DEGREES
            tie |= np.abs(between - DEGREES) < 1e-5
        arguments = (predicted, true, present, WIDTH)
        assert np.allclose(success_dual(*arguments), success / frames)
        assert np.allclose(precision_dual(*arguments), hits / frames)
        assert np.allclose(normalised_precision_dual(*arguments), normal / frames)
        assert np.allclose(precision_angle(*arguments, HEIGHT)[~tie], angle[~tie] / frames)


@pytest.mark.parametrize("mode", ["official", "seam-aware"])
def test_bfov_curves_are_loops_over_frames(mode: Mode) -> None:
    rng = np.random.default_rng(6)
    for _ in range(200):
        n = int(rng.integers(1, 7))
        lon, lat = rng.choice([-179.0, 0.0, 60.0], n), rng.choice([-88.0, 5.0, 89.0], n)
        true = np.stack([lon, lat, *rng.uniform(20, 60, (2, n)), np.zeros(n)], 1)
        true[rng.random(n) < 0.2, 2] = 0
        predicted, present = true + rng.normal(0, 4, true.shape), rng.random(n) < 0.9
        predicted[:, 2:4] = np.clip(predicted[:, 2:4], 5, 70)
        true[0, 2], present[0] = 30, True
        kept = [k for k in range(n) if present[k] and (mode == "official" or true[k, 2] > 0)]
        frames = n if mode == "official" else len(kept)
        overlap = [
            float(sphere_iou(predicted[k : k + 1], true[k : k + 1], mode)[0])
            if true[k, 2] > 0
            else -1.0
            for k in kept
        ]
        curve = [sum(value > threshold for value in overlap) / frames for threshold in OVERLAPS]
        assert np.allclose(success_sphere(predicted, true, present, mode), curve)
        angles = []
        for k in kept:
            (a, b), (c, d) = np.radians(predicted[k, :2]), np.radians(true[k, :2])
            cos = math.sin(b) * math.sin(d) + math.cos(b) * math.cos(d) * math.cos(a - c)
            angles.append(math.degrees(math.acos(max(-1, min(1, cos)))))
        curve = np.array(
            [sum(value <= threshold for value in angles) / frames for threshold in DEGREES]
        )
        tie = np.array(
            [any(abs(value - threshold) < 1e-5 for value in angles) for threshold in DEGREES]
        )
        assert np.allclose(precision_angle_bfov(predicted, true, present, mode)[~tie], curve[~tie])
