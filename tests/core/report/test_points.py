"""Points in space in a page: what is vendored, which points are taken, and what a browser draws."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
from browser import Tab, difference, open_tab

from panoforge.core.geometry.sphere import pixel_to_direction
from panoforge.core.report import points
from panoforge.core.report.page import Details, Report, Section, render_report, write_report
from panoforge.core.report.points import Cloud, PointView, cloud_of_panorama, even_pixels

VENDOR = Path(points.__file__).parent / "vendor" / "twgl"
RED, GREEN, BLUE = (230, 30, 30), (30, 230, 30), (40, 40, 240)


def test_what_is_vendored_is_what_was_released() -> None:
    text = (VENDOR / "VENDORED.md").read_text()
    digests = dict(re.findall(r"\| (\S+\.js) \| ([0-9a-f]{64}) \|", text))
    assert set(digests) == {"twgl.js"}
    assert hashlib.sha256((VENDOR / "twgl.js").read_bytes()).hexdigest() == digests["twgl.js"]
    assert "Permission is hereby granted" in (VENDOR / "COPYING").read_text()


def test_points_lie_where_depth_puts_them() -> None:
    depth = np.full((32, 64), 2.0, np.float32)
    depth[3], depth[4, 5], depth[6, 7] = np.inf, np.nan, 80.0  # sky, unknown, beyond 32 m
    rgb = np.random.default_rng(0).integers(0, 256, (32, 64, 3), np.uint8)
    cloud = cloud_of_panorama("x", depth, {"picture": rgb})
    kept = even_pixels(32, 64)
    kept[3], kept[4, 5], kept[6, 7] = False, False, False
    v, u = np.nonzero(kept)
    wanted = 2000 * pixel_to_direction(u, v, 64, 32)
    assert np.abs(cloud.position_mm - wanted).max() <= 0.5
    assert np.array_equal(cloud.colours["picture"], rgb[kept])


def test_points_are_as_dense_in_every_direction() -> None:
    kept = even_pixels(256, 512)
    rays = pixel_to_direction(*np.nonzero(kept)[::-1], 512, 256)
    bands, _ = np.histogram(rays[:, 2], np.linspace(-1, 1, 9))  # of equal area
    assert bands.max() / bands.min() < 1.6 and 0.5 < kept.mean() < 0.8


def axes() -> PointView:
    """Red at +x, green at +y, blue at +z, 2 m off, as one cloud; all blue in another."""
    rng, parts, colours = np.random.default_rng(0), [], []
    for axis, colour in enumerate((RED, GREEN, BLUE)):
        at = np.zeros(3)
        at[axis] = 2000
        parts.append(at + rng.normal(0, 60, (400, 3)))
        colours.append(np.tile(np.array(colour, np.uint8), (400, 1)))
    position = np.concatenate(parts).astype(np.int16)
    first = {"picture": np.concatenate(colours), "classes": np.full((1200, 3), 200, np.uint8)}
    second = {name: np.full((1200, 3), BLUE, np.uint8) for name in first}
    return PointView(
        "</script>axes", [Cloud("prediction", position, first), Cloud("truth", position, second)]
    )


def page_of(path: Path) -> str:
    write_report(path, Report("T", [Section("S", [axes()])]))
    return path.as_uri()


def test_only_pages_with_points_carry_the_library(tmp_path: Path) -> None:
    page_of(tmp_path / "with.html")
    text = (tmp_path / "with.html").read_text()
    assert "twgl.js 7.0.0" in text and "</script>axes" not in text
    assert "twgl" not in render_report(Report("T", [Section("S", [])]))
    assert Report("T", [Section("S", [Details("more", [axes()])])]).has_points
    markup = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert "twgl" not in markup and "</script" not in markup  # a comment of it has one


def where(shot: np.ndarray, colour: tuple[int, int, int]) -> tuple[float, float]:
    """The middle of what has about that colour, from the picture's middle, right and up."""
    near = np.abs(shot.astype(int) - colour).sum(axis=-1) < 90
    assert near.any(), colour
    v, u = np.nonzero(near)
    return u.mean() - shot.shape[1] / 2, shot.shape[0] / 2 - v.mean()


def drawn(tab: Tab) -> np.ndarray:
    tab.page.locator(".points canvas").scroll_into_view_if_needed()
    tab.wait_for("document.querySelector('.points canvas').dataset.shown > 0")
    tab.page.wait_for_timeout(300)
    return tab.shot_of(".points canvas")


@pytest.mark.browser
def test_points_stand_the_right_way_round_and_turn(tmp_path: Path) -> None:
    with open_tab(page_of(tmp_path / "r.html")) as tab:
        tab.page.locator(".points input").fill("1")  # nothing is cut away
        shot = drawn(tab)
        (rx, ry), (gx, gy), (bx, by) = (where(shot, c) for c in (RED, GREEN, BLUE))
        # Seen from behind on the left and above: x to the right, y away to the left, z up.
        assert rx > 40 and gx < -40 and abs(bx) < 20 and by > max(ry, gy) > 0
        x, y = tab.centre_of(".points canvas")
        tab.drag(x, y, x + 120, y)
        turned = drawn(tab)
        assert where(turned, RED)[0] != pytest.approx(rx, abs=5)
        assert where(turned, GREEN)[0] > gx + 20  # what is behind the middle goes with the hand
        tab.page.click('[data-cloud="truth"]')
        blue = drawn(tab)
        assert difference(blue, turned) > 0.1
        with pytest.raises(AssertionError):
            where(blue, RED)
        tab.page.click('[data-cloud="prediction"]')
        tab.page.click('[data-colour="classes"]')
        with pytest.raises(AssertionError):
            where(drawn(tab), RED)
        tab.page.click('[data-colour="picture"]')
        tab.page.locator(".points input").fill("0.5")  # blue is above
        with pytest.raises(AssertionError):
            where(drawn(tab), BLUE)
        wide = where(drawn(tab), RED)[0]
        tab.page.focus(".points canvas")
        for _ in range(4):
            tab.page.keyboard.press("-")
        assert abs(where(drawn(tab), RED)[0]) < abs(wide)
        assert not tab.console and not tab.requests


@pytest.mark.browser
def test_without_webgl_it_says_so_and_phones_are_wide_enough(tmp_path: Path) -> None:
    with open_tab(page_of(tmp_path / "r.html"), webgl=False) as tab:
        tab.page.locator(".points").scroll_into_view_if_needed()
        tab.wait_for("document.querySelector('.pt-none') !== null")
        assert "draws no WebGL" in tab.page.inner_text(".points")
    with open_tab(page_of(tmp_path / "r.html"), 360, 700) as tab:
        drawn(tab)
        assert tab.overflow_px() == 0
