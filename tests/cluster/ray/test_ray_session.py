"""A private Ray is private: no other machine reaches its ports, and who reaches them without the
token is refused.
"""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import psutil
import pytest

from panoforge.cluster.config.ray import RayConfig
from panoforge.cluster.ray.metrics import RunMetrics
from panoforge.cluster.ray.session import ray_session
from panoforge.cluster.ray.watch import ClusterError
from panoforge.cluster.state.ledger import AttemptRecord
from panoforge.cluster.state.policy import AttemptFault
from panoforge.cluster.state.scene_states import SceneStates

pytestmark = [pytest.mark.ray, pytest.mark.timeout(200)]

JOIN = (
    "import sys, ray; ray.init(address=sys.argv[1], log_to_driver=False); print('joined',"
    " len(ray.nodes()))"
)


def own_address() -> str:
    """An address of this machine as other machines see it."""
    found = [
        address.address
        for name, addresses in psutil.net_if_addrs().items()
        if name != "lo"
        for address in addresses
        if address.family == socket.AF_INET
    ]
    return found[0] if found else pytest.skip("needs a network card")


def listeners() -> dict[int, tuple[str, str]]:
    """Port → (address, process) of everything that this process's Ray listens on."""
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return {
        socket_.laddr.port: (socket_.laddr.ip.removeprefix("::ffff:"), process.name())
        for process in processes
        for socket_ in process.net_connections("inet")
        if socket_.status == psutil.CONN_LISTEN
    }


def is_open(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=5).close()
    except OSError:
        return False
    return True


def join(address: str, *, with_token: bool) -> subprocess.CompletedProcess:
    environment = dict(os.environ)
    if not with_token:
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")
        }
        environment["RAY_AUTH_MODE"] = "disabled"
    return subprocess.run(
        [sys.executable, "-c", JOIN, address],
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


@pytest.mark.real  # CI sees that no stranger reaches a Ray of ours
def test_a_private_ray_listens_on_the_loopback_address_alone_and_asks_for_a_token():
    elsewhere = own_address()
    with ray_session(RayConfig(), cpus=1, dashboard=True) as dashboard:
        import ray

        @ray.remote
        def work() -> int:
            return 1

        assert ray.get(work.remote()) == 1  # a worker is up and listens too
        address = ray.get_runtime_context().gcs_address
        found = listeners()
        assert {int(address.rpartition(":")[2]), int(dashboard.rpartition(":")[2])} < set(found)
        assert {ip for ip, _ in found.values()} == {"127.0.0.1"}, found
        assert {"gcs_server", "raylet"} <= {process for _, process in found.values()}
        reached = [port for port in found if is_open(elsewhere, port)]
        assert reached == [] and all(is_open("127.0.0.1", port) for port in found)

        # A neighbour on this machine reaches the loopback address, and is asked for the token
        # there.
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"http://{dashboard}/api/jobs/", timeout=10)
        assert refused.value.code == 401
        stranger = join(address, with_token=False)
        assert stranger.returncode != 0 and "joined" not in stranger.stdout
        assert join(address, with_token=True).stdout == "joined 1\n"


@pytest.mark.slow
def test_with_the_flag_it_listens_on_all_addresses_and_still_asks_for_the_token():
    elsewhere = own_address()
    with ray_session(RayConfig(listen="all"), cpus=1):
        import ray

        port = int(ray.get_runtime_context().gcs_address.rpartition(":")[2])
        assert is_open(elsewhere, port)
        stranger = join(f"{elsewhere}:{port}", with_token=False)
        assert stranger.returncode != 0 and "joined" not in stranger.stdout


@pytest.mark.slow
def test_a_private_ray_is_private_beside_another_on_this_machine(monkeypatch):
    """Without care Ray would join whatever cluster was started here last, or RAY_ADDRESS."""
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with ray_session(RayConfig(), cpus=1):
        import ray

        assert ray.cluster_resources()["CPU"] == 1


@pytest.mark.slow
def test_a_private_ray_ends_with_its_driver_however_that_ends(tmp_path):
    mark = str(tmp_path)
    code = (
        "import time\nfrom panoforge.cluster.config.ray import RayConfig\nfrom"
        " panoforge.cluster.ray.session import ray_session\nwith ray_session(RayConfig(), cpus=1):"
        "\n    print('up', flush=True)\n    time.sleep(600)"
    )
    driver = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "A_MARK": mark},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert driver.stdout is not None and driver.stdout.readline() == "up\n"
    assert {"gcs_server", "raylet"} <= marked(mark)
    driver.kill()
    driver.wait()
    end = time.monotonic() + 60
    while marked(mark):
        assert time.monotonic() < end, marked(mark)
        time.sleep(0.5)


def marked(mark: str) -> set[str]:
    """Names of the living processes that carry A_MARK in their environment."""
    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("A_MARK") == mark and process.status() != "zombie":
                found.add(process.name())
    return found


@pytest.mark.slow
def test_prometheus_sees_a_run():
    with ray_session(RayConfig(), cpus=1):
        import ray

        said: list[str] = []
        metrics = RunMetrics("Zürich 客 😀", SceneStates(7), said.append)
        metrics.note(
            AttemptRecord(
                id="x",
                index=0,
                scene="s",
                attempt=1,
                outcome="fault",
                fault=AttemptFault.OOM,
                job_sha256="a",
                cpus=2.0,
                started_unix_s=0.0,
                seconds=3.0,
            )
        )
        assert said == []
        (node,) = ray.nodes()
        url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        text = ""
        for _ in range(60):
            with contextlib.suppress(OSError):
                text = urllib.request.urlopen(url, timeout=5).read().decode()
            if "panoforge_core_seconds" in text:
                break
            time.sleep(1)
        lines = [
            line for line in text.splitlines() if "panoforge" in line and not line.startswith("#")
        ]
        assert any(
            "panoforge_scenes{" in line and 'state="open"' in line and line.endswith(" 7.0")
            for line in lines
        ), lines
        assert any(
            "panoforge_faults" in line and 'fault="oom"' in line and line.endswith(" 1.0")
            for line in lines
        ), lines
        assert any("panoforge_core_seconds" in line and line.endswith(" 6.0") for line in lines), (
            lines
        )


def test_a_cluster_that_is_not_there():
    with (
        pytest.raises(
            ClusterError,
            match=r"cannot reach or start the Ray cluster at 127\.0\.0\.1:1: .*Check ray\.address",
        ),
        ray_session(RayConfig(address="127.0.0.1:1")),
    ):
        pass


@pytest.mark.slow
def test_a_cluster_that_died_is_not_waited_for(monkeypatch):
    """`auto` may find the address of one that is gone: Ray tried it for ten minutes, and more."""
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    begin = time.monotonic()
    with (
        pytest.raises(ClusterError, match=r"at auto: nobody answers at \S+:1 \(.*refused"),
        ray_session(RayConfig(address="auto")),
    ):
        pytest.fail("nobody is there")
    assert time.monotonic() - begin < 30


def test_a_drain_may_take_longer_than_the_alarm_of_rays_signal_handler():
    """Ray's C++ handler of SIGTERM sets an alarm that aborts the process after 3 s, and prints a
    stack; a scene takes minutes.
    """
    code = (
        "import os, signal, time\nfrom panoforge.cluster.config.ray import RayConfig\nfrom"
        " panoforge.cluster.ray.session import ray_session\nfrom panoforge.core.drain"
        " import Drain\nwith Drain('x') as drain, ray_session(RayConfig(), cpus=1):\n   "
        " os.kill(os.getpid(), signal.SIGTERM)\n    time.sleep(4)\n    print(drain.asked)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, "True\n"), ended.stderr
    assert "SIGTERM received" not in ended.stderr
