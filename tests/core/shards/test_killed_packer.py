"""`pano pack` killed by SIGKILL at its system calls, one after the other, as the kernel sees them
(strace injects the signal).

Whatever call it dies in, the dataset is the old one or the new one, whole; the next pack gives the
bytes of an undisturbed one and leaves no litter. test_shards.py has the same for calls of Python's
`os`, without strace.
"""

import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import synthetic

from panoforge.core.shards.verify import verify
from panoforge.core.shards.write import PackOptions, pack

CHANGING = (
    "mkdir",
    "write",
    "fsync",
    "rename",
    "unlink",
)  # calls that change what is on the disk …
LOOKING = (
    "openat",
    "close",
    "getdents64",
    "newfstatat",
)  # … and those between them, thousands of times
SHARD_BYTES = 20_000
OPTIONS = PackOptions(SHARD_BYTES, (("train", 1.0),))


def strace_works() -> bool:
    if not shutil.which("strace"):
        return False
    return (
        subprocess.run(
            ["strace", "-o", "/dev/null", "true"], capture_output=True, timeout=20
        ).returncode
        == 0
    )


pytestmark = pytest.mark.skipif(not strace_works(), reason="needs strace, allowed to trace")


class Packer:
    """Packers that can be watched and killed."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("packing_child.py")
        self._process = subprocess.Popen(
            [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._line() == "ready"

    def pack(self, staged: Path, dataset: Path, log: Path, *options: str) -> int:
        """Pack under `strace OPTIONS`; gives the exit status of the packer."""
        child = self._ask(f"{staged} {dataset} {SHARD_BYTES}")
        with subprocess.Popen(
            ["strace", "-p", child, "-o", str(log), *options], stderr=subprocess.PIPE, text=True
        ) as strace:
            assert strace.stderr is not None
            assert "attached" in strace.stderr.readline()
            status = int(self._ask("go"))
            strace.stderr.read()
        return status

    def _ask(self, line: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._line()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=20)


@pytest.fixture(scope="module")
def packer() -> Iterator[Packer]:
    packer = Packer()
    yield packer
    packer.close()


@pytest.fixture
def states(tmp_path: Path) -> tuple[Path, Path, dict[str, bytes]]:
    """Staged panoramas, a dataset of all but the last, and the files of the dataset of all."""
    for scene in range(5):
        synthetic.stage(tmp_path / "staged", scene, 0, 64, n_caps=3)
    pack(tmp_path / "staged", tmp_path / "old", OPTIONS)
    synthetic.stage(tmp_path / "staged", 5, 0, 64, n_caps=3)
    pack(tmp_path / "staged", tmp_path / "new", OPTIONS)
    return tmp_path / "staged", tmp_path / "old", files_of(tmp_path / "new")


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def counts(
    packer: Packer, staged: Path, target: Path, log: Path, calls: tuple[str, ...]
) -> Counter[str]:
    """How often an undisturbed packer makes each of the calls."""
    assert packer.pack(staged, target, log, "-e", f"trace={','.join(calls)}") == 0
    return Counter(
        line.partition("(")[0]
        for line in log.read_text().splitlines()
        if "(" in line and line[0] not in "+-"
    )


def kill_everywhere(
    packer: Packer,
    states: tuple[Path, Path, dict[str, bytes]],
    tmp_path: Path,
    calls: tuple[str, ...],
    at_most: int = 10**9,
) -> Counter[int]:
    """Kill at the first, second, … of each of the calls (where there are more than `at_most`: the
    first, the last and evenly spread ones). Gives how often the dataset had 5 and how often 6
    panoramas afterwards.
    """
    staged, old, new = states
    shutil.copytree(old, tmp_path / "undisturbed")
    seen = counts(packer, staged, tmp_path / "undisturbed", tmp_path / "log", calls)
    assert files_of(tmp_path / "undisturbed") == new and set(seen) == set(calls)
    found: Counter[int] = Counter()
    for call, count in seen.items():
        for nth in sorted(set(np.linspace(1, count, min(count, at_most)).round().astype(int))):
            target = tmp_path / f"{call}-{nth}"
            shutil.copytree(old, target)
            status = packer.pack(
                staged,
                target,
                tmp_path / "log",
                "-e",
                f"trace={call}",
                "-e",
                f"inject={call}:signal=KILL:when={nth}",
            )
            assert status == -9, f"{call} number {nth} was never made"
            report = verify(target)
            assert report.faults == (), f"killed at {call} number {nth}"
            found[report.samples] += 1
            pack(staged, target, OPTIONS)
            assert files_of(target) == new, f"packed again after {call} number {nth}"
            shutil.rmtree(target)
    return found


def test_killed_at_calls_that_change_the_disk(packer, states, tmp_path):
    found = kill_everywhere(packer, states, tmp_path, CHANGING, at_most=3)
    assert set(found) == {5, 6} and found.total() >= 10


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_every_call_that_changes_the_disk(packer, states, tmp_path):
    found = kill_everywhere(packer, states, tmp_path, CHANGING)
    assert set(found) == {5, 6} and found.total() >= 20


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_calls_in_between(packer, states, tmp_path):
    found = kill_everywhere(packer, states, tmp_path, LOOKING, at_most=15)
    assert set(found) == {5, 6} and found.total() >= 50


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["ENOSPC", "EIO"])
def test_a_failing_disk_at_every_write_leaves_the_old_state_and_no_litter(
    packer, states, tmp_path, fault
):
    """The packer is told, instead of killed: it must end with an error and clean up."""
    staged, old, new = states
    shutil.copytree(old, tmp_path / "undisturbed")
    seen = counts(packer, staged, tmp_path / "undisturbed", tmp_path / "log", ("write", "fsync"))
    for call, count in seen.items():
        for nth in range(1, count + 1):
            target = tmp_path / f"{call}-{nth}"
            shutil.copytree(old, target)
            status = packer.pack(
                staged,
                target,
                tmp_path / "log",
                "-e",
                f"trace={call}",
                "-e",
                f"inject={call}:error={fault}:when={nth}",
            )
            assert status == 1
            assert verify(target).faults == () and not list(target.rglob(".tmp-*"))
            pack(staged, target, OPTIONS)
            assert files_of(target) == new
