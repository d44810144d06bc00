"""`run.json`: what was run here, with what, on what, and how long each stage took.

One file per run folder; each verb adds or replaces its own stage. What failed does not take the
place of what was done, whose results still stand: it goes beside it, under `failed`, until the
stage is done again. What was refused because another process is at work was never begun, and is not
recorded. It is a record for people and reports, never an input of a computation, so two runs of the
same config differ here and nowhere else.
"""

import contextlib
import fcntl
import json
import os
import platform
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
from pydantic import BaseModel

from panoforge.core import __version__
from panoforge.core.run_layout import RUN_FILE
from panoforge.core.storage.atomic import storage_errors, write_bytes_atomic
from panoforge.core.storage.lease import InUse

MAX_RUN_BYTES = 64 << 20
PACKAGES = (
    "bpy",
    "infinigen",
    "numpy",
    "opencv-python",
    "pyarrow",
    "ray",
    "sam2",
    "torch",
    "torchvision",
    "zstandard",
)


def versions() -> dict[str, str]:
    """Versions of panoforge, Python and the packages that shape results.

    Packages that are not installed are left out.
    """
    found = {"panoforge": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def hardware() -> dict[str, str]:
    """Processor, cores this process may use, and memory of this machine."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return {
        "processor": model,
        "cores": str(len(os.sched_getaffinity(0))),
        "memory_gb": f"{psutil.virtual_memory().total / 1e9:.0f}",
        "system": f"{platform.system()} {platform.machine()}",
    }


def read_run(run: Path) -> dict[str, Any]:
    """The stages recorded so far.

    Empty where there is no readable record (it is no input of anything).
    """
    try:
        path = run / RUN_FILE
        if not path.is_file() or path.stat().st_size > MAX_RUN_BYTES:  # a pipe waits for ever
            return {"stages": {}}
        data = json.loads(path.read_text())
        return data if isinstance(data["stages"], dict) else {"stages": {}}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {"stages": {}}


@contextlib.contextmanager
def record_stage(
    run: Path, stage: str, config: BaseModel | None, **facts: Any
) -> Iterator[dict[str, Any]]:
    """Record a stage of a run.

    Yields a dict for its results, and writes config, versions, hardware, start and seconds beside
    them when the stage ends, however it ends.
    """
    made = not run.exists()
    with storage_errors(run):
        run.mkdir(parents=True, exist_ok=True)
    entry: dict[str, Any] = {
        **facts,
        "config": config.model_dump(mode="json") if config else None,
        "versions": versions(),
        "hardware": hardware(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "outcome": "failed",
    }
    begin = time.monotonic()
    if (
        os.environ.get("RANK", "0") != "0"
    ):  # under torchrun every rank comes by; the first one keeps the record
        yield entry
        return
    try:
        yield entry
        entry["outcome"] = "done"
    except InUse:
        if made:
            with contextlib.suppress(OSError):  # whoever is at work there has put something in it
                run.rmdir()
        raise
    except BaseException:
        _add(run, stage, entry, begin)
        raise
    _add(run, stage, entry, begin)


def _add(run: Path, stage: str, entry: dict[str, Any], begin: float) -> None:
    """Put a stage that has ended into the record; of a failed one, beside what was done."""
    entry["seconds"] = round(time.monotonic() - begin, 3)
    with _alone(run):
        record = read_run(run)
        stages, failed = record["stages"], record.get("failed")
        failed = dict(failed) if isinstance(failed, dict) else {}
        earlier = stages.get(stage)
        stands = isinstance(earlier, dict) and earlier.get("outcome") == "done"
        if entry["outcome"] == "failed" and stands:
            failed[stage] = entry
        else:
            stages[stage] = entry
            failed.pop(stage, None)
        data = {"schema_version": 1, "stages": stages, **({"failed": failed} if failed else {})}
        write_bytes_atomic(
            run / RUN_FILE, json.dumps(data, indent=1, ensure_ascii=False).encode() + b"\n"
        )


@contextlib.contextmanager
def _alone(run: Path) -> Iterator[None]:
    """No other process of this machine changes the record meanwhile: stages may end together."""
    with storage_errors(run):
        folder = os.open(run, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # not every file system has locks
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
