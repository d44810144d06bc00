"""The whole evaluation on small data: the geometry's ceiling, the files it writes, resuming, and
what it refuses.
"""

import hashlib
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import pytest
import synthetic

from panoforge.core.config import load_config
from panoforge.core.errors import ConfigError, DataError, UsageError
from panoforge.core.shards.read import Dataset
from panoforge.eval.config import EvalConfig, MethodName
from panoforge.eval.evaluate import choose_instances
from panoforge.eval.reports.table import as_lines
from panoforge.eval.run import run_evaluation


def config(**changes: object) -> EvalConfig:
    base = {
        "predictor": "ground_truth",
        "scan": {"size_px": 128},
        "model": {"size": "tiny", "image_size": 128},
        "device": "cpu",
    }
    return EvalConfig.model_validate({**base, **changes})


def score(results: dict, method: str, role: str) -> dict:
    (found,) = [s for s in results["scores"] if (s["method"], s["role"]) == (method, role)]
    return found


def test_ground_truth_survives_scan_and_merge_at_1024(tmp_path: Path) -> None:
    """The number of the issue: ≥ 0.99 through 512² views at 1024×512. Every panorama here has
    instances on the seam and a pole.
    """
    dataset = synthetic.dataset(tmp_path, scenes=2, cameras=1, width=1024, n_caps=10)
    results = run_evaluation(
        config(methods=["scan"], scan={"size_px": 512}), dataset, tmp_path / "out"
    ).results
    found = score(results, "scan", "model")
    assert found["miou"] >= 0.999 and found["miou_cos"] >= 0.999 and found["boundary_f"] >= 0.999
    assert min(row["iou"] for row in results["rows"] if row["role"] == "model") >= 0.99
    assert any("seam" in row["flags"] for row in results["rows"]) and any(
        "pole" in row["flags"] for row in results["rows"]
    )


def test_every_method_has_a_ceiling_near_one(tmp_path: Path) -> None:
    """Ground truth through each method's own frames: what is lost is that method's geometry. A cube
    face without the click says nothing, so objects across faces are lost there, and nowhere else.
    """
    dataset = synthetic.dataset(tmp_path, scenes=1, cameras=1, width=512)
    methods = list(get_args(MethodName))
    results = run_evaluation(
        config(methods=methods, scan={"size_px": 256}), dataset, tmp_path / "out"
    ).results
    ceiling = {method: score(results, method, "ceiling")["miou"] for method in methods}
    assert 0.3 < ceiling.pop("cubemap") < 0.95
    assert min(ceiling.values()) > 0.995 and ceiling["direct"] == ceiling["erp_patches"] == 1.0
    assert (
        score(results, "scan_bidirectional", "model")["miou"]
        == score(results, "scan", "model")["miou"]
    )


def test_results_say_what_was_measured(caps_dataset: Path, tmp_path: Path) -> None:
    results = run_evaluation(config(max_panoramas=2), caps_dataset, tmp_path).results
    assert json.loads((tmp_path / "eval/latest/results.json").read_text()) == results
    assert (
        results["protocol_id"] == config(max_panoramas=1).protocol_id()
    )  # how much data is no part of the protocol
    assert results["protocol_id"] != config(scan={"size_px": 64}).protocol_id()
    assert results["weights"]["kind"] == "none" and len(results["dataset"]["manifest_sha256"]) == 64
    assert results["versions"]["torch"] and results["dataset"]["panoramas"] == 2
    for method in ("direct", "scan"):
        assert (
            score(results, method, "floor")["miou"]
            == score(results, method, "floor")["boundary_f"]
            == 0.0
        )
        assert score(results, method, "ceiling")["miou"] > 0.97
        assert (
            score(results, method, "logit ceiling")["miou"]
            < score(results, method, "ceiling")["miou"]
        )
    rows = [row for row in results["rows"] if row["role"] == "model" and row["method"] == "scan"]
    by_image = [
        np.mean([r["iou"] for r in rows if r["key"] == key]) for key in {r["key"] for r in rows}
    ]
    assert score(results, "scan", "model")["miou"] == pytest.approx(
        np.mean([r["iou"] for r in rows])
    )
    assert score(results, "scan", "model")["miou_by_image"] == pytest.approx(np.mean(by_image))
    prompts = json.loads((tmp_path / "eval/latest/prompts.json").read_text())
    assert {key: [i["id"] for i in p["instances"]] for key, p in prompts["panoramas"].items()} == {
        key: [r["id"] for r in rows if r["key"] == key] for key in {r["key"] for r in rows}
    }


def test_report_is_whole_and_self_contained(caps_dataset: Path, tmp_path: Path) -> None:
    results = run_evaluation(config(max_panoramas=1), caps_dataset, tmp_path).results
    page = (tmp_path / "eval/latest/report.html").read_text()
    markup = page.split("<script>")[0]  # the viewer's own code comes after it
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", markup) and not re.search(
        r"url\((?!['\"]?data:)", markup
    )
    assert results["protocol_id"] in page and results["dataset"]["manifest_sha256"] in page
    assert (
        page.count("data:image/jpeg") == 7
    )  # image, truth, prediction and error of two methods, the 360° view
    assert "No model was run" in page
    for word in ("ceiling", "floor", "cos φ-weighted", results["rows"][0]["key"]):
        assert word in page


def test_sam2_with_random_weights_is_scored_and_announced(tmp_path: Path) -> None:
    dataset = synthetic.dataset(tmp_path, scenes=1, cameras=1, width=128, n_caps=3)
    small = {"size": "tiny", "image_size": 64, "checkpoint": "random"}
    with pytest.raises(UsageError, match=r"model\.checkpoint=random scores random"):
        run_evaluation(config(predictor="sam2"), dataset, tmp_path / "out")
    tiny = config(predictor="sam2", model=small, scan={"size_px": None, "overlap": 0.0})
    results = run_evaluation(tiny, dataset, tmp_path / "out").results
    assert results["weights"]["kind"] == "random" and len(results["weights"]["sha256"]) == 64
    assert as_lines(results)[0].startswith("Random weights")
    assert "Random weights." in (tmp_path / "out/eval/latest/report.html").read_text()
    assert 0 <= score(results, "scan", "model")["miou"] < 0.9
    again = run_evaluation(tiny, dataset, tmp_path / "two").results
    assert again["rows"] == results["rows"] and again["weights"] == results["weights"]


def test_interrupted_and_run_again_gives_the_same(
    caps_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import panoforge.eval.evaluate as run

    whole = run_evaluation(config(), caps_dataset, tmp_path / "whole").results
    calls, real = [], run.evaluate_sample

    def dies_at_the_third(cfg: EvalConfig, sample: object, *others: object) -> object:
        calls.append(sample.key)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(cfg, sample, *others)

    monkeypatch.setattr(run, "evaluate_sample", dies_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        run_evaluation(config(), caps_dataset, tmp_path / "cut")
    assert not list((tmp_path / "cut").rglob("results.json"))
    resumed = run_evaluation(config(), caps_dataset, tmp_path / "cut").results
    assert len(calls) == len(set(calls)) + 1  # only the one that was cut is done twice
    assert resumed["rows"] == whole["rows"] and resumed["scores"] == whole["scores"]
    assert (tmp_path / "cut/eval/latest/prompts.json").read_bytes() == (
        tmp_path / "whole/eval/latest/prompts.json"
    ).read_bytes()
    run_evaluation(config(scan={"size_px": 64}), caps_dataset, tmp_path / "cut")
    assert len(calls) == 9 + len(
        Dataset.open(caps_dataset)
    )  # another protocol: nothing of the old is taken


def test_what_was_scored_and_damaged_since_is_named(caps_dataset: Path, tmp_path: Path) -> None:
    run_evaluation(config(), caps_dataset, tmp_path)
    done = sorted((tmp_path / "eval/latest/panoramas").iterdir())[0]
    for name in ("prompts.json", "truth.png", "rgb.jpg"):
        file = done / name
        whole = file.read_bytes()
        file.write_bytes(b"{")
        with pytest.raises(DataError, match=rf"{name} is not what .* remove .*{done.name} and run"):
            run_evaluation(config(), caps_dataset, tmp_path)
        file.unlink()
        os.mkfifo(file)
        with pytest.raises(DataError, match="not a folder or a pipe"):
            run_evaluation(config(), caps_dataset, tmp_path)
        file.unlink()
        file.write_bytes(whole)
    truth = done / "truth.png"
    whole = truth.read_bytes()
    truth.write_bytes(cv2.imencode(".png", np.zeros((8, 16), np.uint16))[1].tobytes())
    with pytest.raises(DataError, match=r"truth\.png is not what .*\(16×8, its picture 256×128\)"):
        run_evaluation(config(), caps_dataset, tmp_path)
    truth.write_bytes(whole)
    run_evaluation(config(), caps_dataset, tmp_path)


def test_instances_are_drawn_by_seed_and_filtered(caps_dataset: Path) -> None:
    sample = Dataset.open(caps_dataset)[0]
    every = choose_instances(config(), sample.meta.instances, sample.key)
    few = config(instances={"max_per_panorama": 3})
    drawn = choose_instances(few, sample.meta.instances, sample.key)
    assert (
        len(drawn) == 3
        and set(drawn) < set(every)
        and [r.id for r in drawn] == sorted(r.id for r in drawn)
    )
    assert drawn == choose_instances(few, sample.meta.instances, sample.key)
    seeds = [config(instances={"max_per_panorama": 3}, seed=seed) for seed in range(8)]
    assert (
        len(
            {
                tuple(r.id for r in choose_instances(c, sample.meta.instances, sample.key))
                for c in seeds
            }
        )
        > 1
    )
    kept = choose_instances(
        config(instances={"skip_flags": ["seam"], "min_pixels": 900}),
        sample.meta.instances,
        sample.key,
    )
    assert 0 < len(kept) < len(every) and all(
        "seam" not in r.flags and r.pixels >= 900 for r in kept
    )


def test_user_mistakes_are_named(caps_dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("metods: [scan]\n")
    with pytest.raises(ConfigError, match=r"unknown key 'metods'\. Did you mean 'methods'\?"):
        load_config(tmp_path / "bad.yaml", EvalConfig)
    (tmp_path / "bad.yaml").write_text("methods: [scann]\n")
    with pytest.raises(ConfigError, match="methods"):
        load_config(tmp_path / "bad.yaml", EvalConfig)
    with pytest.raises(UsageError, match=r"no split 'trian'.*Did you mean 'train'"):
        run_evaluation(config(split="trian"), caps_dataset, tmp_path / "out")
    (tmp_path / "junk.pt").write_bytes(b"not a checkpoint")
    wrong = {"size": "tiny", "image_size": 64, "checkpoint": tmp_path / "junk.pt"}
    with pytest.raises(DataError, match=r"junk\.pt cannot be read as a checkpoint"):
        run_evaluation(config(predictor="sam2", model=wrong), caps_dataset, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def times_opened(path: Path, work: Callable[[], object]) -> int:
    """How often a file is opened meanwhile, by whatever library."""
    opened: list[object] = []
    listening = [True]  # a hook stays for good

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if listening and event == "open" and str(arguments[0]) == str(path):
            opened.append(arguments)

    sys.addaudithook(hook)
    work()
    listening.clear()
    return len(opened)


def test_a_hardly_trained_checkpoint_is_scored_and_announced(tmp_path: Path) -> None:
    from panoforge.eval.predictors.load import load_model
    from panoforge.train.model.checkpoint_export import export_official

    small = {"size": "tiny", "image_size": 64}
    export_official(
        tmp_path / "model.pt", load_model(config(model=small, seed=5)).model.state_dict(), step=12
    )
    dataset = synthetic.dataset(tmp_path, scenes=1, cameras=1, width=128, n_caps=2)
    scored = config(
        predictor="sam2", methods=["direct"], model={**small, "checkpoint": tmp_path / "model.pt"}
    )
    found = []
    opened = times_opened(
        tmp_path / "model.pt",
        lambda: found.append(run_evaluation(scored, dataset, tmp_path / "out")),
    )
    results = found[0].results
    assert opened == 1
    assert results["weights"]["kind"] == "checkpoint" and results["weights"]["steps"] == 12
    assert (
        results["weights"]["sha256"]
        == hashlib.sha256((tmp_path / "model.pt").read_bytes()).hexdigest()
    )
    page = (tmp_path / "out/eval/latest/report.html").read_text()
    assert "Hardly trained." in page and "12 steps only" in page and "Random weights" not in page
    wrong = {**small, "size": "small", "checkpoint": tmp_path / "model.pt"}
    with pytest.raises(
        DataError, match=r"does not fit model\.size=small: it looks like SAM 2\.1 tiny"
    ):
        run_evaluation(config(predictor="sam2", model=wrong), dataset, tmp_path)


def test_a_ceiling_of_zero_is_an_error_and_no_row(
    caps_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a method looks like whose frames see no prompt: no results, and its name is said."""
    import panoforge.eval.segmentation.segment as module

    monkeypatch.setattr(module, "_predict_singly", lambda inputs, objects, predictor: iter(()))
    with pytest.raises(DataError, match="the ceiling of direct is 0"):
        run_evaluation(config(methods=["direct", "scan"]), caps_dataset, tmp_path)
    assert not list(tmp_path.rglob("results.json"))


def test_nothing_scored_is_an_error_and_no_results(caps_dataset: Path, tmp_path: Path) -> None:
    """No instance is large enough to count: refused, not a table without rows."""
    scored = config(methods=["direct"], instances={"min_pixels": 10**9})
    with pytest.raises(DataError, match="nothing was scored: no panorama has an instance that"):
        run_evaluation(scored, caps_dataset, tmp_path)
    assert not list(tmp_path.rglob("results.json"))
