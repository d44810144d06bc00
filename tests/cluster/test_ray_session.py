"""A private Ray is private: whoever reaches its ports without the token is refused, also from another address."""

import contextlib
import os
import subprocess
import sys
import time
import urllib.request

import pytest

from cluster.book import Book
from cluster.config import RayConfig
from cluster.ledger import AttemptRecord
from cluster.metrics import RunMetrics
from cluster.policy import Fault
from cluster.ray_session import ClusterError, ray_session

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(200)]

JOIN = "import sys, ray; ray.init(address=sys.argv[1], log_to_driver=False); print('joined', len(ray.nodes()))"


def test_nobody_joins_without_the_token():
    with ray_session(RayConfig(), cpus=1):
        import ray

        address = ray.get_runtime_context().gcs_address  # not loopback: the machine's own address, as another host sees it
        port = address.rpartition(":")[2]
        without = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
        for where in dict.fromkeys((address, f"127.0.0.2:{port}")):
            refused = subprocess.run([sys.executable, "-c", JOIN, where], env={**without, "RAY_AUTH_MODE": "disabled"},
                                     capture_output=True, text=True, timeout=90, check=False)
            assert refused.returncode != 0 and "joined" not in refused.stdout, where
        welcome = subprocess.run([sys.executable, "-c", JOIN, address], capture_output=True, text=True, timeout=90, check=False)
        assert welcome.stdout == "joined 1\n", welcome.stderr


def test_prometheus_sees_a_run():
    with ray_session(RayConfig(), cpus=1):
        import ray

        metrics = RunMetrics("a-run", Book(7))
        metrics.note(AttemptRecord(id="x", index=0, scene="s", attempt=1, outcome="fault", fault=Fault.OOM, job_sha256="a",
                                   cpus=2.0, started_unix_s=0.0, seconds=3.0))
        node, = ray.nodes()
        url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        text = ""
        for _ in range(60):
            with contextlib.suppress(OSError):
                text = urllib.request.urlopen(url, timeout=5).read().decode()
            if "panoforge_core_seconds" in text:
                break
            time.sleep(1)
        lines = [line for line in text.splitlines() if "panoforge" in line and not line.startswith("#")]
        assert any("panoforge_scenes{" in line and 'state="open"' in line and line.endswith(" 7.0") for line in lines), lines
        assert any("panoforge_faults" in line and 'fault="oom"' in line and line.endswith(" 1.0") for line in lines), lines
        assert any("panoforge_core_seconds" in line and line.endswith(" 6.0") for line in lines), lines


def test_a_cluster_that_is_not_there():
    with pytest.raises(ClusterError, match=r"cannot reach or start the Ray cluster at 127\.0\.0\.1:1: .*Check ray\.address"), \
            ray_session(RayConfig(address="127.0.0.1:1")):
        pass
