"""A verb that labels two files, killed -9 after the first and given again."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from panoforge.core.shards.verify import verify


def killed_and_given_again(out: Path, *words: str) -> None:
    """Run `pano WORDS --out OUT` that way: what was done stays, the rest comes, all is whole."""
    command = [sys.executable, "-m", "panoforge", *words, "--out", str(out)]
    process = subprocess.Popen(command, start_new_session=True)
    try:
        deadline = time.monotonic() + 240
        while not list((out / "items").glob("*.json")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    (done,) = (out / "items").glob("*.json")
    before = done.stat().st_mtime_ns
    assert not (out / "dataset").exists()
    subprocess.run(command, check=True, timeout=240)
    assert done.stat().st_mtime_ns == before and len(list((out / "items").glob("*.json"))) == 2
    assert not verify(out / "dataset").faults
