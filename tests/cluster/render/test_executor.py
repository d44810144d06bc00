"""A private Ray that dies under a run: said at once, where Ray's own calls would block.

GPUs that no node has are refused before a scene is tried.
"""

import contextlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from chaos_runs import done, orphans, wait_for

from panoforge.cluster.config.ray import RayConfig
from panoforge.cluster.render import executor as ray_executor
from panoforge.cluster.render.executor import RayExecutor, check_gpus
from panoforge.core.errors import UsageError

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]
UNSHARE = ["unshare", "--pid", "--fork", "--mount-proc"]
AS_FIRST_PROCESS = "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))"


def below_process_one() -> list[str]:
    """What makes a command the child of a process 1, as in a container: Ray takes that one for the
    raylet, and ends a driver that cannot reach it. Nothing where that is not allowed.
    """
    with contextlib.suppress(FileNotFoundError):
        if subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0:
            return [*UNSHARE, sys.executable, "-c", AS_FIRST_PROCESS]
    return []


@pytest.mark.parametrize(
    "victim",
    [
        pytest.param("everything", marks=pytest.mark.real),
        pytest.param("gcs_server", marks=pytest.mark.slow),
        pytest.param("raylet", marks=pytest.mark.slow),
        pytest.param("head", marks=pytest.mark.slow),
    ],
)
def test_a_dead_private_ray_ends_the_run_with_a_message(chaos, tmp_path, victim):
    """Scenes are running. What was done stays, and nobody is left at work."""
    chaos.plan({index: ["ok"] if index < 1 else ["sleep 2"] for index in range(40)})
    file = tmp_path / "job.yaml"
    file.write_text(chaos.job(40).model_dump_json())
    driver = subprocess.Popen(
        [*below_process_one(), sys.executable, "-m", "panoforge", "render", str(file)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    wait_for(lambda: done(chaos))
    before = done(chaos)
    for process in rays_of(driver.pid, victim):
        with contextlib.suppress(psutil.Error):
            process.kill()
    said = driver.communicate(timeout=200)[1]
    assert driver.returncode == 1, said
    line = " ".join(said.split())
    assert "error: the private Ray of this run died" in line and "goes on from here" in line, said
    assert "Traceback" not in said.partition("error: ")[2]
    assert orphans(chaos.folder) == [] and before <= done(chaos)


def rays_of(pid: int, victim: str) -> list[psutil.Process]:
    """Processes of the private Ray below a driver."""
    below = psutil.Process(pid).children(recursive=True)
    (head,) = [p for p in below if "panoforge.cluster.ray.node" in p.cmdline()]
    whole = [head, *head.children(recursive=True)]
    return {"everything": whole, "head": [head]}.get(
        victim, [process for process in whole if process.name() == victim]
    )


def test_the_driver_goes_on_while_rays_own_calls_hang(monkeypatch):
    """A call of Ray that hangs, as they do without a head, is an event that never comes."""
    import ray

    never, calls = threading.Event(), []

    def nodes() -> list[dict]:
        calls.append(1)
        if len(calls) > 1:
            never.wait(60)
        return [
            {"Alive": True, "Resources": {"CPU": 3.0}},
            {"Alive": False, "Resources": {"CPU": 8.0}},
        ]

    monkeypatch.setattr(ray, "nodes", nodes)
    monkeypatch.setattr(ray_executor, "_LOOK_AT_CLUSTER_S", 0.0)
    executor = RayExecutor(RayConfig())
    assert executor.slots() == 3
    begin = time.monotonic()
    assert (
        executor.slots() == executor.slots() == 3 and time.monotonic() - begin < 30
    )  # the second look hangs, we do not
    assert len(calls) == 2
    never.set()


def node(alive: bool = True, **resources: float) -> dict:
    return {"Alive": alive, "Resources": {"CPU": 4.0, **resources}}


@pytest.mark.parametrize(
    ("nodes", "device", "asked", "refused"),
    [
        ([node(), node()], "optix", 0.0, True),
        ([node(), node(False, GPU=1.0)], "cuda", 0.0, True),
        ([node(), node(GPU=1.0)], "optix", 0.0, False),
        ([node()], "optix", 1.0, False),  # a cluster that grows brings them
        ([node()], "auto", 0.0, False),
        ([node()], "cpu", 0.0, False),
    ],
)
def test_a_gpu_that_no_node_has_is_refused(nodes, device, asked, refused):
    if not refused:
        return check_gpus(nodes, device, asked)
    alive = sum(one["Alive"] for one in nodes)
    with pytest.raises(
        UsageError, match=rf"device={device} was asked for, and of the {alive} node"
    ):
        check_gpus(nodes, device, asked)


def test_a_real_ray_without_gpus_tries_no_scene(tmp_path: Path):
    """The real command on a real Ray: one line, and no attempt in the ledger."""
    config = tmp_path / "job.yaml"
    config.write_text(
        f"run: {tmp_path / 'run'}\nrender:\n  sources: [{{source: infinigen2.floating}}]\n"
        "  scenes: 3\n  device: optix\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "panoforge", "render", str(config)],
        capture_output=True,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "device=optix was asked for, and of the 1 node of this Ray none has a GPU" in line
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "run" / "work").glob("*"))
