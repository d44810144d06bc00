"""Fingers on the annotation page: a tablet clicks and draws, a phone looks."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import synthetic
from annotating import Annotator, serving
from browser import Tab, open_tab
from fingers import Fingers
from on_the_page import at, data, loaded, look_at, version

from panoforge.core.sample.products import encode_product
from panoforge.eval.interactive.serve.opening import Asked
from panoforge.eval.interactive.serve.server import PanoServer

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]
WIDTH, HEIGHT = 512, 256


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    folder = tmp_path_factory.mktemp("touch") / "rooms"
    folder.mkdir()
    rgb, labels = synthetic.caps(np.random.default_rng(5), WIDTH, 6)
    (folder / "a.png").write_bytes(encode_product("rgb.png", rgb))
    return folder, labels


@pytest.fixture
def server(room: tuple[Path, np.ndarray], tmp_path: Path) -> Iterator[PanoServer]:
    with serving(Asked(place=room[0], work=tmp_path / "work")) as server:
        yield server


def under(tab: Tab, x: float, y: float, lon: float, lat: float) -> float:
    """How far a place on the sphere is from a place on the screen, in CSS pixels."""
    return float(np.hypot(*np.subtract(at(tab, lon, lat), (x, y))))


def objects(server: PanoServer) -> list[dict]:
    ann = Annotator(server.server_port)
    return ann.look(ann.picture("a.png"))["objects"]


def test_a_tablet_clicks_and_draws_with_fingers(
    server: PanoServer, room: tuple[Path, np.ndarray]
) -> None:
    with open_tab(server.url, 820, 1100, touch=True) as tab:
        loaded(tab)
        fingers = Fingers(tab)
        # a tap is a click: the cap on the seam
        tab.page.tap('[data-tool="click"]')
        x, y = look_at(tab, 180, 11.5, 80)
        fingers.tap(x, y)
        version(tab, 1)
        ann = Annotator(server.server_port)
        (one,) = objects(server)
        mask = ann.mask(ann.picture("a.png"), one, WIDTH, HEIGHT)
        true = room[1] == room[1][111, WIDTH - 1]
        assert (mask & true).sum() / (mask | true).sum() > 0.8
        # a finger that drags turns the view, whatever it has hold of stays under it
        for tool in ("click", "look", "polygon"):
            tab.page.tap(f'[data-tool="{tool}"]')
            x, y = look_at(tab, 40, 0)
            fingers.move(((x, y), (x - 180, y + 120)))
            assert under(tab, x - 180, y + 120, 40, 0) < 25
        # two fingers zoom: what is between them stays there, and is larger
        x, y = look_at(tab, 40, 0)
        middle = (x + 130, y - 90)
        (lon, lat), fov = place_at(tab, *middle), where(tab)["fov"]
        apart = [
            ((middle[0] + s * 40, middle[1]), (middle[0] + s * 120, middle[1])) for s in (-1, 1)
        ]
        fingers.move(*apart)
        assert where(tab)["fov"] == pytest.approx(fov / 3, rel=0.02)
        assert under(tab, *middle, lon, lat) < 12
        fingers.move(*[(end, start) for start, end in apart])
        assert where(tab)["fov"] == pytest.approx(fov, rel=0.02)
        assert len(objects(server)) == 1 and data(tab, "version") == 1  # nothing was clicked on
        # a stroke by one finger; a second one that comes makes it a pinch, and nothing is drawn
        tab.page.tap('[data-tool="brush"]')
        tab.page.tap("#new")
        x, y = look_at(tab, -60, 0)
        fingers.move(((x - 80, y), (x + 80, y)))
        version(tab, 2)
        before, fov = objects(server), where(tab)["fov"]
        assert len(before) == 2 and before[1]["pixels"] > 0
        fingers.move(((x - 40, y + 60), (x - 90, y + 60)), ((x + 40, y + 60), (x + 90, y + 60)))
        assert where(tab)["fov"] < 0.6 * fov
        # a polygon: the first corner again closes it
        tab.page.tap('[data-tool="polygon"]')
        tab.page.tap("#new")
        x, y = look_at(tab, 100, -20)
        for dx, dy in ((-90, 60), (90, 60), (0, -80), (-86, 63)):
            fingers.tap(x + dx, y + dy)
        version(tab, 3)
        now = objects(server)
        assert now[:2] == before and len(now) == 3
        # chosen by a tap on the sphere, and accepted words by the screen's keyboard
        tab.page.tap('[data-tool="look"]')
        fingers.tap(*at(tab, 100, -20))
        tab.wait_for("document.body.dataset.chosen === '[3]'")
        assert tab.console == []


def test_a_phone_looks(server: PanoServer) -> None:
    with open_tab(server.url, 390, 844, touch=True) as tab:
        loaded(tab)
        fingers = Fingers(tab)
        x, y = look_at(tab, 0, 0)
        fingers.move(((x, y), (x - 100, y - 140)))
        assert under(tab, x - 100, y - 140, 0, 0) < 25
        fov = where(tab)["fov"]
        fingers.move(((x - 30, y), (x - 90, y)), ((x + 30, y), (x + 90, y)))
        assert where(tab)["fov"] == pytest.approx(fov / 3, rel=0.02)
        assert tab.page.evaluate("scrollY + document.body.scrollTop") == 0  # the sphere turns alone
        assert objects(server) == []
        # below the sphere a finger scrolls to the files
        bottom = tab.page.viewport_size["height"] - 20
        assert tab.page.locator("#facts").bounding_box()["y"] > bottom
        for _ in range(4):
            fingers.move(((200, bottom), (200, bottom - 300)))
        tab.page.wait_for_timeout(300)
        assert tab.page.locator("#facts").bounding_box()["y"] < bottom
        assert tab.console == []


def test_what_a_mouse_has_hold_of_stays_under_it(server: PanoServer) -> None:
    """Dragged, and zoomed at by the wheel: over the seam, and before and behind a pole."""
    with open_tab(server.url, 1040, 700) as tab:
        loaded(tab)
        for lat, dx, dy in ((0, 150, 120), (0, -180, -140), (60, 20, 90), (-75, 20, 200)):
            x, y = look_at(tab, 178, lat)
            place = place_at(tab, x + dx, y + dy)
            tab.drag(x + dx, y + dy, x + dx + 60, y + dy + 50)
            assert under(tab, x + dx + 60, y + dy + 50, *place) < 4
            assert abs(where(tab)["lat"] - lat) < 25  # and not by looking from the other side
        assert abs(place[0]) < 90  # the last was behind the pole
        for lat, dx, dy in ((0, 150, 120), (60, -180, -140), (-70, 20, 110)):
            x, y = look_at(tab, 178, lat)
            place = place_at(tab, x + dx, y + dy)
            tab.page.mouse.wheel(0, -400)
            tab.page.wait_for_timeout(100)
            assert where(tab)["fov"] == pytest.approx(100 * np.exp(-0.6), rel=1e-3)
            assert under(tab, x + dx, y + dy, *place) < 4
            assert abs(where(tab)["lat"] - lat) < 25
        assert abs(place[0]) < 90


def where(tab: Tab) -> dict:
    return tab.page.evaluate("panoView.where()")


def place_at(tab: Tab, x: float, y: float) -> tuple[float, float]:
    """The place on the sphere that is seen at a place on the screen, as the page reads it out."""
    tab.page.mouse.move(x, y)
    tab.page.mouse.move(x + 1, y)
    tab.page.mouse.move(x, y)
    words = tab.page.inner_text("#readout")
    lon, lat = (
        float(word.rstrip("°").replace("−", "-")) for word in words.split(" · ")[0].split(", ")
    )
    return lon, lat
