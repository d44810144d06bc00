"""Pages in Debian's chromium, headless, driven with playwright: for tests marked `browser`.

`open_tab(url)` gives a `Tab` in a profile of its own, of a browser that the tests of one file share
(`shared_browsers`, in tests/conftest.py). Its `page` is playwright's; beside it stand what a test
wants to be empty (`console`, `requests`) and what playwright lacks: screenshots as arrays, and
files dropped from the desktop. WebGL runs in software (SwiftShader).
"""

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Page,
    Playwright,
    Request,
    sync_playwright,
)

FLAGS = (
    "--no-sandbox",  # tests run as root in containers
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)
SOFTWARE_WEBGL = (
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
)
NO_WEBGL = ("--disable-gpu", "--disable-3d-apis")
TIMEOUT_MS = 60_000


@dataclass
class Tab:
    """One page, its console messages and uncaught errors, and every http(s) address asked for."""

    page: Page
    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def listen(self) -> None:
        """Note from now on what must not happen."""
        self.page.on("console", self._note_message)
        self.page.on("pageerror", lambda error: self.console.append(str(error)))
        self.page.on("request", self._note_request)

    def _note_message(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning", "log", "assert"):
            self.console.append(message.text)

    def _note_request(self, request: Request) -> None:
        if request.url.startswith("http"):
            self.requests.append(request.url)

    def wait_for(self, expression: str) -> None:
        """Until a JavaScript expression is true. playwright's own way is to eval it in the page,
        which the pages' Content-Security-Policy forbids.
        """
        deadline = time.monotonic() + TIMEOUT_MS / 1000
        while not self.page.evaluate(expression):
            assert time.monotonic() < deadline, f"still not {expression}; {self.console}"
            self.page.wait_for_timeout(50)

    def box(self, selector: str) -> tuple[float, float, float, float]:
        """x, y, width and height of the first element found, in CSS pixels of the window."""
        box = self.page.locator(selector).first.bounding_box()
        assert box is not None, f"{selector} is not to be seen"
        return box["x"], box["y"], box["width"], box["height"]

    def centre_of(self, selector: str) -> tuple[float, float]:
        """The middle of the first element found, scrolled into sight."""
        self.page.locator(selector).first.scroll_into_view_if_needed()
        x, y, width, height = self.box(selector)
        return x + width / 2, y + height / 2

    def drag(self, x0: float, y0: float, x1: float, y1: float, steps: int = 8) -> None:
        """Press, move in steps as a hand does, let go."""
        mouse = self.page.mouse
        mouse.move(x0, y0)
        mouse.down()
        for k in range(1, steps + 1):
            mouse.move(x0 + (x1 - x0) * k / steps, y0 + (y1 - y0) * k / steps)
            time.sleep(0.03)
        mouse.up()

    def drop_file(self, selector: str, path: Path) -> None:
        """Drag a file from the desktop onto an element and let go."""
        x, y = self.centre_of(selector)
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        devtools = self.page.context.new_cdp_session(self.page)
        for kind in ("dragEnter", "dragOver", "drop"):
            devtools.send("Input.dispatchDragEvent", {"type": kind, "x": x, "y": y, "data": data})

    def screenshot(self) -> np.ndarray:
        """What is on the screen, uint8 H×W×3 in RGB order."""
        shot = np.frombuffer(self.page.screenshot(), np.uint8)
        return cv2.cvtColor(cv2.imdecode(shot, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)

    def shot_of(self, selector: str) -> np.ndarray:
        """The screenshot cropped to an element."""
        x, y, width, height = map(round, self.box(selector))
        return self.screenshot()[max(0, y) : y + height, max(0, x) : x + width]

    def broken_images(self) -> int:
        """Pictures that have a source and nothing to show."""
        return self.page.evaluate(
            "[...document.images].filter((i) => i.getAttribute('src') && !i.naturalWidth).length"
        )

    def overflow_px(self) -> int:
        """By how much the page is wider than the window."""
        return self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )


def chromium() -> str:
    """The command, or a skip with the reason; in CI its absence is a failure."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if not found:
        reason = "needs chromium (apt-get install chromium)"
        if os.environ.get("CI"):
            pytest.fail(f"{reason}: CI must have it")
        pytest.skip(reason)
    return found


class Browsers:
    """Running browsers by whether they have WebGL, started when first asked for.

    `stack` ends them.
    """

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._playwright: Playwright | None = None
        self._running: dict[bool, Browser] = {}

    def get(self, webgl: bool) -> Browser:
        """The one with WebGL, or the one without; anew where a test ended it."""
        if self._playwright is None:
            self._playwright = self._stack.enter_context(sync_playwright())
        if webgl not in self._running or not self._running[webgl].is_connected():
            self._running[webgl] = self._playwright.chromium.launch(
                executable_path=chromium(),
                args=[*FLAGS, *(SOFTWARE_WEBGL if webgl else NO_WEBGL)],
            )
        return self._running[webgl]


_shared: list[Browsers] = []


@contextlib.contextmanager
def shared_browsers() -> Iterator[None]:
    """Within this, tabs share browsers: starting one costs more than most tests do with it."""
    with contextlib.ExitStack() as stack:
        stack.callback(_shared.clear)
        _shared.append(Browsers(stack))
        yield


@contextlib.contextmanager
def open_tab(
    url: str,
    width: int = 1280,
    height: int = 900,
    *,
    webgl: bool = True,
    dark: bool = False,
    touch: bool = False,
) -> Iterator[Tab]:
    """One page in a profile of its own, loaded; with `touch` on a screen for fingers."""
    chromium()
    with contextlib.ExitStack() as stack:
        if not _shared:
            stack.enter_context(shared_browsers())
        context = (
            _shared[0]
            .get(webgl)
            .new_context(
                viewport={"width": width, "height": height},
                color_scheme="dark" if dark else "light",
                has_touch=touch,
                is_mobile=touch,
            )
        )
        stack.callback(context.close)
        page = context.new_page()
        page.set_default_timeout(TIMEOUT_MS)
        tab = Tab(page)
        tab.listen()
        page.goto(url)
        yield tab


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Mean absolute difference of two pictures, in grey levels."""
    return float(np.abs(a.astype(np.int16) - b.astype(np.int16)).mean())
