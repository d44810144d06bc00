"""Who may ask, and how much.

The server listens on loopback unless told otherwise; then a token, made anew at each start and
printed in the address, must come with every request. The `Host` must be a name that it was told to
answer to, always. So a web page elsewhere that lets its own name point here (DNS rebinding) is
refused. Requests that change anything must come from our page: their `Origin` must be ours, and
they carry a header that other sites' pages cannot send without asking first. A body must say its
length, within the cap, before it is read.
"""

import asyncio
import hmac
import ipaddress
import secrets
import socket
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request

from panoforge.core.errors import UsageError

MAX_JSON_BYTES = 200_000
MAX_DIGITS = 15  # of a length
IDLE_S = 60


class Refused(Exception):
    """A request that is not answered: `status` and why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True)
class Door:
    """Where the server listens, whom it answers, and the address to open.

    `token` is empty on loopback.
    """

    socket: socket.socket
    port: int
    token: str
    hosts: frozenset[str]
    url: str

    @classmethod
    def open(cls, host: str, port: int) -> "Door":
        """Listen; `port` 0 takes a free one. UsageError if that cannot be."""
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            listening = socket.socket(family, socket.SOCK_STREAM)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(128)
        except OSError as error:
            why = error.strerror or str(error)
            raise UsageError(
                f"cannot listen on {host}:{port}: {why}; choose another --host or --port"
            ) from None
        port = int(listening.getsockname()[1])
        there = ipaddress.ip_address(address[0])
        token = "" if there.is_loopback else secrets.token_urlsafe(24)
        names = (
            {"localhost", "127.0.0.1", "[::1]"}
            if there.is_loopback
            else {_bracketed(host), socket.gethostname(), socket.getfqdn()}
        )
        if there.is_unspecified:  # 0.0.0.0: reached by any of this machine's addresses
            names |= {"localhost", "127.0.0.1", "[::1]", *map(_bracketed, _addresses())}
        hosts = frozenset(f"{name.lower()}:{port}" for name in names)
        query = f"?token={token}" if token else ""
        return cls(listening, port, token, hosts, f"http://{_bracketed(host)}:{port}/{query}")

    def check(self, request: Request) -> None:
        """Host, token, origin; Refused if one is not right."""
        if request.scope.get("http_version") not in ("1.0", "1.1"):
            raise Refused(505, "this server speaks HTTP/1.1")
        host = request.headers.get("host", "").lower()
        if host not in self.hosts:
            raise Refused(403, f"this server does not answer to {host!r}")
        open_to_all = request.method == "GET" and request.url.path.startswith("/static/")
        given = request.headers.get("x-pano-token") or request.query_params.get("token", "")
        if not open_to_all and self.token:
            same = hmac.compare_digest(given.encode("utf-8", "replace"), self.token.encode())
            if not same:
                raise Refused(
                    403, "the token is missing or wrong: open the address that pano serve printed"
                )
        origin = request.headers.get("origin")
        if origin is not None and origin != f"http://{host}":
            raise Refused(403, f"requests from {origin!r} are not answered")
        if request.method == "POST" and request.headers.get("x-pano") != "1":
            raise Refused(403, "only the page of pano serve may change anything here")


async def read_body(request: Request, cap: int) -> bytes:
    """The body, of the length that it says, up to `cap` bytes.

    Raises:
        Refused: it does not say its length, is over the cap, or does not come.
    """
    length = request.headers.get("content-length")
    if length is None or "transfer-encoding" in request.headers:
        raise Refused(411, "a body must say how long it is (Content-Length)")
    if not (length.isascii() and length.isdigit()):
        raise Refused(400, "its Content-Length is no number")
    if len(length) > MAX_DIGITS or int(length) > cap:
        said = f"{length[:MAX_DIGITS]}{'…' * (len(length) > MAX_DIGITS)} bytes"
        raise Refused(
            413, f"{said} is over the cap of {cap / 1e6:.0f} MB (pano serve --max-upload-mb)"
        )
    data = bytearray()
    try:
        async with asyncio.timeout(IDLE_S + cap / 1e5):
            async for chunk in request.stream():
                data += chunk
    except (TimeoutError, ClientDisconnect):
        raise Refused(408, "the body did not come") from None
    if len(data) != int(length):
        raise Refused(400, "the body is not as long as it says")
    return bytes(data)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _addresses() -> set[str]:
    """This machine's own addresses, as far as its name tells."""
    try:
        return {str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None)}
    except OSError:
        return set()
