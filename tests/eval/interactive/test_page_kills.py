"""Server and browser killed (−9) at random moments of scripted work in a real browser: what the
page had called saved is there afterwards, to the pixel.

The masks that the page had when it said so are told by a hash of their pixels. The journal,
replayed to that version, must hold the same; and the server whatever its whole journal holds.

A hundred kills take an hour of a shared machine. With PANO_KILLS=FOLDER they are noted there, and a
run that was ended goes on where it was, on the same work.
"""

import contextlib
import json
import os
import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import clips
import numpy as np
import psutil
import pytest
import synthetic
from annotating import Annotator, Process
from browser import FLAGS, SOFTWARE_WEBGL, chromium
from journals import WORDS, objects_of, pixels_hash, replayed, runs_hash
from playwright.sync_api import Error, Page, Playwright, sync_playwright

from panoforge.core.sample.products import encode_product

pytestmark = [pytest.mark.real, pytest.mark.browser]
WIDTH, HEIGHT = 256, 128
Saved = dict[str, tuple[int, int | None, list[dict[str, Any]]]]  # version, frame, objects
STATE = """(() => {
  const { dataset } = document.body;
  const digests = JSON.parse(dataset.objects ?? "[]").map((one) => one.mask).filter(Boolean);
  return { ...dataset, masks: Object.fromEntries(digests.map((one) => [one, panoView.runs(one)])) };
})()"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return make_place(tmp_path / "place")


def make_place(folder: Path) -> Path:
    """Two pictures and a video."""
    folder.mkdir()
    for seed, name in enumerate(("a.png", "b.png")):
        rgb, _ = synthetic.caps(np.random.default_rng(seed), WIDTH, 4)
        (folder / name).write_bytes(encode_product("rgb.png", rgb))
    clips.write_clip(folder / "walk.mp4", clips.moving_disc(6)[0])
    return folder


class Browser:
    """A browser that can be killed, with one page."""

    def __init__(self, playwright: Playwright, url: str) -> None:
        before = {child.pid for child in psutil.Process().children(recursive=True)}
        options = {"executable_path": chromium(), "args": [*FLAGS, *SOFTWARE_WEBGL]}
        self.browser = playwright.chromium.launch(**options)
        children = psutil.Process().children(recursive=True)
        self.children = [child for child in children if child.pid not in before]
        self.page: Page = self.browser.new_page(viewport={"width": 1040, "height": 620})
        self.page.set_default_timeout(60_000)
        self.page.goto(url)

    def kill(self) -> None:
        """kill −9: the browser and all that it has started."""
        for child in self.children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.send_signal(signal.SIGKILL)

    def state(self) -> dict[str, Any]:
        """What the page says of itself, with its masks as runs by their digests."""
        return self.page.evaluate(STATE)

    def wait(self, true: str) -> None:
        while not self.page.evaluate(true):
            self.page.wait_for_timeout(20)


def work(tab: Browser, rng: random.Random, saved: Saved) -> Iterator[None]:
    """Stroke after stroke, names, undo, pictures and frames; notes what the page calls saved."""
    tab.wait("document.body.dataset.loaded !== undefined")
    page = tab.page
    while True:
        act = rng.choice(("stroke", "stroke", "stroke", "name", "undo", "picture", "frame"))
        box = page.locator("#stage").bounding_box()
        if box is None:
            raise Error("the browser is gone")
        x, y = box["x"] + box["width"] * rng.random(), box["y"] + box["height"] * rng.random()
        if act == "stroke":
            page.keyboard.press("Escape")
            page.keyboard.press("b")
            if rng.random() < 0.6:
                page.click("#new")
                page.keyboard.press("b")
            page.evaluate(f"panoView.lookAt({rng.uniform(-180, 180)}, {rng.uniform(-90, 90)})")
            page.mouse.move(x, y)
            page.mouse.down()
            page.mouse.move(x + 40, y + 20)
            page.mouse.up()
        elif act == "name" and page.locator("#name").is_visible():
            page.fill("#name", f"name {rng.random()}")
            page.keyboard.press("Tab")
        elif act == "undo":
            page.locator("#stage").focus()
            page.keyboard.press("Control+z")
        elif act == "picture":
            page.locator("#stage").focus()
            page.keyboard.press("PageDown")
        elif act == "frame":
            page.locator("#stage").focus()
            page.keyboard.press(".")
        if rng.random() < 0.5:
            tab.wait("document.body.dataset.saved !== 'saving'")
        yield
        state = tab.state()
        there = all(state["masks"].values())  # a page that opens another picture has let them go
        if there and state.get("saved") == "saved" and int(state.get("version", 0)):
            frame = int(state["frame"]) if state["frame"] else None
            saved[state["shows"]] = int(state["version"]), frame, told(state)


def told(state: dict[str, Any]) -> list[dict[str, Any]]:
    """What the page shows of each object, and a hash of its mask's pixels."""
    found = []
    for one in json.loads(state["objects"]):
        mask = runs_hash(state["masks"][one["mask"]]) if one["mask"] else None
        found.append({**{word: one[word] for word in WORDS}, "mask": mask})
    return found


def kill_and_look(place: Path, kept: Path, times: int, seed: int, note: Path) -> None:
    """Kill server, browser or both at random moments, then compare; goes on from `note`."""
    killed, saved = json.loads(note.read_text()) if note.exists() else (0, Saved())
    process = Process(place, "--work", str(kept))
    with sync_playwright() as playwright:
        try:
            tab = Browser(playwright, process.url)
            compare(process.port, kept, saved)
            while killed < times:
                rng = random.Random(seed * 1000 + killed)
                which = ("both", "server", "browser")[killed % 3]
                script = work(tab, rng, saved)
                before = dict(saved)
                while saved == before:
                    next(script)  # until something new is saved

                def kill(which: str = which, tab: Browser = tab) -> None:
                    if which != "browser":
                        process.process.kill()
                    if which != "server":
                        tab.kill()

                timer = threading.Timer(rng.uniform(0, 1.5), kill)
                timer.start()
                with contextlib.suppress(Error):
                    while timer.is_alive():
                        next(script)
                timer.join()
                killed += 1
                if which != "browser":
                    process.kill()
                    process.start()
                if which != "server":
                    with contextlib.suppress(Error):
                        tab.browser.close()
                    tab = Browser(playwright, process.url)
                else:  # the page goes on by itself
                    tab.wait("!['offline', 'saving'].includes(document.body.dataset.saved)")
                compare(process.port, kept, saved)
                note.write_text(json.dumps([killed, saved]))
                print(killed, which, {name: one[0] for name, one in saved.items()}, flush=True)
            assert len(saved) > 1 or times < 10
        finally:
            process.kill()
            with contextlib.suppress(Error, UnboundLocalError):
                tab.browser.close()


def compare(port: int, kept: Path, saved: Saved) -> None:
    """All that was called saved is on the disk as it was then, and the server has what is there."""
    ann = Annotator(port)
    for picture, (version, frame, objects) in saved.items():
        journal = kept / "pictures" / picture / "journal.jsonl"
        assert objects_of(replayed(journal, version), frame) == objects
        state = ann.look(picture, frame)
        assert state["version"] >= version
        now = objects_of(replayed(journal, state["version"]), frame)
        for one, there in zip(state["objects"], now, strict=True):
            mask = None
            if one["mask"]:
                mask = pixels_hash(ann.mask(picture, one, state["width"], state["height"]))
            assert {**{word: one[word] for word in WORDS}, "mask": mask} == there


@pytest.mark.timeout(900)
def test_server_and_browser_are_killed_and_what_was_saved_is_there(
    place: Path, tmp_path: Path
) -> None:
    kill_and_look(place, tmp_path / "work", 2, 5, tmp_path / "note.json")


@pytest.mark.slow
@pytest.mark.timeout(14400)
def test_a_hundred_kills_in_a_scripted_hour(tmp_path: Path) -> None:
    folder = Path(os.environ.get("PANO_KILLS", tmp_path))
    place = folder / "place"
    if not place.exists():
        make_place(place)
    kill_and_look(place, folder / "work", 100, 1, folder / "note.json")
