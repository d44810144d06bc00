"""The render runner: the scenes of a config as Ray tasks, with a progress bar, resumable, never stopped by one scene.

Takes a `RenderJobConfig`, leaves `<run>/staged`, one record per scene in `<run>/scenes` and logs in `<run>/logs`; gives a
`RenderSummary`. What is settled already (cluster.records) is not done again. A bounded number of tasks is in flight;
Ray's own retries are off, because what a failure means is decided here and not by the scheduler.
"""

import contextlib
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cluster.config import RenderJobConfig
from cluster.ray_session import ray_session
from cluster.records import SceneRecord, settled
from cluster.scene_task import SceneTask, run_scene
from datagen.config import RenderConfig, plan_scenes
from pano.config import config_sha256
from pano.errors import UserError
from pano.progress import Progress
from pano.storage import storage_errors, sweep_temporaries

# What may differ between two renders of the same panoramas: how many are made, and where and how fast.
_NOT_PART_OF_THE_IMAGE = {"scenes", "threads", "time_limit_s"}


@dataclass(frozen=True)
class RenderSummary:
    """How a run stands: records of all its scenes, and how many of them this call made."""

    records: tuple[SceneRecord, ...]
    made_now: int
    interrupted: bool

    @property
    def panoramas(self) -> int:
        return sum(len(record.panoramas) for record in self.records)

    def count(self, state: str) -> int:
        return sum(record.state == state for record in self.records)

    @property
    def reasons(self) -> dict[str, int]:
        """Why scenes failed or were rejected, and why poses were."""
        reasons: Counter[str] = Counter()
        for record in self.records:
            if record.state != "done":
                reasons[f"{record.state}: {record.reason}"] += 1
            for reason, count in record.rejected_poses.items():
                reasons[f"pose rejected: {reason}"] += count
        return dict(reasons.most_common())


def image_config_sha256(config: RenderConfig) -> str:
    """Digest of what shapes the pixels and labels: the render config less counts, threads and limits. Panoramas of
    equal digest and seed are the same panoramas."""
    render = RenderConfig.model_validate(config.model_dump(include=set(RenderConfig.model_fields)))
    plain = render.model_copy(update={name: RenderConfig.model_fields[name].default for name in _NOT_PART_OF_THE_IMAGE})
    return config_sha256(plain)


def render(config: RenderJobConfig) -> RenderSummary:
    """Render what is missing of a run. Returns a summary also when scenes failed; raises UserError only when the run
    as a whole cannot go on (no disk, no Ray)."""
    run = config.run.absolute()  # nodes and workers have other working folders
    digest = image_config_sha256(config)
    with storage_errors(run):
        (run / "staged").mkdir(parents=True, exist_ok=True)
    jobs = plan_scenes(config)
    records: dict[str, SceneRecord] = {}
    for job in jobs:
        if record := settled(run, job.key, digest):
            records[job.key] = record
    sweep_temporaries(run / "staged")
    render_config = RenderConfig.model_validate(config.model_dump(include=set(RenderConfig.model_fields)))
    threads = config.threads or max(1, int(config.ray.cpus_per_scene))
    tasks = [
        SceneTask(str(run), job, render_config.model_copy(update={"threads": threads}), digest, config.limits, threads)
        for job in jobs if job.key not in records
    ]
    made = 0
    with Progress("render", total=len(jobs)) as progress, _drain_on_signal() as stopped:
        progress.advance(len(records))
        if tasks:
            with ray_session(config.ray):
                for record in _in_flight(tasks, config, stopped):
                    records[record.scene] = record
                    made += 1
                    if record.state == "failed":
                        progress.fail()
                        progress.log(f"{record.scene} failed: {record.reason}\n{_indented(record.log_tail)}")
                    elif record.state == "rejected":
                        progress.log(f"{record.scene} rejected: {record.reason}")
                    progress.advance()
    ordered = tuple(records[job.key] for job in jobs if job.key in records)
    return RenderSummary(ordered, made, interrupted=stopped())


def _in_flight(tasks: list[SceneTask], config: RenderJobConfig, stopped: Callable[[], bool]) -> Iterator[SceneRecord]:
    """Hand tasks to Ray, a bounded number at a time, and yield records as they come. A stop signal hands out no more
    and waits for what runs."""
    import ray

    resources: dict[str, float] = {"num_cpus": config.ray.cpus_per_scene, "num_gpus": config.ray.gpus_per_scene}
    if config.ray.memory_per_scene_gb:
        resources["memory"] = config.ray.memory_per_scene_gb * 1e9
    remote = ray.remote(max_retries=0, **resources)(run_scene)
    slots = max(1, int(ray.cluster_resources().get("CPU", 1) / config.ray.cpus_per_scene))
    waiting = list(reversed(tasks))
    running: dict[ray.ObjectRef, SceneTask] = {}
    while running or (waiting and not stopped()):
        while waiting and not stopped() and len(running) < slots * config.ray.in_flight_per_slot:
            task = waiting.pop()
            running[remote.remote(task)] = task
        done, _ = ray.wait(list(running), num_returns=1, timeout=1.0)
        for reference in done:
            task = running.pop(reference)
            try:
                yield ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, UserError):
                    raise error.cause from None
                raise
            except ray.exceptions.RayError as error:  # the node or Ray's worker died under it
                yield _lost(task, error)


def _lost(task: SceneTask, error: Exception) -> SceneRecord:
    return SceneRecord(
        scene=task.job.key, state="failed", reason=f"its node was lost ({type(error).__name__})", panoramas=(),
        config_sha256=task.config_sha256, seconds=0.0, node="?", log=f"logs/{task.job.key}.log", log_tail=str(error)[-2000:],
    )


@contextlib.contextmanager
def _drain_on_signal() -> Iterator[Callable[[], bool]]:
    """The first SIGINT or SIGTERM asks for a drain (the yielded function turns true); the second one stops at once."""
    seen = 0

    def on_signal(number: int, frame: object) -> None:
        nonlocal seen
        seen += 1
        if seen > 1:
            raise KeyboardInterrupt
        os.write(2, b"\nstopping after the scenes that are running; once more stops at once\n")

    try:
        before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: signals are somebody else's
        yield lambda: False
        return
    try:
        yield lambda: seen > 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _indented(text: str, lines: int = 15) -> str:
    return "\n".join("    " + line for line in text.splitlines()[-lines:])


def staged_folder(run: Path) -> Path:
    """Where a run stages its panoramas."""
    return run / "staged"
