"""A real HTTP server on loopback that answers as it is told: well, slowly or with malice."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[dict[str, Any]], Any]


class Said:
    """What a server was asked, and how it answers; `answer` may be set anew at any time."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.address = ""


class Raw(bytes):
    """An answer that is sent as it is, without a length."""


@contextmanager
def server(answer: Answer) -> Iterator[Said]:
    """A server; what `answer` gives is sent as JSON, `Raw` as it is, a number as a status."""
    said = Said(answer)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            said.asked.append(json.loads(body))
            said.headers.append(dict(self.headers))
            said.paths.append(self.path)
            given = said.answer(said.asked[-1])
            try:
                if isinstance(given, Raw):
                    self.wfile.write(given)
                    return
                status, data = (given, b"no") if isinstance(given, int) else (200, given)
                data = data if isinstance(data, bytes) else json.dumps(data).encode()
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", said.address)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except (BrokenPipeError, ConnectionResetError):
                pass

        def log_message(self, *args: Any) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.daemon_threads = True
    said.address = f"http://127.0.0.1:{running.server_address[1]}/v1"
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    try:
        yield said
    finally:
        running.shutdown()
        running.server_close()


def drip(pieces: int, pause_s: float) -> Answer:
    """An answer that comes byte by byte: each in time, all of it never."""

    def answer(question: dict[str, Any]) -> Any:
        time.sleep(pause_s * pieces)
        return {}

    return answer


HOSTILE: dict[str, Any] = {
    "no JSON": b"<html>",
    "empty": b"",
    "deep": b"[" * 100_000,
    "NaN": b'{"entities": NaN}',
    "a list": [],
    "a number": b"7",
    "an error": 500,
    "a redirect": 302,
    "bytes of nothing": Raw(b""),
    "no HTTP": Raw(b"220 ftp ready\r\n"),
    "endless header": Raw(b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 70_000 + b"\r\n\r\n"),
    "half": Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"),
}
