"""`pano compare`: the table of real evaluations, and what it refuses, by its message."""

import csv
import functools
import io
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic

from panoforge.cli import main
from panoforge.core.errors import DataError, StorageError, UsageError
from panoforge.eval.config import EvalConfig
from panoforge.eval.reports.comparison import as_json, render
from panoforge.eval.run import run_evaluation
from panoforge.eval.scoring.compare import compare


def config(**changes: object) -> EvalConfig:
    base = {
        "predictor": "ground_truth",
        "methods": ["direct"],
        "scan": {"size_px": 64},
        "device": "cpu",
        "model": {"size": "tiny", "image_size": 64},
        "report_panoramas": 0,
    }
    return EvalConfig.model_validate({**base, **changes})


@pytest.fixture(scope="module")
def evaluations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same two panoramas scored with ground truth and with nothing, and once by another
    protocol.
    """
    folder = tmp_path_factory.mktemp("compare")
    dataset = synthetic.dataset(folder, scenes=2, cameras=1, width=128)
    run_evaluation(config(), dataset, folder / "truth")
    run_evaluation(config(predictor="empty"), dataset, folder / "nothing")
    run_evaluation(config(scan={"size_px": 64, "fov_deg": 75}), dataset, folder / "narrow")
    return folder


def changed(evaluations: Path, name: str, change: Any) -> Path:
    """A copy of the ground truth's results after `change(content)`."""
    content = json.loads((evaluations / "truth/eval/latest/results.json").read_text())
    change(content)
    path = evaluations / f"{name}.json"
    path.write_text(json.dumps(content))
    return path


def test_the_table_says_what_the_results_say(evaluations: Path) -> None:
    found = compare([evaluations / "truth", evaluations / "nothing"])
    content = json.loads((evaluations / "truth/eval/latest/results.json").read_text())
    (score,) = [s for s in content["scores"] if s["role"] == "model"]
    reference, nothing = found.lines
    assert reference.miou.value == pytest.approx(
        score["miou"]
    ) and reference.miou_cos.value == pytest.approx(score["miou_cos"])
    assert (found.instances, found.panoramas) == (score["instances"], 2)
    assert nothing.miou.value == 0.0 and nothing.versus.difference.value == pytest.approx(
        -score["miou"]
    )
    assert (
        reference.versus is None and nothing.p_value == 0.5
    )  # two panoramas: ± and ∓ out of four patterns
    text = render(found)
    assert "(reference)" in text and "-100.0" in text and found.protocol_id in text
    assert "2 panoramas are few: no p-value can be below 0.5" in text
    assert "nothing: no model was run" in text


def test_methods_of_one_run_and_many_panoramas(evaluations: Path) -> None:
    """40 panoramas of 3 instances; one method is better by 0.1 ± 0.02."""
    rng = np.random.default_rng(0)

    def change(content: dict) -> None:
        row = content["rows"][0] | {"role": "model", "iou_cos": 0.5}
        content["rows"] = []
        for k in range(120):
            base = rng.uniform(0.3, 0.8)
            for method, gain in (("direct", 0.0), ("scan", rng.normal(0.1, 0.02))):
                content["rows"].append(
                    row | {"key": f"k{k // 3}", "id": k % 3, "method": method, "iou": base + gain}
                )

    found = compare([changed(evaluations, "many", change)])
    direct, scan = found.lines
    assert (direct.method, scan.method, found.instances, found.panoramas) == (
        "direct",
        "scan",
        120,
        40,
    )
    assert scan.versus.difference.low < 0.1 < scan.versus.difference.high and scan.p_value < 0.001
    assert (
        scan.versus.difference.high - scan.versus.difference.low < 0.02
    )  # paired: far less than the spread of either
    assert direct.miou.high - direct.miou.low > 0.03 and not any(
        "few" in note for note in found.notes
    )
    assert found == compare([evaluations / "many.json"])


def test_another_protocol_is_refused_by_the_part_that_differs(evaluations: Path) -> None:
    with pytest.raises(DataError) as caught:
        compare([evaluations / "truth", evaluations / "narrow"])
    message = str(caught.value)
    assert (
        "scan.fov_deg: 90.0 in truth, 75.0 in narrow" in message
        and "Evaluate one of them again" in message
    )
    assert "overlap" not in message.split("What differs")[1]


def test_other_data_and_other_instances_are_refused(evaluations: Path) -> None:
    other = changed(evaluations, "other", lambda c: c["dataset"].update(manifest_sha256="0" * 64))
    with pytest.raises(DataError, match="different data"):
        compare([evaluations / "truth", other])
    fewer = changed(evaluations, "fewer", lambda c: c["rows"].pop(0))
    with pytest.raises(DataError, match=r"lacks 1 of the \d+ instances of .*truth \(direct\)"):
        compare([evaluations / "truth", fewer])


def test_what_is_no_result_is_refused(evaluations: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="expected the folder of a finished evaluation"):
        compare([tmp_path])
    with pytest.raises(UsageError, match="at least one run"):
        compare([])
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(DataError, match="not what pano eval writes"):
        compare([tmp_path])
    with pytest.raises(
        DataError, match="version 1, this panoforge reads panoforge-results version 2"
    ):
        compare([changed(evaluations, "newer", lambda c: c.update(schema_version=1))])
    with pytest.raises(DataError, match="no scored instances"):
        compare([changed(evaluations, "bare", lambda c: c.update(rows=[]))])


def test_the_command(evaluations: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["compare", "--json", str(evaluations / "truth"), str(evaluations / "nothing")])
    assert stopped.value.code == 0
    found = json.loads(capsys.readouterr().out)
    assert found["format"] == "panoforge-comparison" and [
        line["run"] for line in found["lines"]
    ] == ["truth", "nothing"]
    with pytest.raises(SystemExit) as stopped:
        main(["eval", "--compare", str(evaluations / "truth"), str(evaluations / "nothing")])
    assert stopped.value.code == 0 and "(reference)" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        main(["compare", str(evaluations / "truth"), str(evaluations / "narrow")])
    assert stopped.value.code == 1 and "What differs" in capsys.readouterr().err


def test_every_format_says_the_same_in_percent(evaluations: Path) -> None:
    """Read back: CSV and JSON to the digit, Markdown and LaTeX as the text has it."""
    found = compare([evaluations / "truth", evaluations / "nothing"])
    content = json.loads((evaluations / "truth/eval/latest/results.json").read_text())
    (score,) = [s for s in content["scores"] if s["role"] == "model"]
    first = as_json(found)["lines"][0]
    assert as_json(found)["unit"] == "percent"
    for name in ("miou", "miou_cos", "j_and_f", "ap"):
        assert first[name] == pytest.approx(100 * score[name], abs=1e-3), name
    rows = list(csv.DictReader(io.StringIO(render(found, "csv"))))
    for row, line in zip(rows, as_json(found)["lines"], strict=True):
        assert row == {name: "" if x is None else str(x) for name, x in line.items()}
    cells = [re.split(r"\s{2,}", line) for line in render(found).splitlines()[1:3]]
    assert cells[0][2].split()[0] == f"{first['miou']:.1f}" and cells[0][5] == f"{first['ap']:.1f}"
    markdown = render(found, "md").splitlines()
    assert [cell.strip() for cell in markdown[2].strip("|").split("|")][:6] == cells[0][:6]
    latex = render(found, "latex")
    assert r"\toprule" in latex and r"cos $\varphi$-weighted" in latex and r"J\&F" in latex
    assert latex.count(r"\\") == 3 and cells[0][2] in latex


def test_names_cannot_break_a_table(evaluations: Path) -> None:
    found = compare([changed(evaluations, "plain", lambda c: None)])
    odd = replace(found, lines=(replace(found.lines[0], run="a|b_c, $x$ {50%}"),))
    assert r"a\|b_c" in render(odd, "md").splitlines()[2]
    assert r"a|b\_c, \$x\$ \{50\%\}" in render(odd, "latex")
    (row,) = csv.DictReader(io.StringIO(render(odd, "csv")))
    assert row["run"] == "a|b_c, $x$ {50%}"


def test_the_command_has_formats_and_exits_like_other_missing_paths(
    evaluations: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def code(*words: object) -> int:
        with pytest.raises(SystemExit) as stopped:
            main([str(word) for word in words])
        return int(stopped.value.code or 0)

    assert code("compare", evaluations / "truth", "--format", "csv") == 0
    assert capsys.readouterr().out.startswith("run,method,miou,")
    assert code("compare", evaluations / "truth", "--format", "tex") == 2
    assert "expected one of text, json, csv, latex, md" in capsys.readouterr().err
    assert code("compare", tmp_path / "nowhere") == code("verify", tmp_path / "nowhere")
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["rows"][0].update(id=[1]),
        lambda c: c["rows"][0].update(id="1"),
        lambda c: c["rows"][0].update(method={}),
        lambda c: c["rows"][0].update(iou=10**400),
        lambda c: c["rows"][0].update(iou=float("nan")),
        lambda c: c["rows"][0].update(iou=7.0),
        lambda c: c["rows"].append(c["rows"][0]),
        lambda c: c["scores"][0].update(ap="high"),
        lambda c: c["weights"].update(kind=[]),
        lambda c: c["dataset"].pop("name"),
        lambda c: c.update(protocol=5),
        lambda c: c.update(protocol=functools.reduce(lambda inner, _: {"a": inner}, range(500), 1)),
    ],
)
def test_hostile_results_are_refused_in_one_line(evaluations: Path, change) -> None:
    with pytest.raises(DataError, match="is not what pano eval writes") as refused:
        compare([evaluations / "truth", changed(evaluations, "hostile", change)])
    assert "\n" not in str(refused.value)


def test_a_pipe_in_the_place_of_results_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "results.json")
    with pytest.raises(DataError, match="not a folder or a pipe"):
        compare([tmp_path])
