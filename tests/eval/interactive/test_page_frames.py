"""What a frame of the annotation page shows, and what it costs: while it turns and at rest."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from annotating import serving
from browser import Tab, open_tab

from panoforge.core.geometry.sphere import View, pixel_to_direction
from panoforge.core.geometry.views import sample_view, wrap_panorama
from panoforge.core.sample.products import encode_product
from panoforge.eval.interactive.serve.opening import Asked

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]
WIDTH, HEIGHT = 4096, 2048
LOOKS = [(0, 0, 100), (170, 20, 40), (-60, 89, 100), (10, -90, 130), (47, 46, 70), (20, 70, 12)]
GREY = 6.0  # a pixel of the stage is 3 grey levels where the picture is steepest, 100° wide
COUNT = """() => {
  const proto = WebGL2RenderingContext.prototype, { drawElements } = proto;
  window.drawnIndices = 0;
  proto.drawElements = function (mode, count, ...rest) {
    window.drawnIndices += count;
    return drawElements.call(this, mode, count, ...rest);
  };
}"""
SLOW = """(ms) => {
  const proto = WebGL2RenderingContext.prototype, { clear } = proto;
  proto.clear = function (...all) {
    for (const end = performance.now() + window.slowMs; performance.now() < end;);
    return clear.apply(this, all);
  };
  window.slowMs = ms;
}"""
TURNS = """(n) => new Promise((done) => {
  const turn = (k) => {
    if (k === n) { done(document.getElementById("gl").width); return; }
    panoView.lookAt(k, 0, 100);
    requestAnimationFrame(() => turn(k + 1));
  };
  turn(0);
})"""


@pytest.fixture(scope="module")
def waves() -> np.ndarray:
    """A panorama that is smooth over the seam and the poles, uint8 H×W×3."""
    u, v = np.arange(WIDTH)[None], np.arange(HEIGHT)[:, None]
    return (128 + 100 * np.sin(9 * pixel_to_direction(u, v, WIDTH, HEIGHT))).astype(np.uint8)


@pytest.fixture(scope="module")
def place(waves: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frames") / "place"
    folder.mkdir()
    (folder / "waves.png").write_bytes(encode_product("rgb.png", waves))
    return folder


@pytest.fixture
def tab(place: Path, tmp_path: Path) -> Iterator[Tab]:
    with (
        serving(Asked(place=place, work=tmp_path / "work")) as server,
        open_tab(server.url, 1100, 560) as tab,
    ):
        tab.wait_for("document.body.dataset.loaded !== undefined")
        yield tab
        assert tab.console == []


def settled(tab: Tab) -> None:
    """At rest, with all tiles."""
    tab.page.wait_for_timeout(400)
    tab.wait_for("document.body.dataset.settled === 'true'")
    tab.page.wait_for_timeout(200)


@pytest.mark.parametrize("turning", [False, True])
def test_the_stage_shows_the_view(tab: Tab, waves: np.ndarray, turning: bool) -> None:
    """No hole, and nothing bent, at the seam, poles and tiles' edges; turning bends little."""
    panorama = wrap_panorama(waves)
    for lon, lat, fov in LOOKS:
        look = f"panoView.lookAt({lon}, {lat}, {fov})"
        tab.page.evaluate(look)
        settled(tab)
        if turning:
            tab.page.evaluate(f"() => {{ window.turner = setInterval(() => {look}, 30); }}")
            tab.page.wait_for_timeout(300)
        shown = tab.shot_of("#stage").astype(np.float32)
        tab.page.evaluate("clearInterval(window.turner)")
        high, wide = shown.shape[:2]
        view = sample_view(panorama, View(lon, lat, fov, wide))
        row = (wide - high) // 2
        assert row >= 0
        away = np.abs(cv2.blur(shown - view[row : row + high], (3, 3)))[8:-8, 8:-8]
        assert away.max() < (4 * GREY if turning else GREY), (lon, lat, fov, away.max())
        assert away.mean() < (GREY if turning else 2), (lon, lat, fov, away.mean())


def test_a_turning_view_is_drawn_with_less(tab: Tab) -> None:
    """Fewer triangles for all; fewer pixels on a slow machine, however slow, until it rests."""
    tab.page.evaluate(COUNT)
    settled(tab)

    def triangles() -> int:
        frames = "Number(document.body.dataset.frames)"
        before = tab.page.evaluate(f"[window.drawnIndices, {frames}]")
        tab.page.evaluate(TURNS, 4)
        after = tab.page.evaluate(f"[window.drawnIndices, {frames}]")
        return (after[0] - before[0]) // 3 // (after[1] - before[1])

    assert 500 < triangles() < 8000  # the sphere has 83,000 of the finest
    settled(tab)
    full = tab.page.evaluate("document.getElementById('gl').width")
    assert full == round(tab.box("#stage")[2])
    tab.page.evaluate(SLOW, 350)
    assert abs(tab.page.evaluate(TURNS, 12) - full / 2) <= 1
    tab.page.evaluate("window.slowMs = 0")
    tab.page.wait_for_timeout(1600)
    assert tab.page.evaluate("document.getElementById('gl').width") == full


def test_nothing_is_laid_over_the_sphere_where_nothing_is_marked(tab: Tab) -> None:
    """An empty canvas costs a machine without a GPU as much as half of the sphere."""
    settled(tab)
    x, y = tab.centre_of("#stage")

    def over() -> bool:
        tab.page.mouse.move(x, y)
        tab.page.mouse.move(x + 5, y)
        tab.page.wait_for_timeout(300)
        return tab.page.locator("#ink").is_visible()

    assert not over()
    tab.page.keyboard.press("b")
    assert over()  # the brush's ring
    tab.page.keyboard.press("v")
    assert not over()
    tab.page.keyboard.press("c")
    assert not over()
    tab.page.mouse.click(x, y)
    tab.wait_for("document.body.dataset.version === '1'")
    assert over()  # the click's mark
    tab.page.keyboard.press("n")
    assert not over()
    tab.page.keyboard.press("ArrowLeft")
    tab.page.wait_for_timeout(300)
    assert tab.page.locator("#ink").is_visible()  # the cross of the keyboard
