"""Evaluation as Ray tasks: panoramas on many workers, one GPU each if `ray.gpus_per_scene` says so.

What is evaluated and what is done already is `panoforge.eval.evaluate`'s business; a task evaluates
a handful of panoramas and commits each as a folder of the run, which all nodes must see. So the
result is that of one process, a task that dies with its node is run again by Ray and overwrites
nothing that differs, and an interrupted run goes on where it stopped. Pixels never pass through
Ray.
"""

import dataclasses
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from panoforge.cluster.config import EvalJobConfig
from panoforge.cluster.ray.session import ClusterError, ray_session, require_living_ray
from panoforge.core.errors import UserError
from panoforge.core.storage.location import absolute
from panoforge.eval.evaluate import EvalJob, Evaluator, evaluate_panoramas

_LOOK_S = 5.0
_RETRIES = 3  # of a task whose node or worker process died
_TASKS_PER_WORKER = 4  # each loads the model once: few enough to pay for that, enough to even out


def evaluator(config: EvalJobConfig) -> Evaluator | None:
    """The evaluator that a config asks for: None for this process, or `workers` Ray tasks at
    once."""
    return None if config.workers == 1 else RayEvaluator(config)


def chunks(positions: Sequence[int], workers: int) -> list[list[int]]:
    """Positions for tasks, neighbours together: about four tasks for each worker, at least one
    panorama each.
    """
    size = max(1, -(-len(positions) // (workers * _TASKS_PER_WORKER)))
    return [list(positions[start : start + size]) for start in range(0, len(positions), size)]


class RayEvaluator:
    """Evaluates panoramas as Ray tasks. Errors of a task come out as they were raised there."""

    def __init__(self, config: EvalJobConfig) -> None:
        self._config = config

    def __call__(self, job: EvalJob, positions: Sequence[int], on_done: Callable[[], None]) -> None:
        import ray

        settings = self._config.ray
        far = dataclasses.replace(job, dataset=absolute(job.dataset), out=job.out.absolute())
        with ray_session(settings, cpus=self._config.workers * settings.cpus_per_scene):
            remote = ray.remote(
                max_retries=_RETRIES,
                num_cpus=settings.cpus_per_scene,
                num_gpus=settings.gpus_per_scene,
            )(_on_node)
            waiting, running = (
                deque(chunks(positions, self._config.workers)),
                dict[Any, list[int]](),
            )
            while waiting or running:
                while waiting and len(running) < self._config.workers:
                    chunk = waiting.popleft()
                    running[remote.options(name=f"eval {chunk[0]}").remote(far, chunk)] = chunk
                require_living_ray()
                done, _ = ray.wait(list(running), num_returns=1, timeout=_LOOK_S)
                for reference in done:
                    _result(reference)
                    for _ in running.pop(reference):
                        on_done()


def _result(reference: Any) -> None:
    import ray

    try:
        ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise (error.cause if isinstance(error.cause, UserError) else error) from None
    except ray.exceptions.RayError as error:
        raise ClusterError(
            f"panoramas could not be evaluated: their node or Ray worker was lost {_RETRIES + 1}"
            f" times ({type(error).__name__}). What is evaluated stays; the same command goes on"
            " from there"
        ) from None


def _on_node(job: EvalJob, positions: Sequence[int]) -> None:
    """The Ray task."""
    evaluate_panoramas(job, positions, lambda: None)
