"""The site where `make docs` has built it: a page of each kind by axe-core, all their pictures."""

import functools
import re
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from browser import open_tab
from everybody import not_reached_by_tab, serious
from repository import ROOT

SITE = ROOT / "site"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not (SITE / "index.html").is_file(), reason="needs the site: make docs"),
]
# Plain text and links, wide tables, signatures, and a page without a text of ours.
PAGES = (
    "index.html", "howto/videos.html", "reference/python.html", "reference/config.html",
    "why/design.html", "404.html",
)  # fmt: skip
SCREENS = {"desk": (1280, 900, False), "phone, dark": (390, 844, True)}


class Quiet(SimpleHTTPRequestHandler):
    """Says nothing of what it gives."""

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    """The site's address: 404.html asks for its parts from the root of a server."""
    handler = functools.partial(Quiet, directory=str(SITE))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("name", PAGES)
def test_everybody_can_read_it(name: str, served: str) -> None:
    found = []
    with open_tab(f"{served}/{name}", webgl=False) as tab:
        for screen, (width, height, dark) in SCREENS.items():
            tab.page.set_viewport_size({"width": width, "height": height})
            tab.page.emulate_media(color_scheme="dark" if dark else "light")
            tab.page.wait_for_timeout(300)
            found += [f"{screen}: {fault}" for fault in serious(tab)]
            if tab.overflow_px() > 0:
                found.append(f"{screen}: {tab.overflow_px()} px too wide")
        found += [f"asks for {url}" for url in tab.requests if not url.startswith(served)]
        assert tab.broken_images() == 0
    assert not found, "\n".join(found)


def test_wide_tables_are_reached_by_keys() -> None:
    with open_tab((SITE / "howto/videos.html").as_uri(), 390, 844, webgl=False) as tab:
        wide = "[...document.querySelectorAll('.md-typeset__scrollwrap')]"
        tab.wait_for(f"{wide}.some((box) => box.scrollWidth > box.clientWidth)")
        assert not [one for one in not_reached_by_tab(tab) if "scrollwrap" in one]


LINES = ("howto/videos", "howto/ray", "howto/score", "start/first-model", "reference/config")
CUT = """[...document.querySelectorAll('code.lines, .doc-signature code')]
  .filter((e) => e.scrollWidth > e.clientWidth + 1).map((e) => e.textContent)"""
WRAPPED = "document.querySelectorAll('.md-typeset__scrollwrap').length"
SCROLLING = """[...document.querySelectorAll('.md-typeset__scrollwrap')]
  .filter((e) => e.scrollWidth > e.clientWidth + 1).map((e) => e.textContent.slice(0, 80))"""


def test_commands_are_read_whole_and_tables_fit_a_desk() -> None:
    for name in (*LINES, "numbers", "reference/errors", "reference/format", "reference/python"):
        with open_tab((SITE / f"{name}.html").as_uri(), 1280, 900, webgl=False) as tab:
            tab.wait_for("document.querySelectorAll('table').length ===" + WRAPPED)
            assert tab.page.evaluate(CUT) == []
            assert tab.page.evaluate(SCROLLING) == []
            assert not name.startswith("howto") or tab.page.locator("code.lines").count()


def test_commands_and_keys_are_read_whole_on_a_phone() -> None:
    """A key with all that is said of it stands below another; figures are scrolled by keys."""
    for name in LINES:
        with open_tab((SITE / f"{name}.html").as_uri(), 390, 844, webgl=False) as tab:
            assert tab.page.evaluate(CUT) == []
    with open_tab((SITE / "reference/config.html").as_uri(), 390, 844, webgl=False) as tab:
        said = tab.page.locator("tr:has(td[data-label])").first
        assert said.evaluate("e => e.scrollWidth <= e.clientWidth")
        assert said.locator("td").nth(4).evaluate("e => getComputedStyle(e).display") == "block"
        assert said.locator("td").nth(4).get_attribute("data-label") == "meaning"
    with open_tab((SITE / "why/design.html").as_uri(), 390, 844, webgl=False) as tab:
        tab.wait_for("document.querySelectorAll('.figure[tabindex=\"0\"]').length === 3")
        scrolls = "e => e.scrollWidth > e.clientWidth"
        assert all(tab.page.locator(".figure").nth(n).evaluate(scrolls) for n in (0, 2))


def test_every_picture_says_what_it_shows() -> None:
    without = [
        f"{page.relative_to(SITE)}: {tag}"
        for page in sorted(SITE.rglob("*.html"))
        for tag in re.findall(r"<img[^>]*>", page.read_text(encoding="utf-8"))
        if not re.search(r'alt="[^"]{3,}"', tag)
    ]
    assert not without, "\n".join(without)
