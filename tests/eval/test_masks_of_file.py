"""Another tool's masks, as pycocotools writes them: scored as they are, in one table with ours."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco

from panoforge.core.errors import ConfigError, DataError, UsageError
from panoforge.core.shards.read import Dataset
from panoforge.eval.config import EvalConfig
from panoforge.eval.run import run_evaluation
from panoforge.eval.scoring.compare import compare


def config(**changes: Any) -> EvalConfig:
    base = {
        "methods": ["direct"], "model": {"size": "tiny", "image_size": 128}, "device": "cpu",
        "max_panoramas": 2, "report_panoramas": 1,
    }  # fmt: skip
    return EvalConfig.model_validate({**base, **changes})


def answers(dataset: Path, prompts: Path, grown_px: int = 0) -> list[dict]:
    """What a tool says that knows the truth, its masks wider by some pixels."""
    data = Dataset.open(dataset)
    found = []
    for key, asked in json.loads(prompts.read_text())["panoramas"].items():
        ids = data.by_key(key).read("instance")
        for instance in asked["instances"]:
            mask = (ids == instance["id"]).astype(np.uint8)
            mask = cv2.dilate(mask, np.ones((1, 2 * grown_px + 1), np.uint8))
            rle = coco.encode(np.asfortranarray(mask))
            rle = {"size": [*rle["size"]], "counts": rle["counts"].decode()}
            one = {"image_id": key, "id": instance["id"], "segmentation": rle, "score": 0.5}
            found.append(one)
    return found


@pytest.fixture(scope="module")
def ours(caps_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation of ours, whose prompts.json the tool is handed."""
    run = tmp_path_factory.mktemp("ours")
    run_evaluation(config(predictor="ground_truth"), caps_dataset, run)
    return run


def test_they_are_scored_and_compared(caps_dataset: Path, ours: Path, tmp_path: Path) -> None:
    said = answers(caps_dataset, ours / "eval/latest/prompts.json")
    wide = answers(caps_dataset, ours / "eval/latest/prompts.json", grown_px=3)
    lost, found = wide[0], said[1:3]
    lost["segmentation"] = None
    wide[1:3] = found
    for name, masks in (("exact", said), ("wide", wide)):
        (tmp_path / f"{name}.json").write_text(json.dumps(masks))
        asked = config(predictor="file", predictions=tmp_path / f"{name}.json")
        results = run_evaluation(asked, caps_dataset, tmp_path / name).results
        rows = {(row["key"], row["id"]): row for row in results["rows"] if row["role"] == "model"}
        assert len(rows) == len(said) and results["weights"]["source"] == f"{name}.json"
        if name == "exact":
            assert {row["iou"] for row in rows.values()} == {1.0}
            continue
        assert rows[lost["image_id"], lost["id"]]["iou"] == 0
        assert all(rows[one["image_id"], one["id"]]["iou"] == 1 for one in found)
        data = Dataset.open(caps_dataset)
        for one in wide[3:]:
            truth = data.by_key(one["image_id"]).read("instance") == one["id"]
            mask = coco.decode(one["segmentation"]).astype(bool)
            expected = (truth & mask).sum() / (truth | mask).sum()
            assert rows[one["image_id"], one["id"]]["iou"] == pytest.approx(expected)
    (line, exact, other) = compare([ours, tmp_path / "exact", tmp_path / "wide"]).lines
    assert exact.miou.value == 1 >= line.miou.value > other.miou.value
    assert "The masks are those of wide.json" in (
        tmp_path / "wide/eval/latest/report.html"
    ).read_text(encoding="utf-8")


def spoiled(said: list[dict], how: str) -> Any:
    first = said[0]
    match how:
        case "missing":
            return said[1:]
        case "twice":
            return [*said, first]
        case "size":
            return [{**first, "segmentation": {"size": [1, 1], "counts": "1"}}, *said[1:]]
        case "score":
            return [{**first, "score": float("nan")}, *said[1:]]
        case "number":
            return [{**first, "image_id": 7}, *said[1:]]
        case "bare":
            return [{"image_id": "a", "id": True, "segmentation": None}]
        case "whole":
            return {"annotations": said}
    return "text"


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("missing", r"no answer for 1 instance of .*answer all of prompts\.json"),
        ("twice", r"is answered twice: leave the better mask"),
        ("size", r"its mask is \[1, 1\], its image"),
        ("score", r"has the score nan: expected a number"),
        ("number", r"entry 0 is .*expected a list of"),
        ("bare", r"entry 0 is .*expected a list of"),
        ("whole", r"is a JSON dict: expected a list of"),
        ("text", r"is a JSON str: expected a list of"),
    ],
)
def test_what_is_no_answer_is_refused(
    caps_dataset: Path, ours: Path, tmp_path: Path, how: str, why: str
) -> None:
    said = answers(caps_dataset, ours / "eval/latest/prompts.json")
    path = tmp_path / "peer.json"
    path.write_text(json.dumps(spoiled(said, how)))
    with pytest.raises(DataError, match=why):
        run_evaluation(config(predictor="file", predictions=path), caps_dataset, tmp_path / "run")
    path.write_text('[{"image_id": ')
    with pytest.raises(DataError, match=r"is not JSON .*expected a list of"):
        run_evaluation(config(predictor="file", predictions=path), caps_dataset, tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"methods": ["scan"]}, "set methods to"),
        ({"prompts": {"corrected": [3]}}, "set prompts.corrected to"),
        ({"model": {"checkpoint": "random"}}, "set model.checkpoint to null"),
        ({"predictions": None}, "go together"),
        ({"predictor": "empty"}, "go together"),
    ],
)
def test_what_a_file_cannot_answer_is_refused(changes: dict, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        config(**{"predictor": "file", "predictions": "peer.json", **changes})


def test_videos_are_not_scored_so(tmp_path: Path) -> None:
    path = tmp_path / "peer.json"
    path.write_text("[]")
    asked = config(predictor="file", predictions=path, benchmark="held_out_video", root=tmp_path)
    with pytest.raises((UsageError, ConfigError), match="has masks of panoramas"):
        run_evaluation(asked, tmp_path, tmp_path / "run")
