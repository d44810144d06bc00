"""A private Ray is private: whoever reaches its ports without the token is refused, also from another address."""

import os
import subprocess
import sys

import pytest

from cluster.config import RayConfig
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


def test_a_cluster_that_is_not_there():
    with pytest.raises(ClusterError, match=r"cannot reach or start the Ray cluster at 127\.0\.0\.1:1: .*Check ray\.address"), \
            ray_session(RayConfig(address="127.0.0.1:1")):
        pass
