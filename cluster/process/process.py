"""One worker process, watched.

It has its own session, a log file and limits, and its end leaves nothing behind.

A native crash in Blender must not take a Ray worker and its logs along, so every scene runs in a
child that this module starts and outlives. Takes a command, gives a `ProcessOutcome`; raises only
when the child cannot be started. Output goes straight to the log file (no pipe to fill up); "no
progress" means that the log did not grow. Memory is the resident size of the worker and all its
descendants, polled: a limit on address space would hit Blender's harmless reservations.

Descendants that left the session (a double fork) are found again by a tag in their environment.
"""

import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)  # loaded before any fork
_POLL_S = 0.25
_TAG = "PANOFORGE_ATTEMPT"
TAIL_BYTES = 4000


@dataclass(frozen=True)
class Limits:
    """When a worker is given up. `memory_bytes` None: no limit of ours."""

    timeout_s: float
    no_progress_s: float
    memory_bytes: float | None = None
    log_bytes: int = 64 << 20


@dataclass(frozen=True)
class ProcessOutcome:
    """How a worker process ended.

    `signal` is its name if one killed it; `limit` names the limit that we enforced (time, silence,
    memory, log) and `gave_up` says so in words. `peak_bytes` is the largest resident size seen.
    """

    exit_code: int | None
    signal: str | None
    gave_up: str | None
    seconds: float
    log_tail: str
    limit: str | None = None
    peak_bytes: int = 0

    def describe(self) -> str:
        """The end in one phrase."""
        if self.gave_up:
            return self.gave_up
        if self.signal:
            return f"killed by {self.signal}"
        return f"exit code {self.exit_code}"


def run_watched(
    command: Sequence[str], log: Path, environment: Mapping[str, str], limits: Limits
) -> ProcessOutcome:
    """Run a worker to its end or to a limit. Afterwards no descendant of it is alive.

    Args:
        command: The worker's.
        log: Its output is appended here.
        environment: Added to this process's.
        limits: When it is given up.

    Raises:
        OSError: The worker cannot be started, or its log not be written.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    with open(log, "ab") as file:
        before = file.tell()
    child, tag = _start(command, log, environment)
    guard = _ChildWatch(child, log, before, begin, limits)
    try:
        with _exit_event(child) as ended:
            while not ended(_POLL_S):
                if guard.over():
                    break
    finally:
        _kill_all(
            child, tag
        )  # a worker that ended may have left children; one that hangs is killed with them
    code = child.wait()
    if guard.limit == "log":
        _cut(log, before + limits.log_bytes)
    return ProcessOutcome(
        exit_code=code if code >= 0 else None,
        signal=_signal_name(-code) if code < 0 and not guard.limit else None,
        gave_up=guard.words,
        seconds=time.monotonic() - begin,
        log_tail=tail(log, since=before),
        limit=guard.limit,
        peak_bytes=guard.peak,
    )


class _ChildWatch:
    """The limits of one child, looked at every poll.

    `limit` and `words` are set when one is exceeded.
    """

    def __init__(
        self, child: subprocess.Popen[bytes], log: Path, start: int, begin: float, limits: Limits
    ) -> None:
        self._log, self._start, self._begin, self._limits = log, start, begin, limits
        self._size, self._grew = start, begin
        self._process = psutil.Process(child.pid)
        self._next_memory = begin
        self.peak = 0
        self.limit: str | None = None
        self.words: str | None = None

    def over(self) -> bool:
        now = time.monotonic()
        size = self._log.stat().st_size
        if size != self._size:
            self._size, self._grew = size, now
        if now >= self._next_memory:
            self._measure()
            # Walking the process table costs milliseconds: often while memory may still rise fast,
            # seldom in a long render.
            self._next_memory = now + min(2.0, _POLL_S + 0.02 * (now - self._begin))
        memory, written = self._limits.memory_bytes, size - self._start
        if now - self._begin > self._limits.timeout_s:
            self.limit, self.words = "time", f"ran longer than {self._limits.timeout_s:.0f} s"
        elif now - self._grew > self._limits.no_progress_s:
            self.limit, self.words = (
                "silence",
                f"wrote nothing for {self._limits.no_progress_s:.0f} s",
            )
        elif memory and self.peak > memory:
            self.limit, self.words = (
                "memory",
                f"took {self.peak / 1e9:.2f} GB of memory, the limit is {memory / 1e9:.2f} GB",
            )
        elif written > self._limits.log_bytes:
            self.limit, self.words = (
                "log",
                f"wrote more than {self._limits.log_bytes / 1e6:.0f} MB of output",
            )
        return self.limit is not None

    def _measure(self) -> None:
        total = 0
        with contextlib.suppress(psutil.Error):
            for process in (self._process, *_descendants(self._process)):
                with contextlib.suppress(psutil.Error):
                    total += process.memory_info().rss
        self.peak = max(self.peak, total)


def _start(
    command: Sequence[str], log: Path, environment: Mapping[str, str]
) -> tuple[subprocess.Popen[bytes], str]:
    """Start a worker; also gives the tag that its descendants carry."""
    tag = uuid.uuid4().hex
    with open(log, "ab") as output:
        return bound_to_parent(
            command, environment={**environment, _TAG: tag}, output=output.fileno()
        ), tag


def bound_to_parent(
    command: Sequence[str], *, environment: Mapping[str, str], output: int
) -> subprocess.Popen[bytes]:
    """Start a process that is killed when the thread that started it ends.

    It leads a session of its own. `environment` is added to this process's; what it writes goes to
    the descriptor `output`. Through `setpriv` where there is one: Python forks a large Ray worker
    slowly when it must run code of its own between fork and exec.
    """
    setpriv = shutil.which("setpriv")
    return subprocess.Popen(
        [*([setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []), *command],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env={**os.environ, **environment},
        preexec_fn=None if setpriv else _die_with_parent,
    )


def _descendants(process: psutil.Process) -> Iterator[psutil.Process]:
    """All living descendants.

    The kernel's own lists are read where it has them: psutil walks the whole process table.
    """
    if not Path(f"/proc/{process.pid}/task/{process.pid}/children").exists():
        yield from process.children(recursive=True)
        return
    waiting = [process.pid]
    while waiting:
        for entry in Path(f"/proc/{waiting.pop()}/task").glob("*/children"):
            with contextlib.suppress(OSError, psutil.Error):
                for pid in map(int, entry.read_text().split()):
                    waiting.append(pid)
                    yield psutil.Process(pid)


@contextlib.contextmanager
def _exit_event(child: subprocess.Popen[bytes]) -> Iterator[Callable[[float], bool]]:
    """Yields a function that waits up to some seconds for the child's end and says whether it came.

    It says so at once. Up to the next poll would be a tenth of the time of a scene of a second.
    """
    descriptor = os.pidfd_open(child.pid)
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    try:
        yield lambda seconds: bool(poller.poll(1000 * seconds))
    finally:
        os.close(descriptor)


def tail(log: Path, size: int = TAIL_BYTES, *, since: int = 0) -> str:
    """The last lines of a log from byte `since` on, at most `size` bytes."""
    with open(log, "rb") as file:
        file.seek(max(since, log.stat().st_size - size))
        return file.read(size).decode("utf-8", "replace").strip()


def _cut(log: Path, size: int) -> None:
    with open(log, "r+b") as file:
        file.truncate(size)
        file.seek(0, os.SEEK_END)
        file.write(b"\n[log cut here: over its cap]\n")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _kill_all(child: subprocess.Popen[bytes], tag: str) -> None:
    """Kill the worker's whole session, then whatever of it left the session.

    It leads its own process group.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    needle = f"{_TAG}={tag}".encode()
    for pid in _younger_processes(child.pid) if os.path.isdir("/proc") else ():
        with contextlib.suppress(OSError):
            if needle in Path(f"/proc/{pid}/environ").read_bytes():
                os.kill(pid, signal.SIGKILL)


def _younger_processes(pid: int) -> list[int]:
    """Processes that may have been started after `pid`.

    Those with higher numbers, or all once numbers went round.
    """
    last = int(Path("/proc/loadavg").read_text().split()[-1])
    numbers = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    went_round = last < pid or max(numbers) > last
    return [number for number in numbers if number != os.getpid() and (went_round or number > pid)]
