"""What `pano` prints may find no reader, no room and no letters for it: no command crashes."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from panoforge.cluster.config.jobs import RenderJobConfig
from panoforge.cluster.state.job_file import save_job
from panoforge.cluster.state.ledger import AttemptRecord, Ledger, new_id
from panoforge.core.run_layout import LOGS
from panoforge.core.storage.lease import Lease
from panoforge.datagen.config.render import plan_scene

PANO = f"{shlex.quote(sys.executable)} -m panoforge"
NAME = "Zürich 客 😀"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of three scenes whose one rejected scene has a reason and a log in all letters."""
    job = RenderJobConfig(run=tmp_path / NAME, scenes=3)
    ledger = Ledger(job.ledger_url)
    job.run.mkdir()
    save_job(job)
    ledger.declare("a", {})
    scene = plan_scene(job.render, 0).key
    ledger.write(
        AttemptRecord(
            id=new_id(0, 1),
            index=0,
            scene=scene,
            attempt=1,
            outcome="rejected",
            reason="2 × pose rejected: Küche 客",
            job_sha256="a",
            started_unix_s=1.7e9,
            seconds=2.0,
        )
    )
    (job.run / LOGS).mkdir()
    (job.run / LOGS / f"{scene}.log").write_text("Küche 客 😀\n" * 2000, encoding="utf-8")
    return job.run


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("verb", ["status", "logs"])
def test_letters_that_the_terminal_does_not_have(run: Path, verb: str) -> None:
    what = f"{PANO} {verb} {shlex.quote(str(run))}" + (" 0" if verb == "logs" else "")
    done = shell(what, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert r"K\xfcche \u5ba2" in done.stdout


@pytest.mark.parametrize(
    ("verb", "redirection", "code", "said"),
    [
        ("status", ">&-", 0, ""),
        ("status", "2>&-", 0, ""),
        ("status", "> /dev/full", 1, "No space left on device"),
        ("logs", "> /dev/full", 1, "No space left on device"),
        ("logs", "2>&1 | head -1", 0, ""),
    ],
)
def test_nobody_reads_or_there_is_no_room(
    run: Path, verb: str, redirection: str, code: int, said: str
) -> None:
    what = f"{PANO} {verb} {shlex.quote(str(run))}" + (" 0" if verb == "logs" else "")
    done = shell(f"{what} {redirection}")
    assert done.returncode == code, done.stderr
    assert said in done.stderr and "Traceback" not in done.stderr + done.stdout
    assert "Exception ignored" not in done.stderr


def test_a_watch_ends_when_its_reader_went_away(run: Path) -> None:
    """The run goes on, so `--watch` would print for ever: only the closed pipe ends it."""
    heartbeat = {"in_flight": 1, "slots": 1, "oldest": []}
    store = Ledger(str(run / "ledger")).store
    with Lease(store, "r", "pano render", keep=True, payload=lambda: heartbeat):
        done = shell(f"timeout 90 {PANO} status {shlex.quote(str(run))} --watch | head -1")
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert len(done.stdout.splitlines()) == 1
