"""Labelling as Ray tasks: a file each, on any node that sees input and output.

What is labelled and what is done already is `panoforge.label.labelling`'s business: a task stages a
file's samples and commits its record. So the result is that of one process, and a task that dies
with its node is run again by Ray. Pixels never pass through Ray.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from panoforge.cluster.config.annotating import AnnotateJobConfig
from panoforge.cluster.ray.session import ray_session
from panoforge.cluster.ray.tasks import RETRIES, TaskLost, run_tasks
from panoforge.cluster.ray.watch import ClusterError
from panoforge.label.labelling import FootageDone, FootageTask, Runner, label_footage, label_here


def labelling_runner(config: AnnotateJobConfig) -> Runner:
    """Who labels: this process, or `workers` Ray tasks at once."""
    return label_here if config.workers == 1 else RayLabeller(config)


class RayLabeller:
    """Labels files as Ray tasks. A full disk comes out as it was raised there."""

    def __init__(self, config: AnnotateJobConfig) -> None:
        self._config = config

    def __call__(
        self, tasks: Sequence[FootageTask], on_done: Callable[[FootageDone], None]
    ) -> None:
        """Label the files on the cluster, and call `on_done` with each."""
        workers, settings = self._config.workers, self._config.ray
        far = [replace(one, place=one.place.absolute(), out=one.out.absolute()) for one in tasks]
        with ray_session(settings, cpus=workers * settings.cpus_per_scene):
            labelled = run_tasks(
                label_footage,
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
