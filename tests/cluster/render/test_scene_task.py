"""One attempt on a node, without Ray: what is committed, how often, and what is left when a system
call fails.
"""

import os
import shutil
import threading
import time

import pytest

from panoforge.cluster.render.commit import commit
from panoforge.cluster.render.driver import Driver
from panoforge.cluster.render.executor import RayExecutor
from panoforge.cluster.render.images import image_config_sha256
from panoforge.cluster.render.rebuild import rebuild
from panoforge.cluster.render.runner import list_keys
from panoforge.cluster.render.scene_task import begun_attempts, begun_unix_s, has_begun, run_scene
from panoforge.cluster.state.ledger import attempt_prefix, new_id
from panoforge.cluster.state.policy import AttemptFault
from panoforge.cluster.state.scene_states import COLUMNS, SceneState, SceneStates, read_scene_states
from panoforge.core.errors import StorageError
from panoforge.core.storage.staged import list_staged, read_staged


def contents(chaos) -> dict[str, bytes]:
    return {
        key: read_staged(chaos.run / "staged", key)[1]["instance.zst"]
        for key in list_staged(chaos.run / "staged")
    }


def test_the_same_scene_twice_at_once_is_committed_once(chaos):
    tasks = [chaos.task(attempt=attempt, cameras=2) for attempt in (1, 2)]
    threads = [threading.Thread(target=run_scene, args=(task, "n/1")) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records = chaos.ledger.records()
    assert [record.outcome for record in records] == ["done", "done"] and records[
        0
    ].digests == records[1].digests
    assert list_staged(chaos.run / "staged") == list(records[0].panoramas)
    scene_states = read_scene_states(
        chaos.ledger.table(COLUMNS), 4, list_keys(chaos.run / "staged")
    )
    assert scene_states.count(SceneState.DONE) == 1
    assert list((chaos.run / "work").iterdir()) == []


def test_a_lost_ledger_is_rebuilt_from_what_is_staged(chaos):
    for index in (0, 2):
        run_scene(chaos.task(index, cameras=2), "n/1")
    before = {record.index: record for record in chaos.ledger.records()}
    shutil.rmtree(chaos.run / "ledger")
    shutil.rmtree(
        chaos.run / "staged" / before[2].panoramas[1]
    )  # cut off between two panoramas: cannot be told from whole
    job = chaos.job(4, cameras_per_scene=2).render
    assert (
        rebuild(
            chaos.ledger,
            job,
            chaos.run / "staged",
            list_keys(chaos.run / "staged"),
            image_config_sha256(job),
        )
        == 1
    )
    (found,) = chaos.ledger.records()
    assert (found.index, found.panoramas, found.digests) == (
        0,
        before[0].panoramas,
        before[0].digests,
    )
    other = job.model_copy(update={"samples": 1})
    shutil.rmtree(chaos.run / "ledger")
    assert (
        rebuild(
            chaos.ledger,
            other,
            chaos.run / "staged",
            list_keys(chaos.run / "staged"),
            image_config_sha256(other),
        )
        == 0
    )


def test_an_attempt_has_begun_while_its_folder_is_there(chaos):
    """What a killed worker leaves says since when it cost something."""
    task = chaos.task()
    assert begun_unix_s(task) is None and not has_begun(task)
    folder = chaos.run / "work" / new_id(task.job.index, task.attempt)
    folder.mkdir(parents=True)
    (folder / "job.json").write_text("{}")
    os.utime(folder / "job.json", (1000.0, 1000.0))
    assert begun_unix_s(task) == 1000.0 and has_begun(task)
    assert not has_begun(chaos.task(attempt=2)) and not has_begun(chaos.task(index=1))
    assert begun_attempts(chaos.run) == {attempt_prefix(task.job.index, task.attempt)}
    assert begun_attempts(chaos.run / "nowhere") == set()


class Queue:
    """A cluster with one slot, where all that is handed out waits."""

    def now(self) -> float:
        return time.monotonic()

    def slots(self) -> int:
        return 1

    def submit(self, task, avoid) -> None:
        pass


def test_what_waits_with_ray_is_not_said_to_run(chaos):
    """Two are handed out, one has begun: `pano status` shows that one, since it began."""
    chaos.run.mkdir(parents=True)
    job = chaos.job(4)
    driver = Driver(
        job,
        SceneStates(4),
        chaos.ledger,
        Queue(),
        stopped=lambda: False,
        check=lambda: None,
        say=print,
    )
    driver._hand_out()
    told = driver.heartbeat()
    assert (told["in_flight"], told["begun"], told["oldest"]) == (2, 0, [])
    folder = chaos.run / "work" / new_id(1, 1)
    folder.mkdir(parents=True)
    (folder / "job.json").write_text("{}")
    os.utime(folder / "job.json", (time.time() - 30,) * 2)
    (oldest,) = driver.heartbeat()["oldest"]
    assert driver.heartbeat()["begun"] == 1 and oldest["scene"].endswith("00000001")
    assert 29 < oldest["seconds"] < 60


@pytest.mark.parametrize("call", ["fsync", "rename", "replace"])
def test_fail_the_nth_call_of_a_commit(chaos, tmp_path, monkeypatch, call):
    """A panorama is in place or it is not, whichever call fails, and the next try ends well."""
    run_scene(chaos.task(), "n/1")
    (key,) = list_staged(chaos.run / "staged")
    whole = chaos.run / "staged" / key
    older = tmp_path / "older"
    shutil.copytree(whole, older)
    (older / "instance.zst").write_bytes(b"of an attempt that never reached the ledger")
    for n in range(1, 10):
        source, target = tmp_path / f"source-{n}", tmp_path / "staged" / f"{call}-{n}"
        shutil.copytree(whole, source)
        shutil.copytree(older, target)
        calls = 0
        original = getattr(os, call)

        def fail(*arguments, _n=n, _original=original, **named):
            nonlocal calls
            calls += 1
            if calls == _n:
                raise OSError(5, "Input/output error")
            return _original(*arguments, **named)

        with monkeypatch.context() as patch:
            patch.setattr(os, call, fail)
            try:
                commit(source, target)
            except StorageError as error:
                failed = str(error)
            else:
                failed = ""
        if failed:
            assert "Input/output error" in failed
            if source.exists():
                assert commit(source, target)
        assert (target / "instance.zst").read_bytes() == (whole / "instance.zst").read_bytes()
        assert not list((tmp_path / "staged").glob(".tmp-*"))
        if calls < n:
            return
    pytest.fail("the loop never came to its end")


def test_a_full_disk_is_nobodys_fault(chaos, monkeypatch):
    import panoforge.cluster.render.scene_task as scene_task

    def full(source, target):
        raise StorageError("staged: the disk is full: free some space")

    monkeypatch.setattr(scene_task, "commit", full)
    record = run_scene(chaos.task(), "n/1")
    assert (record.outcome, record.fault) == (
        "fault",
        AttemptFault.DISK,
    ) and "the disk is full" in record.reason
    assert not (chaos.run / "staged").exists() and list((chaos.run / "work").iterdir()) == []


def test_no_scene_starts_while_the_disk_is_nearly_full(chaos):
    chaos.run.mkdir(parents=True)
    said = []

    def driver(limits) -> Driver:
        job = chaos.job(1, limits=limits)
        return Driver(
            job,
            SceneStates(1),
            chaos.ledger,
            RayExecutor(job.ray),
            stopped=lambda: False,
            check=lambda: None,
            say=said.append,
        )

    limits = chaos.job(1).limits
    assert driver(limits)._room_on_disk() and not said
    waiting = driver(limits.model_copy(update={"min_free_gb": 1e9}))
    assert not waiting._room_on_disk() and not waiting._room_on_disk()
    assert len(said) == 1 and "no new scenes until there is room" in said[0]
    assert waiting.heartbeat()["waiting_for_disk"]
    stopped = driver(limits.model_copy(update={"min_free_gb": 1e9, "disk_wait_s": 0.0}))
    stopped._room_on_disk()
    with pytest.raises(
        StorageError, match=r"the disk stayed full for 0 s.*Nothing is lost: free some space"
    ):
        stopped._room_on_disk()
