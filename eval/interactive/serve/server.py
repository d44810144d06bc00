"""HTTP for `pano serve`: Starlette on uvicorn, around a `Studio`.

Everything that waits for a disk or a lock runs in threads, so nobody waits for another's picture.
A message is JSON of `messages`; an answer is JSON, bytes of a tile, or a file. What went wrong is
said as `{"error": …, "code": …}` in one line. Codes: `stale` is another state than was meant,
`session` asks the page to join again, `cancelled` was taken back. `elsewhere` means another place,
which was served at this address when the page was loaded.
"""

import asyncio
import secrets
import sys
import traceback
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from panoforge.core.errors import StorageError, UserError
from panoforge.eval.interactive.serve.document import Stale
from panoforge.eval.interactive.serve.guard import (
    IDLE_S,
    MAX_JSON_BYTES,
    Door,
    Refused,
    read_body,
)
from panoforge.eval.interactive.serve.messages import (
    CancelRequest,
    EditRequest,
    ImportRequest,
    JoinRequest,
    LookRequest,
    PropagateRequest,
    ReadyRequest,
    parse,
)
from panoforge.eval.interactive.serve.page import PROGRAM, STATIC, render_page, security_policy
from panoforge.eval.interactive.serve.sessions import UnknownSession
from panoforge.eval.interactive.serve.studio import Studio
from panoforge.eval.interactive.serve.worker import Cancelling, TooBusy

DEFAULT_PORT = 8360
MAX_CONNECTIONS, THREADS, OPENERS, CARRIERS = 512, 8, 2, 8
_ALWAYS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_KEPT = {"Cache-Control": "public, max-age=31536000, immutable"}  # its address says what it is
_ELSEWHERE = (
    "another place is served at this address now: nothing of this page was applied to it. Start"
    " pano serve on the first place again, or load the page for the new one"
)
_CODES: tuple[tuple[type[Exception], int, str], ...] = (
    (Stale, 409, "stale"),
    (UnknownSession, 410, "session"),
    (Cancelling, 409, "cancelled"),
    (TooBusy, 429, "busy"),
    (StorageError, 507, "storage"),
    (UserError, 400, "refused"),
)
Handler = Callable[[Request], Awaitable[Response]]


class PatientProtocol(H11Protocol):
    """Connections that ask nothing for a minute end."""

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for a request."""
        super().connection_made(transport)
        self.loop.call_later(IDLE_S, self._end_if_silent)

    def _end_if_silent(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()


class PanoServer:
    """Use as a context manager. `port` 0 takes a free one."""

    def __init__(self, studio: Studio, host: str, port: int, max_upload_bytes: int) -> None:
        self.studio, self.max_upload_bytes = studio, max_upload_bytes
        self.place = studio.library.digest[:16]
        self.door = Door.open(host, port)
        self.url, self.token, self.server_port = self.door.url, self.door.token, self.door.port
        self._threads = ThreadPoolExecutor(THREADS, "serve")
        self._openers = ThreadPoolExecutor(OPENERS, "open")
        self._carriers = ThreadPoolExecutor(CARRIERS, "carry")
        config = uvicorn.Config(
            self._app(),
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=IDLE_S,
            timeout_graceful_shutdown=3,
            http=PatientProtocol,
            ws="none",
            loop="asyncio",
        )
        self._server = uvicorn.Server(config)

    def __enter__(self) -> "PanoServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.door.socket.close()
        for pool in (self._threads, self._openers, self._carriers):
            pool.shutdown(wait=False, cancel_futures=True)

    def serve_forever(self) -> None:
        """Answer until `shutdown`, or Ctrl-C."""
        self._server.run(sockets=[self.door.socket])

    def shutdown(self) -> None:
        """End `serve_forever`, from any thread."""
        self._server.should_exit = True

    def _app(self) -> Starlette:
        paths: dict[str, tuple[str, Handler]] = {
            "/": ("GET", self._page),
            "/static/{program}/{name}": ("GET", self._static),
            "/api/pictures": ("GET", self._pictures),
            "/api/revise": ("GET", self._revise),
            "/api/tile/{picture}/{level:int}/{x:int}/{y:int}": ("GET", self._tile),
            "/api/mask/{picture}/{digest}": ("GET", self._mask),
            "/api/export/{picture}/{kind}": ("GET", self._export),
            "/api/join": ("POST", self._join),
            "/api/upload": ("POST", self._upload),
            "/api/look": ("POST", self._look),
            "/api/ready": ("POST", self._ready),
            "/api/edit": ("POST", self._edit),
            "/api/propagate": ("POST", self._propagate),
            "/api/import": ("POST", self._import),
            "/api/cancel": ("POST", self._cancel),
        }
        routes = [
            Route(path, self._guarded(handler), methods=[method])
            for path, (method, handler) in paths.items()
        ]

        async def elsewhere(request: Request, error: Exception) -> Response:
            status = error.status_code if isinstance(error, HTTPException) else 500
            try:
                self.door.check(request)
            except Refused as refusal:
                return _said(refusal.status, str(refusal))
            return _said(
                501 if request.method not in ("GET", "HEAD", "POST") else status,
                f"there is nothing at {request.url.path[:200]}",
            )

        return Starlette(routes=routes, exception_handlers={HTTPException: elsewhere})

    def _guarded(self, handler: Handler) -> Handler:
        async def answer(request: Request) -> Response:
            try:
                self.door.check(request)
                if request.headers.get("x-pano-place", self.place) != self.place:
                    return _json({"error": _ELSEWHERE, "code": "elsewhere"}, 409)
                return await handler(request)
            except Refused as refusal:
                return _said(refusal.status, str(refusal))
            except UserError as error:
                return _failed(error)
            except Exception:
                traceback.print_exc(file=sys.stderr)
                return _said(500, "something broke in pano serve: its terminal says what")

        return answer

    async def _run(self, function: Callable[..., Any], *args: Any) -> Any:
        """A call that may wait, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)

    async def _at(self, picture: str, function: Callable[..., Any], *args: Any) -> Any:
        """The same for one picture. Those that must be opened first wait for each other only."""
        pool = self._threads if self.studio.desks.is_open(picture) else self._openers
        return await asyncio.get_running_loop().run_in_executor(pool, function, *args)

    async def _page(self, request: Request) -> Response:
        nonce = secrets.token_urlsafe(16)
        page = render_page(nonce, self.token, self.max_upload_bytes, self.place)
        headers = {**_ALWAYS, "Content-Security-Policy": security_policy(nonce)}
        return Response(page, media_type="text/html", headers=headers)

    async def _static(self, request: Request) -> Response:
        kind = STATIC.get(request.path_params["name"])
        if kind is None or request.path_params["program"] != PROGRAM:
            raise Refused(404, f"there is nothing at {request.url.path[:200]}")
        return Response(kind[1], media_type=kind[0], headers=_ALWAYS | _KEPT)

    async def _join(self, request: Request) -> Response:
        asked = parse(JoinRequest, await read_body(request, MAX_JSON_BYTES))
        session = self.studio.sessions.join(asked.author, asked.who, asked.session)
        return _json({"session": session.id})

    async def _pictures(self, request: Request) -> Response:
        session = request.query_params.get("session", "")
        return _json(await self._run(self.studio.listing, session))

    async def _revise(self, request: Request) -> Response:
        self.studio.sessions.get(request.query_params.get("session", ""))
        return _json(await self._run(self.studio.to_revise))

    async def _upload(self, request: Request) -> Response:
        name = request.query_params.get("name", "panorama")[:200]
        self.studio.sessions.get(request.query_params.get("session", ""))
        data = await read_body(request, self.max_upload_bytes)
        return _json({"picture": await self._run(self.studio.upload, data, name)})

    async def _look(self, request: Request) -> Response:
        asked = parse(LookRequest, await read_body(request, MAX_JSON_BYTES))
        return _json(await self._at(asked.picture, self.studio.look, asked))

    async def _ready(self, request: Request) -> Response:
        asked = parse(ReadyRequest, await read_body(request, MAX_JSON_BYTES))
        await self._run(self.studio.get_ready, asked)
        return _json({})

    async def _edit(self, request: Request) -> Response:
        asked = parse(EditRequest, await read_body(request, MAX_JSON_BYTES))
        future = await self._at(asked.picture, self.studio.begin, asked)
        mask = None if future is None else await asyncio.wrap_future(future)
        return _json(await self._at(asked.picture, self.studio.finish, asked, mask))

    async def _propagate(self, request: Request) -> Response:
        asked = parse(PropagateRequest, await read_body(request, MAX_JSON_BYTES))
        loop = asyncio.get_running_loop()
        return _json(await loop.run_in_executor(self._carriers, self.studio.propagate, asked))

    async def _import(self, request: Request) -> Response:
        query = dict(request.query_params)
        query.pop("token", None)
        version = query.get("version", "")
        frame = None if "frame" not in query else int_of(query["frame"], "frame")
        asked = parse(
            ImportRequest, {**query, "version": int_of(version, "version"), "frame": frame}
        )
        data = await read_body(request, self.max_upload_bytes)
        return _json(await self._at(asked.picture, self.studio.take_in, asked, data))

    async def _cancel(self, request: Request) -> Response:
        asked = parse(CancelRequest, await read_body(request, MAX_JSON_BYTES))
        return _json({"cancelled": self.studio.cancel(asked.session, asked.request)})

    async def _tile(self, request: Request) -> Response:
        path, query = request.path_params, request.query_params
        frame = int_of(query["frame"], "frame") if "frame" in query else None
        pyramid = await self._at(path["picture"], self.studio.pyramid, path["picture"], frame)
        tile = pyramid.tiles.get((path["level"], path["x"], path["y"]))
        if tile is None:
            raise Refused(404, "there is no such tile")
        return Response(tile, media_type="image/jpeg", headers=_ALWAYS)

    async def _mask(self, request: Request) -> Response:
        path = request.path_params
        where = path["picture"], path["digest"]
        data = await self._at(where[0], self.studio.deflated_mask, *where)
        headers = {**_ALWAYS, "Content-Encoding": "deflate"}
        return Response(data, media_type="application/octet-stream", headers=headers)

    async def _export(self, request: Request) -> Response:
        path, query = request.path_params, request.query_params
        asked = parse(
            LookRequest,
            {
                "picture": path["picture"],
                "session": query.get("session", ""),
                "version": int_of(query.get("version", ""), "version"),
                "frame": int_of(query["frame"], "frame") if "frame" in query else None,
            },
        )
        written = await self._at(asked.picture, self.studio.save, asked, path["kind"])
        headers = {
            **_ALWAYS,
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(written.name, safe='')}",
            "X-Pano-Left-Out": quote(written.left_out),
        }
        return Response(written.data, media_type=written.media_type, headers=headers)


def int_of(text: str, what: str) -> int:
    """A number of an address; Refused if it is none."""
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        raise Refused(400, f"the {what} of the picture is missing")
    return int(text)


def _failed(error: UserError) -> Response:
    status, code = next((s, c) for kind, s, c in _CODES if isinstance(error, kind))
    return _json({"error": str(error), "code": code}, status)


def _said(status: int, why: str) -> Response:
    response = _json({"error": why, "code": "refused"}, status)
    response.headers["Connection"] = "close"  # its body may be unread
    return response


def _json(value: Any, status: int = 200) -> Response:
    return JSONResponse(value, status, headers=_ALWAYS)
