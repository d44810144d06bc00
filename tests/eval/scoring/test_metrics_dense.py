"""Scores of class maps, depth and normals, against torchmetrics, scikit-learn and plain loops.

The figures of torchmetrics 1.9.0 and scikit-learn 1.9.1 were taken on the same arrays.
"""

import math

import numpy as np
import pytest

from panoforge.core.geometry.sphere import row_area_sr
from panoforge.eval.scoring.metrics import depth, normals
from panoforge.eval.scoring.metrics.places import PLACES, places
from panoforge.eval.scoring.metrics.semantics import class_ious, confusion, semantic_scores


def class_maps():
    """Five classes of seven, a sixth of the truth void."""
    rng = np.random.default_rng(7)
    truth = rng.integers(0, 6, (32, 64)).astype(np.uint8)
    other = rng.integers
    predicted = np.where(rng.random((32, 64)) < 0.6, truth, other(0, 6, (32, 64))).astype(np.uint8)
    truth[truth == 5] = 255
    return truth, np.where(predicted == 5, 3, predicted).astype(np.uint8)


def depths():
    rng = np.random.default_rng(8)
    truth = rng.uniform(0.5, 9.5, (32, 64)).astype(np.float32)
    predicted = (truth * np.exp(rng.normal(0.1, 0.2, (32, 64)))).astype(np.float32)
    return truth, np.clip(predicted, 0.01, 10).astype(np.float32)


def test_miou_is_that_of_torchmetrics_and_scikit_learn():
    truth, predicted = class_maps()
    found = semantic_scores(confusion(truth, predicted, 7))
    assert found["miou"] == pytest.approx(0.49290987849235535, abs=1e-7)  # torchmetrics, float32
    assert found["miou"] == pytest.approx(0.4929099007196641, abs=1e-12)  # scikit-learn
    assert found["pixel_accuracy"] == pytest.approx(0.6586227192466156, abs=1e-12)
    assert found["class_accuracy"] == pytest.approx(0.6597050923165264, abs=1e-12)


def test_confusion_weighs_rows_counts_no_answer_and_leaves_void_out():
    truth, predicted = class_maps()
    predicted[:4], truth[5] = 255, 7  # no answer; no class of the set
    area, where = row_area_sr(64, 32), np.random.default_rng(0).random((32, 64)) < 0.7
    slow = np.zeros((7, 8))
    for v in range(32):
        for u in range(64):
            if truth[v, u] < 7 and where[v, u]:
                slow[truth[v, u], min(predicted[v, u], 7)] += area[v]
    found = confusion(truth, predicted, 7, row_weight=area, where=where)
    assert np.allclose(found, slow, rtol=0, atol=1e-12) and found[:, 7].sum() > 0
    ious = class_ious(found)
    assert np.isnan(ious[5:]).all()
    for k in range(5):  # no answer is missed, and nobody's false alarm
        either = slow[k].sum() + slow[:, k].sum() - slow[k, k]
        assert ious[k] == pytest.approx(slow[k, k] / either, abs=1e-12)
    assert math.isnan(semantic_scores(np.zeros((7, 8)))["miou"])


def test_confusions_of_panoramas_add_up():
    truth, predicted = class_maps()
    parts = [confusion(truth[v : v + 8], predicted[v : v + 8], 7) for v in range(0, 32, 8)]
    assert np.array_equal(sum(parts), confusion(truth, predicted, 7))


def scores_of(truth, predicted, how="metric", limit=10.0):
    counts = depth.counted_depth(truth, limit)
    found = depth.aligned(truth, predicted, counts, how, limit)
    errors = depth.depth_errors(truth[counts], found[counts])
    return {k: float(v) for k, v in depth.depth_scores(errors.sum(axis=1)).items()}


def test_depth_is_that_of_torchmetrics():
    truth, predicted = depths()
    found = scores_of(truth, predicted)
    assert found["abs_rel"] == pytest.approx(0.18972872225887988, rel=1e-9)
    assert found["rmse_m"] == pytest.approx(1.1869596031251308, rel=1e-9)
    assert found["log_rmse"] == pytest.approx(0.21379227263647127, rel=1e-9)
    fitted = scores_of(truth, predicted, "scale and shift")  # scikit-learn's LinearRegression
    assert fitted["abs_rel"] == pytest.approx(0.17528580925878398, rel=1e-6)
    assert fitted["rmse_m"] == pytest.approx(0.9379997703720572, rel=1e-6)


def test_depth_is_that_of_plain_loops():
    truth, predicted = depths()
    truth[3], truth[4], truth[5] = np.inf, 12.0, np.nan  # sky, beyond the limit, unknown
    predicted[6] = 99.0  # clamped to the limit
    pairs = [
        (float(t), min(max(float(p), 0.01), 10.0))
        for t, p in zip(truth.ravel(), predicted.ravel(), strict=True)
        if math.isfinite(t) and t <= 10.0
    ]
    logs = [math.log(p / t) for t, p in pairs]
    mean_log = math.fsum(logs) / len(logs)
    found = scores_of(truth, predicted)
    assert found["silog"] == pytest.approx(
        math.sqrt(math.fsum((x - mean_log) ** 2 for x in logs) / len(logs)), rel=1e-9
    )
    for n in (1, 2, 3):
        share = sum(max(p / t, t / p) < 1.25**n for t, p in pairs) / len(pairs)
        assert found[f"delta_{n}"] == pytest.approx(share, abs=1e-12) and 0.3 < share <= 1
    ratio = sorted(t / p for t, p in pairs)
    half = len(ratio) // 2
    scale = ratio[half] if len(ratio) % 2 else (ratio[half - 1] + ratio[half]) / 2
    slow = [abs(min(max(p * scale, 0.01), 10.0) - t) / t for t, p in pairs]
    assert scores_of(truth, predicted, "scale")["abs_rel"] == pytest.approx(
        math.fsum(slow) / len(slow), rel=1e-9
    )


def test_alignments_undo_what_they_are_called_after():
    truth, _ = depths()
    scaled, moved = truth * np.float32(0.5), truth * np.float32(0.4) + np.float32(0.7)
    assert scores_of(truth, scaled)["abs_rel"] == pytest.approx(0.5)
    assert scores_of(truth, scaled)["silog"] < 1e-6
    assert scores_of(truth, scaled, "scale")["abs_rel"] < 1e-6
    assert scores_of(truth, moved, "scale")["abs_rel"] > 0.05
    assert scores_of(truth, moved, "scale and shift")["abs_rel"] < 1e-5
    for useless in (np.full_like(truth, 3.0), 10 - truth):  # constant, and upside down
        found = scores_of(truth, useless, "scale and shift")
        assert found["rmse_m"] == pytest.approx(float(truth.astype(np.float64).std()), rel=1e-6)


def directions(rng, n):
    found = rng.normal(size=(n, 3))
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_angles_are_those_of_plain_loops_small_ones_too():
    rng = np.random.default_rng(3)
    truth = directions(rng, 500)
    predicted = truth + rng.normal(0, 0.3, (500, 3))
    predicted[:50] = truth[:50] + rng.normal(0, 1e-9, (50, 3))  # arccos would say 0
    predicted[50] = 0
    found = normals.angles_deg(truth, predicted)
    for k in range(500):
        t, p = truth[k], predicted[k]
        chord = np.linalg.norm(t / np.linalg.norm(t) - p / (np.linalg.norm(p) or 1))
        slow = 180.0 if k == 50 else math.degrees(2 * math.asin(min(chord / 2, 1)))
        assert found[k] == pytest.approx(slow, rel=1e-6, abs=1e-12)
    assert found[:50].max() > 0


def test_normals_pool_and_agree_with_sorted_lists():
    rng = np.random.default_rng(4)
    angles, weight = rng.gamma(1.5, 9, 4001).clip(0, 180), rng.uniform(0.1, 2, 4001)
    found = {
        k: float(v)
        for k, v in normals.normal_scores(normals.normal_sums(angles, np.ones(4001))).items()
    }
    assert found["mean_deg"] == pytest.approx(math.fsum(angles) / 4001)
    assert found["rms_deg"] == pytest.approx(math.sqrt(math.fsum(angles**2) / 4001))
    assert found["median_deg"] == pytest.approx(sorted(angles)[2000], abs=normals.BIN_DEG / 2)
    for name, share in (("under_5", 5), ("under_11_25", 11.25), ("under_22_5", 22.5)):
        assert found[name] == pytest.approx(sum(a < share for a in angles) / 4001)
    assert normals.median_angle_deg(angles, np.ones(4001)) == sorted(angles)[2000]
    assert normals.median_angle_deg(angles[:4000], np.ones(4000)) == np.median(angles[:4000])
    order, half = np.argsort(angles), weight.sum() / 2
    middle = next(k for k in range(4001) if math.fsum(weight[order[: k + 1]]) >= half)
    angle = angles[order[middle]]
    assert normals.median_angle_deg(angles, weight) == angle
    two = normals.normal_sums(angles[:900], weight[:900]) + normals.normal_sums(
        angles[900:], weight[900:]
    )
    pooled = normals.normal_scores(two)
    assert float(pooled["median_deg"]) == pytest.approx(angle, abs=normals.BIN_DEG)
    assert float(pooled["mean_deg"]) == pytest.approx(float(weight @ angles / weight.sum()))
    assert math.isnan(float(normals.normal_scores(np.zeros(normals.SUMS))["median_deg"]))


def test_places_cover_the_sphere_once():
    depth_m = np.random.default_rng(0).uniform(0.1, 9, (64, 128)).astype(np.float32)
    depth_m[0], depth_m[1] = np.inf, np.nan
    found = dict(places(64, 128, depth_m))
    assert tuple(found) == PLACES
    bands = sum(found[name].astype(int) for name in PLACES[2:5])
    assert (bands == 1).all()
    zones = sum(found[name].astype(int) for name in PLACES[5:])
    assert (zones[2:] == 1).all() and not zones[:2].any()
    assert (depth_m[found["2 m to 5 m"]] >= 2).all() and (depth_m[found["2 m to 5 m"]] < 5).all()
    seam = np.flatnonzero(found["at the seam"].any(axis=0))
    assert seam.tolist() == [0, 1, 126, 127] and found["at the seam"][:, seam].all()
    area = row_area_sr(128, 64)[:, None] * np.ones(128)
    cap = area[found["above 60°"]].sum() / (4 * math.pi)
    assert cap == pytest.approx(1 - math.sin(math.radians(60)), abs=0.01)
    assert len(dict(places(64, 128, None))) == 5
