"""A stop that loses nothing: the first signal asks for it, and the work ends where it can go on."""

import contextlib
import os
import signal
import time
from typing import Any, Self

SAME_S = 0.5


class Drain:
    """The first SIGINT or SIGTERM asks for a drain (`asked`), the second one stops at once.

    What comes within `SAME_S` is the first one again: Slurm signals each process of a job,
    and those hand it on. As a context manager it puts back the handlers that it found. Outside the
    main thread signals are somebody else's.
    """

    def __init__(self, what: str) -> None:
        self.asked, self._when = False, 0.0
        self._line = f"\n{what}; once more stops at once\n".encode()
        self._before: dict[int, Any] = {}

    def _on_signal(self, number: int, frame: object) -> None:
        if self.asked:
            if time.monotonic() - self._when > SAME_S:
                raise KeyboardInterrupt
            return
        self.asked, self._when = True, time.monotonic()
        signal.alarm(0)  # Ray's own handler may have set one (panoforge.cluster.ray.session)
        with contextlib.suppress(OSError):  # nobody reads it
            os.write(2, self._line)

    def __enter__(self) -> Self:
        with contextlib.suppress(ValueError):
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ValueError):
            for number, handler in self._before.items():
                signal.signal(number, handler)
