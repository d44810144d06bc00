"""Packing while rendering.

Shards are published as they fill, by one Ray task at a time beside the scenes.

The driver tells the packer how far the run is settled without a gap: its frontier. Once the
frontier has moved far enough, a task publishes what is full of the scenes in front of it. Those are
the bytes of packing at the end (`panoforge.core.shards.write.publish`). When the last scene is
settled, the rest follows.

Far enough is `every_scenes`, and a hundredth of what is settled. Each task looks at all published
names, so even steps would cost the square of the run's size. A packer that cannot keep up holds the
driver back (`is_behind`). What goes wrong in packing stops no scene: it is said, tried again with
the next frontier, and raised by `finish`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from panoforge.cluster.config.packing import PackingConfig
from panoforge.cluster.ray.tasks import TaskWindow
from panoforge.core.errors import UserError
from panoforge.core.shards.write import PackOptions, publish
from panoforge.core.storage.staged import list_staged

_LOOK_S = 5.0


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
        self._config, self._total = config, total
        self._staged, self._dataset = str(staged), str(dataset)
        self._scene_key, self._say = scene_key, say
        self._asked = 0  # the frontier of the last task

    def step(self, frontier: int) -> None:
        """Look after the running task; start the next one if there is enough to do.

        `frontier` is the first open scene.
        """
        try:
            self._collect(timeout_s=0.0)
        except UserError as error:
            self._say(f"packing: {error}. Rendering goes on; packing is tried again")
        if not self._task and frontier - self._asked >= max(
            self._config.every_scenes, self._asked // 100
        ):
            self._start(frontier)

    def is_behind(self, frontier: int) -> bool:
        """Whether no more scenes should be started before the packer has caught up.

        So it is where many scenes were settled since the running task began.
        """
        return bool(self._task) and frontier - self._asked > self._config.max_behind_scenes

    def finish(self, frontier: int) -> None:
        """Publish what can be published now: everything, if all scenes are settled.

        Raises what packing raised.
        """
        try:
            self._wait()
        except UserError as error:
            self._say(f"packing: {error}. It is tried once more")
        self._start(frontier)
        self._wait()

    @cached_property
    def _task(self) -> TaskWindow["_Publication", None]:
        """The running task, if there is one."""
        return TaskWindow(_publish, num_cpus=0, max_retries=0)

    def _start(self, frontier: int) -> None:
        self._asked = frontier
        before = self._scene_key(frontier) if frontier < self._total else None
        publication = _Publication(self._staged, self._dataset, self._config.options(), before)
        self._task.start(publication, name="pack")

    def _wait(self) -> None:
        while self._task:
            self._collect(timeout_s=_LOOK_S)

    def _collect(self, timeout_s: float) -> None:
        for _, answer in self._task.ended(timeout_s):
            answer()


@dataclass(frozen=True)
class _Publication:
    """What a task publishes: all scenes in front of the key `before`; None for the rest."""

    staged: str
    dataset: str
    options: PackOptions
    before: str | None


def _publish(publication: _Publication) -> None:
    """The Ray task. With nothing staged at all there is nothing to pack, and that is fine."""
    staged, before = Path(publication.staged), publication.before
    if list_staged(staged):
        publish(
            staged,
            Path(publication.dataset),
            publication.options,
            before=before,
            final=before is None,
        )
