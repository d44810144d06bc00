"""IoU from row counts against a per-pixel brute force, on random masks with every hard case in
them.
"""

from dataclasses import replace

import numpy as np
import pytest

from panoforge.eval.masks import Masks
from panoforge.eval.scoring.metrics import best_overlaps, iou, miou, miou_by_image, row_counts


def pack(masks: np.ndarray) -> Masks:
    """Every other time with the rows that the masks are in, as merging gives them."""
    made = Masks.of(masks)
    return made if masks.any() and masks.sum() % 2 else replace(made, rows=None)


def brute_iou(predicted: np.ndarray, true: np.ndarray, weighted: bool) -> float:
    height, width = true.shape
    both = either = 0.0
    for v in range(height):
        weight = np.cos((0.5 - (v + 0.5) / height) * np.pi) if weighted else 1.0
        for u in range(width):
            both += weight * (predicted[v, u] and true[v, u])
            either += weight * (predicted[v, u] or true[v, u])
    return both / either if either else 1.0


def random_case(rng: np.random.Generator, case: int) -> tuple[np.ndarray, np.ndarray]:
    """(predicted, true) bool masks: empty, full, across the seam, over a pole, or noise; W is not
    always a multiple of 8.
    """
    height, width = int(rng.integers(1, 9)), int(rng.integers(1, 21))

    def mask(kind: int) -> np.ndarray:
        out = np.zeros((height, width), bool)
        if kind == 1:
            out[:] = True
        elif kind == 2:
            out[height // 2, [0, -1]] = True
        elif kind == 3:
            out[rng.choice([0, -1])] = True
        elif kind == 4:
            out = rng.random((height, width)) < rng.random()
        return out

    return mask(case % 5), mask(case // 5 % 5)


@pytest.mark.parametrize("weighted", [False, True])
def test_iou_equals_brute_force(weighted: bool) -> None:
    rng = np.random.default_rng(0)
    for case in range(250):
        predicted, true = random_case(rng, case)
        counts = row_counts(pack(predicted[None]), true.astype(np.uint16) * 7, [7])
        assert iou(counts, cos_weighted=weighted)[0] == pytest.approx(
            brute_iou(predicted, true, weighted), abs=1e-12
        )


def test_iou_of_several_instances_of_one_map() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 5, (16, 33)).astype(np.uint16)
    predicted = rng.random((4, 16, 33)) < 0.4
    found = iou(row_counts(pack(predicted), labels, [1, 2, 3, 4]))
    for k in range(4):
        assert found[k] == pytest.approx(brute_iou(predicted[k], labels == k + 1, False), abs=1e-12)


def test_weighting_matters_near_the_pole_and_not_for_equal_masks() -> None:
    labels = np.zeros((32, 64), np.uint16)
    labels[[0, 16]] = 1
    half = labels == 1
    half[0] = False  # the pole row is missed: half the pixels, almost no area
    counts = row_counts(pack(np.stack([half, labels == 1])), labels, [1, 1])
    assert iou(counts).tolist() == [0.5, 1.0]
    assert iou(counts, cos_weighted=True)[0] > 0.95
    assert iou(counts, cos_weighted=True)[1] == 1.0


def test_means() -> None:
    assert miou([]) is None and miou_by_image([], []) is None
    assert miou([1.0, 0.0, 0.0, 0.0]) == 0.25
    assert miou_by_image([1.0, 0.0, 0.0, 0.0], ["a", "b", "b", "b"]) == 0.5


def test_means_are_loops_over_250_random_sets_of_scores() -> None:
    """From masks to both means: IoUs of empty, full, seam-crossing and polar masks, of panoramas
    with few and with many.
    """
    rng = np.random.default_rng(7)
    for case in range(250):
        ious, keys = [], []
        for k in range(int(rng.integers(1, 9))):
            predicted, true = random_case(rng, case + 7 * k)
            ious.append(
                float(iou(row_counts(pack(predicted[None]), true.astype(np.uint16) * 7, [7]))[0])
            )
            keys.append("abc"[rng.integers(3)])
            assert ious[-1] == pytest.approx(brute_iou(predicted, true, False), abs=1e-12)
        total, of_key = 0.0, {}
        for value, key in zip(ious, keys, strict=True):
            total += value
            of_key[key] = [*of_key.get(key, []), value]
        assert miou(ious) == pytest.approx(total / len(ious), abs=1e-12)
        by_image = sum(sum(values) / len(values) for values in of_key.values()) / len(of_key)
        assert miou_by_image(ious, keys) == pytest.approx(by_image, abs=1e-12)


def test_groups_of_400_random_instances_are_sorted_by_hand() -> None:
    """mIoU by size, latitude, crossing and category of rows anywhere, at the bounds of groups too,
    against lists made by hand.
    """
    from panoforge.eval.scoring.results import Row
    from panoforge.eval.scoring.scores import group_scores

    def sized(area: float, small: float, large: float) -> str:
        return "large" if area >= large else "medium" if area >= small else "small"

    rng = np.random.default_rng(8)
    edges = [(32 / 512) ** 2, (96 / 512) ** 2]
    rows, expected = [], {}
    for k in range(400):
        area = float(rng.choice([edges[0], edges[1], 10 ** rng.uniform(-4, 0)]))
        lat = float(rng.choice([30, -30, 60, -60, 90, rng.uniform(-90, 90)]))
        flags = tuple(flag for flag in ("seam", "pole", "structure") if rng.random() < 0.3)
        category, value = str(rng.choice(["lamp", "sofa", ""])), float(rng.random())
        rows.append(
            Row(
                key=f"p{k % 9}",
                method="scan",
                role="model",
                predictor="p",
                id=k,
                category=category,
                flags=flags,
                pixels=1,
                area_sr=area,
                view_pixels=area * 128**2,
                lon_deg=0,
                lat_deg=lat,
                u=0,
                v=0,
                frames=1,
                predicted_pixels=0,
                both_pixels=0,
                iou=value,
                iou_cos=0.0,
                boundary_f=value / 2,
                j_sphere=0.0,
                f_sphere=0.0,
                score=0.0,
                best_id=0,
                best_iou=0.0,
            )
        )
        size, on_border = sized(area, *edges), "seam" in flags or "pole" in flags
        belt = (
            "above 60°"
            if lat >= 60 or lat <= -60
            else "30° to 60°"
            if lat >= 30 or lat <= -30
            else "below 30°"
        )
        crossing = (
            "over a pole" if "pole" in flags else "over the seam" if "seam" in flags else "neither"
        )
        for by, group in (
            ("size", size),
            ("size in view pixels", sized(area * 128**2, 32**2, 96**2)),
            ("seam or pole", "on the seam or a pole" if on_border else "elsewhere"),
            ("latitude of the click", belt),
            ("crossing", crossing),
            ("category", category or "(none)"),
        ):
            expected.setdefault((by, group), []).append(value)
    found = {(e["by"], e["group"]): e for e in group_scores(rows)}
    assert set(found) == set(expected) and len(found) == 3 + 3 + 2 + 3 + 3 + 3
    for key, values in expected.items():
        assert found[key]["instances"] == len(values) and found[key]["miou"] == pytest.approx(
            sum(values) / len(values)
        )
        assert found[key]["j_and_f"] == pytest.approx(0.75 * sum(values) / len(values))


def test_groups_are_a_partition_with_the_right_means() -> None:
    from panoforge.eval.scoring.results import Row
    from panoforge.eval.scoring.scores import group_scores

    def row(iou_: float, lat_deg: float, area_sr: float, *flags: str) -> Row:
        return Row(
            key="k",
            method="scan",
            role="model",
            predictor="p",
            id=1,
            category="c",
            flags=flags,
            pixels=1,
            area_sr=area_sr,
            view_pixels=area_sr,
            lon_deg=0,
            lat_deg=lat_deg,
            u=0,
            v=0,
            frames=1,
            predicted_pixels=0,
            both_pixels=0,
            iou=iou_,
            iou_cos=0.0,
            boundary_f=0.0,
            j_sphere=0.0,
            f_sphere=0.0,
            score=0.0,
            best_id=0,
            best_iou=0.0,
        )

    found = group_scores(
        [row(1.0, -80, 0.5, "pole", "seam"), row(0.5, 10, 0.001), row(0.0, -20, 0.01, "seam")]
    )
    table = {(e["by"], e["group"]): (e["instances"], e["miou"]) for e in found}
    assert table["latitude of the click", "below 30°"] == (2, 0.25) and table[
        "latitude of the click", "above 60°"
    ] == (1, 1.0)
    assert (
        table["size", "small"] == (1, 0.5)
        and table["size", "medium"] == (1, 0.0)
        and table["size", "large"] == (1, 1.0)
    )
    assert table["crossing", "over a pole"] == (1, 1.0) and table["crossing", "over the seam"] == (
        1,
        0.0,
    )
    assert table["category", "c"] == (3, 0.5)
    for by in {key[0] for key in table}:
        assert sum(n for (b, _), (n, _) in table.items() if b == by) == 3


def test_the_best_overlap_is_that_of_all_pairs_compared() -> None:
    """250 label maps with masks that are empty, full, over the seam, over a pole, noise, or an
    instance and a little more.
    """
    rng = np.random.default_rng(2)
    ties = 0
    for case in range(250):
        labels = rng.integers(0, 4, (9, 1 + case % 19)).astype(np.uint16).repeat(2, axis=1)
        labels[rng.integers(9)] = 7  # never scored
        ids = [1, 2, 3, 9]
        predicted = np.stack([random_mask(rng, case + k, labels) for k in range(4)])
        best, overlap = best_overlaps(pack(predicted), labels, ids)
        for k, mask in enumerate(predicted):
            ious = {
                id_: brute_iou(mask, labels == id_, False)
                for id_ in ids
                if (labels == id_).any() and mask.any()
            }
            expected = max(ious.values(), default=0.0)
            assert overlap[k] == pytest.approx(expected, abs=1e-12)
            assert (
                best[k] == 0
                if expected == 0
                else ious[best[k]] == pytest.approx(expected, abs=1e-12)
            )
            ties += sum(value > 0.5 for value in ious.values()) > 1
    assert ties == 0  # instances are disjoint: that a single one above ½ is enough is no assumption


def random_mask(rng: np.random.Generator, case: int, labels: np.ndarray) -> np.ndarray:
    kind, mask = case % 6, np.zeros(labels.shape, bool)
    if kind == 1:
        mask[:] = True
    elif kind == 2:
        mask[:, [0, -1]] = True
    elif kind == 3:
        mask[rng.choice([0, -1])] = True
    elif kind == 4:
        mask = rng.random(mask.shape) < rng.random()
    elif kind == 5:
        mask = (labels == rng.integers(1, 5)) ^ (rng.random(mask.shape) < 0.1)
    return mask


def test_precision_from_rows_is_cocos_average_precision_of_all_pairs() -> None:
    """The rows keep one overlap a mask; AP made of them is that of the whole IoU matrices."""
    from panoforge.eval.scoring.metrics.detection import average_precision
    from panoforge.eval.scoring.results import Row
    from panoforge.eval.scoring.scores import precision

    rng = np.random.default_rng(3)
    for case in range(200):
        rows, images = [], []
        for key in ("a", "b")[: 1 + case % 2]:
            labels = rng.integers(0, 4, (8, 6)).astype(np.uint16).repeat(2, axis=1)
            ids = [id_ for id_ in (1, 2, 3) if (labels == id_).any()]
            predicted = np.stack([random_mask(rng, case + 5 * k, labels) for k in range(len(ids))])
            sure = rng.permutation(len(ids)) / 4
            best, overlap = best_overlaps(pack(predicted), labels, ids)
            rows += [
                Row(
                    key=key,
                    method="m",
                    role="model",
                    predictor="p",
                    id=id_,
                    category="",
                    flags=(),
                    pixels=1,
                    area_sr=1.0,
                    view_pixels=1.0,
                    lon_deg=0,
                    lat_deg=0,
                    u=0,
                    v=0,
                    frames=1,
                    predicted_pixels=int(predicted[k].sum()),
                    both_pixels=0,
                    iou=0.0,
                    iou_cos=0.0,
                    boundary_f=0.0,
                    j_sphere=0.0,
                    f_sphere=0.0,
                    score=float(sure[k]),
                    best_id=int(best[k]),
                    best_iou=float(overlap[k]),
                )
                for k, id_ in enumerate(ids)
            ]
            there = [k for k in range(len(ids)) if predicted[k].any()]
            matrix = np.array(
                [[brute_iou(predicted[k], labels == id_, False) for id_ in ids] for k in there]
            ).reshape(-1, len(ids))
            images.append((sure[there], matrix))
        expected = average_precision(images)
        assert precision(rows) == {
            "ap": pytest.approx(expected.mean()),
            "ap50": pytest.approx(expected[0]),
        }


def test_sphere_iou_of_counts_is_jaccard_sphere() -> None:
    from panoforge.eval.scoring.metrics.sphere import jaccard_sphere, row_weight_sr

    rng = np.random.default_rng(4)
    for case in range(250):
        predicted, true = random_case(rng, case)
        counts = row_counts(pack(predicted[None]), true.astype(np.uint16) * 7, [7])
        found = iou(counts, row_weight=row_weight_sr(*true.shape))[0]
        assert found == pytest.approx(jaccard_sphere(predicted, true), abs=1e-12)
