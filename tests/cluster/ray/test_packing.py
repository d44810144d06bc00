"""Packing as Ray tasks: the bytes of one process, whatever is killed, and errors as they were
raised on the node.
"""

import contextlib
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest
import synthetic
from chaos_runs import wait_for

from panoforge.cli import main
from panoforge.cluster.config.packing import PackConfig
from panoforge.cluster.config.ray import RayConfig
from panoforge.cluster.ray.packing import RayBuilder, builder
from panoforge.cluster.ray.session import ray_session
from panoforge.cluster.ray.tasks import TaskCancelled, TaskWindow
from panoforge.core.errors import DataError, UsageError
from panoforge.core.shards.build import BuildTask, build_shard
from panoforge.core.shards.verify import verify
from panoforge.core.shards.write import build_here, pack, publish
from panoforge.stages import pack_stage

pytestmark = [pytest.mark.ray, pytest.mark.timeout(280)]

CONFIG = PackConfig(shard_bytes=20_000, splits={"train": 0.7, "val": 0.3})
SCENES = 16


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is staged, and packed by one process."""
    folder = tmp_path_factory.mktemp("run")
    for scene in range(SCENES):
        synthetic.stage(folder / "staged", scene, 0, 64, n_caps=3)
    pack(folder / "staged", folder / "dataset", CONFIG.options())
    return folder


@pytest.fixture(scope="module")
def session():
    """One private Ray for all tests that need not start their own."""
    with ray_session(CONFIG.ray, cpus=2):
        yield


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def workers(count: int) -> PackConfig:
    return CONFIG.model_copy(update={"workers": count})


def test_one_worker_needs_no_ray():
    assert builder(CONFIG) is build_here


def test_workers_are_as_nice_as_the_command_that_started_them(session):
    """At Ray's own 15 a run hardly goes on beside other work. Who starts workers has been told so,
    and they are so.
    """
    import ray

    (raylet,) = [p for p in psutil.Process().children(recursive=True) if p.name() == "raylet"]
    assert raylet.environ()["RAY_worker_niceness"] == "0"
    assert ray.get(ray.remote(lambda: os.nice(0)).remote()) == os.nice(0)


@pytest.mark.parametrize("count", [2, 4, pytest.param(16, marks=pytest.mark.slow)])
def test_the_bytes_do_not_depend_on_the_number_of_workers(run, session, tmp_path, count):
    """All of them at once: a task asks for so small a part of a core that this machine holds
    them."""
    config, seen = (
        workers(count).model_copy(update={"ray": RayConfig(cpus_per_scene=2 / count)}),
        [],
    )
    pack(
        run / "staged",
        tmp_path / "dataset",
        CONFIG.options(),
        build=builder(config),
        on_sample=seen.append,
    )
    assert files_of(tmp_path / "dataset") == files_of(run / "dataset") and len(seen) == SCENES


def test_publishing_with_ray_tasks_as_scenes_come_in(run, session, tmp_path):
    build = builder(workers(2))
    for number in (5, 11):
        manifest = publish(
            run / "staged",
            tmp_path / "dataset",
            CONFIG.options(),
            before=f"caps-{number:06d}",
            build=build,
        )
        assert manifest.samples and verify(tmp_path / "dataset").faults == ()
    publish(run / "staged", tmp_path / "dataset", CONFIG.options(), final=True, build=build)
    assert files_of(tmp_path / "dataset") == files_of(run / "dataset")


def test_interrupted_again_and_again_it_goes_on_from_what_is_built(
    run, session, tmp_path, monkeypatch
):
    """The driver dies after 1, 2, … shards. What is built is not written again, and the bytes are
    the same at the end.
    """
    target, total = tmp_path / "dataset", len(list((run / "dataset" / "shards").iterdir()))

    class Stop(Exception):
        pass

    written: dict[str, int] = {}
    for after in range(1, total):

        def stopping(tasks, on_sample, after=after):
            for number, built in enumerate(RayBuilder(workers(1))(tasks, on_sample)):
                if number == after:
                    raise Stop
                yield built

        with pytest.raises(Stop):
            pack(run / "staged", target, CONFIG.options(), build=stopping)
        assert not (target / "manifest.json").exists()
        for path in (target / "shards").glob("*.tar"):
            assert written.setdefault(path.name, path.stat().st_mtime_ns) == path.stat().st_mtime_ns
    pack(run / "staged", target, CONFIG.options(), build=builder(workers(4)))
    assert files_of(target) == files_of(run / "dataset") and len(written) >= total - 1
    assert all(
        (target / "shards" / name).stat().st_mtime_ns == when for name, when in written.items()
    )


def test_a_shard_of_the_right_name_and_wrong_content_is_built_again(run, tmp_path):
    """Left by other staged panoramas: same place, same size."""
    shutil.copytree(run / "dataset", tmp_path / "dataset")
    shutil.copytree(run / "staged", tmp_path / "staged")
    path = tmp_path / "staged" / "caps-000003-c0" / "meta.json"
    path.write_bytes(path.read_bytes().replace(b'"generate":1.0', b'"generate":2.0'))
    pack(tmp_path / "staged", tmp_path / "dataset", CONFIG.options())
    pack(tmp_path / "staged", tmp_path / "fresh", CONFIG.options())
    assert (
        files_of(tmp_path / "dataset") == files_of(tmp_path / "fresh") != files_of(run / "dataset")
    )


@pytest.mark.slow
def test_workers_that_are_killed_cost_nothing(run, tmp_path):
    """SIGKILL to the first three Ray worker processes that are seen at a shard (a task carries the
    shard's name).
    """
    stop, killed = threading.Event(), []

    def killer() -> None:
        while not stop.is_set() and len(killed) < 3:
            for child in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error, ProcessLookupError):
                    if child.pid not in killed and child.name().startswith(
                        ("ray::train-", "ray::val-")
                    ):
                        os.kill(child.pid, signal.SIGKILL)
                        killed.append(child.pid)
            time.sleep(0.005)

    with ray_session(CONFIG.ray, cpus=2):
        thread = threading.Thread(target=killer)
        thread.start()
        try:
            for attempt in range(
                30
            ):  # a shard takes milliseconds here, so the killer may come too late the first times
                dataset = tmp_path / f"dataset-{attempt}"
                pack(run / "staged", dataset, CONFIG.options(), build=builder(workers(2)))
                if killed:
                    break
        finally:
            stop.set()
            thread.join()
    assert killed and files_of(dataset) == files_of(run / "dataset")


def test_a_damaged_panorama_is_named_by_the_driver(run, session, tmp_path):
    shutil.copytree(run / "staged", tmp_path / "staged")
    (tmp_path / "staged" / "caps-000004-c0" / "depth.delta.zst").unlink()
    with pytest.raises(DataError, match=r"caps-000004-c0: expected key"):
        pack(tmp_path / "staged", tmp_path / "dataset", CONFIG.options(), build=builder(workers(2)))
    assert not (tmp_path / "dataset" / "manifest.json").exists()


def test_a_task_is_a_value_and_a_build_leaves_no_litter(run, tmp_path):
    """The same task run twice at once (a lost node that comes back) commits one shard."""
    from panoforge.core.shards.plan import Candidate, ShardPlan
    from panoforge.core.shards.tar import sample_length
    from panoforge.core.storage.staged import staged_sizes

    sizes = staged_sizes(run / "staged", ["caps-000000-c0"])["caps-000000-c0"]
    plan = ShardPlan(
        "train",
        0,
        (Candidate("caps-000000-c0", "train", sample_length(sizes), str(run / "staged")),),
    )
    threads = [
        threading.Thread(target=build_shard, args=(BuildTask(plan, str(tmp_path)),))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(tmp_path.rglob("*"))) == 2  # the folder and the shard


def test_pack_by_command_with_workers(run, session, tmp_path, capfd):
    shutil.copytree(run / "staged", tmp_path / "run" / "staged")
    with pytest.raises(SystemExit) as end:
        main(
            [
                "pack",
                str(tmp_path / "run"),
                "shard_bytes=20000",
                "splits={train: 0.7, val: 0.3}",
                "--workers",
                "2",
            ]
        )
    assert not end.value.code and f"{SCENES} panoramas with" in capfd.readouterr().out
    assert files_of(tmp_path / "run" / "dataset") == files_of(run / "dataset")


def test_several_runs_need_a_place(run):
    with pytest.raises(UsageError, match="say where with --to DATASET"):
        pack_stage([run, run], CONFIG)


def test_a_cancel_leaves_alone_what_is_known_to_have_begun(session, tmp_path):
    """Ray may answer at once for a task that it was told to cancel, though its work goes on."""

    def beat(file: str) -> str:  # by value: Ray's workers cannot import this file
        Path(file).touch()
        time.sleep(3.0)
        return "ended"

    window = TaskWindow[str, str](beat, num_cpus=1, max_retries=0)
    spared, told, waiting = files = [str(tmp_path / name) for name in ("spared", "told", "waiting")]
    for file in files[:2]:
        window.start(file)
    wait_for(lambda: Path(spared).exists() and Path(told).exists(), 120)
    window.start(waiting)
    window.cancel(spare=lambda file: file == spared)
    answers = {}
    while window:
        for file, answer in window.ended(0.5):
            try:
                answers[file] = answer()
            except TaskCancelled:
                answers[file] = "cancelled"
    assert (answers[spared], answers[waiting]) == ("ended", "cancelled")
    assert answers[told] in ("ended", "cancelled")  # a SIGINT may be lost: Ray's affair
    assert not Path(waiting).exists()
