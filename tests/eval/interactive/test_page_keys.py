"""Every key of the annotation page is pressed, and what it does is seen: the table that `?` shows
is compared with the keys that were pressed here. What has no key of its own is reached by Tab.
"""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import clips
import numpy as np
import pytest
from annotating import Annotator, serving, wait_until
from browser import Tab, open_tab
from everybody import not_reached_by_tab
from on_the_page import (
    at_frame,
    data,
    folder_of_pictures,
    loaded,
    look_at,
    open_picture,
    shows,
    version,
)
from test_annotations import coco_of
from test_revise import labelled

from panoforge.eval.interactive.serve.opening import Asked
from panoforge.eval.interactive.serve.server import PanoServer

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]
WIDTH, HEIGHT, FRAMES = 256, 128, 6
CLASSES = [f"class {k}" for k in range(1, 10)]
OF_LABELS = {"W", "Y", "U"}  # keys that mean something where labels were found
SAID = {  # what the table calls a key of the keyboard
    "ArrowLeft": "←",
    "ArrowRight": "→",
    "ArrowUp": "↑",
    "ArrowDown": "↓",
    "-": "−",
    "Escape": "Esc",
    "Delete": "Del",
    "Control+z": "Ctrl+Z",
    "Control+y": "Ctrl+Y",
    "Control+s": "Ctrl+S",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """Two pictures and a video, and the labels of the first."""
    folder = tmp_path_factory.mktemp("keys") / "place"
    first = folder_of_pictures(folder, WIDTH, a=(5, 6), b=(6, 6))
    clips.write_clip(folder / "walk.mp4", clips.moving_disc(FRAMES)[0])
    return folder, first


@pytest.fixture
def server(place: tuple[Path, np.ndarray], tmp_path: Path) -> Iterator[PanoServer]:
    """The first picture has a machine's labels, the second one object for each of nine classes."""
    with serving(Asked(place=place[0], work=tmp_path / "work")) as server:
        ann = Annotator(server.server_port)
        a, b = ann.picture("a.png"), ann.picture("b.png")
        ann.look(a)
        ann.take_in(a, coco_of(place[1], tmp_path / "in.json", "a.png"))
        for k, name in enumerate(CLASSES):
            ann.edit(b, "brush", points=[[40 * k - 180, 0]], radius_deg=5, category=name)
        yield server


class Keys:
    """Presses keys, and notes those whose effect was seen."""

    def __init__(self, tab: Tab) -> None:
        self.tab, self.page = tab, tab.page
        self.seen: set[str] = set()

    def press(self, key: str, what: Callable[[], Any], becomes: Any, times: int = 1) -> None:
        """Press a key: what was not so before becomes so. A function is asked of before and now."""
        before = what()
        so = becomes if callable(becomes) else lambda _, now: now == becomes
        assert not so(before, before), f"{key}: {before} already"
        for _ in range(times):
            self.page.keyboard.press(key)
        deadline = time.monotonic() + 30
        while not so(before, what()):
            assert time.monotonic() < deadline, f"{key}: {before} became {what()}"
            self.page.wait_for_timeout(40)
        self.note(key)

    def note(self, key: str) -> None:
        """It was seen what this key does."""
        self.seen.add(SAID.get(key, key.upper() if len(key) == 1 else key.replace("+f", "+F")))

    # ---- what is looked at

    def where(self) -> dict[str, float]:
        return self.page.evaluate("panoView.where()")

    def tool(self) -> str | None:
        return self.page.get_attribute("#stage", "data-tool")

    def focused(self) -> str:
        return self.page.evaluate("document.activeElement.id")

    def radius(self) -> int:
        return int(self.page.input_value("#radius"))

    def notice(self) -> str:
        return self.page.inner_text("#notice")

    def rows(self) -> str:
        return self.page.inner_text("#objects")

    def objects(self) -> list[dict]:
        return data(self.tab, "objects")

    def count(self) -> int:
        return len(self.objects())

    def chosen(self) -> list[int]:
        return data(self.tab, "chosen")

    def one(self, id_: int, word: str) -> Any:
        return next((one[word] for one in self.objects() if one["id"] == id_), None)

    def frame(self) -> str:
        return self.page.evaluate("document.body.dataset.frame")

    def picture(self) -> str:
        return self.page.inner_text("#what").split(",")[0]


def grows(before: float, now: float) -> bool:
    return now > before


def shrinks(before: float, now: float) -> bool:
    return now < before


def test_every_key_of_the_table_does_what_it_says(server: PanoServer) -> None:
    with open_tab(server.url) as tab:
        loaded(tab)
        keys = Keys(tab)
        keys.press("?", lambda: tab.page.locator("#help[open]").count(), 1)
        table = set(tab.page.locator("#keys kbd").all_inner_texts()) - {"…"}
        assert len(table) > 50
        keys.press("Escape", lambda: tab.page.locator("#help[open]").count(), 0)
        looking(keys)
        drawing(keys)
        tools_in_the_middle(keys)
        machines_labels(keys)
        objects(keys)
        classes_and_names(keys)
        pictures(keys, server)
        video(keys)
        assert table - keys.seen == OF_LABELS and keys.seen <= table
        assert tab.console == []


def looking(keys: Keys) -> None:
    stage = keys.page.locator("#stage")
    stage.focus()
    lon, lat = (lambda: keys.where()["lon"]), (lambda: keys.where()["lat"])
    keys.press("ArrowRight", lon, grows)
    near = lon()
    keys.press("Shift+ArrowRight", lon, grows)
    assert lon() - near == pytest.approx(4 * near, rel=0.01)  # four times as far
    keys.seen.discard("Shift+ArrowRight")  # the table says it in words
    keys.press("ArrowLeft", lon, shrinks)
    keys.press("ArrowUp", lat, grows)
    keys.press("ArrowDown", lat, shrinks, times=2)
    keys.press("+", lambda: keys.where()["fov"], shrinks)
    keys.press("-", lambda: keys.where()["fov"], grows)
    for key, tool in zip(
        "cxbepv", ("click", "box", "brush", "eraser", "polygon", "look"), strict=True
    ):
        keys.press(key, keys.tool, tool)


def drawing(keys: Keys) -> None:
    """Versions 2 to 4 of the first picture: by Enter and arrows, by a mouse while Space is free."""
    tab, page = keys.tab, keys.page
    assert keys.count() == 6
    look_at(tab, 60, 60)
    page.keyboard.press("b")
    keys.press("]", keys.radius, grows)
    keys.press("[", keys.radius, shrinks)
    keys.press("n", keys.notice, lambda _, now: "begins a new object" in now)
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowRight")
    keys.press("Enter", keys.count, 7)
    version(tab, 2)
    # held, Space looks around whatever the tool
    x, y = tab.centre_of("#stage")
    lon = keys.where()["lon"]
    page.keyboard.down(" ")
    tab.drag(x, y, x - 90, y)
    page.keyboard.up(" ")
    assert keys.where()["lon"] > lon + 5 and keys.count() == 7
    page.keyboard.press("n")
    tab.drag(x, y, x + 60, y)
    version(tab, 3)
    assert keys.count() == 8
    keys.note("Space")
    # the last corner away: two are no polygon
    page.keyboard.press("n")
    page.keyboard.press("p")
    for key in ("ArrowRight", "ArrowUp", "ArrowLeft"):
        page.keyboard.press("Enter")
        page.keyboard.press("Shift+" + key)
    page.keyboard.press("Backspace")
    keys.press("Shift+Enter", keys.notice, "a polygon has three corners or more")
    keys.seen.discard("Shift+Enter")  # it is Enter's
    keys.note("Backspace")
    page.keyboard.press("Enter")
    page.keyboard.press("Shift+Enter")
    version(tab, 4)
    assert keys.count() == 9


def tools_in_the_middle(keys: Keys) -> None:
    """Versions 5 and 6: a click and a box without a mouse; Esc lets go of a corner."""
    tab, page = keys.tab, keys.page
    look_at(tab, 180, 11.5, 80)  # a thing on the seam
    page.keyboard.press("n")
    page.keyboard.press("c")
    page.keyboard.press("Enter")
    version(tab, 5)
    assert keys.objects()[-1]["clicks"] == 1 and keys.objects()[-1]["pixels"] > 100
    page.keyboard.press("n")
    page.keyboard.press("x")
    for _ in range(2):
        page.keyboard.press("Enter")
        assert "one corner is set" in keys.notice()
        page.keyboard.press("Escape")
        page.keyboard.press("v")
        page.keyboard.press("n")
        assert "begins a new object" in keys.notice()
        page.keyboard.press("x")
    assert keys.count() == 10
    for key in ("Shift+ArrowLeft", "Shift+ArrowUp"):
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    for key in ("Shift+ArrowRight", "Shift+ArrowDown") * 2:
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    version(tab, 6)
    assert keys.count() == 11 and keys.objects()[-1]["pixels"] > 100


def machines_labels(keys: Keys) -> None:
    """Versions 7 and 8: chosen by J and K, accepted and rejected, each time on to the next."""
    page = keys.page
    page.keyboard.press("n")
    keys.press("j", keys.chosen, [1])
    keys.press("j", keys.chosen, [2])
    keys.press("k", keys.chosen, [1])
    keys.press("a", lambda: keys.one(1, "review"), "accepted")
    assert keys.chosen() == [2]
    keys.press("r", lambda: keys.one(2, "review"), "rejected")
    assert keys.chosen() == [3]
    version(keys.tab, 8)


def objects(keys: Keys) -> None:
    """Versions 9 to 17, with 3, 4 and what was drawn."""
    tab, page = keys.tab, keys.page
    keys.press("h", keys.rows, lambda _, now: "hidden" in now)
    keys.press("h", keys.rows, lambda _, now: "hidden" not in now)
    keys.press("Shift+H", keys.rows, lambda _, now: now.count("hidden") == 10)
    keys.press("Shift+H", keys.rows, lambda _, now: "hidden" not in now)
    middle = keys.where()
    page.keyboard.press("Shift+ArrowRight")
    keys.press("g", keys.where, lambda _, now: now == {**middle, "fov": now["fov"]})
    keys.press("q", lambda: keys.one(3, "locked"), True)
    keys.press("q", lambda: keys.one(3, "locked"), False)
    version(tab, 10)
    pixels = keys.one(3, "pixels") + keys.one(4, "pixels")
    page.keyboard.press("Shift+J")
    assert keys.chosen() == [3, 4]
    keys.press("m", keys.count, 10)
    assert keys.one(3, "pixels") == pixels and keys.one(4, "pixels") is None
    version(tab, 11)
    keys.press("s", keys.count, 11)
    version(tab, 12)
    split = keys.objects()
    assert sum(one["pixels"] for one in split if one["id"] in (3, split[-1]["id"])) == pixels
    page.keyboard.press("Escape")
    assert keys.chosen() == [3]
    keys.press("Delete", lambda: keys.one(3, "id"), None)
    version(tab, 13)
    keys.press("Control+z", lambda: keys.one(3, "id"), 3)
    keys.press("Control+y", lambda: keys.one(3, "id"), None)
    keys.press("Control+z", lambda: keys.one(3, "id"), 3)
    keys.press("Control+Shift+z", lambda: keys.one(3, "id"), None)
    keys.seen.discard("Control+Shift+z")  # the other redo, as some are used to
    version(tab, 17)


def classes_and_names(keys: Keys) -> None:
    """A class typed, each digit, a name; Esc gives back what was there."""
    page = keys.page
    page.keyboard.press("n")
    page.keyboard.press("j")
    (id_,) = keys.chosen()
    category = lambda: keys.one(id_, "category")  # noqa: E731
    keys.press("t", keys.focused, "category")
    page.keyboard.type("door")
    keys.press("Enter", category, "door")
    for k, name in enumerate(CLASSES, start=1):
        keys.press(str(k), category, name)
        keys.seen -= {str(k)} - {"1", "9"}  # the table says 1 … 9
    keys.press("F2", keys.focused, "name")
    page.keyboard.type("the left one")
    keys.press("Enter", lambda: keys.one(id_, "name"), "the left one")
    keys.press("Shift+F2", keys.focused, "comment")
    page.keyboard.type("look at the hinge")
    keys.press("Control+Enter", lambda: keys.one(id_, "comment"), "look at the hinge")
    keys.seen -= {"Control+Enter"}  # said in words, beside the key that leads to it
    assert keys.focused() == "stage"
    page.keyboard.press("F2")
    page.keyboard.type("half a word")
    keys.press("Escape", lambda: page.input_value("#name"), "the left one")
    assert keys.focused() != "name"


def pictures(keys: Keys, server: PanoServer) -> None:
    tab, page = keys.tab, keys.page
    page.focus("#stage")
    keys.press("l", lambda: page.locator("#pictures").is_visible(), False)
    keys.press("l", lambda: page.locator("#pictures").is_visible(), True)
    with page.expect_download() as download:
        page.keyboard.press("Control+s")
    assert download.value.suggested_filename == "a.coco.json"
    keys.note("Control+s")
    keys.press("PageDown", keys.picture, "b.png")
    keys.press("PageUp", keys.picture, "a.png")
    shows(tab, "a.png")
    ann = Annotator(server.server_port)
    status = lambda: ann.look(ann.picture("a.png"))["status"]  # noqa: E731
    keys.press("d", status, "done")
    shows(tab, "b.png")
    keys.press("Control+z", status, "open")
    shows(tab, "a.png")


def video(keys: Keys) -> None:
    """Keyframes on frames 3 and 5, propagated both ways from the first of them."""
    tab, page = keys.tab, keys.page
    open_picture(tab, "walk.mp4")
    page.focus("#stage")
    keys.press(".", keys.frame, "1")
    keys.press(".", keys.frame, "2")
    keys.press(".", keys.frame, "3")
    keys.press(",", keys.frame, "2")
    page.keyboard.press("b")
    page.fill("#radius", "86")
    page.focus("#stage")
    look_at(tab, 168, 0)
    page.keyboard.press("Enter")
    keys.press("Enter", keys.count, 1)
    version(tab, 1)
    over = lambda words: lambda _, now: words in now  # noqa: E731
    keys.press("f", keys.notice, over("over 3 frames"))
    keys.press("Shift+f", keys.notice, over("over 2 frames"))
    for _ in range(2):
        page.keyboard.press(".")
    at_frame(tab, 4)
    look_at(tab, 176, 20)
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    tab.wait_for("document.body.dataset.saved === 'saved'")
    keys.press("<", keys.frame, "2")
    keys.press(">", keys.frame, "4")


def test_the_keys_of_labels_that_were_found(tmp_path: Path) -> None:
    with serving(Asked(place=labelled(tmp_path))) as server, open_tab(server.url) as tab:
        loaded(tab)
        keys = Keys(tab)
        said = lambda: tab.page.locator("#revise-list .done").count()  # noqa: E731
        tab.wait_for("document.querySelectorAll('#revise-list button').length > 3")
        tab.page.focus("#stage")
        current = "#revise-list [aria-current=true]"
        keys.press("w", lambda: tab.page.locator(current).count(), 1)
        for number, key in ((1, "y"), (2, "u")):
            before = tab.page.get_attribute(current, "data-entry")
            keys.press(key, said, number)
            tab.wait_for(f"document.querySelector('{current}').dataset.entry !== {before!r}")
        words = tab.page.inner_text("#revise-list")
        assert words.count("right as it is") == 1 and words.count("fixed") == 1
        assert keys.seen == OF_LABELS


UNTABBED = """[...document.querySelectorAll('a[href], button, select, input, textarea, #stage')]
  .filter((e) => e.checkVisibility() && !e.disabled && e.tabIndex < 0).map((e) => e.outerHTML)"""


def test_what_has_no_key_is_reached_by_tab_and_used(server: PanoServer) -> None:
    """Import, files, colour, status, clearing: on a picture and on a video."""
    with open_tab(server.url) as tab:
        loaded(tab)
        page, choosers = tab.page, []
        page.on(
            "filechooser", lambda one: choosers.append(one)
        )  # long before: the browser must have heard of it
        page.click('[data-object="1"]')
        assert not_reached_by_tab(tab) == page.evaluate(UNTABBED) == []
        page.focus('[data-save="mask.png"]')
        with page.expect_download() as download:
            page.keyboard.press("Enter")
        assert download.value.suggested_filename == "a.mask.png"
        page.focus("#import")
        page.keyboard.press("Enter")
        wait_until(lambda: page.wait_for_timeout(50) or choosers)
        page.focus("#status")
        page.keyboard.press("ArrowDown")
        version(tab, 2)
        assert re.search(r"a\.png\s*done", page.inner_text("#picture-list"))
        open_picture(tab, "walk.mp4")
        page.focus("#stage")
        page.keyboard.press("b")
        page.keyboard.press("Enter")
        page.keyboard.press("Enter")
        version(tab, 1)
        assert data(tab, "objects")[0]["pixels"] > 0 and data(tab, "chosen") == [1]
        assert not_reached_by_tab(tab) == page.evaluate(UNTABBED) == []
        page.focus("#clear")
        page.keyboard.press("Enter")
        tab.wait_for("JSON.parse(document.body.dataset.objects)[0]?.pixels === 0")
        assert tab.console == []
