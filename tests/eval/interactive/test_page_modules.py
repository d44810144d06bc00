"""The page's modules: what imports what; and keys that wait for their picture, in their order."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import synthetic
from annotating import Annotator, serving
from browser import open_tab
from test_page_hurry import LATE, Desk

from panoforge.core.sample.products import encode_product
from panoforge.eval.interactive.serve.opening import Asked
from panoforge.eval.interactive.serve.page import STATIC, render_page

IMPORT = re.compile(r'^import (?:\{[^}]*\} from )?"\./([a-z_]+\.js)";$', re.MULTILINE)
MAX_LINES = 250
MODULES = {name: text.decode() for name, (_, text) in STATIC.items() if name.endswith(".js")}


def imports(modules: Mapping[str, str]) -> dict[str, set[str]]:
    return {name: set(IMPORT.findall(text)) for name, text in modules.items()}


def circle(needs: dict[str, set[str]]) -> set[str]:
    """Modules that import themselves in the end, or one that does."""
    left = dict(needs)
    while free := {name for name, others in left.items() if not others & left.keys()}:
        left = {name: others for name, others in left.items() if name not in free}
    return set(left)


def test_modules_are_small_and_import_only_what_is_below_them() -> None:
    needs = imports(MODULES)
    for name, text in MODULES.items():
        assert text.startswith("// "), f"{name} does not say what it is for"
        assert text.count("\n") <= MAX_LINES, f"{name}: over {MAX_LINES} lines"
        assert len(re.findall(r"^import ", text, re.MULTILINE)) == len(IMPORT.findall(text)), name
    assert set().union(*needs.values()) == MODULES.keys() - {"app.js"}  # all there, none idle
    assert circle(needs) == set()
    needs["page.js"] = {"painting.js"}
    assert {"page.js", "painting.js"} <= circle(needs)


def test_all_modules_are_asked_for_with_the_page() -> None:
    page = render_page("n", "", 1, "p").decode()
    preloaded = re.findall(r'<link rel="modulepreload" nonce="n" href="static/\w+/([^"]+)">', page)
    assert sorted(preloaded) == sorted(MODULES)


@pytest.mark.browser
def test_keys_that_wait_are_done_in_their_order(tmp_path: Path) -> None:
    """Undo after a key that waits takes back that key's change, not what was done before it."""
    folder = tmp_path / "place"
    folder.mkdir()
    for seed, name in enumerate(("a.png", "b.png", "c.png")):
        rgb, _ = synthetic.caps(np.random.default_rng(seed), 128, 3)
        (folder / name).write_bytes(encode_product("rgb.png", rgb))
    with (
        serving(Asked(place=folder, work=tmp_path / "work")) as server,
        open_tab(server.url, 1040, 560) as tab,
    ):
        desk = Desk(tab, Annotator(server.server_port), tmp_path)
        tab.wait_for("document.body.dataset.loaded !== undefined")
        desk.shows("a.png")
        desk.ann.edit(desk.ann.picture("b.png"), "brush", points=[[0, 0]], radius_deg=5)
        tab.page.evaluate(LATE, ["api/look", 900, 0])
        for key in ("d", "j", "Delete", "Control+z"):  # done; then three that wait for the next
            desk.press(key)
        desk.shows("b.png")
        desk.saved(3)
        assert len(desk.objects("b.png")) == 1
        assert {one["name"]: one["status"] for one in desk.ann.pictures()}["a.png"] == "done"
        # where none waits, undo goes back at once, before the next picture is open
        for key in ("d", "Control+z"):
            desk.press(key)
        assert desk.page.get_attribute("body", "data-shows") == desk.ann.picture("b.png")
        desk.shows("b.png")
        desk.saved(5)
        statuses = {one["name"]: one["status"] for one in desk.ann.pictures()}
        assert statuses == {"a.png": "done", "b.png": "open", "c.png": "new"}
        assert tab.console == []
