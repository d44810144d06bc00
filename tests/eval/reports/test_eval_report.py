"""The evaluation report in a real browser: a panorama opens with clicks, truth and predictions to
be switched; published rows.
"""

import re
from pathlib import Path

import numpy as np
import pytest
from browser import Tab, difference, open_tab

from panoforge.core.report.pictures import id_colours
from panoforge.eval.config import EvalConfig
from panoforge.eval.reports.gallery import _marks, _pick
from panoforge.eval.reports.published import SAP_ON_PAV_SOD, TABLES
from panoforge.eval.run import run_evaluation


@pytest.fixture(scope="module")
def scored(caps_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("scored")
    config = EvalConfig.model_validate(
        {
            "predictor": "ground_truth",
            "methods": ["direct", "scan"],
            "max_panoramas": 2,
            "device": "cpu",
            "scan": {"size_px": 128},
            "model": {"size": "tiny", "image_size": 128},
        }
    )
    return out / "eval/latest/report.html", run_evaluation(config, caps_dataset, out).results


def test_published_rows_stand_beside_ours_and_say_what_they_are(scored: tuple[Path, dict]) -> None:
    page = scored[0].read_text()
    section = page[page.index('id="beside-published-results"') :]
    for label, miou, _ in SAP_ON_PAV_SOD:
        assert label in section and f"{100 * miou:.1f} %" in section
    assert (
        section.count("published, not reproduced") == len(SAP_ON_PAV_SOD)
        and section.count("measured here") == 2
    )
    for table in TABLES:
        assert table.title.replace("&", "&amp;") in section and all(
            len(row) == len(table.columns) for row in table.rows
        )
    assert "secondary" in section
    assert "arXiv 2603.12759" in section and "arXiv 2604.07901" in section


def test_what_is_a_mean_over_sizes_is_not_called_large() -> None:
    """58.3 and 75.5 differ by SAP's mean gain over SAM2's four sizes: no size's own score."""
    for label, miou, what in SAP_ON_PAV_SOD:
        is_mean = miou in (0.583, 0.678, 0.755)
        assert ("mean of" in label and "mean of four sizes" in what) == is_mean
        assert ("-L" in label) != is_mean and ("the summary" in what) == is_mean
    scores = {label: miou for label, miou, _ in SAP_ON_PAV_SOD}
    gain = scores["SAP, mean of sizes"] - scores["SAM2, direct, mean of sizes"]
    assert gain == pytest.approx(0.172)


def test_published_j_and_f_average_to_their_mean() -> None:
    """A slip of the pen in these tables would show: J&F is the mean of J and F."""
    for table in TABLES:
        for name in ("J&F", "validation J&F", "test J&F"):
            if name in table.columns and "J" in table.columns:
                at = table.columns.index(name)
                for row in table.rows:
                    assert float(row[at]) == pytest.approx(
                        (float(row[at + 1]) + float(row[at + 2])) / 2, abs=0.6
                    ), row


def rows_of(**ious: tuple[float, float]) -> dict[str, list[dict]]:
    """Per panorama the IoU of its one instance under two methods."""
    return {
        key: [
            {"method": method, "iou": iou}
            for method, iou in zip(("direct", "scan"), pair, strict=True)
        ]
        for key, pair in ious.items()
    }


def test_the_worst_the_best_and_the_most_different_are_shown_and_named() -> None:
    by_key = rows_of(
        a=(0.9, 0.9),
        b=(0.2, 0.2),
        c=(0.3, 0.8),
        d=(0.5, 0.5),
        e=(0.6, 0.6),
        f=(0.7, 0.7),
        g=(0.95, 0.95),
    )
    assert (
        _pick(by_key, 3) == ["b", "c", "g"]
        and _pick(by_key, 99) == list("abcdefg")
        and _pick(by_key, 0) == []
    )
    assert _marks(by_key) == {
        "b": "the worst",
        "g": "the best",
        "c": "methods differ most (50.0 points of mIoU)",
    }
    assert _marks(rows_of(a=(0.1, 0.1))) == {} and set(
        _marks(rows_of(a=(0.1, 0.1), b=(0.2, 0.2)))
    ) == {"a", "b"}
    both = _marks(rows_of(a=(0.0, 0.4), b=(0.9, 0.9)))
    assert both["a"] == "the worst, methods differ most (40.0 points of mIoU)"


def switch(tab: Tab, label: str) -> None:
    before = int(tab.page.evaluate("document.querySelector('#sphere > div').dataset.shown"))
    tab.page.click(f'[data-layer="{label}"]')
    tab.page.mouse.move(5, 5)
    tab.wait_for(f"document.querySelector('#sphere > div').dataset.shown > {before}")


@pytest.mark.browser
def test_truth_prediction_and_clicks_can_be_switched(scored: tuple[Path, dict]) -> None:
    path, results = scored
    rows = [row for row in results["rows"] if (row["role"], row["method"]) == ("model", "scan")]
    key = rows[0]["key"]
    row = max(
        (row for row in rows if row["key"] == key and abs(row["lon_deg"]) < 120),
        key=lambda row: row["area_sr"],
    )
    with open_tab(path.as_uri()) as tab:
        tab.page.evaluate(
            "[...document.querySelectorAll('.item')]"
            f".find((item) => item.querySelector('h3').textContent === '{key}').id = 'it'"
        )
        tab.page.click("#it figure:nth-child(1) button.zoom")
        tab.wait_for("document.querySelector('#sphere > div').dataset.shown > 0")
        assert tab.page.evaluate(
            "[...document.querySelectorAll('#sphere input:checked')].map((i) => i.dataset.layer)"
        ) == ["clicks"]
        tab.page.click("[data-toggle]")  # flat: every click is in sight
        x, y, width, height = tab.box(".ps-flat")
        assert tab.page.evaluate("document.querySelectorAll('.ps-dot').length") == len(
            {r["id"] for r in rows if r["key"] == key}
        )
        px, py = x + (row["lon_deg"] / 360 + 0.5) * width, y + (0.5 - row["lat_deg"] / 180) * height
        colour = id_colours()[row["id"]].astype(int)
        assert (
            np.abs(tab.screenshot()[round(py), round(px)].astype(int) - colour).max() < 16
        )  # the dot itself
        plain = tab.shot_of(".ps-flat")
        switch(tab, "scan")
        assert difference(tab.shot_of(".ps-flat"), plain) > 2
        tab.page.mouse.move(px + 12, py)
        told = tab.page.evaluate("document.querySelector('.ps-readout').textContent")
        assert re.search(
            rf"scan: {row['category']} {row['id']}, IoU {100 * row['iou']:.1f} %", told
        ), told
        assert "ground truth" not in told
        switch(tab, "scan")
        switch(tab, "ground truth")
        outlined = difference(tab.shot_of(".ps-flat"), plain)
        assert 0.05 < outlined < difference(np.zeros_like(plain), plain) / 4  # lines, not areas
        switch(tab, "clicks")
        assert tab.page.evaluate("document.querySelectorAll('.ps-dot').length") == 0
        assert (tab.console, tab.requests) == ([], [])
