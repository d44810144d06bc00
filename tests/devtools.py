"""Drive Debian's chromium, headless, as a user does: mouse, keys, files dropped on the page; for
tests marked `browser`.

`open_tab(url)` starts a browser of its own profile and gives a `Tab`: `evaluate(js)`,
`wait_for(js)`, `click(x, y)`, `drag(…)`, `mouse(…)`, `key(…)`, `drop_file(…)`, `screenshot()`. It
collects what a test wants to be empty: `console` (messages and uncaught errors) and `requests`
(every http(s) address asked for). It speaks the DevTools protocol over two pipes, so it needs no
websocket client. WebGL runs in software (SwiftShader); `webgl=False` gives a browser without.
"""

import base64
import contextlib
import fcntl
import json
import os
import select
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from browser import chromium

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--no-first-run",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-sync",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    "--disable-dev-shm-usage",
)
SOFTWARE_WEBGL = (
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
)
NO_WEBGL = ("--disable-gpu", "--disable-3d-apis")


class Tab:
    """One page. All waiting has an end: TimeoutError says what was waited for."""

    def __init__(self, write_fd: int, read_fd: int) -> None:
        self._write, self._read = write_fd, read_fd
        self._buffer, self._next, self._session = b"", 0, None
        self._answers: dict[int, dict[str, Any]] = {}
        self.console: list[str] = []
        self.requests: list[str] = []

    def attach(self, width: int, height: int, *, dark: bool) -> None:
        """Open an empty page of that size and start listening."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Network", "Log", "DOM"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}],
        )

    def call(self, method: str, timeout_s: float = 60, **params: Any) -> dict[str, Any]:
        """One command of the protocol and its result; RuntimeError if the browser refuses it."""
        self._next += 1
        message = {"id": self._next, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + timeout_s
        while self._next not in self._answers:
            self._listen(deadline, method)
        answer = self._answers.pop(self._next)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def _listen(self, deadline: float, waiting_for: str) -> None:
        """Take what the browser sends, or give up at the deadline."""
        if not select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimeoutError(f"chromium did not answer {waiting_for}")
        data = os.read(self._read, 1 << 20)
        if not data:
            raise RuntimeError("chromium has gone")
        *messages, self._buffer = (self._buffer + data).split(b"\0")
        for text in messages:
            message = json.loads(text)
            if "id" in message:
                self._answers[message["id"]] = message
            else:
                self._note(message["method"], message["params"])

    def _note(self, event: str, params: dict[str, Any]) -> None:
        if event == "Runtime.consoleAPICalled" and params["type"] in (
            "error",
            "warning",
            "log",
            "assert",
        ):
            self.console.append(
                " ".join(str(a.get("value", a.get("description"))) for a in params["args"])
            )
        elif event == "Runtime.exceptionThrown":
            self.console.append(
                str(
                    params["exceptionDetails"]
                    .get("exception", {})
                    .get("description", params["exceptionDetails"])
                )
            )
        elif event == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.console.append(params["entry"]["text"])
        elif event == "Network.requestWillBeSent" and params["request"]["url"].startswith("http"):
            self.requests.append(params["request"]["url"])

    def goto(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")

    def evaluate(self, expression: str, timeout_s: float = 60) -> Any:
        """The value of a JavaScript expression; promises are awaited."""
        result = self.call(
            "Runtime.evaluate",
            timeout_s,
            expression=expression,
            returnByValue=True,
            awaitPromise=True,
        )
        if "exceptionDetails" in result:
            raise RuntimeError(
                result["exceptionDetails"]["exception"].get("description", "error in the page")
            )
        return result["result"].get("value")

    def wait_for(self, expression: str, timeout_s: float = 60) -> Any:
        """Until the expression is true; its value."""
        deadline = time.monotonic() + timeout_s
        while not (value := self.evaluate(expression)):
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"after {timeout_s} s still not: {expression}; console: {self.console}"
                )
            time.sleep(0.05)
        return value

    def centre_of(self, selector: str) -> tuple[float, float]:
        """The middle of the first element found, scrolled into sight."""
        x, y = self.evaluate(f"""(() => {{ const e = document.querySelector({json.dumps(selector)});
            e.scrollIntoView({{block: "center", behavior: "instant"}}); const b = e.getBoundingClientRect();
            return [b.x + b.width / 2, b.y + b.height / 2]; }})()""")
        return x, y

    def mouse(self, kind: str, x: float, y: float, modifiers: int = 0, **more: Any) -> None:
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, modifiers=modifiers, **more)

    def click(self, x: float, y: float, modifiers: int = 0) -> None:
        """Press and release; modifiers: 1 Alt, 8 Shift."""
        self.mouse("mouseMoved", x, y, modifiers)
        for kind in ("mousePressed", "mouseReleased"):
            self.mouse(kind, x, y, modifiers, button="left", clickCount=1, buttons=1)

    def click_on(self, selector: str) -> None:
        self.click(*self.centre_of(selector))

    def drag(self, x0: float, y0: float, x1: float, y1: float, steps: int = 8) -> None:
        self.mouse("mouseMoved", x0, y0)
        self.mouse("mousePressed", x0, y0, button="left", clickCount=1, buttons=1)
        for k in range(1, steps + 1):
            self.mouse(
                "mouseMoved",
                x0 + (x1 - x0) * k / steps,
                y0 + (y1 - y0) * k / steps,
                button="left",
                buttons=1,
            )
            time.sleep(0.03)
        self.mouse("mouseReleased", x1, y1, button="left", clickCount=1)

    def key(self, name: str, code: int) -> None:
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code
            )

    def drop_file(self, selector: str, path: Path) -> None:
        """Drag a file from the desktop onto an element and let go."""
        x, y = self.centre_of(selector)
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def screenshot(self, path: Path | None = None) -> np.ndarray:
        """What is on the screen, uint8 H×W×3 in RGB order."""
        data = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        if path:
            path.write_bytes(data)
        return cv2.cvtColor(
            cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB
        )

    def shot_of(self, selector: str) -> np.ndarray:
        """The screenshot cropped to an element."""
        x, y, w, h = self.evaluate(
            f"""(() => {{ const b = document.querySelector({json.dumps(selector)}).getBoundingClientRect();
            return [b.x, b.y, b.width, b.height].map(Math.round); }})()"""
        )
        return self.screenshot()[max(0, y) : y + h, max(0, x) : x + w]


@contextlib.contextmanager
def open_tab(
    url: str | None = None,
    width: int = 1280,
    height: int = 900,
    *,
    webgl: bool = True,
    dark: bool = False,
) -> Iterator[Tab]:
    """A browser of its own with one tab, ended with its whole process group afterwards."""
    command = chromium()
    to_chrome, from_chrome = _pipe(), _pipe()
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        contextlib.ExitStack() as stack,
    ):
        quiet = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
        pid = os.posix_spawn(
            command,
            [
                command,
                *FLAGS,
                *(SOFTWARE_WEBGL if webgl else NO_WEBGL),
                f"--user-data-dir={profile}/p",
                f"--window-size={width},{height}",
            ],
            os.environ,
            file_actions=[
                *quiet,
                (os.POSIX_SPAWN_DUP2, to_chrome[0], 3),
                (os.POSIX_SPAWN_DUP2, from_chrome[1], 4),
            ],
            setpgroup=0,
        )
        stack.callback(_end, pid)
        for fd in (to_chrome[0], from_chrome[1]):
            os.close(fd)
        stack.callback(os.close, to_chrome[1])
        stack.callback(os.close, from_chrome[0])
        tab = Tab(to_chrome[1], from_chrome[0])
        tab.attach(width, height, dark=dark)
        if url:
            tab.goto(url)
        yield tab


def _pipe() -> tuple[int, int]:
    """A pipe whose ends are above the numbers that the browser wants them at."""
    low = os.pipe()
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 16) for fd in low]
    for fd in low:
        os.close(fd)
    return high[0], high[1]


def _end(pid: int) -> None:
    """The browser and its children, which are a process group of their own."""
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Mean absolute difference of two pictures, in grey levels."""
    return float(np.abs(a.astype(np.int16) - b.astype(np.int16)).mean())
