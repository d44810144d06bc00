"""Ray's node has more time to start than Ray gives it, and is started again when that was not
enough, and only then.
"""

import time

import pytest

from panoforge.cluster.config.ray import RayConfig
from panoforge.cluster.ray import node as head
from panoforge.cluster.ray.node import free_ports, patience, with_ports
from panoforge.cluster.ray.private import NotStarted, patiently, private_head

SLOW = (
    "The current node timed out during startup. This could happen because some of the raylet failed"
    " to startup"
)


def test_a_slow_start_is_tried_three_times():
    slow = NotStarted(SLOW)
    answers: list[object] = [slow, slow, "a node", slow, slow, slow, NotStarted("no")]

    def start() -> object:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert patiently(start) == "a node"
    with pytest.raises(NotStarted, match="timed out during startup"):
        patiently(start)
    with pytest.raises(NotStarted, match="no"):
        patiently(start)
    assert answers == []


def test_a_start_may_take_four_times_as_long_as_ray_allows():
    from ray._private import node

    assert node.time is time
    with patience(1):
        begin, really = node.time.monotonic(), time.monotonic()
        node.time.sleep(0.6)
        factor = (time.monotonic() - really) / (node.time.monotonic() - begin)
    assert factor == pytest.approx(4, rel=0.01)
    assert node.time is time


def test_a_raylet_waits_for_no_file_with_a_port_and_nobody_for_clients(monkeypatch):
    from ray._private import services

    commands = []
    monkeypatch.setattr(
        services, "start_ray_process", lambda command, kind: commands.append((kind, command))
    )
    with patience(4711):
        services.start_ray_process(["raylet"], "raylet")
        services.start_ray_process(["gcs_server"], "gcs_server")
        services.start_ray_process(["a Python"], "ray_client_server")
    services.start_ray_process(["raylet"], "raylet")
    assert commands == [
        ("raylet", ["raylet", "--dashboard_agent_listen_port=4711"]),
        ("gcs_server", ["gcs_server"]),
        ("ray_client_server", head._ASLEEP),
        ("raylet", ["raylet"]),
    ]


def test_ports_are_different_and_free():
    assert len(set(free_ports(9))) == 9


def test_a_node_is_told_every_port_that_its_raylet_would_wait_for():
    """It aborts where an agent takes over 15 s to write its port down."""
    names = ["dashboard-agent-listen-port", "dashboard-agent-grpc-port", "metrics-export-port"]
    flags, job_port = with_ports(["--block", "--metrics-export-port=8080", "--num-cpus=2"])
    assert flags[:3] == ["--block", "--metrics-export-port=8080", "--num-cpus=2"]
    chosen = [flag.split("=")[0].removeprefix("--") for flag in flags[3:]]
    assert chosen == [*names[:2], "runtime-env-agent-port"]
    assert flags[3] == f"--dashboard-agent-listen-port={job_port}"
    assert with_ports(flags) == (flags, job_port)


@pytest.mark.ray
def test_a_head_that_cannot_start_says_why(monkeypatch):
    """Its last words come out, and nothing of it is left."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/nowhere/token")
    with pytest.raises(NotStarted, match="token"), private_head(RayConfig(), 1, False):
        pass
