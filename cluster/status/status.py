"""How a run stands.

The ledger added up, what its driver is at, what is left to do and what it will have cost.

`read_status` takes a run folder and gives a `RunStatus`, from which
`panoforge.cluster.status.status_page` makes the page and the command its lines and its JSON.
Nothing is asked of the driver but its heartbeat, so a run on another machine shows just as well.
"""

import contextlib
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, ValidationError

from panoforge.cluster.config.jobs import RenderJobConfig
from panoforge.cluster.state.job_file import ledger_of, load_job
from panoforge.cluster.state.ledger import Ledger
from panoforge.cluster.state.tally import Tally, tally
from panoforge.core.errors import UserError
from panoforge.core.models import FrozenModel
from panoforge.core.numbers import count, counted, duration, money, number, percent
from panoforge.core.run_layout import DATASET
from panoforge.core.shards.layout import read_manifest
from panoforge.core.storage.lease import UnixSeconds, latest_epoch, read_heartbeat, read_holder

# A heartbeat older than this by this machine's clock is called silent, in words only.
_STALE_S = 60.0


class _Told(FrozenModel):
    """What others may have written: pydantic's strictness does not reach into inner models."""

    model_config = ConfigDict(extra="ignore", strict=True)


class _SceneInFlight(_Told):
    """A scene in flight, as a heartbeat tells it."""

    scene: str
    attempt: int
    seconds: Annotated[float, Field(ge=0)]


class _Heartbeat(_Told):
    """What a driver's heartbeat may say (`panoforge.cluster.render.driver`).

    Others may have written the file: what is no heartbeat is not believed.
    """

    unix_s: UnixSeconds = 0.0
    in_flight: Annotated[int, Field(ge=0, lt=2**31)] = 0
    slots: Annotated[int, Field(ge=0, lt=2**31)] = 0
    begun: Annotated[int, Field(ge=0, lt=2**31)] = 0
    set_aside: list[str] = []
    waiting_for_disk: bool = False
    waiting_for_packing: bool = False
    draining: bool = False
    oldest: list[_SceneInFlight] = []


def _is_heartbeat(heartbeat: Mapping[str, Any]) -> bool:
    try:
        _Heartbeat.model_validate(heartbeat)
    except ValidationError:
        return False
    return True


@dataclass(frozen=True)
class Money:
    """Dollars; None where no prices are configured."""

    so_far: float | None
    at_end: float | None


@dataclass(frozen=True)
class RunStatus:
    """A run at one moment.

    What is still to come is extrapolated from the scenes settled so far; None until their rate is
    known (`panoforge.cluster.state.tally.recent_rate`).
    """

    run: str
    state: (
        str  # running, draining, waiting for disk, waiting for packing, silent, stopped, finished
    )
    driver: str
    tally: Tally
    live: Mapping[str, Any]  # the driver's last heartbeat
    running: int
    waiting: int
    eta_s: float | None
    panoramas_per_hour: float | None
    core_hours_at_end: float | None
    money: Money
    published: int | None = None  # panoramas in the dataset of a run that packs while it renders

    def as_json(self) -> dict[str, Any]:
        """Plain data for scripts: stable names, units in them."""
        data = asdict(self)
        return {**data, "schema_version": 1, "settled": self.tally.settled}


def read_status(run: Path) -> RunStatus:
    """The status of a run. DataError if there is no run."""
    config = load_job(run)
    ledger = ledger_of(config)
    sums, _ = tally(ledger, config.render.scenes)
    return _status(config, ledger, sums)


def _status(config: RenderJobConfig, ledger: Ledger, sums: Tally) -> RunStatus:
    heartbeat, ended = read_heartbeat(ledger.store)
    live = heartbeat if heartbeat and _is_heartbeat(heartbeat) else {}
    open_scenes = sums.states.get("open", 0)
    state = _state(ledger, live, ended, open_scenes)
    active = state in ("running", "draining", "waiting for disk", "waiting for packing")
    at_most = min(int(live.get("in_flight", 0)), int(live.get("slots", 0)))
    running = min(int(live.get("begun", at_most)), at_most) if active else 0
    rate = sums.recent_scenes_per_hour
    made = sums.states.get("done", 0) + sums.states.get("rejected", 0)
    at_end = _share_to_come(sums)
    return RunStatus(
        run=str(config.run),
        state=state,
        driver=_driver(ledger, live, ended),
        tally=sums,
        live=live,
        running=running,
        waiting=max(0, open_scenes - running),
        eta_s=3600 * open_scenes / rate if rate and open_scenes and active else None,
        panoramas_per_hour=rate * sums.panoramas / made if rate else None,
        core_hours_at_end=sums.core_hours * at_end if at_end else None,
        money=_money(config, sums, at_end),
        published=_published(config),
    )


def _published(config: RenderJobConfig) -> int | None:
    if not config.packing.while_rendering:
        return None
    with contextlib.suppress(UserError):  # no manifest yet
        return read_manifest(config.run / DATASET).samples
    return 0


def _state(ledger: Ledger, live: Mapping[str, Any], ended: bool, open_scenes: int) -> str:
    if ended or not live:
        return "finished" if not open_scenes else "stopped"
    holder = read_holder(ledger.store, latest_epoch(ledger.store))
    if holder is not None and holder.is_dead_here():
        return "stopped"
    if time.time() - float(live.get("unix_s", 0)) > _STALE_S and not (
        holder and holder.is_alive_here()
    ):
        return "silent"
    if live.get("waiting_for_disk"):
        return "waiting for disk"
    if live.get("waiting_for_packing"):
        return "waiting for packing"
    return "draining" if live.get("draining") else "running"


def _driver(ledger: Ledger, live: Mapping[str, Any], ended: bool) -> str:
    holder = read_holder(ledger.store, latest_epoch(ledger.store))
    if holder is None:
        return "none yet"
    seen = (
        f", last heartbeat {duration(max(0.0, time.time() - float(live['unix_s'])))} ago"
        if live.get("unix_s")
        else ""
    )
    return f"number {holder.epoch} on {holder.host}, process {holder.pid}{seen}" + (
        " (ended)" if ended else ""
    )


def _share_to_come(sums: Tally) -> float | None:
    """By what the costs so far are multiplied at the end; None while nobody knows."""
    if not sums.states.get("open", 0):
        return 1.0
    return sums.total / sums.settled if sums.recent_scenes_per_hour else None


def _money(config: RenderJobConfig, sums: Tally, at_end: float | None) -> Money:
    cost = config.cost
    if not cost.usd_per_cpu_hour and not cost.usd_per_gpu_hour:
        return Money(None, None)
    so_far = sums.core_hours * cost.usd_per_cpu_hour + sums.gpu_hours * cost.usd_per_gpu_hour
    return Money(so_far, so_far * at_end if at_end else None)


def as_lines(status: RunStatus) -> list[str]:
    """The status for a terminal."""
    t = status.tally
    lines = [
        f"{status.run}: {status.state}; driver {status.driver}",
        (
            f"  {count(t.states.get('done'))} done, {count(status.running)} running,"
            f" {count(status.waiting)} waiting, {count(t.states.get('rejected'))} rejected,"
            f" {count(t.states.get('quarantined'))} failed of {counted(t.total, 'scene')}"
            f" ({percent(t.settled / t.total)})"
        ),
        (
            f"  {counted(t.panoramas, 'panorama')}, {number(status.panoramas_per_hour)} per hour,"
            f" {duration(status.eta_s)} left"
        ),
        (
            f"  {number(t.core_hours)} core-hours ({number(t.wasted_core_hours)} in failed"
            f" attempts), {number(status.core_hours_at_end)} at the end; a scene takes"
            f" {duration(t.seconds_median)} (median), {duration(t.seconds_p95)} (95 %)"
        ),
    ]
    if status.published is not None:
        lines.append(
            f"  {counted(status.published, 'panorama is', 'panoramas are')} published in shards"
        )
    if status.money.so_far is not None:
        lines.append(
            f"  {money(status.money.so_far)} so far, {money(status.money.at_end)} at the end"
        )
    if t.faults:
        lines.append(
            "  failed attempts: "
            + ", ".join(f"{name} {count(number_)}" for name, number_ in t.faults.items())
        )
    lines += [f"  {count(number_)} × {reason}" for reason, number_ in list(t.reasons.items())[:10]]
    lines += [
        f"  running: {task['scene']} (attempt {task['attempt']}, {duration(task['seconds'])})"
        for task in list(status.live.get("oldest", ()))[: min(3, status.running)]
    ]
    lines += [f"  slow: {scene} took {duration(seconds)}" for scene, seconds in t.slowest[:3]]
    return lines
