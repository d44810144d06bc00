"""Where the time of a scene goes: seconds by phase, on the clock and of the processor.

Importing it loads no bpy; `phase_clock` needs it.
"""

import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Timer:
    """Adds up seconds by phase, on the clock and of the processor (all threads).

    It prints a line when a phase ends, so that a parent can see progress.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.cpu: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure a phase and say how long it took."""
        start = time.perf_counter()
        try:
            with self.measure(name):
                yield
        finally:
            say(f"{name} {time.perf_counter() - start:.1f} s")

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Measure a part of a phase."""
        start, cpu = time.perf_counter(), cpu_seconds()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - start, cpu_seconds() - cpu)

    def add(self, name: str, seconds: float, cpu: float) -> None:
        """Add seconds on the clock and on the processor to a phase."""
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        self.cpu[name] = self.cpu.get(name, 0.0) + cpu


def say(text: str) -> None:
    """One progress line."""
    print(f"panoforge: {text}", flush=True)


def cpu_seconds() -> float:
    """User and system time of this process so far, and of generators that it ran to their end."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def peak_memory_mb() -> float:
    """Largest resident size so far, of this process or of a generator that it ran to its end."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    peak = max(resource.getrusage(one).ru_maxrss for one in who)
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


class PhaseClock:
    """Seconds of a render by phase: on the clock, and of the processor."""

    def __init__(self) -> None:
        self.wall: dict[str, float] = {}
        self.cpu: dict[str, float] = {}


@contextmanager
def phase_clock() -> Iterator[PhaseClock]:
    """Time from start to the first sample (sync), to the last (sample), to the end (save).

    Reads Cycles' own status line, which reports the last sample only after the denoiser has run:
    `sample` includes it.
    """
    import bpy

    clock = PhaseClock()

    def now() -> tuple[float, float]:
        return time.perf_counter(), time.process_time()

    marks = {"start": now()}

    def on_status(*arguments: object) -> None:
        status = arguments[0] if arguments and isinstance(arguments[0], str) else ""
        if "Sample " in status:
            marks.setdefault("first", now())
            marks["last"] = now()

    bpy.app.handlers.render_stats.append(on_status)
    try:
        yield clock
    finally:
        bpy.app.handlers.render_stats.remove(on_status)
        end = now()
        first, last = marks.get("first", end), marks.get("last", end)
        for which, found in enumerate((clock.wall, clock.cpu)):
            start = marks["start"][which]
            found.update(
                sync=first[which] - start,
                sample=last[which] - first[which],
                save=end[which] - last[which],
            )
