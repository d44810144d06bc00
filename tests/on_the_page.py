"""What a test does and sees on the annotation page, in a tab of a real browser."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import synthetic
from browser import Tab

from panoforge.core.sample.products import encode_product


def folder_of_pictures(folder: Path, width: int, **seeds: tuple[int, int]) -> np.ndarray:
    """Make `folder` of pictures NAME.png of (seed, things) each; the labels of the first."""
    folder.mkdir()
    labels = []
    for name, (seed, things) in seeds.items():
        rgb, own = synthetic.caps(np.random.default_rng(seed), width, things)
        (folder / f"{name}.png").write_bytes(encode_product("rgb.png", rgb))
        labels.append(own)
    return labels[0]


def data(tab: Tab, name: str) -> Any:
    """What the page says of itself."""
    return json.loads(tab.page.evaluate(f"document.body.dataset.{name}") or "null")


def version(tab: Tab, least: int) -> None:
    """Until the page shows a version that all is saved in."""
    tab.wait_for(
        f"Number(document.body.dataset.version) >= {least} && document.body.dataset.saved !=="
        " 'saving' && document.body.dataset.busy === undefined"
    )


def loaded(tab: Tab) -> None:
    """Until the page is there, and its first picture as sharp as it gets."""
    tab.wait_for("document.body.dataset.loaded !== undefined")
    tab.wait_for("document.body.dataset.settled === 'true'")


def shows(tab: Tab, name: str) -> None:
    """Until a picture is open."""
    tab.wait_for(
        f"document.getElementById('what').textContent.startsWith({name!r}) &&"
        " !('opening' in document.body.dataset || 'busy' in document.body.dataset)"
    )


def open_picture(tab: Tab, name: str) -> None:
    """By its row in the list."""
    tab.page.click(f'#picture-list button[title="{name}"]')
    shows(tab, name)


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


def at_frame(tab: Tab, frame: int) -> None:
    """Until a frame of a video is seen."""
    tab.wait_for(f"document.body.dataset.frame === '{frame}'")
    tab.wait_for("document.body.dataset.settled === 'true'")


def save(tab: Tab, kind: str, folder: Path) -> Path:
    """Save a file by its button; where it lies."""
    with tab.page.expect_download() as download:
        tab.page.click(f'[data-save="{kind}"]')
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def error(tab: Tab) -> str:
    """What is said to have gone wrong; waits for it, and closes it."""
    tab.wait_for("!document.getElementById('error').hidden")
    words = tab.page.locator("#error span").inner_text()
    tab.page.click("#error-close")
    return words
