"""`pano serve`: whom the server answers, how much it takes, and that it ends when it is told to."""

import http.client
import json
import signal
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import synthetic
from annotating import Annotator, Process, serving

from panoforge.core.errors import UsageError
from panoforge.core.sample.products import encode_product
from panoforge.core.storage.lease import InUse
from panoforge.eval.interactive.serve.opening import Asked, opened
from panoforge.eval.interactive.serve.page import PROGRAM, STATIC, render_page
from panoforge.eval.interactive.serve.server import PanoServer

SCAN = ["scan.size_px=64", "device=cpu"]
CAP = 10**6


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    rgb, labels = synthetic.caps(np.random.default_rng(5), 256, 6)
    path = tmp_path_factory.mktemp("picture") / "my room.png"
    path.write_bytes(encode_product("rgb.png", rgb))
    return path, labels


@pytest.fixture
def server(picture: tuple[Path, np.ndarray], tmp_path: Path) -> Iterator[PanoServer]:
    asked = Asked(place=picture[0], work=tmp_path / "work", max_upload_bytes=CAP)
    with serving(asked) as server:
        yield server


def ask(
    server: PanoServer, method: str, path: str, body: bytes | str | None = None, **headers: str
) -> tuple[int, dict, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, given)
    answer = connection.getresponse()
    return answer.status, dict(answer.getheaders()), answer.read()


OURS = {"X_Pano": "1"}
TEMPLATE = f"/static/{PROGRAM}/page.html"
APP = f"/static/{PROGRAM}/app.js"
EDIT = json.dumps(
    {
        "picture": "x",
        "session": "abcdefgh",
        "version": 0,
        "request": "abcdefgh",
        "edit": {"kind": "undo"},
    }
)


def edit_of(**edit: object) -> str:
    return json.dumps({**json.loads(EDIT), "edit": edit})


def join(server: PanoServer) -> str:
    said = json.dumps({"author": "abcdefgh", "who": "Ann"})
    status, _, body = ask(server, "POST", "/api/join", said, **OURS)
    assert status == 200
    return json.loads(body)["session"]


def test_only_its_own_page_is_answered(server: PanoServer) -> None:
    here = f"127.0.0.1:{server.server_port}"
    assert server.url == f"http://{here}/" and server.token == ""
    assert ask(server, "GET", "/")[0] == 200
    for headers in (
        {"Host": "evil.example"},
        {"Host": f"evil.example:{server.server_port}"},
        {"Host": "127.0.0.1"},
    ):
        for path in ("/api/pictures", APP, "/nowhere"):
            status, _, body = ask(server, "GET", path, **headers)
            assert status == 403 and "does not answer to" in json.loads(body)["error"]
    for origin in ("http://evil.example", "null", f"https://{here}", "http://127.0.0.1:1"):
        assert ask(server, "POST", "/api/edit", EDIT, Origin=origin, **OURS)[0] == 403
    assert (
        ask(server, "POST", "/api/edit", EDIT, Origin=f"http://{here}")[0] == 403
    )  # a form of another site could send this
    status, _, body = ask(server, "POST", "/api/edit", EDIT, Origin=f"http://{here}", **OURS)
    assert status == 410 and "not known" in json.loads(body)["error"]
    status, headers, _ = ask(server, "OPTIONS", "/api/edit", Origin="http://evil.example")
    assert status == 403 and "access-control-allow-origin" not in headers
    status, headers, _ = ask(server, "OPTIONS", "/api/edit")
    assert status == 501 and "access-control-allow-origin" not in headers


def test_pages_may_do_nothing_but_their_work(server: PanoServer) -> None:
    _, headers, page = ask(server, "GET", "/")
    policy = headers["content-security-policy"]
    nonce = policy.split("nonce-")[1].split("'")[0]
    assert (
        "default-src 'none'" in policy
        and "frame-ancestors 'none'" in policy
        and "script-src 'nonce-" in policy
    )
    assert "unsafe" not in policy
    scripts, modules = (
        page.decode().count(tag) for tag in ("<script", '<link rel="modulepreload"')
    )
    assert page.decode().count(f'nonce="{nonce}"') == scripts + modules
    assert (scripts, modules) == (2, sum(name.endswith(".js") for name in STATIC))
    assert nonce not in ask(server, "GET", "/")[1]["content-security-policy"]
    for path in ("/", "/api/pictures", APP, "/static/app.js", "/nowhere"):
        status, headers, _ = ask(server, "GET", path)
        assert headers["x-content-type-options"] == "nosniff" and "server" not in headers
        if path == APP:  # at an address that says what it is: a browser may keep it
            assert status == 200 and headers["cache-control"].endswith("immutable")
        else:
            assert headers["cache-control"] == "no-store"
    assert ask(server, "GET", APP.replace(PROGRAM, "0" * len(PROGRAM)))[0] == 404
    assert b"{{" not in render_page("n", "</script>", 1, "p")
    assert b'</script>"' not in render_page("n", "</script>", 1, "p")


def test_bodies_are_capped_before_they_are_read(
    server: PanoServer, picture: tuple[Path, np.ndarray]
) -> None:
    session = join(server)
    upload = f"/api/upload?session={session}&name=big.png"

    def head_alone(**headers: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
        connection.putrequest("POST", upload)
        for name, value in {"X-Pano": "1", **headers}.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()  # not a byte of the body is sent
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())["error"]

    status, why = head_alone(Content_Length=str(10**12))
    assert status == 413 and "over the cap of 1 MB" in why
    assert head_alone(Transfer_Encoding="chunked")[0] == 411
    assert ask(server, "POST", "/api/edit", b"x" * 300_000, **OURS)[0] == 413
    assert ask(server, "POST", upload, picture[0].read_bytes(), **OURS)[0] == 200
    for body in (
        "{",
        "[]",
        "{}",
        "[" * 9000,
        edit_of(kind="click", object=True, lon_deg=0, lat_deg=0),
        edit_of(kind="click", lon_deg="east", lat_deg=0),
        edit_of(kind="brush", points=[[0, 0]] * 5000, radius_deg=1),
        edit_of(kind="brush", points=[[0, 0]], radius_deg=1e9),
        edit_of(kind="no such"),
    ):
        status, _, data = ask(server, "POST", "/api/edit", body, **OURS)
        assert status == 400 and "\n" not in json.loads(data)["error"], body
    for path in (
        "/../../etc/passwd",
        "/%2e%2e/x",
        "/static/../server.py",
        TEMPLATE,
    ):
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
    assert any(code in answer for code in (b"400", b"403", b"404", b"405", b"505"))
    assert b"500" not in answer.partition(b"\r\n")[0]
    assert "Traceback" not in capfd.readouterr().err
    assert ask(server, "GET", "/api/pictures")[0] == 200  # it goes on


@pytest.mark.parametrize(
    "edit",
    [
        f'{{"kind": "click", "lon_deg": 1{"0" * 400}, "lat_deg": 0}}',
        f'{{"kind": "click", "lon_deg": 0, "lat_deg": -{HUGE}}}',
        f'{{"kind": "click", "object": {HUGE}, "lon_deg": 0, "lat_deg": 0}}',
        f'{{"kind": "delete", "objects": [{HUGE}]}}',
        f'{{"kind": "split", "object": -{HUGE}}}',
        '{"kind": "split", "object": 1e400}',
        '{"kind": "split", "object": Infinity}',
        '{"kind": "click", "lon_deg": NaN, "lat_deg": 0}',
        '{"kind": "click", "lon_deg": 1e400, "lat_deg": -1e400}',
        '{"kind": "undo", "\\ud800": 1}',
        "\udcff\udcfe",
    ],
)
def test_numbers_beyond_all_measure_are_refused_without_a_traceback(
    server: PanoServer, capfd: pytest.CaptureFixture[str], edit: str
) -> None:
    body = EDIT.replace('{"kind": "undo"}', edit).encode("utf-8", "surrogateescape")
    assert ask(server, "POST", "/api/edit", body, **OURS)[0] == 400
    assert "Traceback" not in capfd.readouterr().err


def test_lengths_and_callers_that_go_away_leave_no_traceback(
    server: PanoServer, capfd: pytest.CaptureFixture[str]
) -> None:
    assert ask(server, "POST", "/api/edit", None, Content_Length="9" * 18, **OURS)[0] == 413
    assert ask(server, "POST", "/api/edit", None, Content_Length="9" * 5000, **OURS)[0] in (
        400,
        413,
    )
    host = f"Host: 127.0.0.1:{server.server_port}".encode()
    for sent in (
        b"GET /api/pictures HTT",
        b"POST /api/edit HTTP/1.1\r\n" + host + b"\r\nX-Pano: 1\r\nContent-Length: 50\r\n\r\n{",
    ):
        connection = socket.create_connection(("127.0.0.1", server.server_port), timeout=10)
        linger = struct.pack("ii", 1, 0)  # close with a reset
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        connection.sendall(sent)
        connection.close()
    assert ask(server, "GET", "/api/pictures")[0] == 200
    time.sleep(0.2)
    assert "Traceback" not in capfd.readouterr().err


def test_beyond_loopback_a_token_is_needed(
    picture: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    with serving(Asked(place=picture[0], work=tmp_path / "w", host="0.0.0.0")) as server:
        assert len(server.token) >= 32 and server.url.endswith(f"?token={server.token}")
        for path in ("/", "/api/pictures", "/?token=wrong", "/?token=%C3%A9"):
            assert ask(server, "GET", path)[0] == 403
        status, _, page = ask(server, "GET", f"/?token={server.token}")
        assert status == 200 and server.token.encode() in page
        assert ask(server, "GET", APP)[0] == 200  # the program is no secret
        assert ask(server, "POST", "/api/join", "{}", **OURS)[0] == 403
        token = {"X_Pano_Token": server.token}
        assert ask(server, "POST", "/api/join", "{}", **token, **OURS)[0] == 400
        assert ask(server, "GET", f"/?token={server.token}", Host="evil.example")[0] == 403


def test_a_port_in_use_is_said(
    server: PanoServer, picture: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    asked = Asked(place=picture[0], work=tmp_path / "other", port=server.server_port)
    with pytest.raises(UsageError, match=r"cannot listen on 127\.0\.0\.1:\d+"), opened(asked):
        pass


def test_a_work_folder_has_one_server(server: PanoServer, tmp_path: Path) -> None:
    with pytest.raises(InUse, match="pano serve"), opened(Asked(work=tmp_path / "work")):
        pass


def test_the_command_serves_until_it_is_stopped(
    picture: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    (tmp_path / "ids.png").write_bytes(encode_product("instance.png", picture[1]))
    process = Process(
        picture[0],
        "--predictor",
        "truth",
        "--labels",
        str(tmp_path / "ids.png"),
        "--work",
        str(tmp_path / "work"),
        *SCAN,
    )
    try:
        url = urlsplit(process.url)
        assert url.hostname == "127.0.0.1" and not url.query
        ann = Annotator(process.port)
        assert [one["name"] for one in ann.pictures()] == ["my room.png"]
        process.process.send_signal(signal.SIGINT)
        _, told = process.process.communicate(timeout=60)
        assert process.process.returncode == 130 and "Traceback" not in told
        assert str(tmp_path / "work") in told
    finally:
        process.process.kill()
        process.process.wait()
