"""The whole job of 183,440 scenes in minutes: simulated nodes, everything else real.

    python -m bench.scale_sim [--quick] [--scenes N ...] [--folder DIR]

A discrete-event cluster stands where Ray would (cluster.ray_executor.Executor): its attempts end after a random time on
a virtual clock, and crash, run out of memory or lose their node with the chances below; each writes its record as a real
node does. The planner, the driver's loop, the fault policy, the ledger with its compaction, the status and its page are
the real ones. For every size it reports the cost per scene and the driver's memory, and at the end how long a query, the
page and the resumption of a 99 % done run take. `--folder` on a memory disk leaves the cost of fsync out; on a real one it is in.
"""

import argparse
import heapq
import json
import os
import resource
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Collection
from pathlib import Path

import numpy as np
import psutil

from bench.common import machine
from cluster.book import Book, State
from cluster.config import LimitsConfig, RayConfig, RenderJobConfig
from cluster.driver import Driver
from cluster.lease import Lease
from cluster.ledger import AttemptRecord, Ledger, new_id
from cluster.policy import Fault
from cluster.ray_executor import NoRecord
from cluster.runner import _open_book, image_config_sha256
from cluster.scene_task import STAGED, SceneTask
from cluster.status import read_status, save_job
from cluster.status_page import write_page
from datagen.config import plan_scene

SLOTS = 4000
CHANCES = ((Fault.CRASH, 0.02), (Fault.OOM, 0.01), (Fault.LOST, 0.01), (Fault.REFUSED, 0.0005))  # of an attempt
REJECTED = 0.01
MEMORY_GROWTH_MB, QUERY_S, RESUME_S = 500.0, 1.0, 10.0


class SimulatedCluster:
    """An Executor whose nodes exist on a virtual clock only."""

    def __init__(self, ledger: Ledger, rng: np.random.Generator) -> None:
        self._ledger, self._rng = ledger, rng
        self._clock = 0.0
        self._ends: list[tuple[float, int, SceneTask]] = []

    def now(self) -> float:
        return self._clock

    def slots(self) -> int:
        return SLOTS

    def submit(self, task: SceneTask, avoid: Collection[str]) -> None:
        heapq.heappush(self._ends, (self._clock + float(self._rng.gamma(4.0, 150.0)), task.job.index, task))

    def wait(self, timeout_s: float) -> list[tuple[SceneTask, AttemptRecord | NoRecord]]:
        if not self._ends:
            self._clock += timeout_s
            return []
        self._clock, _, task = heapq.heappop(self._ends)
        return [(task, self._end(task))]

    def _end(self, task: SceneTask) -> AttemptRecord | NoRecord:
        at, outcome, fault = float(self._rng.random()), "done", None
        for kind, chance in CHANCES:
            if 0 <= at < chance:
                outcome, fault = "fault", kind
            at -= chance
        if fault is Fault.LOST:
            return NoRecord(fault, "its node or Ray worker was lost (NodeDiedError)")
        if fault is None and 0 <= at < REJECTED:
            outcome = "rejected"
        keys = tuple(task.job.sample_key(camera) for camera in range(task.job.cameras)) if outcome == "done" else ()
        record = AttemptRecord(
            id=new_id(task.job.index, task.attempt), index=task.job.index, scene=task.job.key, attempt=task.attempt,
            outcome=outcome, fault=fault, reason="" if outcome == "done" else f"simulated {fault or outcome}",
            profile=task.profile, panoramas=keys,
            digests=tuple("ab" * 32 for _ in keys), staged_bytes=12_000_000 * len(keys), job_sha256=task.job_sha256,
            image_sha256=task.image_sha256, node=f"render-{task.job.index % 500:03d}/{task.job.index % 500:056x}",
            timings_s={"generate": 61.25, "sample": 512.5, "write": 3.0}, started_unix_s=1.7e9 + self._clock, seconds=600.0,
            peak_memory_mb=5000.0, exit="exit code 0", log=f"logs/{task.job.key}.log",
            log_tail="x" * 2000 if outcome == "fault" else "",
        )
        self._ledger.write(record)
        return record


def simulate(scenes: int, folder: Path) -> dict:
    """Run the whole job of that size; gives its figures. AssertionError if a scene is unaccounted for."""
    job = RenderJobConfig(run=folder / f"run-{scenes}", scenes=scenes, cameras_per_scene=1, limits=LimitsConfig(min_free_gb=0),
                          ray=RayConfig(in_flight_per_slot=1))
    ledger = Ledger(job.ledger_url)
    ledger.declare(image_config_sha256(job), {})
    save_job(job)
    process = psutil.Process()
    before_mb, began, cpu = process.memory_info().rss / 1e6, time.perf_counter(), time.process_time()
    book, ends = Book(scenes), Counter()
    with Lease(ledger.store, str(job.run)) as lease:
        cluster = SimulatedCluster(ledger, np.random.default_rng(scenes))
        driver = Driver(job, book, ledger, image_config_sha256, cluster, stopped=lambda: False, check=lease.check,
                        say=lambda text: None)
        lease.payload = driver.beat
        for record in driver.records():
            ends[record.outcome] += 1
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    found = {
        "scenes": scenes, "attempts": ends.total() - ends["quarantined"], "ms_per_scene": round(1e3 * seconds / scenes, 3),
        "cpu_ms_per_scene": round(1e3 * cpu / scenes, 3), "memory_growth_mb": round(process.memory_info().rss / 1e6 - before_mb, 1),
        "segments": len(ledger.store.names("segments")),
    }
    found |= _after(job, ledger, ends)
    shutil.rmtree(job.run)
    return found


def _after(job: RenderJobConfig, ledger: Ledger, ends: Counter) -> dict:
    """Check that every scene is accounted for, once, and time what people and a second driver will ask."""
    begin = time.perf_counter()
    status = read_status(job.run)
    query_s = time.perf_counter() - begin
    states = status.tally.states
    assert states["open"] == 0 and sum(states.values()) == job.scenes
    assert (states["done"], states["rejected"], states["quarantined"]) == (ends["done"], ends["rejected"], ends["quarantined"])
    assert status.tally.panoramas == ends["done"]
    begin = time.perf_counter()
    write_page(job.run)
    page_s = time.perf_counter() - begin
    return {"query_s": round(query_s, 3), "page_s": round(page_s, 3), "resume_s": round(_resume(job, ledger), 3)}


def _resume(job: RenderJobConfig, ledger: Ledger) -> float:
    """Seconds from nothing to the first new scene's task, the last 1 % of the panoramas being lost: what a driver does
    before and after Ray starts, whose own start (some seconds, whatever the size of the job) is not in it."""
    kept = int(0.99 * job.scenes)
    (job.run / STAGED).mkdir()
    for index in range(kept):  # the driver reads no more of a staged panorama than its name
        os.mknod(job.run / STAGED / plan_scene(job, index).sample_key(0))
    begin = time.perf_counter()
    book = _open_book(job, ledger)
    cluster = SimulatedCluster(ledger, np.random.default_rng(0))
    driver = Driver(job, book, ledger, image_config_sha256, cluster, stopped=lambda: False, check=lambda: None,
                    say=lambda text: None)
    next(driver.records())
    seconds = time.perf_counter() - begin
    assert 0 < book.count(State.OPEN) <= job.scenes - kept
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="1,000 and 10,000 scenes")
    parser.add_argument("--scenes", type=int, nargs="+", default=None)
    parser.add_argument("--folder", type=Path, default=None, help="where the ledgers go (default: the temporary folder)")
    args = parser.parse_args()
    sizes = args.scenes or ((1000, 10_000) if args.quick else (1000, 10_000, 100_000, 183_440))
    found = []
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        simulate(500, Path(folder))  # imports and caches: not of the first size's account
        for scenes in sizes:
            found.append(simulate(scenes, Path(folder)))
            print(json.dumps(found[-1]), flush=True)
    # Below the number of slots everything is handed out at once, which is cheaper: not a base to compare with.
    first, last = next((size for size in found if size["scenes"] > 2 * SLOTS), found[0]), found[-1]
    growth = last["cpu_ms_per_scene"] / first["cpu_ms_per_scene"]
    ok = (last["memory_growth_mb"] < MEMORY_GROWTH_MB and last["query_s"] < QUERY_S and last["page_s"] < QUERY_S
          and last["resume_s"] < RESUME_S and growth < 1.5)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(json.dumps({
        "bench": "scale_sim", "ok": ok, **last, "cpu_per_scene_growth": round(growth, 3), "driver_peak_mb": round(peak_mb),
        "slots": SLOTS, "sizes": found, "unit": "scenes", "n": sizes[-1], "machine": machine(), "quick": args.quick,
    }))


if __name__ == "__main__":
    main()
