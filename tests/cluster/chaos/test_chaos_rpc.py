"""Chaos between Ray's own processes: calls that are refused, whose answers are lost, or that come
late. By Ray's own switches for its tests, RAY_testing_rpc_failure and RAY_testing_asio_delay_us,
which every process of a private Ray reads.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from panoforge.cluster.state.policy import AttemptFault

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]
SCENES = 12
CALLS = (
    "CoreWorkerService.grpc_client.PushTask",
    "NodeManagerService.grpc_client.RequestWorkerLease",
    "NodeManagerService.grpc_client.ReturnWorkerLease",
)


def failures(**percent: int) -> str:
    """So many of the calls that hand out a scene fail, up to eight of each kind per process."""
    none = {"req_failure_prob": 0, "resp_failure_prob": 0, "in_flight_failure_prob": 0}
    return json.dumps({method: {"num_failures": 8, **none, **percent} for method in CALLS})


def render(chaos, tmp_path, monkeypatch, **switches: str) -> Counter:
    """Render with those switches of Ray on; gives the faults of the run."""
    for name, value in switches.items():
        monkeypatch.setenv(f"RAY_testing_{name}", value)
    chaos.plan({3: ["segfault", "ok"], 5: ["reject"]})
    file = tmp_path / "job.yaml"
    file.write_text(chaos.job(SCENES).model_dump_json())
    run = subprocess.Popen(
        [sys.executable, "-m", "panoforge", "render", str(file)], stderr=subprocess.PIPE, text=True
    )
    said = run.communicate(timeout=500)[1]
    assert run.returncode == 0 and "Traceback" not in said, said
    chaos.assert_exact(SCENES, rejected={5})
    (log,) = Path(os.environ["RAY_TMPDIR"], "ray").glob(
        f"session_*_{run.pid}/logs/python-core-driver-*.log"
    )
    assert ("Inject RPC" in log.read_text()) == ("rpc_failure" in switches)
    assert ("testing_asio_delay_us is set to" in said) == ("asio_delay_us" in switches)
    return Counter(record.fault for record in chaos.ledger.records() if record.outcome == "fault")


@pytest.mark.parametrize(
    "what", ["req_failure_prob", "resp_failure_prob", "in_flight_failure_prob"]
)
def test_calls_that_fail_cost_no_attempt(chaos, tmp_path, monkeypatch, what):
    """Where the task was made although its call failed, the same scene may be made twice: it is
    there once.
    """
    faults = render(chaos, tmp_path, monkeypatch, rpc_failure=failures(**{what: 25}))
    assert faults[AttemptFault.CRASH] == 1 and set(faults) <= {
        AttemptFault.CRASH,
        AttemptFault.LOST,
    }
    assert all(record.profile == "normal" for record in chaos.ledger.records())


def test_calls_that_come_late(chaos, tmp_path, monkeypatch):
    """One to three seconds each: a scene is handed out, begun and taken back late, and nobody takes
    that for a loss.
    """
    delays = ",".join(
        f"{method.replace('grpc_client', 'grpc_server')}=1000000:3000000" for method in CALLS
    )
    assert render(chaos, tmp_path, monkeypatch, asio_delay_us=delays) == {AttemptFault.CRASH: 1}
