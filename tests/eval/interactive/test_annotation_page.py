"""The annotation page in a real browser: who may use it, by keyboard too, and what goes wrong."""

import os
import shutil
import threading
from pathlib import Path

import clips
import numpy as np
import pytest
from annotating import Annotator, serving
from browser import Tab, open_tab
from everybody import NAMELESS, SMALL, serious
from on_the_page import data, folder_of_pictures, loaded, look_at, version
from test_annotations import coco_of

from panoforge.core.errors import StorageError
from panoforge.core.sample.products import encode_product
from panoforge.eval.interactive.serve.journal import Journal
from panoforge.eval.interactive.serve.opening import Asked

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]
WIDTH, HEIGHT = 512, 256


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A folder of two pictures, and the labels of the first."""
    folder = tmp_path_factory.mktemp("page") / "rooms"
    return folder, folder_of_pictures(folder, WIDTH, **{"a room": (5, 6), "b": (7, 4)})


SIZES = {"desk": (1280, 900, False), "dark": (1280, 900, True), "tablet": (820, 1100, False)}
SIZES["phone"] = (390, 844, False)


@pytest.mark.parametrize("name", SIZES)
def test_everybody_can_use_it(rooms: tuple[Path, np.ndarray], tmp_path: Path, name: str) -> None:
    """Nothing is cut off, targets are large enough, everything has a name, axe-core finds nothing
    serious: on a picture, on a video, and in the help.
    """
    _, labels = rooms
    width, height, dark = SIZES[name]
    place = tmp_path / "place"
    shutil.copytree(rooms[0], place)
    clips.write_clip(place / "walk.mp4", clips.moving_disc(4)[0])
    with serving(Asked(place=place, work=tmp_path / "work")) as server:
        ann = Annotator(server.server_port)
        picture, video = ann.picture("a room.png"), ann.picture("walk.mp4")
        ann.look(picture)
        ann.take_in(picture, coco_of(labels, tmp_path / "in.json", "a room.png"))
        ann.edit(video, "brush", frame=0, points=[[160, 0]], radius_deg=14)
        with open_tab(f"{server.url}#{picture}", width, height, dark=dark) as tab:
            look_over(tab, name)
            tab.page.evaluate(f"location.hash = {video!r}")
            tab.page.reload()
            look_over(tab, f"{name}-video")
            tab.page.click("#help-button")
            assert serious(tab) == []


@pytest.mark.parametrize("name", ["dark", "phone"])
def test_everybody_can_use_every_state(
    rooms: tuple[Path, np.ndarray], tmp_path: Path, name: str
) -> None:
    """Nothing chosen, several chosen, the list open, a class typed, a polygon half drawn, something
    computed, something wrong, a video's frame, the keys: as above.
    """
    width, height, dark = SIZES[name]
    place = tmp_path / "place"
    shutil.copytree(rooms[0], place)
    clips.write_clip(place / "walk.mp4", clips.moving_disc(4)[0])
    with serving(Asked(place=place, work=tmp_path / "work")) as server:
        ann = Annotator(server.server_port)
        picture, video = ann.picture("a room.png"), ann.picture("walk.mp4")
        ann.look(picture)
        ann.take_in(picture, coco_of(rooms[1], tmp_path / "in.json", "a room.png"))
        ann.edit(video, "brush", frame=0, points=[[160, 0]], radius_deg=14)
        with open_tab(f"{server.url}#{picture}", width, height, dark=dark) as tab:
            loaded(tab)
            press, wrong = tab.page.keyboard.press, {}

            def look(state: str) -> None:
                tab.page.wait_for_timeout(200)
                if folder := os.environ.get("PANO_SHOTS"):
                    tab.page.screenshot(path=Path(folder) / f"{name}-{state}.png", full_page=True)
                found = [serious(tab), tab.page.evaluate(SMALL), tab.page.evaluate(NAMELESS)]
                found.append([f"{tab.overflow_px()} px too wide"] * (tab.overflow_px() > 0))
                wrong.update({state: found} if any(found) else {})

            look("nothing chosen")
            press("F2")
            assert tab.page.locator("#error").is_visible()
            look("error")
            tab.page.click("#error-close")
            for key in ("j", "Shift+J", "Shift+J"):
                press(key)
            assert data(tab, "chosen") == [1, 2, 3]
            look("three chosen")
            if tab.page.locator("#pictures").is_hidden():
                press("l")
            assert tab.page.locator("#pictures").is_visible()
            look("list")
            press("l")
            press("p")
            x, y = tab.centre_of("#stage")
            for dx, dy in ((-30, -30), (30, -30)):
                tab.page.mouse.click(x + dx, y + dy)
            press("t")
            tab.page.keyboard.type("la")
            look("class and polygon")
            press("Escape")
            press("Escape")
            tab.page.evaluate(
                "() => { const quick = window.fetch; window.fetch = (path, said) =>"
                " String(path).includes('api/edit') ? new Promise(() => {}) : quick(path, said) }"
            )
            press("c")
            tab.page.mouse.click(*tab.centre_of("#stage"))
            assert tab.page.locator("#busy").is_visible()
            look("computing")
            tab.page.on("dialog", lambda dialog: dialog.accept())
            tab.page.evaluate(f"sessionStorage.clear(); location.hash = {video!r}")
            tab.wait_for("document.getElementById('what').textContent.startsWith('walk')")
            tab.page.click('[data-object="1"]')
            look("video")
            press("?")
            assert tab.page.locator("#help[open]").is_visible()
            look("help")
            assert wrong == {}


def look_over(tab: Tab, name: str) -> None:
    """What everybody needs, of a page with an object that is chosen."""
    loaded(tab)
    tab.page.click('[data-object="1"]')
    tab.page.click('[data-tool="brush"]')
    tab.page.wait_for_timeout(500)
    if folder := os.environ.get("PANO_SHOTS"):
        tab.page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)
    assert tab.overflow_px() <= 0
    assert tab.page.evaluate(SMALL) == []
    assert tab.page.evaluate(NAMELESS) == []
    assert serious(tab) == []


def test_everything_is_reached_by_keyboard(rooms: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    with (
        serving(Asked(place=rooms[0], work=tmp_path / "work")) as server,
        open_tab(server.url) as tab,
    ):
        press = tab.page.keyboard.press
        loaded(tab)
        press("?")
        assert tab.page.locator("#help[open]").count() == 1
        words = tab.page.locator("#keys").inner_text()
        assert all(word in words for word in ("brush", "undo", "next, previous picture"))
        press("Escape")
        for _ in range(40):  # to the sphere
            if tab.page.evaluate("document.activeElement.id") == "stage":
                break
            press("Tab")
        where = tab.page.evaluate("panoView.where()")
        press("ArrowRight")
        press("+")
        now = tab.page.evaluate("panoView.where()")
        assert now["lon"] > where["lon"] and now["fov"] < where["fov"]
        press("b")
        press("Enter")
        for key in ("ArrowRight", "ArrowUp", "ArrowRight"):
            press(key)
        press("Enter")
        version(tab, 1)
        press("p")
        press("n")
        for key in ("ArrowLeft", "ArrowDown", "ArrowDown"):
            press("Enter")
            press("Shift+" + key)
            press(key)
        press("Enter")
        press("Shift+Enter")
        version(tab, 2)
        assert len(data(tab, "objects")) == 2
        press("j")
        press("Shift+J")
        press("m")
        version(tab, 3)
        assert len(data(tab, "objects")) == 1
        # lists are left alone where nothing changes: a row that is used by keys keeps the focus
        tab.page.focus('[data-object="1"]')
        press("Enter")
        tab.page.evaluate("document.querySelector('[data-object]').mark = 1")
        tab.page.wait_for_timeout(3000)
        assert tab.page.evaluate("document.activeElement.mark") == 1
        bob = Annotator(server.server_port, "Bob")
        picture = bob.picture("a room.png")
        bob.look(picture)
        bob.edit(picture, "set", objects=[1], name="bob's")
        version(tab, 4)  # Bob's, seen here
        assert tab.page.evaluate("document.activeElement.dataset.object") == "1"
        press("t")
        tab.page.keyboard.type("sofa")
        press("Enter")
        press("Escape")
        version(tab, 5)
        press("q")
        version(tab, 6)
        press("Delete")  # locked: nothing happens
        press("q")
        version(tab, 7)
        press("Delete")
        version(tab, 8)
        assert data(tab, "objects") == []
        press("Control+z")
        version(tab, 9)
        press("d")
        tab.wait_for("document.getElementById('what').textContent.startsWith('b.png')")
        listed = {one["name"]: one["status"] for one in Annotator(server.server_port).pictures()}
        assert listed["a room.png"] == "done"
        assert tab.console == []


def test_what_is_wrong_is_said_on_the_page(rooms: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    """A file of another kind, a mask of another size, a picture that is none: one line each."""
    folder, _ = rooms
    with (
        serving(Asked(place=folder, work=tmp_path / "work")) as server,
        open_tab(server.url) as tab,
    ):
        loaded(tab)
        tab.page.click('[data-tool="brush"]')
        x, y = tab.centre_of("#stage")
        tab.drag(x - 50, y, x + 50, y)
        version(tab, 1)
        small = tmp_path / "small.png"
        small.write_bytes(encode_product("instance.png", np.ones((64, 128), np.uint16)))
        for selector, path, words in (
            ("#import", Path(__file__), "no COCO or LabelMe"),
            ("#import", small, "masks are 128×64"),
            ("#file", Path(__file__), "none of JPEG"),
        ):
            tab.page.set_input_files(selector, path)
            tab.wait_for(
                f"document.querySelector('#error span').textContent.includes({words!r}) &&"
                " !document.getElementById('error').hidden"
            )
            tab.page.click("#error-close")
        assert len(data(tab, "objects")) == 1
        # lists are left alone where nothing changes: a row that is used by keys keeps the focus
        tab.page.focus('[data-object="1"]')
        tab.page.keyboard.press("Enter")
        tab.page.evaluate("document.querySelector('[data-object]').mark = 1")
        tab.page.wait_for_timeout(3000)
        assert tab.page.evaluate("document.activeElement.mark") == 1
        bob = Annotator(server.server_port, "Bob")
        picture = bob.picture("a room.png")
        bob.look(picture)
        bob.edit(picture, "set", objects=[1], name="bob's")
        version(tab, 2)
        assert tab.page.evaluate("document.activeElement.dataset.object") == "1"


def test_a_disk_that_is_full_and_a_journal_that_was_cut_are_said(
    rooms: tuple[Path, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The work so far is safe, and what could not be written is written when there is room."""
    work, full = tmp_path / "work", threading.Event()
    with serving(Asked(place=rooms[0], work=work)) as server:
        ann = Annotator(server.server_port)
        for lon in (0, 40):
            ann.edit(ann.picture("a room.png"), "brush", points=[[lon, 0]], radius_deg=5)
    (journal,) = work.glob("pictures/a-room-*/journal.jsonl")
    journal.write_bytes(journal.read_bytes()[:-20])
    append = Journal.append

    def append_if_there_is_room(self: Journal, line: bytes) -> None:
        if full.is_set():
            raise StorageError(f"{self.path}: the disk is full; make room")
        append(self, line)

    monkeypatch.setattr(Journal, "append", append_if_there_is_room)
    with (
        serving(Asked(place=rooms[0], work=work)) as server,
        open_tab(server.url, 1040, 560) as tab,
    ):
        loaded(tab)
        assert "cut off by a crash" in tab.page.inner_text("#notice")
        assert len(data(tab, "objects")) == 1
        full.set()
        tab.page.keyboard.press("b")
        tab.page.keyboard.press("n")
        x, y = look_at(tab, 90, 0)
        tab.drag(x, y, x + 40, y)
        tab.wait_for("document.getElementById('saved').textContent.includes('the disk is full')")
        tab.page.keyboard.press("n")
        tab.drag(x, y + 90, x + 40, y + 90)
        full.clear()
        version(tab, 3)
        tab.wait_for("document.body.dataset.saved === 'saved'")
    with serving(Asked(place=rooms[0], work=work)) as server:
        ann = Annotator(server.server_port)
        assert len(ann.look(ann.picture("a room.png"))["objects"]) == 3
