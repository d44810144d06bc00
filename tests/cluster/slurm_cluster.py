"""A real Slurm on machines of this one (machines.py): a controller, munge, and slurmd on each."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from machines import Machine, machines, why_not
from repository import ROOT

TOOLS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "scancel")
MISSING = [tool for tool in TOOLS if shutil.which(tool) is None]
REASON = (
    f"{', '.join(MISSING)} is not installed (Debian: slurm-wlm, munge)" if MISSING else why_not()
)
needs_slurm = pytest.mark.skipif(REASON is not None, reason=f"no real Slurm here: {REASON}")

ALIVE = ("PENDING", "RUNNING", "COMPLETING")  # states of a job that has not ended

# A requeued job waits until the credentials of its last start have expired.
CONFIG = """
ClusterName=test
SlurmctldHost={head}({address})
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/controller
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdSpoolDir={folder}/spool-%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
KillWait=60
MinJobAge=3600
SlurmdTimeout=60
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class Slurm:
    """The cluster, as its users see it."""

    def __init__(self, machines: Sequence[Machine], folder: Path) -> None:
        self._machines, self._head, self.folder = machines, machines[0], folder
        self.environment = {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "VENV": str(Path(sys.prefix)),
            "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}:{ROOT / 'tests/cluster'}",
            "RAY_worker_niceness": "0",
        }

    def say(self, *command: str) -> str:
        """What a command of Slurm prints on the first node."""
        return self._head.say(command, self.environment).strip()

    def submit(self, script: Path, variables: Mapping[str, str], *options: str) -> str:
        """Submit a batch script; gives the job's number."""
        exported = ",".join(["ALL", *(f"{name}={value}" for name, value in variables.items())])
        log = f"--output={self.folder}/job-%j.log"
        words = ["--parsable", log, f"--chdir={self.folder}", f"--export={exported}", *options]
        return self.say("sbatch", *words, str(script))

    def state(self, job: str) -> str:
        """Its state: PENDING, RUNNING, COMPLETED, …"""
        shown = self.say("scontrol", "show", "job", job)
        return shown.partition("JobState=")[2].split()[0]

    def log(self, job: str) -> str:
        """What it printed so far."""
        path = self.folder / f"job-{job}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def end_in_minutes(self, job: str, minutes: int) -> None:
        """Set the job's time limit so that it ends that soon: its warning may be due at once."""
        shown = self.say("scontrol", "show", "job", job)
        ran = shown.partition("RunTime=")[2].split()[0]  # 00:01:30
        hours, passed = map(int, ran.split(":")[:2])
        limit = 60 * hours + passed + minutes
        self.say("scontrol", "update", f"JobId={job}", f"TimeLimit={limit}")

    @contextlib.contextmanager
    def held(self, word: str) -> Iterator[None]:
        """Processes whose command line has a word stand still in a `with` block."""
        ids = [number for machine in self._machines for number in machine.processes(word)]
        assert ids, f"no {word} runs"
        try:
            for number in ids:
                os.kill(number, signal.SIGSTOP)
            yield
        finally:
            for number in ids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGCONT)

    def wait(self, job: str, *states: str, seconds: float = 600) -> None:
        """Until it is in one of these states; fail where it ends in another one."""
        end = time.monotonic() + seconds
        while (state := self.state(job)) not in states:
            goes_on = state in ALIVE and time.monotonic() < end
            assert goes_on, f"{state}\n{self.log(job)}\n{self.say('sinfo')}"
            time.sleep(1)


@contextlib.contextmanager
def slurm(folder: Path, nodes: int) -> Iterator[Slurm]:
    """A Slurm of so many nodes, idle, for the time of a `with` block."""
    names = [f"node{number}" for number in range(1, nodes + 1)]
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(machines(folder, *names))
        paths = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "log", "pid", "seed")]
        (folder / "munge.pid").unlink(missing_ok=True)
        munge = subprocess.Popen(
            ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *paths],
            stderr=subprocess.DEVNULL,
        )
        stack.callback(munge.wait)
        stack.callback(munge.terminate)
        lines = [f"NodeName={m.name} NodeAddr={m.address} CPUs=2" for m in made]
        (folder / "slurm.conf").write_text(
            CONFIG.format(
                head=made[0].name, address=made[0].address, folder=folder, nodes="\n".join(lines)
            )
        )
        # Found, but not used: processes are followed without them.
        (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        (folder / "controller").mkdir()
        cluster = Slurm(made, folder)
        with (folder / "slurmctld.log").open("w") as log:
            made[0].start(["slurmctld", "-D"], cluster.environment, stdout=log, stderr=log)
        for machine in made:
            (folder / f"spool-{machine.name}").mkdir()
            with (folder / f"slurmd-{machine.name}.log").open("w") as log:
                machine.start(
                    ["slurmd", "-D", "-N", machine.name],
                    cluster.environment,
                    stdout=log,
                    stderr=log,
                )
        end = time.monotonic() + 120
        while True:
            with contextlib.suppress(AssertionError):
                shown = cluster.say("sinfo", "--noheader", "--format=%D %T")
                if shown == f"{nodes} idle":
                    break
            assert time.monotonic() < end, (folder / "slurmctld.log").read_text()
            time.sleep(0.5)
        yield cluster
