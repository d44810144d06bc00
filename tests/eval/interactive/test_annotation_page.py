"""The annotation page in a real browser: a day of work, other people, kills, and who may use it."""

import contextlib
import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import clips
import numpy as np
import pytest
import synthetic
from annotating import Annotator, Process, serving
from browser import Tab, difference, open_tab
from everybody import NAMELESS, SMALL, serious
from pycocotools.coco import COCO
from test_annotations import coco_of

from panoforge.core.errors import StorageError
from panoforge.core.foreign.labelme import read_labelme
from panoforge.core.sample.products import encode_product
from panoforge.eval.interactive.serve.journal import Journal
from panoforge.eval.interactive.serve.opening import Asked

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]
WIDTH, HEIGHT = 512, 256


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A folder of two pictures, and the labels of the first."""
    folder = tmp_path_factory.mktemp("page") / "rooms"
    folder.mkdir()
    rgb, labels = synthetic.caps(np.random.default_rng(5), WIDTH, 6)
    (folder / "a room.png").write_bytes(encode_product("rgb.png", rgb))
    rgb, _ = synthetic.caps(np.random.default_rng(7), WIDTH, 4)
    (folder / "b.png").write_bytes(encode_product("rgb.png", rgb))
    return folder, labels


def data(tab: Tab, name: str) -> Any:
    return json.loads(tab.page.evaluate(f"document.body.dataset.{name}") or "null")


def version(tab: Tab, least: int) -> None:
    """Until the page shows a version that all is saved in."""
    tab.wait_for(
        f"Number(document.body.dataset.version) >= {least} && document.body.dataset.saved !=="
        " 'saving' && document.body.dataset.busy === undefined"
    )


def loaded(tab: Tab) -> None:
    tab.wait_for("document.body.dataset.loaded !== undefined")
    tab.wait_for("document.body.dataset.settled === 'true'")


def look_at(tab: Tab, lon: float, lat: float, fov: float = 100) -> tuple[float, float]:
    """Look there; gives the middle of the stage on the screen."""
    tab.page.evaluate(f"panoView.lookAt({lon}, {lat}, {fov})")
    tab.page.wait_for_timeout(100)
    return tab.centre_of("#stage")


def at(tab: Tab, lon: float, lat: float) -> tuple[float, float]:
    """Where a place on the sphere is on the screen."""
    x, y, _, _ = tab.box("#stage")
    place = tab.page.evaluate(f"panoView.place({lon}, {lat})")
    return x + place[0], y + place[1]


def save(tab: Tab, kind: str, folder: Path) -> Path:
    with tab.page.expect_download() as download:
        tab.page.click(f'[data-save="{kind}"]')
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


@pytest.mark.real
def test_a_day_of_work(rooms: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    """Import, name, box, brush over the seam and around a pole, undo, a second client (no browser)
    on another picture and on the same one, the server killed and started, export.
    """
    folder, labels = rooms
    process = Process(folder, "--work", str(tmp_path / "work"))
    bob = Annotator(process.port, "Bob")
    try:
        with open_tab(process.url) as tab:
            loaded(tab)
            assert data(tab, "objects") == []
            plain = tab.shot_of("#stage")
            with tab.page.expect_file_chooser() as chooser:
                tab.page.click("#import")
            chooser.value.set_files(coco_of(labels, tmp_path / "in.json", "a room.png"))
            version(tab, 1)
            imported = data(tab, "objects")
            assert len(imported) == 6 and {one["review"] for one in imported} == {"proposed"}
            tab.page.wait_for_timeout(500)
            assert difference(tab.shot_of("#stage"), plain) > 1  # the masks are on the sphere
            # review, class, name and comment
            tab.page.click('[data-object="1"]')
            tab.page.click("#accept")
            version(tab, 2)
            assert data(tab, "chosen") == [2]  # on to the next that is to be looked at
            tab.page.keyboard.press("r")
            version(tab, 3)
            tab.page.click('[data-object="1"]')
            tab.page.fill("#category", "door")
            tab.page.keyboard.press("Tab")
            version(tab, 4)
            tab.page.fill("#name", "the <b>door</b> 客")
            tab.page.keyboard.press("Tab")
            version(tab, 5)
            # a stroke over the seam
            tab.page.keyboard.press("Escape")
            tab.page.click('[data-tool="brush"]')
            tab.page.click("#new")
            x, y = look_at(tab, 180, 0)
            tab.drag(x - 150, y, x + 150, y + 20)
            version(tab, 6)
            # and around the north pole
            tab.page.click("#new")
            x, y = look_at(tab, 30, 90)
            tab.page.mouse.move(x + 100, y)
            tab.page.mouse.down()
            for k in range(1, 25):
                angle = 2 * np.pi * k / 24
                tab.page.mouse.move(x + 100 * np.cos(angle), y + 100 * np.sin(angle))
            tab.page.mouse.up()
            version(tab, 7)
            # undone and made again
            ring = data(tab, "objects")[-1]
            tab.page.keyboard.press("Control+z")
            version(tab, 8)
            assert len(data(tab, "objects")) == 7
            tab.page.keyboard.press("Control+y")
            version(tab, 9)
            assert data(tab, "objects")[-1] == ring
            # a box around a thing, without weights
            thing = int(np.unique(labels)[3])
            v, u = np.argwhere(labels == thing).mean(axis=0)
            lon, lat = (u + 0.5) / WIDTH * 360 - 180, 90 - (v + 0.5) / HEIGHT * 180
            tab.page.click('[data-tool="box"]')
            tab.page.click("#new")
            x, y = look_at(tab, lon, lat)
            tab.drag(x - 220, y - 220, x + 220, y + 220)
            version(tab, 10)
            assert data(tab, "objects")[-1]["pixels"] > 0
            # somebody else on another picture: nothing of it is seen here
            other = bob.picture("b.png")
            bob.look(other)
            bob.edit(other, "brush", points=[[0, 0]], radius_deg=5)
            # and on the same one: it is seen here by itself, and nothing is lost
            same = bob.picture("a room.png")
            bob.look(same)
            bob.edit(same, "brush", points=[[-90, -40]], radius_deg=8, category="bob's")
            version(tab, 11)
            assert data(tab, "objects")[-1]["category"] == "bob's"
            tab.wait_for("document.getElementById('people').textContent.includes('Bob')")
            # the server is killed in the middle of the work
            process.kill()
            tab.page.click('[data-tool="polygon"]')
            tab.page.click("#new")
            look_at(tab, 90, -80)
            for corner in ((0, -70), (120, -65), (-120, -60)):
                tab.page.mouse.click(*at(tab, *corner))
            tab.page.keyboard.press("Shift+Enter")
            tab.wait_for("document.body.dataset.saved === 'offline'")
            process.start()
            version(tab, 12)
            tab.wait_for("document.body.dataset.saved === 'saved'")
            before = data(tab, "objects")
            tab.page.reload()
            loaded(tab)
            assert data(tab, "objects") == before and len(before) == 11
            coco, labelme, png = (
                save(tab, kind, tmp_path) for kind in ("coco.json", "labelme.json", "mask.png")
            )
            assert coco.name == "a room.coco.json"
            unexpected = [line for line in tab.console if "Failed to load resource" not in line]
            assert unexpected == []
            here = f"http://127.0.0.1:{process.port}/"
            assert all(request.startswith((here, f"blob:{here}")) for request in tab.requests)
        check_files(Annotator(process.port), coco, labelme, png)
    finally:
        process.kill()


def check_files(ann: Annotator, coco: Path, labelme: Path, png: Path) -> None:
    """What was saved holds, to the pixel, the masks that the server has."""
    picture = ann.picture("a room.png")
    state = ann.look(picture)
    masks = {
        one["id"]: ann.mask(picture, one, WIDTH, HEIGHT)
        for one in state["objects"]
        if one["review"] != "rejected"
    }
    seam, ring = masks[7], masks[8]
    assert seam[:, 0].any() and seam[:, -1].any()
    assert ring.any(axis=0).all() and not ring[0].any()  # all around, the pole itself is free
    polygon = masks[max(masks)]
    assert polygon[-1].all()  # around the south pole
    with contextlib.redirect_stdout(None):
        read = COCO(coco)
    entries = read.loadAnns(read.getAnnIds())
    assert len(entries) == len(masks) == 10
    for entry, mask in zip(entries, masks.values(), strict=True):
        assert np.array_equal(read.annToMask(entry).astype(bool), mask)
    assert entries[0]["name"] == "the <b>door</b> 客"
    file = read_labelme(labelme)
    for shape, mask in zip(file.shapes, masks.values(), strict=True):
        assert np.array_equal(file.mask(shape), mask)
    assert png.stat().st_size


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
        # lists are left alone where nothing changes: a row can be clicked on and keeps the focus
        tab.page.click('[data-object="1"]')
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
        # lists are left alone where nothing changes: a row can be clicked on and keeps the focus
        tab.page.click('[data-object="1"]')
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
