"""Two tabs of one person: each has its own picture, and neither touches the other's work."""

from pathlib import Path

import pytest
from annotating import serving
from browser import Tab, open_tab
from on_the_page import data, folder_of_pictures, loaded, look_at, open_picture, version

from panoforge.eval.interactive.serve.opening import Asked

pytestmark = pytest.mark.browser
WIDTH = 256


def stroke(tab: Tab, lon_deg: float) -> None:
    """A new object, brushed at the equator."""
    tab.page.click('[data-tool="brush"]')
    tab.page.click("#new")
    x, y = look_at(tab, lon_deg, 0)
    tab.drag(x - 60, y, x + 60, y + 10)


def test_a_second_tab_leaves_the_first_ones_picture_and_objects_alone(tmp_path: Path) -> None:
    folder = tmp_path / "rooms"
    folder_of_pictures(folder, WIDTH, a=(5, 4), b=(7, 4))
    with serving(Asked(folder, tmp_path / "work")) as server, open_tab(server.url) as first:
        loaded(first)
        second = Tab(first.page.context.new_page())
        second.listen()
        second.page.goto(server.url)
        loaded(second)
        stroke(first, 0)
        version(first, 1)
        open_picture(second, "b.png")
        assert data(second, "objects") == []
        stroke(second, 90)
        version(second, 1)
        mine, theirs = data(first, "objects"), data(second, "objects")
        assert len(mine) == len(theirs) == 1
        stroke(first, 40)  # the first tab is on its picture still
        version(first, 2)
        assert len(data(first, "objects")) == 2 and data(second, "objects") == theirs
        second.page.keyboard.press("Control+z")  # of the second's own picture
        version(second, 2)
        assert data(second, "objects") == [] and len(data(first, "objects")) == 2
        open_picture(second, "a.png")  # and now both look at one
        assert [one["id"] for one in data(second, "objects")] == [1, 2]
        stroke(second, -90)
        version(second, 3)
        version(first, 3)
        assert data(first, "objects") == data(second, "objects")
        first.page.reload()
        loaded(first)
        assert len(data(first, "objects")) == 3
        assert first.console == second.console == []
