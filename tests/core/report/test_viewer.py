"""The 360° viewer: what is put into a page, and what a real browser with (software) WebGL and one
without make of it.
"""

import base64
import hashlib
import json
import re
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from browser import Tab, difference, open_tab

from panoforge.core.report import viewer
from panoforge.core.report.page import (
    Details,
    Gallery,
    Item,
    Picture,
    Report,
    Section,
    render_report,
    write_report,
)
from panoforge.core.report.pictures import id_colours, png_uri
from panoforge.core.report.viewer import Point, PointLayer, Sphere, ids_uri, scene_json

VENDOR = Path(viewer.__file__).parent / "vendor" / "pannellum"
INKS = {1: (200, 40, 40), 2: (40, 200, 40), 3: (40, 40, 200), 4: (200, 200, 40)}


def test_what_is_vendored_is_what_was_released() -> None:
    digests = dict(
        re.findall(
            r"\| (\S+\.(?:js|css)) \| ([0-9a-f]{64}) \|", (VENDOR / "VENDORED.md").read_text()
        )
    )
    assert set(digests) == {"pannellum.js", "pannellum.css"}
    for name, sha256 in digests.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == sha256
    assert "Permission is hereby granted" in (VENDOR / "COPYING").read_text()


def test_ids_survive_their_png() -> None:
    labels = np.array([[0, 1, 255, 256], [257, 4095, 65534, 65535]], np.uint16)
    data = base64.b64decode(ids_uri(labels).split(",")[1])
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).astype(int)
    assert np.array_equal(bgr[..., 2] + 256 * bgr[..., 1], labels) and not bgr[..., 0].any()


def test_a_layer_names_and_colours_what_is_there() -> None:
    layer = viewer.id_layer("ids", np.array([[0, 3, 9]], np.uint16), {3: "sofa", 5: "not there"})
    assert layer.names == {3: "sofa", 9: "id 9"}
    assert layer.colours[3] == "#{:02x}{:02x}{:02x}".format(*id_colours()[3]) and set(
        layer.colours
    ) == {3, 9}


def quadrants(*, with_text: str = "") -> Sphere:
    """Red left up (1), green right up (2), blue left down (3), yellow right down (4), and a point
    at (40°, 20°).
    """
    labels = np.empty((256, 512), np.uint16)
    labels[:128, :256], labels[:128, 256:], labels[128:, :256], labels[128:, 256:] = 1, 2, 3, 4
    rgb = np.array([(0, 0, 0), *INKS.values()], np.uint8)[labels]
    thing = np.where(labels == 2, 7, 0).astype(np.uint16)
    names = {1: "left up", 2: f"right up{with_text}", 3: "left down", 4: "right down"}
    return Sphere(
        png_uri(rgb),
        (
            viewer.id_layer("where", labels, names, outline=True),
            viewer.id_layer("thing", thing, {7: "the thing"}),
            PointLayer("clicks", [Point(40.0, 20.0, "#ff00ff", "click 1")]),
        ),
    )


def page_of(path: Path, sphere: Sphere, **picture: object) -> str:
    item = Item("<item>", [Picture(sphere.image, "image", **picture)], sphere=sphere)
    write_report(path, Report("T", [Section("S", [Details("more", [Gallery([item])])])]))
    return path.as_uri()


def test_a_scene_cannot_end_its_element() -> None:
    text = scene_json(quadrants(with_text="</script><b>&\u2028"))
    assert "<" not in text and "\u2028" not in text
    assert json.loads(text)["layers"][0]["names"]["2"] == "right up</script><b>&\u2028"


def test_only_pages_with_a_sphere_carry_the_viewer(tmp_path: Path) -> None:
    page_of(tmp_path / "with.html", quadrants())
    with_sphere = (tmp_path / "with.html").read_text()
    without = render_report(
        Report("T", [Section("S", [Gallery([Item("i", [Picture("data:,", "p")])])])])
    )
    assert "libpannellum" in with_sphere and "libpannellum" not in without and len(without) < 30_000
    markup = re.sub(r"<script.*?</script>", "", with_sphere, flags=re.DOTALL)
    addresses = re.findall(r'(?:src|href)="([^"]*)"', markup)
    addresses += [address.strip("'\"") for address in re.findall(r"url\(([^)]*)\)", markup)]
    assert len(addresses) > 4 and all(address.startswith(("data:", "#")) for address in addresses)


def opened(tab: Tab) -> None:
    tab.page.evaluate("document.querySelector('details').open = true")
    tab.page.click("button.zoom")
    tab.wait_for("document.querySelector('#sphere > div').dataset.shown > 0")


def stage(tab: Tab) -> tuple[int, int, int, int]:
    """x, y, width, height of what is looked at."""
    x, y, width, height = map(round, tab.box(".ps-stage"))
    return x, y, width, height


def readout(tab: Tab, x: float, y: float) -> str:
    tab.page.mouse.move(x - 1, y)
    tab.page.mouse.move(x, y)
    return tab.page.evaluate("document.querySelector('.ps-readout').textContent")


def layer_switch(tab: Tab, label: str) -> None:
    before = int(tab.page.evaluate("document.querySelector('#sphere > div').dataset.shown"))
    tab.page.click(f'[data-layer="{label}"]')
    tab.page.mouse.move(5, 5)
    tab.wait_for(f"document.querySelector('#sphere > div').dataset.shown > {before}")


@pytest.mark.browser
def test_the_sphere_is_the_right_way_round(tmp_path: Path) -> None:
    """Right is right and up is up, for the eye (pixels of the screen) and for the pointer (what it
    reads).
    """
    with open_tab(page_of(tmp_path / "r.html", quadrants(), shown=["where"])) as tab:
        opened(tab)
        x, y, width, height = stage(tab)
        shot = tab.screenshot()
        corners = [
            ("left up", 1, -1, -1),
            ("right up", 2, 1, -1),
            ("left down", 3, -1, 1),
            ("right down", 4, 1, 1),
        ]
        for name, id_, right, down in corners:
            px, py = x + width // 2 + right * 150, y + height // 2 + down * 150
            assert np.abs(shot[py, px].astype(int) - INKS[id_]).max() < 12, name
            assert f"where: {name}" in readout(tab, px, py)
        lon, lat = map(
            float, re.findall(r"(-?[\d.]+)°", readout(tab, x + width // 2, y + height // 2))
        )
        assert abs(lon) < 0.5 and abs(lat) < 0.5
        tab.drag(
            x + 600, y + 300, x + 300, y + 300
        )  # the picture follows the hand: we look further right
        time.sleep(1.5)
        after = float(re.findall(r"(-?[\d.]+)°", readout(tab, x + width // 2, y + height // 2))[0])
        assert after > 10
        assert (tab.console, tab.requests) == ([], [])


@pytest.mark.browser
def test_layers_can_be_switched_and_blended(tmp_path: Path) -> None:
    with open_tab(page_of(tmp_path / "r.html", quadrants(), shown=[], opacity=0.4)) as tab:
        opened(tab)
        x, y, width, height = stage(tab)
        at = (y + height // 2 - 60, x + width // 2 + 60)  # 7° right, 6° up: in the thing
        plain = tab.screenshot()
        assert "thing" not in readout(tab, at[1], at[0])
        layer_switch(tab, "thing")
        blended = tab.screenshot()[at].astype(float)
        expected = 0.6 * np.array(INKS[2]) + 0.4 * id_colours()[7]
        assert np.abs(blended - expected).max() < 10
        assert "thing: the thing" in readout(tab, at[1], at[0])
        tab.page.evaluate(
            "(() => { const range = document.querySelector('input[data-opacity]'); range.value ="
            " 100; range.dispatchEvent(new Event('input')); })()"
        )
        tab.wait_for("document.querySelector('#sphere > div').dataset.shown > 2")
        assert np.abs(tab.screenshot()[at].astype(int) - id_colours()[7]).max() < 10
        layer_switch(tab, "thing")
        assert (
            difference(
                tab.screenshot()[y : y + height, x : x + width],
                plain[y : y + height, x : x + width],
            )
            < 0.5
        )
        assert tab.page.evaluate("document.querySelectorAll('.ps-dot').length") == 0
        layer_switch(tab, "clicks")
        spot = tab.centre_of(".ps-dot")
        lon, lat = map(float, re.findall(r"(-?[\d.]+)°", readout(tab, spot[0] + 14, spot[1]))[:2])
        assert abs(lon - 41) < 2.5 and abs(lat - 20) < 2.5
        assert (tab.console, tab.requests) == ([], [])


@pytest.mark.browser
def test_keyboard_opens_looks_and_closes(tmp_path: Path) -> None:
    with open_tab(page_of(tmp_path / "r.html", quadrants())) as tab:
        tab.page.evaluate("document.querySelector('details').open = true")
        tab.page.evaluate("document.querySelector('button.zoom').focus()")
        tab.page.keyboard.press("Enter")
        tab.wait_for("document.querySelector('#sphere > div').dataset.shown > 0")
        before = tab.shot_of(".ps-stage")
        tab.page.keyboard.down("ArrowRight")
        end = time.monotonic() + 20
        while difference(tab.shot_of(".ps-stage"), before) < 5:
            assert time.monotonic() < end, "the arrow key does not turn the view"
        tab.page.keyboard.up("ArrowRight")
        tab.page.keyboard.press("Escape")
        tab.wait_for(
            "!document.getElementById('sphere').open && !document.querySelector('#sphere canvas')"
        )
        assert tab.console == []


@pytest.mark.browser
def test_a_browser_without_webgl_says_so_and_shows_it_flat(tmp_path: Path) -> None:
    with open_tab(
        page_of(tmp_path / "r.html", quadrants(), shown=["where", "clicks"]), webgl=False
    ) as tab:
        opened(tab)
        assert "no WebGL" in tab.page.evaluate("document.querySelector('.ps-notice').textContent")
        assert not tab.page.evaluate("Boolean(document.querySelector('[data-toggle]'))")
        left, top, width, height = tab.box(".ps-flat")
        assert width == pytest.approx(2 * height, abs=2)
        shot = tab.screenshot()
        assert (
            np.abs(
                shot[int(top + 0.75 * height), int(left + 0.75 * width)].astype(int) - INKS[4]
            ).max()
            < 12
        )
        assert "where: right down" in readout(tab, left + 0.75 * width, top + 0.75 * height)
        dot = shot[int(top + (0.5 - 20 / 180) * height), int(left + (0.5 + 40 / 360) * width)]
        assert np.abs(dot.astype(int) - (255, 0, 255)).max() < 12
        assert (tab.console, tab.requests) == ([], [])
