"""The run as Prometheus metrics on Ray's own endpoint of every node.

The endpoint is the `MetricsExportPort` of `ray.nodes()`.

    ray_panoforge_scenes{run, state}   gauge    scenes that are open, done, rejected, quarantined
    ray_panoforge_panoramas{run}       counter  panoramas staged by this driver
    ray_panoforge_faults{run, fault}   counter  attempts that ended in a fault
    ray_panoforge_core_seconds{run}    counter  what the attempts of this driver held

Telemetry never stops a run: what goes wrong here is said once, and then there are no metrics.
"""

import contextlib
from collections.abc import Callable, Iterator

from panoforge.cluster.state.ledger import AttemptRecord
from panoforge.cluster.state.scene_states import SceneState, SceneStates


class RunMetrics:
    """Keeps the metrics of one run up to date. Needs a connected Ray."""

    def __init__(self, run: str, scene_states: SceneStates, say: Callable[[str], None]) -> None:
        from ray.util.metrics import Counter, Gauge

        self._run, self._scene_states, self._say = {"run": ascii_label(run)}, scene_states, say
        self._are_on = True
        with self._telemetry():
            self._scenes = Gauge(
                "panoforge_scenes", "Scenes of a render run by state", tag_keys=("run", "state")
            )
            self._panoramas = Counter("panoforge_panoramas", "Panoramas staged", tag_keys=("run",))
            self._faults = Counter(
                "panoforge_faults", "Attempts that ended in a fault", tag_keys=("run", "fault")
            )
            self._core_seconds = Counter(
                "panoforge_core_seconds", "Core-seconds held by attempts", tag_keys=("run",)
            )
            self._show_states()

    def note(self, record: AttemptRecord) -> None:
        """One more record, already applied to the scene states."""
        if not self._are_on:
            return
        with self._telemetry():
            if record.panoramas:
                self._panoramas.inc(len(record.panoramas), self._run)
            if record.outcome == "fault":
                self._faults.inc(1, {**self._run, "fault": str(record.fault)})
            if record.seconds * record.cpus > 0:
                self._core_seconds.inc(record.seconds * record.cpus, self._run)
            self._show_states()

    def _show_states(self) -> None:
        for state in SceneState:
            self._scenes.set(
                self._scene_states.count(state), {**self._run, "state": state.name.lower()}
            )

    @contextlib.contextmanager
    def _telemetry(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._are_on = False
            self._say(f"no metrics any more ({type(error).__name__}: {error}). The run goes on")


def ascii_label(text: str) -> str:
    r"""A label that Ray takes: it refuses all but ASCII. `é` becomes `\xe9`."""
    return text.encode("ascii", "backslashreplace").decode()
