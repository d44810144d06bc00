"""A running `pano serve` for tests, in a thread or as a process of its own, and one who asks it."""

import contextlib
import http.client
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import numpy as np

from panoforge.eval.interactive.serve.opening import Asked, opened
from panoforge.eval.interactive.serve.server import PanoServer


@contextlib.contextmanager
def serving(asked: Asked) -> Iterator[PanoServer]:
    """A server in a thread of this process."""
    with opened(asked) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(30)


class Process:
    """`pano serve` as a process, which can be killed and started again on the same port."""

    def __init__(self, place: Path, *options: str, port: int = 0) -> None:
        self.words = [str(place), *options]
        self.port = port
        self.start()

    def start(self) -> None:
        """Start it and wait until it listens."""
        command = [sys.executable, "-m", "panoforge", "serve", *self.words]
        self.process = subprocess.Popen(
            [*command, "--port", str(self.port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(self.process.communicate()[1])
        self.url = line.strip()
        self.port = urlsplit(self.url).port

    def kill(self) -> None:
        """kill -9, at once."""
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()


class Refusal(Exception):
    """What the server refuses: status and answer."""

    def __init__(self, status: int, answer: dict) -> None:
        super().__init__(f"{status}: {answer}")
        self.status, self.answer = status, answer


class Annotator:
    """One tab without a browser: a session, and the version that it has seen of each picture."""

    def __init__(self, port: int, who: str = "Ann", token: str = "") -> None:
        self.port, self.who, self.author = port, who, secrets.token_hex(8)
        self.versions: dict[str, int] = {}
        self.headers = {"X-Pano": "1", "X-Pano-Token": token}
        self.session = None
        self.join()

    def raw(self, method: str, path: str, body: bytes | None = None) -> tuple[dict, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request(method, path, body, self.headers)
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise Refusal(answer.status, json.loads(data))
        return dict(answer.getheaders()), data

    def post(self, path: str, **said: object) -> dict:
        return json.loads(self.raw("POST", path, json.dumps(said).encode())[1])

    def join(self) -> None:
        said = {"author": self.author, "who": self.who, "session": self.session}
        self.session = self.post("/api/join", **said)["session"]

    def pictures(self) -> list[dict]:
        data = self.raw("GET", f"/api/pictures?session={self.session}")[1]
        return json.loads(data)["pictures"]

    def picture(self, name: str) -> str:
        return next(one["id"] for one in self.pictures() if one["name"] == name)

    def look(self, picture: str, frame: int | None = None) -> dict:
        state = self.post(
            "/api/look", picture=picture, session=self.session, version=0, frame=frame
        )
        self.versions[picture] = state["version"]
        return state

    def edit(
        self,
        picture: str,
        kind: str,
        request: str | None = None,
        frame: int | None = None,
        **said: object,
    ) -> dict:
        if picture not in self.versions:
            self.look(picture)
        return self._change("edit", picture, request, frame=frame, edit={"kind": kind, **said})

    def propagate(
        self, picture: str, frame: int, objects: list[int], request: str = "", **said: object
    ) -> dict:
        return self._change("propagate", picture, request, frame=frame, objects=objects, **said)

    def _change(self, what: str, picture: str, request: str | None, **said: object) -> dict:
        state = self.post(
            f"/api/{what}",
            picture=picture,
            session=self.session,
            version=self.versions[picture],
            request=request or secrets.token_hex(8),
            **said,
        )
        self.versions[picture] = state["version"]
        return state

    def take_in(self, picture: str, path: Path, frame: int | None = None) -> dict:
        query = (
            f"picture={picture}&session={self.session}&version={self.versions[picture]}"
            f"&request={secrets.token_hex(8)}&name={quote(path.name)}"
        )
        query += "" if frame is None else f"&frame={frame}"
        state = json.loads(self.raw("POST", f"/api/import?{query}", path.read_bytes())[1])
        self.versions[picture] = state["version"]
        return state

    def save(self, picture: str, kind: str, frame: int | None = None) -> bytes:
        query = f"session={self.session}&version={self.versions[picture]}"
        query += "" if frame is None else f"&frame={frame}"
        return self.raw("GET", f"/api/export/{picture}/{kind}?{query}")[1]

    def mask(self, picture: str, one: dict, width: int, height: int) -> np.ndarray:
        """An object's mask, as the page inflates it."""
        data = zlib.decompress(self.raw("GET", f"/api/mask/{picture}/{one['mask']}")[1])
        runs = np.frombuffer(data, "<u4")
        return np.repeat(np.arange(runs.size) % 2 == 1, runs).reshape(height, width)


def wait_until(true: object, seconds: float = 60) -> None:
    """Until `true()` is."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "still not"
        time.sleep(0.02)
