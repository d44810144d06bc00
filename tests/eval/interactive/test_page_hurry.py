"""Hands that are quicker than the server: keys, strokes and clicks that come while the page waits.

Each answer may be late; what was meant is what happens, or the page says that it did not.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import clips
import numpy as np
import pytest
import synthetic
from annotating import Annotator, Process, serving, wait_until
from browser import Tab, open_tab
from playwright.sync_api import Route
from pycocotools.coco import COCO
from test_annotations import coco_of

from panoforge.core.sample.products import encode_product
from panoforge.eval.interactive.serve.opening import Asked

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]
WIDTH, HEIGHT = 128, 64
LATE = """([part, ms, fails]) => {
  const quick = window.quick ??= window.fetch;
  window.fetch = async (path, options) => {
    if (String(path).includes(part)) {
      if (fails && fails-- > 0) throw new TypeError("Failed to fetch");
      await new Promise(done => setTimeout(done, ms));
    }
    return quick(path, options);
  };
}"""

LATE_HASH = """(ms) => window.addEventListener("hashchange", (event) => {
  if (event.late) return;
  event.stopImmediatePropagation();
  const again = () => Object.assign(new HashChangeEvent("hashchange"), { late: true });
  setTimeout(() => window.dispatchEvent(again()), ms);
}, true)"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures and a video, and a file of three masks for the first."""
    folder = tmp_path_factory.mktemp("hurry") / "place"
    folder.mkdir()
    for seed, name in enumerate(("a.png", "b.png", "c.png")):
        rgb, labels = synthetic.caps(np.random.default_rng(seed), WIDTH, 3)
        (folder / name).write_bytes(encode_product("rgb.png", rgb))
        if name == "a.png":
            coco_of(labels, folder.parent / "in.json", name)
    clips.write_clip(folder / "walk.mp4", clips.moving_disc(6)[0])
    return folder


class Desk:
    """The page in a browser, and somebody who asks the server what is so."""

    def __init__(self, tab: Tab, ann: Annotator, masks: Path) -> None:
        self.tab, self.page, self.ann, self.masks = tab, tab.page, ann, masks
        self.press = tab.page.keyboard.press

    def late(self, part: str, ms: int, fails: int = 0) -> None:
        """Requests whose address has `part` wait before they go, the first `fails` fail."""
        self.page.evaluate(LATE, [part, ms, fails])

    def shows(self, name: str) -> None:
        """Until a picture is open."""
        opened = "!('opening' in document.body.dataset || 'busy' in document.body.dataset)"
        title = f"document.getElementById('what').textContent.startsWith({name!r})"
        self.tab.wait_for(f"{title} && {opened}")

    def saved(self, least: int = 0) -> None:
        """Until all is saved, in a version."""
        self.tab.wait_for(
            f"Number(document.body.dataset.version) >= {least} &&"
            " document.body.dataset.saved !== 'saving'"
        )

    def data(self, name: str) -> Any:
        return json.loads(self.page.evaluate(f"document.body.dataset.{name}") or "null")

    def objects(self, name: str, frame: int | None = None) -> list[dict]:
        """What the server has on a picture."""
        return self.ann.look(self.ann.picture(name), frame)["objects"]

    def said(self) -> str:
        return self.page.inner_text("#notice") + self.page.locator("#error span").inner_text()

    def take_in(self) -> None:
        """Three labels of a machine on the first picture."""
        picture = self.ann.picture("a.png")
        self.ann.look(picture)
        self.ann.take_in(picture, self.masks)

    def open(self, name: str) -> None:
        self.page.click(f'[data-picture="{self.ann.picture(name)}"]')
        self.shows(name)

    def stroke(self, dx: int = 0) -> None:
        x, y = self.tab.centre_of("#stage")
        self.tab.drag(x + dx, y, x + dx + 30, y + 10, steps=3)


@pytest.fixture
def desk(place: Path, tmp_path: Path) -> Iterator[Desk]:
    with (
        serving(Asked(place=place, work=tmp_path / "work")) as server,
        open_tab(server.url, 1040, 560) as tab,
    ):
        desk = Desk(tab, Annotator(server.server_port), place.parent / "in.json")
        tab.wait_for("document.body.dataset.loaded !== undefined")
        desk.shows("a.png")
        yield desk
        assert [line for line in tab.console if "Failed to" not in line] == []


def test_keys_that_are_quicker_than_the_next_picture(desk: Desk) -> None:
    """Two steps are two pictures; what comes after them is meant for the one that they lead to."""
    for name in ("a.png", "c.png"):
        desk.ann.edit(desk.ann.picture(name), "brush", points=[[0, 0]], radius_deg=5)
    desk.saved(1)
    desk.press("j")  # chosen on the first
    desk.late("api/look", 700)
    desk.press("PageDown")
    desk.press("PageDown")
    for key in ("j", "Delete"):
        desk.press(key)
    desk.press("d")  # nobody has seen this picture
    assert "not marked as done" in desk.said()
    desk.shows("c.png")
    wait_until(lambda: not desk.objects("c.png"))
    assert len(desk.objects("a.png")) == 1
    assert {one["status"] for one in desk.ann.pictures()} == {"new", "open"}
    # a key whose picture is left again before it is open is not made on another
    desk.press("Control+z")
    wait_until(lambda: desk.objects("c.png"))
    desk.press("PageUp")
    desk.press("Delete")
    desk.press("PageDown")
    desk.shows("c.png")
    desk.tab.wait_for("!document.getElementById('error').hidden")
    assert "a key was not taken" in desk.said()
    assert desk.objects("c.png")


def test_what_is_begun_on_one_picture_is_not_made_on_the_next(desk: Desk) -> None:
    for tool in ("b", "x", "c"):
        desk.press(tool)
        x, y = desk.tab.centre_of("#stage")
        desk.page.mouse.move(x, y)
        desk.page.mouse.down()
        if tool != "c":
            desk.page.mouse.move(x + 60, y + 60)
        desk.press("PageDown" if tool != "x" else "PageUp")
        desk.shows("b.png" if tool != "x" else "a.png")
        if tool != "c":
            desk.page.mouse.move(x + 90, y + 90)
        desk.page.mouse.up()
    desk.late("api/look", 5000)
    desk.press("PageDown")
    desk.press("b")
    desk.stroke()
    assert "on its way" in desk.said()
    desk.shows("c.png")
    desk.saved()
    assert not any(desk.objects(name) for name in ("a.png", "b.png", "c.png"))


def test_what_the_browser_says_late_of_one_picture_leaves_the_next_alone(desk: Desk) -> None:
    """The address changes with the picture. A slow browser has said so after the next key."""
    desk.page.evaluate(LATE_HASH, 400)
    desk.press("PageDown")
    desk.shows("b.png")
    desk.late("api/look", 1200)
    desk.press("PageDown")
    desk.shows("c.png")
    desk.page.wait_for_timeout(600)
    assert desk.page.inner_text("#what").startswith("c.png")
    # the browser's own keys go back and on again
    for go, name in (("go_back", "b.png"), ("go_back", "a.png"), ("go_forward", "b.png")):
        getattr(desk.page, go)()
        desk.shows(name)
    # a picture whose work is another than this page knows is loaded again, unless she has left it
    desk.late("api/look", 0)
    desk.page.wait_for_timeout(1500)  # what is asked of the pictures before has its answer
    left = []

    def stale(route: Route) -> None:
        if not left:
            left.append(json.loads(route.request.post_data)["picture"])
            desk.press("PageDown")
            route.fulfill(status=409, json={"code": "stale", "error": "load it again"})
        else:
            route.continue_()

    desk.page.route("**/api/look", stale)
    wait_until(lambda: desk.page.wait_for_timeout(50) or left)
    assert left == [desk.ann.picture("b.png")]
    desk.shows("c.png")
    desk.page.wait_for_timeout(1500)
    desk.shows("c.png")
    assert desk.page.locator("#error").is_hidden()


def test_labels_are_accepted_as_quickly_as_keys_are_pressed(desk: Desk) -> None:
    desk.take_in()
    desk.saved(1)
    desk.late("api/edit", 500)
    desk.press("a")  # to the first
    desk.tab.wait_for("document.body.dataset.chosen === '[1]'")
    for _ in range(2):
        desk.press("a")
    assert desk.data("chosen") == [3]
    desk.page.keyboard.down("r")
    desk.page.keyboard.down("r")  # held: it repeats by itself
    desk.page.keyboard.up("r")
    desk.saved(4)
    reviews = [one["review"] for one in desk.objects("a.png")]
    assert reviews == ["accepted", "accepted", "rejected"]
    assert desk.ann.look(desk.ann.picture("a.png"))["version"] == 4
    assert "no label of this picture is left" in desk.said()


def test_a_class_is_typed_before_the_object_is_there(desk: Desk) -> None:
    desk.late("api/edit", 900)
    desk.press("b")
    desk.stroke()
    desk.press("t")
    desk.page.keyboard.type("door")  # not one of these letters is a key
    desk.press("Enter")
    desk.press("F2")
    desk.page.keyboard.type("wide")
    desk.press("Enter")
    desk.saved(3)
    (one,) = desk.objects("a.png")
    assert (one["category"], one["name"]) == ("door", "wide")
    assert desk.ann.pictures()[0]["status"] == "open"
    # Esc forgets; a digit gives a class; with nothing chosen it is the next object's
    desk.press("t")
    desk.page.keyboard.type("nothing")
    desk.press("Escape")
    desk.press("n")
    desk.press("t")
    desk.page.keyboard.type("lamp")
    desk.press("Enter")
    desk.press("b")
    desk.stroke(-120)
    desk.press("1")
    desk.press("2")
    desk.press("1")
    desk.saved(7)
    assert [one["category"] for one in desk.objects("a.png")] == ["door", "door"]
    # deleted, and taken back before the first answer
    desk.press("Delete")
    desk.press("Delete")
    desk.press("Control+z")
    desk.saved(9)
    assert len(desk.objects("a.png")) == 2
    assert desk.page.locator("#error").is_hidden()


def test_undo_after_done_goes_back_there(desk: Desk) -> None:
    desk.ann.edit(desk.ann.picture("b.png"), "brush", points=[[0, 0]], radius_deg=5)
    desk.press("d")
    desk.shows("b.png")
    desk.press("Control+z")
    desk.shows("a.png")
    wait_until(lambda: desk.ann.pictures()[0]["status"] == "new")
    assert len(desk.objects("b.png")) == 1
    for name in ("b.png", "c.png", "walk.mp4"):
        desk.press("d")
        desk.shows(name)
    desk.press("d")
    desk.tab.wait_for("document.getElementById('notice').textContent === 'all pictures are done'")
    wait_until(lambda: {one["status"] for one in desk.ann.pictures()} == {"done"})


def test_files_and_pictures_at_once(desk: Desk, tmp_path: Path) -> None:
    """Masks go where they were meant to go, and a file has the last stroke."""
    desk.ann.edit(desk.ann.picture("b.png"), "brush", points=[[0, 0]], radius_deg=5)
    desk.late("api/import", 900)
    desk.page.set_input_files("#import", desk.masks)
    desk.press("PageDown")
    desk.shows("b.png")
    desk.tab.wait_for("document.getElementById('notice').textContent.includes('in a.png')")
    assert desk.data("chosen") == [] and len(desk.objects("a.png")) == 3
    desk.late("api/edit", 700)
    desk.press("b")
    desk.stroke()
    with desk.page.expect_download() as download:
        desk.press("Control+s")
    download.value.save_as(tmp_path / "out.json")
    with contextlib.redirect_stdout(None):
        assert len(COCO(tmp_path / "out.json").getAnnIds()) == 2
    desk.open("a.png")
    desk.late("api/look", 1500)
    desk.press("PageDown")
    with desk.page.expect_download() as download:
        desk.page.click('[data-save="coco.json"]')  # of the picture that is on its way
    assert download.value.suggested_filename == "b.coco.json"


def test_a_reload_and_lost_answers_change_no_meaning(desk: Desk) -> None:
    desk.late("api/edit", 800)
    desk.press("b")
    desk.stroke()
    desk.stroke(40)  # more of what is being made
    desk.tab.wait_for("document.body.dataset.version === '1'")
    desk.page.reload()
    desk.tab.wait_for("document.body.dataset.loaded !== undefined")
    desk.saved(2)
    assert len(desk.objects("a.png")) == 1
    # a word that is being typed is kept, too
    desk.page.click('[data-object="1"]')
    desk.page.fill("#comment", "half a word")
    desk.page.on("dialog", lambda dialog: dialog.accept())
    desk.page.reload()
    desk.tab.wait_for("document.body.dataset.loaded !== undefined")
    wait_until(lambda: desk.objects("a.png")[0]["comment"] == "half a word")
    # a mask that did not come is asked for again
    desk.late("api/mask", 0, fails=1)
    desk.ann.edit(desk.ann.picture("a.png"), "brush", points=[[90, 0]], radius_deg=20)
    desk.page.evaluate("panoView.lookAt(90, 0)")
    desk.page.mouse.move(*desk.tab.centre_of("#stage"))
    desk.page.mouse.move(*np.add(desk.tab.centre_of("#stage"), 1))
    deadline = "document.getElementById('readout').textContent.includes('object 2')"
    for k in range(60):
        desk.page.mouse.move(*np.add(desk.tab.centre_of("#stage"), k % 3))
        desk.page.wait_for_timeout(200)
        if desk.page.evaluate(deadline):
            break
    assert desk.page.evaluate(deadline)


def test_let_go_in_the_middle_of_a_stroke(desk: Desk) -> None:
    for tool in ("x", "b"):
        desk.press(tool)
        x, y = desk.tab.centre_of("#stage")
        desk.page.mouse.move(x, y)
        desk.page.mouse.down()
        desk.page.mouse.move(x + 60, y + 60)
        desk.press("Escape")
        desk.page.mouse.move(x + 90, y + 90)
        desk.page.mouse.up()
    desk.saved()
    assert not desk.objects("a.png")
    desk.press("h")
    desk.press("Shift+H")
    # a list that was used with the mouse keeps no keys for itself
    desk.page.select_option("#status", "skipped")
    desk.page.focus("#status")
    desk.press("b")
    assert desk.page.get_attribute("#stage", "data-tool") == "brush"


def test_marks_are_gone_where_their_place_is_not_seen(desk: Desk) -> None:
    """Of the view before: without a GPU chromium has shown them in every second view."""
    desk.press("c")
    desk.page.evaluate("panoView.lookAt(180, 11.5, 80)")  # the cap on the seam
    desk.page.mouse.click(*desk.tab.centre_of("#stage"))
    desk.saved(1)
    marks = []
    for lon in (180, 90, 0, -60, 60):
        desk.page.evaluate(f"panoView.lookAt({lon}, 11.5, 80)")
        desk.page.wait_for_timeout(800)
        green = np.abs(desk.tab.shot_of("#stage").astype(int) - (0x2F, 0xBF, 0x71)).sum(axis=-1)
        marks.append(int((green < 20).sum()) > 20)
    assert marks == [True, False, False, False, False]


def test_frames_that_are_on_their_way(desk: Desk) -> None:
    """What is drawn is drawn on the frame that is seen."""
    desk.open("walk.mp4")
    desk.tab.wait_for("document.body.dataset.settled === 'true'")
    desk.late("api/look", 5000)
    desk.press("b")
    desk.press(".")
    desk.stroke()
    assert "frame 2 is on its way" in desk.said()
    desk.tab.wait_for("document.body.dataset.frame === '1'")
    assert not desk.objects("walk.mp4")
    # the server is away: the page stays where it is, and says so
    desk.late("api/look", 0, fails=1)
    desk.press(".")
    desk.tab.wait_for("!document.getElementById('error').hidden")
    assert "frame 3 is not shown" in desk.said()
    assert desk.page.inner_text("#frame-words").startswith("2 of 6")
    desk.press(".")
    desk.tab.wait_for("document.body.dataset.frame === '2'")
    assert desk.page.inner_text("#frame-words").startswith("3 of 6")


def test_propagation_in_a_hurry(desk: Desk) -> None:
    desk.open("walk.mp4")
    desk.tab.wait_for("document.body.dataset.settled === 'true'")
    desk.page.evaluate("panoView.lookAt(160, 0, 100)")
    desk.page.evaluate("document.getElementById('radius').value = 86")
    desk.page.evaluate("document.getElementById('radius').dispatchEvent(new Event('input'))")
    desk.press("b")
    desk.late("api/edit", 600)
    desk.stroke()
    desk.press("f")  # before the object is there
    desk.press("f")
    assert "is being propagated" in desk.said()
    desk.tab.wait_for("document.getElementById('notice').textContent.includes('over 5 frames')")
    assert desk.objects("walk.mp4")[0]["spans"] == [[0, 5]]
    desk.press("Control+z")
    desk.saved(3)
    wait_until(lambda: desk.objects("walk.mp4")[0]["spans"] == [[0, 0]])
    # undo while it is carried: cancelled, and what was written is taken back; never the stroke
    desk.late("api/propagate", 1200)
    desk.press("f")
    desk.press("Control+z")
    desk.tab.wait_for("document.body.dataset.carrying === undefined")
    desk.saved()
    assert desk.objects("walk.mp4")[0]["spans"] == [[0, 0]]


def test_nobody_else_is_said_to_have_changed_what_was_propagated_here(desk: Desk) -> None:
    """The frame that is looked at comes later than what was propagated."""
    desk.open("walk.mp4")
    desk.tab.wait_for("document.body.dataset.settled === 'true'")
    desk.page.evaluate("panoView.lookAt(160, 0, 100)")
    desk.press("b")
    desk.stroke()
    desk.saved(1)
    desk.page.evaluate(
        """(() => {
          const notice = document.getElementById("notice"), { dataset } = document.body;
          const note = () => (dataset.told = (dataset.told ?? "") + notice.textContent);
          new MutationObserver(note).observe(notice, { childList: true });
        })()"""
    )
    desk.late("api/look", 4000)
    desk.press("f")
    desk.press(".")
    desk.tab.wait_for("(document.body.dataset.told ?? '').includes('over 5 frames')")
    desk.tab.wait_for("document.body.dataset.frame === '1'")
    desk.page.wait_for_timeout(9000)  # what is asked for every two seconds, late
    assert "somebody else" not in desk.page.evaluate("document.body.dataset.told")


def test_another_place_at_the_same_address(place: Path, tmp_path: Path) -> None:
    """A page of one place changes nothing in another that has pictures of the same names."""
    first = Process(place, "--work", str(tmp_path / "first"))
    try:
        with open_tab(first.url, 1040, 560) as tab:
            tab.wait_for("document.body.dataset.loaded !== undefined")
            first.kill()
            second = Process(place, "--work", str(tmp_path / "second"), port=first.port)
            try:
                tab.page.keyboard.press("b")
                x, y = tab.centre_of("#stage")
                tab.drag(x, y, x + 30, y)
                words = "document.getElementById('saved').textContent"
                tab.wait_for(f"{words}.includes('another place is served')")
                ann = Annotator(second.port)
                assert not ann.look(ann.picture("a.png"))["objects"]
            finally:
                second.kill()
    finally:
        first.process.kill()
