"""`ray start` with patience, as a process: `python -m panoforge.cluster.ray.node FLAGS`.

Two waits of Ray (2.60) stand in its code. They are too short for a busy machine, where a Python
takes half a minute to start. The raylet waits 15 s for files with the ports that its agents listen
on, and aborts. `ray start` waits 30 s for the raylet. ray-project/ray#65983 asks for settings.
Until then this process chooses the ports that FLAGS leave open and tells them to the raylet. That
of the jobs is the only one that Ray does not pass on. And it stretches the second wait. In a driver
`session._loopback_is_meant` sets one constant of `ray._private`. Nothing else of ours changes names
there.

`ray start --head` has no flag that leaves out the server of Ray's clients, a Python of two seconds
that nobody asks for here. Without a port it takes 10001, and port 0 is refused (2.60).
ray-project/ray#25029 would have left it out by default, and was closed unmerged. So a process that
sleeps stands in its place.
"""

import contextlib
import os
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any

START_S = 120.0  # for a node of Ray to come up
_RAY_WAITS_S = 30.0
_ASLEEP = [sys.executable, "-I", "-S", "-c", "import signal; signal.pause()"]
_JOBS = "dashboard-agent-listen-port"
_PORTS = (_JOBS, "dashboard-agent-grpc-port", "metrics-export-port", "runtime-env-agent-port")
_ENVIRONMENT = {
    # If its first workers take over 60 s, Ray drops them and the driver blocks forever.
    "RAY_worker_register_timeout_seconds": str(round(2 * START_S)),
    "RAY_agent_register_timeout_ms": str(round(1000 * START_S)),
}


class _SlowClock:
    """The module `time`, but that its monotonic clock goes `factor` times slower."""

    def __init__(self, factor: float) -> None:
        self._factor = factor

    def monotonic(self) -> float:
        return time.monotonic() / self._factor

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


@contextlib.contextmanager
def patience(job_port: int) -> Iterator[None]:
    """A node of Ray that is started in here is waited for longer, and has less to start.

    It has `START_S`, its raylet knows the agent's `job_port`, and no server waits for Ray's
    clients.
    """
    from ray._private import node, ray_constants, services

    before = node.time, services.start_ray_process

    def told(command: list[str], process_type: str, *arguments: Any, **named: Any) -> Any:
        if process_type == ray_constants.PROCESS_TYPE_RAYLET:
            command = [*command, f"--dashboard_agent_listen_port={job_port}"]
        elif process_type == ray_constants.PROCESS_TYPE_RAY_CLIENT_SERVER:
            command = _ASLEEP
        return before[1](command, process_type, *arguments, **named)

    node.time, services.start_ray_process = _SlowClock(START_S / _RAY_WAITS_S), told
    try:
        yield
    finally:
        node.time, services.start_ray_process = before


def free_ports(count: int) -> list[int]:
    """So many ports of this machine that nobody listens on."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def with_ports(flags: list[str]) -> tuple[list[str], int]:
    """Flags of `ray start` with all ports of the agents; and the port for jobs.

    Free ones are chosen where none is given.
    """
    given = dict(flag.removeprefix("--").split("=", 1) for flag in flags if "=" in flag)
    chosen = dict(zip(_PORTS, map(str, free_ports(len(_PORTS))), strict=True))
    ports = {name: given.get(name, chosen[name]) for name in _PORTS}
    own = [f"--{name}={port}" for name, port in ports.items() if name not in given]
    return flags + own, int(ports[_JOBS])


def main(flags: list[str]) -> None:
    """Run `ray start FLAGS`, with patience."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from ray.scripts.scripts import start

    flags, job_port = with_ports(flags)
    with patience(job_port):
        start(flags)


if __name__ == "__main__":
    main(sys.argv[1:])
