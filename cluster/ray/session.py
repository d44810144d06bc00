"""One Ray session: a private Ray on this machine by default, or somebody's cluster by address.

A private Ray (`panoforge.cluster.ray.private`) asks for a token that this process makes up
(`ray.auth`), and is ended on the way out, also on errors. A cluster that one joins has its own
token: RAY_AUTH_MODE and RAY_AUTH_TOKEN, as Ray reads them.

A Ray that dies under its driver is said in one line (`panoforge.cluster.ray.watch`).
"""

import contextlib
import logging
import os
import re
import secrets
import signal
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from panoforge.cluster.config.ray import RayConfig
from panoforge.cluster.ray.private import LOOPBACK_ONLY, private_head
from panoforge.cluster.ray.watch import ClusterError, living_on, watched_cluster, watched_head
from panoforge.core.errors import first_line

if TYPE_CHECKING:
    from ray._private.worker import RayContext

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing of a user's run leaves the machine
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # keep CUDA_VISIBLE_DEVICES in CPU tasks
}


@contextlib.contextmanager
def ray_session(
    config: RayConfig, *, cpus: float | None = None, dashboard: bool = False
) -> Iterator[str]:
    """Connect to Ray for the time of a `with` block.

    A session that is open already is used, and left open.

    Args:
        config: Which Ray.
        cpus: Cores of a private one; None: all that this process may use.
        dashboard: Whether a private one has a dashboard, and with it a job port.

    Yields:
        HOST:PORT of the dashboard; empty where there is none, and for a session that was open.

    Raises:
        ClusterError: Ray cannot be started or reached.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        yield ""
        return
    with contextlib.ExitStack() as stack:
        try:
            context = (
                _private(config, cpus, dashboard, stack)
                if config.address is None
                else _cluster(config.address, stack)
            )
        except Exception as error:  # Ray raises bare ones too
            where = (
                f"the Ray cluster at {config.address}"
                if config.address
                else "a private Ray on this machine"
            )
            raise ClusterError(
                f"cannot reach or start {where}: {first_line(error)}. Check ray.address,"
                " and see pano doctor"
            ) from None
        yield context.dashboard_url or ""


def _private(
    config: RayConfig, cpus: float | None, dashboard: bool, stack: contextlib.ExitStack
) -> "RayContext":
    """Start a private Ray and join it; `stack` ends both."""
    _make_token(config)
    if config.listen == "loopback":
        stack.enter_context(_loopback_is_meant())
    head = stack.enter_context(
        private_head(config, cpus or len(os.sched_getaffinity(0)), dashboard)
    )
    stack.enter_context(watched_head(head.process))
    with living_on():
        _read_settings_anew()  # of the token too: Ray read them when it was imported
        return _joined(head.address, stack)


def _cluster(address: str, stack: contextlib.ExitStack) -> "RayContext":
    """Join somebody's cluster; `stack` leaves it again."""
    with contextlib.ExitStack() as on_failure, living_on():
        import ray

        _read_settings_anew()
        context = _joined(address, on_failure)
        stack.enter_context(watched_cluster(ray.get_runtime_context().gcs_address))
        stack.enter_context(on_failure.pop_all())
    return context


def _joined(address: str, stack: contextlib.ExitStack) -> "RayContext":
    """Join a Ray that is up; `stack` leaves it again.

    In a thread: in the main one Ray replaces this process's handler of SIGTERM, and a SIGTERM in
    these seconds would end it with status 15 and no word. Ray's C++ puts a handler of its own below
    Python's in any case. That one sets an alarm that aborts the process three seconds later, so
    Python's is put back into its place.
    """
    import ray

    address = _answering(address)
    logging.getLogger("ray").setLevel(logging.ERROR)
    stack.callback(ray.shutdown)
    with ThreadPoolExecutor(1) as thread:
        context = thread.submit(
            ray.init, address=address, log_to_driver=False, logging_level=logging.ERROR
        ).result()
    with contextlib.suppress(ValueError):  # outside the main thread signals are somebody else's
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
    return context


def _answering(address: str) -> str:
    """The address to join, after a look whether anybody listens there.

    Ray itself would try for many minutes. `auto` is the cluster that was started last on this
    machine, which may be dead by now, or that of RAY_ADDRESS. Which one that is only Ray's private
    module says without joining it: what is public (`ray.init`, its commands) joins, or only prints.

    Raises:
        ConnectionError: nobody listens there, or `auto` finds no cluster.
    """
    if address == "auto":
        from ray._private.services import canonicalize_bootstrap_address_or_die

        address = canonicalize_bootstrap_address_or_die(address)
    if re.fullmatch(r"[\w.-]+:\d+", address):
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as error:
            raise ConnectionError(f"nobody answers at {address} ({error})") from None
    return address


@contextlib.contextmanager
def _loopback_is_meant() -> Iterator[None]:
    """Have Ray take 127.0.0.1 for this very machine, as the head does.

    It reads the switch for that when it is imported. Where that was before, its constant is set:
    ray-project/ray#59110 asks for local addresses to be believed.
    """
    before = {name: os.environ.get(name) for name in LOOPBACK_ONLY}
    imported: Any = sys.modules.get("ray._private.ray_constants")
    known = True if imported is None else imported.ENABLE_RAY_CLUSTER
    os.environ |= LOOPBACK_ONLY
    if imported is not None:
        imported.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        constants: Any = sys.modules["ray._private.ray_constants"]
        constants.ENABLE_RAY_CLUSTER = known
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _make_token(config: RayConfig) -> None:
    """Have Ray refuse whoever does not know this process's token."""
    os.environ["RAY_AUTH_MODE"] = "disabled" if config.auth == "off" else "token"
    if config.auth == "token" and "RAY_AUTH_TOKEN_PATH" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def _read_settings_anew() -> None:
    """Have Ray read its settings and the token from the environment.

    It did so when it was imported, which may have been before.
    """
    from ray import _raylet

    raylet: Any = _raylet  # Cython: no types
    raylet.Config.initialize("")
    raylet.AuthenticationTokenLoader.instance().reset_cache()
