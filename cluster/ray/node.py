"""`ray start` with patience, as a process: `python -m panoforge.cluster.ray.node FLAGS`.

Two waits of Ray (2.60) stand in its code. They are too short for a busy machine, where a Python
takes half a minute to start. The raylet waits 15 s for a file with the port that its dashboard
agent listens on, and aborts. `ray start` waits 30 s for the raylet. Until ray-project/ray#65983
makes them settings, this process tells the raylet that port, the only one that Ray does not pass
on, and stretches the second wait. In a driver `session._loopback_is_meant` sets one constant of
`ray._private`; nothing else of ours changes names there.

`ray start --head` has no flag that leaves out the server of Ray's clients, a Python of two seconds
that nobody asks for here: a process that sleeps stands in its place.
"""

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any

START_S = 120.0  # for a node of Ray to come up
_RAY_WAITS_S = 30.0
_ASLEEP = [sys.executable, "-I", "-S", "-c", "import signal; signal.pause()"]
_PORT_FLAG = "--dashboard-agent-listen-port="


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


def main(flags: list[str]) -> None:
    """Run `ray start FLAGS`, of which one is the port of the dashboard agent."""
    from ray.scripts.scripts import start

    (port,) = (flag.removeprefix(_PORT_FLAG) for flag in flags if flag.startswith(_PORT_FLAG))
    with patience(int(port)):
        start(flags)


if __name__ == "__main__":
    main(sys.argv[1:])
