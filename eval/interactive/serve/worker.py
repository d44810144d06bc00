"""The one thread that predicts masks.

A queue, fair among sessions, from which work can be taken back.

A model's memory and its cores are there once, so predictions come one after the other. Whoever was
served least recently comes next; one's own requests keep their order. What is urgent (a click)
comes before what is not (getting a picture ready). A job is a function of a `Cancel`, which it asks
at its own resting places (between frames): only there can it stop.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from panoforge.core.errors import UserError
from panoforge.core.numbers import counted

MAX_WAITING_EACH, MAX_WAITING = 8, 256


class Cancelling(UserError):
    """The work was taken back before it was done."""


class TooBusy(UserError):
    """More is waiting than is taken on."""


class Cancel:
    """Whether the work is still wanted."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """It is not wanted any more."""
        self._event.set()

    def check(self) -> None:
        """Cancelling if it is not wanted any more."""
        if self._event.is_set():
            raise Cancelling("this was taken back")


@dataclass
class _Request:
    session: str
    request: str
    urgent: bool
    run: Callable[[Cancel], Any]
    cancel: Cancel = field(default_factory=Cancel)
    result: "Future[Any]" = field(default_factory=Future)


class Worker:
    """Use as a context manager; it ends with the job that is running."""

    def __init__(self) -> None:
        self._jobs: list[_Request] = []
        self._running: _Request | None = None
        self._served: dict[str, int] = {}
        self._count = 0
        self._wake = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._loop, name="predictor", daemon=True)

    def __enter__(self) -> "Worker":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._wake:
            self._stopped = True
            jobs = [*self._jobs, *([self._running] if self._running else [])]
            self._jobs = []
            self._wake.notify()
        for job in jobs:
            job.cancel.set()
            if job is not self._running:
                job.result.cancel()
        if self._thread.is_alive():
            self._thread.join()

    def submit(
        self, session: str, request: str, run: Callable[[Cancel], Any], *, urgent: bool = True
    ) -> "Future[Any]":
        """Queue a job; TooBusy if the queue is full."""
        with self._wake:
            mine = sum(job.session == session for job in self._jobs)
            if mine >= MAX_WAITING_EACH or len(self._jobs) >= MAX_WAITING:
                raise TooBusy(
                    f"{counted(len(self._jobs), 'mask is', 'masks are')} waiting already: wait"
                    " for those"
                )
            job = _Request(session, request, urgent, run)
            self._jobs.append(job)
            self._wake.notify()
            return job.result

    def cancel(self, session: str, request: str | None = None) -> int:
        """Take back a session's request, or all that it has; gives how many there were."""
        with self._wake:
            running = [self._running] if self._running else []
            meant = [
                job
                for job in (*self._jobs, *running)
                if job.session == session and request in (None, job.request)
            ]
            self._jobs = [job for job in self._jobs if job not in meant]
            for job in meant:
                job.cancel.set()
                if job is not self._running:
                    job.result.set_exception(Cancelling("this was taken back"))
            return len(meant)

    def waiting(self) -> int:
        """How many jobs have not begun."""
        with self._wake:
            return len(self._jobs)

    def _loop(self) -> None:
        while (job := self._next()) is not None:
            if not job.result.set_running_or_notify_cancel():
                continue  # nobody waits for it; to answer it would end this thread
            try:
                job.cancel.check()
                job.result.set_result(job.run(job.cancel))
            except BaseException as error:  # it belongs to whoever asked
                job.result.set_exception(error)

    def _next(self) -> _Request | None:
        with self._wake:
            self._running = None
            while not self._jobs and not self._stopped:
                self._wake.wait()
            if self._stopped:
                return None
            job = min(self._jobs, key=lambda j: (not j.urgent, self._served.get(j.session, 0)))
            self._jobs.remove(job)
            self._count += 1
            self._served[job.session] = self._count
            self._running = job
            return job
