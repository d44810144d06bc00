"""MAE, F_β, E- and S-measure against their definitions threshold by threshold and block by block;
AP against pycocotools.
"""

import contextlib
import io

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from panoforge.eval.scoring.metrics.detection import average_precision
from panoforge.eval.scoring.metrics.saliency import BETA2, e_curve, f_curve, mae, s_measure


def cases(number: int = 210):
    """(predicted, true): noise, levels, constants; empty, full, one pixel, at the seam, at the
    pole.
    """
    rng = np.random.default_rng(0)
    for case in range(number):
        height, width = int(rng.integers(2, 9)), int(rng.integers(2, 15))
        true = np.zeros((height, width), bool)
        kind = case % 7
        if kind == 1:
            true[:] = True
        elif kind == 2:
            true[rng.integers(height), rng.integers(width)] = True
        elif kind == 3:
            true[:, [0, -1]] = True
        elif kind == 4:
            true[0] = True
        elif kind >= 5:
            true = rng.random(true.shape) < rng.random()
        predicted = rng.random(true.shape) if case % 3 else np.rint(rng.random(true.shape) * 4) / 4
        if case % 11 == 0:
            predicted = true.astype(float)
        if case % 13 == 0:
            predicted[:] = 0.4
        yield predicted, true


def stretch(predicted: np.ndarray) -> np.ndarray:
    return (predicted - predicted.min()) / (predicted.max() - predicted.min() + 1e-20)


def test_mae_f_and_e_are_their_definitions_at_every_threshold() -> None:
    for predicted, true in cases():
        errors = [abs(p - t) for p, t in zip(predicted.flat, true.flat, strict=True)]
        assert mae(predicted, true) == pytest.approx(sum(errors) / true.size)
        f, e, paper = (
            f_curve(predicted, true),
            e_curve(predicted, true),
            e_curve(predicted, true, "paper"),
        )
        for k, threshold in [
            *list(enumerate(np.linspace(0, 1 - 1e-10, 255)))[::4],
            (254, 1 - 1e-10),
        ]:
            binary = (stretch(predicted) >= threshold).astype(float)
            hit = (binary * true).sum()
            precision, recall = hit / (binary.sum() + 1e-20), hit / (true.sum() + 1e-20)
            expected = (
                (1 + BETA2) * precision * recall / (BETA2 * precision + recall) if hit else 0.0
            )
            assert f[k] == pytest.approx(expected, abs=1e-12)
            a, b = binary - binary.mean(), true - true.mean()
            enhanced = (2 * a * b / (a * a + b * b + 1e-20) + 1) ** 2 / 4
            assert e[k] == pytest.approx(enhanced.sum() / (true.size - 1), abs=1e-9)
            if true.all() or not true.any():
                assert paper[k] == pytest.approx((binary == true).sum() / (true.size - 1))
            else:
                assert paper[k] == e[k]


def brute_s(predicted: np.ndarray, true: np.ndarray) -> float:
    x, n = stretch(predicted), true.size
    if not true.any():
        return 1 - x.mean()
    if true.all():
        return x.mean()

    def object_(values: list[float]) -> float:
        mean = sum(values) / len(values)
        sigma = (
            (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5
            if len(values) > 1
            else 0.0
        )
        return 2 * mean / (mean**2 + 1 + sigma)

    pairs = list(zip(x.flat, true.flat, strict=True))
    share = true.mean()
    s_object = share * object_([p for p, t in pairs if t]) + (1 - share) * object_(
        [1 - p for p, t in pairs if not t]
    )
    total = true.sum()
    cu = round(sum(u * true[:, u].sum() for u in range(true.shape[1])) / total)
    cv = round(sum(v * true[v].sum() for v in range(true.shape[0])) / total)
    s_region = 0.0
    for block in (
        (slice(0, cv), slice(0, cu)),
        (slice(0, cv), slice(cu, None)),
        (slice(cv, None), slice(0, cu)),
        (slice(cv, None), slice(cu, None)),
    ):
        p, t = x[block].ravel(), true[block].ravel().astype(float)
        if not p.size:
            continue
        covariance = np.cov(np.stack([p, t])) if p.size > 1 else np.zeros((2, 2))
        above = 4 * p.mean() * t.mean() * covariance[0, 1]
        below = (p.mean() ** 2 + t.mean() ** 2) * (covariance[0, 0] + covariance[1, 1])
        s_region += p.size / n * (above / below if abs(above) > 1e-18 else float(below < 1e-18))
    return max(0.0, (s_object + s_region) / 2)


def test_s_measure_is_its_definition_block_by_block() -> None:
    for predicted, true in cases():
        assert s_measure(predicted, true) == pytest.approx(brute_s(predicted, true), abs=1e-9)


def test_a_perfect_map_and_its_opposite() -> None:
    true = np.zeros((20, 40), bool)
    true[5:15, 10:30] = True
    assert s_measure(true.astype(float), true) == pytest.approx(1.0)
    assert f_curve(true.astype(float), true).max() == pytest.approx(1.0)
    assert e_curve(true.astype(float), true)[100] == pytest.approx(800 / 799)
    assert s_measure(1.0 - true, true) < 0.1 and f_curve(1.0 - true, true)[100] == 0.0


def coco_ap(images: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> np.ndarray:
    """AP per IoU threshold of (masks D×H×W, scores, masks G×H×W), from pycocotools."""
    height, width = 12, 20
    dataset = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "thing"}]}
    found = []
    for image, (masks, scores, truth) in enumerate(images, start=1):
        dataset["images"].append({"id": image, "height": height, "width": width})
        for mask in truth:
            rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
            dataset["annotations"].append(
                {
                    "id": len(dataset["annotations"]) + 1,
                    "image_id": image,
                    "category_id": 1,
                    "iscrowd": 0,
                    "area": int(mask.sum()),
                    "segmentation": rle,
                    "bbox": coco_mask.toBbox(rle).tolist(),
                }
            )
        for mask, score in zip(masks, scores, strict=True):
            rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
            found.append(
                {"image_id": image, "category_id": 1, "score": float(score), "segmentation": rle}
            )
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = dataset
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(found), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"][:, :, 0, 0, -1].mean(axis=1)


def test_average_precision_is_cocos() -> None:
    """200 sets of images; the first instance is the whole image, over the seam or polar in some;
    some masks are full.
    """
    rng = np.random.default_rng(1)
    for case in range(200):
        images, pairs = [], []
        for _ in range(int(rng.integers(1, 4))):
            truth = np.zeros((int(rng.integers(1, 5)), 12, 20), bool)
            for mask in truth:
                v, u = rng.integers(0, 9), rng.integers(0, 15)
                mask[v : v + 3, u : u + 5] = True
            if case % 5:
                everything, seam = slice(None), [0, 1, -1]
                truth[0] = False
                truth[0][
                    (
                        (everything, everything),
                        (slice(3, 7), seam),
                        (0, everything),
                        (-1, everything),
                    )[case % 5 - 1]
                ] = True
            chosen = truth[rng.integers(0, len(truth), int(rng.integers(1, 7)))]
            masks = chosen ^ (rng.random(chosen.shape) < rng.choice([0.0, 0.01, 0.02]))
            masks[0] |= case % 7 == 0
            masks[:, 0, 0] |= ~masks.any(axis=(1, 2))
            scores = rng.permutation(len(masks)) / 8
            both = np.einsum("dhw,ghw->dg", masks.astype(float), truth.astype(float))
            either = masks.sum(axis=(1, 2))[:, None] + truth.sum(axis=(1, 2))[None] - both
            images.append((masks, scores, truth))
            pairs.append((scores, both / either))
        assert np.allclose(average_precision(pairs), coco_ap(images), atol=1e-9)


def test_average_precision_of_nothing() -> None:
    assert np.isnan(average_precision([(np.array([0.5]), np.zeros((1, 0)))])).all()
    assert average_precision([(np.zeros(0), np.zeros((0, 3)))]).tolist() == [0.0] * 10
    with pytest.raises(ValueError, match="one row of IoU per prediction"):
        average_precision([(np.zeros(2), np.zeros((3, 1)))])
