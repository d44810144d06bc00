"""A video on the page in a real browser: scrub, propagate, correct, cancel, reload, save."""

import contextlib
import os
from pathlib import Path

import clips
import numpy as np
import pytest
from annotating import Annotator, serving
from browser import Tab, difference, open_tab
from on_the_page import at_frame, data, version
from pycocotools.coco import COCO

from panoforge.eval.interactive.serve.opening import Asked

pytestmark = [pytest.mark.real, pytest.mark.browser, pytest.mark.timeout(600)]
FRAMES = 12


def shoot(tab: Tab, name: str) -> None:
    if folder := os.environ.get("PANO_SHOTS"):
        tab.page.wait_for_timeout(300)
        tab.page.screenshot(path=Path(folder) / f"{name}.png")


def test_a_video_from_first_stroke_to_file(tmp_path: Path) -> None:
    films = tmp_path / "films"
    films.mkdir()
    clips.write_clip(films / "walk.mp4", clips.moving_disc(FRAMES)[0])
    with (
        serving(Asked(place=films, work=tmp_path / "work")) as server,
        open_tab(server.url) as tab,
    ):
        page, press = tab.page, tab.page.keyboard.press
        tab.wait_for("document.body.dataset.loaded !== undefined")
        tab.wait_for("document.body.dataset.settled === 'true'")
        assert page.locator("#timeline").is_visible()
        page.evaluate("panoView.lookAt(160, 0, 100)")
        page.evaluate("document.getElementById('radius').value = 86")
        page.evaluate("document.getElementById('radius').dispatchEvent(new Event('input'))")
        page.click('[data-tool="brush"]')
        x, y = tab.centre_of("#stage")
        tab.drag(x, y, x + 4, y)
        version(tab, 1)
        first = tab.shot_of("#stage")
        # by keys: on over the seam, to the end
        press("f")
        tab.wait_for("document.body.dataset.carrying === ''")
        tab.wait_for("document.body.dataset.carrying === undefined")
        assert "propagated over 11 frames" in page.inner_text("#notice")
        for _ in range(6):
            press(".")
        at_frame(tab, 6)
        page.wait_for_timeout(300)
        (one,) = data(tab, "objects")
        assert one["id"] == 1 and one["pixels"] > 0
        assert difference(tab.shot_of("#stage"), first) > 0.3
        shoot(tab, "video")
        # corrected on a frame: a keyframe, found again by keys; its neighbour is as it was
        before = one["pixels"]
        tab.drag(x + 150, y - 120, x + 160, y - 100)
        tab.wait_for(f"JSON.parse(document.body.dataset.objects)[0].pixels > {before}")
        press(",")
        at_frame(tab, 5)
        assert abs(data(tab, "objects")[0]["pixels"] - before) < before / 4
        press(">")
        at_frame(tab, 6)
        press("<")
        at_frame(tab, 0)
        # undone from another frame: the page goes to where it was
        press("Control+z")
        at_frame(tab, 6)
        assert data(tab, "objects")[0]["pixels"] == before
        # off the frames after this one, by mouse; the slider by mouse
        page.select_option("#clear-span", "after")
        page.click("#clear")
        tab.wait_for("document.body.dataset.saved === 'saved'")
        page.locator("#frame").fill("9")
        at_frame(tab, 9)
        assert data(tab, "objects")[0]["pixels"] == 0
        assert "not on this frame" in page.inner_text("#objects")
        press("Escape")
        page.click('[data-object="1"]')
        press("g")  # to the nearest frame that shows it
        at_frame(tab, 6)
        # hidden for this browser, also after a reload; the others see it
        press("h")
        page.reload()
        tab.wait_for("document.body.dataset.loaded !== undefined")
        assert "hidden" in page.inner_text("#objects")
        with page.expect_download() as download:
            page.click('[data-save="coco.json"]')
        download.value.save_as(tmp_path / "out.json")
        with contextlib.redirect_stdout(None):
            coco = COCO(tmp_path / "out.json")
        assert len(coco.getAnnIds()) == 7
        ann = Annotator(server.server_port)
        video = ann.picture("walk.mp4")
        for entry in coco.loadAnns(coco.getAnnIds()):
            (one,) = ann.look(video, entry["image_id"] - 1)["objects"]
            mask = ann.mask(video, one, clips.WIDTH, clips.HEIGHT)
            assert np.array_equal(coco.annToMask(entry), mask)
        assert tab.console == []
