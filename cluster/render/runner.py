"""The render runner: the scenes of a config as Ray tasks, resumable, with a progress bar.

One scene never stops it.

Takes a `RenderJobConfig`, leaves `<run>/staged`, the ledger and `<run>/logs`; gives a
`RenderSummary`. One driver at a time holds the run (panoforge.core.storage.lease); what the ledger
knows to be settled is not done again; `panoforge.cluster.render.driver` does the rest.
"""

import contextlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from panoforge.cluster.config.jobs import RenderJobConfig
from panoforge.cluster.ray.metrics import RunMetrics
from panoforge.cluster.ray.packer import Packer
from panoforge.cluster.ray.session import ray_session
from panoforge.cluster.render.driver import Driver
from panoforge.cluster.render.executor import RayExecutor
from panoforge.cluster.render.images import image_config_sha256
from panoforge.cluster.render.rebuild import rebuild
from panoforge.cluster.state.job_file import save_job
from panoforge.cluster.state.ledger import AttemptRecord, Ledger
from panoforge.cluster.state.scene_states import COLUMNS, SceneState, SceneStates, read_scene_states
from panoforge.cluster.state.tally import Tally, sum_json_columns, tally
from panoforge.core.drain import Drain
from panoforge.core.errors import StorageError, UserError
from panoforge.core.progress import Progress
from panoforge.core.run_layout import DATASET, STAGED, WORK
from panoforge.core.shards.layout import read_manifest
from panoforge.core.storage.atomic import TEMPORARY_PREFIX, storage_errors, sweep_temporaries
from panoforge.core.storage.lease import Lease
from panoforge.core.storage.location import with_absolute_paths
from panoforge.datagen.config.render import plan_scene


@dataclass(frozen=True)
class SceneRecord:
    """How one scene stands: done, rejected, failed (quarantined) or open."""

    scene: str
    state: str
    reason: str
    panoramas: tuple[str, ...]
    timings_s: dict[str, float]


@dataclass(frozen=True)
class RenderSummary:
    """How a run stands: its tally, and how many scenes this call settled."""

    ledger: Ledger
    tally: Tally
    made_now: int
    interrupted: bool

    @property
    def panoramas(self) -> int:
        """Panoramas that the run has staged."""
        return self.tally.panoramas

    def count(self, state: str) -> int:
        """Scenes that are done, rejected, failed or open."""
        return self.tally.states.get("quarantined" if state == "failed" else state, 0)

    @property
    def reasons(self) -> dict[str, int]:
        """Why scenes failed or were rejected, and why poses were."""
        return {
            **self.tally.reasons,
            **{
                f"pose or seed rejected: {reason}": count for reason, count in self._sums[1].items()
            },
        }

    @property
    def seconds_by_phase(self) -> dict[str, float]:
        """Seconds of all attempts by phase of the worker."""
        return self._sums[0]

    @cached_property
    def _sums(self) -> tuple[dict[str, float], dict[str, int]]:
        return sum_json_columns(self.ledger, self.tally.total)

    @property
    def records(self) -> tuple[SceneRecord, ...]:
        """One record per scene that anything is known of, in order.

        Reads the whole ledger: for small runs.
        """
        by_index: dict[int, list[AttemptRecord]] = {}
        for record in self.ledger.records():
            if record.index < self.tally.total:
                by_index.setdefault(record.index, []).append(record)
        names = {
            "fault": "open",
            "retry": "open",
            "quarantined": "failed",
            "rejected": "rejected",
            "done": "done",
        }
        ends = (
            next((record for record in records if record.outcome == "done"), records[-1])
            for records in by_index.values()
        )
        return tuple(
            SceneRecord(end.scene, names[end.outcome], end.reason, end.panoramas, end.timings_s)
            for end in ends
        )


def render(config: RenderJobConfig) -> RenderSummary:
    """Render what is missing of a run.

    Returns a summary also when scenes failed; raises UserError only when the run as a whole cannot
    go on (no disk, no Ray, another driver).
    """
    config = with_absolute_paths(config)  # nodes and workers have other working folders
    ledger = Ledger(config.ledger_url)
    with storage_errors(config.run):
        (config.run / STAGED).mkdir(parents=True, exist_ok=True)
    made = 0
    with (
        Lease(ledger.store, str(config.run), "pano render", keep=True) as lease,
        Drain("stopping after the scenes that are running") as drain,
    ):
        save_job(config)
        scene_states = _open_scene_states(config, ledger)
        scenes, left = config.render.scenes, scene_states.count(SceneState.OPEN)
        with Progress("render", total=scenes, already=scenes - left) as progress:
            if left or _is_to_be_packed(config):
                with (
                    ray_session(config.ray),
                    contextlib.closing(RayExecutor(config.ray)) as executor,
                ):
                    if left:
                        executor.check_device(config.render.device)
                    driver = Driver(
                        config,
                        scene_states,
                        ledger,
                        executor,
                        stopped=lambda: drain.asked,
                        check=lease.check,
                        say=progress.log,
                        packer=_packer(config, progress.log),
                    )
                    lease.payload = driver.heartbeat
                    metrics = RunMetrics(config.run.name, scene_states, progress.log)
                    for record in driver.records():
                        made += _show(record, progress)
                        metrics.note(record)
        _tidy(config, ledger)
        sums, _ = tally(ledger, config.render.scenes, list_keys(config.run / STAGED))
        return RenderSummary(ledger, sums, made, interrupted=drain.asked)


def _packer(config: RenderJobConfig, say: Callable[[str], None]) -> Packer | None:
    if not config.packing.while_rendering:
        return None
    return Packer(
        config.packing,
        config.run / STAGED,
        config.run / DATASET,
        config.render.scenes,
        lambda index: plan_scene(config.render, index).key,
        say,
    )


def _is_to_be_packed(config: RenderJobConfig) -> bool:
    """Whether a driver was stopped between the last scene and the last shard."""
    keys = list_keys(config.run / STAGED)
    try:
        return (
            config.packing.while_rendering
            and bool(keys)
            and read_manifest(config.run / DATASET).samples != len(keys)
        )
    except UserError:  # no manifest yet, or a damaged one
        return True


def _tidy(config: RenderJobConfig, ledger: Ledger) -> None:
    """Take away what attempts that were killed left lying.

    Nothing runs any more, or what still does is given up as lost.
    """
    shutil.rmtree(config.run / WORK, ignore_errors=True)
    with contextlib.suppress(StorageError):  # on a full disk the next driver does it
        ledger.compact_all()
        sweep_temporaries(config.run / STAGED)


def _open_scene_states(config: RenderJobConfig, ledger: Ledger) -> SceneStates:
    """Sweep what a killed driver left, and read where each scene stands. The lease must be held."""
    asked, digest = config.render, image_config_sha256(config.render)
    ledger.declare(digest, {"scenes": asked.scenes, "seed": asked.seed})
    shutil.rmtree(config.run / WORK, ignore_errors=True)
    sweep_temporaries(config.run / STAGED)
    keys = list_keys(config.run / STAGED)
    if keys and ledger.is_empty():
        rebuild(ledger, asked, config.run / STAGED, keys, digest)
    ledger.compact_all()
    return read_scene_states(ledger.table(COLUMNS), asked.scenes, keys)


def _show(record: AttemptRecord, progress: Progress) -> int:
    """Tell the person at the terminal; gives 1 if the record settles its scene."""
    if record.outcome == "quarantined":
        progress.fail()
        progress.log(f"{record.scene} failed: {record.reason}")
    elif record.outcome == "rejected":
        progress.log(f"{record.scene} rejected: {record.reason}")
    elif record.outcome == "fault":
        progress.log(
            f"{record.scene}, attempt {record.attempt}:"
            f" {record.reason}\n{_indented(record.log_tail)}".rstrip()
        )
    settles = record.outcome in ("done", "rejected", "quarantined")
    progress.advance(int(settles))
    return int(settles)


def _indented(text: str, lines: int = 15) -> str:
    return "\n".join("    " + line for line in text.splitlines()[-lines:])


def list_keys(staged: Path) -> set[str]:
    """Keys of all staged panoramas, by one listing without a look at any of them."""
    if not staged.is_dir():
        return set()
    with storage_errors(staged):
        return {
            entry.name
            for entry in os.scandir(staged)
            if not entry.name.startswith(TEMPORARY_PREFIX)
        }
