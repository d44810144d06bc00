"""Evaluation as Ray tasks: panoramas on many workers, one GPU each if `ray.gpus_per_scene` says so.

What is evaluated and what is done already is `panoforge.eval.evaluate`'s business. A task evaluates
a handful of panoramas and commits each as a folder of the run, which all nodes must see. So the
result is that of one process. A task that dies with its node is run again by Ray and overwrites
nothing that differs. An interrupted run goes on where it stopped. Pixels never pass through Ray.
"""

import dataclasses
from collections.abc import Callable, Sequence

from panoforge.cluster.config.jobs import EvalJobConfig
from panoforge.cluster.ray.session import ray_session
from panoforge.cluster.ray.tasks import RETRIES, TaskLost, run_tasks
from panoforge.cluster.ray.watch import ClusterError
from panoforge.core.storage.location import absolute
from panoforge.eval.evaluate import EvalJob, Evaluator, evaluate_panoramas

_TASKS_PER_WORKER = 4  # each loads the model once: few enough to pay for that, enough to even out


def evaluator(config: EvalJobConfig) -> Evaluator | None:
    """The evaluator that a config asks for: None for this process, or `workers` Ray tasks."""
    return None if config.workers == 1 else RayEvaluator(config)


def chunks(positions: Sequence[int], workers: int) -> list[list[int]]:
    """Positions for tasks, neighbours together.

    About four tasks for each worker, at least one panorama each.
    """
    size = max(1, -(-len(positions) // (workers * _TASKS_PER_WORKER)))
    return [list(positions[start : start + size]) for start in range(0, len(positions), size)]


class RayEvaluator:
    """Evaluates panoramas as Ray tasks. Errors of a task come out as they were raised there."""

    def __init__(self, config: EvalJobConfig) -> None:
        self._config = config

    def __call__(self, job: EvalJob, positions: Sequence[int], on_done: Callable[[], None]) -> None:
        """Score the panoramas at `positions` on the cluster, and call `on_done` after each."""
        workers, settings = self._config.workers, self._config.ray
        far = dataclasses.replace(job, dataset=absolute(job.dataset), out=job.out.absolute())
        with ray_session(settings, cpus=workers * settings.cpus_per_scene):
            evaluated = run_tasks(
                _on_node,
                [(far, chunk) for chunk in chunks(positions, workers)],
                at_once=workers,
                name=lambda task: f"eval {task[1][0]}",
                num_cpus=settings.cpus_per_scene,
                num_gpus=settings.gpus_per_scene,
            )
            try:
                for (_, chunk), _ in evaluated:
                    for _ in chunk:
                        on_done()
            except TaskLost as error:
                raise ClusterError(
                    f"panoramas could not be evaluated in {RETRIES + 1} attempts: {error}. What is"
                    " evaluated stays; the same command goes on from there"
                ) from None


def _on_node(task: tuple[EvalJob, Sequence[int]]) -> None:
    """The Ray task."""
    job, positions = task
    evaluate_panoramas(job, positions, lambda: None)
