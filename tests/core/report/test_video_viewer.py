"""The 360° viewer plays videos: in a real browser, by mouse, keyboard and touch, with and without
WebGL.
"""

import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import Tab, difference, open_tab

from panoforge.core.report import viewer
from panoforge.core.report.page import Gallery, Item, Picture, Report, Section, write_report
from panoforge.core.report.pictures import id_colours, png_uri
from panoforge.core.report.viewer import (
    Sphere,
    SphereVideo,
    VideoFrame,
    ids_uri,
    layer_of_ids,
    viewer_script,
)

GREYS = (40, 80, 120, 160, 200, 240)
THING = {0: 7, 1: 7, 2: 9, 3: 9, 4: 7, 5: 7}  # which id is in the middle of each frame
NAMES = {7: "cup", 9: "saucer"}
FRAME = "document.querySelector('.pv').dataset.frame"


def film(fps: float = 5.0, step: int = 2) -> SphereVideo:
    """Six frames, each of one grey, with a thing in the middle that is replaced for two of them."""

    def frame(k: int) -> VideoFrame:
        ids = np.zeros((64, 128), np.uint16)
        ids[16:48, 32:96] = THING[k]
        return VideoFrame(png_uri(np.full((64, 128, 3), GREYS[k], np.uint8)), (ids_uri(ids),))

    first, *later = (frame(k) for k in range(len(GREYS)))
    layer = layer_of_ids("things", first.ids[0], NAMES, NAMES)
    return SphereVideo(first.image, (layer,), later, fps, step, frames=12)


@contextlib.contextmanager
def opened(
    tmp_path: Path, video: SphereVideo, shown: tuple[str, ...] = (), width: int = 1280, **tab: bool
) -> Iterator[Tab]:
    """A page with a video, opened; then with nothing in the console and no request."""
    items = [
        Item("film", [Picture(video.image, "play", shown=shown)], sphere=video),
        Item("still", [Picture(video.image, "image")], sphere=Sphere(video.image)),
    ]
    path = tmp_path / "r.html"
    write_report(path, Report("T", [Section("S", [Gallery(items)])]))
    with open_tab(path.as_uri(), width, 844, **tab) as page:
        page.page.click("button.zoom")
        page.wait_for("document.querySelector('#sphere .ps').dataset.shown > 0")
        page.wait_for("document.activeElement.type === 'range'")
        yield page
        assert (page.console, page.requests) == ([], [])


def frame_of(tab: Tab) -> int:
    return int(tab.page.evaluate(FRAME))


def colour(tab: Tab) -> np.ndarray:
    """What is drawn in the middle of the view."""
    x, y, width, height = map(round, tab.box(".ps-stage"))
    return tab.screenshot()[y + height // 2, x + width // 2].astype(int)


def draws(tab: Tab, expected: object) -> None:
    """The middle of the view has a colour, soon."""
    end = time.monotonic() + 20
    while np.abs(colour(tab) - np.array(expected)).max() > 8:
        assert time.monotonic() < end, f"{colour(tab)} is drawn, not {expected}"


def press(tab: Tab, key: str, frame: int) -> None:
    """A key brings a frame: its number, and its pixels."""
    tab.page.keyboard.press(key)
    tab.wait_for(f"{FRAME} === '{frame}'")
    draws(tab, GREYS[frame // 2])


def test_pages_without_videos_carry_nothing_of_them() -> None:
    plain, whole = str(viewer_script()), str(viewer_script(videos=True))
    assert "panoVideo" in whole and "readFrame" in whole
    for word in ("panoVideo", "readFrame", "{ videos", "} videos"):
        assert word not in plain
    assert "showFrame" not in plain and "setImage" in plain
    assert len(viewer.viewer_style(videos=True)) > len(viewer.viewer_style())


@pytest.mark.browser
@pytest.mark.parametrize("webgl", [True, False])
def test_it_plays_and_pauses(tmp_path: Path, webgl: bool) -> None:
    with opened(tmp_path, film(), webgl=webgl) as tab:
        draws(tab, GREYS[0])
        assert tab.page.inner_text(".pv-said") == "frame 0 of 0–11 · 0.00 s"
        tab.page.click(".pv-bar button")
        seen: list[int] = []
        end = time.monotonic() + 30
        while len(set(seen)) < 4 or not (seen[-1] < max(seen) == 10):  # and starts again
            assert time.monotonic() < end, seen
            seen.append(frame_of(tab))
            tab.page.wait_for_timeout(50)
        assert set(seen) <= set(range(0, 12, 2))
        tab.page.click(".pv-bar button")
        tab.page.wait_for_timeout(300)
        stopped = frame_of(tab)
        draws(tab, GREYS[stopped // 2])
        assert tab.page.inner_text(".pv-said") == f"frame {stopped} of 0–11 · {stopped / 5:.2f} s"
        tab.page.wait_for_timeout(900)
        assert frame_of(tab) == stopped
        draws(tab, GREYS[stopped // 2])


@pytest.mark.browser
def test_it_plays_in_the_videos_own_time(tmp_path: Path) -> None:
    """12 frames at 2 a second, of which 6 are shown: one a second."""
    with opened(tmp_path, film(fps=2.0)) as tab:
        begin = time.monotonic()
        tab.page.keyboard.press("Space")
        tab.wait_for(f"{FRAME} === '6'")
        assert 2.8 < time.monotonic() - begin < 5
        tab.page.keyboard.press("Space")
        assert not tab.page.evaluate("'playing' in document.querySelector('.pv').dataset")


@pytest.mark.browser
def test_it_is_scrubbed_by_keys_and_by_the_slider(tmp_path: Path) -> None:
    with opened(tmp_path, film()) as tab:
        for key, frame in (
            ("ArrowRight", 2),
            ("ArrowRight", 4),
            ("ArrowLeft", 2),
            ("End", 10),
            ("ArrowRight", 10),
            ("Home", 0),
            ("ArrowLeft", 0),
            (".", 2),
        ):
            press(tab, key, frame)
        slider = tab.page.locator(".pv-bar input")
        assert slider.get_attribute("aria-valuetext") == "frame 2, 0.40 seconds"
        x, y, width, height = tab.box(".pv-bar input")
        tab.page.mouse.click(x + width - 4, y + height / 2)
        tab.wait_for(f"{FRAME} === '10'")
        draws(tab, GREYS[5])
        tab.drag(x + width - 9, y + height / 2, x + 0.4 * width, y + height / 2)
        tab.wait_for(f"{FRAME} === '4'")
        draws(tab, GREYS[2])
        tab.page.click("[aria-label='one frame back']")
        tab.wait_for(f"{FRAME} === '2'")
        tab.page.click("[aria-label='one frame on']")
        press(tab, "ArrowRight", 6)  # of the button, too
        tab.page.keyboard.press("Space")  # and that is pressed by the button's own key
        tab.wait_for(f"{FRAME} === '8'")


@pytest.mark.browser
def test_in_the_view_arrows_look_around_and_comma_and_full_stop_step(tmp_path: Path) -> None:
    with opened(tmp_path, film(), shown=("things",)) as tab:
        tab.page.focus(".ps-pannellum")
        before = tab.shot_of(".ps-stage")
        tab.page.keyboard.down("ArrowRight")
        end = time.monotonic() + 20
        while difference(tab.shot_of(".ps-stage"), before) < 5:
            assert time.monotonic() < end, "the arrow key does not turn the view"
        tab.page.keyboard.up("ArrowRight")
        assert frame_of(tab) == 0
        tab.page.keyboard.press(".")
        tab.wait_for(f"{FRAME} === '2'")
        tab.page.keyboard.press(",")
        tab.wait_for(f"{FRAME} === '0'")
        tab.page.keyboard.press("Space")
        tab.wait_for(f"{FRAME} > 0")


@pytest.mark.browser
def test_ids_go_with_the_frames(tmp_path: Path) -> None:
    """Their colours are laid over each frame, and what is under the pointer is that frame's."""
    with opened(tmp_path, film(), shown=("things",)) as tab:
        x, y, width, height = tab.box(".ps-stage")
        tab.page.mouse.move(x + width / 2, y + height / 2)
        for k in (0, 1, 2, 3, 4):
            draws(tab, 0.5 * GREYS[k] + 0.5 * id_colours()[THING[k]])
            tab.wait_for(
                "document.querySelector('.ps-readout').textContent.endsWith("
                f"'things: {NAMES[THING[k]]}')"
            )
            tab.page.keyboard.press("ArrowRight")
        tab.page.uncheck("[data-layer='things']")
        draws(tab, GREYS[5])
        tab.page.focus(".pv-bar input")
        press(tab, "Home", 0)  # and stay off


@pytest.mark.browser
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, False), (390, True)])
def test_targets_are_large_and_nothing_is_cut_off(tmp_path: Path, width: int, dark: bool) -> None:
    with opened(tmp_path, film(), width=width, dark=dark) as tab:
        targets = tab.page.locator("#sphere button, #sphere input[type=range], #sphere label")
        assert targets.count() >= 8
        for target in targets.all():
            box = target.bounding_box()
            assert box["width"] >= 44 and box["height"] >= 44, target.inner_text()
            assert box["x"] >= 0 and box["x"] + box["width"] <= width
            assert box["y"] + box["height"] <= 844
        assert tab.overflow_px() == 0
        x, _, wide, _ = tab.box(".pv-said")
        assert x + wide <= width
        assert tab.box(".ps-stage")[3] > 300
        assert re.fullmatch(r"frame \d+ of 0–11 · \d+\.\d\d s", tab.page.inner_text(".pv-said"))


@pytest.mark.browser
def test_a_panorama_opened_after_a_video_is_a_panorama(tmp_path: Path) -> None:
    with opened(tmp_path, film()) as tab:
        tab.page.keyboard.press("Space")
        tab.page.keyboard.press("Escape")
        tab.wait_for("!document.querySelector('#sphere canvas')")
        tab.page.click("article:nth-child(2) button.zoom")
        tab.wait_for("document.querySelector('#sphere > .ps').dataset.shown > 0")
        draws(tab, GREYS[0])
        assert tab.page.locator(".pv, .pv-bar").count() == 0
        tab.page.keyboard.press("Escape")
        tab.page.click("button.zoom")
        tab.wait_for("document.querySelector('#sphere > .pv > .ps').dataset.shown > 0")
        press(tab, "End", 10)
