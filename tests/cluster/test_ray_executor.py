"""A private Ray that dies under a run: said at once, where Ray's own calls would block."""

import time

import psutil
import pytest

from cluster.config import RayConfig
from cluster.ray_executor import RayExecutor
from cluster.ray_session import ClusterError, ray_session

pytestmark = [pytest.mark.ray, pytest.mark.timeout(120)]


def test_a_dead_private_ray_ends_the_run_with_a_message():
    with ray_session(RayConfig(), cpus=1):
        executor = RayExecutor(RayConfig())
        assert executor.slots() == 1
        gcs, = [child for child in psutil.Process().children() if "gcs_server" in child.name()]
        gcs.kill()  # as a signal to the whole process group does
        psutil.wait_procs([gcs], timeout=10)
        begin = time.monotonic()
        executor._asked = None  # the next look at the cluster is due
        with pytest.raises(ClusterError, match=r"private Ray of this run died .*goes on from here"):
            executor.slots()
        assert time.monotonic() - begin < 5
