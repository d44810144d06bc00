"""Verbs of the command, one after the other in one child process that must not take much memory."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

# Says after each verb: its code, the most memory so far, and how long it computed.
_CHILD = """
import json, sys, time
from pathlib import Path
from panoforge.cli import main
status = lambda name: next(
    int(line.split()[1]) << 10
    for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name)
)
said = []
for words in json.load(sys.stdin):
    start, code = time.process_time(), None
    print("<verb>", file=sys.stderr, flush=True)
    try:
        main(words)
    except SystemExit as end:
        code = int(end.code or 0)
    said.append([code, status("VmHWM"), time.process_time() - start])
print("\\n" + json.dumps(said))
"""


@dataclass(frozen=True)
class Ended:
    """How the verbs ended, in their order; `told` is what each said on stderr."""

    codes: list[int]
    peaks_bytes: list[int]
    seconds: list[float]
    told: list[str]
    stderr: str

    @property
    def peak_bytes(self) -> int:
        """The most memory that any took."""
        return self.peaks_bytes[-1]


def run_verbs(words: Sequence[Sequence[str]], timeout_s: float = 250) -> Ended:
    """Run `pano WORDS` for each; memory and time are those of one process."""
    done = subprocess.run(
        [sys.executable, "-c", _CHILD],
        input=json.dumps(words),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    assert done.returncode == 0, done.stderr
    codes, peaks, seconds = zip(*json.loads(done.stdout.splitlines()[-1]), strict=True)
    told = [part.strip() for part in done.stderr.split("<verb>\n")[1:]]
    return Ended(list(codes), list(peaks), list(seconds), told, done.stderr)
