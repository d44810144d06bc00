"""One Ray session: a private Ray on this machine by default, or somebody's cluster by address.

The private one holds next to nothing in its object store (only paths and digests go through Ray),
and starts a dashboard, which has the job port, only where it is asked for. Whoever reaches a port
of Ray can run code: so all ports of the private Ray listen on the loopback address alone
(`ray.listen`), and it asks for a token that this process makes up (`ray.auth`). It is shut down
again on the way out, also on errors. A cluster that one joins has its own token: RAY_AUTH_MODE and
RAY_AUTH_TOKEN, as Ray reads them.
"""

import contextlib
import logging
import os
import re
import secrets
import signal
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from panoforge.cluster.config import RayConfig
from panoforge.core.errors import UserError

Node = TypeVar("Node")
_OBJECT_STORE_BYTES = 80 << 20  # Ray's minimum is 75 MiB
_START_S = 120.0  # for a node of Ray to come up
_JOB_PORT = "dashboard_agent_listen_port"
_AGENT_PORTS = (_JOB_PORT, "metrics_agent_port", "metrics_export_port", "runtime_env_agent_port")


class ClusterError(UserError):
    """Ray could not be started or reached."""


@contextlib.contextmanager
def ray_session(
    config: RayConfig, *, cpus: int | None = None, dashboard: bool = False
) -> Iterator[None]:
    """Connect to Ray for the time of a `with` block. `cpus` caps a private Ray (None: all cores of
    this machine), `dashboard` gives it one. A session that the caller has already opened is used
    and left open.
    """
    os.environ.setdefault(
        "RAY_USAGE_STATS_ENABLED", "0"
    )  # nothing of a user's run leaves the machine
    os.environ.setdefault(
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0"
    )  # keep CUDA_VISIBLE_DEVICES as it is in CPU tasks
    import ray

    if ray.is_initialized():
        yield
        return
    if config.address is None:
        _require_token(config)
    if config.address is None and config.listen == "loopback":
        with _on_loopback():
            yield from _session(config, cpus, dashboard)
        return
    yield from _session(config, cpus, dashboard)


def _session(config: RayConfig, cpus: int | None, dashboard: bool) -> Iterator[None]:
    import ray

    try:
        try:
            if config.address and re.fullmatch(r"[\w.-]+:\d+", config.address):
                host, _, port = config.address.rpartition(":")
                socket.create_connection(
                    (host, int(port)), timeout=10
                ).close()  # Ray itself would try for minutes
            with _our_own_sigterm():
                _connect(config, cpus, dashboard)
        except (
            Exception
        ) as error:  # Ray raises bare ones too: that its own node did not come up in time, for one
            where = (
                f"the Ray cluster at {config.address}"
                if config.address
                else "a private Ray on this machine"
            )
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ClusterError(
                f"cannot reach or start {where}: {first}. Check ray.address, and see pano doctor"
            ) from None
        yield
    finally:
        ray.shutdown()


def _connect(config: RayConfig, cpus: int | None, dashboard: bool) -> None:
    import ray

    if config.address is not None:
        ray.init(address=config.address, log_to_driver=False, logging_level=logging.ERROR)
        return

    def start() -> None:
        ray.shutdown()
        ray.init(
            # none at all would join a cluster that somebody started on this machine
            address="local",
            num_cpus=cpus or len(os.sched_getaffinity(0)),
            include_dashboard=dashboard,
            dashboard_host="127.0.0.1",
            object_store_memory=_OBJECT_STORE_BYTES,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _node_ip_address="127.0.0.1" if config.listen == "loopback" else None,
        )

    patiently(start)


def patiently(start: Callable[[], Node]) -> Node:
    """Start a node of Ray, with more time than Ray gives it, and up to three times."""
    for last in (False, False, True):
        try:
            with _time_to_start(), _ports_of_its_own():
                return start()
        except Exception as error:
            if last or "timed out during startup" not in str(error):
                raise
    raise AssertionError


@contextlib.contextmanager
def _time_to_start() -> Iterator[None]:
    """Ray (2.60) gives a node 30 s to come up, which stands in its code, and its raylet ends if its
    agents take as long. If its first workers take over 60 s it gives them up, and its driver, which
    waits for them, for ever. On a machine that is very busy all of them need minutes, and starting
    anew makes it busier.
    """
    from ray._private import node

    os.environ.setdefault("RAY_agent_register_timeout_ms", str(round(1000 * _START_S)))
    os.environ.setdefault("RAY_worker_register_timeout_seconds", str(round(2 * _START_S)))
    before, node.time = node.time, _SlowClock(_START_S / 30)
    try:
        yield
    finally:
        node.time = before


class _SlowClock:
    """The module `time`, but that its monotonic clock goes `factor` times slower."""

    def __init__(self, factor: float) -> None:
        self._factor = factor

    def monotonic(self) -> float:
        return time.monotonic() / self._factor

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


@contextlib.contextmanager
def _ports_of_its_own() -> Iterator[None]:
    """Give the agents of a node their ports, and tell its raylet all of them. `ray.init` (2.60) has
    no word for most. The agent that starts jobs would listen on 52365, and beside a second Ray on
    the machine give up without a word; the others would choose theirs and write them into files,
    for which the raylet waits 15 s and then aborts: too short for a busy machine, where a Python
    takes half a minute to start.
    """
    from ray._private import parameter, ray_constants, services

    with contextlib.ExitStack() as stack:
        probes = {name: stack.enter_context(socket.socket()) for name in _AGENT_PORTS}
        for probe in probes.values():
            probe.bind(("127.0.0.1", 0))
        ports = {name: probe.getsockname()[1] for name, probe in probes.items()}
    before = parameter.RayParams, services.start_ray_process

    def with_ports(*arguments: Any, **named: Any) -> Any:
        return before[0](
            *arguments,
            **named | {name: port for name, port in ports.items() if not named.get(name)},
        )

    def told(command: list[str], process_type: str, *arguments: Any, **named: Any) -> Any:
        if (
            process_type == ray_constants.PROCESS_TYPE_RAYLET
        ):  # the one port that Ray does not pass on
            command = [*command, f"--{_JOB_PORT}={ports[_JOB_PORT]}"]
        return before[1](command, process_type, *arguments, **named)

    parameter.RayParams, services.start_ray_process = with_ports, told
    try:
        yield
    finally:
        parameter.RayParams, services.start_ray_process = before


@contextlib.contextmanager
def _our_own_sigterm() -> Iterator[None]:
    """Keep a handler of SIGTERM that this process has. `ray.init` would put its own in, and a
    SIGTERM in the seconds that it takes would end the process with status 15 and no word. Its C++
    puts one below Python's: that one prints a stack, calls Python's, and has set an alarm that
    aborts the process three seconds later. So Python's is put back into its place.
    """
    from ray._private import utils

    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        yield
        return
    before, utils.set_sigterm_handler = utils.set_sigterm_handler, lambda handler: None
    try:
        yield
    finally:
        utils.set_sigterm_handler = before
        with contextlib.suppress(ValueError):  # outside the main thread signals are somebody else's
            signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))


@contextlib.contextmanager
def _on_loopback() -> Iterator[None]:
    """Have a Ray that is started in here listen on 127.0.0.1 alone. Told that address, Ray (2.60)
    still takes the machine's own instead, and then listens on all, because nodes on other machines
    might join; where it supports no other nodes (its switch for macOS and Windows) it stays on the
    loopback address. Ray reads the switch when it is imported.
    """
    from ray._private import ray_constants

    before, variable = ray_constants.ENABLE_RAY_CLUSTER, ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR
    inherited = os.environ.get(variable)
    ray_constants.ENABLE_RAY_CLUSTER = False
    os.environ[variable] = "0"  # for Ray's own processes
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
        os.environ.pop(variable)
        if inherited is not None:
            os.environ[variable] = inherited


def _require_token(config: RayConfig) -> None:
    """Have Ray refuse whoever does not know this process's token."""
    from ray._raylet import AuthenticationTokenLoader, Config

    os.environ["RAY_AUTH_MODE"] = "disabled" if config.auth == "off" else "token"
    if config.auth == "token" and "RAY_AUTH_TOKEN_PATH" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    Config.initialize("")  # Ray read both when it was imported, which may have been before
    AuthenticationTokenLoader.instance().reset_cache()


def require_living_ray() -> None:
    """ClusterError if a process of our private Ray is dead: a signal to the whole process group
    (`timeout`, a batch system) reaches them too, and Ray's calls then block for ever instead of
    failing.
    """
    from ray._private import worker

    node = getattr(
        worker, "_global_node", None
    )  # None on somebody else's cluster: that one's health is its owner's
    dead = [name for name, _ in node.dead_processes()] if node is not None else []
    if dead:
        raise ClusterError(
            f"the private Ray of this run died ({', '.join(map(str, dead))}): something stopped or"
            " killed it. What was rendered is kept; the same command goes on from here"
        )
