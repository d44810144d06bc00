"""What the tools and the files of the annotation page do, by mouse in a real browser: each mask as
the server has it afterwards, each colour as it is on the screen.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import clips
import numpy as np
import pytest
from annotating import Annotator, serving
from browser import Tab, open_tab
from on_the_page import (
    at,
    at_frame,
    data,
    folder_of_pictures,
    loaded,
    look_at,
    open_picture,
    save,
    version,
)

from panoforge.core.export.palette import palette_png
from panoforge.core.foreign.labelme import read_labelme
from panoforge.eval.interactive.serve.opening import Asked
from panoforge.eval.interactive.serve.server import PanoServer

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]
WIDTH, HEIGHT, FRAMES = 256, 128, 6
GREEN, BLUE = (0, 255, 0), (0, 0, 255)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """Three pictures and a video, and the labels of the first picture."""
    folder = tmp_path_factory.mktemp("tools") / "place"
    first = folder_of_pictures(folder, WIDTH, attic=(5, 6), bath=(6, 6), cellar=(7, 6))
    clips.write_clip(folder / "walk.mp4", clips.moving_disc(FRAMES)[0])
    return folder, first


@pytest.fixture
def server(place: tuple[Path, np.ndarray], tmp_path: Path) -> Iterator[PanoServer]:
    with serving(Asked(place=place[0], work=tmp_path / "work")) as server:
        yield server


class Person:
    """Somebody at the page, and what the server has of one picture."""

    def __init__(self, tab: Tab, server: PanoServer, name: str) -> None:
        self.tab, self.page, self.name = tab, tab.page, name
        self.ann = Annotator(server.server_port)

    def objects(self, frame: int | None = None) -> dict[int, dict]:
        state = self.ann.look(self.ann.picture(self.name), frame)
        return {one["id"]: one for one in state["objects"]}

    def mask(self, id_: int, frame: int | None = None) -> np.ndarray:
        picture = self.ann.picture(self.name)
        return self.ann.mask(picture, self.objects(frame)[id_], WIDTH, HEIGHT)

    def choose(self, id_: int) -> None:
        self.page.click(f'[data-object="{id_}"]')

    def colour_at(self, lon: float, lat: float) -> np.ndarray:
        """What is seen at a place, RGB: the view looks there, and the pointer is elsewhere."""
        look_at(self.tab, lon, lat, 60)
        self.page.mouse.move(2, 2)
        self.tab.wait_for("document.body.dataset.settled === 'true'")
        self.page.wait_for_timeout(300)
        shot = self.tab.shot_of("#stage")
        return shot[shot.shape[0] // 2, shot.shape[1] // 2].astype(int)


def is_in(mask: np.ndarray, lon: float, lat: float) -> bool:
    return bool(mask[int((0.5 - lat / 180) * HEIGHT), int((lon / 360 + 0.5) * WIDTH)])


def near(seen: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool(np.abs(seen - colour).max() < 12)


def test_what_is_drawn_is_coloured_erased_cut_and_split(server: PanoServer) -> None:
    with open_tab(server.url) as tab, open_tab(server.url) as other:
        for one in (tab, other):
            loaded(one)
            one.page.fill("#opacity", "100")
        ann = Person(tab, server, "attic.png")
        bob = Person(other, server, "attic.png")
        # a disc of about 20°, in a colour of one's own: seen by both, kept over a reload
        tab.page.click('[data-tool="brush"]')
        tab.page.fill("#radius", "93")
        x, y = look_at(tab, 30, 10)
        tab.drag(x, y, x + 2, y, steps=2)
        version(tab, 1)
        ann.choose(1)
        tab.page.fill("#colour", "#00ff00")
        version(tab, 2)
        version(other, 2)
        bob.choose(1)
        assert ann.objects()[1]["colour"] == "#00ff00"
        assert near(ann.colour_at(30, 10), GREEN) and near(bob.colour_at(30, 10), GREEN)
        assert "rgb(0, 255, 0)" in tab.page.get_attribute('[data-object="1"] i', "style")
        # hidden for one is not hidden for the other
        other.page.click("#hide")
        assert "hidden" in other.page.inner_text("#objects")
        assert not near(bob.colour_at(30, 10), GREEN)
        other.page.reload()
        loaded(other)
        assert not near(bob.colour_at(30, 10), GREEN)
        assert "hidden" not in tab.page.inner_text("#objects")
        assert near(ann.colour_at(30, 10), GREEN)
        # the eraser takes its middle away, and nothing else
        whole = ann.mask(1)
        tab.page.click('[data-tool="eraser"]')
        tab.page.fill("#radius", "72")
        x, y = look_at(tab, 30, 10)
        tab.drag(x - 40, y, x + 40, y)
        version(tab, 3)
        left = ann.mask(1)
        assert is_in(whole, 30, 10) and not is_in(left, 30, 10) and is_in(left, 30, 22)
        assert not (left & ~whole).any() and 0.3 < left.sum() / whole.sum() < 0.95
        assert not near(ann.colour_at(30, 10), GREEN) and near(ann.colour_at(30, 22), GREEN)
        # a polygon that takes away, from above the erased place upwards: a band
        draw_polygon(ann, "erase", [(5, 16), (55, 16), (55, 24), (5, 24)])
        version(tab, 4)
        now = ann.mask(1)
        assert is_in(left, 30, 20) and not is_in(now, 30, 20) and is_in(now, 30, 27)
        assert not (now & ~left).any() and now.sum() < left.sum()
        # a polygon that cuts a part off: the two are what the one was
        draw_polygon(ann, "cut", [(5, -12), (55, -12), (55, 1), (5, 1)])
        version(tab, 5)
        part, rest = ann.mask(2), ann.mask(1)
        assert is_in(part, 30, -5) and not (part & rest).any()
        assert np.array_equal(part | rest, now)
        # made one again, and split into its connected parts
        ann.choose(1)
        tab.page.click('[data-object="2"]', modifiers=["Shift"])
        tab.page.click("#merge")
        version(tab, 6)
        assert np.array_equal(ann.mask(1), now) and len(ann.objects()) == 1
        tab.page.click("#split")
        version(tab, 7)
        parts = [ann.mask(id_) for id_ in ann.objects()]
        assert len(parts) == 2 and np.array_equal(parts[0] | parts[1], now)
        assert not (parts[0] & parts[1]).any() and min(part.sum() for part in parts) > 20
        assert [line for one in (tab, other) for line in one.console] == []


def draw_polygon(ann: Person, mode: str, corners: list[tuple[float, float]]) -> None:
    """Of the first object, closed by a click on the first corner."""
    ann.choose(1)
    ann.page.click('[data-tool="polygon"]')
    ann.page.select_option("#polygon-mode", mode)
    lon, lat = np.mean(corners, axis=0)
    look_at(ann.tab, lon, lat, 90)
    for corner in (*corners, corners[0]):
        ann.page.mouse.click(*at(ann.tab, *corner))


def test_masks_of_files_and_what_is_searched_for(
    server: PanoServer, place: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    """A PNG by its button, LabelMe's JSON dropped; pictures, objects and classes are found."""
    labels = place[1]
    ids = [int(k) for k in np.unique(labels) if k]
    png, labelme = tmp_path / "ids.png", tmp_path / "bath.json"
    png.write_bytes(palette_png(labels.astype(np.uint8)))
    labelme.write_text(json.dumps(labelme_file()))
    with open_tab(server.url) as tab:
        loaded(tab)
        ann = Person(tab, server, "attic.png")
        tab.page.set_input_files("#import", png)
        version(tab, 1)
        assert f"{len(ids)} masks of ids.png to be looked at" in tab.page.inner_text("#notice")
        for id_, one in zip(ids, ann.objects().values(), strict=True):
            assert one["review"] == "proposed" and one["name"] == f"id {id_}"
            assert np.array_equal(ann.mask(one["id"]), labels == id_)
        # a comment on a machine's label goes into the file
        ann.choose(2)
        tab.page.fill("#comment", "the edge is too wide, 客")
        tab.page.keyboard.press("Tab")
        version(tab, 2)
        tab.page.fill("#category", "lamp")
        tab.page.keyboard.press("Enter")
        version(tab, 3)
        coco = json.loads(save(tab, "coco.json", tmp_path).read_text())
        said = [(one["comment"], one["review"]) for one in coco["annotations"]]
        assert said[1] == ("the edge is too wide, 客", "proposed") and len(said) == len(ids)
        # objects are found by class, comment, name or number
        for words, found in (("lamp", [2]), ("TOO WIDE", [2]), ("id 3", [3]), ("nothing", [])):
            tab.page.fill("#object-search", words)
            rows = tab.page.locator("#objects [data-object]").all()
            assert [int(row.get_attribute("data-object")) for row in rows] == found
        tab.page.fill("#object-search", "")
        assert tab.page.locator("#objects [data-object]").count() == len(ids)
        # pictures by their names
        tab.page.fill("#picture-search", "LL")
        assert tab.page.locator("#picture-list b").all_inner_texts() == ["cellar.png"]
        tab.page.fill("#picture-search", "bath")
        open_picture(tab, "bath.png")
        tab.page.fill("#picture-search", "")
        assert tab.page.locator("#picture-list button").count() == 4
        # LabelMe's own shapes, dropped onto the sphere
        tab.drop_file("#stage", labelme)
        version(tab, 1)
        bath, file = Person(tab, server, "bath.png"), read_labelme(labelme)
        assert [one["category"] for one in bath.objects().values()] == ["window", "door"]
        for one, shape in zip(bath.objects().values(), file.shapes, strict=True):
            assert np.array_equal(bath.mask(one["id"]), file.mask(shape))
        assert 380 < bath.mask(1).sum() < 460 and 180 < bath.mask(2).sum() < 220
        # classes of all pictures are proposed where one types
        proposed = tab.page.locator("#classes option").evaluate_all(
            "all => all.map((o) => o.value)"
        )
        assert sorted(proposed) == ["door", "lamp", "window"]
        assert tab.console == []


def labelme_file() -> dict:
    """A polygon of 20×20 and a rectangle of 10×20 pixels, as LabelMe writes them."""
    box = [[40.0, 30.0], [60.0, 30.0], [60.0, 50.0], [40.0, 50.0]]
    shapes = [("window", box, "polygon"), ("door", [[100.0, 60.0], [110.0, 80.0]], "rectangle")]
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": [
            {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}}
            for label, points, kind in shapes
        ],
        "imagePath": "bath.png",
        "imageData": None,
        "imageHeight": HEIGHT,
        "imageWidth": WIDTH,
    }


def test_a_video_is_propagated_backward(server: PanoServer) -> None:
    """From the last frame to the first, over the seam: each mask is the disc of its frame."""
    _, truth = clips.moving_disc(FRAMES)
    with open_tab(server.url) as tab:
        loaded(tab)
        open_picture(tab, "walk.mp4")
        tab.page.locator("#frame").fill(str(FRAMES - 1))
        at_frame(tab, FRAMES - 1)
        tab.page.click('[data-tool="brush"]')
        tab.page.fill("#radius", "86")
        x, y = look_at(tab, 160 + 4 * (FRAMES - 1), 0)
        tab.drag(x, y, x + 2, y, steps=2)
        version(tab, 1)
        tab.page.click("#carry-back")
        tab.wait_for("document.getElementById('notice').textContent.includes('over 5 frames')")
        ann = Person(tab, server, "walk.mp4")
        assert ann.objects(0)[1]["spans"] == [[0, FRAMES - 1]]
        for frame in range(FRAMES):
            mask = ann.mask(1, frame)
            assert (mask & truth[frame]).sum() / (mask | truth[frame]).sum() > 0.7
        tab.page.locator("#frame").fill("0")
        at_frame(tab, 0)
        assert data(tab, "objects")[0]["pixels"] == ann.mask(1, 0).sum()
        assert tab.console == []
