"""Readers of what runs leave behind: results of evaluations, heartbeats, leases, records."""

import functools
import json
import time
from pathlib import Path
from typing import get_args

from fuzz_harness import Reader
from fuzz_readers_data import record

from panoforge.cluster.config.jobs import RenderJobConfig
from panoforge.cluster.state.job_file import load_job, save_job
from panoforge.cluster.state.ledger import Ledger
from panoforge.cluster.status.status import as_lines, read_status
from panoforge.cluster.status.status_page import status_report
from panoforge.core.storage.lease import Holder, held
from panoforge.core.storage.runlog import read_run
from panoforge.datagen.config.render import RoomsSource
from panoforge.eval.reports.comparison import TableFormat, render
from panoforge.eval.scoring.compare import compare


@functools.cache
def results() -> list[bytes]:
    row = {"role": "model", "key": "a-0", "id": 1, "iou": 0.5, "iou_cos": 0.4, "boundary_f": 0.3}
    score = {"role": "model", "ap": 0.1}
    document = {
        "format": "panoforge-results",
        "schema_version": 2,
        "protocol_id": "p",
        "protocol": {"scan": {"fov_deg": 90.0}},
        "dataset": {"name": "d", "manifest_sha256": "0" * 64},
        "weights": {"kind": "file"},
        "scores": [score | {"method": method} for method in ("scan", "direct")],
        "rows": [row | {"method": method} for method in ("scan", "direct")],
    }
    return [json.dumps(document).encode()]


def read_results(path: Path) -> None:
    """Alone, in every format, and beside the one that it was made of."""
    for form in get_args(TableFormat):
        render(compare([path]), form)
    good = path.with_name("good.json")
    good.write_bytes(results()[0])
    compare([good, path])


@functools.cache
def heartbeats() -> list[bytes]:
    heartbeat = {
        "epoch": 1,
        "count": 3,
        "unix_s": time.time(),
        "total": 2,
        "in_flight": 1,
        "slots": 1,
    }
    switches = dict.fromkeys(("waiting_for_disk", "waiting_for_packing", "draining"), False)
    oldest = [{"scene": "caps-000000", "attempt": 1, "seconds": 2.5}]
    whole = {**heartbeat, **switches, "set_aside": ["node"], "oldest": oldest}
    return [json.dumps(whole).encode()]


def put_run(folder: Path) -> None:
    """A run whose driver lives: this process."""
    config = job(folder)
    save_job(config)
    ledger = Ledger(config.ledger_url)
    ledger.declare("a" * 64, {})
    ledger.write(record())
    ledger.store.put("lease/epoch-00000001.json", Holder.me(1, "x").model_dump_json().encode())


def put_lease(folder: Path) -> None:
    (folder / "lease").mkdir(exist_ok=True)


def read_run_status(path: Path) -> None:
    status = read_status(path.parents[2])
    as_lines(status)
    json.dumps(status.as_json())
    status_report(status)


def read_held(path: Path) -> None:
    """As the next who wants the place."""
    try:
        with held(path.parent.parent, "fuzz", heartbeat_s=0.01):
            pass
    finally:
        put_lease(path.parent.parent)


def job(folder: Path) -> RenderJobConfig:
    kitchen = RoomsSource(source="infinigen2.rooms", rooms=("kitchen",))
    return RenderJobConfig(run=folder, sources=(kitchen,), scenes=2)


def holder() -> list[bytes]:
    """One that is gone: it had this process's number, long ago."""
    gone = Holder.me(1, "x").model_copy(update={"start_ticks": 1})
    return [gone.model_dump_json().encode()]


RUN_RECORD = b'{"schema_version": 1, "stages": {"pack": {"outcome": "done", "seconds": 1.5}}}'

READERS = [
    Reader("results", "results.json", results, read_results, "json"),
    Reader(
        "heartbeat",
        "ledger/lease/heartbeat-00000001.json",
        heartbeats,
        read_run_status,
        "json",
        put_run,
    ),
    Reader("held", "lease/epoch-00000001.json", holder, read_held, "json", put_lease),
    Reader(
        "run-record", "run.json", lambda: [RUN_RECORD], lambda path: read_run(path.parent), "json"
    ),
    Reader(
        "job",
        "render.json",
        lambda: [job(Path("x")).model_dump_json().encode()],
        lambda path: load_job(path.parent),
        "json",
    ),
]
