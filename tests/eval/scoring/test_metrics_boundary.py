"""J, F, J_sphere and F_sphere against a brute force over pixels, and against the dilation that the
toolkits do.
"""

import math

import cv2
import numpy as np
import pytest
from scipy import integrate

from panoforge.eval.masks import Masks
from panoforge.eval.scoring.metrics import jaccard
from panoforge.eval.scoring.metrics.boundary import (
    Mode,
    boundary_f,
    boundary_f_scores,
    j_and_f,
    tolerance_px,
)
from panoforge.eval.scoring.metrics.sphere import (
    SphereMode,
    boundary_f_sphere,
    jaccard_sphere,
    row_weight_sr,
)

Pixel = tuple[int, int]


def brute_boundary(mask: np.ndarray, wrap: bool) -> list[Pixel]:
    """Pixels that differ from a neighbour to the right, below, or both, as the definition says it,
    one by one.
    """
    height, width = mask.shape

    def at(v: int, u: int) -> bool:
        return (
            bool(mask[v, u % width if wrap else u]) if v < height and (wrap or u < width) else False
        )

    found = []
    for v in range(height):
        for u in range(width):
            last_row, last_column = v == height - 1, not wrap and u == width - 1
            neighbours = (
                []
                if last_row and last_column
                else [at(v, u + 1)]
                if last_row
                else [at(v + 1, u)]
                if last_column
                else [at(v, u + 1), at(v + 1, u), at(v + 1, u + 1)]
            )
            if any(other != bool(mask[v, u]) for other in neighbours):
                found.append((v, u))
    return found


def brute_f(
    predicted: np.ndarray, true: np.ndarray, wrap: bool, radius: float, weight: np.ndarray
) -> float:
    width = true.shape[1]

    def near(a: Pixel, b: Pixel) -> bool:
        du = abs(a[1] - b[1])
        return (a[0] - b[0]) ** 2 + (min(du, width - du) if wrap else du) ** 2 <= radius**2

    def share(points: list[Pixel], others: list[Pixel]) -> float:
        hit = math.fsum(weight[a[0]] for a in points if any(near(a, b) for b in others))
        return hit / math.fsum(weight[a[0]] for a in points)

    p, t = brute_boundary(predicted, wrap), brute_boundary(true, wrap)
    if not p or not t:
        return float(not p and not t)
    precision, recall = share(p, t), share(t, p)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def toolkit_f(predicted: np.ndarray, true: np.ndarray, radius: int) -> float:
    """By dilation with a disk, as DAVIS does it."""
    maps = []
    for mask in (predicted, true):
        out = np.zeros(mask.shape, np.uint8)
        for v, u in brute_boundary(mask, wrap=False):
            out[v, u] = 1
        maps.append(out)
    x = np.arange(-radius, radius + 1)
    disk = (x[:, None] ** 2 + x[None, :] ** 2 <= radius**2).astype(np.uint8)
    p, t = maps
    n_p, n_t = p.sum(), t.sum()
    if not n_p or not n_t:
        return float(n_p == n_t)
    precision, recall = (
        np.sum(p * cv2.dilate(t, disk)) / float(n_p),
        np.sum(t * cv2.dilate(p, disk)) / float(n_t),
    )
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def random_mask(rng: np.random.Generator, kind: int, height: int, width: int) -> np.ndarray:
    """Empty, full, over the seam, over a pole, around the whole circle, noise, blobs."""
    mask = np.zeros((height, width), bool)
    v, u = int(rng.integers(height)), int(rng.integers(width))
    if kind == 1:
        mask[:] = True
    elif kind == 2:
        mask[v : v + 3, [0, -1]] = True
    elif kind == 3:
        mask[: v + 1, u : u + 4] = True
    elif kind == 4:
        mask[v:, :] = True
        mask[v, u] = False
    elif kind == 5:
        mask = rng.random(mask.shape) < rng.random()
    elif kind == 6:
        mask[v : v + 4, u : u + 5] = True
    elif kind == 7:
        mask[v : v + 3] = np.roll(np.arange(width) < width - 1, u)
    return mask


def cases(seed: int, number: int = 256):
    rng = np.random.default_rng(seed)
    for case in range(number):
        height, width = int(rng.integers(2, 11)), int(rng.integers(2, 19))
        predicted = random_mask(rng, case % 8, height, width)
        true = random_mask(rng, case // 8 % 8, height, width)
        if case % 3 == 0:  # two that nearly agree
            true = np.roll(predicted, int(rng.integers(-2, 3)), axis=1)
        yield predicted, true, float(rng.choice([0.008, 1, 2, 3]))


@pytest.mark.parametrize("mode", ["official", "seam-aware"])
def test_boundary_f_is_the_brute_force(mode: Mode) -> None:
    for predicted, true, tolerance in cases(0):
        radius = tolerance_px(tolerance, *true.shape)
        expected = brute_f(predicted, true, mode == "seam-aware", radius, np.ones(len(true)))
        assert boundary_f(predicted, true, mode, tolerance=tolerance) == expected


def test_official_is_the_toolkit_to_the_last_bit_at_a_real_radius() -> None:
    rng = np.random.default_rng(1)
    height, width = 240, 480
    radius = math.ceil(0.008 * math.hypot(height, width))
    for case in range(4):
        smooth = [
            cv2.GaussianBlur(rng.random((height, width)).astype(np.float32), (0, 0), 12)
            for _ in range(2)
        ]
        true = smooth[0] > np.quantile(smooth[0], 0.7)
        predicted = smooth[0] + (case % 4) * 0.3 * smooth[1] > np.quantile(smooth[0], 0.75)
        assert boundary_f(predicted, true, "official") == toolkit_f(predicted, true, radius)


def test_bits_and_label_maps_give_what_arrays_give() -> None:
    rng = np.random.default_rng(2)
    for case in range(60):
        height, width = 12, int(rng.integers(3, 40))
        labels = (
            rng.integers(0, 4, (height, 1 + width // 6))
            .astype(np.uint16)
            .repeat(6, axis=1)[:, :width]
        )
        predicted = np.stack([random_mask(rng, (case + k) % 8, height, width) for k in range(4)])
        masks = Masks.of(predicted)
        for mode in ("official", "seam-aware"):
            found = boundary_f_scores(masks, labels, [1, 2, 3, 9], mode, tolerance=1)
            pairs = zip(predicted, [1, 2, 3, 9], strict=True)
            assert found.tolist() == [
                boundary_f(p, labels == i, mode, tolerance=1) for p, i in pairs
            ]


def test_seam_aware_does_not_know_where_the_seam_is() -> None:
    rng = np.random.default_rng(3)
    for predicted, true, tolerance in cases(4, 64):
        shift = int(rng.integers(1, true.shape[1]))
        moved = [np.roll(mask, shift, axis=1) for mask in (predicted, true)]
        for function in (boundary_f, boundary_f_sphere):
            at_home = function(predicted, true, "seam-aware", tolerance=tolerance)
            assert function(*moved, "seam-aware", tolerance=tolerance) == pytest.approx(
                at_home, abs=1e-12
            )


def test_the_seam_matters_to_the_toolkit_only() -> None:
    """A square that ends at the seam, and the same one a column further, over the seam."""
    true = np.zeros((40, 80), bool)
    true[10:30, 60:] = True
    predicted = np.roll(true, 1, axis=1)
    assert boundary_f(predicted, true, "seam-aware", tolerance=1) == 1.0
    assert boundary_f(predicted, true, "official", tolerance=1) < 0.9
    assert (
        boundary_f(
            *(np.roll(mask, 40, axis=1) for mask in (predicted, true)), "official", tolerance=1
        )
        == 1.0
    )


@pytest.mark.parametrize("mode", ["official", "official-sin", "seam-aware"])
def test_sphere_scores_are_the_brute_force(mode: SphereMode) -> None:
    for predicted, true, tolerance in cases(5):
        height, width = true.shape
        rows = (
            np.linspace(0, height - 1, height, endpoint=False)
            if mode != "seam-aware"
            else np.arange(height)
        )
        lat = -((rows + 0.5) - height / 2) / height * np.pi
        step = np.pi / height / 2
        kernel = np.sin if mode == "official-sin" else np.cos
        weight = (
            np.array([abs(integrate.quad(kernel, x - step, x + step)[0]) for x in lat])
            * 2
            * np.pi
            / width
        )
        assert np.allclose(row_weight_sr(height, width, mode), weight, atol=1e-13)
        both, either = (np.sum(m * weight[:, None]) for m in (predicted & true, predicted | true))
        assert jaccard_sphere(predicted, true, mode) == pytest.approx(
            1.0 if np.isclose(either, 0) else both / either, abs=1e-9
        )
        if mode != "official-sin":
            expected = brute_f(
                predicted,
                true,
                mode == "seam-aware",
                tolerance_px(tolerance, height, width),
                weight,
            )
            assert boundary_f_sphere(predicted, true, mode, tolerance=tolerance) == pytest.approx(
                expected, abs=1e-9
            )


def test_solid_angle_weights_sum_to_the_sphere_and_the_early_toolkit_ignores_the_equator() -> None:
    assert row_weight_sr(64, 128).sum() * 128 == pytest.approx(4 * np.pi)
    early = row_weight_sr(64, 128, "official-sin")
    assert early[32] < 1e-3 * early[0]


def test_j_and_their_mean() -> None:
    for predicted, true, _ in cases(6):
        either = sum(bool(a or b) for a, b in zip(predicted.ravel(), true.ravel(), strict=True))
        both = sum(bool(a and b) for a, b in zip(predicted.ravel(), true.ravel(), strict=True))
        assert jaccard(predicted, true) == (both / either if either else 1.0)
        assert (
            j_and_f(predicted, true, "official")
            == (jaccard(predicted, true) + boundary_f(predicted, true, "official")) / 2
        )
