"""A day of work of two people, each in a browser of their own, on one server that is killed."""

import contextlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from annotating import Annotator, Process
from browser import Tab, difference, open_tab
from on_the_page import at, data, folder_of_pictures, loaded, look_at, open_picture, save, version
from PIL import Image
from pycocotools.coco import COCO
from test_annotations import coco_of
from test_page_hurry import LATE
from toolkits import has, labelme_reads

from panoforge.core.foreign.labelme import read_labelme

pytestmark = [pytest.mark.real, pytest.mark.browser, pytest.mark.timeout(900)]
WIDTH, HEIGHT = 512, 256


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A folder of two pictures, and the labels of the first."""
    folder = tmp_path_factory.mktemp("page") / "rooms"
    return folder, folder_of_pictures(folder, WIDTH, **{"a room": (5, 6), "b": (7, 4)})


def test_a_day_of_work(rooms: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    """Import, name, box, brush over the seam and around a pole, undo; a second browser on another
    picture and on the same one, at once; the server killed and started under both; export.
    """
    folder, labels = rooms
    process = Process(folder, "--work", str(tmp_path / "work"))
    try:
        with open_tab(process.url) as tab, open_tab(process.url) as bob:
            loaded(tab)
            loaded(bob)
            bob.page.fill("#who", "Bob")
            bob.page.keyboard.press("Tab")
            open_picture(bob, "b.png")
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
            review_and_name(tab)
            draw_and_undo(tab)
            box_a_thing(tab, labels)
            # somebody else on another picture: nothing of it is seen here, nor of this one there
            brush(bob, 0, 0)
            version(bob, 1)
            assert len(data(bob, "objects")) == 1 and len(data(tab, "objects")) == 9
            one_picture(tab, bob)
            the_server_is_killed(tab, bob, process)
            ours = data(tab, "objects")
            assert data(bob, "objects") == ours and len(ours) == 12
            for one in (tab, bob):
                one.page.reload()
                loaded(one)
                assert data(one, "objects") == ours
            files = [save(tab, kind, tmp_path) for kind in ("coco.json", "labelme.json")]
            png = save(bob, "mask.png", tmp_path)  # of what both have drawn
            assert files[0].name == "a room.coco.json"
            here = f"http://127.0.0.1:{process.port}/"
            for one in (tab, bob):
                assert [line for line in one.console if "Failed to load resource" not in line] == []
                assert all(request.startswith((here, f"blob:{here}")) for request in one.requests)
        check_files(Annotator(process.port), *files, png, folder)
    finally:
        process.kill()


def review_and_name(tab: Tab) -> None:
    """Versions 2 to 5: accepted, rejected, a class and a name."""
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
    tab.page.keyboard.press("Escape")


def draw_and_undo(tab: Tab) -> None:
    """Versions 6 to 9: over the seam, around the north pole, undone and made again."""
    tab.page.click('[data-tool="brush"]')
    tab.page.click("#new")
    x, y = look_at(tab, 180, 0)
    tab.drag(x - 150, y, x + 150, y + 20)
    version(tab, 6)
    tab.page.click("#new")
    x, y = look_at(tab, 30, 90)
    tab.page.mouse.move(x + 100, y)
    tab.page.mouse.down()
    for k in range(1, 25):
        angle = 2 * np.pi * k / 24
        tab.page.mouse.move(x + 100 * np.cos(angle), y + 100 * np.sin(angle))
    tab.page.mouse.up()
    version(tab, 7)
    ring = data(tab, "objects")[-1]
    tab.page.keyboard.press("Control+z")
    version(tab, 8)
    assert len(data(tab, "objects")) == 7
    tab.page.keyboard.press("Control+y")
    version(tab, 9)
    assert data(tab, "objects")[-1] == ring


def box_a_thing(tab: Tab, labels: np.ndarray) -> None:
    """Version 10, without weights."""
    thing = int(np.unique(labels)[3])
    v, u = np.argwhere(labels == thing).mean(axis=0)
    lon, lat = (u + 0.5) / WIDTH * 360 - 180, 90 - (v + 0.5) / HEIGHT * 180
    tab.page.click('[data-tool="box"]')
    tab.page.click("#new")
    x, y = look_at(tab, lon, lat)
    tab.drag(x - 220, y - 220, x + 220, y + 220)
    version(tab, 10)
    assert data(tab, "objects")[-1]["pixels"] > 0


def brush(tab: Tab, lon: float, lat: float) -> None:
    """A new object by a short stroke there."""
    tab.page.click('[data-tool="brush"]')
    tab.page.click("#new")
    x, y = look_at(tab, lon, lat)
    tab.drag(x - 30, y, x + 30, y, steps=3)


def one_picture(tab: Tab, bob: Tab) -> None:
    """Versions 11 to 14: both on one picture. Other objects are seen; of one object he is told."""
    open_picture(bob, "a room.png")
    tab.wait_for("document.getElementById('people').textContent.includes('Bob')")
    bob.wait_for("document.getElementById('people').textContent.includes('annotator ')")
    assert data(bob, "objects") == data(tab, "objects")
    brush(bob, -90, -40)
    version(bob, 11)
    bob.page.fill("#category", "bob's")
    bob.page.keyboard.press("Tab")
    version(bob, 12)
    version(tab, 12)  # by itself
    assert data(tab, "objects")[-1]["category"] == "bob's"
    # she names an object while he is typing a name for it, and has not heard of hers
    bob.page.evaluate(LATE, ["api/look", 5000, 0])
    bob.page.wait_for_timeout(300)  # what was asked for before is here
    bob.page.click('[data-object="3"]')
    bob.page.fill("#name", "his lamp")
    tab.page.click('[data-object="3"]')
    tab.page.fill("#name", "her lamp")
    tab.page.keyboard.press("Tab")
    version(tab, 13)
    bob.page.keyboard.press("Tab")
    bob.wait_for("!document.getElementById('error').hidden")
    assert "has changed object 3 meanwhile: your change was not applied" in bob.page.inner_text(
        "#error"
    )
    bob.page.click("#error-close")
    bob.wait_for("JSON.parse(document.body.dataset.objects)[2].name === 'her lamp'")
    bob.page.evaluate(LATE, ["api/look", 0, 0])
    bob.page.evaluate("window.fetch = window.quick")
    assert data(tab, "objects")[2]["name"] == "her lamp"


def the_server_is_killed(tab: Tab, bob: Tab, process: Process) -> None:
    """Versions 14 and 15: both draw while it is away, and both are saved."""
    process.kill()
    tab.page.click('[data-tool="polygon"]')
    tab.page.click("#new")
    look_at(tab, 90, -80)
    for corner in ((0, -70), (120, -65), (-120, -60)):
        tab.page.mouse.click(*at(tab, *corner))
    tab.page.keyboard.press("Shift+Enter")
    brush(bob, 60, 45)
    for one in (tab, bob):
        one.wait_for("document.body.dataset.saved === 'offline'")
    process.start()
    for one in (tab, bob):
        version(one, 15)
        one.wait_for("document.body.dataset.saved === 'saved'")


def check_files(ann: Annotator, coco: Path, labelme: Path, png: Path, folder: Path) -> None:
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
    drawn = sorted(bool(masks[k][-1].all()) for k in (11, 12))  # whichever came first
    assert drawn == [False, True]  # the polygon is around the south pole
    with contextlib.redirect_stdout(None):
        read = COCO(coco)
    entries = read.loadAnns(read.getAnnIds())
    assert len(entries) == len(masks) == 11
    for entry, mask in zip(entries, masks.values(), strict=True):
        assert np.array_equal(read.annToMask(entry).astype(bool), mask)
    assert entries[0]["name"] == "the <b>door</b> 客"
    file = read_labelme(labelme)
    for shape, mask in zip(file.shapes, masks.values(), strict=True):
        assert np.array_equal(file.mask(shape), mask)
    if has("labelme"):  # LabelMe's own reader looks for the picture beside its file
        shutil.copy(folder / "a room.png", labelme.parent)
        read_by_it = [mask for _, mask in labelme_reads(labelme, WIDTH, HEIGHT)]
        assert np.array_equal(read_by_it, list(masks.values()))
    with Image.open(png) as image:
        assert image.mode == "P"
        ids = np.array(image)
    want = np.zeros((HEIGHT, WIDTH), np.uint8)  # one object per pixel, the smaller one on top
    numbered = list(enumerate(masks.values(), start=1))
    for number, mask in sorted(numbered, key=lambda one: -int(one[1].sum())):
        want[mask] = number
    assert np.array_equal(ids, want)
