"""Machines on this one: each has a network, a process table, a hostname, a /tmp/ray and a /dev/shm
of its own, and they reach each other over a switch. Linux namespaces: they need root, iproute2 and
util-linux.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

SUBNET = "10.77.{}.{}"
_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")
_APART = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--uts")
_MOUNTS = """
set -e
mount --make-rprivate /
mkdir -p /tmp/ray
mount -t tmpfs tmpfs /tmp/ray
mount -t tmpfs tmpfs /dev/shm
mount --bind "$HOSTS" /etc/hosts
hostname "$MACHINE"
exec sleep infinity
"""


def why_not() -> str | None:
    """What keeps this process from making machines; None if nothing does."""
    if os.geteuid():
        return "only root makes network namespaces"
    missing = [tool for tool in ("ip", "unshare", "nsenter") if shutil.which(tool) is None]
    if missing:
        return f"{', '.join(missing)} is not installed (Debian: iproute2, util-linux)"
    made = subprocess.run(["unshare", "--net", "--mount", "--pid", "--fork", "true"], check=False)
    return None if made.returncode == 0 else "this kernel or container allows no namespaces"


needs_machines = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


class Machine:
    """One of them. All its processes end with it."""

    def __init__(self, name: str, address: str, namespace: str, port: str, switch: str) -> None:
        self.name, self.address = name, address
        self._namespace, self._port, self._switch = namespace, port, switch
        self._holder: subprocess.Popen[bytes] | None = None
        self._first = 0  # the process id of the first process

    def boot(self, hosts: Path) -> None:
        self._holder = subprocess.Popen(
            [*_WITH_US, "ip", "netns", "exec", self._namespace, *_APART, "bash", "-c", _MOUNTS],
            env={**os.environ, "HOSTS": str(hosts), "MACHINE": self.name},
        )
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children")
        end = time.monotonic() + 30
        while time.monotonic() < end:
            pid = children.read_text().strip()
            if pid and Path(f"/proc/{pid}/comm").read_text() == "sleep\n":
                self._first = int(pid)
                return
            time.sleep(0.02)
        raise AssertionError(f"{self.name} did not boot")

    def start(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None, **how: object
    ) -> subprocess.Popen[str]:
        """Start a process there."""
        inside = ["nsenter", "--target", str(self._first), "--mount", "--net", "--pid", "--uts"]
        return subprocess.Popen(
            [*inside, "--", *command],
            env={**os.environ, **(environment or {})},
            text=True,
            **how,  # type: ignore[call-overload]
        )

    def terminate(self, process: subprocess.Popen[str]) -> None:
        """SIGTERM to what `start` started: nsenter, which waits for it, hands no signal on."""
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        os.kill(int(children), signal.SIGTERM)

    def say(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
        """What a command prints there; it must end well."""
        process = self.start(command, environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 0, said
        return said

    def processes(self, word: str) -> list[int]:
        """Their ids, as this process knows them, of those there whose command line has a word."""
        found, here = [], os.readlink(f"/proc/{self._first}/ns/pid")
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError):  # it has ended, or is no process
                words = (folder / "cmdline").read_text(errors="replace")
                if word in words and os.readlink(folder / "ns/pid") == here:
                    found.append(int(folder.name))
        return found

    def cut_off(self) -> None:
        """Pull its network cable: nobody is told, packets just go nowhere."""
        _ip("-n", self._switch, "link", "set", self._port, "down")

    def mend(self) -> None:
        """Plug the cable in again."""
        _ip("-n", self._switch, "link", "set", self._port, "up")

    def halt(self) -> None:
        """Switch it off: all its processes are gone at once."""
        if self._holder is not None:
            self._holder.kill()
            self._holder.wait()
            self._holder = None


@contextlib.contextmanager
def machines(
    folder: Path, *names: str, aliases: Mapping[str, str] | None = None
) -> Iterator[list[Machine]]:
    """Machines of these names, which know each other by name, for the time of a `with` block.

    `aliases` are further names, as a service of Kubernetes has one, of the machines behind them.
    """
    own = os.getpid()
    switch, made = f"pf{own}-switch", []
    with contextlib.ExitStack() as stack:
        _ip("netns", "add", switch)
        stack.callback(_ip, "netns", "delete", switch)
        _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", switch, "link", "set", "bridge", "up")
        hosts = folder / "hosts"
        lines = ["127.0.0.1 localhost"]
        for number, name in enumerate(names, start=1):
            namespace, port = f"pf{own}-{number}", f"port{number}"
            address = SUBNET.format(own % 250, number)
            _ip("netns", "add", namespace)
            stack.callback(_ip, "netns", "delete", namespace)
            _ip(
                "-n",
                switch,
                "link",
                "add",
                port,
                "type",
                "veth",
                "peer",
                "eth0",
                "netns",
                namespace,
            )
            _ip("-n", switch, "link", "set", port, "master", "bridge", "up")
            _ip("-n", namespace, "address", "add", f"{address}/24", "dev", "eth0")
            for device in ("eth0", "lo"):
                _ip("-n", namespace, "link", "set", device, "up")
            also = [alias for alias, meant in (aliases or {}).items() if meant == name]
            lines.append(" ".join([address, name, *also]))
            made.append(Machine(name, address, namespace, port, switch))
        hosts.write_text("\n".join(lines) + "\n")
        for machine in made:
            stack.callback(machine.halt)
            machine.boot(hosts)
        yield made
