"""What runs on a node for one scene: write the job file, run the worker process, say how it ended.

A plain function of plain data (`run_scene`), so that tests call it without Ray. It is the Ray task's whole body: paths
and digests go in and out, pixels never. The worker (`datagen.worker`) is a process of its own, so nothing that Blender
does can take the node's Ray worker along.
"""

import platform
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from cluster.config import LimitsConfig
from cluster.process import Limits, ProcessOutcome, run_watched
from cluster.records import SceneRecord, State, write_record
from datagen.config import RenderConfig, SceneJob
from datagen.worker import SceneRequest, SceneResult
from pano.storage import write_bytes_atomic


@dataclass(frozen=True)
class SceneTask:
    """All that a node needs to make one scene."""

    run: str
    job: SceneJob
    render: RenderConfig
    config_sha256: str
    limits: LimitsConfig
    threads: int


def run_scene(task: SceneTask) -> SceneRecord:
    """Make one scene and commit its record. Never raises for anything the worker does; StorageError if the run folder
    cannot be written."""
    run = Path(task.run)
    folder = run / "work" / task.job.key
    result, log = folder / "result.json", run / "logs" / f"{task.job.key}.log"
    request = SceneRequest(
        scene=task.job, render=task.render, staged=run / "staged", result=result, config_sha256=task.config_sha256,
    )
    write_bytes_atomic(folder / "job.json", request.model_dump_json(indent=1).encode())
    result.unlink(missing_ok=True)
    threads = str(task.threads)
    outcome = run_watched(
        [sys.executable, "-m", "datagen.worker", str(folder / "job.json")], log,
        Limits(min(task.limits.scene_timeout_s, task.render.time_limit_s), task.limits.no_progress_s),
        environment={"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads},
    )
    record = record_of(task, outcome, _read_result(result), str(log.relative_to(run)))
    write_record(run, record)
    return record


def _read_result(path: Path) -> SceneResult | None:
    try:
        return SceneResult.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def record_of(task: SceneTask, outcome: ProcessOutcome, result: SceneResult | None, log: str) -> SceneRecord:
    """Judge a scene by what its worker left, not by its exit code alone: a result that is whole counts even if Blender
    crashed on the way out; no result is a failure even after exit code 0."""
    state: State = result.outcome if result else "failed"
    if result is None:
        reason = f"worker left no result ({outcome.describe()})"
    elif state == "failed":
        reason = result.error
    else:
        reason = None if state == "done" else "no pose of any seed was accepted"
    return SceneRecord(
        scene=task.job.key, state=state, reason=reason,
        panoramas=tuple(panorama.key for panorama in result.panoramas) if result else (),
        rejected_poses=dict(Counter(rejection.reason for rejection in result.rejections)) if result else {},
        config_sha256=task.config_sha256, seconds=round(outcome.seconds, 3),
        timings_s=dict(result.timings_s) if result else {}, peak_memory_mb=result.peak_memory_mb if result else None,
        node=platform.node(), log=log, log_tail=outcome.log_tail if state == "failed" else "",
    )
