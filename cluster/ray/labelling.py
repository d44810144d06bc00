"""Labelling as Ray tasks: a file each, on any node that sees input and output.

What is labelled and what is done already is `panoforge.label`'s business: a task stages a file's
samples and commits its record. So the result is that of one process, and a task that dies with its
node is run again by Ray. Pixels never pass through Ray.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from panoforge.cluster.config.ray import RayConfig
from panoforge.cluster.ray.session import ray_session
from panoforge.cluster.ray.tasks import RETRIES, TaskLost, run_tasks
from panoforge.cluster.ray.watch import ClusterError
from panoforge.label.by_file import FileDone, FileTask, Label, Runner, run_here


def labelling_runner(workers: int, settings: RayConfig) -> Runner:
    """Who labels: this process, or `workers` Ray tasks at once."""
    return run_here if workers == 1 else RayLabeller(workers, settings)


class RayLabeller:
    """Labels files as Ray tasks. A full disk comes out as it was raised there."""

    def __init__(self, workers: int, settings: RayConfig) -> None:
        self._workers, self._settings = workers, settings

    def __call__(
        self,
        label: Label[Any, Any],
        tasks: Sequence[FileTask[Any]],
        on_done: Callable[[FileDone[Any]], None],
    ) -> None:
        """Label the files on the cluster, and call `on_done` with each."""
        workers, settings = self._workers, self._settings
        far = [replace(one, place=one.place.absolute(), out=one.out.absolute()) for one in tasks]
        with ray_session(settings, cpus=workers * settings.cpus_per_scene):
            labelled = run_tasks(
                label,
                far,
                at_once=workers,
                name=lambda task: f"label {task.name}",
                num_cpus=settings.cpus_per_scene,
                num_gpus=settings.gpus_per_scene,
            )
            try:
                for _, done in labelled:
                    on_done(done)
            except TaskLost as error:
                raise ClusterError(
                    f"a file could not be labelled in {RETRIES + 1} attempts: {error}. What is"
                    " labelled stays; the same command goes on from there"
                ) from None
