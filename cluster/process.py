"""One worker process, watched: its own session, a log file, a wall-clock and a no-progress limit, killed as a group.

A native crash in Blender must not take a Ray worker and its logs along, so every scene runs in a child that this module
starts and outlives. Takes a command, gives a `ProcessOutcome`; raises only when the child cannot be started. Output goes
straight to the log file (no pipe to fill up); "no progress" means that the log did not grow.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_POLL_S = 0.2
TAIL_BYTES = 4000


@dataclass(frozen=True)
class ProcessOutcome:
    """How a worker process ended. `signal` is its name if one killed it; `gave_up` says which limit we enforced."""

    exit_code: int | None
    signal: str | None
    gave_up: str | None
    seconds: float
    log_tail: str

    def describe(self) -> str:
        """The end in one phrase."""
        if self.gave_up:
            return self.gave_up
        if self.signal:
            return f"killed by {self.signal}"
        return f"exit code {self.exit_code}"


def run_watched(command: Sequence[str], log: Path, *, timeout_s: float, no_progress_s: float,
                environment: dict[str, str] | None = None) -> ProcessOutcome:
    """Run `command` to its end or to a limit, all its output appended to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    with open(log, "ab") as output:
        child = subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, **(environment or {})}, preexec_fn=_die_with_parent,
        )
    gave_up = None
    size, grew = -1, begin
    try:
        while child.poll() is None:
            time.sleep(_POLL_S)
            now, current = time.monotonic(), log.stat().st_size
            if current != size:
                size, grew = current, now
            if now - begin > timeout_s:
                gave_up = f"ran longer than {timeout_s:.0f} s"
            elif now - grew > no_progress_s:
                gave_up = f"wrote nothing for {no_progress_s:.0f} s"
            if gave_up:
                break
    finally:
        _kill_group(child)  # a worker that ended may have left children; one that hangs is killed with them
    code = child.wait()
    return ProcessOutcome(
        exit_code=code if code >= 0 else None, signal=signal.Signals(-code).name if code < 0 and not gave_up else None,
        gave_up=gave_up, seconds=time.monotonic() - begin, log_tail=tail(log),
    )


def tail(log: Path, size: int = TAIL_BYTES) -> str:
    """The last lines of a log, at most `size` bytes."""
    with open(log, "rb") as file:
        file.seek(max(0, log.stat().st_size - size))
        return file.read().decode("utf-8", "replace").strip()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _kill_group(child: subprocess.Popen) -> None:
    """Kill the worker's whole session: it leads its own process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
