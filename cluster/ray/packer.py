"""Packing while rendering: shards are published as they fill, by one Ray task at a time beside the
scenes.

The driver tells the packer how far the run is settled without a gap (its frontier). Once that has
moved by `every_scenes`, and by a hundredth (a call looks at the names of all that is published, so
that calls at even steps would cost the square of the run's size), a task publishes what is full of
the scenes in front of it (`panoforge.core.shards.write.publish`: the same bytes as packing at the
end gives); when the last scene is settled, the rest. A packer that cannot keep up holds the driver
back (`is_behind`). What goes wrong in packing stops no scene: it is said, tried again with the next
frontier, and raised by `finish`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from panoforge.cluster.config import PackingConfig
from panoforge.core.errors import UserError
from panoforge.core.shards.write import PackOptions, publish


class Packer:
    """Publishes one run's dataset. `scene_key` names the scene of an index."""

    def __init__(
        self,
        config: PackingConfig,
        staged: Path,
        dataset: Path,
        total: int,
        scene_key: Callable[[int], str],
        say: Callable[[str], None],
    ) -> None:
        self._config, self._places, self._total = config, (str(staged), str(dataset)), total
        self._scene_key, self._say = scene_key, say
        self._task: Any = None
        self._asked = 0  # the frontier of the last task

    def step(self, frontier: int) -> None:
        """Look after the running task; start the next one if there is enough to do. `frontier` is
        the first open scene.
        """
        import ray

        if self._task is not None and ray.wait([self._task], timeout=0)[0]:
            try:
                self._collect()
            except UserError as error:
                self._say(f"packing: {error}. Rendering goes on; packing is tried again")
        if self._task is None and frontier - self._asked >= max(
            self._config.every_scenes, self._asked // 100
        ):
            self._start(frontier)

    def is_behind(self, frontier: int) -> bool:
        """Whether so many scenes were settled since the running task began that no more should be
        started.
        """
        return self._task is not None and frontier - self._asked > self._config.max_behind_scenes

    def finish(self, frontier: int) -> None:
        """Publish what can be published now: everything, if all scenes are settled. Raises what
        packing raised.
        """
        if self._task is not None:
            try:
                self._collect()
            except UserError as error:
                self._say(f"packing: {error}. It is tried once more")
        self._start(frontier)
        self._collect()

    def _start(self, frontier: int) -> None:
        import ray

        self._asked = frontier
        before = self._scene_key(frontier) if frontier < self._total else None
        task = ray.remote(num_cpus=0, max_retries=0)(_publish)
        self._task = task.options(name="pack").remote(*self._places, self._config.options(), before)

    def _collect(self) -> None:
        import ray

        reference, self._task = self._task, None
        try:
            ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, UserError) else error) from None
        except ray.exceptions.RayError as error:
            raise PackingLost(
                f"the node or Ray worker that packed was lost ({type(error).__name__})"
            ) from None


class PackingLost(UserError):
    """The task that packed did not come back."""


def _publish(staged: str, dataset: str, options: PackOptions, before: str | None) -> None:
    """The Ray task. With nothing staged at all there is nothing to pack, and that is fine."""
    if any(Path(staged).iterdir()):
        publish(Path(staged), Path(dataset), options, before=before, final=before is None)
