"""Training on Ray Train: a rank for each worker, started again where one is lost.

What a rank does is `panoforge.train.rank`'s business; it knows no Ray, and meets the others as
under torchrun. Ray Train places the ranks, watches them, and starts all of them again when one is
lost, with as many as there is room for (`min_ranks`). They go on from the last checkpoint of the
run's folder, so what a lost rank costs is the start and the steps since then. A user's mistake ends
the run at once: no second try makes it right.

Rank 0's lines come to this process through an actor, and a wish to stop goes back through it.
"""

import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from panoforge.cluster.config.jobs import TrainJobConfig
from panoforge.cluster.ray.relay import Relay
from panoforge.cluster.ray.session import ray_session
from panoforge.cluster.ray.watch import ClusterError, require_living_ray
from panoforge.core.drain import Drain
from panoforge.core.storage.location import absolute, with_absolute_paths
from panoforge.train.distributed import Stopped

_LOOK_S = 0.5  # between two looks at the ranks, and at what they say
# That Ray Train waits for room before it counts again what the cluster has. Ray takes a killed node
# for alive for some 15 s, and its coordinator looks every 20 s: until then it asks for room there.
_PLACING_S = 5
_ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": str(_LOOK_S),
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(_PLACING_S),
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # it says every line to stderr a second time
    "RAY_worker_niceness": "0",  # Ray's 15 starves ranks on a busy machine
}


def train_on_ray(config: TrainJobConfig) -> Path:
    """Train with `config.ranks` ranks on Ray; gives the exported weights.

    Raises:
        UserError: what a rank raised, with its number and node.
        ClusterError: there is no room for the ranks, or too many were lost.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    cpus = config.ranks * config.ray.cpus_per_scene
    with (
        Drain("stopping after this step") as drain,
        ray_session(config.ray, cpus=cpus),
        tempfile.TemporaryDirectory(prefix="panoforge-train-") as scratch,
    ):
        from panoforge.cluster.ray.trainer import RankJob, fit

        relay = _relay_here()
        job = RankJob(
            with_absolute_paths(config.train),
            absolute(config.dataset_location),
            config.run.absolute(),
            relay,
        )
        return _follow(_in_thread(lambda: fit(config, job, scratch)), relay, drain)


def _relay_here() -> Any:
    """The relay, on this process's own node: on another one it would be lost with that."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=here)(Relay).remote()


def _in_thread(work: Callable[[], Path]) -> "Future[Path]":
    """Its result, some time. Nobody waits for the thread where the run is given up."""
    found: Future[Path] = Future()

    def run() -> None:
        try:
            found.set_result(work())
        except BaseException as error:
            found.set_exception(error)

    # Ray Train takes SIGINT over in a main thread.
    threading.Thread(target=run, name="Ray Train", daemon=True).start()
    return found


def _follow(training: "Future[Path]", relay: Any, drain: Drain) -> Path:
    """Until the end: say what rank 0 says, and hand on a wish to stop."""
    asked = False
    while True:
        ended = training.done()
        require_living_ray()
        if drain.asked and not asked:
            asked = True
            if not _answer(relay.stop.remote()):
                raise Stopped("stopped as asked before the first step. Nothing is lost")
        for line in _answer(relay.collect.remote()):
            print(line, file=sys.stderr, flush=True)
        if ended:
            return training.result()
        with contextlib.suppress(TimeoutError):
            training.exception(_LOOK_S)


def _answer(call: Any) -> Any:
    """The relay's. ClusterError where it is gone: it ends with this node's part of Ray only."""
    import ray

    try:
        return ray.get(call)
    except ray.exceptions.RayError as error:
        require_living_ray()
        raise ClusterError(
            f"this node was lost to its Ray cluster ({type(error).__name__}), with all ranks."
            " What is saved stays; the same command goes on from the last checkpoint"
        ) from None
