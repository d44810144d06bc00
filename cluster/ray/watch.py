"""A Ray that dies under its driver: said in one line, whatever Ray itself would do then.

Left alone, Ray ends such a driver without a word of ours, or has it wait for ever. So:

- `living_on` has Ray let this process live. A driver that cannot reach its raylet ends itself if
  its own parent is process 1, as in a container: it takes that one for its raylet. It can be told
  otherwise when Ray is imported, and only then. One that cannot reach the head ends itself after a
  minute.
- `watched` looks at the head from a thread. `require_living_ray` raises what that finds.
- A call of Ray that hangs keeps the driver from asking. `UNWIND_S` after the death the thread says
  it itself and ends the process. What attempts have committed is on the disk by then.
"""

import contextlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

from panoforge.core.errors import FAILED, UserError

UNWIND_S = 30.0
HEAD_PATIENCE_S = 20.0  # a head that keeps its state elsewhere is back in seconds
_PRIVATE_LOOK_S, _JOINED_LOOK_S = 0.2, 5.0


class ClusterError(UserError):
    """Ray could not be started or reached, or died."""


class Watch:
    """Looks whether Ray lives, until it is closed. `death` says so once it does not."""

    def __init__(
        self, lives: Callable[[], bool], every_s: float, patience_s: float, words: str
    ) -> None:
        self.death: str | None = None
        self._lives, self._every_s, self._patience_s, self._words = (
            lives,
            every_s,
            patience_s,
            words,
        )
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._look, name="watch Ray", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._closed.set()
        self._thread.join()

    def _look(self) -> None:
        seen = time.monotonic()
        while not self._closed.wait(self._every_s):
            if self._lives():
                seen = time.monotonic()
            elif time.monotonic() - seen >= self._patience_s:
                self.death = self._words
                if not self._closed.wait(UNWIND_S):
                    _end_with(self._words)
                return


_watch: Watch | None = None  # of the open session


def require_living_ray() -> None:
    """ClusterError if the Ray of the open session is dead: its own calls would then hang."""
    if _watch is not None and _watch.death is not None:
        raise ClusterError(_watch.death)


@contextlib.contextmanager
def watched_head(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Watch the head of a private Ray: it ends with the first of its processes that dies."""
    words = (
        "the private Ray of this run died: something stopped or killed it. What was done is kept;"
        " the same command goes on from here"
    )
    with _watching(Watch(lambda: process.poll() is None, _PRIVATE_LOOK_S, 0.0, words)):
        yield


@contextlib.contextmanager
def watched_cluster(address: str) -> Iterator[None]:
    """Watch the head of somebody's cluster, at HOST:PORT. It may be silent for a while."""
    host, _, port = address.rpartition(":")

    def answers() -> bool:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
        except OSError:
            return False
        return True

    words = (
        f"the head of the Ray cluster at {address} cannot be reached any more. What was done is"
        " kept; start a cluster, and the same command goes on from here"
    )
    with _watching(Watch(answers, _JOINED_LOOK_S, HEAD_PATIENCE_S, words)):
        yield


@contextlib.contextmanager
def _watching(watch: Watch) -> Iterator[None]:
    global _watch
    _watch = watch
    try:
        yield
    finally:
        _watch = None
        watch.close()


@contextlib.contextmanager
def living_on() -> Iterator[None]:
    """A driver that imports Ray and joins it in here outlives its raylet and its head."""
    settings = {
        "RAY_RAYLET_PID": str(os.getpid()),  # the raylet that this driver thinks it lives with
        "RAY_gcs_rpc_server_reconnect_timeout_s": str(round(10 * (HEAD_PATIENCE_S + UNWIND_S))),
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ |= settings
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _end_with(words: str) -> None:
    """End this process, whose main thread hangs. Not by an exception: nobody would get it."""
    with contextlib.suppress(OSError):
        os.write(2, f"\nerror: {words}\n".encode())
    os._exit(FAILED)
