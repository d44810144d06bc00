"""One Ray session: a private Ray on this machine by default, or somebody's cluster by address.

The private one starts no dashboard and holds next to nothing in its object store (only paths and digests go through Ray).
Ray binds its ports to every address of the machine whatever it is told, and whoever reaches them can run code: so the
private Ray asks for a token that this process makes up (`ray.auth`), and refuses everybody else. It is shut down again on
the way out, also on errors. A cluster that one joins has its own token: RAY_AUTH_MODE and RAY_AUTH_TOKEN, as Ray reads them.
"""

import contextlib
import logging
import os
import re
import secrets
import socket
from collections.abc import Iterator

from cluster.config import RayConfig
from pano.errors import UserError

_OBJECT_STORE_BYTES = 80 << 20  # Ray's minimum is 75 MiB


class ClusterError(UserError):
    """Ray could not be started or reached."""


@contextlib.contextmanager
def ray_session(config: RayConfig, *, cpus: int | None = None) -> Iterator[None]:
    """Connect to Ray for the time of a `with` block. `cpus` caps a private Ray (None: all cores of this machine).
    A session that the caller has already opened is used and left open."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing of a user's run leaves the machine
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # keep CUDA_VISIBLE_DEVICES as it is in CPU tasks
    if config.address is None:
        _require_token(config)
    import ray

    if ray.is_initialized():
        yield
        return
    try:
        if config.address and re.fullmatch(r"[\w.-]+:\d+", config.address):
            host, _, port = config.address.rpartition(":")
            socket.create_connection((host, int(port)), timeout=10).close()  # Ray itself would try for minutes
        if config.address is None:
            ray.init(
                num_cpus=cpus or len(os.sched_getaffinity(0)), include_dashboard=False, object_store_memory=_OBJECT_STORE_BYTES,
                _node_ip_address="127.0.0.1", log_to_driver=False, logging_level=logging.ERROR,
            )
        else:
            ray.init(address=config.address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, OSError) as error:
        where = f"the Ray cluster at {config.address}" if config.address else "a private Ray on this machine"
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ClusterError(f"cannot reach or start {where}: {first}. Check ray.address, and see pano doctor") from None
    try:
        yield
    finally:
        ray.shutdown()


def _require_token(config: RayConfig) -> None:
    """Have Ray refuse whoever does not know this process's token. Ray reads these once per process, so they stay set."""
    if config.auth == "off":
        os.environ["RAY_AUTH_MODE"] = "disabled"
        return
    os.environ["RAY_AUTH_MODE"] = "token"
    if "RAY_AUTH_TOKEN_PATH" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
