"""What runs on a node for one attempt at one scene.

Run the worker, judge it, commit what it made, record it.

A plain function of plain data (`run_scene`), so that tests call it without Ray. It is the Ray
task's whole body: paths and digests go in and out, pixels never. The worker
(`panoforge.datagen.worker`) is a process of its own, so nothing that Blender does can take the
node's Ray worker along. The node itself writes the record: a driver that dies meanwhile loses
nothing.
"""

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from panoforge.cluster.process.process import (
    Limits,
    ProcessOutcome,
    run_watched,
)
from panoforge.cluster.render.commit import Checked, check_output, commit
from panoforge.cluster.state.ledger import (
    RANDOM_PART,
    AttemptRecord,
    Ledger,
    attempt_prefix,
    new_id,
)
from panoforge.cluster.state.policy import AttemptFault, Profile, Verdict, classify
from panoforge.core.errors import StorageError
from panoforge.core.process_identity import start_ticks
from panoforge.core.run_layout import LOGS, STAGED, WORK
from panoforge.core.storage.atomic import storage_errors
from panoforge.datagen.config.render import RenderConfig, SceneJob
from panoforge.datagen.messages import SceneRequest, SceneResult

MAX_RESULT_BYTES = 64 << 20


@dataclass(frozen=True)
class SceneTask:
    """All that a node needs for one attempt.

    `render` is the config of this attempt's profile, `limits` too.
    """

    run: str
    ledger: str
    worker: str
    job: SceneJob
    render: RenderConfig
    job_sha256: str
    image_sha256: str
    limits: Limits
    threads: int
    attempt: int
    profile: Profile
    cpus: float
    gpus: float


def begun_unix_s(task: SceneTask) -> float | None:
    """When a node began the task, by its folder; None if none is at it.

    The folder is there from the first moment to the last, and stays where a worker was killed.
    """
    prefix = attempt_prefix(task.job.index, task.attempt)
    for folder in (Path(task.run) / WORK).glob(f"{prefix}*"):
        for path in (folder / "job.json", folder):  # a folder's own time changes with its entries
            with contextlib.suppress(OSError):
                return path.stat().st_mtime
    return None


def has_begun(task: SceneTask) -> bool:
    """Whether a node works on the task."""
    return begun_unix_s(task) is not None


def begun_attempts(run: Path) -> set[str]:
    """Which attempts nodes work on, as `attempt_prefix` names them: one listing of the run."""
    with contextlib.suppress(OSError), os.scandir(run / WORK) as entries:
        return {entry.name[: -len(RANDOM_PART)] for entry in entries}
    return set()


def run_scene(task: SceneTask, node: str) -> AttemptRecord:
    """Make one attempt and commit its record.

    Never raises for anything the worker does; StorageError if the ledger cannot be written.
    """
    run = Path(task.run)
    record_id = new_id(task.job.index, task.attempt)
    folder, log = run / WORK / record_id, run / LOGS / f"{task.job.key}.log"
    started = time.time()
    try:
        outcome, result = _run_worker(task, folder, log, node)
        verdict, panoramas = _judge(task, outcome, result, folder / STAGED, run / STAGED)
    except StorageError as error:
        outcome, result, panoramas = (
            ProcessOutcome(None, None, None, time.time() - started, ""),
            None,
            [],
        )
        verdict = Verdict("fault", AttemptFault.DISK, str(error))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(_scratch(record_id), ignore_errors=True)
    record = AttemptRecord(
        id=record_id,
        index=task.job.index,
        scene=task.job.key,
        attempt=task.attempt,
        outcome=verdict.outcome,
        fault=verdict.fault,
        reason=verdict.reason[:2000],
        profile=task.profile,
        panoramas=tuple(item.key for item in panoramas),
        digests=tuple(item.label_sha256 for item in panoramas),
        staged_bytes=sum(item.bytes for item in panoramas),
        rejected_poses=(
            dict(Counter(rejection.reason for rejection in result.rejections)) if result else {}
        ),
        timings_s=dict(result.timings_s) if result else {},
        job_sha256=task.job_sha256,
        image_sha256=task.image_sha256,
        node=node,
        started_unix_s=started,
        seconds=round(outcome.seconds, 3),
        cpus=task.cpus,
        gpus=task.gpus,
        peak_memory_mb=round(
            max(outcome.peak_bytes / 1e6, result.peak_memory_mb if result else 0.0), 1
        ),
        exit=outcome.describe(),
        log=f"{LOGS}/{log.name}",
        log_tail=outcome.log_tail if verdict.outcome == "fault" else "",
    )
    Ledger(task.ledger).write(record)
    return record


def _run_worker(
    task: SceneTask, folder: Path, log: Path, node: str
) -> tuple[ProcessOutcome, SceneResult | None]:
    """Run the worker on the task's job file.

    Gives how it ended and its result, if it left a whole one.
    """
    result = folder / "result.json"
    request = SceneRequest(
        scene=task.job,
        render=task.render,
        staged=folder / STAGED,
        result=result,
        config_sha256=task.image_sha256,
    )
    with storage_errors(folder):
        (folder / STAGED).mkdir(parents=True)
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "a", encoding="utf-8") as file:
            file.write(
                f"--- attempt {task.attempt}, profile {task.profile}, on {node},"
                f" {time.strftime('%F %TZ', time.gmtime())}\n"
            )
        (folder / "job.json").write_bytes(
            request.model_dump_json(indent=1).encode()
        )  # nobody reads it after a crash
    threads = str(task.threads)
    with storage_errors(tempfile.gettempdir()):
        scratch = _scratch(folder.name, make=True)
    environment = {
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "TMPDIR": str(scratch),
    }
    with storage_errors(log):
        outcome = run_watched(
            [sys.executable, "-m", task.worker, str(folder / "job.json")],
            log,
            environment,
            task.limits,
        )
    return outcome, _read_result(result, task.job.key)


def _scratch(record_id: str, *, make: bool = False) -> Path:
    """Where a worker's temporary files go: on the node's own disk.

    They are gone with the attempt even if it was killed. Making one also sweeps those whose Ray
    worker died; their names begin with its process and when that began.
    """
    home = Path(tempfile.gettempdir()) / f"panoforge-{os.getuid()}"
    scratch = home / f"{os.getpid()}-{start_ticks(os.getpid())}-{record_id}"
    if make:
        scratch.mkdir(parents=True, exist_ok=True)
        for other in home.iterdir():
            pid, ticks, *_ = other.name.split("-")
            if str(start_ticks(int(pid))) != ticks:
                shutil.rmtree(other, ignore_errors=True)
    return scratch


def _read_result(path: Path, key: str) -> SceneResult | None:
    try:
        if path.stat().st_size > MAX_RESULT_BYTES:
            return None
        result = SceneResult.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
    return result if result.key == key else None


def _judge(
    task: SceneTask, outcome: ProcessOutcome, result: SceneResult | None, made: Path, staged: Path
) -> tuple[Verdict, list[Checked]]:
    """The verdict on an attempt; if it is done, its panoramas are in `staged` afterwards."""
    verdict = classify(outcome, result)
    if verdict.outcome != "done" or result is None:
        return verdict, []
    with storage_errors(made):
        checked = check_output(
            made,
            result,
            set(task.job.sample_keys),
            task.render.quality.min_spread,
        )
    if isinstance(checked, str):
        return Verdict("fault", AttemptFault.BAD_OUTPUT, checked), []
    for panorama in checked:
        commit(made / panorama.key, staged / panorama.key)
    return verdict, checked
