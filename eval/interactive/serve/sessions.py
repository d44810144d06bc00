"""Who is here: the tabs that have this server's page open, and what each of them looks at.

A session is a name for a tab, made when it joins. After a restart of the server the tab joins again
and keeps its name. A session that was silent for an hour is forgotten; that costs nothing, as
nothing of the work hangs on it.
"""

import secrets
import threading
import time
from dataclasses import dataclass

from panoforge.core.errors import UserError

MAX_SESSIONS, FORGET_S, PRESENT_S = 256, 3600.0, 15.0


class UnknownSession(UserError):
    """The server does not know the tab (any more): it joins again."""


@dataclass
class Present:
    """A tab: who works in it, and the picture that it shows."""

    id: str
    author: str
    who: str
    picture: str = ""
    seen_s: float = 0.0


class Sessions:
    """Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, Present] = {}

    def join(self, author: str, who: str, id_: str | None = None) -> Present:
        """A new session, or the one that a tab had before."""
        with self._lock:
            now = time.monotonic()
            self._known = {k: s for k, s in self._known.items() if now - s.seen_s < FORGET_S}
            if id_ in self._known:
                self._known[id_].seen_s = now
                return self._known[id_]
            if len(self._known) >= MAX_SESSIONS:
                oldest = min(self._known.values(), key=lambda session: session.seen_s)
                del self._known[oldest.id]
            session = Present(id_ or secrets.token_hex(16), author, who, seen_s=now)
            self._known[session.id] = session
            return session

    def get(self, id_: str, picture: str | None = None) -> Present:
        """The session, seen now; UnknownSession if there is none."""
        with self._lock:
            if id_ not in self._known:
                raise UnknownSession("this tab is not known to the server (any more)")
            session = self._known[id_]
            session.seen_s = time.monotonic()
            if picture is not None:
                session.picture = picture
            return session

    def others(self, picture: str, but: str = "") -> list[str]:
        """The names of those who look at a picture now."""
        with self._lock:
            now = time.monotonic()
            return [
                session.who
                for session in self._known.values()
                if session.picture == picture
                and session.id != but
                and now - session.seen_s < PRESENT_S
            ]

    def count(self) -> int:
        """How many are known."""
        with self._lock:
            return len(self._known)
