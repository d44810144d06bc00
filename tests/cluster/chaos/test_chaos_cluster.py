"""Chaos on clusters of several nodes: raylets, Ray's workers and the head are killed under a run,
again and again.
"""

import contextlib
import subprocess
import sys
import threading
import time

import numpy as np
import psutil
import pytest
from chaos_runs import assert_resources_are_returned, done, orphans, wait_for

from panoforge.cluster.config.ray import RayConfig
from panoforge.cluster.ray.node import free_ports, patience
from panoforge.cluster.ray.private import patiently
from panoforge.cluster.ray.session import ray_session
from panoforge.cluster.render.runner import render
from panoforge.cluster.state.policy import AttemptFault

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1500)]
SMALL = {"num_cpus": 1, "object_store_memory": 80 << 20}


@contextlib.contextmanager
def cluster_of(*nodes: dict):
    """A Ray of several nodes on this machine: gives (cluster, its nodes behind the head)."""
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    try:
        started = [add_node(cluster, **node) for node in nodes]
        yield cluster, started[1:]
    finally:
        cluster.shutdown()


def add_node(cluster, **arguments):
    ports = ("dashboard_agent_listen_port", "metrics_agent_port", "metrics_export_port")

    def start():
        chosen = dict(zip((*ports, "runtime_env_agent_port"), free_ports(4), strict=True))
        with patience(chosen["dashboard_agent_listen_port"]):
            return cluster.add_node(**chosen, **arguments)

    return patiently(start)


def faults(chaos) -> list[AttemptFault]:
    return [record.fault for record in chaos.ledger.records() if record.outcome == "fault"]


def test_raylets_killed_every_20_s_cost_no_attempt(chaos):
    """Three nodes, of which one raylet after the other is killed and replaced: lost scenes are made
    again, once, for free.
    """
    import ray

    chaos.plan({index: ["sleep 2"] for index in range(36)})
    finished: list = []
    killed = 0
    with cluster_of(SMALL, SMALL, SMALL) as (cluster, nodes):
        try:
            ray.init(address=cluster.address, log_to_driver=False)
            runner = threading.Thread(target=lambda: finished.append(render(chaos.job(36))))
            runner.start()
            wait_for(lambda: done(chaos))
            while (
                runner.is_alive() and killed < 3
            ):  # nodes can be started from the main thread only
                cluster.remove_node(nodes.pop(0), allow_graceful=False)
                nodes.append(add_node(cluster, **SMALL))
                killed += 1
                runner.join(20)
            runner.join(300)
            assert_resources_are_returned()
        finally:
            ray.shutdown()
    (summary,) = finished
    assert killed and summary.count("done") == 36
    chaos.assert_exact(36)
    assert set(faults(chaos)) == {AttemptFault.LOST}
    assert all(record.profile == "normal" for record in chaos.ledger.records())


def ray_workers_at_work() -> list[psutil.Process]:
    """Ray's worker processes below this one that run a task now."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            title = process.cmdline()[0] if process.cmdline() else ""
            if title.startswith("ray::rooms-"):
                found.append(process)
    return found


def test_ray_workers_killed_every_1_to_3_s(chaos):
    """Eight of them, as long as there are some at work."""
    import ray

    rng = np.random.default_rng(0)
    stop, killed = threading.Event(), []

    def kill_some() -> None:
        while len(killed) < 8 and not stop.wait(
            rng.uniform(1, 3)
        ):  # fewer than a scene is allowed: slow machines end too
            if workers := ray_workers_at_work():
                worker = workers[rng.integers(len(workers))]
                with contextlib.suppress(psutil.Error):
                    worker.kill()
                    killed.append(worker.pid)

    chaos.plan({index: ["sleep 1"] for index in range(16)})
    with ray_session(RayConfig(), cpus=3):
        killer = threading.Thread(target=kill_some)
        killer.start()
        try:
            summary = render(chaos.job(16))
        finally:
            stop.set()
            killer.join()
        assert_resources_are_returned()
        ray.shutdown()
    assert len(killed) >= 3 and summary.count("done") == 16
    chaos.assert_exact(16)
    assert faults(chaos) and set(faults(chaos)) == {AttemptFault.LOST}


@pytest.mark.parametrize("what", ["its control process", "the whole node"])
def test_the_head_is_lost(chaos, tmp_path, what):
    """The driver ends in bounded time, and says so where Ray lets it live that long. It is on the
    head's node, and Ray ends a process whose own node died. On a new cluster the same command makes
    what is missing.
    """
    import ray

    chaos.plan({index: ["sleep 1"] for index in range(20)})
    file = tmp_path / "job.yaml"
    file.write_text(chaos.job(20).model_dump_json())

    def command(address: str) -> list[str]:
        return [sys.executable, "-m", "panoforge", "render", str(file), f"ray.address={address}"]

    head = {"num_cpus": 0, "object_store_memory": 80 << 20}
    with cluster_of(head, SMALL, SMALL) as (cluster, _):
        driver = subprocess.Popen(
            command(cluster.address), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        wait_for(lambda: len(done(chaos)) >= 3)
        if what == "the whole node":
            cluster.remove_node(cluster.head_node, allow_graceful=False)
        else:
            cluster.head_node.kill_gcs_server(check_alive=False)
        begin = time.monotonic()
        said = " ".join(driver.communicate(timeout=120)[1].split())
        assert driver.returncode != 0 and time.monotonic() - begin < 100, said
        if what == "its control process":
            assert (
                "the head of the Ray cluster" in said
                and "goes on from here" in said
                and "Traceback" not in said
            )
    assert orphans(chaos.folder) == []
    before = done(chaos)
    assert len(before) >= 3

    with cluster_of(head, SMALL, SMALL) as (cluster, _):
        again = subprocess.run(
            command(cluster.address), capture_output=True, text=True, timeout=600, check=False
        )
        assert again.returncode == 0, again.stderr
        ray.init(address=cluster.address, log_to_driver=False)
        try:
            assert_resources_are_returned()
        finally:
            ray.shutdown()
    chaos.assert_exact(20)
    assert all(chaos.starts(index) == 1 for index in before)
