"""Runs of synthetic scenes on a real Ray: each scene a real child process, about a second."""

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from repository import ROOT

from panoforge.cluster.config.jobs import RenderJobConfig
from panoforge.cluster.config.limits import LimitsConfig
from panoforge.cluster.config.ray import RayConfig
from panoforge.cluster.process.process import Limits
from panoforge.cluster.ray.session import ray_session
from panoforge.cluster.render.images import image_config_sha256
from panoforge.cluster.render.scene_task import SceneTask
from panoforge.cluster.state.ledger import Ledger
from panoforge.cluster.state.policy import Profile
from panoforge.core.storage.staged import list_staged, read_staged
from panoforge.datagen.config.render import plan_scene, plan_scenes

LIMITS = LimitsConfig(scene_timeout_s=60, no_progress_s=30, min_free_gb=0)


class Chaos:
    """A run folder, and what its scenes' attempts do (see chaos_worker)."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.run, self.scratch = folder, folder / "run", folder.parent / "scratch"

    def plan(self, plan: dict[int, list[str]]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "plan.json").write_text(json.dumps(plan))

    def afresh(self) -> "Chaos":
        """The same, with nothing done yet."""
        shutil.rmtree(self.folder)
        self.plan({})
        return self

    def open(self, gate: str) -> None:
        """Let the scenes go on that wait at it (`gate a` in the plan)."""
        (self.folder / gate).touch()

    def job(self, scenes: int, **change) -> RenderJobConfig:
        fields = {
            "run": self.run,
            "scenes": scenes,
            "cameras_per_scene": 1,
            "width": 64,
            "height": 32,
            "worker": "chaos_worker",
            "ray": RayConfig(),
            "limits": LIMITS,
        }
        return RenderJobConfig(**{**fields, **change})

    def task(self, index: int = 0, attempt: int = 1, cameras: int = 1) -> SceneTask:
        """One attempt at a scene of a job of four."""
        job = self.job(4, cameras_per_scene=cameras)
        render = job.render
        digest = image_config_sha256(render)
        return SceneTask(
            str(self.run),
            job.ledger_url,
            "chaos_worker",
            plan_scene(render, index),
            render,
            digest,
            digest,
            Limits(60, 60),
            1,
            attempt,
            Profile.NORMAL,
            1.0,
            0.0,
        )

    @property
    def ledger(self) -> Ledger:
        return Ledger(str(self.run / "ledger"))

    def starts(self, index: int) -> int:
        return len(list((self.folder / "calls").glob(f"{index}-*")))

    def assert_exact(
        self,
        scenes: int,
        failed: set[int] = frozenset(),
        rejected: set[int] = frozenset(),
        cameras: int = 1,
    ) -> None:
        """The heart of every chaos test. Accepted panoramas are the job's list less what was given
        up with a reason, each once and whole. Nobody is left running, and nothing half-written is
        left lying. Ray has all its resources back, or is gone itself where it was the run's own.
        """
        jobs = plan_scenes(self.job(scenes, cameras_per_scene=cameras).render)
        expected = sorted(
            job.sample_key(c)
            for job in jobs
            if job.index not in failed | rejected
            for c in range(cameras)
        )
        assert list_staged(self.run / "staged") == expected
        for key in expected:
            read_staged(self.run / "staged", key)
        records = self.ledger.records()
        last = {record.index: record for record in records}
        assert {record.index for record in records if record.outcome == "done"} == set(
            range(scenes)
        ) - failed - rejected
        assert {i for i, record in last.items() if record.outcome == "quarantined"} == failed
        assert all(last[i].reason for i in failed | rejected)
        assert {record.index for record in records if record.outcome == "rejected"} == rejected
        assert_resources_are_returned()
        assert orphans(self.folder) == []
        leftovers = [path for path in self.run.rglob("*") if path.name.startswith(".tmp-")]
        assert leftovers == [] and not (self.run / "work").exists()
        assert self.ledger.store.names("attempts") == []
        ours = [
            path
            for path in (*self.scratch.iterdir(), *self.scratch.glob("panoforge-*/*"))
            if not path.name.startswith("pymp-") and path.name != f"panoforge-{os.getuid()}"
        ]
        assert ours == []  # pymp-… is what a dashboard of Ray leaves that was killed


def assert_resources_are_returned(seconds: float = 60) -> None:
    """All that the connected Ray has is available; nothing to say where none is connected."""
    import ray

    if ray.is_initialized():
        wait_for(
            lambda: all(
                ray.available_resources().get(name) == amount
                for name, amount in ray.cluster_resources().items()
            ),
            seconds,
        )


def orphans(chaos: Path, patience_s: float = 60.0) -> list[str]:
    """Living processes of this test: all that it started carry CHAOS in their environment, Ray's
    own too. While a Ray of this process is up, only workers and what they started count. What was
    just killed may take a moment to go.
    """
    import ray

    end = time.monotonic() + patience_s
    while (
        found := _of_this_test(chaos, only_workers=ray.is_initialized())
    ) and time.monotonic() < end:
        time.sleep(0.2)
    return found


def _of_this_test(chaos: Path, *, only_workers: bool) -> list[str]:
    found = []
    for process in psutil.process_iter():
        try:
            environment = process.environ()
            ours = environment.get("CHAOS") == str(chaos) and (
                not only_workers or "PANOFORGE_ATTEMPT" in environment
            )
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def done(chaos: Chaos) -> set[int]:
    """Scenes that the ledger says are done."""
    return {record.index for record in chaos.ledger.records() if record.outcome == "done"}


def wait_for(what: Callable[[], object], seconds: float = 400) -> None:
    """Until it is so; AssertionError if that takes too long."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.1)


@pytest.fixture
def chaos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Chaos:
    """A run of its own, for whose Ray the test itself sees."""
    return set_up(tmp_path / "chaos", monkeypatch)


@contextlib.contextmanager
def on_one_ray(folder: Path) -> Iterator[Chaos]:
    """A run on a private Ray that is up already. Ray's processes know its folder by name, so one
    run after the other has that name: see `Chaos.afresh`.
    """
    with pytest.MonkeyPatch.context() as monkeypatch:
        chaos = set_up(folder / "chaos", monkeypatch)
        with ray_session(RayConfig()):
            yield chaos


def set_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Chaos:
    """A run in `folder`, and the environment that Ray and the workers of its scenes need."""
    monkeypatch.setenv("CHAOS", str(folder))
    monkeypatch.setenv(
        "PYTHONPATH",
        os.pathsep.join([str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "cluster")]),
    )
    result = Chaos(folder)
    monkeypatch.setenv("RAY_TMPDIR", tempfile.gettempdir())  # Ray's sockets need a short path
    monkeypatch.setenv("TMPDIR", str(result.scratch))
    monkeypatch.setattr(tempfile, "tempdir", str(result.scratch))
    result.scratch.mkdir()
    result.plan({})
    return result
