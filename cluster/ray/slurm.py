"""A Slurm job: one node of Ray on each of its nodes, and a verb of `pano` as their driver.

    python -m panoforge.cluster.ray.slurm render CONFIG OVERRIDES      (in a batch script, by exec)

The batch script becomes this process, on the job's first node. It starts the nodes of Ray as one
job step, waits for them, and runs `pano VERB CONFIG ray.address=…` beside them. `ray symmetric-run`
does the same, but dies of a signal with all that runs, waits for nodes half a minute, and stops
every Ray of the user.

- SIGUSR1, Slurm's warning before the end (`--signal=B:USR1@900`): the driver stops where it can go
  on, and the job goes back into the queue.
- SIGTERM to it alone (`scancel --signal=TERM --batch JOB`): likewise, and the job ends.

A plain `scancel` signals every process of the job, Ray's too: what runs is lost. Whatever is lost,
the same command goes on from what is saved.
"""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from panoforge.cluster.config.sections import VERBS
from panoforge.cluster.process.process import bound_to_parent
from panoforge.core.errors import FAILED, UsageError, UserError
from panoforge.core.numbers import counted

START_S = 600.0  # for all nodes of Ray to come up: a shared file system may be slow at first
_POLL_S = 1.0
_END_S = 30.0
_MODULE = "panoforge.cluster.ray.slurm"


class SlurmError(UserError):
    """The nodes of a Slurm job could not be put to work."""


@dataclass(frozen=True)
class Allocation:
    """The Slurm job that this process is in."""

    job: str
    nodes: tuple[str, ...]
    cpus: int  # on this node

    @classmethod
    def here(cls) -> "Allocation":
        """From Slurm's environment. UsageError outside a job."""
        try:
            job, names = os.environ["SLURM_JOB_ID"], os.environ["SLURM_JOB_NODELIST"]
        except KeyError as error:
            raise UsageError(
                f"{error.args[0]} is not set: this runs in a Slurm job, see"
                " configs/cluster/slurm.sbatch"
            ) from None
        nodes = subprocess.run(
            ["scontrol", "show", "hostnames", names], capture_output=True, text=True, check=True
        ).stdout.split()
        cpus = os.environ.get("SLURM_CPUS_ON_NODE") or len(os.sched_getaffinity(0))
        return cls(job, tuple(nodes), int(cpus))

    @property
    def address(self) -> str:
        """Where the head listens: as the last node is reached from here, which is the first."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((socket.gethostbyname(self.nodes[-1]), 1))  # sends nothing
            return f"{probe.getsockname()[0]}:{6379 + int(self.job) % 1000}"

    @property
    def started(self) -> Path:
        """There once the driver was started."""
        return Path(f"{self.scratch}.started")

    @property
    def scratch(self) -> str:
        """Ray's own files on each node; short, as names of sockets are."""
        return f"/tmp/pano-{self.job}"


def run(verb: str, words: Sequence[str]) -> int:
    """Run `pano VERB WORDS` on all nodes of this job; gives its exit code.

    Args:
        verb: render, train or eval.
        words: Its config and overrides.

    Raises:
        UsageError: this is no Slurm job, or there is no such verb.
        SlurmError: the nodes of Ray did not come up.
    """
    if verb not in VERBS or not words:
        raise UsageError(f"expected {', '.join(VERBS)} and a config, got {[verb, *words]}")
    job = Allocation.here()
    address = job.address
    os.environ.update(  # every node of this job, and nobody else, knows the token
        RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32), RAY_USAGE_STATS_ENABLED="0"
    )
    signals = _Signals()
    flags = ["--overlap", "--kill-on-bad-exit=0", "--cpu-bind=none", "--ntasks-per-node=1"]
    flags += [f"--nodes={len(job.nodes)}", f"--cpus-per-task={job.cpus}"]
    step = subprocess.Popen(
        ["srun", *flags, sys.executable, "-m", _MODULE, "--node", address],
        start_new_session=True,  # a signal for the batch script is not for the nodes
    )
    status = FAILED
    try:
        if _wait_for_nodes(address, len(job.nodes), step, signals):
            driver = subprocess.Popen(
                [sys.executable, "-m", "panoforge", verb, *words, f"ray.address={address}"],
                start_new_session=True,
            )
            job.started.touch()
            signals.hand_on_to(driver)
            status = driver.wait()
    finally:
        step.send_signal(signal.SIGUSR1)
        with contextlib.suppress(subprocess.TimeoutExpired):
            step.wait(_END_S)
        job.started.unlink(missing_ok=True)
    if status and signals.warned:
        _requeue(job.job)
    return status


def _wait_for_nodes(
    address: str, count: int, step: "subprocess.Popen[bytes]", signals: "_Signals"
) -> bool:
    """Whether all nodes of Ray came up before somebody asked for the end."""
    end, there = time.monotonic() + START_S, 0
    while not signals.asked:
        if step.poll() is not None:
            raise SlurmError(
                f"the job step of Ray's nodes ended with {step.returncode} before all {count} were"
                " up: see what they said above"
            )
        there = _alive(address)
        if there >= count:
            return True
        if time.monotonic() > end:
            raise SlurmError(
                f"{there} of {counted(count, 'node')} of Ray were up after {START_S:.0f} s: see"
                " what they"
                " said above, and whether they reach each other at all ports"
            )
        time.sleep(_POLL_S)
    return False


def _alive(address: str) -> int:
    """How many nodes of Ray there are; 0 while the head does not answer."""
    from ray import _raylet

    raylet: Any = _raylet  # Cython: no types
    host, _, port = address.partition(":")
    try:
        socket.create_connection((host, int(port)), timeout=2).close()  # Ray waits for minutes
        return sum(
            node.state == 0
            for node in raylet.GcsClient(address=address).get_all_node_info().values()
        )
    except Exception:  # Ray's own, by the kind of silence
        return 0


def _requeue(job: str) -> None:
    print(f"Slurm's time is over: job {job} goes back into the queue", file=sys.stderr, flush=True)
    said = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False)
    if said.returncode:
        raise SlurmError(
            f"job {job} could not be requeued: {said.stderr.strip()}. Submit it again: it goes on"
            " from what is saved"
        )


class _Signals:
    """Slurm's signals to the batch script, handed on to the driver as a wish to stop."""

    def __init__(self) -> None:
        self.asked = self.warned = False
        self._driver: subprocess.Popen[bytes] | None = None
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, self._on_signal)

    def hand_on_to(self, driver: "subprocess.Popen[bytes]") -> None:
        """From here on, and what has come already."""
        self._driver = driver
        if self.asked:
            driver.send_signal(signal.SIGTERM)

    def _on_signal(self, number: int, frame: object) -> None:
        first, self.asked = not self.asked, True
        self.warned |= number == signal.SIGUSR1
        if first and self._driver is not None:  # a second one would not let it finish
            self._driver.send_signal(signal.SIGTERM)


def node(address: str) -> int:
    """One node of Ray, until the step gets SIGUSR1."""
    stop: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, frame: stop.append(number))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    job = Allocation.here()
    flags = [f"--num-cpus={job.cpus}", "--block"]
    host, _, port = address.partition(":")
    if os.environ["SLURM_PROCID"] == "0":
        flags += ["--head", f"--node-ip-address={host}", f"--port={port}"]
        flags += ["--include-dashboard=false", f"--temp-dir={job.scratch}"]
    else:
        while not _alive(address) and not stop:
            time.sleep(_POLL_S)
        flags += [f"--address={address}"]
    try:
        while not stop:  # one that took too long to start, or lost the head, is started again
            ray = bound_to_parent(
                [sys.executable, "-m", "panoforge.cluster.ray.node", *flags],
                environment={},
                output=sys.stderr.fileno(),
            )
            while ray.poll() is None and not stop:
                time.sleep(_POLL_S)
            ray.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                ray.wait(_END_S)
            if "--head" in flags and job.started.exists() and not stop:
                return FAILED  # another head would know nothing of what the driver has begun
            time.sleep(_POLL_S)
        return 0
    finally:
        shutil.rmtree(job.scratch, ignore_errors=True)


def main(words: Sequence[str]) -> int:
    """The batch script's, or with `--node ADDRESS` a task of its step."""
    try:
        if len(words) == 2 and words[0] == "--node":
            return node(words[1])
        return run(words[0] if words else "", words[1:])
    except UserError as error:
        print(f"{Path(sys.argv[0]).name}: error: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
