"""The report of a dense evaluation in a browser, and what the command prints."""

import pytest
from browser import open_tab
from rooms import rooms

from panoforge.cli.app import main


@pytest.mark.browser
def test_the_report_opens_on_a_desk_and_on_a_phone(tmp_path, capsys):
    data = rooms(tmp_path, 4, 256, splits={"train": 0.5, "val": 0.5})
    config = tmp_path / "dense.yaml"
    config.write_text(
        f"run: {tmp_path / 'run'}\ndataset: {data}\ntask: dense\nsplit: val\n"
        "dense: {predictor: mean, fit_split: train}\n"
    )

    def pano(*words):
        with pytest.raises(SystemExit) as stop:
            main(list(map(str, words)))
        said = capsys.readouterr()
        assert stop.value.code == 0, said.err
        return said.out

    printed = pano("eval", config)
    assert "mIoU" in printed and "split train" not in printed.splitlines()[0]
    page = printed.splitlines()[-1]
    assert page.endswith("report.html")
    first, second = tmp_path / "run", tmp_path / "other"
    pano("eval", config, f"run={second}", "dense.predictor=truth")
    table = pano("compare", second, first)
    assert "depth AbsRel" in table and "(reference)" in table and "it is the mean" in table
    for width, height in ((1280, 900), (360, 740)):
        with open_tab(f"file://{page}", width, height) as tab:
            tab.page.locator(".points canvas").first.scroll_into_view_if_needed()
            tab.wait_for("document.querySelector('.points canvas').dataset.shown > 0")
            assert tab.overflow_px() == 0 and tab.broken_images() == 0
            tab.page.locator("button.zoom").nth(2).click()
            tab.wait_for("document.querySelector('#sphere > div').dataset.shown > 0")
            tab.page.keyboard.press("Escape")
            assert not tab.console and not tab.requests
