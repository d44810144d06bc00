"""One JSON request to an address that the user configured, and one JSON answer.

Nothing is asked of anybody else: no redirects, no proxies. What answers may be slow, wrong or
hostile. The whole exchange has one deadline. The answer's bytes are capped before they are kept,
and JSON with NaN, or nested too deep, is refused. Failures are one line.
"""

import http.client
import json
import time
from typing import Any
from urllib.parse import urlsplit

from panoforge.core.errors import ConfigError, UserError

MAX_ANSWER_BYTES = 256 << 20
_PIECE = 1 << 16


class AskError(UserError):
    """An address did not answer, or not with what was asked for."""


def check_address(address: str, what: str) -> str:
    """An http or https address, as it is. ConfigError for anything else."""
    try:
        parts = urlsplit(address)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or any(ord(letter) <= 32 or ord(letter) == 127 for letter in address):
        raise ConfigError(
            f"{what}: expected an address as http://HOST:PORT/PATH, got {address[:100]!r}"
        )
    return address


def ask_json(
    address: str,
    question: dict[str, Any],
    *,
    timeout_s: float,
    headers: dict[str, str] | None = None,
    max_bytes: int = MAX_ANSWER_BYTES,
) -> Any:
    """Post a document and give back the answer's.

    Args:
        address: Where, http or https.
        question: What is posted as JSON.
        timeout_s: Seconds that the whole exchange may take.
        headers: More of them, such as a key.
        max_bytes: A longer answer is refused.

    Raises:
        AskError: Nobody answers, too late, too much, another status than 200, or no JSON.
    """
    parts, deadline = urlsplit(address), time.monotonic() + timeout_s
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        body = json.dumps(question).encode()
        sent = {"Content-Type": "application/json", "Accept": "application/json"}
        connection.request("POST", target, body, sent | (headers or {}))
        answer = connection.getresponse()
        data = _read(connection, answer, deadline, timeout_s, max_bytes, address)
    except TimeoutError:
        raise AskError(f"{address} did not answer within {timeout_s:g} s") from None
    except (OSError, http.client.HTTPException) as error:
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise AskError(f"{address} cannot be asked: {said}") from None
    finally:
        connection.close()
    if answer.status != 200:
        said = " ".join(data[:200].decode("utf-8", "replace").split())
        raise AskError(f"{address} answered with status {answer.status}, expected 200: {said}")
    return parse_json(data, address)


def parse_json(data: bytes, whose: str) -> Any:
    """What JSON of somebody says. AskError where it is none, has NaN or is nested too deep."""
    try:
        return json.loads(data, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        said = " ".join(str(error).split())[:100] or type(error).__name__
        raise AskError(f"{whose} answered with what is no JSON: {said}") from None


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _read(
    connection: http.client.HTTPConnection,
    answer: http.client.HTTPResponse,
    deadline: float,
    timeout_s: float,
    max_bytes: int,
    address: str,
) -> bytes:
    """The answer's bytes, piece by piece: each could take the whole time-out otherwise."""
    pieces: list[bytes] = []
    size = 0
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        if connection.sock is not None:
            connection.sock.settimeout(left)
        piece = answer.read1(_PIECE)
        if not piece:
            return b"".join(pieces)
        size += len(piece)
        if size > max_bytes:
            raise AskError(
                f"{address} answered with more than {max_bytes} bytes: nothing of it is used"
            )
        pieces.append(piece)
