"""`pano retry` and `pano logs`: forgive failed scenes, and read what one scene did."""

import difflib
import shlex
import time
from pathlib import Path

import pyarrow.compute as pc

from panoforge.cluster.state.job_file import ledger_of, load_job
from panoforge.cluster.state.ledger import AttemptRecord, Ledger, new_id, to_records
from panoforge.cluster.state.policy import AttemptFault
from panoforge.cluster.state.scene_states import SceneState
from panoforge.cluster.state.tally import tally
from panoforge.core.errors import DataError, UsageError
from panoforge.core.foreign.files import own_path
from panoforge.core.numbers import counted
from panoforge.core.run_layout import LOGS
from panoforge.core.storage.location import absolute, location
from panoforge.datagen.config.render import RenderConfig, plan_scene

TAIL_BYTES = 200_000


def retry(run: Path, reason: str | None, ledger_url: Path | str | None = None) -> list[str]:
    """Forgive failed scenes, so that the next `pano render` makes them.

    Their faults stay in the ledger.

    Args:
        run: The run's folder.
        reason: A kind of fault, or a part of the reason's text; None forgives all.
        ledger_url: Where the run's ledger is, if that is not the run's folder. It is written to,
            and what a run's files say is not asked: another may have made them.

    Returns:
        The names of the scenes.

    Raises:
        UsageError: No failed scene has that reason, or the ledger that the run names is outside of
            it and not the one given.
    """
    config = load_job(run)
    given = None if ledger_url is None else str(absolute(location(str(ledger_url))))
    if given != config.ledger_url and (given is not None or _leads_out(run, config.ledger_url)):
        raise UsageError(
            f"{run} says that its ledger is {config.ledger_url}"
            + (f", not {given}" if given else ", outside of the run")
            + ": a retry is written there only if you name it, since others may have made the run's"
            f" files. Say --ledger {shlex.quote(config.ledger_url)} if it is yours"
        )
    ledger = ledger_of(config)
    _, scene_states = tally(ledger, config.render.scenes)
    last: dict[int, AttemptRecord] = {}
    for record in _quarantined(ledger):
        if scene_states.codes[record.index] == SceneState.QUARANTINED:
            last[record.index] = record
    chosen = [record for record in last.values() if _matches(record, reason)]
    if reason is not None and not chosen:
        kinds = sorted({str(record.fault) for record in last.values()})
        raise UsageError(
            f"no failed scene of {run} has the reason {reason!r}. "
            + (f"Failed scenes have: {', '.join(kinds)}" if kinds else "No scene of it failed")
        )
    for record in chosen:
        ledger.write(
            AttemptRecord(
                id=new_id(record.index, record.attempt),
                index=record.index,
                scene=record.scene,
                attempt=record.attempt,
                outcome="retry",
                fault=record.fault,
                reason="forgiven by pano retry",
                job_sha256=record.job_sha256,
                started_unix_s=time.time(),
                log=record.log,
            )
        )
    return [record.scene for record in chosen]


def _leads_out(run: Path, ledger_url: str) -> bool:
    """Whether a ledger is no folder of the run, links resolved."""
    return "://" in ledger_url or not Path(ledger_url).resolve().is_relative_to(run.resolve())


def _quarantined(ledger: Ledger) -> list[AttemptRecord]:
    table = ledger.table()
    rows = to_records(table.filter(pc.equal(table["outcome"], "quarantined")))
    return sorted(rows, key=lambda record: (record.index, record.attempt))


def _matches(record: AttemptRecord, reason: str | None) -> bool:
    if reason is None:
        return True
    if reason in {str(fault) for fault in AttemptFault}:
        return record.fault == reason
    return reason.lower() in record.reason.lower()


def scene_log(run: Path, scene: str) -> tuple[list[AttemptRecord], str]:
    """(attempts, the end of the log) of a scene, given by its name or its number."""
    config = load_job(run)
    name = _scene_name(config.render, scene)
    attempts = ledger_of(config).of_scene(name)
    path = run / LOGS / f"{name}.log"
    if not path.is_file():
        if not attempts:
            raise DataError(
                f"scene {name} was not begun yet, so it has no log: `pano render` makes it,"
                f" `pano status {run}` says how far it is"
            )
        return (
            attempts,
            f"(its log {path} is not there: was it rendered on a machine with another run folder?)",
        )
    with open(own_path(path, run), "rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        return attempts, file.read().decode("utf-8", "replace")


def _scene_name(config: RenderConfig, scene: str) -> str:
    """The key of a scene of this job."""
    number = scene.rpartition("-")[2]
    if number.isdigit() and int(number) < config.scenes:
        key = plan_scene(config, int(number)).key
        if scene in (number, key):
            return key
        raise UsageError(
            f"no scene {scene!r} in this run; scene {int(number)} is {key}:"
            " take its number or that name"
        )
    first = [plan_scene(config, index).key for index in range(min(config.scenes, 200))]
    near = difflib.get_close_matches(scene, first, n=1)
    raise UsageError(
        f"no scene {scene!r} in this run of {counted(config.scenes, 'scene')}"
        + (
            f"; did you mean {near[0]}?"
            if near
            else f"; scenes are called like {first[0]}, or give a number"
        )
    )
