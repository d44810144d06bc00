"""The annotation page in a real browser: click to mask, frames, opening, memory, many at once, and
frames a second of a propagation without weights.

No race: there is no peer that annotates on the sphere. A server runs as a process of its own, a
browser (Debian's chromium, WebGL in software) works on it. Clicks go to SAM2.1-tiny at 1024² with
random weights, which cost what trained ones do: on one view near the clicks, or by `--method`.
Wall seconds, because that is what a person waits. CPU seconds are beside them, of the server and of
all processes of the browser, as the machine may be shared (`load` says how much was asked of it).
Each part is printed as it ends.
"""

import argparse
import contextlib
import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import psutil

from bench.common import arguments, machine, median

FLAGS = ("--no-sandbox", "--disable-dev-shm-usage", "--use-gl=angle", "--use-angle=swiftshader")
SOFTWARE = ("--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")
TARGETS = {
    "click_p50_s": 1.5,
    "click_cpu_s": 1.5,
    "frames_per_s": 30,
    "frame_cpu_ms": 2 * 1000 / 30,  # of two cores
    "open_s": 3.0,
    "open_cpu_s": 3.0,
}


def pictures(folder: Path, count: int, width: int) -> None:
    """Panoramas with soft shapes and noise, as JPEG."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (32, 64, 3), np.uint8)
    base = cv2.resize(coarse, (width, width // 2), interpolation=cv2.INTER_CUBIC)
    noise = rng.integers(0, 24, base.shape, np.uint8)
    folder.mkdir(parents=True)
    for k in range(count):
        rgb = cv2.add(np.roll(base, k * width // count, axis=1), noise)
        cv2.imwrite(str(folder / f"p{k:02d}.jpg"), rgb, [cv2.IMWRITE_JPEG_QUALITY, 92])


def random_checkpoint(path: Path) -> Path:
    """SAM2.1-tiny at 1024², never trained."""
    from panoforge.eval.config import EvalConfig
    from panoforge.eval.predictors.load import load_model
    from panoforge.train.model.checkpoint_export import export_official

    model = {"size": "tiny"}
    config = EvalConfig.model_validate({"model": model, "device": "cpu", "seed": 3})
    return export_official(path, load_model(config).model.state_dict(), step=0)


class Server:
    """`pano serve` as a process; seconds until it listens are `start_s`."""

    def __init__(self, place: Path, work: Path, *options: str) -> None:
        begin = time.monotonic()
        words = [str(place), "--work", str(work), "--port", "0", *options]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "panoforge", "serve", *words],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        self.url = self.process.stdout.readline().strip()
        self.start_s = time.monotonic() - begin
        self.port = int(self.url.rstrip("/").rpartition(":")[2])
        self.usage = psutil.Process(self.process.pid)

    def cpu_s(self) -> float:
        """CPU seconds so far."""
        times = self.usage.cpu_times()
        return times.user + times.system

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait()


@contextlib.contextmanager
def served(place: Path, work: Path, *options: str) -> Iterator[Server]:
    """A server that is ended."""
    server = Server(place, work, *options)
    try:
        yield server
    finally:
        server.stop()


def post(port: int, path: str, said: dict) -> dict:
    """A message to the server."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    connection.request("POST", path, json.dumps(said), {"X-Pano": "1"})
    answer = connection.getresponse()
    data = answer.read()
    assert answer.status == 200, data
    return json.loads(data)


def client(port: int, picture: str, times: list[float], rounds: int) -> None:
    """One of many: opens a picture of their own and paints on it."""
    who = f"client-{picture[:20]}"
    said = {"author": who.ljust(8, "x")[:60], "who": who}
    session = post(port, "/api/join", said)["session"]
    begin = time.monotonic()
    version = post(port, "/api/look", {"picture": picture, "session": session})["version"]
    times.append(time.monotonic() - begin)
    for k in range(rounds):
        edit = {"kind": "brush", "points": [[k * 7 - 90, 0], [k * 7 - 80, 20]], "radius_deg": 4}
        message = {"picture": picture, "session": session, "version": version, "edit": edit}
        begin = time.monotonic()
        answer = post(port, "/api/edit", {**message, "request": f"{who}-{k}"[-60:].rjust(8, "x")})
        version = answer["version"]
        times.append(time.monotonic() - begin)


def many(server: Server, count: int, rounds: int) -> dict[str, float]:
    """`count` people at once, each on a picture of their own."""
    session = post(server.port, "/api/join", {"author": "abcdefgh", "who": "x"})["session"]
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("GET", f"/api/pictures?session={session}")
    ids = [one["id"] for one in json.loads(connection.getresponse().read())["pictures"]]
    before, cpu_s = server.usage.memory_info().rss, server.cpu_s()
    times: list[list[float]] = [[] for _ in range(count)]
    threads = [
        threading.Thread(target=client, args=(server.port, ids[k % len(ids)], times[k], rounds))
        for k in range(count)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after = server.usage.memory_info().rss
    edits = [seconds for own in times for seconds in own[1:]]
    return {
        "clients": count,
        "clients_open_p50_s": round(median([own[0] for own in times]), 2),
        "clients_open_max_s": round(max(own[0] for own in times), 2),
        "clients_stroke_p50_s": round(median(edits), 2),
        "clients_stroke_p95_s": round(float(np.percentile(edits, 95)), 2),
        "clients_cpu_s_each": round((server.cpu_s() - cpu_s) / count, 2),
        "memory_per_client_mb": round((after - before) / count / 1e6, 1),
        "memory_in_all_mb": round(after / 1e6),
    }


def film(path: Path, width: int, frames: int) -> None:
    """A video in which a disc rolls over the seam."""
    import av

    lon = np.linspace(-np.pi, np.pi, width, endpoint=False)[None]
    lat = np.linspace(np.pi / 2, -np.pi / 2, width // 2)[:, None]
    ground = np.random.default_rng(1).integers(20, 90, (16, 32, 3), np.uint8)
    ground = cv2.resize(ground, (width, width // 2), interpolation=cv2.INTER_CUBIC)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = width, width // 2, "yuv420p"
        for k in range(frames):
            picture = ground.copy()
            middle = np.radians(150 + 3 * k)
            picture[np.cos(lat) * np.cos(lon - middle) > np.cos(0.2)] = (250, 180, 40)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def carry(server: Server, frames: int) -> dict[str, float]:
    """One object carried through a video."""
    said = {"author": "abcdefgh", "who": "x"}
    session = post(server.port, "/api/join", said)["session"]
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("GET", f"/api/pictures?session={session}")
    video = json.loads(connection.getresponse().read())["pictures"][0]["id"]
    begin = time.monotonic()
    post(server.port, "/api/look", {"picture": video, "session": session})
    opened = time.monotonic() - begin
    where: dict[str, object] = {
        "picture": video,
        "session": session,
        "request": "drawn-first",
        "frame": 0,
    }
    edit = {"kind": "brush", "points": [[150, 0]], "radius_deg": 11.0}
    version = post(
        server.port, "/api/edit", {**where, "request": "drawn-first", "version": 0, "edit": edit}
    )["version"]
    begin, cpu = time.monotonic(), server.cpu_s()
    asked = {**where, "version": version, "request": "carried-on", "objects": [1]}
    done = post(server.port, "/api/propagate", asked)
    assert done["frames_done"] == frames - 1 and not done["lost"], done["lost"]
    return {
        "video_open_s": round(opened, 2),
        "carry_frames_per_s": round((frames - 1) / (time.monotonic() - begin), 2),
        "carry_cpu_s_a_frame": round((server.cpu_s() - cpu) / (frames - 1), 3),
        "video_server_mb": round(server.usage.memory_info().rss / 1e6),
    }


def browser_cpu_s() -> float:
    """CPU seconds of the browser that runs under this process."""
    total = 0.0
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "chrom" in child.name():
                times = child.cpu_times()
                total += times.user + times.system
    return total


def browse(server: Server, clicks: int, drag_s: float) -> dict[str, float]:
    """Opening, dragging and clicking in a browser."""
    from playwright.sync_api import sync_playwright

    command = shutil.which("chromium") or shutil.which("google-chrome")
    assert command, "needs chromium (apt-get install chromium)"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=command, args=[*FLAGS, *SOFTWARE])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(600_000)

        def wait(words: str) -> None:
            while not page.evaluate(words):
                page.wait_for_timeout(20)

        page.wait_for_timeout(1000)  # the browser's own start is no part of opening a picture
        begin, server_s, browser_s = time.monotonic(), server.cpu_s(), browser_cpu_s()
        page.goto(server.url)
        wait("document.body.dataset.opened && Number(document.body.dataset.frames) > 1")
        wait("document.body.dataset.settled === 'true'")
        found = {"open_s": round(time.monotonic() - begin, 2)}
        server_s, browser_s = server.cpu_s() - server_s, browser_cpu_s() - browser_s
        found["open_cpu_s"] = round(server_s + browser_s, 2)
        found["open_server_cpu_s"] = round(server_s, 2)
        box = page.locator("#stage").bounding_box()
        assert box
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        for which in ("loading", "again"):  # the second time the tiles are there
            page.evaluate("panoView.lookAt(0, 0, 100)")
            wait("document.body.dataset.settled === 'true'")
            page.mouse.move(x, y)
            page.mouse.down()
            frames = page.evaluate("Number(document.body.dataset.frames)")
            begin, spent_s = time.monotonic(), browser_cpu_s()
            while (took := time.monotonic() - begin) < drag_s:
                page.mouse.move(x - 300 * took / drag_s, y + 40 * np.sin(4 * took))
            drawn = page.evaluate("Number(document.body.dataset.frames)") - frames
            spent_s = browser_cpu_s() - spent_s
            page.mouse.up()
            name = "frames_per_s" if which == "again" else "frames_per_s_loading"
            found[name] = round(drawn / took, 1)
            found[name.replace("frames_per_s", "frame_cpu_ms")] = round(1000 * spent_s / drawn)
            wait("document.body.dataset.settled === 'true'")
        page.evaluate("panoView.lookAt(0, 0, 100)")
        page.keyboard.press("c")
        seconds, spent, drawing = [], [], []
        for k in range(clicks + 1):
            page.click("#new")
            version = page.evaluate("Number(document.body.dataset.version)")
            begin, cpu, browser_s = time.monotonic(), server.cpu_s(), browser_cpu_s()
            page.mouse.click(x - 200 + 20 * k, y + 10 * (k % 5))
            wait(f"Number(document.body.dataset.version) > {version}")
            seconds.append(time.monotonic() - begin)
            spent.append(server.cpu_s() - cpu)
            drawing.append(browser_cpu_s() - browser_s)
        browser.close()
    found["clicks"] = clicks
    found["first_click_s"] = round(seconds[0], 1)  # it waits for what is being encoded
    found["first_click_cpu_s"] = round(spent[0], 1)
    found["click_p50_s"] = round(median(seconds[1:]), 2)
    found["click_p95_s"] = round(float(np.percentile(seconds[1:], 95)), 2)
    found["click_cpu_s"] = round(median(spent[1:]), 2)
    found["click_browser_cpu_s"] = round(median(drawing[1:]), 2)
    found["click_cpu_p95_s"] = round(float(np.percentile(spent[1:], 95)), 2)
    found["server_mb"] = round(server.usage.memory_info().rss / 1e6)
    return found


def say(found: dict) -> dict:
    """Print what was found, with the load that it was found at."""
    load = {"load": round(os.getloadavg()[0], 1)}
    for name, value in (found | load).items():
        target = TARGETS.get(name)
        print(f"page: {name} {value}" + (f" (target {target:g})" if target else ""), flush=True)
    return found


def measure(args: argparse.Namespace) -> dict[str, object]:
    """All figures."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        only = args.only or ("browse", "many", "carry")
        width = 2048 if args.quick else 8192
        pictures(root / "one", 1, width)
        found: dict[str, object] = {"width": width}
        if "browse" in only:
            model = ["--model", "tiny", "--method", args.method, "device=cpu"]
            weights = random_checkpoint(root / "tiny.pt")
            with served(root / "one", root / "w1", "--checkpoint", str(weights), *model) as server:
                found["start_sam2_s"] = round(server.start_s, 1)
                clicks, drag_s = (3, 2.0) if args.quick else (args.clicks, 6.0)
                found |= say(browse(server, clicks, drag_s))
        if "many" in only:
            people = 4 if args.quick else 20
            pictures(root / "many", people, width)
            with served(root / "many", root / "w2") as server:
                found["start_edges_s"] = round(server.start_s, 1)
                found |= say(many(server, people, 3 if args.quick else 10))
        if "carry" in only:
            frames = 8 if args.quick else 30
            film(root / "film.mp4", 1024 if args.quick else 3840, frames)
            with served(root / "film.mp4", root / "w3") as server:
                found |= say(carry(server, frames))
    return found


def main() -> None:
    """Print the figures, and as JSON."""
    parser = arguments(__doc__)
    parser.add_argument("--method", default="near", help="of pano serve")
    parser.add_argument("--clicks", type=int, default=20, help="after the first")
    parser.add_argument("--only", nargs="*", choices=("browse", "many", "carry"), help="parts")
    args = parser.parse_args()
    found = measure(args)
    print(json.dumps({"bench": "page", **found, "machine": machine()}))


if __name__ == "__main__":
    main()
