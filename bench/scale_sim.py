"""The whole job of 183,440 scenes in minutes: simulated nodes, everything else real.

    python -m bench.scale_sim [--quick] [--scenes N ...] [--folder DIR] [--no-packing] [--record]

A discrete-event cluster stands where Ray would (panoforge.cluster.render.executor.Executor). Its
attempts end after a random time on a virtual clock, and fail with the chances below: they crash,
run out of memory or lose their node. Each writes its record as a real node does, and stages a tiny
panorama: 32×16 pixels, 35 instances as the paper's have on average.

All else is real: the planner, the driver's loop, the fault policy, the ledger with its compaction,
the status and its page. So is the packer, on a real Ray while scenes go on. A shard is a thousandth
of a real one's bytes, so there are as many as a real job has.

For every size it reports what a scene costs the driver: memory, and CPU seconds without staging,
which is the nodes' work. At the end: how long a query, the page, and the resumption of a run that
is 99 % done take.
`--folder` on a memory disk leaves the cost of fsync out; on a real one it is in. Without packing
(`--no-packing`) nothing is staged but names.
"""

import contextlib
import heapq
import json
import os
import resource
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import numpy as np
import psutil

from bench.common import RESULTS, arguments, machine
from panoforge.cluster.config.jobs import RenderJobConfig
from panoforge.cluster.config.limits import LimitsConfig
from panoforge.cluster.config.packing import PackingConfig
from panoforge.cluster.config.ray import RayConfig
from panoforge.cluster.ray.session import ray_session
from panoforge.cluster.render.driver import Driver
from panoforge.cluster.render.executor import Answer as Answered
from panoforge.cluster.render.executor import NoRecord
from panoforge.cluster.render.images import image_config_sha256
from panoforge.cluster.render.runner import _open_scene_states, _packer
from panoforge.cluster.render.scene_task import SceneTask
from panoforge.cluster.state.job_file import save_job
from panoforge.cluster.state.ledger import AttemptRecord, Ledger, new_id
from panoforge.cluster.state.policy import AttemptFault
from panoforge.cluster.state.scene_states import SceneState, SceneStates
from panoforge.cluster.status.status import read_status
from panoforge.cluster.status.status_page import write_page
from panoforge.core.run_layout import DATASET, STAGED
from panoforge.core.sample.instance_table import InstanceLabel, instance_table
from panoforge.core.sample.metadata import META_SUFFIX, Pose, SampleMeta, encode_meta
from panoforge.core.sample.products import encode_product
from panoforge.core.shards.layout import read_manifest
from panoforge.core.storage.lease import Lease
from panoforge.datagen.config.render import RenderConfig, SceneJob, plan_scene

Answer = TypeVar("Answer")
SLOTS = 4000
WIDTH, INSTANCES = 32, 35
PACKING = PackingConfig(
    while_rendering=True, every_scenes=5000, max_behind_scenes=50_000, shard_bytes=1_000_000
)
CHANCES = (
    (AttemptFault.CRASH, 0.02),
    (AttemptFault.OOM, 0.01),
    (AttemptFault.LOST, 0.01),
    (AttemptFault.REFUSED, 0.0005),
)  # of an attempt
REJECTED = 0.01
MEMORY_GROWTH_MB, QUERY_S, RESUME_S = 500.0, 1.0, 10.0


class TinyPanoramas:
    """Stages panoramas of one picture and one label map, whose bytes are hard links; only their
    metadata differ. As nodes do, but without fsync. `cpu_s` is what it took, which is the nodes'
    expense and not the driver's.
    """

    LINKS = 30_000  # ext4 allows 65,000 names of a file

    def __init__(self, run: Path, config_sha256: str) -> None:
        self._staged, self._templates, self._sha256 = run / STAGED, run / "templates", config_sha256
        self._staged.mkdir(parents=True)
        self._templates.mkdir()
        area = WIDTH * WIDTH // 2
        labels = (
            (1 + np.arange(area) * INSTANCES // area).astype(np.uint16).reshape(WIDTH // 2, WIDTH)
        )
        rgb = np.random.default_rng(0).integers(0, 256, (WIDTH // 2, WIDTH, 3), np.uint8)
        self._members = {
            suffix: encode_product(suffix, array)
            for suffix, array in (("instance.zst", labels), ("rgb.jpg", rgb))
        }
        names = {
            i: InstanceLabel(f"thing_{i}", "thing", f"Thing.{i:03d}")
            for i in range(1, INSTANCES + 1)
        }
        self._table = instance_table(labels, names, rle=False)
        self._made = 0
        self.cpu_s = 0.0

    def stage(self, job: SceneJob, camera: int) -> None:
        """Put one panorama there, as by one rename."""
        begin = time.process_time()
        if self._made % self.LINKS == 0:
            for suffix, data in self._members.items():
                (self._templates / f"{self._made}-{suffix}").write_bytes(data)
        first = self._made - self._made % self.LINKS
        folder, aside = self._staged / job.sample_key(camera), self._templates / "next"
        aside.mkdir()
        for suffix in self._members:
            os.link(self._templates / f"{first}-{suffix}", aside / suffix)
        (aside / META_SUFFIX).write_bytes(encode_meta(self._meta(job, camera)))
        aside.rename(folder)
        self._made += 1
        self.cpu_s += time.process_time() - begin

    def _meta(self, job: SceneJob, camera: int) -> SampleMeta:
        axes = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
        return SampleMeta(
            key=job.sample_key(camera),
            width=WIDTH,
            height=WIDTH // 2,
            source=f"{job.source}/{job.variant}",
            scene=job.key,
            seed=job.seeds[0],
            camera=camera,
            products=tuple(sorted(self._members)),
            instances=self._table,
            pose=Pose(position_m=(0.0, 0.0, 1.5), yaw_deg=0.0, world_from_pano=axes),
            config_sha256=self._sha256,
            versions={"panoforge": "simulated"},
            timings_s={"sample": 512.5},
        )


class SimulatedCluster:
    """An Executor whose nodes exist on a virtual clock only. `panoramas` None stages nothing."""

    def __init__(
        self, ledger: Ledger, rng: np.random.Generator, panoramas: TinyPanoramas | None = None
    ) -> None:
        self._ledger, self._rng, self._panoramas = ledger, rng, panoramas
        self._clock = 0.0
        self._ends: list[tuple[float, int, SceneTask]] = []

    def now(self) -> float:
        return self._clock

    def slots(self) -> int:
        return SLOTS

    def submit(self, task: SceneTask, avoid: Collection[str]) -> None:
        heapq.heappush(
            self._ends, (self._clock + float(self._rng.gamma(4.0, 150.0)), task.job.index, task)
        )

    def cancel(self, begun: Callable[[SceneTask], bool]) -> None:
        """Nothing waits here: what is submitted has begun."""

    def wait(self, timeout_s: float) -> list[tuple[SceneTask, Answered]]:
        if not self._ends:
            self._clock += timeout_s
            time.sleep(0.02)  # the driver waits for the packer, which lives on the real clock
            return []
        self._clock, _, task = heapq.heappop(self._ends)
        return [(task, self._end(task))]

    def _end(self, task: SceneTask) -> AttemptRecord | NoRecord:
        at, outcome, fault = float(self._rng.random()), "done", None
        for kind, chance in CHANCES:
            if 0 <= at < chance:
                outcome, fault = "fault", kind
            at -= chance
        if fault is AttemptFault.LOST:
            return NoRecord(fault, "its node or Ray worker was lost (NodeDiedError)")
        if fault is None and 0 <= at < REJECTED:
            outcome = "rejected"
        keys = (
            tuple(task.job.sample_key(camera) for camera in range(task.job.cameras))
            if outcome == "done"
            else ()
        )
        if self._panoramas:
            for camera in range(len(keys)):
                self._panoramas.stage(task.job, camera)
        record = AttemptRecord(
            id=new_id(task.job.index, task.attempt),
            index=task.job.index,
            scene=task.job.key,
            attempt=task.attempt,
            outcome=outcome,
            fault=fault,
            reason="" if outcome == "done" else f"simulated {fault or outcome}",
            profile=task.profile,
            panoramas=keys,
            digests=tuple("ab" * 32 for _ in keys),
            staged_bytes=12_000_000 * len(keys),
            job_sha256=task.job_sha256,
            image_sha256=task.image_sha256,
            node=f"render-{task.job.index % 500:03d}/{task.job.index % 500:056x}",
            timings_s={"generate": 61.25, "sample": 512.5, "write": 3.0},
            started_unix_s=1.7e9 + self._clock,
            seconds=600.0,
            peak_memory_mb=5000.0,
            exit="exit code 0",
            log=f"logs/{task.job.key}.log",
            log_tail="x" * 2000 if outcome == "fault" else "",
        )
        self._ledger.write(record)
        return record


def simulate(scenes: int, folder: Path, packing: PackingConfig) -> dict:
    """Run the whole job of that size; gives its figures. AssertionError if a scene is unaccounted
    for.
    """
    job = RenderJobConfig(
        run=folder / f"run-{scenes}",
        render=RenderConfig(scenes=scenes, cameras_per_scene=1),
        limits=LimitsConfig(min_free_gb=0),
        ray=RayConfig(in_flight_per_slot=1),
        packing=packing,
    )
    ledger, digest = Ledger(job.ledger_url), image_config_sha256(job.render)
    ledger.declare(digest, {})
    save_job(job)
    panoramas = TinyPanoramas(job.run, digest) if packing.while_rendering else None
    process = psutil.Process()
    before_mb, began, cpu = (
        process.memory_info().rss / 1e6,
        time.perf_counter(),
        time.process_time(),
    )
    scene_states, ends = SceneStates(scenes), Counter[str]()
    with Lease(ledger.store, str(job.run), "bench.scale_sim", keep=True) as lease:
        cluster = SimulatedCluster(ledger, np.random.default_rng(scenes), panoramas)
        driver = Driver(
            job,
            scene_states,
            ledger,
            cluster,
            stopped=lambda: False,
            check=lease.check,
            say=print,
            packer=_packer(job, print),
        )
        lease.payload = driver.heartbeat
        for record in driver.records():
            ends[record.outcome] += 1
    seconds, cpu = (
        time.perf_counter() - began,
        time.process_time() - cpu - (panoramas.cpu_s if panoramas else 0.0),
    )
    found = {
        "scenes": scenes,
        "attempts": ends.total() - ends["quarantined"],
        "ms_per_scene": round(1e3 * seconds / scenes, 3),
        "cpu_ms_per_scene": round(1e3 * cpu / scenes, 3),
        "memory_growth_mb": round(process.memory_info().rss / 1e6 - before_mb, 1),
        "segments": len(ledger.store.names("segments")),
    }
    if packing.while_rendering:
        manifest = read_manifest(job.run / DATASET)
        assert manifest.samples == ends["done"] and manifest.instances == INSTANCES * ends["done"]
        found["shards"] = len(manifest.shards)
    found |= _after(job, ledger, ends)
    shutil.rmtree(job.run)
    return found


def _after(job: RenderJobConfig, ledger: Ledger, ends: Counter) -> dict:
    """Check that every scene is accounted for, once, and time what people and a second driver will
    ask.
    """
    status, query = _timed(lambda: read_status(job.run))
    states = status.tally.states
    assert states["open"] == 0 and sum(states.values()) == job.render.scenes
    assert (states["done"], states["rejected"], states["quarantined"]) == (
        ends["done"],
        ends["rejected"],
        ends["quarantined"],
    )
    assert status.tally.panoramas == ends["done"] and status.published in (None, ends["done"])
    _, page = _timed(lambda: write_page(job.run))
    _lose_the_last(job)
    open_scenes, resume = _timed(lambda: _resume(job, ledger))
    assert 0 < open_scenes <= job.render.scenes - int(0.99 * job.render.scenes)
    times = {"query": query, "page": page, "resume": resume}
    return {
        name: round(value, 3)
        for what, (clock, cpu) in times.items()
        for name, value in ((f"{what}_s", clock), (f"{what}_cpu_s", cpu))
    }


def _timed(work: Callable[[], Answer]) -> tuple[Answer, tuple[float, float]]:
    """Its answer, and how long it took: (on the clock, of this process's CPU)."""
    begin, cpu = time.perf_counter(), time.process_time()
    answer = work()
    return answer, (time.perf_counter() - begin, time.process_time() - cpu)


def _lose_the_last(job: RenderJobConfig) -> None:
    """Leave the panoramas of the first 99 % of the scenes."""
    kept, staged = int(0.99 * job.render.scenes), job.run / STAGED
    if job.packing.while_rendering:
        for index in range(kept, job.render.scenes):
            shutil.rmtree(staged / plan_scene(job.render, index).sample_key(0), ignore_errors=True)
        return
    staged.mkdir()
    for index in range(kept):  # the driver reads no more of a staged panorama than its name
        os.mknod(staged / plan_scene(job.render, index).sample_key(0))


def _resume(job: RenderJobConfig, ledger: Ledger) -> int:
    """From nothing to the first new scene's task; gives the number of open scenes. Ray's own start
    is not in it: some seconds, whatever the size of the job.
    """
    scene_states = _open_scene_states(job, ledger)
    cluster = SimulatedCluster(ledger, np.random.default_rng(0))
    driver = Driver(
        job,
        scene_states,
        ledger,
        cluster,
        stopped=lambda: False,
        check=lambda: None,
        say=print,
    )
    next(driver.records())
    return scene_states.count(SceneState.OPEN)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--scenes", type=int, nargs="+", default=None)
    parser.add_argument(
        "--folder",
        type=Path,
        default=None,
        help="where the runs go (default: the temporary folder)",
    )
    parser.add_argument("--no-packing", action="store_true", help="stage and pack nothing")
    args = parser.parse_args()
    sizes = args.scenes or ((1000, 10_000) if args.quick else (1000, 10_000, 100_000, 183_440))
    packing = PackingConfig() if args.no_packing else PACKING
    found = []
    with (
        tempfile.TemporaryDirectory(dir=args.folder) as folder,
        contextlib.nullcontext() if args.no_packing else ray_session(RayConfig(), cpus=1),
    ):
        simulate(500, Path(folder), packing)  # imports and caches: not of the first size's account
        for scenes in sizes:
            found.append(simulate(scenes, Path(folder), packing))
            print(json.dumps(found[-1]), flush=True)
            if args.record:
                _record(found[-1])
    # Below the number of slots everything is handed out at once, which is cheaper: not a base to
    # compare with.
    first, last = next((size for size in found if size["scenes"] > 2 * SLOTS), found[0]), found[-1]
    growth = last["cpu_ms_per_scene"] / first["cpu_ms_per_scene"]
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(
        json.dumps(
            {
                "bench": "scale_sim",
                "ok": _is_ok(last) and growth < 1.5,
                **last,
                "cpu_per_scene_growth": round(growth, 3),
                "driver_peak_mb": round(peak_mb),
                "slots": SLOTS,
                "sizes": found,
                "unit": "scenes",
                "n": sizes[-1],
                "machine": machine(),
                "quick": args.quick,
            }
        )
    )


def _is_ok(found: dict) -> bool:
    """Whether one size keeps the bounds, which are meant for 183,440 scenes."""
    return (
        found["memory_growth_mb"] < MEMORY_GROWTH_MB
        and found["query_s"] < QUERY_S
        and found["page_s"] < QUERY_S
        and found["resume_s"] < RESUME_S
    )


def _record(found: dict) -> None:
    """A line of this size in bench/RESULTS.md."""
    facts = ", ".join(f"{name} {value}" for name, value in found.items() if name != "scenes")
    with open(RESULTS, "a") as file:
        file.write(
            f"| {datetime.now(UTC):%Y-%m-%d} | scale_sim, {found['scenes']} scenes | {facts} | | |"
            f" | | | {'yes' if _is_ok(found) else '**no**'} | {machine()} |\n"
        )


if __name__ == "__main__":
    main()
