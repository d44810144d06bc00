"""Progress of long work.

A bar with rate, time left and failures on a terminal, plain lines elsewhere.

    with Progress("render", total=183440) as progress:
        progress.advance(); progress.fail()

Plain lines (logs, CI, pipes) come at the start, at the end and at most every `every_s` seconds
between.
"""

import contextlib
import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress

_quiet = False


def be_quiet() -> None:
    """Show no bars and no counts from now on. What `log` says still comes."""
    global _quiet
    _quiet = True


class Progress:
    """Counts done and failed items out of `total` and shows them.

    Writes to stderr: stdout is for results. What was done `already` says nothing about how fast it
    goes. `plain`: lines on a terminal too, for what goes on below another one's bar.
    """

    def __init__(
        self,
        what: str,
        total: int,
        *,
        already: int = 0,
        every_s: float = 10.0,
        unit: str = "",
        plain: bool = False,
    ) -> None:
        self.what, self.total, self.every_s, self.unit = what, total, every_s, unit or what
        self.done, self.failed, self._already = already, 0, already
        self._plain = plain
        self._started = self._last_line = time.monotonic()
        # Done and failed, as the last line has them. Of nothing there is nothing to say.
        self._shown = (-1, 0) if total else (0, 0)
        self._bar: RichProgress | None = None

    def __enter__(self) -> Self:
        console = Console(stderr=True)
        if console.is_terminal and not self._plain and not _quiet:
            self._bar = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("[red]{task.fields[failures]}"),
                console=console,
            )
            self._task = self._bar.add_task(
                self.what, total=self.total, completed=self.done, rate="", failures=""
            )
            self._bar.start()
        elif self.total:
            self._line()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()
        elif (self.done, self.failed) != self._shown:  # the last line may have said it already
            self._line()

    def advance(self, count: int = 1) -> None:
        """`count` more items are done (failed ones included)."""
        self.done += count
        self._show()

    def fail(self, count: int = 1) -> None:
        """`count` of the items did not work; call `advance` for them too."""
        self.failed += count
        self._show()

    def log(self, text: str) -> None:
        """A line of its own, above the bar."""
        if self._bar:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            _say(text)

    @property
    def rate_per_s(self) -> float:
        """Units per second that this process has done, without what was there before."""
        return (self.done - self._already) / max(1e-9, time.monotonic() - self._started)

    def _failures(self) -> str:
        return f"{self.failed} failed" if self.failed else ""

    def _show(self) -> None:
        if self._bar:
            rate = (
                f"{self.rate_per_s:.2f}/s"
                if self.rate_per_s >= 0.1
                else f"{60 * self.rate_per_s:.1f}/min"
            )
            self._bar.update(self._task, completed=self.done, rate=rate, failures=self._failures())
        elif time.monotonic() - self._last_line >= self.every_s:
            self._line()

    def _line(self) -> None:
        self._last_line = time.monotonic()
        self._shown = (self.done, self.failed)
        seconds = self._last_line - self._started
        left = (
            f", about {(self.total - self.done) / self.rate_per_s:.0f} s left"
            if self._already < self.done < self.total
            else ""
        )
        failures = f", {self._failures()}" if self.failed else ""
        if not _quiet:
            _say(f"{self.what}: {self.done}/{self.total} in {seconds:.0f} s{left}{failures}")


def _say(text: str) -> None:
    """A line on stderr. Work never stops because nobody reads about it, or its disk is full."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)
