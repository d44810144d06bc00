"""Two real processes that begin a task at the same time."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOOP = """
import sys
from panoforge.core.errors import UserError
print("ready", flush=True)
for line in sys.stdin:
    try:
        work(*line.rstrip("\\n").split("\\t"))
        print("done", flush=True)
    except UserError as error:
        print(type(error).__name__, error, flush=True)
"""


class Pair:
    """Both wait for a line, so that they begin at once; answer in a line, and wait for the next."""

    def __init__(self, work: str) -> None:
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-c", work + LOOP],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        assert all(process.stdout.readline() == "ready\n" for process in self.processes)

    def ask(self, *tasks: tuple[str, Path, Path]) -> list[str]:
        """What each says of its task: `done`, or the error's type and words."""
        for process, task in zip(self.processes, tasks, strict=True):
            process.stdin.write("\t".join(map(str, task)) + "\n")
        for process in self.processes:
            process.stdin.flush()
        return [process.stdout.readline().strip() for process in self.processes]


@contextmanager
def pair_of(work: str) -> Iterator[Pair]:
    """Two processes whose `work(verb, first, second)` the source `work` defines."""
    made = Pair(work)
    yield made
    for process in made.processes:
        process.stdin.close()
        process.wait(20)
