"""Packing while rendering: the shards are those of packing at the end, they come as they fill, and
a slow packer holds back.
"""

import threading
import time

import pytest
from chaos_runs import on_one_ray

from panoforge.cluster.config.packing import PackingConfig
from panoforge.cluster.ray import packer as packer_module
from panoforge.cluster.ray.packer import Packer
from panoforge.cluster.render.driver import Driver
from panoforge.cluster.render.runner import render
from panoforge.cluster.state.scene_states import SceneState, SceneStates
from panoforge.core.errors import DataError
from panoforge.core.shards.layout import read_manifest
from panoforge.core.shards.verify import verify
from panoforge.core.shards.write import pack
from panoforge.core.storage.staged import list_staged

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]
PACKING = PackingConfig(
    while_rendering=True, every_scenes=2, shard_bytes=20_000, splits={"train": 1.0}
)


@pytest.fixture(scope="module")
def one_ray(tmp_path_factory):
    """What packs is a task like any other: one private Ray does for this file."""
    with on_one_ray(tmp_path_factory.mktemp("packer")) as chaos:
        yield chaos


@pytest.fixture
def chaos(one_ray):
    return one_ray.afresh()


def files(dataset) -> dict[str, bytes]:
    return {
        path.relative_to(dataset).as_posix(): path.read_bytes()
        for path in dataset.rglob("*")
        if path.is_file()
    }


def test_shards_are_published_as_they_fill_and_are_those_of_packing_at_the_end(chaos, tmp_path):
    chaos.plan(
        {
            2: ["reject"],
            4: ["segfault", "ok"],
            7: ["refuse"],
            **{index: ["sleep 1"] for index in range(8, 12)},
        }
    )
    seen: list[int] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(0.1):
            if (chaos.run / "dataset" / "manifest.json").exists():
                seen.append(read_manifest(chaos.run / "dataset").samples)

    reader = threading.Thread(target=look)
    reader.start()
    summary = render(chaos.job(12, packing=PACKING))
    stop.set()
    reader.join()
    chaos.assert_exact(12, failed={7}, rejected={2})
    assert summary.panoramas == 10 and read_manifest(chaos.run / "dataset").samples == 10
    assert seen == sorted(seen) and 0 < seen[0] < 10, seen
    assert not verify(chaos.run / "dataset").faults
    pack(chaos.run / "staged", tmp_path / "at the end", PACKING.options())
    assert files(chaos.run / "dataset") == files(tmp_path / "at the end")

    (
        chaos.run / "dataset" / "manifest.json"
    ).unlink()  # as if the driver had died before the last shard
    render(chaos.job(12, packing=PACKING))
    assert files(chaos.run / "dataset") == files(tmp_path / "at the end")


def test_a_packer_that_falls_behind_holds_the_driver_back(chaos, monkeypatch):
    """Nothing starts while it is behind; when it has caught up, things go on."""
    gate = chaos.folder / "gate"
    monkeypatch.setattr(packer_module, "_publish", _publish_at(str(gate)))
    chaos.run.mkdir(parents=True)
    job = chaos.job(10, packing=PACKING.model_copy(update={"max_behind_scenes": 3}))
    packer = Packer(job.packing, chaos.run, chaos.run, 10, lambda index: f"s-{index}", print)
    driver = Driver(
        job,
        SceneStates(10),
        chaos.ledger,
        NoExecutor(),
        stopped=lambda: False,
        check=lambda: None,
        say=print,
        packer=packer,
    )
    settle(driver.scene_states, 2)
    driver._hand_out()
    assert (
        driver.heartbeat()["in_flight"] == 2 and not driver.heartbeat()["waiting_for_packing"]
    )  # a task runs, nobody waits yet
    settle(driver.scene_states, 6)
    driver._running.clear()
    assert (
        driver._hand_out()
        and driver.heartbeat()["in_flight"] == 0
        and driver.heartbeat()["waiting_for_packing"]
    )
    gate.touch()
    end = time.monotonic() + 60
    while driver.heartbeat()["in_flight"] == 0:
        assert time.monotonic() < end
        driver._hand_out()
    assert not driver.heartbeat()["waiting_for_packing"]


def test_the_work_of_publishing_grows_as_the_run_does(chaos, monkeypatch):
    """Each call looks at all names in front of it. Over a run they sum up to a hundred per scene at
    most, however long it is. At even steps it would be a thousand for the larger one.
    """
    asked: list[int] = []

    def start(packer: Packer, frontier: int) -> None:
        packer._asked = frontier
        asked.append(frontier)

    monkeypatch.setattr(Packer, "_start", start)
    for total in (20_000, 200_000):
        asked.clear()
        packer = Packer(PackingConfig(), chaos.run, chaos.run, total, lambda index: "", print)
        for frontier in range(0, total, 10):
            packer.step(frontier)
        assert asked[0] == 100 and asked[-1] >= 0.98 * total and sum(asked) < 105 * total


def test_what_goes_wrong_in_packing_is_said_and_raised_at_the_end(chaos):
    said: list[str] = []
    render(chaos.job(2))
    first, _ = list_staged(chaos.run / "staged")
    (chaos.run / "staged" / first / "meta.json").write_text("{}")
    packer = Packer(
        PACKING, chaos.run / "staged", chaos.run / "dataset", 2, lambda index: "", said.append
    )
    packer.step(2)
    with pytest.raises(DataError, match="does not fit schema"):
        packer.finish(2)
    assert (
        len(said) == 1
        and "does not fit schema" in said[0]
        and not (chaos.run / "dataset" / "manifest.json").exists()
    )


class NoExecutor:
    """Two slots, and nothing ever ends."""

    def now(self) -> float:
        return 0.0

    def slots(self) -> int:
        return 1

    def submit(self, task, avoid) -> None:
        pass

    def cancel(self, begun) -> None:
        pass

    def wait(self, timeout_s: float) -> list:
        return []


def settle(scene_states: SceneStates, scenes: int) -> None:
    scene_states.set_states(
        bytes([SceneState.DONE] * scenes + [SceneState.OPEN] * (scene_states.total - scenes))
    )


def _publish_at(gate: str):
    def publish_when_told(*arguments):
        import time
        from pathlib import Path

        while not Path(gate).exists():
            time.sleep(0.05)

    return publish_when_told
