"""Where attempts run: Ray.

The driver's only view of it, so that the scale simulation can put a simulated cluster here.

Tasks carry paths and digests, never pixels. Ray's own retries are off: what a failure means is the
policy's business.
"""

import platform
import signal
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from panoforge.cluster.config.ray import RayConfig
from panoforge.cluster.ray.tasks import TaskCancelled, TaskLost, TaskOutOfMemory, TaskWindow
from panoforge.cluster.ray.watch import require_living_ray
from panoforge.cluster.render.scene_task import SceneTask, run_scene
from panoforge.cluster.state.ledger import AttemptRecord
from panoforge.cluster.state.policy import AttemptFault, memory_factor
from panoforge.core.errors import StorageError, UsageError
from panoforge.core.numbers import counted

_LOOK_AT_CLUSTER_S = 5.0
_FIRST_LOOK_S = 20.0


@dataclass(frozen=True)
class NoRecord:
    """An attempt of which no record came back, and why."""

    fault: AttemptFault
    reason: str


class Cancelled:
    """An attempt was cancelled. If it had begun, the ledger has its record."""


Answer = AttemptRecord | NoRecord | Cancelled


class Executor(Protocol):
    """What the driver needs of a cluster."""

    def now(self) -> float:
        """Seconds on a clock that never jumps."""

    def slots(self) -> int:
        """How many scenes the cluster can hold at once, now."""

    def submit(self, task: SceneTask, avoid: Collection[str]) -> None:
        """Start an attempt, on none of the nodes `avoid`."""

    def cancel(self, begun: Callable[[SceneTask], bool]) -> None:
        """Cancel the attempts that have not begun; those that have go on to their end."""

    def wait(self, timeout_s: float) -> list[tuple[SceneTask, Answer]]:
        """The attempts that have ended, as soon as there is one; nothing after `timeout_s`."""


def check_gpus(nodes: Sequence[Mapping[str, Any]], device: str, gpus_per_scene: float) -> None:
    """Refuse a GPU that no node has, before every scene of the run is tried on each.

    With `gpus_per_scene` Ray is asked for GPUs, and a cluster that grows may bring them.

    Args:
        nodes: As `ray.nodes()` gives them.
        device: `device` of the render config.
        gpus_per_scene: `ray.gpus_per_scene`.

    Raises:
        UsageError: No node that is alive has a GPU.
    """
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    if device in ("auto", "cpu") or gpus_per_scene or any(own.get("GPU") for own in alive):
        return
    raise UsageError(
        f"device={device} was asked for, and of the {counted(len(alive), 'node')} of this Ray none"
        " has a GPU, so no scene was tried. Set device=auto to take what there is, ray.address to a"
        " cluster with GPUs, or ray.gpus_per_scene=1 where nodes with GPUs join when they are asked"
        " for"
    )


class RayExecutor:
    """The Ray that this process is connected to."""

    def __init__(self, config: RayConfig) -> None:
        self._config = config
        self._asked: float | None = None
        self._looking: threading.Thread | None = None
        self._slots, self._largest_memory = 1, 0.0

    def check_device(self, device: str) -> None:
        """Refuse the render config's `device` if no node can have it: see `check_gpus`."""
        import ray

        if device not in ("auto", "cpu"):
            check_gpus(ray.nodes(), device, self._config.gpus_per_scene)

    def now(self) -> float:
        """Seconds on a clock that never jumps."""
        return time.monotonic()

    def slots(self) -> int:
        """How many scenes the cluster can hold at once, as of the last look at it."""
        require_living_ray()
        due = (
            self._asked is None or time.monotonic() - self._asked > _LOOK_AT_CLUSTER_S
        )  # clusters grow and shrink
        if due and not (self._looking and self._looking.is_alive()):
            # In a thread of its own: if the head dies just then, Ray's call returns only with the
            # end of this process.
            self._looking = threading.Thread(
                target=self._look, name="look at the cluster", daemon=True
            )
            self._looking.start()
            if self._asked is None:
                self._looking.join(_FIRST_LOOK_S)
            self._asked = time.monotonic()
        return self._slots

    def close(self) -> None:
        """Wait for the last look.

        A thread that comes back from Ray's C++ while Python ends would abort the process.
        """
        if self._looking:
            self._looking.join(_LOOK_AT_CLUSTER_S)

    def _look(self) -> None:
        import ray

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self._slots = sum(map(self._slots_of, nodes)) or 1
        self._largest_memory = max(
            (resources.get("memory", 0.0) for resources in nodes), default=0.0
        )

    def _slots_of(self, resources: dict[str, float]) -> int:
        wanted = {
            "CPU": self._config.cpus_per_scene,
            "GPU": self._config.gpus_per_scene,
            "memory": self._config.memory_per_scene_gb * 1e9,
        }
        return int(
            min(resources.get(name, 0.0) / amount for name, amount in wanted.items() if amount)
        )

    @cached_property
    def _tasks(self) -> TaskWindow[SceneTask, AttemptRecord]:
        return TaskWindow(
            _on_node,
            max_retries=0,
            num_cpus=self._config.cpus_per_scene,
            num_gpus=self._config.gpus_per_scene,
        )

    def submit(self, task: SceneTask, avoid: Collection[str]) -> None:
        """Start an attempt, on none of the nodes `avoid`."""
        options: dict[str, Any] = {}
        if self._config.memory_per_scene_gb:
            wanted = memory_factor(task.profile) * self._config.memory_per_scene_gb * 1e9
            options["memory"] = min(
                wanted, self._largest_memory
            )  # what no node has would wait for ever
        if avoid:
            options["label_selector"] = {"ray.io/node-id": f"!in({','.join(sorted(avoid))})"}
        self._tasks.start(task, name=task.job.key, **options)

    def cancel(self, begun: Callable[[SceneTask], bool]) -> None:
        """Cancel the attempts that have not begun; those that have go on to their end."""
        self._tasks.cancel(begun)

    def wait(self, timeout_s: float) -> list[tuple[SceneTask, Answer]]:
        """The attempts that have ended, as soon as there is one; nothing after `timeout_s`."""
        if not self._tasks:
            time.sleep(min(timeout_s, 0.05))
            return []
        return [(task, _answer_of(answer)) for task, answer in self._tasks.ended(timeout_s)]


def _answer_of(answer: Callable[[], AttemptRecord]) -> Answer:
    try:
        return answer()
    except TaskCancelled:
        return Cancelled()
    except TaskOutOfMemory as error:
        return NoRecord(AttemptFault.OOM, str(error))
    except TaskLost as error:
        return NoRecord(AttemptFault.LOST, str(error))
    except StorageError as error:
        return NoRecord(AttemptFault.DISK, str(error))


def _on_node(task: SceneTask) -> AttemptRecord:
    """The Ray task. To cancel it, Ray sends a SIGINT: what has begun does not listen."""
    import ray

    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        return run_scene(task, f"{platform.node()}/{ray.get_runtime_context().get_node_id()}")
    finally:
        signal.signal(signal.SIGINT, before)
