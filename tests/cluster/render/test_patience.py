"""Ray's node has more time to start than Ray gives it, and is started again when that was not
enough, and only then.
"""

import os
import time

import pytest

from panoforge.cluster.ray.session import _AGENT_PORTS, patiently

SLOW = (
    "The current node timed out during startup. This could happen because some of the raylet failed"
    " to startup"
)


def test_a_slow_start_is_tried_three_times():
    slow = Exception(SLOW)
    answers: list[object] = [slow, slow, "a node", slow, slow, slow, Exception("no")]

    def start() -> object:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert patiently(start) == "a node"
    with pytest.raises(Exception, match="timed out during startup"):
        patiently(start)
    with pytest.raises(Exception, match="no"):
        patiently(start)
    assert answers == []


def test_a_start_may_take_six_times_as_long_as_ray_allows():
    from ray._private import node

    assert node.time is time

    def start() -> float:
        begin, really = node.time.monotonic(), time.monotonic()
        node.time.sleep(0.6)
        return (time.monotonic() - really) / (node.time.monotonic() - begin)

    assert patiently(start) == pytest.approx(4, rel=0.01)
    assert node.time is time
    assert dict(os.environ)["RAY_agent_register_timeout_ms"] == "120000"
    assert dict(os.environ)["RAY_worker_register_timeout_seconds"] == "240"


def test_a_raylet_waits_for_no_file_with_a_port(monkeypatch):
    """All ports of its agents are chosen before it starts, each node's its own, and it is told
    them.
    """
    from ray._private import parameter, services

    commands = []
    monkeypatch.setattr(
        services, "start_ray_process", lambda command, kind: commands.append((kind, command))
    )

    def start() -> list[int]:
        params = parameter.RayParams(metrics_export_port=None, dashboard_agent_listen_port=0)
        services.start_ray_process(["raylet"], "raylet")
        services.start_ray_process(["gcs_server"], "gcs_server")
        return [getattr(params, name) for name in _AGENT_PORTS]

    first, second = patiently(start), patiently(start)
    assert len({*first, *second}) == 8 and all(first + second)
    assert commands[:2] == [
        ("raylet", ["raylet", f"--dashboard_agent_listen_port={first[0]}"]),
        ("gcs_server", ["gcs_server"]),
    ]
    assert parameter.RayParams().metrics_agent_port is None
