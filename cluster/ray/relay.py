"""A relay between a process on some node and the driver: lines come in, a wish to stop goes out."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

_BEAT_S = 0.5


class Relay:
    """The actor. Lines stay until they are collected."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._stop = self._spoken = False
        self._seats: dict[int, str] = {}

    def say(self, lines: list[str]) -> bool:
        """Leave lines; says whether to stop."""
        self._lines += lines
        self._spoken = True
        return self._stop

    def collect(self) -> list[str]:
        """The lines since the last call."""
        lines, self._lines = self._lines, []
        return lines

    def sit(self, rank: int, node: str) -> None:
        """Leave where a rank is: of one that is lost nobody else could say so."""
        self._seats[rank] = node

    def seats(self) -> dict[int, str]:
        """The node of each rank that has come, the last time that it came."""
        return self._seats

    def stop(self) -> bool:
        """Have `say` say so from now on. Says whether anybody has come to the relay yet."""
        self._stop = True
        return self._spoken


@contextlib.contextmanager
def heard(relay: Any, speaks: bool) -> Iterator[threading.Event]:
    """Hand in at the relay what this process writes to stderr, line by line.

    Yields an event: the driver's wish to stop. One who does not speak does neither.
    """
    stop, ended, lines = threading.Event(), threading.Event(), _Lines()
    if not speaks:
        yield stop
        return

    def hand_in() -> None:
        import ray

        with contextlib.suppress(ray.exceptions.RayError):  # no driver: so are we, soon
            if ray.get(relay.say.remote(lines.take())):
                stop.set()

    def beat() -> None:
        while not ended.wait(_BEAT_S):
            hand_in()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        with contextlib.redirect_stderr(lines):
            yield stop
    finally:
        ended.set()
        thread.join()
        hand_in()


class _Lines:
    """A text stream that keeps whole lines until they are taken."""

    def __init__(self) -> None:
        self._text, self._lock = "", threading.Lock()

    def write(self, text: str) -> int:
        with self._lock:
            self._text += text
        return len(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return False

    def take(self) -> list[str]:
        with self._lock:
            *lines, self._text = self._text.split("\n")
        return lines
