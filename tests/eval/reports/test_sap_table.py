"""SAP's table: numbers from the rows by hand, in every place that shows it."""

import json
from pathlib import Path

import numpy as np
import pytest
import synthetic
from repository import ROOT

from panoforge.cluster.config.jobs import EvalJobConfig
from panoforge.cluster.config.sections import load_section
from panoforge.core.errors import ConfigError
from panoforge.eval.config import EvalConfig
from panoforge.eval.reports.sap import our_lines
from panoforge.eval.reports.table import as_lines
from panoforge.eval.run import run_evaluation

SMALL = {
    "model": {"size": "micro", "image_size": 64, "checkpoint": "random"},
    "methods": ["direct", "scan_no_overlap"],
    "device": "cpu",
}
SCAN = "scan_no_overlap"


def test_one_evaluation_has_both_columns_of_clicks(tmp_path: Path) -> None:
    dataset = synthetic.dataset(tmp_path, scenes=1, cameras=1, width=128, n_caps=4)
    config = EvalConfig.model_validate({**SMALL, "prompts": {"corrected": [2, 3]}})
    found = run_evaluation(config, dataset, tmp_path / "out")
    results = found.results
    assert [part["clicks"] for part in results["corrected"]] == [2, 3]
    assert all(row["corrected"] == 0 for row in results["rows"])
    plain = EvalConfig.model_validate({**SMALL, "methods": ["direct"]})
    alone = run_evaluation(plain, dataset, tmp_path / "alone").results
    assert alone["rows"] == [row for row in results["rows"] if row["method"] == "direct"]
    assert alone["corrected"] == []
    assert plain.protocol_id() != config.protocol_id()

    three = [r for r in results["corrected"][1]["rows"] if r["method"] == SCAN]
    one = [r for r in results["rows"] if (r["method"], r["role"]) == (SCAN, "model")]
    assert {r["role"] for r in three} == {"model"} and len(three) == len(one)
    (line,) = [line for line in our_lines(results) if line.method == SCAN]
    assert line.first[0] == np.mean([r["iou"] for r in one])
    assert line.further[0] == np.mean([r["iou"] for r in three])
    border = [r["iou"] for r in three if {"seam", "pole"} & set(r["flags"])]
    assert line.further[-1] == np.mean(border) and line.counts[-1] == len(border) > 0
    focal_px = 32.0  # of a 64² view of 90°
    big = [r["iou"] for r in one if r["area_sr"] * focal_px**2 >= 96**2]
    assert line.counts[6] == len(big) and (line.first[6] is None) == (not big)

    cell = f"{100 * line.first[0]:.1f} ({100 * line.further[0]:.1f})"
    printed = "\n".join(as_lines(results))
    page = (found.folder / "report.html").read_text()
    latex = (found.folder / "sap_table.tex").read_text()
    for text in (printed, page, latex):
        assert cell in text and "[N] secondary" in text and "58.3" in text and "77.3 (86.1)" in text
    assert json.loads((found.folder / "results.json").read_text())["sap_table"][1]["miou"][
        "all"
    ] == [line.first[0], line.further[0]]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("scan.cycles=0", "scan.cycles: Input should be 1 or 2, got 0"),
        ("merge.rule=median", "merge.rule: Input should be 'mean' or 'max', got 'median'"),
    ],
)
def test_what_saps_protocol_has_not_is_refused_in_one_line(word: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_section(ROOT / "configs/eval/sap.yaml", EvalJobConfig, [word])
    assert "\n" not in str(caught.value) and caught.value.exit_code == 2


def test_the_config_of_saps_protocol_is_one() -> None:
    config = load_section(ROOT / "configs/eval/sap.yaml", EvalJobConfig).eval
    assert (config.merge.rule, config.scan.cycles, config.prompts.corrected) == ("max", 2, (3,))
