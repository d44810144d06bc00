"""The driver's loop: which attempt goes to the cluster next, and what follows from each that ends.

It asks `policy` what happens to a scene, and applies every record to the scene states. It hands out
a bounded number of tasks: Ray never waits for work and never drowns in it. It writes what only a
driver can know: a node was lost with a scene on it, or a scene is given up. The cluster is an
`Executor`: Ray, or the simulated one of bench/scale_sim.py.
"""

import heapq
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

from panoforge.cluster.config.jobs import RenderJobConfig
from panoforge.cluster.process.process import Limits
from panoforge.cluster.ray.packer import Packer
from panoforge.cluster.render.executor import Answer, Cancelled, Executor, NoRecord
from panoforge.cluster.render.images import image_config_sha256
from panoforge.cluster.render.scene_task import (
    SceneTask,
    begun_attempts,
    begun_unix_s,
    has_begun,
)
from panoforge.cluster.state.ledger import (
    COMPACT_EVERY,
    AttemptRecord,
    Ledger,
    attempt_prefix,
    new_id,
)
from panoforge.cluster.state.policy import (
    NODE_FAULTS_IN_A_ROW,
    RULES,
    AttemptFault,
    Profile,
    Step,
    degrade,
    memory_factor,
    next_step,
    nodes_to_set_aside,
)
from panoforge.cluster.state.scene_states import SceneState, SceneStates
from panoforge.core.errors import StorageError
from panoforge.datagen.config.render import plan_scene

_WAIT_S = 0.5


class Driver:
    """Renders the scenes that are open. `records` yields each record of the run as it comes."""

    def __init__(
        self,
        config: RenderJobConfig,
        scene_states: SceneStates,
        ledger: Ledger,
        executor: Executor,
        *,
        stopped: Callable[[], bool],
        check: Callable[[], None],
        say: Callable[[str], None],
        packer: Packer | None = None,
    ) -> None:
        self.config, self.scene_states, self.ledger, self.executor = (
            config,
            scene_states,
            ledger,
            executor,
        )
        self._stopped, self._check, self._say, self._packer = stopped, check, say, packer
        self._render = config.render
        images = {
            profile: degrade(self._render) if profile is Profile.DEGRADED else self._render
            for profile in Profile
        }
        self._images = {
            profile: (image, image_config_sha256(image)) for profile, image in images.items()
        }
        self._job_sha256 = image_config_sha256(self._render)
        self._later: list[tuple[float, int, Profile]] = []  # heap of (not before, scene, profile)
        self._fresh = scene_states.fresh()
        self._running: dict[
            int, tuple[SceneTask, float]
        ] = {}  # scene → its attempt, and since when
        self._loose: list[AttemptRecord] = []
        self._streaks: dict[str, int] = {}  # faults in a row that speak against a node
        self._suspects: dict[str, int] = {}  # those of the streaks that are long
        self._healthy: set[str] = set()
        self._aside: set[str] = set()
        self._slots = 1
        self._full_since: float | None = None
        self._frontier = 0
        self._packer_is_behind = False
        self._cancelled = False

    def heartbeat(self) -> dict[str, Any]:
        """What the lease's heartbeat tells others about this driver."""
        handed_out = sorted(list(self._running.values()), key=lambda item: item[1])
        begun, now = begun_attempts(self.config.run), time.time()
        at_work = [  # what waits with Ray for room is not running
            task for task, _ in handed_out if attempt_prefix(task.job.index, task.attempt) in begun
        ]
        return {
            "total": self.scene_states.total,
            "in_flight": len(handed_out),
            "begun": len(at_work),
            "slots": self._slots,
            "set_aside": sorted(self._aside),
            "waiting_for_disk": self._full_since is not None,
            "waiting_for_packing": self._packer_is_behind,
            "draining": self._stopped(),
            "oldest": [
                {
                    "scene": task.job.key,
                    "attempt": task.attempt,
                    "seconds": round(max(0.0, now - (begun_unix_s(task) or now)), 1),
                }
                for task in at_work[:20]
            ],
        }

    def records(self) -> Iterator[AttemptRecord]:
        """Work until nothing is left, or a stop was asked for and what ran has ended."""
        for index in sorted(self.scene_states.attempts):
            yield from self._follow_up(index, run_now=True)
        while self._hand_out() or self._running or (self._later and not self._stopped()):
            self._check()
            if self._stopped() and not self._cancelled:
                # Ray may answer at once for what has begun: a run that believed it ended too early.
                self.executor.cancel(has_begun)
                self._cancelled = True
            for task, answer in self.executor.wait(_WAIT_S):
                del self._running[task.job.index]
                record = self._record_of(task, answer)
                if record is None:
                    continue
                self._note_node(record)
                self.scene_states.apply(record)
                yield record
                if self.scene_states.codes[record.index] == SceneState.OPEN:
                    yield from self._follow_up(record.index)
            self._compact(COMPACT_EVERY)
        self._compact(1)
        if self._packer and (
            not self._stopped() or self.frontier() == self.scene_states.total
        ):  # a stop waits for scenes only
            self._packer.finish(self.frontier())

    def _follow_up(self, index: int, *, run_now: bool = False) -> Iterator[AttemptRecord]:
        """Queue the next attempt of an open scene, or quarantine it."""
        step: Step = next_step(self.scene_states.faults.get(index, []))
        if step.profile is not None:
            heapq.heappush(
                self._later,
                (self.executor.now() + (0.0 if run_now else step.wait_s), index, step.profile),
            )
            return
        attempt = self.scene_states.attempts[index]
        fault = self.scene_states.faults[index][-1][0]
        record = self._own_record(index, attempt, "quarantined", fault, step.reason)
        self.scene_states.apply(record)
        yield record

    # ---- handing out

    def _hand_out(self) -> bool:
        """Fill the window. Says whether tasks could still come later."""
        self._slots = self.executor.slots()
        window = self._slots * self.config.ray.in_flight_per_slot
        if self._packer:
            self._packer.step(self.frontier())
            self._packer_is_behind = self._packer.is_behind(self._frontier)
        while len(self._running) < window and not self._stopped() and not self._packer_is_behind:
            if not self._room_on_disk() or (following := self._next()) is None:
                break
            index, profile = following
            task = self._task(index, profile)
            self._running[index] = (task, self.executor.now())
            self.executor.submit(task, {node.rpartition("/")[2] for node in self._aside})
        return (self._full_since is not None or self._packer_is_behind) and not self._stopped()

    def frontier(self) -> int:
        """The first scene that is not settled; the number of scenes if all are."""
        at = self.scene_states.codes.find(SceneState.OPEN, self._frontier)
        self._frontier = at if at >= 0 else self.scene_states.total
        return self._frontier

    def _next(self) -> tuple[int, Profile] | None:
        if self._later and self._later[0][0] <= self.executor.now():
            _, index, profile = heapq.heappop(self._later)
            return index, profile
        fresh = next(self._fresh, None)
        return None if fresh is None else (fresh, Profile.NORMAL)

    def _task(self, index: int, profile: Profile) -> SceneTask:
        config, factor = self.config, memory_factor(profile)
        threads = self._render.threads or max(1, int(config.ray.cpus_per_scene))
        image, image_sha256 = self._images[profile]
        memory_gb = config.limits.memory_gb or config.ray.memory_per_scene_gb
        limits = Limits(
            min(config.limits.scene_timeout_s, self._render.time_limit_s),
            config.limits.no_progress_s,
            factor * memory_gb * 1e9 if memory_gb else None,
            int(config.limits.log_mb * 1e6),
        )
        self.scene_states.attempts[index] = attempt = self.scene_states.attempts.get(index, 0) + 1
        return SceneTask(
            str(config.run),
            self.ledger.url,
            config.worker,
            plan_scene(self._render, index),
            image.model_copy(update={"threads": threads}),
            self._job_sha256,
            image_sha256,
            limits,
            threads,
            attempt,
            profile,
            config.ray.cpus_per_scene,
            config.ray.gpus_per_scene,
        )

    def _room_on_disk(self) -> bool:
        """Back-pressure: no new scene while the run's disk is nearly full.

        StorageError when that lasts too long.
        """
        limits = self.config.limits
        free = shutil.disk_usage(self.config.run).free
        if free >= limits.min_free_gb * 1e9:
            self._full_since = None
            return True
        if self._full_since is None:
            self._full_since = self.executor.now()
            self._say(
                f"{self.config.run}: {free / 1e9:.1f} GB are free, less than"
                f" limits.min_free_gb={limits.min_free_gb:g}: no new scenes until there is room"
            )
        elif not self._running and self.executor.now() - self._full_since > limits.disk_wait_s:
            raise StorageError(
                f"{self.config.run}: the disk stayed full for {limits.disk_wait_s:.0f} s"
                f" ({free / 1e9:.1f} GB free, limits.min_free_gb={limits.min_free_gb:g}). Nothing"
                " is lost: free some space and give the same command"
            )
        return False

    # ---- collecting

    def _record_of(self, task: SceneTask, answer: Answer) -> AttemptRecord | None:
        """The record that a node wrote; or, where none came back, one that says why.

        None for an attempt that was cancelled before it began.
        """
        if isinstance(answer, Cancelled):
            record = self.ledger.of_attempt(task.job.index, task.attempt)
            if record is None:
                return None
            answer = record
        if isinstance(answer, NoRecord):
            return self._own_record(
                task.job.index,
                task.attempt,
                "fault",
                answer.fault,
                answer.reason,
                task=task,
            )
        self._loose.append(answer)
        return answer

    def _own_record(
        self,
        index: int,
        attempt: int,
        outcome: Any,
        fault: AttemptFault,
        reason: str,
        task: SceneTask | None = None,
    ) -> AttemptRecord:
        """A record by this driver; of a `task` that a node began, with what it has cost."""
        key = plan_scene(self._render, index).key
        began = begun_unix_s(task) if task else None
        record = AttemptRecord(
            id=new_id(index, attempt),
            index=index,
            scene=key,
            attempt=attempt,
            outcome=outcome,
            fault=fault,
            reason=reason[:2000],
            profile=task.profile if task else Profile.NORMAL,
            job_sha256=self._job_sha256,
            started_unix_s=began or time.time(),
            seconds=round(max(0.0, time.time() - began), 3) if began else 0.0,
            cpus=task.cpus if task else 1.0,
            gpus=task.gpus if task else 0.0,
            log=f"logs/{key}.log",
        )
        try:
            self.ledger.write(record)
            self._loose.append(record)
        except (
            StorageError
        ):  # a full disk: this driver knows; the next one gives the scene one attempt more
            self._say(f"{key}: the ledger cannot be written: {reason}")
        return record

    def _note_node(self, record: AttemptRecord) -> None:
        node = record.node
        if node == "?":
            return
        if record.outcome != "fault":
            self._healthy.add(node)
            self._streaks[node] = 0
        elif record.fault and RULES[record.fault].blames_node:
            self._streaks[node] = self._streaks.get(node, 0) + 1
            self._healthy.discard(node)
        if self._streaks.get(node, 0) >= NODE_FAULTS_IN_A_ROW:
            self._suspects[node] = self._streaks[node]
        else:
            self._suspects.pop(node, None)
        if self._suspects and (
            aside := nodes_to_set_aside(self._suspects, self._healthy) - self._aside
        ):
            self._say(
                f"node {', '.join(sorted(aside))} failed too many scenes in a row and gets no more"
            )
            self._aside |= aside

    def _compact(self, at_least: int) -> None:
        if len(self._loose) >= at_least:
            try:
                self.ledger.compact(self._loose)
            # a full disk, mostly: the records stay as they are, and the next call takes them
            except StorageError as error:
                self._say(f"the ledger cannot be compacted now: {error}")
                return
            self._loose = []
