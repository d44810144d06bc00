"""Where the time of a scene goes: phases on the clock and on the processor, and one line for each."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Timer:
    """Adds up seconds by phase, on the clock and of the processor (all threads), and prints a line
    when a phase ends, so that a parent can see progress.
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
        start, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - start, time.process_time() - cpu)

    def add(self, name: str, seconds: float, cpu: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        self.cpu[name] = self.cpu.get(name, 0.0) + cpu


def say(text: str) -> None:
    """One progress line."""
    print(f"panoforge: {text}", flush=True)


def cpu_seconds() -> float:
    """User and system time of this process so far."""
    times = os.times()
    return times.user + times.system


def peak_memory_mb() -> float:
    """Largest resident size of this process so far."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)
