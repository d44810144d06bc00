"""What a labeller stumbled over in an hour on ten pictures: the page as it is now.

The list is in docs/howto/annotate.md.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import synthetic
from annotating import Annotator, serving, wait_until
from browser import open_tab
from test_annotations import coco_of
from test_page_hurry import Desk

from panoforge.core.sample.products import encode_product
from panoforge.eval.interactive.serve.opening import Asked

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]
PICTURES = 12


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """Twelve pictures: more than the list has room for."""
    folder = tmp_path / "rooms"
    folder.mkdir()
    for seed in range(PICTURES):
        rgb, _ = synthetic.caps(np.random.default_rng(seed), 128, 3)
        (folder / f"room {seed:02d}.png").write_bytes(encode_product("rgb.png", rgb))
    with (
        serving(Asked(place=folder, work=tmp_path / "work")) as server,
        open_tab(server.url, 1040, 560) as tab,
    ):
        desk = Desk(tab, Annotator(server.server_port), tmp_path)
        tab.wait_for("document.body.dataset.loaded !== undefined")
        desk.shows("room 00.png")
        yield desk
        assert [line for line in tab.console if "Failed to" not in line] == []


def chosen(desk: Desk, one: int) -> None:
    desk.tab.wait_for(f"document.body.dataset.chosen === '[{one}]'")


def test_what_joins_the_chosen_object_from_afar_is_said(desk: Desk) -> None:
    desk.press("b")
    desk.stroke()
    desk.saved(1)
    assert desk.said() == ""
    desk.stroke()  # on it: more of the same
    desk.saved(2)
    assert desk.said() == ""
    desk.stroke(250)
    desk.saved(3)
    assert "more of “object 1”" in desk.said() and "Ctrl+Z, N, and again" in desk.said()
    desk.press("e")
    desk.stroke(-250)  # nothing joins by an eraser
    desk.saved(4)
    assert desk.said() == ""
    desk.press("x")
    x, y = desk.tab.centre_of("#stage")
    desk.tab.drag(x - 40, y - 60, x + 80, y + 80, steps=3)  # a box around it is about it
    desk.saved(5)
    assert desk.said() == ""
    desk.press("Control+z")
    desk.press("Control+z")
    desk.press("Control+z")
    desk.press("n")
    desk.press("b")
    desk.stroke(250)
    wait_until(lambda: len(desk.objects("room 00.png")) == 2)


def test_words_that_are_being_typed_are_in_the_file(desk: Desk, tmp_path: Path) -> None:
    desk.press("b")
    desk.stroke()
    desk.saved(1)
    desk.press("Shift+F2")
    desk.page.keyboard.type("half a sen")
    with desk.page.expect_download() as download:
        desk.press("Control+s")
    download.value.save_as(tmp_path / "out.json")
    assert '"half a sen"' in (tmp_path / "out.json").read_text()
    desk.page.keyboard.type("tence")
    desk.press("Control+Enter")
    wait_until(lambda: desk.objects("room 00.png")[0]["comment"] == "half a sentence")
    before = desk.page.evaluate("panoView.where().lon")
    desk.press("ArrowRight")  # the keys are the sphere's again
    assert desk.page.evaluate("panoView.where().lon") > before


def test_words_of_locked_and_merged_objects(desk: Desk) -> None:
    picture = desk.ann.picture("room 00.png")
    desk.ann.edit(picture, "brush", points=[[-30, 0]], radius_deg=8, category="lamp")
    desk.ann.edit(picture, "brush", points=[[30, 0]], radius_deg=8, category="lamp")
    desk.ann.edit(picture, "set", objects=[2], name="the left one")
    desk.saved(3)
    x, y = desk.tab.centre_of("#stage")
    place = desk.page.evaluate("panoView.place(30, 0)")
    left, top, _, _ = desk.tab.box("#stage")
    desk.page.mouse.move(left + place[0], top + place[1])
    desk.tab.wait_for("document.getElementById('readout').textContent.includes('the left one')")
    desk.page.click('[data-object="1"]')
    desk.page.click('[data-object="2"]', modifiers=["Shift"])
    desk.page.mouse.move(left + place[0], top + place[1])
    desk.press("m")
    assert "merged into “lamp”, without the name “the left one”" in desk.said()
    desk.saved(4)
    # what is under the pointer is said anew where it has changed, or the view has turned
    readout = "document.getElementById('readout').textContent"
    desk.tab.wait_for(f"{readout}.includes('lamp') && !{readout}.includes('the left one')")
    desk.page.evaluate("panoView.lookAt(120, 0)")
    desk.tab.wait_for(f"!{readout}.includes('lamp') && !{readout}.startsWith('30')")
    desk.press("q")
    desk.saved(5)
    desk.press("b")
    desk.tab.drag(x, y, x + 30, y, steps=3)
    desk.tab.wait_for("!document.getElementById('error').hidden")
    assert "lamp (object 1) is locked: unlock it first (Q)" in desk.said()


def test_the_list_follows_and_leaves_the_keys_to_the_sphere(desk: Desk) -> None:
    seen = """(() => {
      const list = document.getElementById("pictures").getBoundingClientRect();
      const row = document.querySelector("#picture-list [aria-current=true]");
      const at = row.getBoundingClientRect();
      return at.top >= list.top - 1 && at.bottom <= list.bottom + 1;
    })()"""
    for key, name in (("PageUp", "room 11.png"), ("PageDown", "room 00.png")):
        desk.press(key)
        desk.shows(name)
        current = "document.querySelector('#picture-list [aria-current=true]').innerText"
        desk.tab.wait_for(f"{current}.includes({name!r})")
        assert desk.page.evaluate(seen)
    # somebody who scrolls is not scrolled back
    desk.page.evaluate("document.getElementById('pictures').scrollTop = 9999")
    desk.ann.edit(desk.ann.picture("room 03.png"), "brush", points=[[0, 0]], radius_deg=5)
    desk.tab.wait_for("document.getElementById('picture-list').innerText.includes('1 object')")
    assert desk.page.evaluate("document.getElementById('pictures').scrollTop") > 100
    # after a click on a row the arrows look around; a row that is used by keys keeps them
    desk.open("room 11.png")
    before = desk.page.evaluate("panoView.where().lon")
    desk.press("ArrowRight")
    assert desk.page.evaluate("panoView.where().lon") > before
    row = f'[data-picture="{desk.ann.picture("room 10.png")}"]'
    desk.page.focus(row)
    desk.press("Enter")
    desk.shows("room 10.png")
    assert desk.page.evaluate("document.activeElement.dataset.picture") is not None


def test_a_file_of_another_picture_is_said_to_be_one(desk: Desk, tmp_path: Path) -> None:
    _, labels = synthetic.caps(np.random.default_rng(0), 128, 3)
    for name, remark in (("room 00.jpg", ""), ("a kitchen.png", "the file names another picture")):
        desk.page.set_input_files("#import", coco_of(labels, tmp_path / "in.json", name))
        desk.tab.wait_for("document.getElementById('notice').textContent.includes('looked at')")
        said = desk.said()
        assert ("another picture" in said) == bool(remark), said
        desk.press("Control+z")
        desk.tab.wait_for("document.getElementById('notice').textContent === ''")
    assert "a kitchen.png" in said
    wait_until(lambda: not desk.objects("room 00.png"))


def test_a_window_that_becomes_narrow_shows_the_tools(desk: Desk) -> None:
    listed = desk.page.locator("#pictures")
    assert listed.is_visible()
    desk.page.set_viewport_size({"width": 820, "height": 700})
    desk.tab.wait_for("document.getElementById('pictures').hidden")
    desk.page.click("#tools [data-tool=look]")
    desk.page.set_viewport_size({"width": 1200, "height": 700})
    desk.tab.wait_for("!document.getElementById('pictures').hidden")
    assert listed.is_visible()
