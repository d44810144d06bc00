"""A Ray that dies under its driver: noticed in time, raised where the driver asks, and said even
where it cannot ask any more.
"""

import os
import socket
import subprocess
import sys
import time

import pytest
from chaos_runs import wait_for

from panoforge.cluster.ray import watch
from panoforge.cluster.ray.watch import (
    ClusterError,
    living_on,
    require_living_ray,
    watched_cluster,
    watched_head,
)


def test_a_head_that_ended_is_said_at_once():
    require_living_ray()  # no session: nothing to say
    head = subprocess.Popen(["sleep", "600"])
    with watched_head(head):
        require_living_ray()
        head.kill()
        with pytest.raises(ClusterError, match=r"private Ray of this run died.*goes on from here"):
            wait_for(require_living_ray, 10)
    require_living_ray()


def test_a_cluster_may_be_silent_for_a_moment_only(monkeypatch):
    """The head is a real port here."""
    monkeypatch.setattr(watch, "HEAD_PATIENCE_S", 1.5)
    monkeypatch.setattr(watch, "_JOINED_LOOK_S", 0.05)
    server = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{server.getsockname()[1]}"
    with watched_cluster(address):
        server.close()
        time.sleep(0.5)
        require_living_ray()
        with socket.create_server(("127.0.0.1", int(address.rpartition(":")[2]))):  # it is back
            time.sleep(2)
            require_living_ray()
        with pytest.raises(
            ClusterError, match=rf"the head of the Ray cluster at {address} .*goes on from here"
        ):
            wait_for(require_living_ray, 20)


def test_a_driver_that_hangs_in_rays_calls_says_it_all_the_same():
    """Its main thread never comes back, as in a call that waits for a head which is gone."""
    code = (
        "import subprocess, threading\nfrom panoforge.cluster.ray import watch\n"
        "watch.UNWIND_S = 0.5\nhead = subprocess.Popen(['true'])\n"
        "with watch.watched_head(head):\n    threading.Event().wait(60)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False
    )
    assert ended.returncode == 1 and ended.stdout == ""
    assert ended.stderr.startswith("\nerror: the private Ray of this run died")
    assert ended.stderr.count("\n") == 2


def test_a_driver_that_unwinds_in_time_is_not_ended_from_below(monkeypatch):
    monkeypatch.setattr(watch, "UNWIND_S", 0.5)
    head = subprocess.Popen(["true"])
    with pytest.raises(ClusterError), watched_head(head):
        wait_for(require_living_ray, 10)
    time.sleep(1)  # this process would be gone


def test_the_settings_hold_only_while_ray_is_joined(monkeypatch):
    monkeypatch.setenv("RAY_RAYLET_PID", "7")
    name = "RAY_gcs_rpc_server_reconnect_timeout_s"  # as Ray spells it
    with living_on():
        assert os.environ["RAY_RAYLET_PID"] == str(os.getpid())
        assert float(os.environ[name]) > 100
    assert os.environ["RAY_RAYLET_PID"] == "7" and name not in os.environ
