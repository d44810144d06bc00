"""Open a page in Debian's chromium, headless, and tell what happened: for tests with the marker
`browser`.

`open_page` appends a probe to a copy of the page, which counts pictures that did not load and looks
for sideways overflow; console messages come from chromium's log, requests from its network log.
Needs nothing but the `chromium` command.
"""

import html
import json
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--disable-extensions",
    "--hide-scrollbars",
    "--virtual-time-budget=5000",
    "--enable-logging=stderr",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
PROBE = """<script>
addEventListener("load", () => {
  const images = [...document.images].filter((image) => image.getAttribute("src"));
  const probe = { images: images.length, broken: images.filter((image) => !image.naturalWidth).length,
                  overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
                  charts: document.querySelectorAll("svg").length, height: document.documentElement.scrollHeight };
  document.body.dataset.probe = JSON.stringify(probe);
});
</script>"""


@dataclass(frozen=True)
class Page:
    """What chromium made of a page. `console` holds its messages, `requests` the http(s) addresses
    it asked for.
    """

    dom: str
    console: list[str]
    requests: list[str]
    images: int
    broken_images: int
    overflow_px: int
    charts: int
    height_px: int


def chromium() -> str:
    """The command, or a skip with the reason; in CI its absence is a failure."""
    found = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    if not found:
        reason = "needs chromium (apt-get install chromium)"
        if os.environ.get("CI"):
            pytest.fail(f"{reason}: CI must have it")
        pytest.skip(reason)
    return found


def _page_requests(net_log: dict) -> list[str]:
    """http(s) addresses that the page asked for; chromium's own errands have no origin as their
    initiator.
    """
    asked = {
        event["params"]["url"]
        for event in net_log["events"]
        if event.get("params", {}).get("url", "").startswith("http")
        and event["params"].get("initiator", "not an origin") != "not an origin"
    }
    return sorted(asked)


def open_page(path: Path, width: int = 1280, height: int = 900) -> Page:
    """Open the HTML file at `path` in a window of `width`×`height`."""
    command = chromium()
    with tempfile.TemporaryDirectory() as folder:
        copy, net_log = Path(folder) / "page.html", Path(folder) / "net.json"
        copy.write_text(path.read_text().replace("</body>", PROBE + "</body>"))
        done = subprocess.run(
            [
                command,
                *FLAGS,
                f"--user-data-dir={folder}/profile",
                f"--window-size={width},{height}",
                f"--log-net-log={net_log}",
                "--dump-dom",
                copy.as_uri(),
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        requests = _page_requests(json.loads(net_log.read_text()))
    probe = json.loads(html.unescape(re.search(r'data-probe="([^"]+)"', done.stdout)[1]))
    return Page(
        done.stdout,
        re.findall(r"CONSOLE.*", done.stderr),
        requests,
        probe["images"],
        probe["broken"],
        probe["overflow"],
        probe["charts"],
        probe["height"],
    )
