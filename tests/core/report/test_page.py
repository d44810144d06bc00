"""Reports: numbers, escaping, pictures, charts, and a real browser that finds nothing to complain
of.
"""

import base64
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from browser import open_tab
from markupsafe import Markup

from panoforge.core.errors import StorageError
from panoforge.core.report import page as report
from panoforge.core.report import pictures
from panoforge.core.report.page import (
    Banner,
    Bar,
    Chart,
    Charts,
    Details,
    Facts,
    Gallery,
    Html,
    Item,
    Picture,
    Report,
    Section,
    Table,
    Text,
    Tile,
)


def test_numeric_columns_are_told_from_words() -> None:
    table = Table(
        ["name", "size", "score", "bar", "resolution"],
        [
            ["a", "1.2 GB", 0.5, Bar(0.5, "50 %"), "4096×2048"],
            ["4 walls", "–", None, Bar(0.1, "10 %"), "1024×512"],
            ["b", "", 1, "", "–"],
        ],
    )
    assert table.numeric == [False, True, True, True, False]


def everything() -> Report:
    """A page with one block of every kind."""
    rgb = np.random.default_rng(0).integers(0, 256, (32, 64, 3), np.uint8)
    svg = pictures.chart_svg(lambda ax: ax.plot([0, 1], [1, 0], label="<x>"), label='a "chart"')
    inner = [
        Text("in"),
        Table(["a"], [[1]]),
        Facts({"x": 1}),
        Charts([Chart("t", svg)]),
        Banner("b"),
        Html(Markup("<hr>")),
        Gallery([]),
        Details("deeper", [Text("deepest text")]),
    ]
    return Report(
        title="A <title>",
        subtitle="s & t",
        made_by="tests",
        banners=[Banner("look", "warn", "Mind.")],
        tiles=[Tile("T", "1", "n")],
        sections=[
            Section(
                "First & last",
                [Charts([Chart("chart <1>", svg, "note", wide=True)]), Details("more", inner)],
                text="lead",
            ),
            Section(
                "Second",
                [
                    Gallery(
                        [
                            Item(
                                "item",
                                [
                                    Picture(pictures.jpeg_uri(rgb), "picture"),
                                    Picture(pictures.png_uri(rgb), "ids"),
                                ],
                                "n",
                                {"IoU": "1 %"},
                            )
                        ]
                    ),
                    Table(
                        ["<b>", "n"], [["<script>alert(1)</script>", Bar(0.25, "25 %")]], strong=[0]
                    ),
                ],
            ),
        ],
    )


def test_text_is_escaped_and_every_block_is_there() -> None:
    html = report.render_report(everything())
    assert "<script>alert(1)" not in html and "&lt;script&gt;alert(1)" in html
    assert "A &lt;title&gt;" in html and 'aria-label="a &#34;chart&#34;"' in html
    assert 'href="#first-last"' in html and 'id="first-last"' in html
    for word in (
        "deepest text",
        "width:25.0%",
        "<hr>",
        "chart &lt;1&gt;",
        'class="strong"',
        "look",
        "lead",
        "picture",
    ):
        assert word in html, word


def test_a_page_refers_to_nothing_outside() -> None:
    html = report.render_report(everything())
    addresses = re.findall(r'(?:src|href|xlink:href)="([^"]*)"', html) + re.findall(
        r"url\(([^)]*)\)", html
    )
    assert addresses and all(
        address.startswith(("data:", "#")) or not address for address in addresses
    )
    assert "default-src 'none'" in html


def test_a_report_is_committed_whole_or_not_at_all(tmp_path: Path) -> None:
    report.write_report(tmp_path / "r.html", everything())
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="a part of this path is a file, not a folder"):
        report.write_report(tmp_path / "file" / "r.html", everything())


def test_id_colours_are_stable_distinct_and_dark_for_nothing() -> None:
    colours = pictures.id_colours().astype(int)
    assert tuple(colours[0]) == pictures.NOTHING_RGB and colours[1:].max(axis=1).min() > 100
    near = np.abs(colours[1:201, None] - colours[None, 1:201]).sum(axis=2) + 999 * np.eye(
        200, dtype=int
    )
    assert near.min() > 8  # no two of 200 ids look the same
    assert (
        np.abs(np.diff(colours[1:200], axis=0)).sum(axis=1).min() > 70
    )  # neighbouring ids look very different
    assert tuple(colours[1]) == tuple(pictures.colour_ids(np.array([[1]], np.uint16))[0, 0])


def test_an_overlay_leaves_nothing_alone_and_outlines_ids() -> None:
    rgb = np.full((8, 16, 3), 50, np.uint8)
    labels = np.zeros((8, 16), np.uint16)
    labels[:, 4:8] = 1
    out = pictures.overlay_ids(rgb, labels)
    assert (out[:, 9:15] == 50).all() and (out[:, 5] != 50).any() and out[3, 3].min() > 150
    assert not pictures.id_outlines(np.full((4, 8), 3, np.uint16)).any()
    seam = np.zeros((4, 8), np.uint16)
    seam[:, [0, 7]] = 1
    assert np.flatnonzero(pictures.id_outlines(seam)[0]).tolist() == [
        0,
        6,
    ]  # not 7: the instance goes on across the seam
    with pytest.raises(ValueError, match="of one size"):
        pictures.overlay_ids(rgb[:4], labels)


def test_shrinking_never_mixes_ids_and_keeps_small_pictures() -> None:
    labels = np.array([[1, 1000], [7, 65535]], np.uint16).repeat(64, 0).repeat(64, 1)
    assert np.array_equal(
        pictures.shrink_ids(labels, 32),
        np.array([[1, 1000], [7, 65535]], np.uint16).repeat(16, 0).repeat(16, 1),
    )
    checker = (np.indices((64, 64)).sum(0) % 2 * 200).astype(np.uint8)[..., None].repeat(3, 2)
    assert (pictures.shrink_rgb(checker, 16) == 100).all()  # averaged, not aliased
    assert (
        pictures.shrink_rgb(checker, 64) is checker and pictures.shrink_ids(labels, 128) is labels
    )


def test_pictures_survive_their_data_uri() -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (9, 13, 3), np.uint8)
    head, data = pictures.png_uri(rgb).split(",")
    back = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert head == "data:image/png;base64" and np.array_equal(back[..., ::-1], rgb)
    with pytest.raises(ValueError, match="uint8"):
        pictures.jpeg_uri(rgb.astype(np.float32))


def test_charts_take_their_colours_from_the_page() -> None:
    def draw(ax: object) -> None:
        ax.bar([1, 2], [3, 4], color=pictures.SERIES[1])
        ax.set_xlabel("x & y")

    svg = pictures.chart_svg(draw)
    assert (
        svg.startswith('<svg role="img"')
        and "var(--c2)" in svg
        and "var(--muted)" in svg
        and "var(--grid)" in svg
    )
    for colour in (*pictures.SERIES, pictures.INK, pictures.MUTED, pictures.GRID):
        assert colour not in svg
    assert "x &amp; y" in svg and "DejaVu" not in svg and svg == pictures.chart_svg(draw)
    css = (Path(report.__file__).parent / "templates" / "report.css").read_text()
    for variable in set(re.findall(r"var\((--\w+)\)", svg)):
        assert css.count(f"{variable}:") == 2, f"{variable} needs a light and a dark value"
    assert pictures.chart_png(draw).startswith(b"\x89PNG")


@pytest.mark.browser
def test_a_browser_shows_the_page(tmp_path: Path) -> None:
    report.write_report(tmp_path / "r.html", everything())
    for width in (1280, 500):
        with open_tab((tmp_path / "r.html").as_uri(), width) as tab:
            assert (tab.console, tab.requests) == ([], [])
            assert (tab.broken_images(), tab.overflow_px()) == (0, 0)
            assert tab.page.locator("img[src]").count() == 2
            assert tab.page.locator("svg").count() == 2
            assert tab.page.evaluate("document.documentElement.scrollHeight") > 600


@pytest.mark.browser
def test_the_browser_check_can_fail(tmp_path: Path) -> None:
    """The same eyes on a bad page: a script error, a broken picture, a fetched one, sideways
    overflow.
    """
    bad = tmp_path / "bad.html"
    bad.write_text(
        '<!doctype html><body><img src="data:image/png;base64,AAAA"><img src="http://localhost:9/x.png">'
        '<div style="width:5000px">wide</div><script>nothing.there()</script></body>'
    )
    with open_tab(bad.as_uri()) as tab:
        assert any("nothing is not defined" in line for line in tab.console)
        assert (tab.broken_images(), tab.requests) == (2, ["http://localhost:9/x.png"])
        assert tab.overflow_px() > 1000
