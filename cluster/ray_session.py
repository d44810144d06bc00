"""One Ray session: a private Ray on this machine by default, or somebody's cluster by address.

The private one holds next to nothing in its object store (only paths and digests go through Ray), and starts a dashboard,
which has the job port, only where it is asked for. Whoever reaches a port of Ray can run code: so all ports of the private
Ray listen on the loopback address alone (`ray.listen`), and it asks for a token that this process makes up (`ray.auth`). It
is shut down again on the way out, also on errors. A cluster that one joins has its own token: RAY_AUTH_MODE and
RAY_AUTH_TOKEN, as Ray reads them.
"""

import contextlib
import functools
import logging
import os
import re
import secrets
import signal
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from cluster.config import RayConfig
from pano.errors import UserError

Node = TypeVar("Node")
_OBJECT_STORE_BYTES = 80 << 20  # Ray's minimum is 75 MiB
_START_S = 180.0  # for a node of Ray to come up


class ClusterError(UserError):
    """Ray could not be started or reached."""


@contextlib.contextmanager
def ray_session(config: RayConfig, *, cpus: int | None = None, dashboard: bool = False) -> Iterator[None]:
    """Connect to Ray for the time of a `with` block. `cpus` caps a private Ray (None: all cores of this machine), `dashboard`
    gives it one. A session that the caller has already opened is used and left open."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing of a user's run leaves the machine
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # keep CUDA_VISIBLE_DEVICES as it is in CPU tasks
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
                socket.create_connection((host, int(port)), timeout=10).close()  # Ray itself would try for minutes
            with _our_own_sigterm():
                _connect(config, cpus, dashboard)
        except Exception as error:  # Ray raises bare ones too: that its own node did not come up in time, for one
            where = f"the Ray cluster at {config.address}" if config.address else "a private Ray on this machine"
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ClusterError(f"cannot reach or start {where}: {first}. Check ray.address, and see pano doctor") from None
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
        with _a_job_port_of_its_own():
            ray.init(
                address="local",  # none at all would join a cluster that somebody started on this machine
                num_cpus=cpus or len(os.sched_getaffinity(0)), include_dashboard=dashboard, dashboard_host="127.0.0.1",
                object_store_memory=_OBJECT_STORE_BYTES, log_to_driver=False, logging_level=logging.ERROR,
                _node_ip_address="127.0.0.1" if config.listen == "loopback" else None,
            )

    patiently(start)


def patiently(start: Callable[[], Node]) -> Node:
    """Start a node of Ray, with more time than Ray gives it, and up to three times."""
    with _time_to_start():
        for last in (False, False, True):
            try:
                return start()
            except Exception as error:
                if last or "timed out during startup" not in str(error):
                    raise
    raise AssertionError


@contextlib.contextmanager
def _time_to_start() -> Iterator[None]:
    """Ray (2.60) gives a node 30 s to come up, which stands in its code, and its raylet ends if its agents take as long: on a
    machine that is very busy both need minutes, and starting anew makes it busier."""
    from ray._private import node

    os.environ.setdefault("RAY_agent_register_timeout_ms", str(round(1000 * _START_S)))
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
def _a_job_port_of_its_own() -> Iterator[None]:
    """Ray's agent, which starts jobs, listens on 52365 and `ray.init` has no word for another: beside a second Ray on the
    machine it gives up without a word, and jobs find "no available agent"."""
    from ray._private import parameter

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    before, parameter.RayParams = parameter.RayParams, functools.partial(parameter.RayParams, dashboard_agent_listen_port=port)
    try:
        yield
    finally:
        parameter.RayParams = before


@contextlib.contextmanager
def _our_own_sigterm() -> Iterator[None]:
    """Keep a handler of SIGTERM that this process has. `ray.init` would put its own in, and a SIGTERM in the seconds that it
    takes would end the process with status 15 and no word."""
    from ray._private import utils

    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        yield
        return
    before, utils.set_sigterm_handler = utils.set_sigterm_handler, lambda handler: None
    try:
        yield
    finally:
        utils.set_sigterm_handler = before


@contextlib.contextmanager
def _on_loopback() -> Iterator[None]:
    """Have a Ray that is started in here listen on 127.0.0.1 alone. Told that address, Ray (2.60) still takes the machine's
    own instead, and then listens on all, because nodes on other machines might join; where it supports no other nodes
    (its switch for macOS and Windows) it stays on the loopback address. Ray reads the switch when it is imported."""
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
