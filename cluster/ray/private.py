"""A private Ray: `ray start --head` as a child of this process, with every port chosen here.

It holds next to nothing in its object store: only paths and digests go through Ray. It starts a
dashboard, which has the job port, only where that is asked for. Whoever reaches a port of Ray can
run code, so all of them listen on the loopback address alone (`ray.listen`). The head ends with the
process that started it, also after SIGKILL, and Ray's processes end with the head.
"""

import contextlib
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from panoforge.cluster.config.ray import RayConfig
from panoforge.cluster.process.process import bound_to_parent
from panoforge.cluster.ray.node import free_ports
from panoforge.cluster.ray.watch import living_on

Started = TypeVar("Started")
_OBJECT_STORE_BYTES = 80 << 20  # Ray's minimum is 75 MiB
_IS_UP = "Ray runtime started"
_POLL_S = 0.1
_END_S = 20.0
# Ray takes a node's own address for 127.0.0.1, and then listens there, because nodes on other
# machines might join. Where it supports no other nodes it does not. The switch is named after the
# systems on which that is so by default, and is read when Ray is imported.
LOOPBACK_ONLY = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
_NICENESS = "RAY_worker_niceness"
_ENVIRONMENT = {
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",  # nothing of ours is served there
}


class NotStarted(Exception):
    """The head did not come up. Says why."""


@dataclass(frozen=True)
class Head:
    """A head that is up: where it is reached, and its process."""

    address: str
    dashboard: str
    process: subprocess.Popen[bytes]


@contextlib.contextmanager
def private_head(config: RayConfig, cpus: float, dashboard: bool) -> Iterator[Head]:
    """A head for the time of a `with` block. NotStarted if it does not come up."""
    with tempfile.TemporaryFile(prefix="panoforge-ray-") as log:
        head = patiently(lambda: _start(config, cpus, dashboard, log.fileno()))
        try:
            yield head
        finally:
            _end(head.process)


def patiently(start: Callable[[], Started]) -> Started:
    """Start a node of Ray; where it only took too long, up to three times."""
    for last in (False, False, True):
        try:
            return start()
        except Exception as error:
            if last or "timed out during startup" not in str(error):
                raise
    raise AssertionError


def _niceness() -> dict[str, str]:
    """Workers are as nice as the command that started them, unless somebody asks for more.

    At Ray's own 15 a scene hardly starts where there is other work.
    """
    return {_NICENESS: os.environ.get(_NICENESS, "0")}


def _start(config: RayConfig, cpus: float, dashboard: bool, log: int) -> Head:
    """Start a head and wait until it is up. Its output goes to the open file `log`."""
    loopback = config.listen == "loopback"
    host = "127.0.0.1" if loopback else _own_address()
    port, dashboard_port, client, job, agent, metrics, environments = free_ports(7)
    flags = {
        "node-ip-address": host,
        "port": port,
        "ray-client-server-port": client,
        "dashboard-agent-listen-port": job,
        "dashboard-agent-grpc-port": agent,
        "metrics-export-port": metrics,
        "runtime-env-agent-port": environments,
        "min-worker-port": 0,  # 0 and 0: any
        "max-worker-port": 0,
        "include-dashboard": str(dashboard).lower(),
        "include-log-monitor": "false",  # no driver of ours has workers' logs sent to it
        "dashboard-host": "127.0.0.1",
        "dashboard-port": dashboard_port,
        "num-cpus": math.ceil(cpus),
        "object-store-memory": _OBJECT_STORE_BYTES,
    }
    os.ftruncate(log, 0)
    process = bound_to_parent(
        # Nothing scales a private Ray, so its monitor would be a process for nothing.
        [sys.executable, "-m", "panoforge.cluster.ray.node", "--head", "--block", "--no-monitor"]
        + [f"--{name}={value}" for name, value in flags.items()],
        environment=_ENVIRONMENT | _niceness() | (LOOPBACK_ONLY if loopback else {}),
        output=log,
    )
    try:
        with living_on():
            import ray  # noqa: F401  takes about as long as the head does to come up

        while _IS_UP not in (said := _text(log)):
            if process.poll() is not None:
                raise NotStarted((said.strip().splitlines() or ["it ended without a word"])[-1])
            time.sleep(_POLL_S)
    except BaseException:
        _end(process)
        raise
    return Head(f"{host}:{port}", f"127.0.0.1:{dashboard_port}", process)


def _own_address() -> str:
    import ray.util

    return ray.util.get_node_ip_address()


def _text(log: int) -> str:
    return os.pread(log, 1 << 20, 0).decode("utf-8", "replace")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()  # and with it all that it started
        process.wait()
