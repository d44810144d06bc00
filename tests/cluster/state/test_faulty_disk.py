"""The N-th write, fsync, rename, link, mkdir or unlink fails, for every N: of a ledger append, of
an attempt that stages a scene, of a shard commit. Each time what was there still is, nothing is
believed that is not whole, and the next try ends well.
"""

import contextlib
import os
import shutil
from pathlib import Path

import chaos_worker
import pytest
import synthetic
from faulty_disk import FaultyDisk, Killed
from test_ledger import record

from panoforge.cluster.process.process import ProcessOutcome
from panoforge.cluster.render import scene_task
from panoforge.cluster.render.runner import _open_scene_states, _tidy
from panoforge.cluster.render.scene_task import run_scene
from panoforge.cluster.state.ledger import FAN_IN, Ledger
from panoforge.cluster.state.scene_states import SceneState
from panoforge.core.errors import StorageError
from panoforge.core.run_layout import WORK
from panoforge.core.shards.layout import MANIFEST_NAME
from panoforge.core.shards.verify import verify
from panoforge.core.shards.write import PackOptions, pack, publish
from panoforge.datagen.messages import SceneResult, read_request, write_result

MODES = ("error", "kill", "power cut")
LIMIT = 400


def temporaries(folder: Path) -> list[Path]:
    return list(folder.rglob(".tmp-*"))


@pytest.mark.parametrize("how", MODES)
def test_a_ledger_append_and_its_compaction(tmp_path, how):
    """The last record that is appended makes the segments be merged."""
    template = Ledger(str(tmp_path / "template"))
    for i in range(FAN_IN - 1):
        template.compact([record(i)])
    before, after = list(range(FAN_IN - 1)), list(range(FAN_IN))
    for n in range(1, LIMIT):
        folder = tmp_path / str(n)
        shutil.copytree(tmp_path / "template", folder)
        ledger, acknowledged = Ledger(str(folder)), False
        with FaultyDisk(n, how) as disk, contextlib.suppress(StorageError, Killed):
            ledger.write(record(FAN_IN - 1))
            acknowledged = True
            ledger.compact_all()
        assert how != "error" or temporaries(folder) == [], n  # who lives cleans up after himself
        found = [r.index for r in Ledger(str(folder)).records()]
        assert found == after or (found == before and not acknowledged), n
        again = Ledger(str(folder))  # the next driver
        again.compact_all()
        if len(again.records()) == len(before):
            again.write(record(FAN_IN - 1))
            again.compact_all()
        assert [r.index for r in again.records()] == after and again.store.names("attempts") == []
        assert temporaries(folder) == [], n
        if disk.calls < n:
            assert n > 15  # it was really exercised
            return
    pytest.fail("the loop never came to its end")


@pytest.fixture
def inline(monkeypatch, chaos):
    """The worker within this process, so that its disk fails too; as a process it would end with
    exit code 1.
    """

    def run_inline(command, log, environment, limits) -> ProcessOutcome:
        (job,) = (chaos.run / WORK).glob("*/job.json")
        try:
            request = read_request(job)
            panoramas = [
                chaos_worker.make(request, camera) for camera in range(request.scene.cameras)
            ]
            write_result(
                request.result,
                SceneResult(key=request.scene.key, outcome="done", panoramas=tuple(panoramas)),
            )
        except (StorageError, OSError) as error:
            return ProcessOutcome(1, None, None, 0.1, f"{error}: No space left on device")
        return ProcessOutcome(0, None, None, 0.1, "")

    monkeypatch.setattr(scene_task, "run_watched", run_inline)


@pytest.mark.parametrize("how", MODES)
def test_an_attempt_that_stages_a_scene(chaos, inline, how):
    config = chaos.job(1, cameras_per_scene=2)
    for n in range(1, LIMIT):
        shutil.rmtree(chaos.run, ignore_errors=True)
        _open_scene_states(config, chaos.ledger)
        task = chaos.task(cameras=2)
        found = None
        with FaultyDisk(n, how) as disk, contextlib.suppress(StorageError, Killed):
            found = run_scene(task, "n/1")
        if found is not None and found.outcome != "done":
            assert found.fault == "disk", (n, found)
        # A node's next attempt sweeps what dead processes left there; this process only plays dead.
        shutil.rmtree(chaos.scratch / f"panoforge-{os.getuid()}", ignore_errors=True)
        scene_states = _open_scene_states(config, chaos.ledger)  # the next driver
        assert found is None or (scene_states.count(SceneState.DONE) == 1) == (
            found.outcome == "done"
        )
        if scene_states.count(SceneState.OPEN):
            assert run_scene(task, "n/1").outcome == "done"
        _tidy(config, chaos.ledger)
        chaos.assert_exact(1, cameras=2)
        if disk.calls < n:
            assert n > 30
            return
    pytest.fail("the loop never came to its end")


@pytest.mark.parametrize("how", MODES)
def test_a_shard_commit(tmp_path, how):
    """Two shards are published, then the dataset grows to its end."""
    staged, options = tmp_path / "staged", PackOptions(shard_bytes=12_000, splits=(("train", 1.0),))
    for scene in range(6):
        synthetic.stage(staged, scene, 0, 64)
    pack(staged, tmp_path / "whole", options)
    wanted = {
        path.relative_to(tmp_path / "whole"): path.read_bytes()
        for path in (tmp_path / "whole").rglob("*")
        if path.is_file()
    }
    publish(staged, tmp_path / "template", options, before="caps-000003")
    first = (tmp_path / "template" / MANIFEST_NAME).read_bytes()
    for n in range(1, LIMIT):
        dataset = tmp_path / str(n)
        shutil.copytree(tmp_path / "template", dataset)
        with FaultyDisk(n, how) as disk, contextlib.suppress(StorageError, Killed):
            pack(staged, dataset, options)
        left = [path for path in temporaries(dataset) if path.parent.name != "lease"]
        assert how != "error" or left == [], n  # the next holder sweeps the lease's own
        assert (dataset / MANIFEST_NAME).read_bytes() in (first, wanted[Path(MANIFEST_NAME)]), n
        assert not verify(dataset).faults, n
        pack(staged, dataset, options)
        assert {
            path.relative_to(dataset): path.read_bytes()
            for path in dataset.rglob("*")
            if path.is_file()
        } == wanted, n
        if disk.calls < n:
            assert n > 15
            return
    pytest.fail("the loop never came to its end")
