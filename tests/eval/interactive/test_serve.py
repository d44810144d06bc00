"""`pano serve`: what a session does, whom the server answers, and in a real browser the way from a
dropped file to a saved mask.
"""

import http.client
import json
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest
import synthetic
import torch
from browser import Tab, difference, open_tab

from panoforge.core.errors import DataError, UsageError
from panoforge.core.sample.products import encode_product
from panoforge.eval.config import EvalConfig
from panoforge.eval.interactive.segment_image import load_predictor, segment_image
from panoforge.eval.interactive.segmenter import SphereClick
from panoforge.eval.interactive.serve.page import render_page
from panoforge.eval.interactive.serve.server import PanoServer
from panoforge.eval.interactive.serve.session import Session
from panoforge.eval.predictors.load import load_model
from panoforge.eval.segmentation.prompts import click_instances
from panoforge.train.model.checkpoint_io import export_official

SCAN = ["scan.size_px=64", "device=cpu"]
MODEL = [
    "model.size=tiny",
    "model.image_size=64",
    "scan.overlap=0.0",
    "scan.fov_deg=120",
    "device=cpu",
]
CAP = 10**6


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    rgb, labels = synthetic.caps(np.random.default_rng(5), 256, 6)
    path = tmp_path_factory.mktemp("picture") / "my room.png"
    path.write_bytes(encode_product("rgb.png", rgb))
    return path, labels


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    config = EvalConfig.model_validate(
        {"model": {"size": "tiny", "image_size": 64}, "device": "cpu", "seed": 3}
    )
    return export_official(
        tmp_path_factory.mktemp("weights") / "tiny.pt",
        load_model(config).model.state_dict(),
        step=0,
    )


def truth_session(picture: tuple[Path, np.ndarray]) -> Session:
    return Session(load_predictor("truth", None, "scan", SCAN), picture[1])


def click_on(labels: np.ndarray, id_: int) -> SphereClick:
    click = click_instances(labels, [id_])[0].clicks[0]
    return SphereClick(click.lon_deg, click.lat_deg)


def test_a_session_clicks_undoes_and_saves(picture: tuple[Path, np.ndarray]) -> None:
    session, (path, labels) = truth_session(picture), picture
    assert session.state()["open"] is False
    opened = session.open(path.read_bytes(), "C:\\rooms\\my room.png", CAP)
    assert (
        opened["name"] == "my room.png" and opened["size"] == "256×128" and opened["frames"] == 24
    )
    assert opened["image"].startswith("data:image/jpeg")
    assert opened["objects"] == [{"colour": "#ff3d71", "clicks": 0, "area_sr": 0.0}]
    first = session.click(0, click_on(labels, 3))
    assert (
        first["objects"][0]["clicks"] == 1
        and first["objects"][0]["area_sr"] > 0.05
        and "image" not in first
    )
    session.new_object()
    assert (
        session.new_object()["objects"][1]["clicks"] == 0 and len(session.state()["objects"]) == 2
    )  # no second empty one
    both = session.click(1, click_on(labels, 4))
    name, kind, data = session.save("mask.png")
    assert (name, kind) == ("my room.mask.png", "image/png")
    grey = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).reshape(-1, 3)
    assert len(np.unique(grey, axis=0)) == 3  # nothing and two objects
    coco = json.loads(session.save("coco.json")[2])
    assert len(coco["annotations"]) == 2 and coco["images"][0]["file_name"] == "my room.png"
    assert session.undo() == {
        **first,
        "objects": [*first["objects"], opened["objects"][0] | {"colour": "#2a9dff"}],
        "layers": session.state()["layers"],
    }
    session.undo()
    assert (
        session.undo()["objects"] == opened["objects"] and session.undo()["can_undo"] is False
    )  # at the bottom it stays
    assert session.click(0, click_on(labels, 3)) == first
    session.new_object()
    assert session.click(1, click_on(labels, 4)) == both
    assert [o["clicks"] for o in session.delete(0)["objects"]] == [1]
    assert session.delete(0)["objects"][0]["clicks"] == 0


def test_a_mistake_leaves_the_session_as_it_was(picture: tuple[Path, np.ndarray]) -> None:
    session, (path, labels) = truth_session(picture), picture
    with pytest.raises(UsageError, match="no picture is open"):
        session.click(0, SphereClick(0, 0))
    session.open(path.read_bytes(), path.name, CAP)
    with pytest.raises(UsageError, match="nothing to save yet"):
        session.save("mask.png")
    before = session.click(0, click_on(labels, 3))
    nowhere = np.argwhere(labels == 0)[0]
    lost = SphereClick((nowhere[1] + 0.5) / 256 * 360 - 180, 90 - (nowhere[0] + 0.5) / 128 * 180)
    session.new_object()
    for wrong, words in [
        (lambda: session.click(1, lost), "hold nothing at"),
        (lambda: session.click(1, SphereClick(0, 0, False)), "click on the object first"),
        (lambda: session.click(7, lost), "no object 8"),
        (lambda: session.delete(-1), "no object 0"),
        (lambda: session.save("../x"), "cannot be saved"),
    ]:
        with pytest.raises(UsageError, match=words):
            wrong()
    with pytest.raises(DataError, match="none of JPEG, PNG"):
        session.open(b"hello", "x.png", CAP)
    with pytest.raises(DataError, match="over the cap"):
        session.open(path.read_bytes(), path.name, 1000)
    session.undo()
    assert session.state() == before


@pytest.fixture
def server(picture: tuple[Path, np.ndarray]) -> Iterator[PanoServer]:
    with PanoServer(truth_session(picture), "127.0.0.1", 0, CAP) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def ask(
    server: PanoServer, method: str, path: str, body: bytes | str | None = None, **headers: str
) -> tuple[int, dict, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, given)
    answer = connection.getresponse()
    return answer.status, dict(answer.getheaders()), answer.read()


OURS = {"X_Pano": "1"}


def test_only_its_own_page_is_answered(server: PanoServer) -> None:
    here = f"127.0.0.1:{server.server_port}"
    click = json.dumps({"object": 0, "lon_deg": 0, "lat_deg": 0, "positive": True})
    assert server.url == f"http://{here}/" and server.token == ""
    assert ask(server, "GET", "/")[0] == 200
    for headers in (
        {"Host": "evil.example"},
        {"Host": f"evil.example:{server.server_port}"},
        {"Host": "127.0.0.1"},
    ):
        status, _, body = ask(server, "GET", "/state", **headers)
        assert status == 403 and "does not answer to" in json.loads(body)["error"]  # DNS rebinding
    for origin in ("http://evil.example", "null", f"https://{here}", "http://127.0.0.1:1"):
        assert ask(server, "POST", "/click", click, Origin=origin, **OURS)[0] == 403
    assert (
        ask(server, "POST", "/click", click, Origin=f"http://{here}")[0] == 403
    )  # a form of another site could send this
    status, _, body = ask(server, "POST", "/click", click, Origin=f"http://{here}", **OURS)
    assert status == 400 and "no picture is open" in json.loads(body)["error"]
    status, headers, _ = ask(server, "OPTIONS", "/click", Origin="http://evil.example")
    assert status == 501 and "Access-Control-Allow-Origin" not in headers


def test_pages_may_do_nothing_but_their_work(server: PanoServer) -> None:
    _, headers, page = ask(server, "GET", "/")
    policy = headers["Content-Security-Policy"]
    nonce = policy.split("nonce-")[1].split("'")[0]
    assert (
        "default-src 'none'" in policy
        and "frame-ancestors 'none'" in policy
        and "script-src 'nonce-" in policy
    )
    assert "unsafe-inline'; img" in policy and policy.count("unsafe-inline") == 1  # styles only
    assert page.decode().count(f'<script nonce="{nonce}">') == page.decode().count("<script") == 2
    assert nonce not in ask(server, "GET", "/")[1]["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Cache-Control"] == "no-store"
    assert b"{{" not in render_page("n", "</script>", 1).split(b"libpannellum")[0]
    assert b'</script>"' not in render_page("n", "</script>", 1)


def test_bodies_are_capped_before_they_are_read(
    server: PanoServer, picture: tuple[Path, np.ndarray]
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    connection.putrequest("POST", "/image?name=big.png")
    for name, value in {"X-Pano": "1", "Content-Length": str(10**12)}.items():
        connection.putheader(name, value)
    connection.endheaders()  # not a byte of the body is sent
    answer = connection.getresponse()
    assert answer.status == 413 and "over the cap of 1 MB" in json.loads(answer.read())["error"]
    connection.putrequest("POST", "/image")
    for name, value in {"X-Pano": "1", "Transfer-Encoding": "chunked"}.items():
        connection.putheader(name, value)
    connection.endheaders()
    assert connection.getresponse().status == 411
    assert ask(server, "POST", "/click", b"x" * 20_000, **OURS)[0] == 413
    assert ask(server, "POST", "/image?name=x", picture[0].read_bytes(), **OURS)[0] == 200
    for body in (
        "{",
        "[]",
        "{}",
        "[" * 9000,
        '{"object": true, "lon_deg": 0, "lat_deg": 0, "positive": true}',
        '{"object": 0, "lon_deg": "0", "lat_deg": 0, "positive": true}',
    ):
        assert ask(server, "POST", "/click", body, **OURS)[0] == 400
    for body in (
        '{"object": 0, "lon_deg": NaN, "lat_deg": 0, "positive": true}',
        '{"object": 0, "lon_deg": 1e400, "lat_deg": 0, "positive": true}',
    ):
        status, _, data = ask(server, "POST", "/click", body, **OURS)
        assert status == 400 and "longitude of" in json.loads(data)["error"]
    for path in ("/../../etc/passwd", "/%2e%2e/x", "/pannellum.js"):
        assert ask(server, "GET", path)[0] == 404


HUGE = "9" * 4300  # as long as Python reads a number; one digit more and it may not be printed


@pytest.mark.parametrize(
    "request_",
    [
        "GET http://[ HTTP/1.1",
        "GET //[/state HTTP/1.1",
        "GET http://a\u2100.example/ HTTP/1.1",
        "POST http://[::1 HTTP/1.1",
        "GET / HTTP/9.9",
        "GET",
        "\x00\xff",
    ],
    ids=repr,
)
def test_an_address_that_is_none_is_refused_without_a_traceback(
    server: PanoServer, capfd: pytest.CaptureFixture[str], request_: str
) -> None:
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as connection:
        head = f"{request_}\r\nHost: 127.0.0.1:{server.server_port}\r\nX-Pano: 1\r\n"
        connection.sendall(f"{head}Content-Length: 0\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert any(code in answer for code in (b"400", b"403", b"404", b"505"))
    assert b"500" not in answer.partition(b"\r\n")[0]
    assert "Traceback" not in capfd.readouterr().err
    assert ask(server, "GET", "/state")[0] == 200  # it goes on


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/click", f'{{"object": 0, "lon_deg": 1{"0" * 400}, "lat_deg": 0, "positive": true}}'),
        ("/click", f'{{"object": 0, "lon_deg": 0, "lat_deg": -{HUGE}, "positive": true}}'),
        ("/click", f'{{"object": {HUGE}, "lon_deg": 0, "lat_deg": 0, "positive": true}}'),
        ("/delete", f'{{"object": {HUGE}}}'),
        ("/delete", f'{{"object": -{HUGE}}}'),
        ("/delete", '{"object": 1e400}'),
        ("/delete", '{"object": Infinity}'),
        ("/click", '{"object": 0, "lon_deg": 1e400, "lat_deg": -1e400, "positive": true}'),
        ("/undo", '{"\\ud800": 1}'),
        ("/undo", b"\xff\xfe"),
    ],
)
def test_numbers_beyond_all_measure_are_refused_without_a_traceback(
    server: PanoServer,
    picture: tuple[Path, np.ndarray],
    capfd: pytest.CaptureFixture[str],
    path: str,
    body: str | bytes,
) -> None:
    assert ask(server, "POST", "/image?name=x", picture[0].read_bytes(), **OURS)[0] == 200
    assert ask(server, "POST", path, body, **OURS)[0] == 400
    assert "Traceback" not in capfd.readouterr().err


def test_lengths_and_callers_that_go_away_leave_no_traceback(
    server: PanoServer, capfd: pytest.CaptureFixture[str]
) -> None:
    length = {"Content_Length": "9" * 5000}
    assert ask(server, "POST", "/click", None, **length, **OURS)[0] == 413
    for sent in (
        b"GET /state HTT",
        b"POST /click HTTP/1.1\r\nX-Pano: 1\r\nContent-Length: 50\r\n\r\n{",
    ):
        connection = socket.create_connection(("127.0.0.1", server.server_port), timeout=10)
        linger = struct.pack("ii", 1, 0)  # close with a reset
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        connection.sendall(sent)
        connection.close()
    assert ask(server, "GET", "/state")[0] == 200
    time.sleep(0.2)
    assert "Traceback" not in capfd.readouterr().err


def test_a_second_tab_takes_the_picture_over_and_the_first_is_told(
    server: PanoServer, picture: tuple[Path, np.ndarray]
) -> None:
    def load() -> dict[str, str]:
        page = ask(server, "GET", "/")[2].decode()
        return {"X_Pano_Tab": json.loads(page.split("const settings = ")[1].split(";<")[0])["tab"]}

    first = load()
    opened = ask(server, "POST", "/image?name=x", picture[0].read_bytes(), **OURS, **first)
    assert opened[0] == 200
    second = load()
    undo = ("POST", "/undo", "{}")
    status, _, body = ask(server, *undo, **OURS, **first)
    assert status == 409 and "open in another tab" in json.loads(body)["error"]
    status, _, body = ask(server, "GET", "/state", **second)  # what was there is there
    assert (
        status == 200
        and json.loads(body)["open"]
        and ask(server, *undo, **OURS, **second)[0] == 200
    )
    again = load()  # the first tab, loaded again
    assert ask(server, *undo, **OURS, **again)[0] == 200
    assert ask(server, *undo, **OURS, **second)[0] == 409


def test_one_computation_at_a_time(server: PanoServer, picture: tuple[Path, np.ndarray]) -> None:
    with server.computing:
        status, _, body = ask(server, "POST", "/image?name=x", picture[0].read_bytes(), **OURS)
    assert status == 409 and "still working" in json.loads(body)["error"]
    assert ask(server, "POST", "/image?name=x", picture[0].read_bytes(), **OURS)[0] == 200


def test_beyond_loopback_a_token_is_needed(picture: tuple[Path, np.ndarray]) -> None:
    with PanoServer(truth_session(picture), "0.0.0.0", 0, CAP) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert len(server.token) >= 32 and server.url.endswith(f"?token={server.token}")
        for path in ("/", "/state", "/?token=wrong", "/?token=%C3%A9"):
            assert ask(server, "GET", path)[0] == 403
        status, _, page = ask(server, "GET", f"/?token={server.token}")
        assert status == 200 and server.token.encode() in page
        assert ask(server, "POST", "/undo", "{}", **OURS)[0] == 403
        assert ask(server, "POST", "/undo", "{}", X_Pano_Token=server.token, **OURS)[0] == 200
        assert ask(server, "GET", f"/?token={server.token}", Host="evil.example")[0] == 403
        server.shutdown()


def test_a_port_in_use_is_said(server: PanoServer, picture: tuple[Path, np.ndarray]) -> None:
    with pytest.raises(UsageError, match=r"cannot listen on 127\.0\.0\.1:\d+"):
        PanoServer(truth_session(picture), "127.0.0.1", server.server_port, CAP)


def test_the_command_serves_until_it_is_stopped(
    picture: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    (tmp_path / "ids.png").write_bytes(encode_product("instance.png", picture[1]))
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "panoforge",
            "serve",
            "--image",
            picture[0],
            "--predictor",
            "truth",
            "--labels",
            tmp_path / "ids.png",
            "--port",
            "0",
            *SCAN,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # a job in the background of a shell ignores SIGINT
    try:
        url = urlsplit(process.stdout.readline().strip())
        assert url.hostname == "127.0.0.1" and not url.query
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=30)
        connection.request("GET", "/state")
        assert (
            json.loads(connection.getresponse().read())["name"] == "my room.png"
        )  # --image is open already
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=30)
        assert process.returncode == 130 and "Traceback" not in told
    finally:
        process.kill()
        process.wait()


def settled(tab: Tab, objects: list[int]) -> None:
    """Until the page shows so many clicks per object, drawn."""
    tab.wait_for(
        "document.body.dataset.busy === undefined &&"
        " JSON.stringify(JSON.parse(document.body.dataset.objects || '[]').map((o) => o.clicks))"
        f" === '{json.dumps(objects, separators=(',', ':'))}'"
    )
    time.sleep(1)


@pytest.mark.browser
def test_from_a_dropped_picture_to_a_saved_mask(
    picture: tuple[Path, np.ndarray], checkpoint: Path, tmp_path: Path
) -> None:
    """With a real (small, untrained) SAM2: what the browser saves is, to the byte, what `pano
    segment` writes for its clicks.
    """
    loaded = load_predictor("sam2", checkpoint, "scan", MODEL)
    with PanoServer(Session(loaded), "127.0.0.1", 0, CAP) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with open_tab(server.url) as tab:
            tab.wait_for("document.body.dataset.loaded !== undefined")
            tab.drop_file("#drop", picture[0])
            tab.wait_for("document.querySelector('#sphere').dataset.shown > 0")
            x, y = tab.centre_of("#sphere .ps-stage")
            plain = tab.shot_of("#sphere .ps-stage")
            tab.page.mouse.click(x - 120, y - 40)
            settled(tab, [1])
            masked = tab.shot_of("#sphere .ps-stage")
            assert difference(masked, plain) > 1  # the mask is on the sphere
            tab.page.keyboard.down("Shift")
            tab.page.mouse.click(x + 150, y + 100)  # beside the object
            tab.page.keyboard.up("Shift")
            settled(tab, [2])
            tab.page.click("#undo")
            settled(tab, [1])
            tab.drag(x, y, x - 300, y)  # a drag is no click
            time.sleep(1)
            tab.page.click("#new")
            settled(tab, [1, 0])
            tab.page.mouse.click(x, y)
            settled(tab, [1, 1])
            tab.page.click("#objects li:nth-child(2) .drop")
            settled(tab, [1])
            for name in ("mask.png", "coco.json"):
                with tab.page.expect_download() as download:
                    tab.page.click(f'[data-save="{name}"]')
                assert download.value.suggested_filename == f"my room.{name}"
                download.value.save_as(tmp_path / f"my room.{name}")
            tab.drop_file("#view", Path(__file__))  # not a picture: said, and nothing is lost
            tab.wait_for(
                "document.getElementById('error').textContent.includes('none of JPEG, PNG')"
            )
            assert tab.page.evaluate("JSON.parse(document.body.dataset.objects).length") == 1
            assert [line for line in tab.console if "400" not in line] == []
            assert all(
                request.startswith((server.url, f"blob:{server.url}")) for request in tab.requests
            )
        server.shutdown()
    coco = json.loads((tmp_path / "my room.coco.json").read_text())
    (clicked,) = coco["annotations"][0]["clicks"]
    assert (
        -60 < clicked["lon_deg"] < -2 and 0 < clicked["lat_deg"] < 30 and clicked["label"] == 1
    )  # left of and above the middle
    assert coco["annotations"][0]["area"] > 0
    again = load_predictor("sam2", checkpoint, "scan", MODEL)
    paths = segment_image(
        picture[0],
        [SphereClick(clicked["lon_deg"], clicked["lat_deg"])],
        lambda: again,
        tmp_path / "again",
    )
    for path in paths[::2]:
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name
