"""The GPU that this process computes on as nvidia-smi knows it: its name, and what it draws."""

import contextlib
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def watts(every_s: float = 0.5) -> Iterator[list[float]]:
    """What the GPU draws, look by look, in a `with` block; empty without nvidia-smi."""
    found: list[float] = []
    ended = threading.Event()
    thread = threading.Thread(target=_watch, args=(found, ended, every_s), daemon=True)
    if _has_gpu():
        thread.start()
    try:
        yield found
    finally:
        ended.set()
        if thread.is_alive():
            thread.join()


def mean_watts(found: list[float]) -> float | None:
    """The mean of `watts`; None where nothing was measured."""
    return sum(found) / len(found) if found else None


def _watch(found: list[float], ended: threading.Event, every_s: float) -> None:
    while not ended.wait(every_s):
        with contextlib.suppress(ValueError, OSError, IndexError, subprocess.SubprocessError):
            found.append(float(_ask("power.draw").split()[0]))


def gpu_name() -> str | None:
    """The first GPU that may be used; None without one."""
    if not _has_gpu():
        return None
    with contextlib.suppress(OSError, IndexError, subprocess.SubprocessError):
        return _ask("name").strip()
    return None


def _has_gpu() -> bool:
    """Whether anything can be asked: a machine of GPUs may have them hidden from this process."""
    return shutil.which("nvidia-smi") is not None and os.environ.get("CUDA_VISIBLE_DEVICES") != ""


def _ask(what: str) -> str:
    command = ["nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader,nounits"]
    if own := os.environ.get("CUDA_VISIBLE_DEVICES"):
        command.append(f"--id={own.split(',')[0]}")
    said = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    return said.splitlines()[0]
