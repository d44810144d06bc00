"""One scene in, staged panoramas out; always its own process: `python -m panoforge.datagen.worker
JOB.json`.

The job file is a `SceneRequest`, the result file a `SceneResult`, written atomically as the last
act. Blender may run out of memory, hang or crash, so nothing of it lives in the parent: the parent
reads the result file, and no result file means a crash. Importing this module loads no bpy; the
work does. A rejected panorama moves to the next pose, a scene without any accepted panorama to the
next seed, and `rejected` with all the reasons is a proper result with exit code 0.
"""

import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from panoforge.core.models import FrozenModel
from panoforge.datagen.config import RenderConfig, SceneJob


class SceneRequest(FrozenModel):
    """What the parent asks for: the scene, the resolved config, and where results go."""

    scene: SceneJob
    render: RenderConfig
    staged: Path
    result: Path
    config_sha256: str


class Panorama(FrozenModel):
    """A staged panorama: paths and digests, never pixels."""

    key: str
    sha256: dict[str, str]  # product suffix → hex digest
    instances: int
    timings_s: dict[str, float]


class Rejection(FrozenModel):
    """A pose or a whole seed that was refused, and why."""

    seed: int
    pose: int | None
    reason: str
    detail: str


class SceneResult(FrozenModel):
    """What became of the scene. `timings_s` sums the phases over everything tried, rejected
    panoramas included.
    """

    key: str
    outcome: Literal["done", "rejected", "failed"]
    panoramas: tuple[Panorama, ...] = ()
    rejections: tuple[Rejection, ...] = ()
    error: str | None = None  # for `failed`: one line; the traceback is in the log
    timings_s: dict[str, float] = {}
    cpu_s: float = (
        0.0  # core-seconds of this process, imports included: what a panorama really costs
    )
    cpu_by_phase_s: dict[str, float] = {}
    peak_memory_mb: float = 0.0
    device: str = ""
    notes: tuple[str, ...] = ()


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


def read_request(path: Path) -> SceneRequest:
    """Parse a job file; pydantic's ValidationError if it is not one."""
    return SceneRequest.model_validate_json(path.read_bytes())


def write_result(path: Path, result: SceneResult) -> None:
    """Commit the result file."""
    from panoforge.core.storage.atomic import write_bytes_atomic

    write_bytes_atomic(path, json.dumps(result.model_dump(mode="json"), indent=1).encode() + b"\n")


def run(request: SceneRequest) -> SceneResult:
    """Make the scene. Needs bpy; changes the whole process."""
    from panoforge.datagen.pipeline import render_scene

    timer = Timer()
    with tempfile.TemporaryDirectory(prefix="panoforge-") as folder:
        try:
            return render_scene(request, timer, Path(folder))
        except Exception as error:
            from panoforge.core.errors import UserError

            if not isinstance(error, UserError):
                traceback.print_exc()
            return SceneResult(
                key=request.scene.key,
                outcome="failed",
                error=f"{type(error).__name__}: {error}",
                timings_s=timer.seconds,
                cpu_s=cpu_seconds(),
                cpu_by_phase_s=timer.cpu,
                peak_memory_mb=peak_memory_mb(),
            )


def cpu_seconds() -> float:
    """User and system time of this process so far."""
    times = os.times()
    return times.user + times.system


def peak_memory_mb() -> float:
    """Largest resident size of this process so far."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m panoforge.datagen.worker JOB.json", file=sys.stderr)
        return 2
    request = read_request(Path(arguments[0]))
    result = run(request)
    write_result(request.result, result)
    say(
        f"{result.key} {result.outcome}: {len(result.panoramas)} panoramas,"
        f" {len(result.rejections)} rejections"
    )
    return 1 if result.outcome == "failed" else 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    if "bpy" in sys.modules:
        from panoforge.datagen.defects import exit_now

        exit_now(code)
    sys.exit(code)
