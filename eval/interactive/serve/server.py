"""HTTP for `pano serve`: the standard library's threading server, around one `Session`.

Who may ask. It listens on loopback unless told otherwise; then a token, made anew at each start and
printed in the address, must come with every request. The `Host` must be a name that it was
told to answer to, always. So a web page elsewhere that lets its own name point here (DNS rebinding)
is refused. Requests that change anything must come from our page: their `Origin` must be
ours, and they carry a header that other sites' pages cannot send without asking first.

How much. A body must say its length, within the cap, before it is read; pictures are checked by
their header before they are decoded. One computation at a time: a request that comes meanwhile is
told so (409). Silent connections end after a minute.

One page at a time. There is one picture with its objects, so two tabs would lose each other's
masks. The page that was loaded last has it, as it stands; an older one is told so (409).
"""

import hmac
import ipaddress
import json
import secrets
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import SplitResult, parse_qs, quote, urlsplit

from panoforge.core.errors import UsageError, UserError
from panoforge.eval.interactive.segmenter import SphereClick
from panoforge.eval.interactive.serve.page import render_page, security_policy
from panoforge.eval.interactive.serve.session import Session

DEFAULT_PORT = 8360
MAX_JSON_BYTES = 10_000
MAX_DIGITS = 15  # of a length or a whole number: more is nothing that is meant here
IDLE_S = 60
SAVES = ("mask.png", "overlay.jpg", "coco.json")


class Refused(Exception):
    """A request that is not answered: `status` and why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class PanoServer(ThreadingHTTPServer):
    """`token` is empty on loopback. `port` 0 takes a free one."""

    daemon_threads = True

    def __init__(self, session: Session, host: str, port: int, max_upload_bytes: int) -> None:
        self.session, self.max_upload_bytes = session, max_upload_bytes
        self.computing = threading.Lock()
        self.tab = ""  # the page that was loaded last
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            self.address_family = family
            loopback = ipaddress.ip_address(address[0]).is_loopback
            super().__init__((str(address[0]), int(address[1])), Handler)
        except OSError as error:
            why = error.strerror or str(error)
            raise UsageError(
                f"cannot listen on {host}:{port}: {why}; choose another --host or --port"
            ) from None
        self.token = "" if loopback else secrets.token_urlsafe(24)
        names = (
            {"localhost", "127.0.0.1", "[::1]"}
            if loopback
            else {_bracketed(host), socket.gethostname(), socket.getfqdn()}
        )
        if ipaddress.ip_address(
            address[0]
        ).is_unspecified:  # 0.0.0.0: reached by any of this machine's addresses
            names |= {"localhost", "127.0.0.1", "[::1]", *map(_bracketed, _addresses())}
        self.hosts = {f"{name.lower()}:{self.server_port}" for name in names}
        self.url = f"http://{_bracketed(host)}:{self.server_port}/" + (
            f"?token={self.token}" if self.token else ""
        )

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that went away is no news; anything else is our own fault, and is shown."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


def _whole(digits: str) -> int:
    """A whole number of JSON; ValueError for one that no float could hold, let alone a message."""
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _addresses() -> set[str]:
    """This machine's own addresses, as far as its name tells."""
    try:
        return {str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None)}
    except OSError:
        return set()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: PanoServer
    protocol_version = "HTTP/1.1"
    server_version = "panoforge"
    sys_version = ""
    timeout = IDLE_S

    def do_GET(self) -> None:
        """Answer a request for a page or a picture."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """Answer a request that changes the session."""
        self._answer(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: requests hold no news for the user."""

    def _answer(self, handle: Callable[[str, dict[str, list[str]]], None]) -> None:
        try:
            address, query = self._address()
            self._check_caller(query)
            handle(address.path, query)
        except Refused as refusal:
            self.close_connection = True  # its body may be unread
            self._send_json(refusal.status, {"error": str(refusal)})
        except UserError as error:
            self._send_json(400, {"error": str(error)})
        except (ConnectionError, TimeoutError):
            self.close_connection = True
        except Exception:
            traceback.print_exc(file=sys.stderr)
            self.close_connection = True
            self._send_json(500, {"error": "something broke in pano serve: its terminal says what"})

    def _address(self) -> tuple[SplitResult, dict[str, list[str]]]:
        """The request's address and its query; Refused for one that is none, such as `http://[`."""
        try:
            address = urlsplit(self.path)
            return address, parse_qs(address.query)
        except ValueError as error:
            raise Refused(400, f"the address cannot be read: {error}") from None

    def _check_caller(self, query: dict[str, list[str]]) -> None:
        """Host, token, origin; Refused if one is not right."""
        host = (self.headers.get("Host") or "").lower()
        if host not in self.server.hosts:
            raise Refused(403, f"this server does not answer to {host!r}")
        given = self.headers.get("X-Pano-Token") or query.get("token", [""])[0]
        if self.server.token and not hmac.compare_digest(
            given.encode(), self.server.token.encode()
        ):
            raise Refused(
                403, "the token is missing or wrong: open the address that pano serve printed"
            )
        origin = self.headers.get("Origin")
        if origin is not None and origin != f"http://{host}":
            raise Refused(403, f"requests from {origin!r} are not answered")
        if self.command == "POST" and self.headers.get("X-Pano") != "1":
            raise Refused(403, "only the page of pano serve may change anything here")
        tab = self.headers.get("X-Pano-Tab")
        if tab is not None and tab != self.server.tab:
            raise Refused(
                409,
                "this picture is now open in another tab, and two would lose each other's masks:"
                " load this page again to work on it here",
            )

    def _get(self, path: str, query: dict[str, list[str]]) -> None:
        if path == "/":
            nonce = secrets.token_urlsafe(16)
            tab = self.server.tab = secrets.token_urlsafe(16)
            page = render_page(nonce, self.server.token, self.server.max_upload_bytes, tab)
            self._send(
                200,
                page,
                "text/html; charset=utf-8",
                {"Content-Security-Policy": security_policy(nonce)},
            )
        elif path == "/state":
            self._send_json(200, self._alone(lambda session: session.state(with_picture=True)))
        elif path.lstrip("/") in SAVES:
            name, content_type, data = self._alone(lambda session: session.save(path.lstrip("/")))
            self._send(
                200,
                data,
                content_type,
                {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}"},
            )
        else:
            raise Refused(404, f"there is nothing at {path}")

    def _post(self, path: str, query: dict[str, list[str]]) -> None:
        if path == "/image":
            data = self._body(self.server.max_upload_bytes)
            name = query.get("name", ["panorama"])[0][:200]
            answer = self._alone(
                lambda session: session.open(data, name, self.server.max_upload_bytes)
            )
        elif path == "/click":
            asked = self._json(
                {"object": int, "lon_deg": (int, float), "lat_deg": (int, float), "positive": bool}
            )
            click = SphereClick(asked["lon_deg"], asked["lat_deg"], asked["positive"])
            answer = self._alone(lambda session: session.click(asked["object"], click))
        elif path == "/delete":
            asked = self._json({"object": int})
            answer = self._alone(lambda session: session.delete(asked["object"]))
        elif path in ("/object", "/undo"):
            self._json({})
            answer = self._alone(
                lambda session: session.new_object() if path == "/object" else session.undo()
            )
        else:
            raise Refused(404, f"there is nothing at {path}")
        self._send_json(200, answer)

    def _alone(self, work: Callable[[Session], Any]) -> Any:
        """The session for ourselves, or 409."""
        if not self.server.computing.acquire(blocking=False):
            raise Refused(409, "still working on something else: wait a moment")
        try:
            return work(self.server.session)
        finally:
            self.server.computing.release()

    def _body(self, cap: int) -> bytes:
        """The request's body, refused by its announced length before a byte of it is read."""
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit() or self.headers.get("Transfer-Encoding"):
            raise Refused(411, "a request must say how long its body is")
        if len(length) > MAX_DIGITS or int(length) > cap:
            said = f"{length[:MAX_DIGITS]}{'…' * (len(length) > MAX_DIGITS)} bytes"
            raise Refused(
                413, f"{said} is over the cap of {cap / 1e6:.0f} MB (pano serve --max-upload-mb)"
            )
        data = self.rfile.read(int(length))
        if len(data) != int(length):
            raise ConnectionError
        return data

    def _json(self, fields: dict[str, Any]) -> dict[str, Any]:
        """A body with exactly these fields of these types."""
        try:
            asked = json.loads(self._body(MAX_JSON_BYTES), parse_int=_whole)
        except (ValueError, RecursionError):
            raise Refused(400, "the body is not JSON") from None
        right = (
            isinstance(asked, dict)
            and set(asked) == set(fields)
            and all(
                isinstance(asked[name], kind)
                and (kind is bool or not isinstance(asked[name], bool))
                for name, kind in fields.items()
            )
        )
        if not right:
            raise Refused(
                400, f"expected a JSON object with {', '.join(fields) or 'nothing'} in it"
            )
        return asked

    def _send_json(self, status: int, value: Any) -> None:
        self._send(status, json.dumps(value, ensure_ascii=False).encode(), "application/json", {})

    def _send(self, status: int, data: bytes, content_type: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        always = {
            "Content-Type": content_type,
            "Content-Length": str(len(data)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "X-Frame-Options": "DENY",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
        }
        for name, value in {
            **always,
            **headers,
            **({"Connection": "close"} if self.close_connection else {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
