"""A worker process that is up before its scene: the start of a Python, and its imports, off the
clock of short scenes.

While a scene runs, the Ray worker that watches it starts the next process (`Spares.prepare`), which
imports the worker's module and then waits on its standard input for one line: the job file, the
environment and the log of its scene. From there on it is what `python -m WORKER JOB.json` would be.
Of a scene that takes minutes it saves next to nothing; of one that takes a second, a tenth. A spare
that nobody needs ends by itself after `IDLE_S`, or with the process that started it.
"""

import contextlib
import importlib
import json
import os
import runpy
import select
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from panoforge.cluster.process.process import Child, start_child

IDLE_S = 60.0
_LATE = {"TMPDIR"}  # may be set when the scene is known; all else is read by what the spare imports


@dataclass(frozen=True)
class _Spare:
    child: Child
    worker: str
    environment: dict[str, str]


class Spares:
    """At most one spare of this process. Not for several threads at once."""

    def __init__(self) -> None:
        self._waiting: list[_Spare] = []

    def prepare(self, worker: str, environment: Mapping[str, str]) -> None:
        """Start a spare for the next scene, unless one waits."""
        if not self._waiting:
            fixed = {name: value for name, value in environment.items() if name not in _LATE}
            child = start_child(
                [sys.executable, "-m", "panoforge.cluster.process.spare", worker],
                None,
                fixed,
                stdin=subprocess.PIPE,
            )
            self._waiting.append(_Spare(child, worker, fixed))

    def take(
        self, worker: str, arguments: list[str], environment: Mapping[str, str], log: Path
    ) -> Child | None:
        """The spare, now at work on `arguments` with its output in `log`; None if there is none
        that fits.
        """
        fixed = {name: value for name, value in environment.items() if name not in _LATE}
        while self._waiting:
            spare = self._waiting.pop()
            if (spare.worker, spare.environment) == (worker, fixed) and _tell(
                spare, arguments, environment, log
            ):
                return spare.child
            _discard(spare)
        return None

    def discard(self) -> None:
        """End the spare."""
        while self._waiting:
            _discard(self._waiting.pop())


def _tell(spare: _Spare, arguments: list[str], environment: Mapping[str, str], log: Path) -> bool:
    stdin = spare.child.process.stdin
    if stdin is None or spare.child.process.poll() is not None:
        return False
    order = {"arguments": arguments, "environment": dict(environment), "log": str(log)}
    try:
        stdin.write(json.dumps(order).encode() + b"\n")
        stdin.close()
    except OSError:
        return False
    return True


def _discard(spare: _Spare) -> None:
    spare.child.process.kill()
    spare.child.process.wait()
    if spare.child.process.stdin:
        with contextlib.suppress(OSError):
            spare.child.process.stdin.close()


def main(worker: str) -> None:
    """The spare itself: import, wait, become the worker."""
    with contextlib.suppress(
        Exception
    ):  # what is wrong with the worker is for its scene's log, where it is raised again
        importlib.import_module(worker)
    sys.modules.pop(worker, None)  # it is run as __main__, as `python -m` does
    if not select.select([0], [], [], IDLE_S)[0]:
        return
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):  # the one who started it is gone
        return
    order = json.loads(line)
    os.environ.update(order["environment"])
    tempfile.tempdir = None
    for number, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, order["log"], os.O_WRONLY | os.O_APPEND),
    ):
        descriptor = os.open(path, flags)
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.dup2(1, 2)
    sys.argv = [worker, *order["arguments"]]
    runpy.run_module(worker, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1])
